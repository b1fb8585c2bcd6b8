//! A push whose end is not known: the remote takes it, and the connection is lost.

use super::*;
use crate::flow::tests::proofs::{self, Case, Of, engine_of, refs};

async fn at(p: &Published, url: &str) {
    let mut ws = WriteSet::new();
    let is = [("repository_id", p.repository.repository_id.as_str().into())];
    ws.update_where(&repositories::REPOSITORIES, &is, &[("url", url.into())]);
    p.f.cx.store.commit(ws).await.unwrap();
}

#[tokio::test]
async fn a_push_that_has_arrived_unknown_is_recorded_once_the_remote_is_back() {
    let p = Published::new().await;
    // The remote ends the connection once the ref has changed, and is gone then.
    p.hook("reference-transaction", "cat >/dev/null; [ $1 != committed ] || kill -9 $PPID");
    let id = p.started(|_| {}).await;
    p.f.engine.run_until_idle().await.unwrap();
    at(&p, "https://foundry-no-such-host.invalid/x").await;
    for _ in 0..6 {
        p.f.env.clock.advance(std::time::Duration::from_secs(61));
        p.f.engine.run_until_idle().await.unwrap();
    }
    let job = p.job(&id).await;
    assert_eq!((job.state(), job.branches[0].state()), (JobState::Failed, JobBranchState::Pushing));
    p.hook("reference-transaction", "exit 0");
    at(&p, p.f.path().join("remote.git").to_str().unwrap()).await;
    p.f.env.clock.advance(std::time::Duration::from_secs(7200));
    p.f.engine.run_until_idle().await.unwrap();
    let job = p.job(&id).await;
    assert_eq!(job.branches[0].state(), JobBranchState::Pushed);
    let work = works::find(&p.f.cx.store, &job.task_id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(work.publication.unwrap().commit, job.branches[0].new_commit);
}

/// A publication that was cancelled while nobody could know that its push had arrived; the remote has not been asked since.
struct Arrived {
    p: Published,
    job: String,
}

impl Arrived {
    async fn new() -> Of<Self> {
        let p = Published::new().await;
        p.hook("reference-transaction", "cat >/dev/null; [ $1 != committed ] || kill -9 $PPID");
        let job = p.started(|_| {}).await;
        let engine = engine_of(&p.f, &PUBLISH);
        engine.run_until_idle().await.unwrap();
        p.hook("reference-transaction", "exit 0");
        let cancel = CancelJobRequest { job_id: job.clone(), ..CancelJobRequest::default() };
        cancel_job(&p.f.cx, &p.f.member, cancel).await.unwrap();
        engine.run_until_idle().await.unwrap();
        let cancelled = p.job(&job).await;
        assert_eq!(
            (cancelled.state(), cancelled.branches[0].state()),
            (JobState::Cancelled, JobBranchState::Pushing)
        );
        Of(Self { p, job })
    }
}

#[tonic::async_trait]
impl Case for Arrived {
    fn flow(&self) -> &'static Flow<Context> {
        &settle::SETTLE
    }
    fn fixture(&self) -> &Fixture {
        &self.p.f
    }
    async fn begin(&self) -> Result<String, Error> {
        Ok(self.job.clone())
    }
    async fn effects(&self) -> Vec<String> {
        let id = &self.p.repository.repository_id;
        let mirror = self.p.f.cx.mirror_path(&id.parse().unwrap());
        let mut all: Vec<_> = [refs(&self.p.remote, "refs/heads/"), refs(&mirror, "refs/")].concat();
        all.iter_mut().for_each(|line| *line = line.replace(self.p.task.as_str(), "").replace(&self.job, ""));
        all.push(proofs::synchronizations(&self.p.f, id).await);
        all
    }
    async fn shown(&self) -> String {
        let audited = "SELECT action AS line FROM store_audit WHERE action = 'branch.push'";
        let audited = proofs::lines(&self.p.f, audited).await;
        let job = self.p.job(&self.job).await;
        let publication = self.p.work().await.publication.map(|p| (p.branch, p.commits_since));
        format!("{:?} {:?} {audited:?} {publication:?}", state(&job), job.branches[0].state())
    }
}

#[tokio::test]
async fn asking_what_has_become_of_a_push_passes_all_proofs() {
    prove(&settle::SETTLE, Arrived::new).await;
}
