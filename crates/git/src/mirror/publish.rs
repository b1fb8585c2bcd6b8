//! The commits that are published of a work. They are made in the mirror without a work tree, and depend on nothing but
//! the work and the specification: the same input gives the same commits.

use super::fetch::{LISTED, remove_if_there};
use super::{Mirror, Revision};
use crate::{CommitId, GitError, GitErrorKind, Result};

/// Most commits that a plan lists.
const MAX_LISTED: usize = 20;
/// Most characters of a subject in a plan.
const MAX_SUBJECT: usize = 120;
/// The committer of what an agent has left uncommitted, see `work_bundle.sh`.
const REST_EMAIL: &[u8] = b"foundry@localhost";
/// The message of that commit.
const REST_MESSAGE: &[u8] = b"Work in progress\n";

/// What to publish of a work, and what is at the remote.
#[derive(Clone, Debug)]
pub struct PublishSpec {
    /// The commit that the work started from.
    pub base: CommitId,
    /// The newest commit of the work.
    pub head: CommitId,
    /// The newest commit of another branch that the work has merged; a squashed commit follows it.
    pub merged: Option<CommitId>,
    /// The tip of the branch at the remote; none when it has no such branch.
    pub tip: Option<CommitId>,
    /// The work that the tip was published of, if it was published of an earlier state of this work.
    pub tip_of: Option<CommitId>,
    /// Name and address of author and committer, without `<`, `>` and control characters.
    pub author: (String, String),
    /// The message of what the agent has not committed, or of all when squashed.
    pub message: String,
    /// One commit in place of the agent's own.
    pub squash: bool,
    /// Whether the commits of the tip may be replaced.
    pub force: bool,
}

/// What a push of a work brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishable {
    /// The new tip; that of the remote if it has the work already.
    pub commit: CommitId,
    /// Whether commits of the tip are not in the history of the new one.
    pub rewrites: bool,
    /// Whether a single commit was wanted and was made, now or before: what the remote has already is not joined.
    pub squashed: bool,
    /// The newest commits that the branches of the mirror do not have, the newest first; at most 20.
    pub commits: Vec<(CommitId, String)>,
    /// How many there are.
    pub commit_count: u64,
    /// Files that differ from the tip, or from the base for a new branch.
    pub files: u64,
    /// Lines added in them.
    pub additions: u64,
    /// Lines removed in them.
    pub deletions: u64,
    /// The newest commits of the tip that the new one does not have, the newest first; at most 20.
    pub lost: Vec<(CommitId, String)>,
    /// How many there are.
    pub lost_count: u64,
}

/// The parts of a commit that matter here.
#[derive(Clone)]
struct Commit {
    tree: String,
    parents: Vec<CommitId>,
    /// As git writes it: seconds and zone.
    date: String,
    /// Whether it holds what the agent has not committed.
    is_rest: bool,
}

impl Mirror {
    /// Makes the commits to publish. Where the tip was published of an earlier state of the work, the new commit
    /// continues it, so that nothing at the remote is replaced.
    ///
    /// # Errors
    /// `PUBLISH_NEEDS_FORCE` when commits of the tip would be replaced and that is not allowed; `RESTACKED_WORK_CONFLICT` when
    /// the tip was restacked and newer work does not apply to it.
    pub async fn publishable(&self, spec: &PublishSpec) -> Result<Publishable> {
        let (head, committed) = self.own_commits(&spec.head).await?;
        let fresh = self.fresh(spec, &head, &committed).await?;
        let unpublished = fresh.clone();
        let (commit, rewrites) = match &spec.tip {
            None => (fresh, false),
            Some(tip) if *tip == fresh => (fresh, false),
            Some(tip) if self.is_ancestor(tip, &fresh).await? => (fresh, false),
            Some(_) if spec.force => (fresh, true),
            Some(tip) if self.is_restacked(spec, tip).await? => {
                (self.reapplied(spec, tip, &head).await?, false)
            }
            Some(tip) => match self.continued(spec, tip, &head, &committed).await? {
                Some(commit) => (commit, false),
                None => return Err(needs_force(tip)),
            },
        };
        let squashed = spec.squash && (spec.tip.as_ref() != Some(&commit) || commit == unpublished);
        Ok(Publishable { squashed, ..self.planned(spec, commit, rewrites).await? })
    }

    /// How many commits a work has that are in neither of two others.
    ///
    /// # Errors
    /// When git fails; a commit that is gone counts as none.
    pub async fn commits_since(&self, head: &CommitId, published: &[CommitId]) -> Result<u64> {
        let gone = self.missing(published.iter().map(CommitId::to_object)).await?;
        let there = published.iter().filter(|c| !gone.contains(&c.to_object())).map(CommitId::as_str);
        let counted = self
            .command("rev-list")
            .args(["--count", "--max-count=10000", head.as_str(), "--not"])
            .args(there)
            .run()
            .await?;
        Ok(String::from_utf8_lossy(&counted.stdout).trim().parse().unwrap_or(0))
    }

    /// Keeps the commits of a publication: what the branch is at from now on, the work it was made of, and the old tip if
    /// it was replaced.
    ///
    /// # Errors
    /// When a ref cannot be written, for example because the mirror still has a branch `a` beside a new `a/b`.
    pub async fn record_published(
        &self,
        branch: &crate::BranchName,
        commit: &CommitId,
        work: (&crate::WorkName, &CommitId),
    ) -> Result<()> {
        let _lock = self.lock().await?;
        // The mirror is not what was listed any more: the branch may be gone again by the next fetch.
        remove_if_there(&self.dir.join(LISTED)).await?;
        let kept = format!("update {} {}\n", work.0.published_ref(), work.1);
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(kept).run().await?;
        let moved = format!("update {} {commit}\n", branch.to_ref());
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(moved).run().await.map(drop)
    }

    /// Keeps a tip that a push is going to replace, under a name of its own.
    ///
    /// # Errors
    /// When git fails.
    pub async fn keep_replaced(&self, name: &crate::WorkName, tip: &CommitId) -> Result<()> {
        let _lock = self.lock().await?;
        let script = format!("update {} {tip}\n", name.replaced_ref());
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    /// The commit of a work, and its newest commit that the agent made.
    async fn own_commits(&self, head: &CommitId) -> Result<(Commit, CommitId)> {
        let commit = self.read_commit(head).await?;
        let committed = match commit.parents.first() {
            Some(parent) if commit.is_rest => parent.clone(),
            _ => head.clone(),
        };
        Ok((commit, committed))
    }

    /// The work as if it had never been published.
    async fn fresh(&self, spec: &PublishSpec, head: &Commit, committed: &CommitId) -> Result<CommitId> {
        if spec.squash {
            let parent = match &spec.merged {
                Some(merged) if self.is_ancestor(&spec.base, merged).await? => merged,
                _ => &spec.base,
            };
            if self.read_commit(parent).await?.tree == head.tree {
                return Ok(parent.clone());
            }
            return self.make_commit(spec, head, &[parent]).await;
        }
        if head.is_rest { self.make_commit(spec, head, &[committed]).await } else { Ok(committed.clone()) }
    }

    /// The work as one commit on what was published of it before; none if the agent has rewritten that.
    async fn continued(
        &self,
        spec: &PublishSpec,
        tip: &CommitId,
        head: &Commit,
        committed: &CommitId,
    ) -> Result<Option<CommitId>> {
        let Some(before) = &spec.tip_of else { return Ok(None) };
        if spec.squash {
            if self.read_commit(tip).await?.tree == head.tree {
                return Ok(Some(tip.clone()));
            }
            return self.make_commit(spec, head, &[tip]).await.map(Some);
        }
        if self.missing([before.to_object()].into_iter()).await?.contains(&before.to_object()) {
            return Ok(None);
        }
        let (_, published) = self.own_commits(before).await?;
        if !self.is_ancestor(&published, committed).await? {
            return Ok(None);
        }
        if self.is_ancestor(committed, tip).await? {
            if self.read_commit(tip).await?.tree == head.tree {
                return Ok(Some(tip.clone()));
            }
            return self.make_commit(spec, head, &[tip]).await.map(Some);
        }
        self.make_commit(spec, head, &[tip, committed]).await.map(Some)
    }

    /// Whether the tip has other files than the work that it was made of: it stands on another base since.
    async fn is_restacked(&self, spec: &PublishSpec, tip: &CommitId) -> Result<bool> {
        let Some(before) = &spec.tip_of else { return Ok(false) };
        if self.missing([before.to_object()].into_iter()).await?.contains(&before.to_object()) {
            return Ok(false);
        }
        Ok(self.tree_of(before).await? != self.tree_of(tip).await?)
    }

    /// What the work has changed since the tip was made of it, as one commit on the tip: with the files of the work
    /// itself, everything that the tip has of its new base would be taken back.
    async fn reapplied(&self, spec: &PublishSpec, tip: &CommitId, head: &Commit) -> Result<CommitId> {
        let Some(before) = &spec.tip_of else { return Ok(tip.clone()) };
        let (now, there) = (self.stand_in(&head.tree, before).await?, self.tree_of(tip).await?);
        match self.apply(&now, before, &there).await? {
            Ok(tree) if tree == there => Ok(tip.clone()),
            Ok(tree) => {
                // What the work has merged since stays its ancestor.
                let merged = match &spec.merged {
                    Some(merged) if !self.is_ancestor(merged, tip).await? => Some(merged),
                    _ => None,
                };
                let parents: Vec<&CommitId> = std::iter::once(tip).chain(merged).collect();
                self.make_commit(spec, &Commit { tree, ..head.clone() }, &parents).await
            }
            Err((count, files)) => {
                let files: Vec<String> = files.iter().map(ToString::to_string).collect();
                let text = format!(
                    "the branch was brought onto another commit since the work was published, and newer work is in \
                     conflict with it in {}: {}",
                    foundry_core::counted(i64::try_from(count).unwrap_or(i64::MAX), "file"),
                    files.join(", ")
                );
                Err(GitError::new(GitErrorKind::Invalid, "RESTACKED_WORK_CONFLICT", text))
            }
        }
    }

    async fn make_commit(&self, spec: &PublishSpec, of: &Commit, parents: &[&CommitId]) -> Result<CommitId> {
        let (name, email) = &spec.author;
        let mut commit = self.command("commit-tree").stdin(spec.message.clone());
        for (name_key, email_key, date_key) in [
            ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE"),
            ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE"),
        ] {
            commit = commit.env(name_key, name).env(email_key, email).env(date_key, format!("@{}", of.date));
        }
        for parent in parents {
            commit = commit.args(["-p", parent.as_str()]);
        }
        let made = commit.operands([of.tree.as_str()]).run().await?;
        CommitId::parse(String::from_utf8_lossy(&made.stdout).trim())
    }

    async fn planned(&self, spec: &PublishSpec, commit: CommitId, rewrites: bool) -> Result<Publishable> {
        let mut known = vec!["--not", "--branches"];
        known.extend(spec.tip.as_ref().map(CommitId::as_str));
        let (commits, commit_count) = self.newest(&commit, &known).await?;
        let (lost, lost_count) = match &spec.tip {
            Some(tip) if rewrites => self.newest(tip, &["--not", commit.as_str()]).await?,
            _ => (Vec::new(), 0),
        };
        let files = self.diff_stat(spec.tip.as_ref().unwrap_or(&spec.base), &commit).await?;
        Ok(Publishable {
            commit,
            rewrites,
            squashed: false,
            commits,
            commit_count,
            lost,
            lost_count,
            additions: files.iter().map(|f| f.additions).sum(),
            deletions: files.iter().map(|f| f.deletions).sum(),
            files: files.len() as u64,
        })
    }

    /// The newest commits of a history without what these arguments exclude, and how many there are.
    async fn newest(&self, tip: &CommitId, without: &[&str]) -> Result<(Vec<(CommitId, String)>, u64)> {
        let counted = self
            .command("rev-list")
            .args(["--count", tip.as_str()])
            .args(without)
            .limits(self.local(1 << 10))
            .run()
            .await?;
        let listed = self
            .command("log")
            .args(["--no-show-signature", "--no-color", "--format=%H%x00%s", "-z"])
            .args([format!("--max-count={MAX_LISTED}"), tip.to_string()])
            .args(without)
            .limits(self.local(4 << 20))
            .run()
            .await?;
        // Two fields for each commit: with `-z`, both end with a NUL.
        let mut fields = listed.stdout.split(|b| *b == 0);
        let mut commits = Vec::new();
        while let (Some(id), Some(subject)) = (fields.next(), fields.next()) {
            let id = CommitId::parse(&String::from_utf8_lossy(id))?;
            let subject = String::from_utf8_lossy(subject);
            commits.push((id, subject.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect()));
        }
        Ok((commits, String::from_utf8_lossy(&counted.stdout).trim().parse().unwrap_or(0)))
    }

    async fn read_commit(&self, id: &CommitId) -> Result<Commit> {
        self.resolve(&Revision::Commit(id.clone())).await?;
        let out = self.command("cat-file").args(["commit"]).operands([id.as_str()]).run().await?;
        parse(&out.stdout).ok_or_else(|| {
            GitError::corrupt("GIT_OBJECTS_REFUSED", format!("the commit {id} of the work is malformed"))
        })
    }
}

fn parse(text: &[u8]) -> Option<Commit> {
    let end = text.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, message) = (&text[..=end], &text[end + 2..]);
    let mut lines = head.split(|b| *b == b'\n');
    let tree = std::str::from_utf8(lines.next()?.strip_prefix(b"tree ")?).ok()?;
    let (mut parents, mut date, mut email) = (Vec::new(), None, &[][..]);
    for line in lines {
        if let Some(parent) = line.strip_prefix(b"parent ") {
            parents.push(CommitId::parse(std::str::from_utf8(parent).ok()?).ok()?);
        } else if let Some(committer) = line.strip_prefix(b"committer ")
            && date.is_none()
        {
            let after = committer.iter().rposition(|b| *b == b'>')?;
            let from = committer[..after].iter().rposition(|b| *b == b'<')?;
            email = &committer[from + 1..after];
            date = std::str::from_utf8(committer.get(after + 2..)?).ok().map(str::to_owned);
        }
    }
    // A time that git itself would not write is replaced: it must not fail the publication.
    let date = date.filter(|d| is_time(d)).unwrap_or_else(|| "0 +0000".to_owned());
    let is_rest = email == REST_EMAIL && message == REST_MESSAGE && parents.len() == 1;
    Some(Commit { tree: tree.to_owned(), parents, date, is_rest })
}

/// Whether it is of the form `1700000000 +0100`.
fn is_time(text: &str) -> bool {
    let Some((seconds, zone)) = text.split_once(' ') else { return false };
    let digits =
        |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    digits(seconds, 10) && zone.len() == 5 && zone.starts_with(['+', '-']) && digits(&zone[1..], 4)
}

fn needs_force(tip: &CommitId) -> GitError {
    let text = format!(
        "the branch is at {tip}, which is not in the history of the work: a push would replace it at the remote"
    );
    GitError::new(GitErrorKind::Invalid, "PUBLISH_NEEDS_FORCE", text)
}
