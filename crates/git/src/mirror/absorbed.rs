//! Which commits of a branch another one has already, perhaps as other commits: merged, rebased or squashed.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::Mirror;
use super::diff::empty_tree;
use crate::{CommitId, GitErrorKind, Result};

/// Commits of the other branch that are compared.
const MAX_COMPARED: usize = 1_000;
/// Commits of the branch of which every beginning is compared.
const MAX_PREFIXES: usize = 100;

/// How much of a branch another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// Nothing that is known of.
    Nothing,
    /// Everything up to this commit.
    UpTo(CommitId),
    /// Everything that the branch has.
    All,
}

/// A change by its text, without the places in the files.
type Change = [u8; 32];

impl Mirror {
    /// How much of a branch, without what `from` contains, the target has. A branch that changes nothing is not absorbed
    /// unless its head is in the target.
    ///
    /// # Errors
    /// When git fails.
    pub async fn absorbed(&self, from: &CommitId, tip: &CommitId, target: &CommitId) -> Result<Absorbed> {
        if self.is_ancestor(tip, target).await? {
            return Ok(Absorbed::All);
        }
        let own = self.first_parents(tip, &[from, target]).await?;
        let Some(base) = self.merge_base(tip, target).await? else { return Ok(Absorbed::Nothing) };
        if own.is_empty() || self.tree_of(from).await? == self.tree_of(tip).await? {
            return Ok(Absorbed::Nothing);
        }
        if self.is_absorbed(tip, target).await? {
            return Ok(Absorbed::All);
        }
        match self.absorbed_prefix(from, &own, (target, &base)).await {
            Ok(Some(last)) if last + 1 == own.len() => Ok(Absorbed::All),
            Ok(Some(last)) => Ok(own.get(last).map_or(Absorbed::Nothing, |c| Absorbed::UpTo(c.clone()))),
            Ok(None) => Ok(Absorbed::Nothing),
            // What is too large to be compared counts as not absorbed: it is made again, or is in conflict.
            Err(e) if matches!(e.kind(), GitErrorKind::TooLarge | GitErrorKind::Timeout) => {
                Ok(Absorbed::Nothing)
            }
            Err(e) => Err(e),
        }
    }

    /// The last commit of the longest beginning that the target has as one commit, or commit by commit.
    async fn absorbed_prefix(
        &self,
        from: &CommitId,
        own: &[CommitId],
        (target, base): (&CommitId, &CommitId),
    ) -> Result<Option<usize>> {
        let mut there = Vec::new();
        let listed = self
            .command("rev-list")
            .args(["--no-merges", "--parents", &format!("--max-count={MAX_COMPARED}"), "--stdin"])
            .stdin(format!("{target}\n^{base}\n"))
            .run()
            .await?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Some((commit, parent)) = line.split_once(' ') {
                there.push((CommitId::parse(parent)?, CommitId::parse(commit)?));
            }
        }
        let mut there = self.changes_that_stay(&there).await?;
        if there.is_empty() {
            return Ok(None);
        }
        self.without_those_below((base, from), target, &mut there).await?;
        let begin = own.len().saturating_sub(1).saturating_sub(MAX_PREFIXES);
        let (mut prefixes, mut single) = (Vec::new(), Vec::new());
        for (at, commit) in own.iter().enumerate() {
            single.push((at.checked_sub(1).map_or(from, |before| &own[before]).clone(), commit.clone()));
            if at >= begin {
                prefixes.push((from.clone(), commit.clone()));
                prefixes.push((base.clone(), commit.clone()));
            }
        }
        let has = |change: &Option<Change>| change.is_some_and(|c| there.contains_key(&c));
        let whole = self.changes_between(&prefixes).await?;
        let whole = whole.chunks(2).rposition(|pair| pair.iter().any(has)).map(|nth| begin + nth);
        // Each of them is there for one commit of the branch.
        let single = self.changes_between(&single).await?;
        let one_by_one = single.iter().take_while(|c| c.is_some_and(|c| take(&mut there, &c))).count();
        Ok(whole.max(one_by_one.checked_sub(1)))
    }

    /// How often the commits, the newest first, make each change without a later one that takes it back.
    async fn changes_that_stay(&self, commits: &[(CommitId, CommitId)]) -> Result<HashMap<Change, usize>> {
        let made = self.changes_between(commits).await?;
        let back: Vec<_> = commits.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        let taken_back = self.changes_between(&back).await?;
        let mut stay = HashMap::new();
        for (made, taken_back) in made.into_iter().zip(taken_back).rev() {
            if let Some(change) = taken_back {
                take(&mut stay, &change);
            }
            if let Some(change) = made {
                *stay.entry(change).or_insert(0) += 1;
            }
        }
        Ok(stay)
    }

    /// Takes out what is there for the commits that the branch stands on, one by one or as one.
    async fn without_those_below(
        &self,
        (base, from): (&CommitId, &CommitId),
        target: &CommitId,
        there: &mut HashMap<Change, usize>,
    ) -> Result<()> {
        let below = self.first_parents(from, &[base, target]).await?;
        let before = std::iter::once(base).chain(&below);
        let mut pairs: Vec<_> = before.zip(&below).map(|(from, to)| (from.clone(), to.clone())).collect();
        if below.len() > 1 {
            pairs.push((base.clone(), from.clone()));
        }
        for change in self.changes_between(&pairs).await?.into_iter().flatten() {
            take(there, &change);
        }
        Ok(())
    }

    /// The change from one commit to another, for each pair; none where nothing differs.
    async fn changes_between(&self, pairs: &[(CommitId, CommitId)]) -> Result<Vec<Option<Change>>> {
        let Some((first, _)) = pairs.first() else { return Ok(Vec::new()) };
        let input: String = pairs.iter().map(|(from, to)| format!("{to} {from}\n")).collect();
        let out = self
            .command("diff-tree")
            .env("GIT_ATTR_SOURCE", empty_tree(first))
            .args(["--stdin", "--always", "--patch", "--binary", "--full-index", "-r", "--no-renames"])
            .args(["--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none"])
            .stdin(input)
            .limits(self.local(64 << 20))
            .run()
            .await?;
        Ok(digests(&out.stdout, pairs))
    }
}

/// Takes one change out, and returns whether it was there.
fn take(there: &mut HashMap<Change, usize>, change: &Change) -> bool {
    let Some(count) = there.get_mut(change) else { return false };
    *count -= 1;
    if *count == 0 {
        there.remove(change);
    }
    true
}

/// The digests of the patches; each begins with a line that is the second commit of its pair.
fn digests(out: &[u8], pairs: &[(CommitId, CommitId)]) -> Vec<Option<Change>> {
    let mut found: Vec<Option<Sha256>> = Vec::with_capacity(pairs.len());
    for line in out.split(|b| *b == b'\n') {
        if pairs.get(found.len()).is_some_and(|(_, next)| line == next.as_str().as_bytes()) {
            found.push(None);
            continue;
        }
        // The blobs and the places in the files depend on what else is in them.
        if line.is_empty() || line.starts_with(b"index ") {
            continue;
        }
        let Some(last) = found.last_mut() else { continue };
        let digest = last.get_or_insert_with(Sha256::new);
        digest.update(if line.starts_with(b"@@ ") { b"@@" } else { line });
        digest.update(b"\n");
    }
    found.resize_with(pairs.len(), || None);
    found.into_iter().map(|digest| digest.map(|d| d.finalize().into())).collect()
}
