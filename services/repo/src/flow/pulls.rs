//! Reads the pull requests of repositories: in the background, after one was published, and when a host reports a change.

mod gather;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use foundry_core::{Clock, FlowId, RepositoryId, Result, Timestamp};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, stage};
use foundry_forge::{Budget, ForgeError, ForgeErrorKind, LONGEST_WAIT};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{PullRequestReading, PullRequestSync, PullRequestSyncStatus};
use foundry_store::{CommitError, Guard, Scope, Value, WriteSet};

use super::background;
use crate::broker;
use crate::context::Context;
use crate::domain::pull_request::{BETWEEN_REPORTED, KEPT_SHARE, WEBHOOK, next_action, show_budget, source};
use crate::domain::repository::{Repository, State};
use crate::domain::sync::{FailingHost, chosen, is_active};
use crate::store::remote_hosts;
use crate::store::repositories::{self, REPOSITORIES};

/// Key and subject are the repository's id.
pub static PULLS: Flow<Context> = Flow::new(
    "pull_request_sync",
    &[Stage::new(
        "reading",
        Duration::from_secs(5 * 60),
        Retry { initial: Duration::from_secs(2), factor: 4, max_delay: Duration::from_secs(60), budget: 3 },
        |cx, flow| stage(read(cx, flow)),
    )],
)
// They wait for hosts.
.concurrency(8);

/// How long the calls of one reading may take: less than its stage, so that it can say why it ended.
const READ_AT_MOST: Duration = Duration::from_secs(4 * 60);
/// A reading that takes longer is shown with how far it is, so often at most.
const SHOWN_EVERY: Duration = Duration::from_secs(2);
/// While more than this part of the host's calls is left, a reading that leaves some unread is followed by another.
const SPENT_SHARE: u32 = 2;
/// Most due repositories that are looked at.
const READ_AT_ONCE: u32 = 200;

/// What the breaker of the API of a host is called; the host itself may answer git.
fn breaker(host: &str) -> String {
    format!("api/{host}")
}

/// Has the pull requests of a repository read soon, or when the host answers calls again.
pub fn want(cx: &Context, ws: &mut WriteSet, r: &Repository, source: &'static str) {
    let Some(next) = r.pulls.wanted(source, cx.env.clock.now()) else { return };
    let soon = [("pull_next_time", next.into()), ("pull_source", source.into())];
    ws.update_where(&REPOSITORIES, &[("repository_id", r.repository_id.as_str().into())], &soon);
    background::wake(cx, ws);
}

/// Puts off what the host has reported during a reading, until this time.
async fn put_off(cx: &Context, ws: &mut WriteSet, id: &RepositoryId, until: Timestamp) -> Result<()> {
    let Some(found) = repositories::find(&cx.store, id).await? else { return Ok(()) };
    let next = found.pulls.next;
    if found.pulls.source == WEBHOOK && next > Timestamp::default() && next < until {
        let is = [
            ("repository_id", id.as_str().into()),
            ("pull_next_time", next.into()),
            ("pull_source", WEBHOOK.into()),
        ];
        ws.update_where(&REPOSITORIES, &is, &[("pull_next_time", until.into())]);
    }
    Ok(())
}

/// Starts reading where it is due and there is room, organizations in turns; whether others may be due behind them.
pub async fn start_due(cx: &Context, now: Timestamp) -> Result<bool> {
    let running = running(cx).await?;
    let each = u32::try_from(cx.pace.of_one_organization()).unwrap_or(u32::MAX);
    let due = repositories::pulls_due(&cx.store, now, each, READ_AT_ONCE).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let hosts = remote_hosts::all(&cx.store).await?;
    let (mut ready, mut put_off) = (Vec::new(), false);
    for r in due {
        let host = broker::place(cx, &r).map(|place| breaker(&place.host)).unwrap_or_default();
        match hosts.get(&host).filter(|failing| failing.asked_next > now) {
            Some(failing) => {
                hold(cx, &r, failing).await?;
                put_off = true;
            }
            None => ready.push((r.organization_id.to_string(), r)),
        }
    }
    for r in chosen(ready, &running, &cx.pace).0 {
        start(cx, &r).await?;
    }
    Ok(put_off)
}

/// How many are being read, by organization; frees the places of those that have ended without doing so.
async fn running(cx: &Context) -> Result<HashMap<String, usize>> {
    let mut running: HashMap<String, usize> = HashMap::new();
    for (id, organization) in repositories::pulls_polled(&cx.store).await? {
        if foundry_flow::unfinished(&cx.store, &PULLS, &id).await?.is_empty() {
            let mut ws = WriteSet::new();
            let next = cx.env.clock.now().plus(cx.pace.active);
            let key = [("repository_id", id.as_str().into()), ("pull_polling", 1.into())];
            ws.update_where(
                &REPOSITORIES,
                &key,
                &[("pull_polling", 0.into()), ("pull_next_time", next.into())],
            );
            not_reading(cx, &mut ws, &id.parse()?).await?;
            cx.store.commit(ws).await?;
        } else {
            *running.entry(organization).or_default() += 1;
        }
    }
    Ok(running)
}

/// Takes back what a reading has shown that ended without a result.
async fn not_reading(cx: &Context, ws: &mut WriteSet, id: &RepositoryId) -> Result<()> {
    let Some(r) = repositories::find(&cx.store, id).await? else { return Ok(()) };
    let Some(sync) = r.pulls.sync.as_ref().filter(|sync| sync.reading.is_some()) else { return Ok(()) };
    let rev = ws.scope(Scope::organization(&r.organization_id));
    let sync = PullRequestSync { reading: None, ..sync.clone() };
    let set = [("rev", rev.into()), ("pull_sync", prost::Message::encode_to_vec(&sync).into())];
    // What was recorded since stays.
    let is = [("repository_id", id.as_str().into()), ("pull_sync", shown(&r).into())];
    ws.update_where(&REPOSITORIES, &is, &set);
    Ok(())
}

/// What is stored of how new the pull requests are.
fn shown(r: &Repository) -> Vec<u8> {
    r.pulls.sync.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default()
}

/// Puts a repository off whose host is left alone for a while, and says so.
async fn hold(cx: &Context, r: &Repository, failing: &FailingHost) -> Result<()> {
    let spread = Duration::from_secs(30).mul_f64(cx.env.random.fraction());
    let next = failing.asked_next.plus(spread);
    let mut ws = WriteSet::new();
    let mut sync = r.pulls.sync.clone().unwrap_or_default();
    if let Some(stale) = &mut sync.stale {
        stale.next_attempt_time = Some(next.to_proto());
    }
    show(&mut ws, r, sync, next, &[]);
    match cx.store.commit(ws).await {
        Ok(_) => Ok(()),
        Err(e) if e.is_concurrent_change() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

async fn start(cx: &Context, r: &Repository) -> Result<()> {
    let id = r.repository_id.as_str();
    let mut ws = WriteSet::new();
    let guards = [
        ("pull_polling", 0.into()),
        ("pull_next_time", r.pulls.next.into()),
        ("state", r.state.as_str().into()),
    ];
    // What wants it from here on makes it due again.
    let set = [("pull_polling", 1.into()), ("pull_source", "".into()), ("pull_next_time", 0.into())];
    ws.update(&REPOSITORIES, &[id.into()], &set, &guards);
    let flow = NewFlow::new(&PULLS, FlowId::generate(&cx.env), id, id)
        .organization(&r.organization_id)
        .input(&r.pulls.source)?;
    foundry_flow::enqueue(&mut ws, flow);
    match cx.store.commit(ws).await {
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(e) if e.is_concurrent_change() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Shows how new the pull requests are, and when they are read next.
fn show(
    ws: &mut WriteSet,
    r: &Repository,
    sync: PullRequestSync,
    next: Timestamp,
    more: &[(&'static str, Value)],
) {
    // Its deletion may have come between.
    ws.guard(Guard::exists(&REPOSITORIES, &[("repository_id", r.repository_id.as_str().into())]));
    let rev = ws.scope(Scope::organization(&r.organization_id));
    let sync = PullRequestSync { next_refresh_time: Some(next.to_proto()), reading: None, ..sync };
    let mut set = vec![("rev", rev.into()), ("pull_sync", prost::Message::encode_to_vec(&sync).into())];
    set.extend_from_slice(more);
    let key = [("repository_id", r.repository_id.as_str().into())];
    ws.update_where(&REPOSITORIES, &key, &set);
    // What wants it read in between is not put off.
    for unset in [r.pulls.next, Timestamp::default()] {
        let is = [key[0].clone(), ("pull_next_time", unset.into())];
        ws.update_where(&REPOSITORIES, &is, &[("pull_next_time", next.into())]);
    }
}

/// Reads the pull requests of one repository.
async fn read(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let id: RepositoryId = flow.subject_id().parse()?;
    let found = repositories::find(&cx.store, &id).await?.filter(|r| r.state != State::Deleting);
    let Some(repository) = found else { return Ok(Outcome::done()) };
    let begin = cx.env.clock.now();
    let Ok(place) = broker::place(cx, &repository) else {
        return Ok(Outcome::done().recording(off(&repository)));
    };
    let mut shown = shown(&repository);
    let (forge, gathered) = loop {
        let forge = match broker::forge(cx, &repository).await {
            Ok(forge) => forge,
            Err(e) if !e.reason().is_empty() && e.code() != foundry_core::Code::Internal => {
                let why = (e.reason(), e.message(), cx.env.clock.now().plus(cx.pace.idle));
                let before = repository.pulls.sync.clone().unwrap_or_default();
                let mut ws = WriteSet::new();
                stale(cx, &mut ws, &repository, before, &place.host, why);
                return Ok(Outcome::done().recording(ws));
            }
            Err(e) => return Err(e),
        };
        let progress = gather::Progress::default();
        let gathering = Box::pin(gather::gather(cx, &repository, &*forge.api, &progress));
        let gathered = tokio::select! {
            gathered = in_time(&*cx.env.clock, gathering) => gathered,
            never = show_reading(cx, (&repository, &place.host), (begin, &progress), &mut shown) => match never {},
            () = flow.cancellation().cancelled() => return Ok(Outcome::retry("STOPPED", "the reading was stopped")),
        };
        match &gathered {
            Err(gather::Failure::Forge(e)) if forge.is_outdated(cx, e) => {}
            _ => break (forge.api, gathered),
        }
    };
    let mut ws = WriteSet::new();
    let until = match gathered {
        Ok(gathered) => {
            let source = source(flow.flow().input.as_str().unwrap_or_default());
            let sync = PullRequestSync {
                as_of: Some(begin.to_proto()),
                source: source.into(),
                ..PullRequestSync::default()
            };
            remote_hosts::answered(&mut ws, &breaker(&place.host));
            record(cx, &mut ws, (&repository, &place.host), sync, (gathered, forge.budget()))?
        }
        Err(gather::Failure::Other(e)) => return Err(e),
        Err(gather::Failure::Forge(e)) => {
            if e.kind() == ForgeErrorKind::Unreachable {
                let key = breaker(&place.host);
                let before = remote_hosts::all(&cx.store).await?.remove(&key);
                remote_hosts::put(&mut ws, &key, &FailingHost::failed(before.as_ref(), cx.env.clock.now()));
            }
            let before = repository.pulls.sync.clone().unwrap_or_default();
            failed(cx, &mut ws, (&repository, &place.host), before, (&e, forge.budget()))
        }
    };
    put_off(cx, &mut ws, &id, until).await?;
    Ok(Outcome::done().recording(ws))
}

/// Shows how far a reading is, if it takes longer.
async fn show_reading(
    cx: &Context,
    of: (&Repository, &str),
    (begin, progress): (Timestamp, &gather::Progress),
    shown: &mut Vec<u8>,
) -> Infallible {
    let mut last = None;
    loop {
        cx.env.clock.sleep(SHOWN_EVERY).await;
        let (done, total) = progress.now();
        if last == Some((done, total)) {
            continue;
        }
        let reading = PullRequestReading { start_time: Some(begin.to_proto()), done, total };
        match show_progress(cx, of, reading, shown).await {
            Ok(()) => last = Some((done, total)),
            // Somebody else reads them by now.
            Err(e) if e.is_concurrent_change() => std::future::pending().await,
            Err(e) => {
                tracing::debug!(repository = %of.0.repository_id, "how far a reading is was not shown: {e}");
            }
        }
    }
}

/// Shows how far a reading is, beside what was known when it began. That is a write without the epoch of the flow: it fails
/// unless what is stored is still what this reading has found or shown, as the owner may have been paused.
async fn show_progress(
    cx: &Context,
    (r, host): (&Repository, &str),
    reading: PullRequestReading,
    shown: &mut Vec<u8>,
) -> Result<(), CommitError> {
    let before = r.pulls.sync.clone().unwrap_or_default();
    let sync = PullRequestSync { reading: Some(reading), host: host.to_owned(), ..before };
    let new = prost::Message::encode_to_vec(&sync);
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&r.organization_id));
    let set = [("rev", rev.into()), ("pull_sync", new.clone().into())];
    let guards = [("pull_sync", shown.clone().into())];
    ws.update(&REPOSITORIES, &[r.repository_id.as_str().into()], &set, &guards);
    cx.store.commit(ws).await?;
    *shown = new;
    Ok(())
}

/// A reading that ends in time, or says that it did not.
async fn in_time<T>(
    clock: &dyn Clock,
    reading: impl Future<Output = Result<T, gather::Failure>>,
) -> Result<T, gather::Failure> {
    tokio::select! {
        biased;
        read = reading => read,
        () = clock.sleep(READ_AT_MOST) => {
            let minutes = READ_AT_MOST.as_secs() / 60;
            let text = format!("the API of the host has not answered all calls of a reading in {minutes} minutes");
            Err(gather::Failure::Forge(ForgeError::new(ForgeErrorKind::Unreachable, text)))
        }
    }
}

/// Records what was read; returns until when nothing is read for what the host reports.
fn record(
    cx: &Context,
    ws: &mut WriteSet,
    (r, host): (&Repository, &str),
    sync: PullRequestSync,
    (gathered, budget): (gather::Gathered, Budget),
) -> Result<Timestamp> {
    let now = cx.env.clock.now();
    gathered.writes(ws, r)?;
    let left_out = match &gathered.denied {
        Some(e) => Some(left_out(r, e, now)),
        // It is said until all have been read without a refusal, not for those of the last reading alone.
        None if gathered.still_denied || gathered.asked == 0 => {
            r.pulls.sync.as_ref().and_then(|before| before.left_out.clone())
        }
        None => None,
    };
    let mut sync = PullRequestSync {
        left_out,
        open_count: i32::try_from(gathered.open).unwrap_or(i32::MAX),
        truncated: gathered.truncated,
        unread_count: i32::try_from(gathered.unread).unwrap_or(i32::MAX),
        ..sync
    };
    if let Some(e) = &gathered.cut {
        let key = [("repository_id", r.repository_id.as_str().into())];
        ws.update_where(&REPOSITORIES, &key, &[("pull_mark", gathered.mark.into())]);
        return Ok(failed(cx, ws, (r, host), sync, (e, budget)));
    }
    sync.status = PullRequestSyncStatus::Current.into();
    host.clone_into(&mut sync.host);
    show_budget(&mut sync, budget);
    let another = gathered.unfinished || (gathered.unread > 0 && !budget.is_below(SPENT_SHARE));
    let mut next = now.plus(if another { Duration::ZERO } else { delay(cx, r, 0, now) });
    let mut until = now.plus(BETWEEN_REPORTED);
    if budget.is_below(KEPT_SHARE) {
        let reset = Timestamp::from_micros(budget.reset.saturating_mul(1_000_000));
        // Some hosts say it in other units.
        next = next.max(reset.min(now.plus(LONGEST_WAIT)));
        until = next;
    }
    let more = [("pull_polling", 0.into()), ("pull_failures", 0.into()), ("pull_mark", gathered.mark.into())];
    show(ws, r, sync, next, &more);
    background::wake(cx, ws);
    Ok(until)
}

/// Why checks or reviews are not shown, and since when.
fn left_out(r: &Repository, e: &ForgeError, now: Timestamp) -> Condition {
    let before = r.pulls.sync.as_ref().and_then(|sync| sync.left_out.as_ref());
    Condition {
        reason: e.reason().to_owned(),
        message: format!("the credential may not read all checks and reviews: {}", e.message()),
        since_time: before.and_then(|before| before.since_time).or_else(|| Some(now.to_proto())),
        next_action: "store a token that may read checks, commit statuses and pull requests".to_owned(),
        ..Condition::default()
    }
}

/// Records that the host refused a call, or did not answer it; returns until when it is not asked.
fn failed(
    cx: &Context,
    ws: &mut WriteSet,
    (r, host): (&Repository, &str),
    mut sync: PullRequestSync,
    (e, budget): (&ForgeError, Budget),
) -> Timestamp {
    let now = cx.env.clock.now();
    tracing::warn!(repository = %r.repository_id, reason = e.reason(), "pull requests were not read: {e}");
    let next = match e.kind() {
        ForgeErrorKind::RateLimited(until) => until,
        _ => now.plus(delay(cx, r, r.pulls.failures.saturating_add(1), now)),
    };
    show_budget(&mut sync, budget);
    stale(cx, ws, r, sync, host, (e.reason(), e.message(), next));
    next
}

fn delay(cx: &Context, r: &Repository, failures: u32, now: Timestamp) -> Duration {
    cx.pace.delay(is_active(&r.sync, now), failures, cx.env.random.fraction())
}

/// The host is no known forge any more.
fn off(r: &Repository) -> WriteSet {
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&r.organization_id));
    let set = [
        ("rev", rev.into()),
        ("pull_polling", 0.into()),
        ("pull_sync", prost::Message::encode_to_vec(&PullRequestSync::default()).into()),
    ];
    ws.update_where(&REPOSITORIES, &[("repository_id", r.repository_id.as_str().into())], &set);
    ws
}

/// Says why nothing newer is known; what is known stays.
fn stale(
    cx: &Context,
    ws: &mut WriteSet,
    r: &Repository,
    mut sync: PullRequestSync,
    host: &str,
    (reason, message, next): (&str, &str, Timestamp),
) {
    let now = cx.env.clock.now();
    let before = r.pulls.sync.as_ref().and_then(|sync| sync.stale.as_ref());
    let since = before.filter(|s| s.reason == reason).and_then(|s| s.since_time);
    sync.stale = Some(Condition {
        reason: reason.to_owned(),
        message: message.to_owned(),
        since_time: since.or_else(|| Some(now.to_proto())),
        next_action: next_action(reason).unwrap_or("none needed: it is read again by itself").to_owned(),
        next_attempt_time: Some(next.to_proto()),
        retryable: true,
        ..Condition::default()
    });
    sync.status = PullRequestSyncStatus::Stale.into();
    host.clone_into(&mut sync.host);
    let failures = r.pulls.failures.saturating_add(1);
    show(ws, r, sync, next, &[("pull_polling", 0.into()), ("pull_failures", failures.into())]);
    background::wake(cx, ws);
}
