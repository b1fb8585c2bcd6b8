//! Commits of a branch made again on another commit, without a work tree: no hook, filter or attribute takes part. They depend
//! on nothing but the specification, so that the same input gives the same commits.

use super::diff::empty_tree;
use super::{Mirror, TrialMerge};
use crate::{CommitId, GitError, GitErrorKind, RepoPath, Result};

/// Most commits of one branch that are made again.
const MAX_COMMITS: usize = 1_000;
/// Most names of files in a conflict.
const MAX_CONFLICT_FILES: usize = 20;

/// Which commits to make again, and where.
#[derive(Clone, Debug)]
pub struct ReplaySpec {
    /// What this commit contains does not belong to the branch.
    pub from: CommitId,
    /// The head of the branch.
    pub tip: CommitId,
    /// The commit that the branch shall stand on.
    pub onto: CommitId,
    /// Name and address of the committer, without `<`, `>` and control characters.
    pub committer: (String, String),
    /// When they are committed, in seconds since 1970.
    pub time: i64,
    /// Whether commits with a signature may be made again, which loses it.
    pub drop_signatures: bool,
}

/// How a replay ended; nothing but objects has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// All commits apply.
    Done {
        /// The new head; the old one if everything is in its place.
        tip: CommitId,
        /// Commits that were made again.
        made: u64,
        /// Commits that were left out, since their changes are there already.
        dropped: u64,
    },
    /// A commit does not apply.
    Conflict {
        /// The commit that does not apply, as it was before.
        commit: CommitId,
        /// How many files are in conflict.
        count: u64,
        /// The first of them, at most 20.
        files: Vec<RepoPath>,
    },
    /// A commit is signed, and that must not be lost.
    Signed(CommitId),
}

/// The parts of a commit that its successor needs.
pub(super) struct RawCommit {
    id: CommitId,
    tree: String,
    parent: Option<CommitId>,
    is_signed: bool,
    /// Lines of the author and of the encoding, each with its line break.
    kept: Vec<u8>,
    message: Vec<u8>,
}

impl Mirror {
    /// Makes the commits of a branch again on another commit, each as the change to its first parent: what a merge
    /// brought into the branch becomes part of that commit. Those that are in place already stay as they are.
    ///
    /// # Errors
    /// `GIT_TOO_LARGE` for more than 1,000 commits; `BRANCH_UNRELATED` when their history does not reach what they stood on.
    pub async fn replay(&self, spec: &ReplaySpec) -> Result<Replayed> {
        let commits = self.first_parents(&spec.tip, &[&spec.from, &spec.onto]).await?;
        let commits = self.raw_commits(&commits).await?;
        let mut tree = self.tree_of(&spec.onto).await?;
        let (mut at, mut made, mut dropped) = (spec.onto.clone(), 0, 0);
        for commit in &commits {
            let Some(parent) = &commit.parent else { return Err(unrelated(&commit.id)) };
            if *parent == at {
                (at, tree) = (commit.id.clone(), commit.tree.clone());
                continue;
            }
            let merged = match self.apply(&commit.id, parent, &tree).await? {
                Ok(merged) => merged,
                Err((count, files)) => {
                    return Ok(Replayed::Conflict { commit: commit.id.clone(), count, files });
                }
            };
            // A commit that never changed anything is not dropped for that.
            if merged == tree && self.tree_of(parent).await? != commit.tree {
                dropped += 1;
                continue;
            }
            if commit.is_signed && !spec.drop_signatures {
                return Ok(Replayed::Signed(commit.id.clone()));
            }
            at = self.write_commit(commit, &merged, &at, spec).await?;
            tree = merged;
            made += 1;
        }
        Ok(Replayed::Done { tip: at, made, dropped })
    }

    /// The tree of the change from a parent to its child on another tree, or the conflict.
    pub(super) async fn apply(
        &self,
        commit: &CommitId,
        parent: &CommitId,
        onto: &str,
    ) -> Result<std::result::Result<String, (u64, Vec<RepoPath>)>> {
        // With the same parent as the commit, so that it is their merge base: `--merge-base` is missing before git 2.40.
        let here = self.stand_in(onto, parent).await?;
        let out = self
            .command("merge-tree")
            .env("GIT_ATTR_SOURCE", empty_tree(parent))
            .args(["--write-tree", "--name-only", "--no-messages", "-z"])
            .operands([here.as_str(), commit.as_str()])
            .limits(self.local(64 << 20))
            .run_any()
            .await?;
        let mut fields = out.stdout.split(|b| *b == 0).filter(|field| !field.is_empty());
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).trim().to_owned();
        match out.code {
            0 => Ok(Ok(tree)),
            1 => {
                let names: Vec<_> = fields.collect();
                let files = names.iter().filter_map(|n| RepoPath::from_bytes(*n).ok());
                Ok(Err((names.len() as u64, files.take(MAX_CONFLICT_FILES).collect())))
            }
            code => Err(GitError::from_exit("merge-tree", &format!("exit {code}"), out.stderr)),
        }
    }

    /// A commit with this tree and parent that nothing refers to.
    pub(super) async fn stand_in(&self, tree: &str, parent: &CommitId) -> Result<CommitId> {
        let text = format!(
            "tree {tree}\nparent {parent}\nauthor Foundry <foundry@localhost> 0 +0000\n\
             committer Foundry <foundry@localhost> 0 +0000\n\nHere\n"
        );
        self.write_object(text.into_bytes()).await
    }

    async fn write_commit(
        &self,
        commit: &RawCommit,
        tree: &str,
        parent: &CommitId,
        spec: &ReplaySpec,
    ) -> Result<CommitId> {
        let (name, email) = &spec.committer;
        let mut text = format!("tree {tree}\nparent {parent}\n").into_bytes();
        let (author, encoding) = split_line(&commit.kept);
        text.extend_from_slice(author);
        text.extend_from_slice(format!("committer {name} <{email}> {} +0000\n", spec.time).as_bytes());
        text.extend_from_slice(encoding);
        text.push(b'\n');
        text.extend_from_slice(&commit.message);
        self.write_object(text).await
    }

    /// Authors of old histories may be written as git does not accept any more: they stay as they are.
    async fn write_object(&self, commit: Vec<u8>) -> Result<CommitId> {
        let written = self
            .command("hash-object")
            .args(["-t", "commit", "-w", "--literally", "--stdin"])
            .stdin(commit)
            .run()
            .await?;
        CommitId::parse(String::from_utf8_lossy(&written.stdout).trim())
    }

    /// The commits along the first parents of a head that none of the others contains, the oldest first.
    pub(super) async fn first_parents(
        &self,
        head: &CommitId,
        without: &[&CommitId],
    ) -> Result<Vec<CommitId>> {
        let mut input = format!("{head}\n");
        for commit in without {
            input.push_str(&format!("^{commit}\n"));
        }
        let most = MAX_COMMITS + 1;
        let listed = self
            .command("rev-list")
            .args(["--first-parent", "--topo-order", &format!("--max-count={most}"), "--stdin"])
            .stdin(input)
            .run()
            .await?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let mut commits = listed.lines().map(CommitId::parse).collect::<Result<Vec<_>>>()?;
        if commits.len() > MAX_COMMITS {
            return Err(GitError::too_large("commits of a branch", commits.len() as u64, MAX_COMMITS as u64));
        }
        commits.reverse();
        Ok(commits)
    }

    /// Reads commits, in their order.
    pub(super) async fn raw_commits(&self, ids: &[CommitId]) -> Result<Vec<RawCommit>> {
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let out = self.command("cat-file").args(["--batch"]).stdin(input).limits(self.local(64 << 20));
        let out = out.run().await?.stdout;
        let (mut rest, mut commits) = (&out[..], Vec::with_capacity(ids.len()));
        for id in ids {
            let (head, body) = split_line(rest);
            let head = String::from_utf8_lossy(head);
            let size = head.trim().rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            let text = size.and_then(|size| body.get(..size)).ok_or_else(|| malformed(id))?;
            commits.push(parse(id, text).ok_or_else(|| malformed(id))?);
            rest = body.get(text.len() + 1..).unwrap_or_default();
        }
        Ok(commits)
    }

    /// Whether a branch changes nothing any more that another one does not have.
    pub(super) async fn is_absorbed(&self, tip: &CommitId, target: &CommitId) -> Result<bool> {
        let tree = self.tree_of(target).await?;
        let wall = self.limits.local_wall;
        Ok(matches!(self.trial_merge((target, &tree), tip, wall).await?, TrialMerge::Nothing))
    }
}

fn parse(id: &CommitId, text: &[u8]) -> Option<RawCommit> {
    let end = text.windows(2).position(|pair| pair == b"\n\n")?;
    let (mut head, message) = (&text[..=end], text[end + 2..].to_vec());
    let mut commit = RawCommit {
        id: id.clone(),
        tree: String::new(),
        parent: None,
        is_signed: false,
        kept: Vec::new(),
        message,
    };
    while !head.is_empty() {
        let (line, rest) = split_line(head);
        head = rest;
        let text = |prefix: &[u8]| {
            let value = line.strip_prefix(prefix)?.trim_ascii_end();
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        if let Some(tree) = text(b"tree ") {
            commit.tree = tree;
        } else if let (Some(parent), None) = (text(b"parent "), &commit.parent) {
            commit.parent = Some(CommitId::parse(&parent).ok()?);
        } else if line.starts_with(b"gpgsig") {
            commit.is_signed = true;
        } else if line.starts_with(b"author ") || line.starts_with(b"encoding ") {
            commit.kept.extend_from_slice(line);
        }
    }
    Some(commit).filter(|c| !c.tree.is_empty() && c.kept.starts_with(b"author "))
}

/// The first line with its line break, and the rest.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1);
    text.split_at(end)
}

fn malformed(id: &CommitId) -> GitError {
    GitError::corrupt("GIT_OBJECTS_REFUSED", format!("the commit {id} is malformed"))
}

fn unrelated(id: &CommitId) -> GitError {
    let text = format!(
        "the commit {id} has no parent: the branch has nothing in common with what it is to stand on"
    );
    GitError::new(GitErrorKind::Invalid, "BRANCH_UNRELATED", text)
}
