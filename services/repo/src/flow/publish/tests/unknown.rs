//! A push whose end is not known: the remote takes it, and the connection is lost.

use super::*;

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
