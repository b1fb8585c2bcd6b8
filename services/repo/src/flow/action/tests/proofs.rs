//! Crashes, repeats and cancels at every point of an action and of its undo.

use std::time::Duration;

use foundry_core::{Env, Error, FlowId};
use foundry_flow::Binding;
use foundry_flow::proofs::{World, prove};
use foundry_store::Store;

use super::*;
use crate::flow::action::ACTION;
use crate::flow::bindings;

/// A stack of which main has moved, and the job to undo if there is one.
struct Moved {
    s: Stacked,
    undone: Option<String>,
}

impl Moved {
    async fn new() -> Self {
        let s = Stacked::of(2).await;
        s.main_moves();
        Self { s, undone: None }
    }

    async fn done() -> Self {
        let moved = Self::new().await;
        let job = moved.s.run(JobKind::RestackRepo, "").await;
        assert_eq!(state(&job), (JobState::Done, ""));
        Self { undone: Some(job.job_id), ..moved }
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
                let request = s.request(JobKind::RestackRepo, "");
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
        all
    }
    async fn shown(&self) -> String {
        let rows =
            self.s.f.cx.store.query("SELECT job_id FROM jobs ORDER BY created_rev", &[]).await.unwrap();
        let mut shown = String::new();
        for row in &rows {
            let job = self.s.job(row.text("job_id").unwrap()).await;
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
