//! The refs of jobs in a mirror: where each branch was, and where it shall be. They keep the commits whatever becomes of the
//! branches.

use super::fetch::{LISTED, remove_if_there};
use super::{Mirror, Revision};
use crate::{BranchName, CommitId, GitErrorKind, Result, WorkName};

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

    /// Drops what was kept for jobs of which nothing is known any more.
    ///
    /// # Errors
    /// When git fails.
    pub async fn forget_jobs(&self, is_known: impl Fn(&str) -> bool) -> Result<()> {
        let _lock = self.lock().await?;
        let listed = self.command("for-each-ref").args(["--format=%(refname)", "refs/foundry/jobs/"]);
        let listed = listed.run().await?;
        let mut script = String::new();
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            let job = name.strip_prefix("refs/foundry/jobs/").and_then(|rest| rest.split('/').next());
            if job.is_some_and(|job| !is_known(job)) {
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
