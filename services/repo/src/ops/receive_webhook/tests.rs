use std::collections::BTreeMap;
use std::time::Duration;

use foundry_flow::Engine;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::create_repository_webhook_request::Target;
use foundry_proto::repo::v1::{
    BranchSyncSource, CreateRepositoryRequest, CreateRepositoryWebhookRequest,
    DeleteRepositoryWebhookRequest, ListRepositoryWebhooksRequest, RepositoryWebhook, RepositoryWebhookForge,
    RepositoryWebhookResult, WebhookHeader,
};
use futures::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::*;
use crate::domain::sync::is_missed;
use crate::flow::{bindings, forget_deliveries};
use crate::ops::create_repository::create_repository;
use crate::ops::create_repository_webhook::create_repository_webhook;
use crate::ops::delete_repository_webhook::delete_repository_webhook;
use crate::ops::list_repository_webhooks::list_repository_webhooks;
use crate::testing::{Fixture, git};

/// A webhook as its host knows it.
struct Hook {
    id: String,
    secret: String,
}

impl Hook {
    async fn add(f: &Fixture, target: Target) -> Self {
        let request = CreateRepositoryWebhookRequest {
            organization_id: f.organization.to_string(),
            target: Some(target),
            forge: RepositoryWebhookForge::Github.into(),
            ..Default::default()
        };
        let added = create_repository_webhook(&f.cx, &f.member, request).await.unwrap();
        Self {
            id: added.repository_webhook.unwrap().repository_webhook_id,
            secret: added.secret.unwrap().value,
        }
    }

    /// For the origin, which is mirrored.
    async fn of_origin(f: &Fixture) -> (Self, RepositoryId) {
        f.in_the_background().await;
        let id = f.mirrored().await.repository_id;
        (Self::add(f, Target::RepositoryId(id.clone())).await, id.parse().unwrap())
    }

    fn delivery(&self, id: &str, event: &str, body: &str) -> ReceiveWebhookRequest {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap().chain_update(body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let header =
            |name: &str, value: &str| WebhookHeader { name: name.to_owned(), value: value.to_owned() };
        ReceiveWebhookRequest {
            forge: "github".to_owned(),
            repository_webhook_id: self.id.clone(),
            headers: vec![
                header("x-github-event", event),
                header("x-github-delivery", id),
                header("x-hub-signature-256", &signature),
            ],
            body: body.as_bytes().to_vec().into(),
            peer_address: String::new(),
        }
    }
}

async fn receive(cx: &Context, request: ReceiveWebhookRequest) -> Result<ReceiveWebhookResponse> {
    receive_webhook(cx, &Caller::service("gateway"), request).await
}

async fn listed(f: &Fixture) -> Vec<RepositoryWebhook> {
    listed_by(&f.cx, f).await
}

async fn listed_by(cx: &Context, f: &Fixture) -> Vec<RepositoryWebhook> {
    let request =
        ListRepositoryWebhooksRequest { organization_id: f.organization.to_string(), ..Default::default() };
    list_repository_webhooks(cx, &f.member, request).await.unwrap().repository_webhooks
}

async fn count(f: &Fixture, sql: &'static str) -> usize {
    f.cx.store.query(sql, &[]).await.unwrap().len()
}

const DELIVERIES: &str = "SELECT delivery_id FROM webhook_deliveries";

/// Synchronizations that announcements have started.
async fn syncs(f: &Fixture) -> usize {
    let sql = "SELECT input FROM flows WHERE kind = 'repository_sync'";
    let rows = f.cx.store.query(sql, &[]).await.unwrap();
    rows.iter().filter(|row| row.blob("input").unwrap() == "\"webhook\"").count()
}

async fn after(f: &Fixture, seconds: u64) {
    f.env.clock.advance(Duration::from_secs(seconds));
    f.engine.run_until_idle().await.unwrap();
}

async fn row(f: &Fixture, id: &RepositoryId) -> crate::domain::repository::Repository {
    f.cx.repository(&f.member, id.as_str(), Role::Viewer).await.unwrap()
}

#[tokio::test]
async fn a_push_is_read_at_once_and_what_follows_in_the_burst_together() {
    let f = Fixture::new().await;
    let (hook, id) = Hook::of_origin(&f).await;
    after(&f, 100).await;
    git(&f.origin, &["branch", "pushed"]);
    let first = receive(&f.cx, hook.delivery("d-0", "push", "{}")).await.unwrap();
    assert_eq!((first.result(), first.duplicate), (RepositoryWebhookResult::Branches, false));
    f.engine.run_until_idle().await.unwrap();
    let sync = row(&f, &id).await.to_proto().branch_sync.unwrap();
    assert_eq!((sync.source(), row(&f, &id).await.branch_count), (BranchSyncSource::Webhook, 2));
    for n in 1..100 {
        receive(&f.cx, hook.delivery(&format!("d-{n}"), "push", "{}")).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
    }
    assert_eq!(syncs(&f).await, 1, "those of a burst are not read one by one");
    git(&f.origin, &["branch", "pushed-too"]);
    after(&f, 2).await;
    assert_eq!((syncs(&f).await, row(&f, &id).await.branch_count), (2, 3));
    after(&f, 60).await;
    assert_eq!(syncs(&f).await, 2);
}

#[tokio::test]
async fn a_push_that_is_announced_while_a_synchronization_runs_is_read_after_it() {
    let f = Fixture::new().await;
    let (hook, id) = Hook::of_origin(&f).await;
    after(&f, 100).await;
    let request = foundry_proto::repo::v1::RequestRepositoryRefreshRequest {
        repository_id: id.to_string(),
        ..Default::default()
    };
    crate::ops::request_repository_refresh::request_repository_refresh(&f.cx, &f.member, request)
        .await
        .unwrap();
    receive(&f.cx, hook.delivery("d", "push", "{}")).await.unwrap();
    f.engine.run_until_idle().await.unwrap();
    after(&f, 2).await;
    assert_eq!(syncs(&f).await, 1);
    assert!(!row(&f, &id).await.sync.announced);
}

#[tokio::test]
async fn a_used_repository_with_a_working_webhook_is_polled_seldom_until_deliveries_stop() {
    let f = Fixture::new().await;
    let (hook, id) = Hook::of_origin(&f).await;
    let polled_in = async || {
        let mut ws = WriteSet::new();
        background::used(&f.cx, &mut ws, &id);
        f.cx.store.commit(ws).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let next = row(&f, &id).await.sync.next;
        next.since(f.env.env.clock.now()).as_secs()
    };
    assert!(polled_in().await <= 72);
    // A test of the host says nothing about pushes.
    receive(&f.cx, hook.delivery("d-0", "ping", "{}")).await.unwrap();
    assert!(polled_in().await <= 72);
    after(&f, 10).await;
    receive(&f.cx, hook.delivery("d-1", "push", "{}")).await.unwrap();
    assert!(polled_in().await >= 700);
    assert!(row(&f, &id).await.to_proto().branch_sync.unwrap().announce_time.is_some());
    // A change that was not announced is found by a poll in the end.
    git(&f.origin, &["branch", "unannounced"]);
    after(&f, 1_100).await;
    assert_eq!(row(&f, &id).await.branch_count, 2);
    assert!(polled_in().await <= 72, "announcements cannot be relied on");
    after(&f, 10).await;
    receive(&f.cx, hook.delivery("d-2", "push", "{}")).await.unwrap();
    assert!(polled_in().await >= 700);
    // A poll may be faster than an announcement that is on its way, or was on its way when the poll began.
    let facts = row(&f, &id).await.sync;
    let seconds = |n| facts.announce_time.plus(Duration::from_secs(n));
    assert!(
        !is_missed(&facts, seconds(0)) && !is_missed(&facts, seconds(60)) && is_missed(&facts, seconds(61))
    );
    // A day passes without any.
    f.env.clock.advance(Duration::from_secs(24 * 3600));
    f.engine.run_until_idle().await.unwrap();
    assert!(polled_in().await <= 72);
}

#[tokio::test]
async fn a_failing_repository_is_tried_once_for_an_announcement_and_not_again_and_again() {
    let f = Fixture::new().await;
    let (hook, id) = Hook::of_origin(&f).await;
    std::fs::rename(&f.origin, f.path().join("away")).unwrap();
    after(&f, 100).await;
    receive(&f.cx, hook.delivery("d-0", "push", "{}")).await.unwrap();
    for _ in 0..60 {
        after(&f, 5).await;
    }
    assert_eq!(row(&f, &id).await.state, crate::domain::repository::State::Error);
    assert_eq!(syncs(&f).await, 1);
    std::fs::rename(f.path().join("away"), &f.origin).unwrap();
    receive(&f.cx, hook.delivery("d-1", "push", "{}")).await.unwrap();
    after(&f, 30).await;
    assert_eq!(row(&f, &id).await.state, crate::domain::repository::State::Ready);
}

#[tokio::test]
async fn an_unknown_webhook_and_a_wrong_secret_are_refused_alike_before_anything_is_read() {
    let f = Fixture::new().await;
    let (hook, _) = Hook::of_origin(&f).await;
    let good = hook.delivery("d", "push", "no JSON, and it does not matter");
    let mut forged = good.clone();
    forged.body = b"{}".to_vec().into();
    let mut unsigned = good.clone();
    unsigned.headers.pop();
    let unknown = foundry_core::RepositoryWebhookId::generate(&f.env.env).to_string();
    let at = |id: &str, forge: &str| ReceiveWebhookRequest {
        repository_webhook_id: id.to_owned(),
        forge: forge.to_owned(),
        ..good.clone()
    };
    let mut texts = Vec::new();
    for (request, code) in [
        (forged, Code::Unauthenticated),
        (unsigned, Code::Unauthenticated),
        (at(&unknown, "github"), Code::NotFound),
        (at("../x", "github"), Code::NotFound),
        (at("", "github"), Code::NotFound),
        (at(&hook.id, "gitlab"), Code::NotFound),
        (at(&hook.id, "bitbucket"), Code::NotFound),
    ] {
        let refused = receive(&f.cx, request).await.unwrap_err();
        assert_eq!(refused.code(), code);
        texts.push((refused.reason(), refused.message().to_owned()));
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_eq!((count(&f, DELIVERIES).await, listed(&f).await[0].last_delivery.clone()), (0, None));
    // Those for another address or kind of host are not its own.
    assert_eq!(listed(&f).await[0].refusals.as_ref().unwrap().count, 2);
    // With the right signature it is read.
    for _ in 0..2 {
        assert_eq!(receive(&f.cx, good.clone()).await.unwrap_err().reason(), "WEBHOOK_MALFORMED");
    }
    let last = listed(&f).await[0].last_delivery.clone().unwrap();
    assert_eq!((last.event.as_str(), last.result()), ("push", RepositoryWebhookResult::Unreadable));
    // So is one without an id, which is not kept.
    let mut nameless = hook.delivery("e", "ping", "{}");
    nameless.headers.retain(|it| it.name != "x-github-delivery");
    assert_eq!(receive(&f.cx, nameless).await.unwrap_err().reason(), "WEBHOOK_MALFORMED");
    let last = listed(&f).await[0].last_delivery.clone().unwrap();
    assert_eq!((last.event.as_str(), last.result()), ("ping", RepositoryWebhookResult::Unreadable));
    assert_eq!(count(&f, DELIVERIES).await, 1);
    let request =
        DeleteRepositoryWebhookRequest { repository_webhook_id: hook.id.clone(), ..Default::default() };
    delete_repository_webhook(&f.cx, &f.member, request).await.unwrap();
    assert_eq!(receive(&f.cx, good).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn refused_deliveries_are_shown_with_their_count_and_address_and_cause_few_commits() {
    let f = Fixture::new().await;
    let (hook, _) = Hook::of_origin(&f).await;
    assert_eq!(listed(&f).await[0].refusals, None);
    let head = async || f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap();
    let before = head().await;
    let forged = |address: &str| {
        let mut it = hook.delivery("d", "push", "{}");
        it.body = b"{ }".to_vec().into();
        it.peer_address = address.to_owned();
        it
    };
    for n in 0..40 {
        receive(&f.cx, forged(&format!("192.0.2.{n}"))).await.unwrap_err();
        f.env.clock.advance(Duration::from_millis(100));
    }
    let shown = listed(&f).await[0].refusals.clone().unwrap();
    assert_eq!((shown.count, shown.last_address.as_str(), head().await), (40, "192.0.2.39", before + 1));
    f.env.clock.advance(Duration::from_secs(10));
    // Another process does not know what this one has counted, and what is no address is not shown.
    let beside = f.beside().await;
    receive(&beside, forged("\u{202e}x")).await.unwrap_err();
    let shown = listed_by(&beside, &f).await[0].refusals.clone().unwrap();
    assert_eq!((shown.count, shown.last_address.as_str(), head().await), (2, "", before + 2));
    assert_eq!(listed(&f).await[0].refusals.as_ref().unwrap().count, 41);
    f.env.clock.advance(Duration::from_secs(10));
    let at = f.env.env.clock.now();
    receive(&f.cx, forged("2001:DB8::1")).await.unwrap_err();
    let shown = listed(&f).await[0].refusals.clone().unwrap();
    assert_eq!((shown.count, shown.last_address.as_str()), (42, "2001:db8::1"));
    assert_eq!(shown.last_time, Some(at.to_proto()));
    receive(&f.cx, hook.delivery("e", "push", "{}")).await.unwrap();
    assert_eq!(listed(&f).await[0].refusals, Some(shown), "an accepted one takes nothing back");
}

#[tokio::test]
async fn the_webhook_of_a_host_refreshes_the_repository_that_is_named_in_its_organization_alone() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for (caller, name) in [(&f.member, "app"), (&f.member, "other"), (&f.stranger, "app")] {
        let request = CreateRepositoryRequest {
            request_id: String::new(),
            organization_id: caller.memberships()[0].organization_id.to_string(),
            url: format!("http://127.0.0.1:1/acme/{name}.git"),
            ..f.create()
        };
        let created = create_repository(&f.cx, caller, request).await.unwrap().repository.unwrap();
        ids.push(created.repository_id.parse::<RepositoryId>().unwrap());
    }
    let hook = Hook::add(&f, Target::Host("127.0.0.1".to_owned())).await;
    let body = |name: &str| format!(r#"{{"repository": {{"full_name": "{name}"}}}}"#);
    let announced = async || {
        let mut found = Vec::new();
        for id in &ids {
            found.push(repositories::find(&f.cx.store, id).await.unwrap().unwrap().sync.announced);
        }
        found
    };
    for (n, name) in ["acme/another", "cme/app", ""].into_iter().enumerate() {
        let answer = receive(&f.cx, hook.delivery(&format!("u-{n}"), "push", &body(name))).await.unwrap();
        assert_eq!(answer.result(), RepositoryWebhookResult::Unmatched, "{name}");
    }
    let nameless = receive(&f.cx, hook.delivery("n", "push", "{}")).await.unwrap();
    assert_eq!(nameless.result(), RepositoryWebhookResult::Unmatched);
    let pulls = receive(&f.cx, hook.delivery("p", "pull_request", &body("acme/app"))).await.unwrap();
    assert_eq!(pulls.result(), RepositoryWebhookResult::PullRequests);
    assert_eq!(announced().await, [false, false, false]);
    let pulls = repositories::find(&f.cx.store, &ids[0]).await.unwrap().unwrap().pulls;
    assert_eq!((pulls.source.as_str(), pulls.next), ("webhook", f.env.env.clock.now()));
    let push = receive(&f.cx, hook.delivery("b", "push", &body("Acme/App"))).await.unwrap();
    assert_eq!(push.result(), RepositoryWebhookResult::Branches);
    assert_eq!(announced().await, [true, false, false]);
    // One for a repository refuses to speak for another one.
    let own = Hook::add(&f, Target::RepositoryId(ids[1].to_string())).await;
    let other = receive(&f.cx, own.delivery("b", "push", &body("acme/app"))).await.unwrap();
    assert_eq!(other.result(), RepositoryWebhookResult::Unmatched);
}

#[tokio::test]
async fn a_deletion_at_the_host_is_shown_and_nothing_is_done() {
    let f = Fixture::new().await;
    let (hook, id) = Hook::of_origin(&f).await;
    let before = f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap();
    let body = r#"{"action": "deleted", "repository": {"full_name": "acme/app"}}"#;
    let answer = receive(&f.cx, hook.delivery("d", "repository", body)).await.unwrap();
    assert_eq!(answer.result(), RepositoryWebhookResult::Noted);
    let shown = listed(&f).await[0].notice.clone().unwrap();
    assert_eq!(
        (shown.reason.as_str(), shown.message.as_str()),
        ("REPOSITORY_DELETED_AT_HOST", "the host reports that acme/app was deleted")
    );
    assert!(f.cx.store.head(&Scope::organization(&f.organization)).await.unwrap() > before, "pages load it");
    f.engine.run_until_idle().await.unwrap();
    assert_eq!(row(&f, &id).await.state, crate::domain::repository::State::Ready);
    receive(&f.cx, hook.delivery("e", "push", "{}")).await.unwrap();
    assert_eq!(listed(&f).await[0].notice.clone().unwrap().reason, "REPOSITORY_DELETED_AT_HOST");
}

#[tokio::test]
async fn a_delivery_is_recognized_for_seven_days_and_leads_to_one_more_refresh_after_them() {
    let f = Fixture::new().await;
    let (hook, _) = Hook::of_origin(&f).await;
    forget_deliveries::ensure(&f.cx).await.unwrap();
    let delivery = hook.delivery("d", "push", "{}");
    receive(&f.cx, delivery.clone()).await.unwrap();
    for _ in 0..2 {
        f.env.clock.advance(Duration::from_secs(3 * 86_400));
        f.engine.run_until_idle().await.unwrap();
        assert!(receive(&f.cx, delivery.clone()).await.unwrap().duplicate);
    }
    f.env.clock.advance(Duration::from_secs(86_400 + 3_600));
    f.engine.run_until_idle().await.unwrap();
    assert_eq!(count(&f, DELIVERIES).await, 0);
    assert!(!receive(&f.cx, delivery).await.unwrap().duplicate);
    assert_eq!(count(&f, DELIVERIES).await, 1);
}

/// SplitMix64: the same order in every run.
fn below(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % u64::try_from(limit).unwrap()).unwrap()
}

const REPOSITORIES: usize = 4;
const AT_ONCE: usize = 25;

/// 1,000 deliveries, each three times, 300 of the 3,000 with a wrong signature, in a seeded order.
fn shuffled(hooks: &[Hook]) -> Vec<(usize, ReceiveWebhookRequest)> {
    let events =
        ["push", "create", "delete", "pull_request", "check_run", "status", "ping", "issues", "star", "push"];
    let mut all = Vec::new();
    for n in 0..1_000 {
        let hook = &hooks[n % hooks.len()];
        let delivery =
            hook.delivery(&format!("delivery-{n}"), events[(n / hooks.len()) % events.len()], "{}");
        for copy in 0..3 {
            let mut sent = delivery.clone();
            if n % 10 == copy {
                sent.body = b"{ }".to_vec().into();
            }
            all.push((n, sent));
        }
    }
    let mut seed = 11;
    for i in (1..all.len()).rev() {
        all.swap(i, below(&mut seed, i + 1));
    }
    all
}

#[tokio::test]
async fn a_thousand_deliveries_each_three_times_across_a_restart_have_their_effects_once() {
    let f = Fixture::new().await;
    f.in_the_background().await;
    let (mut hooks, mut ids, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..REPOSITORIES {
        let origin = f.path().join(format!("origin-{n}"));
        git(f.path(), &["clone", "-q", f.origin.to_str().unwrap(), origin.to_str().unwrap()]);
        let url = origin.display().to_string();
        let request = CreateRepositoryRequest { request_id: String::new(), url, ..f.create() };
        let id =
            create_repository(&f.cx, &f.member, request).await.unwrap().repository.unwrap().repository_id;
        hooks.push(Hook::add(&f, Target::RepositoryId(id.clone())).await);
        ids.push(id.parse::<RepositoryId>().unwrap());
        origins.push(origin);
    }
    f.engine.run_until_idle().await.unwrap();
    let sent = shuffled(&hooks);
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let (mut cx, mut later) = (f.cx.clone(), None::<Engine>);
    for (round, batch) in sent.chunks(AT_ONCE).enumerate() {
        if round == sent.len() / AT_ONCE / 2 {
            // What the first process had begun or not yet begun is in its rows alone.
            cx = f.beside().await;
            let options = foundry_flow::Options::default();
            later = Some(Engine::new(cx.store.clone(), f.env.env.clone(), bindings(&cx), options).unwrap());
        }
        let received = join_all(batch.iter().map(|(_, delivery)| receive(&cx, delivery.clone()))).await;
        for answer in received {
            let name = match answer {
                Ok(answer) if answer.duplicate => "duplicate".to_owned(),
                Ok(answer) => answer.result().as_str_name().replace("REPOSITORY_WEBHOOK_RESULT_", ""),
                Err(e) => e.reason().to_owned(),
            };
            *answers.entry(name).or_default() += 1;
        }
        f.env.clock.advance(Duration::from_secs(1));
        if round % 3 == 0 {
            later.as_ref().unwrap_or(&f.engine).run_until_idle().await.unwrap();
        }
    }
    let expected = [
        ("BRANCHES", 400),
        ("IGNORED", 200),
        ("PING", 100),
        ("PULL_REQUESTS", 300),
        ("WEBHOOK_REFUSED", 300),
        ("duplicate", 1_700),
    ];
    assert_eq!(answers, expected.map(|(name, n)| (name.to_owned(), n)).into());
    assert_eq!(count(&f, DELIVERIES).await, 1_000);
    // What was pushed before the last announcements is read, and there is nothing left to read.
    origins.iter().for_each(|origin| drop(git(origin, &["branch", "late"])));
    let (engine, rounds) = (later.unwrap(), sent.len() / AT_ONCE / 3 + 2);
    for (hook, n) in hooks.iter().zip(1_000..) {
        receive(&cx, hook.delivery(&format!("delivery-{n}"), "push", "{}")).await.unwrap();
    }
    for _ in 0..3 {
        f.env.clock.advance(Duration::from_secs(2));
        engine.run_until_idle().await.unwrap();
    }
    for id in &ids {
        let row = row(&f, id).await;
        assert_eq!((row.branch_count, row.sync.announced), (2, false), "{id}");
    }
    let syncs = syncs(&f).await;
    assert!((REPOSITORIES..=REPOSITORIES * rounds).contains(&syncs), "{syncs} for 404 announcements");
}
