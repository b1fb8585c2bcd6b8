//! The refs of jobs in a mirror: where each branch was, and where it shall be. They keep the commits whatever becomes of the
//! branches.

use std::collections::BTreeSet;

use super::fetch::{LISTED, remove_if_there};
use super::{Mirror, Revision};
use crate::{BranchName, CommitId, GitErrorKind, Result, WorkName};

/// Prefix of all of them.
const JOBS: &str = "refs/foundry/jobs/";

impl Mirror {
    /// Keeps where branches were and where they shall be, by their numbers in the job. What an earlier attempt kept and
    /// this one does not is dropped.
    ///
    /// # Errors
    /// When git fails.
    pub async fn keep_job(
        &self,
        job: &WorkName,
        tips: &[(Option<CommitId>, Option<CommitId>)],
    ) -> Result<()> {
        let _lock = self.lock().await?;
        let prefix = job.job_ref();
        let mut script = String::new();
        let listed = self.command("for-each-ref").args(["--format=delete %(refname)", &format!("{prefix}/")]);
        for line in String::from_utf8_lossy(&listed.run().await?.stdout).lines() {
            script.push_str(&format!("{line}\n"));
        }
        if !script.is_empty() {
            self.command("update-ref")
                .args(["--no-deref", "--stdin"])
                .stdin(std::mem::take(&mut script))
                .run()
                .await?;
        }
        for (nth, (old, new)) in tips.iter().enumerate() {
            for (which, tip) in [("old", old), ("new", new)] {
                if let Some(tip) = tip {
                    script.push_str(&format!("update {prefix}/{nth}/{which} {tip}\n"));
                }
            }
        }
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    /// The jobs for which something is kept.
    ///
    /// # Errors
    /// When git fails.
    pub async fn kept_jobs(&self) -> Result<BTreeSet<String>> {
        let listed = self.command("for-each-ref").args(["--format=%(refname:lstrip=3)", JOBS]).run().await?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        Ok(listed.lines().filter_map(|name| name.split('/').next()).map(str::to_owned).collect())
    }

    /// Drops what was kept for these jobs.
    ///
    /// # Errors
    /// When git fails.
    pub async fn forget_jobs(&self, jobs: &BTreeSet<String>) -> Result<()> {
        let _lock = self.lock().await?;
        let listed = self.command("for-each-ref").args(["--format=%(refname)", JOBS]).run().await?;
        let mut script = String::new();
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            let job = name.strip_prefix(JOBS).and_then(|rest| rest.split('/').next());
            if job.is_some_and(|job| jobs.contains(job)) {
                script.push_str(&format!("delete {name}\n"));
            }
        }
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    /// Records that branches of the remote are at these commits now.
    ///
    /// # Errors
    /// When a ref cannot be written.
    pub async fn record_branches(&self, branches: &[(BranchName, CommitId)]) -> Result<()> {
        let _lock = self.lock().await?;
        // The mirror is not what was listed any more.
        remove_if_there(&self.dir.join(LISTED)).await?;
        let moved = branches.iter().map(|(branch, commit)| format!("update {} {commit}\n", branch.to_ref()));
        let script: String = moved.collect();
        self.command("update-ref").args(["--no-deref", "--stdin"]).stdin(script).run().await.map(drop)
    }

    /// Whether the mirror has a commit.
    ///
    /// # Errors
    /// When git fails.
    pub async fn has_commit(&self, commit: &CommitId) -> Result<bool> {
        match self.resolve(&Revision::Commit(commit.clone())).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == GitErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}
