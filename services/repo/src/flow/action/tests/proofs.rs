//! Crashes, repeats and cancels at every point of an action and of its undo.

use std::time::Duration;

use foundry_core::{Env, Error, FlowId};
use foundry_flow::Binding;
use foundry_flow::proofs::{World, prove};
use foundry_store::Store;

use super::*;
use crate::flow::action::ACTION;
use crate::flow::bindings;

/// A stack of which main has moved, with what is done to it: the job to undo if there is one, otherwise the action with its
/// branch and parent.
struct Moved {
    s: Stacked,
    undone: Option<String>,
    action: (JobKind, &'static str, &'static str),
}

impl Moved {
    async fn new() -> Self {
        Self::of(Stacked::of(2).await)
    }

    fn of(s: Stacked) -> Self {
        s.main_moves();
        Self { s, undone: None, action: (JobKind::RestackRepo, "", "") }
    }

    async fn before(kind: JobKind, branch: &'static str, parent: &'static str) -> Self {
        Self { action: (kind, branch, parent), ..Self::new().await }
    }

    /// A remote that cannot do all or nothing.
    async fn one_by_one() -> Self {
        let moved = Self::new().await;
        git(&moved.s.remote, &["config", "receive.advertiseAtomic", "false"]);
        moved
    }

    /// A plan that is recorded with each branch.
    async fn in_pieces() -> Self {
        let mut f = Fixture::new().await;
        f.recording_each_branch().await;
        let url = f.path().join("remote.git").to_str().unwrap().to_owned();
        Self::of(Stacked::at(f, url, 2).await)
    }

    /// With what git-spice has recorded of the stack.
    async fn with_spice() -> Self {
        let moved = Self::before(JobKind::SyncRepo, "", "").await;
        moved.s.sh(&format!(
            "git checkout -q --orphan data; git rm -q -rf .; mkdir branches
             echo '{{\"base\":{{\"name\":\"main\"}}}}' > branches/s2; echo '{{}}' > repo
             git add .; {C} -m data; git push -q origin HEAD:refs/spice/data"
        ));
        moved
    }

    async fn done() -> Self {
        let moved = Self::new().await;
        let job = moved.s.run(JobKind::RestackRepo, "").await;
        assert_eq!(state(&job), (JobState::Done, ""));
        Self { undone: Some(job.job_id), ..moved }
    }

    /// All jobs, the oldest first.
    async fn jobs(&self) -> Vec<Job> {
        let sql = "SELECT job_id FROM jobs ORDER BY created_rev";
        let mut jobs = Vec::new();
        for row in self.s.f.cx.store.query(sql, &[]).await.unwrap() {
            jobs.push(self.s.job(row.text("job_id").unwrap()).await);
        }
        jobs
    }
}

#[tonic::async_trait]
impl World for Moved {
    fn store(&self) -> &Store {
        &self.s.f.cx.store
    }
    fn env(&self) -> &Env {
        &self.s.f.env.env
    }
    fn advance(&self, d: Duration) {
        self.s.f.env.clock.advance(d);
    }
    fn flows(&self) -> Vec<Binding> {
        bindings(&self.s.f.cx).into_iter().filter(|b| b.kind() == ACTION.kind).collect()
    }
    async fn start(&self) -> Result<FlowId, Error> {
        let s = &self.s;
        let job = match &self.undone {
            None => {
                let (kind, branch, parent) = self.action;
                let request = RunRepositoryActionRequest { parent: parent.into(), ..s.request(kind, branch) };
                run_repository_action(&s.f.cx, &s.f.member, request).await?.job
            }
            Some(job_id) => {
                let request = UndoJobRequest { job_id: job_id.clone(), ..UndoJobRequest::default() };
                undo_job(&s.f.cx, &s.f.member, request).await?.job
            }
        };
        Ok(foundry_flow::unfinished(&s.f.cx.store, &ACTION, &job.unwrap().job_id).await?.remove(0))
    }
    async fn effects(&self) -> Vec<String> {
        let mirror = self.s.f.cx.mirror_path(&self.s.repository.parse().unwrap());
        let trees =
            |dir: &std::path::Path| git(dir, &["for-each-ref", "--format=%(refname) %(tree)", "refs/heads/"]);
        let kept = git(&mirror, &["for-each-ref", "--format=%(refname) %(tree)", "refs/foundry/jobs/"]);
        let kept = kept.lines().map(|line| line.split('/').skip(4).collect::<Vec<_>>().join("/"));
        let pushes = std::fs::read_to_string(self.s.remote.join("pushes")).unwrap_or_default();
        let mut all: Vec<String> = trees(&self.s.remote).lines().map(str::to_owned).collect();
        all.extend(trees(&mirror).lines().map(str::to_owned));
        all.extend(kept);
        all.push(format!("pushes {}", pushes.lines().count()));
        let store = &self.s.f.cx.store;
        let parents = "SELECT branch, parent, source FROM branch_parents ORDER BY branch";
        for row in store.query(parents, &[]).await.unwrap() {
            let text = |column| row.text(column).unwrap().to_owned();
            all.push(format!("{} on {} by {}", text("branch"), text("parent"), text("source")));
        }
        all
    }
    /// Every old tip that a job records is in the mirror by its id, and the job itself keeps it there.
    async fn holds(&self) {
        let mirror = self.s.f.cx.mirror_path(&self.s.repository.parse().unwrap());
        for job in self.jobs().await {
            for branch in job.branches.iter().filter(|branch| !branch.old_commit.is_empty()) {
                assert_eq!(git(&mirror, &["cat-file", "-t", &branch.old_commit]), "commit", "{job:?}");
                if job.kind() != JobKind::RegisterExistingBranch {
                    assert_eq!(self.s.kept(&job, branch), branch.old_commit, "{job:?}");
                }
            }
        }
    }
    async fn shown(&self) -> String {
        let mut shown = String::new();
        for job in self.jobs().await {
            let reason = job.condition.as_ref().map(|c| c.reason.clone());
            shown.push_str(&format!("{:?} {} {reason:?}; ", job.state(), states(&job)));
        }
        shown
    }
}

#[tokio::test]
async fn a_restack_passes_all_proofs() {
    prove(&ACTION, Moved::new).await;
}

#[tokio::test]
async fn an_undo_passes_all_proofs() {
    prove(&ACTION, Moved::done).await;
}

/// The other actions go through the same stages: `make test-faults`.
mod every {
    use super::*;

    #[tokio::test]
    async fn a_restack_of_a_subtree_passes_all_proofs() {
        prove(&ACTION, || Moved::before(JobKind::RestackSubtree, "s1", "")).await;
    }

    #[tokio::test]
    async fn a_reparent_passes_all_proofs() {
        prove(&ACTION, || Moved::before(JobKind::ReparentBranch, "s2", "main")).await;
    }

    #[tokio::test]
    async fn a_rebase_passes_all_proofs() {
        prove(&ACTION, || Moved::before(JobKind::RebaseBranch, "s1", "")).await;
    }

    #[tokio::test]
    async fn a_registration_passes_all_proofs() {
        prove(&ACTION, || Moved::before(JobKind::RegisterExistingBranch, "s2", "main")).await;
    }

    #[tokio::test]
    async fn a_synchronization_with_git_spice_passes_all_proofs() {
        prove(&ACTION, Moved::with_spice).await;
    }

    #[tokio::test]
    async fn a_push_branch_by_branch_passes_all_proofs() {
        prove(&ACTION, Moved::one_by_one).await;
    }

    #[tokio::test]
    async fn a_plan_in_pieces_passes_all_proofs() {
        prove(&ACTION, Moved::in_pieces).await;
    }
}
