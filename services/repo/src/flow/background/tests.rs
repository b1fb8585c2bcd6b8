use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{BranchSync, BranchSyncSource, BranchSyncStatus, WatchRepositoryRequest};

use super::*;
use crate::testing::{Fixture, git};

async fn started() -> (Fixture, RepositoryId) {
    let f = Fixture::new().await;
    f.in_the_background().await;
    let id = f.mirrored().await.repository_id.parse().unwrap();
    (f, id)
}

async fn sync_of(f: &Fixture, id: &RepositoryId) -> BranchSync {
    let repository = f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap();
    repository.to_proto().branch_sync.unwrap()
}

async fn syncs(f: &Fixture) -> usize {
    let sql = "SELECT flow_id FROM flows WHERE kind = 'repository_sync'";
    f.cx.store.query(sql, &[]).await.unwrap().len()
}

async fn after(f: &Fixture, seconds: u64) {
    f.env.clock.advance(Duration::from_secs(seconds));
    f.engine.run_until_idle().await.unwrap();
}

/// Seconds until the next refresh.
fn wait(f: &Fixture, sync: &BranchSync) -> u64 {
    let next = Timestamp::from_proto(sync.next_refresh_time.as_ref().unwrap());
    next.since(f.cx.env.clock.now()).as_secs()
}

#[tokio::test]
async fn an_idle_repository_is_asked_seldom_and_one_that_somebody_looks_at_often() {
    let (f, id) = started().await;
    let first = sync_of(&f, &id).await;
    assert_eq!((first.status(), first.source()), (BranchSyncStatus::Current, BranchSyncSource::Request));
    assert!((720..=1080).contains(&wait(&f, &first)), "{}", wait(&f, &first));
    after(&f, 600).await;
    assert_eq!(syncs(&f).await, 1);
    let found = f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap().branches_time;
    git(&f.origin, &["branch", "extra"]);
    after(&f, 600).await;
    let polled = sync_of(&f, &id).await;
    assert_eq!((syncs(&f).await, polled.source()), (2, BranchSyncSource::Poll));
    assert_ne!(polled.as_of, first.as_of);
    let row = f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap();
    assert_eq!(row.branch_count, 2);
    assert!(row.branches_time > found && found > Timestamp::default());
    let mut request = WatchRepositoryRequest { repository_id: id.to_string(), options: None };
    crate::ops::watch_repository::grant(&f.cx, &f.member, &mut request).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    assert!(wait(&f, &sync_of(&f, &id).await) <= 72);
    for _ in 0..5 {
        after(&f, 75).await;
    }
    assert_eq!(syncs(&f).await, 7);
    let later = f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap();
    assert_eq!(later.branches_time, row.branches_time, "nothing new was found");
    assert!(later.sync_time > row.sync_time);
    // After half an hour without any use it is idle again.
    after(&f, 1_900).await;
    assert!(wait(&f, &sync_of(&f, &id).await) >= 720);
}

#[tokio::test]
async fn while_the_remote_fails_the_time_stands_still_and_the_reason_is_shown_until_it_answers() {
    let (f, id) = started().await;
    let before = sync_of(&f, &id).await;
    let away = f.path().join("away");
    std::fs::rename(&f.origin, &away).unwrap();
    after(&f, 1_100).await;
    after(&f, 2).await;
    let failed = sync_of(&f, &id).await;
    assert_eq!((failed.status(), failed.as_of), (BranchSyncStatus::Stale, before.as_of));
    let stale = failed.stale.clone().unwrap();
    assert_eq!(stale.reason, "GIT_REMOTE_NOT_FOUND");
    after(&f, 4_400).await;
    let later = sync_of(&f, &id).await;
    assert_eq!((later.as_of, later.stale.unwrap().since_time), (before.as_of, stale.since_time));
    assert!(syncs(&f).await >= 3);
    std::fs::rename(&away, &f.origin).unwrap();
    after(&f, 4_400).await;
    let mended = sync_of(&f, &id).await;
    assert_eq!((mended.status(), mended.stale.is_none()), (BranchSyncStatus::Current, true));
    assert_ne!(mended.as_of, before.as_of);
}

#[tokio::test]
async fn a_refresh_that_is_requested_while_a_poll_fails_is_made_after_it() {
    use crate::ops::request_repository_refresh::request_repository_refresh;

    let f = Fixture::new().await;
    let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
    make_due(&f, &id).await;
    assert!(start(&f.cx, &repositories::find(&f.cx.store, &id).await.unwrap().unwrap(), None).await.unwrap());
    let request = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
        repository_id: id.to_string(),
        ..Default::default()
    };
    request_repository_refresh(&f.cx, &f.member, request).await.unwrap();
    std::fs::rename(&f.origin, f.path().join("away")).unwrap();
    f.engine.run_until_idle().await.unwrap();
    let row = repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
    assert_eq!((row.state, row.refresh_wanted), (State::Error, false));
    let flows = foundry_flow::list_by_subject(&f.cx.store, id.as_str()).await.unwrap();
    assert!(flows.iter().any(|flow| flow.state == "request"), "the last run was for the poll");
}

/// Records that the repository is at a host, and how its last synchronization ended.
async fn ended(f: &Fixture, id: &RepositoryId, state: State, reason: &str) {
    let condition =
        Condition { reason: reason.to_owned(), message: reason.to_owned(), ..Condition::default() };
    let mut ws = WriteSet::new();
    let set = [
        ("url", "https://git.example.org/a.git".into()),
        ("state", state.as_str().into()),
        ("condition", repositories::condition(&condition)),
        ("polling", 0.into()),
        ("next_sync_time", ENDED.into()),
    ];
    ws.update_where(&REPOSITORIES, &[("repository_id", id.as_str().into())], &set);
    f.cx.store.commit(ws).await.unwrap();
}

async fn make_due(f: &Fixture, id: &RepositoryId) {
    let mut ws = WriteSet::new();
    let key = [("repository_id", id.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("next_sync_time", f.cx.env.clock.now().into())]);
    f.cx.store.commit(ws).await.unwrap();
}

#[tokio::test]
async fn a_host_that_fails_again_and_again_is_left_alone_and_then_asked_by_one_repository() {
    let f = Fixture::new().await;
    let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
    for _ in 0..3 {
        ended(&f, &id, State::Error, "GIT_TIMEOUT").await;
        plan_next(&f.cx, f.cx.env.clock.now()).await.unwrap();
    }
    let hosts = remote_hosts::all(&f.cx.store).await.unwrap();
    assert_eq!((hosts["git.example.org"].failures, hosts["git.example.org"].is_doubtful()), (3, true));
    // Another repository of the host, which has not failed itself, is put off and shows why.
    ended(&f, &id, State::Ready, "").await;
    make_due(&f, &id).await;
    let before = syncs(&f).await;
    assert!(start_due(&f.cx, f.cx.env.clock.now()).await.unwrap(), "others may be due behind it");
    let held = sync_of(&f, &id).await;
    let stale = held.stale.clone().unwrap();
    assert_eq!((held.status(), stale.reason.as_str()), (BranchSyncStatus::Stale, "REMOTE_HOST_FAILING"));
    assert_eq!((held.host.as_str(), syncs(&f).await), ("git.example.org", before));
    assert_eq!(stale.next_attempt_time, held.next_refresh_time);
    // A use of it is no answer of the host.
    let mut ws = WriteSet::new();
    used(&f.cx, &mut ws, &id);
    f.cx.store.commit(ws).await.unwrap();
    plan_next(&f.cx, f.cx.env.clock.now()).await.unwrap();
    assert_eq!(remote_hosts::all(&f.cx.store).await.unwrap()["git.example.org"].failures, 3);
    make_due(&f, &id).await;
    // When the pause is over, one asks, and keeps the others from asking.
    f.env.clock.advance(Duration::from_secs(100));
    assert!(!start_due(&f.cx, f.cx.env.clock.now()).await.unwrap());
    assert_eq!(syncs(&f).await, before + 1);
    let probed = remote_hosts::all(&f.cx.store).await.unwrap()["git.example.org"].clone();
    assert!(probed.asked_next > f.cx.env.clock.now());
    // It answers.
    ended(&f, &id, State::Ready, "").await;
    plan_next(&f.cx, f.cx.env.clock.now()).await.unwrap();
    assert!(remote_hosts::all(&f.cx.store).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failure_of_one_repository_does_not_count_against_its_host() {
    let f = Fixture::new().await;
    let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
    ended(&f, &id, State::Error, "GIT_AUTH_REQUIRED").await;
    plan_next(&f.cx, f.cx.env.clock.now()).await.unwrap();
    assert!(remote_hosts::all(&f.cx.store).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_processes_that_find_the_same_repository_due_start_one_synchronization() {
    let f = Fixture::new().await;
    let id: RepositoryId = f.mirrored().await.repository_id.parse().unwrap();
    make_due(&f, &id).await;
    let row = repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
    let before = syncs(&f).await;
    start(&f.cx, &row, None).await.unwrap();
    start(&*f.beside().await, &row, None).await.unwrap();
    assert_eq!(syncs(&f).await, before + 1);
}

#[tokio::test]
async fn a_task_counts_as_a_use_and_its_synchronization_says_so() {
    let (f, id) = started().await;
    f.env.clock.advance(Duration::from_secs(60));
    let repository = f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap();
    let mut ws = WriteSet::new();
    let service = foundry_authn::Caller::service("provisioner");
    let start = crate::domain::base::Refresh::Start;
    crate::ops::scheduling::refresh(&f.cx, &service, &mut ws, &repository, start).unwrap();
    f.cx.store.commit(ws).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    let sync = sync_of(&f, &id).await;
    assert_eq!(sync.source(), BranchSyncSource::Task);
    assert!(wait(&f, &sync) <= 72);
}

#[tokio::test]
async fn a_synchronization_that_ended_without_freeing_its_place_does_not_keep_it() {
    let (f, id) = started().await;
    let mut ws = WriteSet::new();
    let key = [("repository_id", id.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &[("polling", 1.into()), ("next_sync_time", 0.into())]);
    wake(&f.cx, &mut ws);
    f.cx.store.commit(ws).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    assert!(repositories::polled(&f.cx.store).await.unwrap().is_empty());
    assert!(sync_of(&f, &id).await.next_refresh_time.is_some());
}

#[tokio::test]
async fn a_repository_that_somebody_has_looked_at_for_an_hour_is_still_asked_often() {
    let (f, id) = started().await;
    let mut request = WatchRepositoryRequest { repository_id: id.to_string(), options: None };
    let granted = crate::ops::watch_repository::grant(&f.cx, &f.member, &mut request).await.unwrap();
    let open = f.cx.hub.watch(granted.view, None, foundry_watch::Unrestricted).unwrap();
    for _ in 0..60 {
        after(&f, 75).await;
    }
    assert!(wait(&f, &sync_of(&f, &id).await) <= 72);
    drop(open);
}

#[tokio::test]
async fn a_refresh_that_is_wanted_when_the_engine_ends_a_synchronization_is_made_after_it() {
    let (f, id) = started().await;
    let running = foundry_flow::list_by_subject(&f.cx.store, id.as_str()).await.unwrap().remove(0);
    let mut ws = WriteSet::new();
    let key = [("repository_id", id.as_str().into())];
    let set = [("refresh_wanted", true.into()), ("wanted_source", Source::Request.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &set);
    f.cx.store.commit(ws).await.unwrap();
    let before = syncs(&f).await;
    // As the engine shows the end of one whose time was up.
    let failed = foundry_flow::FlowStatus {
        transition: Some(foundry_flow::Transition::Failed),
        reason: "STAGE_TIMED_OUT".into(),
        ..running
    };
    let shown = foundry_flow::Projection::project(&sync::Shown(f.env.env.clone()), &failed);
    f.cx.store.commit(shown).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    let row = repositories::find(&f.cx.store, &id).await.unwrap().unwrap();
    assert_eq!((syncs(&f).await, row.refresh_wanted, row.state), (before + 1, false, State::Ready));
}
