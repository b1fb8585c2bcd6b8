//! Branches of a mirror, and resolving names to commits.

use foundry_core::Timestamp;

use super::Mirror;
use crate::{BranchName, CommitId, GitError, GitErrorKind, Result, WorkName};

/// Longest subject kept.
const MAX_SUBJECT_CHARS: usize = 200;

/// One branch of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The name without `refs/heads/`.
    pub name: BranchName,
    /// The commit at its tip.
    pub commit: CommitId,
    /// First line of the tip's message, shortened to 200 characters, with invalid UTF-8 replaced.
    pub subject: String,
    /// Committer time of the tip.
    pub committed_time: Timestamp,
}

/// All branches of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    /// In the order of their names.
    pub items: Vec<Branch>,
    /// Branches left out because of their names (option-like or not UTF-8).
    pub skipped: u64,
}

/// A name for one commit of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// The tip of a branch.
    Branch(BranchName),
    /// A commit by id.
    Commit(CommitId),
    /// The newest imported work.
    Work(WorkName),
    /// The recorded base of a work.
    Base(WorkName),
}

impl Mirror {
    /// Lists the branches with their tips, sorted by name.
    pub async fn branches(&self) -> Result<Branches> {
        let format =
            "%(refname:lstrip=2)%00%(objectname)%00%(objecttype)%00%(committerdate:unix)%00%(subject)";
        let out = self
            .command("for-each-ref")
            .args([&format!("--format={format}"), "refs/heads/"])
            .limits(self.local(64 << 20))
            .run()
            .await?;
        let mut branches = Branches::default();
        for line in out.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match branch(line) {
                Some(b) => branches.items.push(b),
                None => branches.skipped += 1,
            }
        }
        Ok(branches)
    }

    /// The branch that the remote's HEAD names; `None` in an empty repository.
    pub async fn default_branch(&self) -> Result<Option<BranchName>> {
        let out = self.command("symbolic-ref").args(["--quiet", "HEAD"]).run_any().await?;
        let text = String::from_utf8_lossy(&out.stdout);
        let Some(name) = text.trim().strip_prefix("refs/heads/").and_then(|n| BranchName::parse(n).ok())
        else {
            return Ok(None);
        };
        match self.resolve(&Revision::Branch(name.clone())).await {
            Ok(_) => Ok(Some(name)),
            Err(e) if e.kind() == GitErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The commit on which work starts while the repository has none: without files, and the same in every mirror.
    pub async fn empty_start(&self) -> Result<CommitId> {
        let id = |out: crate::process::Output| CommitId::parse(String::from_utf8_lossy(&out.stdout).trim());
        let tree = self.command("hash-object").args(["-t", "tree", "-w", "--stdin"]).stdin("").run().await?;
        let tree = id(tree)?;
        let mut commit = self.command("commit-tree").operands([tree.as_str()]).stdin("Empty repository\n");
        for (name, email, date) in [
            ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE"),
            ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE"),
        ] {
            commit =
                commit.env(name, "Foundry").env(email, "foundry@localhost").env(date, "@946684800 +0000");
        }
        let commit = id(commit.run().await?)?;
        let _lock = self.lock().await?;
        let update = self.command("update-ref").args(["--no-deref"]);
        update.operands(["refs/foundry/empty", commit.as_str()]).run().await?;
        Ok(commit)
    }

    /// The commit that a name stands for; it exists in the mirror.
    pub async fn resolve(&self, revision: &Revision) -> Result<CommitId> {
        let name = match revision {
            Revision::Branch(b) => b.to_ref(),
            Revision::Commit(c) => c.as_str().to_owned(),
            Revision::Work(w) => w.work_ref(),
            Revision::Base(w) => w.base_ref(),
        };
        let out = self
            .command("rev-parse")
            .args(["--verify", "--quiet"])
            .operands([format!("{name}^{{commit}}")])
            .run_any()
            .await?;
        if out.code > 1 {
            return Err(GitError::from_exit("rev-parse", &format!("exit {}", out.code), out.stderr));
        }
        if out.code != 0 {
            let (reason, what) = match revision {
                Revision::Branch(b) => ("BRANCH_NOT_FOUND", format!("no branch {b} in the repository")),
                Revision::Commit(c) => ("COMMIT_NOT_FOUND", format!("no commit {c} in the repository")),
                Revision::Work(w) | Revision::Base(w) => ("WORK_NOT_FOUND", format!("no work for {w} yet")),
            };
            return Err(GitError::new(GitErrorKind::NotFound, reason, what).with_stderr(out.stderr));
        }
        CommitId::parse(String::from_utf8_lossy(&out.stdout).trim())
    }

    /// Keeps `base` alive for a work although its branch may move or be deleted, and records `head` as the newest work
    /// (a turn that changed nothing has `head == base`). Both refs change together.
    pub async fn record_work(&self, work: &WorkName, base: &CommitId, head: &CommitId) -> Result<()> {
        self.resolve(&Revision::Commit(base.clone())).await?;
        self.resolve(&Revision::Commit(head.clone())).await?;
        let _lock = self.lock().await?;
        self.set_work_refs(work, base, head).await
    }

    /// Deletes the refs of a work and its base; a later garbage collection deletes their objects.
    pub async fn forget_work(&self, work: &WorkName) -> Result<()> {
        let _lock = self.lock().await?;
        let script = format!("delete {}\ndelete {}\n", work.work_ref(), work.base_ref());
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    pub(super) async fn set_work_refs(
        &self,
        work: &WorkName,
        base: &CommitId,
        head: &CommitId,
    ) -> Result<()> {
        let script = format!("update {} {base}\nupdate {} {head}\n", work.base_ref(), work.work_ref());
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }
}

fn branch(line: &[u8]) -> Option<Branch> {
    let mut fields = line.splitn(5, |b| *b == 0);
    let name = BranchName::parse(std::str::from_utf8(fields.next()?).ok()?).ok()?;
    let commit = CommitId::parse(std::str::from_utf8(fields.next()?).ok()?).ok()?;
    if fields.next()? != b"commit" {
        return None;
    }
    let seconds: i64 = std::str::from_utf8(fields.next()?).ok()?.parse().unwrap_or(0);
    let subject = String::from_utf8_lossy(fields.next()?).chars().take(MAX_SUBJECT_CHARS).collect();
    Some(Branch {
        name,
        commit,
        subject,
        committed_time: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
    })
}
