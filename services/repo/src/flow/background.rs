//! What the service begins by itself: synchronizations that are due, and overviews of repositories that have changed.
//!
//! One flow for all repositories. It rests until the next synchronization is due, or until it is signalled: what changes
//! the rows that it reads signals [`KEY`] in the same commit.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use foundry_core::{FlowId, RepositoryId, Result, Timestamp};
use foundry_flow::{Flow, NewFlow, Outcome, Retry, Stage, StageContext, stage};
use foundry_store::{CommitError, Scope, Value, WriteSet};

use super::{overview, pulls, sync};
use crate::context::Context;
use crate::domain::repository::{Repository, State};
use crate::domain::sync::{
    ENDED, FailingHost, Source, chosen, due_by_announcement, host_of, is_active, is_announced,
    is_fault_of_host,
};
use crate::store::remote_hosts;
use crate::store::repositories::{self, REPOSITORIES};

/// Key and subject are [`KEY`]; there is one for all repositories.
pub static BACKGROUND: Flow<Context> = Flow::new(
    "background",
    &[Stage::new(
        "resting",
        Duration::from_secs(60),
        Retry {
            initial: Duration::from_secs(1),
            factor: 2,
            max_delay: Duration::from_secs(60),
            // Nothing else would start it again before the next start of the service.
            budget: u32::MAX,
        },
        |cx, flow| stage(look(cx, flow)),
    )],
)
.concurrency(1);

/// What the flow waits for.
pub const KEY: &str = "repo/background";
/// It looks at least this often, in case a clock was set back.
const LONGEST_REST: Duration = Duration::from_secs(10 * 60);
/// Most repositories that are planned in one commit.
const PLANNED_AT_ONCE: u32 = 100;
/// Most due repositories that are read, of each organization the first ones.
const READ_AT_ONCE: u32 = 200;
/// How long the repository that asks a doubtful host keeps the others from asking it.
const PROBE: Duration = Duration::from_secs(120);

/// Starts the flow unless it is there.
///
/// # Errors
/// When the database fails.
pub async fn ensure(cx: &Context) -> Result<()> {
    if foundry_flow::unfinished(&cx.store, &BACKGROUND, KEY).await?.is_empty() {
        let mut ws = WriteSet::new();
        foundry_flow::enqueue(&mut ws, NewFlow::new(&BACKGROUND, FlowId::generate(&cx.env), KEY, KEY));
        match cx.store.commit(ws).await {
            // Another process was faster.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Signals the flow with the commit.
pub fn wake(cx: &Context, ws: &mut WriteSet) {
    foundry_flow::signal(ws, &cx.env, KEY);
}

/// Records that a repository is used: it is synchronized more often for a while. An unchanged revision: nothing shows it.
pub fn used(cx: &Context, ws: &mut WriteSet, id: &RepositoryId) {
    let id: Value = id.as_str().into();
    ws.update_where(
        &REPOSITORIES,
        &[("repository_id", id.clone())],
        &[("use_time", cx.env.clock.now().into())],
    );
    // One that fails keeps its pause.
    let ready = [("repository_id", id), ("state", State::Ready.as_str().into()), ("polling", 0.into())];
    ws.update_where(&REPOSITORIES, &ready, &[("next_sync_time", 0.into())]);
    wake(cx, ws);
}

/// Begins what is due, then rests.
async fn look(cx: &Context, _: &StageContext) -> Result<Outcome> {
    let mut again = overview::start_wanted(cx).await?;
    start_wanted(cx).await?;
    let now = cx.env.clock.now();
    let mut next = now.plus(LONGEST_REST);
    if cx.pace.at_once > 0 {
        free_lost(cx).await?;
        again |= plan_next(cx, now).await?;
        again |= hasten_announced(cx, now).await?;
        again |= start_due(cx, now).await?;
        // What is due already waits for the end of another one, which signals.
        next = repositories::next_due(&cx.store, now).await?.map_or(next, |due| next.min(due));
        again |= pulls::start_due(cx, now).await?;
        next = repositories::pulls_due_next(&cx.store, now).await?.map_or(next, |due| next.min(due));
    }
    if again {
        next = now;
    }
    Ok(Outcome::wait(KEY, "nothing is due").because("RESTING").until(next))
}

/// Starts the synchronizations that were requested while another one ran, which ended without following them: the engine
/// ended it, or it never reached the remote.
async fn start_wanted(cx: &Context) -> Result<()> {
    for r in repositories::refresh_wanted(&cx.store, PLANNED_AT_ONCE).await? {
        let id = r.repository_id.as_str();
        if !foundry_flow::unfinished(&cx.store, &sync::SYNC, id).await?.is_empty() {
            continue;
        }
        let mut ws = WriteSet::new();
        let rev = ws.scope(Scope::organization(&r.organization_id));
        repositories::update(&mut ws, rev, &r, vec![("refresh_wanted", false.into())]);
        sync::enqueue(cx, &mut ws, &r, ("", ""), r.sync.wanted_source)?;
        match cx.store.commit(ws).await {
            // Somebody else was faster, and has signalled.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(e) if e.is_concurrent_change() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Frees the places of synchronizations that have ended without doing so, as those of an older version of the service do.
async fn free_lost(cx: &Context) -> Result<()> {
    for id in repositories::polled(&cx.store).await? {
        if foundry_flow::unfinished(&cx.store, &sync::SYNC, &id).await?.is_empty() {
            let mut ws = WriteSet::new();
            let key = [("repository_id", id.as_str().into()), ("polling", 1.into())];
            ws.update_where(&REPOSITORIES, &key, &[("polling", 0.into()), ("next_sync_time", ENDED.into())]);
            cx.store.commit(ws).await?;
        }
    }
    Ok(())
}

/// Plans the next synchronization of repositories that have none; whether there are more.
async fn plan_next(cx: &Context, now: Timestamp) -> Result<bool> {
    let unplanned = repositories::unplanned(&cx.store, PLANNED_AT_ONCE).await?;
    if unplanned.is_empty() {
        return Ok(false);
    }
    let mut hosts = remote_hosts::all(&cx.store).await?;
    let mut ws = WriteSet::new();
    for r in &unplanned {
        let failures = after_end(&mut ws, &mut hosts, r, now);
        // Somebody may have looked at it for long.
        let view = crate::view::repositories::of_repository(&r.organization_id, &r.repository_id);
        let is_watched = cx.hub.is_watched(&view);
        let is_used = is_watched || is_active(&r.sync, now);
        let often = is_used && !is_announced(&r.sync, now);
        let delay = cx.pace.delay(often, failures, cx.env.random.fraction());
        // Counted from the last success, so that each use does not put it off.
        let from = if failures > 0 { now } else { r.sync_time.unwrap_or(now) };
        let next = from.plus(delay).max(now.plus(Duration::from_millis(1)));
        let rev = ws.scope(Scope::organization(&r.organization_id));
        let unchanged = [
            ("repository_id", r.repository_id.as_str().into()),
            ("polling", 0.into()),
            ("next_sync_time", r.sync.next.into()),
        ];
        let mut set: Vec<(&'static str, Value)> =
            vec![("rev", rev.into()), ("next_sync_time", next.into()), ("sync_failures", failures.into())];
        if is_watched {
            set.push(("use_time", now.into()));
        }
        ws.update_where(&REPOSITORIES, &unchanged, &set);
    }
    cx.store.commit(ws).await?;
    Ok(unplanned.len() == PLANNED_AT_ONCE as usize)
}

/// Brings forward what webhooks have announced; whether there is more. One that runs, or that is to be planned, is found after
/// its end, which signals.
async fn hasten_announced(cx: &Context, now: Timestamp) -> Result<bool> {
    let announced = repositories::announced_but_not_due(&cx.store, now, PLANNED_AT_ONCE).await?;
    let mut ws = WriteSet::new();
    for r in &announced {
        let due = due_by_announcement(r, now);
        // The end of one that is about to run signals.
        let id = r.repository_id.as_str();
        if due < r.sync.next && foundry_flow::unfinished(&cx.store, &sync::SYNC, id).await?.is_empty() {
            ws.update_where(&REPOSITORIES, &unchanged(r), &[("next_sync_time", due.into())]);
        }
    }
    let some = !ws.is_empty();
    if some {
        cx.store.commit(ws).await?;
    }
    Ok(some && announced.len() == PLANNED_AT_ONCE as usize)
}

/// Counts the end of a synchronization for its host, and returns the failures of the repository in a row.
fn after_end(
    ws: &mut WriteSet,
    hosts: &mut HashMap<String, FailingHost>,
    r: &Repository,
    now: Timestamp,
) -> u32 {
    let host = host_of(&r.url);
    if r.state != State::Error {
        // A use plans it too, without having asked the host.
        if r.sync.next == ENDED && hosts.remove(host).is_some() {
            remote_hosts::answered(ws, host);
        }
        return 0;
    }
    if r.sync.next != ENDED {
        return r.sync.failures;
    }
    if !host.is_empty() && is_fault_of_host(&r.condition.reason) {
        let failing = FailingHost::failed(hosts.get(host), now);
        remote_hosts::put(ws, host, &failing);
        hosts.insert(host.to_owned(), failing);
    }
    r.sync.failures.saturating_add(1)
}

/// Starts the synchronizations that are due, as far as there is room, organizations in turns; whether it put some off, so
/// that others may be due behind them.
async fn start_due(cx: &Context, now: Timestamp) -> Result<bool> {
    let each = u32::try_from(cx.pace.of_one_organization()).unwrap_or(u32::MAX);
    let due = repositories::due(&cx.store, now, each, READ_AT_ONCE).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let mut hosts = remote_hosts::all(&cx.store).await?;
    let (mut ready, mut put_off) = (Vec::new(), false);
    for r in due {
        match hosts.get(host_of(&r.url)) {
            Some(failing) if failing.asked_next > now => {
                hold(cx, &r, failing).await?;
                put_off = true;
            }
            // The first one asks it; the others hear of that.
            Some(failing) if failing.is_doubtful() => {
                let host = host_of(&r.url).to_owned();
                let probed = FailingHost { asked_next: now.plus(PROBE), ..failing.clone() };
                hosts.insert(host, probed);
                ready.push((r.organization_id.to_string(), r));
            }
            _ => ready.push((r.organization_id.to_string(), r)),
        }
    }
    let running = repositories::polling(&cx.store).await?;
    for r in chosen(ready, &running, &cx.pace).0 {
        put_off |= !start(cx, &r, hosts.get(host_of(&r.url)).filter(|h| h.is_doubtful())).await?;
    }
    Ok(put_off)
}

/// Puts a repository off whose host is left alone for a while.
async fn hold(cx: &Context, r: &Repository, failing: &FailingHost) -> Result<()> {
    let spread = Duration::from_secs(30).mul_f64(cx.env.random.fraction());
    let mut ws = WriteSet::new();
    let rev = ws.scope(Scope::organization(&r.organization_id));
    let set = [
        ("rev", rev.into()),
        ("next_sync_time", failing.asked_next.plus(spread).into()),
        ("held_host", host_of(&r.url).into()),
        ("held_since", failing.since.into()),
    ];
    ws.update_where(&REPOSITORIES, &unchanged(r), &set);
    cx.store.commit(ws).await?;
    Ok(())
}

fn unchanged(r: &Repository) -> [(&'static str, Value); 4] {
    [
        ("repository_id", r.repository_id.as_str().into()),
        ("state", r.state.as_str().into()),
        ("polling", 0.into()),
        ("next_sync_time", r.sync.next.into()),
    ]
}

/// False when it is put off, since one runs already.
async fn start(cx: &Context, r: &Repository, probed: Option<&FailingHost>) -> Result<bool> {
    let id = r.repository_id.as_str();
    let mut ws = WriteSet::new();
    if !foundry_flow::unfinished(&cx.store, &sync::SYNC, id).await?.is_empty() {
        // One runs for a task or a request; its end plans the next one.
        let next = cx.env.clock.now().plus(cx.pace.active);
        ws.update_where(&REPOSITORIES, &unchanged(r), &[("next_sync_time", next.into())]);
        cx.store.commit(ws).await?;
        return Ok(false);
    }
    let [key, guards @ ..] = unchanged(r);
    // Its end plans the next one; until then there is none to show.
    // It reads what was announced before this commit; what is announced later has another one follow.
    let set = [("polling", 1.into()), ("next_sync_time", 0.into()), ("announced", false.into())];
    ws.update(&REPOSITORIES, &[key.1], &set, &guards);
    if let Some(probed) = probed {
        remote_hosts::put(&mut ws, host_of(&r.url), probed);
    }
    let flow = NewFlow::new(&sync::SYNC, FlowId::generate(&cx.env), id, id)
        .organization(&r.organization_id)
        .input(if r.sync.announced { &Source::Webhook } else { &Source::Poll })?;
    foundry_flow::enqueue(&mut ws, flow);
    match cx.store.commit(ws).await {
        // It was used, synchronized or deleted in between, which has signalled.
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(true),
        Err(e) if e.is_concurrent_change() => Ok(true),
        Err(e) => Err(e.into()),
    }
}
