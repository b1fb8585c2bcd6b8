//! What is shown of many branches: their newest commits, how much they change, and whether they can be merged.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use foundry_core::Timestamp;

use super::Mirror;
use super::diff::empty_tree;
use crate::{CommitId, GitError, RepoPath, Result, RunLimits};

/// Longest subject and name of an author, in columns.
const MAX_COLUMNS: usize = 200;
/// Most names of files in a conflict.
const MAX_CONFLICT_FILES: usize = 20;
/// Largest file that a trial merge may write.
const MAX_MERGED_FILE: u64 = 256 << 20;

/// What is shown of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitSummary {
    /// Name of its author, shortened to 200 columns.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
    /// First line of its message, shortened to 200 columns.
    pub subject: String,
}

/// How much changed between two commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeTotals {
    /// How many files differ.
    pub files: u64,
    /// Lines added; binary files count 0.
    pub additions: u64,
    /// Lines removed; binary files count 0.
    pub deletions: u64,
}

/// What a merge would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialMerge {
    /// It would change nothing: everything is there already, perhaps in other commits.
    Nothing,
    /// It would change something, without a conflict.
    Clean,
    /// It would stop at conflicts.
    Conflict {
        /// How many files are in conflict.
        count: u64,
        /// The first of them, at most 20.
        files: Vec<RepoPath>,
    },
}

impl Mirror {
    /// What is shown of these commits; those that the mirror does not have are left out.
    pub async fn summaries(&self, commits: &[CommitId]) -> Result<HashMap<CommitId, CommitSummary>> {
        let mut found = HashMap::with_capacity(commits.len());
        if commits.is_empty() {
            return Ok(found);
        }
        let format = format!("%H%x00%<({MAX_COLUMNS},trunc)%an%x00%ct%x00%<({MAX_COLUMNS},trunc)%s");
        let input: String = commits.iter().map(|c| format!("{c}\n")).collect();
        let out = self
            .command("log")
            .args(["--ignore-missing", "--stdin", "--no-walk=unsorted", "-z"])
            .args([&format!("--format={format}")])
            .stdin(input)
            // A column is a character of four bytes at most, with marks on it; a hostile one fails this.
            .limits(self.local(64 << 20))
            .run()
            .await?;
        let fields: Vec<&[u8]> = out.stdout.split(|b| *b == 0).collect();
        for commit in fields.chunks_exact(4) {
            let [id, author, time, subject] = commit else { continue };
            let text = |bytes: &[u8]| {
                String::from_utf8_lossy(bytes).trim_end().chars().take(MAX_COLUMNS).collect::<String>()
            };
            let seconds: i64 = text(time).parse().unwrap_or(0);
            let summary = CommitSummary {
                author: text(author),
                time: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
                subject: text(subject),
            };
            found.insert(CommitId::parse(&text(id))?, summary);
        }
        Ok(found)
    }

    /// How much each pair of commits (from, to) differs, in their order.
    pub async fn change_totals(
        &self,
        pairs: &[(CommitId, CommitId)],
        wall: Duration,
    ) -> Result<Vec<ChangeTotals>> {
        let Some((first, _)) = pairs.first() else { return Ok(Vec::new()) };
        // Named as the parent of the other one, a commit is what that is compared with.
        let input: String = pairs.iter().map(|(from, to)| format!("{to} {from}\n")).collect();
        let out = self
            .command("diff-tree")
            .env("GIT_ATTR_SOURCE", empty_tree(first))
            .config("core.bigFileThreshold", "32m")
            .args(["--stdin", "--always", "--shortstat", "-r", "-M", "-l2000"])
            .args(["--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none"])
            .stdin(input)
            .limits(RunLimits { wall, ..self.local(16 << 20) })
            .run()
            .await?;
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut totals = Vec::with_capacity(pairs.len());
        for line in out.lines().filter(|line| !line.trim().is_empty()) {
            match line.strip_prefix(' ') {
                None => totals.push(ChangeTotals::default()),
                Some(line) => {
                    if let Some(last) = totals.last_mut() {
                        *last = parse_totals(line);
                    }
                }
            }
        }
        match totals.len() == pairs.len() {
            true => Ok(totals),
            false => Err(GitError::failed("unexpected output of git diff-tree")),
        }
    }

    /// The best common ancestor of two commits, if they have any.
    pub async fn merge_base(&self, one: &CommitId, other: &CommitId) -> Result<Option<CommitId>> {
        let out = self.command("merge-base").operands([one.as_str(), other.as_str()]).run_any().await?;
        match out.code {
            0 => CommitId::parse(String::from_utf8_lossy(&out.stdout).trim()).map(Some),
            1 => Ok(None),
            code => Err(GitError::from_exit("merge-base", &format!("exit {code}"), out.stderr)),
        }
    }

    /// The tree of a commit.
    pub async fn tree_of(&self, commit: &CommitId) -> Result<String> {
        let out = self.command("rev-parse").args(["--verify", "--quiet"]);
        let out = out.operands([format!("{commit}^{{tree}}")]).run().await?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// The mirror as trial merges see it: what they write goes to `scratch`, an existing directory that the caller
    /// removes.
    #[must_use]
    pub fn trying_in(&self, scratch: &Path) -> Self {
        Self { quarantine: Some(scratch.to_owned()), ..self.clone() }
    }

    /// What merging `theirs` into `ours`, whose tree is given, would do. Nothing changes; call it on
    /// [`Mirror::trying_in`].
    pub async fn trial_merge(
        &self,
        ours: (&CommitId, &str),
        theirs: &CommitId,
        wall: Duration,
    ) -> Result<TrialMerge> {
        let (ours, tree) = ours;
        let out = self
            .command("merge-tree")
            // No attribute of the branches applies.
            .env("GIT_ATTR_SOURCE", empty_tree(ours))
            .args(["--write-tree", "--name-only", "--no-messages", "-z"])
            .operands([ours.as_str(), theirs.as_str()])
            .limits(RunLimits { wall, file: Some(MAX_MERGED_FILE), ..self.local(64 << 20) })
            .run_any()
            .await?;
        let mut fields = out.stdout.split(|b| *b == 0).filter(|field| !field.is_empty());
        let merged = fields.next().unwrap_or_default();
        match out.code {
            0 if merged.trim_ascii_end() == tree.as_bytes() => Ok(TrialMerge::Nothing),
            0 => Ok(TrialMerge::Clean),
            1 => {
                let mut count = 0;
                let mut files = Vec::new();
                for name in fields {
                    count += 1;
                    if files.len() < MAX_CONFLICT_FILES {
                        files.extend(RepoPath::from_bytes(name).ok());
                    }
                }
                Ok(TrialMerge::Conflict { count, files })
            }
            code => Err(GitError::from_exit("merge-tree", &format!("exit {code}"), out.stderr)),
        }
    }
}

/// Reads `3 files changed, 10 insertions(+), 2 deletions(-)`.
fn parse_totals(line: &str) -> ChangeTotals {
    let mut totals = ChangeTotals::default();
    for part in line.split(", ") {
        let Some((number, what)) = part.trim().split_once(' ') else { continue };
        let number = number.parse().unwrap_or(0);
        match what.as_bytes().first() {
            Some(b'f') => totals.files = number,
            Some(b'i') => totals.additions = number,
            Some(b'd') => totals.deletions = number,
            _ => {}
        }
    }
    totals
}
