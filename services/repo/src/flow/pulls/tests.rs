//! How pull requests are followed: what it costs, what it says when the host does not answer, and how much is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_core::{Error, RepositoryId};
use foundry_flow::Flow;
use foundry_flow::proofs::prove;
use foundry_forge::{
    Budget, Changed, Facts, Forge, ForgeError, ForgeErrorKind, Known, NewPullRequest, Page,
    PullRequest as Found, State,
};
use foundry_proto::common::v1::{PullRequest, PullRequestState};
use foundry_proto::repo::v1::{PullRequestReading, PullRequestSyncSource, PullRequestSyncStatus};
use foundry_store::{Scope, WriteSet};
use foundry_testkit::MockClock;
use foundry_watch_hub::View as _;

use super::gather::Failure;
use crate::context::Context;
use crate::flow::pull_request::tests::AtForge;
use crate::flow::tests::proofs::{Case, Of};
use crate::ops::request_repository_refresh::request_repository_refresh;
use crate::store::{pull_requests, repositories};

/// How long, in real time, something that is about to happen is waited for.
const SOON: Duration = Duration::from_secs(60);

async fn known(p: &AtForge) -> usize {
    let id = p.repository.repository_id.parse().unwrap();
    pull_requests::all(&p.f.cx.store, &id).await.unwrap().len()
}

#[tokio::test]
async fn pull_requests_of_others_are_read_in_the_background_and_cost_nothing_while_nothing_changes() {
    let p = AtForge::new().await;
    crate::testing::git(&p.f.path().join("team/app.git"), &["branch", "theirs", "main"]);
    p.host.open("team/app", "theirs", "of somebody", false);
    p.host.open("team/app", "theirs-too", "of a fork", true);
    p.after(1_100).await;
    assert_eq!((known(&p).await, p.sync().await.open_count), (1, 1));
    p.after(1_100).await;
    let (calls, before) = (p.host.calls().len(), p.sync().await);
    p.after(1_100).await;
    let after = p.sync().await;
    assert_eq!((p.host.calls().len(), after.api_remaining), (calls, before.api_remaining));
    assert_ne!(after.as_of, before.as_of);
    assert_eq!(
        (after.status(), after.source()),
        (PullRequestSyncStatus::Current, PullRequestSyncSource::Poll)
    );
    p.host.close("team/app", 1);
    p.after(1_100).await;
    assert_eq!((known(&p).await, p.sync().await.open_count), (0, 0));
}

#[tokio::test]
async fn a_host_that_fails_is_said_to_and_asked_less_often_and_what_is_known_stays() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    p.after(90).await;
    let current = p.sync().await;
    assert_eq!(
        (current.status(), current.source()),
        (PullRequestSyncStatus::Current, PullRequestSyncSource::Poll)
    );
    for _ in 0..12 {
        p.host.refuse(503, "down for maintenance");
    }
    p.after(1_100).await;
    let stale = p.sync().await;
    assert_eq!((stale.status(), stale.as_of), (PullRequestSyncStatus::Stale, current.as_of));
    let why = stale.stale.unwrap();
    assert_eq!(why.reason, "FORGE_UNREACHABLE");
    assert!(why.message.contains("down for maintenance") && why.next_attempt_time.is_some(), "{why:?}");
    let before = p.host.calls().len();
    for _ in 0..10 {
        p.after(60).await;
    }
    assert!(p.host.calls().len() - before <= 4, "{}", p.host.calls().len() - before);
    let still = p.work().await.publication.unwrap().pull_request.unwrap();
    assert_eq!(still.state(), PullRequestState::Open);
    for _ in 0..60 {
        p.after(3_700).await;
        if p.sync().await.status() == PullRequestSyncStatus::Current {
            return;
        }
    }
    panic!("the host answers again, but is not asked");
}

#[tokio::test]
async fn a_spent_budget_is_kept_to() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    p.host.leave_calls(0);
    p.after(120).await;
    let stale = p.sync().await;
    assert_eq!(
        (stale.status(), stale.stale.unwrap().reason),
        (PullRequestSyncStatus::Stale, "FORGE_RATE_LIMITED".to_owned())
    );
    let before = p.host.git().requests().iter().filter(|(path, _)| path.starts_with("/api/")).count();
    p.after(120).await;
    let after = p.host.git().requests().iter().filter(|(path, _)| path.starts_with("/api/")).count();
    assert_eq!((after, stale.api_remaining), (before, 0));
}

#[tokio::test]
async fn of_many_open_ones_five_hundred_are_read_and_that_is_said() {
    let p = AtForge::new().await;
    for n in 0..620 {
        p.host.open("team/app", &format!("many/{n}"), "one of many", false);
    }
    p.after(1_100).await;
    let sync = p.sync().await;
    assert_eq!((sync.open_count, sync.truncated, known(&p).await), (500, true, 500));
}

/// Calls for the checks of pull requests so far.
fn checked(p: &AtForge) -> usize {
    p.host.calls().iter().filter(|call| call.contains("/check-runs")).count()
}

#[tokio::test]
async fn the_checks_of_five_hundred_are_read_in_the_end_fifty_at_a_time_and_shown_within_bounds() {
    let p = AtForge::new().await;
    open_many(&p, 500);
    p.host.check("team/app", "many/0", "build", Some(true));
    let before = p.f.cx.store.stats();
    p.after(1_100).await;
    let sync = p.sync().await;
    assert_eq!((sync.open_count, sync.unread_count, checked(&p)), (500, 0, 500));
    assert_eq!(sync.status(), PullRequestSyncStatus::Current);
    let id = p.repository.repository_id.parse().unwrap();
    for row in pull_requests::all(&p.f.cx.store, &id).await.unwrap() {
        let checks = row.pull_request.checks.unwrap();
        assert_eq!(checks.passed, 1, "{}", row.pull_request.branch);
    }
    // Ten readings, the branches and their overview; not a commit for each of them.
    let after = p.f.cx.store.stats();
    let (commits, statements) = (after.requests - before.requests, after.statements - before.statements);
    assert!(commits < 400 && statements < 1_500, "{commits} commits, {statements} statements");
    // What a page reads is as many items as there are branches, in frames of bounded size.
    let mut page_token = String::new();
    let mut shown = 0;
    loop {
        let request = foundry_proto::repo::v1::GetRepositoryOverviewRequest {
            repository_id: p.repository.repository_id.clone(),
            page_size: 200,
            page_token,
        };
        let before = p.f.cx.store.stats().statements;
        let overview = crate::ops::get_repository_overview::get_repository_overview;
        let page = overview(&p.f.cx, &p.f.member, request).await.unwrap();
        assert_eq!(p.f.cx.store.stats().statements - before, 2);
        shown += page.branches.iter().filter(|b| b.pull_request.is_some()).count();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(shown, 500);
    // Then nothing has changed: fifty are asked about again, those that were read the longest time ago, and no row is
    // shown again.
    let view = crate::view::repositories::of_repository(&p.f.organization, &id);
    let head = p.f.cx.store.head(&Scope::organization(&p.f.organization)).await.unwrap();
    p.host.check("team/app", "many/0", "build", Some(false));
    p.after(1_100).await;
    let snapshot = p.f.cx.store.snapshot().await.unwrap();
    let changed = view.changes_after(&snapshot, head, 1_000).await.unwrap().changes;
    let branches = changed.iter().filter(|c| c.key.starts_with("branch/")).count();
    assert_eq!(branches, 50, "those whose check has failed since, as far as they were read");
}

#[tokio::test]
async fn a_reading_that_takes_longer_shows_how_far_it_is_and_since_when() {
    let p = AtForge::new().await;
    for n in 0..3 {
        p.host.open("team/app", &format!("many/{n}"), "one of many", false);
    }
    p.f.env.clock.advance(Duration::from_secs(1_100));
    p.host.hang(true);
    let (started, calls) = (p.f.env.env.clock.now(), p.host.git().requests().len());
    let is_call = |(path, _): &(String, _)| path.starts_with("/api/");
    let looks = async {
        let begun = Instant::now();
        while !p.host.git().requests()[calls..].iter().any(is_call) {
            assert!(begun.elapsed() < SOON, "the host is not asked");
            tokio::task::yield_now().await;
        }
        p.f.env.clock.advance(Duration::from_secs(2));
        let reading = loop {
            if let Some(reading) = p.sync().await.reading {
                break reading;
            }
            assert!(begun.elapsed() < SOON, "the reading is not shown");
            tokio::task::yield_now().await;
        };
        p.host.hang(false);
        reading
    };
    let (idle, reading) = futures::join!(p.f.engine.run_until_idle(), looks);
    idle.unwrap();
    assert_eq!((reading.done, reading.total), (0, 0), "it lists them");
    assert!(foundry_core::Timestamp::from_proto(&reading.start_time.unwrap()) >= started);
    // The host broke the call off.
    let broken = p.sync().await;
    assert_eq!((broken.reading, broken.status()), (None, PullRequestSyncStatus::Stale));
    p.after(4_000).await;
    let sync = p.sync().await;
    assert_eq!((sync.reading, sync.open_count, sync.unread_count), (None, 3, 0));
}

/// Opens pull requests of others.
fn open_many(p: &AtForge, count: usize) {
    let bare = p.f.path().join("team/app.git");
    let main = crate::testing::git(&bare, &["rev-parse", "main"]);
    std::fs::create_dir_all(bare.join("refs/heads/many")).unwrap();
    for n in 0..count {
        std::fs::write(bare.join(format!("refs/heads/many/{n}")), &main).unwrap();
        p.host.open("team/app", &format!("many/{n}"), "one of many", false);
    }
}

#[tokio::test]
async fn many_unread_ones_of_others_do_not_take_the_turn_of_a_task() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    p.after(90).await;
    let publication = p.work().await.publication.unwrap();
    assert_eq!(publication.pull_request.unwrap().checks.unwrap_or_default().passed, 0);
    open_many(&p, 120);
    // With less than half of the calls left, no other reading follows at once.
    p.host.leave_calls(2_400);
    p.host.check("team/app", &publication.branch, "build", Some(true));
    p.after(1_100).await;
    assert_eq!(p.sync().await.unread_count, 120 - 49);
    let shown = p.work().await.publication.unwrap().pull_request.unwrap();
    assert_eq!(shown.checks.unwrap().passed, 1);
}

#[tokio::test]
async fn what_a_token_may_not_read_is_said_also_after_a_reading_without_it() {
    let p = AtForge::new().await;
    open_many(&p, 60);
    p.host.refuse_path("/pulls/10/reviews", 403);
    p.after(1_100).await;
    let first = p.sync().await.left_out.unwrap();
    for _ in 0..2 {
        p.after(1_100).await;
        let why = p.sync().await.left_out.unwrap();
        assert_eq!((why.reason.as_str(), why.since_time), ("FORGE_FORBIDDEN", first.since_time));
    }
    p.host.refuse_no_path();
    for _ in 0..3 {
        p.after(1_100).await;
    }
    assert_eq!(p.sync().await.left_out, None);
}

#[tokio::test]
async fn an_owner_that_was_paused_overwrites_nothing_that_was_recorded_since() {
    let p = AtForge::new().await;
    p.host.open("team/app", "many/0", "of somebody", false);
    p.after(1_100).await;
    let id: RepositoryId = p.repository.repository_id.parse().unwrap();
    let find = async || repositories::find(&p.f.cx.store, &id).await.unwrap().unwrap();
    let paused = find().await;
    p.host.open("team/app", "many/1", "of somebody", false);
    p.after(1_100).await;
    let (current, recorded) = (find().await, p.sync().await);
    assert_eq!(recorded.open_count, 2);
    let reading = PullRequestReading { start_time: None, done: 1, total: 2 };
    let mut known = super::shown(&paused);
    let late = super::show_progress(&p.f.cx, (&paused, "h.example"), reading, &mut known).await;
    assert!(late.unwrap_err().is_concurrent_change());
    assert_eq!(p.sync().await, recorded);
    // The one that reads now shows it again and again.
    let mut known = super::shown(&current);
    for done in 1..3 {
        let reading = PullRequestReading { start_time: None, done, total: 2 };
        super::show_progress(&p.f.cx, (&current, "h.example"), reading, &mut known).await.unwrap();
        let shown = p.sync().await;
        assert_eq!((shown.reading.unwrap().done, shown.as_of), (done, recorded.as_of));
    }
}

#[tokio::test]
async fn who_has_opened_one_of_an_older_version_is_read_before_comments_are_trusted() {
    let p = AtForge::new().await;
    crate::testing::git(&p.f.path().join("team/app.git"), &["branch", "one", "main"]);
    p.host.open("team/app", "one", "of the team", false);
    p.host.comment("team/app", 1, "team", ("a.txt", 1), "Why?");
    let id: RepositoryId = p.repository.repository_id.parse().unwrap();
    let trusted = async || {
        let rows = pull_requests::all(&p.f.cx.store, &id).await.unwrap();
        rows[0].pull_request.remarks.iter().map(|remark| remark.trusted).collect::<Vec<_>>()
    };
    p.after(1_100).await;
    assert_eq!(trusted().await, [false]);
    let mut ws = WriteSet::new();
    let older = [("known", "{\"known\":{},\"asked\":false}".into())];
    ws.update_where(&pull_requests::PULL_REQUESTS, &[("branch", "one".into())], &older);
    p.f.cx.store.commit(ws).await.unwrap();
    p.after(1_100).await;
    assert_eq!(trusted().await, [false]);
}

/// A host that is too slow with the checks of the second of three.
struct Slow(Arc<MockClock>);

#[tonic::async_trait]
impl Forge for Slow {
    async fn find(&self, _: &str) -> foundry_forge::Result<Vec<Found>> {
        Ok(Vec::new())
    }
    async fn find_ended(&self, _: &str) -> foundry_forge::Result<Vec<Found>> {
        Ok(Vec::new())
    }
    async fn create(&self, _: &NewPullRequest) -> foundry_forge::Result<Found> {
        Err(ForgeError::new(ForgeErrorKind::Unusable, "nothing is created"))
    }
    async fn update(&self, _: u64, _: &str, _: &str) -> foundry_forge::Result<Found> {
        Err(ForgeError::new(ForgeErrorKind::Unusable, "nothing is changed"))
    }
    async fn read(&self, _: u64) -> foundry_forge::Result<Found> {
        Err(ForgeError::new(ForgeErrorKind::Unusable, "nothing has ended"))
    }
    async fn facts(&self, p: &Found, _: &Known) -> foundry_forge::Result<Facts> {
        assert!(p.number < 3, "no more is asked of a slow host");
        if p.number == 2 {
            tokio::task::yield_now().await;
            self.0.advance(super::gather::FACTS_AT_MOST);
            tokio::task::yield_now().await;
            self.0.advance(super::READ_AT_MOST);
            std::future::pending::<()>().await;
        }
        Ok(Facts::default())
    }
    async fn changed(&self, _: &str) -> foundry_forge::Result<Changed> {
        Ok(Changed { changed: true, mark: String::new() })
    }
    async fn list_open(&self, _: u32) -> foundry_forge::Result<Page> {
        let found = |number: u64| Found {
            number,
            head: format!("branch-{number}"),
            head_commit: "a".repeat(40),
            is_own: true,
            base: "main".to_owned(),
            title: "one of three".to_owned(),
            body: String::new(),
            url: String::new(),
            state: State::Open,
            draft: false,
            review_requested: false,
            author: "somebody".to_owned(),
        };
        Ok(Page { items: (1..=3).map(found).collect(), more: false })
    }
    fn budget(&self) -> Budget {
        Budget::default()
    }
}

#[tokio::test]
async fn what_was_read_of_a_slow_host_is_recorded_and_the_rest_is_left_to_the_next_reading() {
    let p = AtForge::new().await;
    let id = p.repository.repository_id.parse().unwrap();
    let r = repositories::find(&p.f.cx.store, &id).await.unwrap().unwrap();
    let (host, progress) = (Slow(Arc::clone(&p.f.env.clock)), super::gather::Progress::default());
    let gathering = Box::pin(super::gather::gather(&p.f.cx, &r, &host, &progress));
    let Ok(gathered) = super::in_time(&*p.f.env.env.clock, gathering).await else {
        panic!("what was read is lost");
    };
    assert_eq!((gathered.open, gathered.unread), (3, 2));
    assert_eq!(gathered.cut.unwrap().kind(), ForgeErrorKind::Unreachable);
}

#[tokio::test]
async fn one_whose_checks_cannot_be_read_holds_up_no_others() {
    let p = AtForge::new().await;
    for branch in ["one", "two"] {
        crate::testing::git(&p.f.path().join("team/app.git"), &["branch", branch, "main"]);
        p.host.open("team/app", branch, "of somebody", false);
    }
    p.host.refuse_path("/pulls/1/reviews", 422);
    p.after(1_100).await;
    assert_eq!((known(&p).await, p.sync().await.status()), (2, PullRequestSyncStatus::Current));
    let reviews =
        |n: u32| p.host.calls().iter().filter(|c| c.ends_with(&format!("/pulls/{n}/reviews"))).count();
    assert_eq!((reviews(1), reviews(2)), (1, 1));
}

#[tokio::test]
async fn a_permission_that_the_token_does_not_have_is_said_and_the_rest_is_read() {
    for (path, read) in [("/check-runs", "/pulls/1/reviews"), ("/pulls/1/reviews", "/check-runs")] {
        let p = AtForge::new().await;
        crate::testing::git(&p.f.path().join("team/app.git"), &["branch", "one", "main"]);
        p.host.open("team/app", "one", "of somebody", false);
        p.host.refuse_path(path, 403);
        p.after(1_100).await;
        let sync = p.sync().await;
        assert_eq!((known(&p).await, sync.status()), (1, PullRequestSyncStatus::Current), "{path}");
        let why = sync.left_out.unwrap();
        assert_eq!(why.reason, "FORGE_FORBIDDEN", "{path}");
        assert!(why.next_action.contains("token") && why.since_time.is_some(), "{why:?}");
        assert!(p.host.calls().iter().any(|call| call.contains(read)), "{path}");
        p.host.refuse_no_path();
        p.after(1_100).await;
        assert_eq!(p.sync().await.left_out, None, "{path}");
    }
}

#[tokio::test]
async fn a_host_that_stops_answering_in_between_is_left_alone_and_what_it_has_listed_is_shown() {
    let p = AtForge::new().await;
    for branch in ["one", "two"] {
        crate::testing::git(&p.f.path().join("team/app.git"), &["branch", branch, "main"]);
        p.host.open("team/app", branch, "of somebody", false);
    }
    p.host.refuse_path("/reviews", 429);
    p.after(1_100).await;
    let sync = p.sync().await;
    assert_eq!((known(&p).await, sync.open_count, sync.status()), (2, 2, PullRequestSyncStatus::Stale));
    let why = sync.stale.unwrap();
    assert_eq!((why.reason.as_str(), why.next_attempt_time), ("FORGE_RATE_LIMITED", sync.next_refresh_time));
    assert_eq!(p.host.calls().iter().filter(|call| call.ends_with("/reviews")).count(), 1);
}

#[tokio::test]
async fn another_credential_has_them_read_at_once_and_a_refresh_does_too() {
    let p = AtForge::new().await;
    p.publish(p.request()).await;
    p.after(90).await;
    p.host.refuse(401, "revoked");
    p.after(1_100).await;
    assert_eq!(p.sync().await.stale.unwrap().reason, "FORGE_CREDENTIALS_REFUSED");
    p.store_credential(true).await;
    assert_eq!(p.sync().await.status(), PullRequestSyncStatus::Current);
    p.after(5).await;
    let before = p.sync().await.as_of;
    let request = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
        repository_id: p.repository.repository_id.clone(),
        ..Default::default()
    };
    request_repository_refresh(&p.f.cx, &p.f.member, request).await.unwrap();
    p.f.engine.run_until_idle().await.unwrap();
    assert_ne!(p.sync().await.as_of, before);
}

#[tokio::test]
async fn one_whose_end_cannot_be_read_holds_up_nothing_that_was_read() {
    let p = AtForge::new().await;
    let branch = |name: &str| {
        crate::testing::git(&p.f.path().join("team/app.git"), &["branch", name, "main"]);
        p.host.open("team/app", name, "of somebody", false);
    };
    branch("one");
    branch("two");
    p.after(1_100).await;
    assert_eq!(known(&p).await, 2);
    p.host.close("team/app", 1);
    p.host.close("team/app", 2);
    branch("three");
    p.host.refuse_path("/pulls/1", 503);
    p.after(1_100).await;
    let sync = p.sync().await;
    assert_eq!((known(&p).await, sync.status()), (3, PullRequestSyncStatus::Stale));
    assert_eq!(sync.stale.unwrap().reason, "FORGE_UNREACHABLE");
    assert!(sync.as_of.is_some() && sync.open_count == 1);
}

#[tokio::test]
async fn a_reading_that_takes_too_long_ends_with_a_reason() {
    let env = foundry_testkit::test_env();
    let reading = super::in_time(&*env.env.clock, std::future::pending::<Result<(), Failure>>());
    let pass = async { env.clock.advance(super::READ_AT_MOST) };
    match futures::join!(reading, pass).0 {
        Err(Failure::Forge(e)) => {
            assert_eq!(e.reason(), "FORGE_UNREACHABLE");
            assert!(e.message().contains("in 4 minutes"), "{e}");
        }
        _ => panic!("it does not end"),
    }
}

/// A reading of pull requests after one was opened and another one closed.
struct Reading(AtForge);

impl Reading {
    async fn new() -> Of<Self> {
        let p = AtForge::new().await;
        for branch in ["one", "two"] {
            crate::testing::git(&p.f.path().join("team/app.git"), &["branch", branch, "main"]);
        }
        p.host.open("team/app", "one", "of somebody", false);
        p.after(1_100).await;
        assert_eq!(known(&p).await, 1);
        p.host.close("team/app", 1);
        p.host.open("team/app", "two", "of somebody else", false);
        Of(Self(p))
    }
}

#[tonic::async_trait]
impl Case for Reading {
    fn flow(&self) -> &'static Flow<Context> {
        &super::PULLS
    }
    fn fixture(&self) -> &crate::testing::Fixture {
        &self.0.f
    }
    async fn begin(&self) -> Result<String, Error> {
        let id = &self.0.repository.repository_id;
        let row = repositories::find(&self.0.f.cx.store, &id.parse()?).await?.unwrap();
        super::start(&self.0.f.cx, &row).await?;
        Ok(id.clone())
    }
    async fn effects(&self) -> Vec<String> {
        let id = self.0.repository.repository_id.parse().unwrap();
        let known = pull_requests::all(&self.0.f.cx.store, &id).await.unwrap();
        let shown = |p: &PullRequest| format!("{} is of {}, {:?}", p.number, p.branch, p.state());
        known.iter().map(|row| shown(&row.pull_request)).collect()
    }
    async fn shown(&self) -> String {
        let sync = self.0.sync().await;
        let stale = sync.stale.as_ref().map(|c| c.reason.clone());
        let line = "SELECT pull_polling || ' ' || pull_failures AS line FROM repositories";
        let row = crate::flow::tests::proofs::lines(&self.0.f, line).await;
        format!("{:?} {} {} {stale:?} {row:?}", sync.status(), sync.open_count, sync.truncated)
    }
}

#[tokio::test]
async fn a_reading_of_pull_requests_passes_all_proofs() {
    prove(&super::PULLS, Reading::new).await;
}
