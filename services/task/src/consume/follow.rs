//! Copies the agent's events of each session that runs or lags behind into its transcript.
//!
//! The position is the offset of the newest event that the transcript holds; it commits with the
//! entries themselves. After a restart the stream is opened after that offset.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_core::{Result, SessionId, TaskId, Tasks};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::provisioner::v1::agent_session_item::Item;
use foundry_proto::provisioner::v1::{
    AgentEvent, AgentSessionItem, AgentSessionState, WatchAgentSessionRequest,
};
use foundry_store::is_damaged;
use foundry_watch::{Consumer, Event};
use prost::Message as _;

use super::append::append;
use super::apply::{self, Texts};
use super::{Batch, PAUSE, REFUSED, config, pause, retry_until_applied};
use crate::context::Context;
use crate::flow::change;
use crate::store::aggregate::FOLLOW_TOPIC;
use crate::store::sessions::EventCursor;
use crate::store::{messages, sessions};

const VIEW: &str = "WatchAgentSession";
/// Concurrent streams: as many as one channel carries well.
const STREAMS: usize = 100;
/// Sessions considered for a stream.
const CONSIDERED: u32 = 2000;
/// Poll interval: the longest delay that a lost wake-up causes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Most events in one write set.
const AT_A_TIME: usize = 256;
/// Encoded bytes of the events in one write set, unless one alone is larger: they become one revision of the
/// transcript, which a watch sends in one frame.
const MAX_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Streams {
    open: Mutex<HashSet<SessionId>>,
    /// Whether sessions wait for a free stream. An idle stream is then closed to make room.
    crowded: AtomicBool,
}

impl Streams {
    fn open(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        foundry_core::lock(&self.open)
    }
}

/// Picks the next sessions to follow: of those without a stream, the ones that had one least recently, or never.
/// Also returns whether some had to be left out.
fn chosen(
    mut wanted: Vec<(SessionId, TaskId)>,
    open: &HashSet<SessionId>,
    given: &HashMap<SessionId, u64>,
    places: usize,
) -> (Vec<(SessionId, TaskId)>, bool) {
    wanted.retain(|(session, _)| !open.contains(session));
    wanted.sort_by_key(|(session, _)| given.get(session).copied().unwrap_or(0));
    let free = places.saturating_sub(open.len());
    let crowded = wanted.len() > free;
    wanted.truncate(free);
    (wanted, crowded)
}

/// Frees the session's stream when dropped, also after a panic of its task.
struct Place(Arc<Streams>, SessionId);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open().remove(&self.1);
    }
}

pub(super) async fn supervise(cx: Arc<Context>, tasks: Tasks) {
    let streams = Arc::new(Streams::default());
    let (mut given, mut round) = (HashMap::<SessionId, u64>::new(), 0);
    let mut woken = cx.store.subscribe_topic(FOLLOW_TOPIC);
    loop {
        woken.mark_seen();
        match sessions::followed(&cx.store, CONSIDERED).await {
            Ok(wanted) => {
                round += 1;
                let ids: HashSet<_> = wanted.iter().map(|(session, _)| session).collect();
                given.retain(|session, _| ids.contains(session));
                let (next, crowded) = chosen(wanted, &streams.open(), &given, STREAMS);
                streams.crowded.store(crowded, Ordering::Relaxed);
                for (session, task) in next {
                    streams.open().insert(session.clone());
                    given.insert(session.clone(), round);
                    let place = Place(Arc::clone(&streams), session.clone());
                    let run = run(Arc::clone(&cx), tasks.clone(), session, task, place);
                    tasks.spawn("agent session", run);
                }
            }
            Err(e) => tracing::warn!(error = ?e, "sessions to follow could not be read"),
        }
        tokio::select! {
            () = tasks.cancellation().cancelled() => return,
            _ = woken.changed() => {}
            () = cx.env.clock.sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn run(cx: Arc<Context>, tasks: Tasks, session: SessionId, task: TaskId, place: Place) {
    loop {
        let after = match sessions::event_cursor(&cx.store, &session).await {
            Ok(Some(EventCursor { offset, follows: true })) => offset,
            Ok(_) => return cx.stalls.progressed(&session),
            Err(e) => {
                tracing::warn!(%session, error = ?e, "a session could not be read");
                if !pause(&tasks, &cx.env, PAUSE).await {
                    return;
                }
                continue;
            }
        };
        match follow(&cx, &tasks, &session, &task, after, &place.0.crowded).await {
            Ended::Quiet | Ended::Stopping => return cx.stalls.progressed(&session),
            Ended::Again(time) => {
                if !pause(&tasks, &cx.env, time).await {
                    return;
                }
            }
        }
    }
}

/// How following a stream ended.
enum Ended {
    /// No turn runs and all events are applied, or another session needs the stream.
    Quiet,
    /// The process stops.
    Stopping,
    /// The stream must be reopened after this time.
    Again(Duration),
}

async fn follow(
    cx: &Arc<Context>,
    tasks: &Tasks,
    session: &SessionId,
    task: &TaskId,
    after: i64,
    crowded: &AtomicBool,
) -> Ended {
    let (client, id) = (cx.provisioner.clone(), session.to_string());
    let mut consumer =
        Consumer::<AgentSessionItem>::start(tasks, cx.env.clone(), config(cx, VIEW, None), move |options| {
            let (mut client, session_id) = (client.clone(), id.clone());
            async move {
                let request =
                    WatchAgentSessionRequest { options: Some(options), session_id, after_offset: after };
                Ok(client.watch_agent_session(request).await?.into_inner())
            }
        });
    loop {
        let event = tokio::select! {
            () = tasks.cancellation().cancelled() => return Ended::Stopping,
            event = consumer.next() => event,
            // The end of the turn may arrive on the organization's stream only.
            () = cx.env.clock.sleep(LOOK_AGAIN) => {
                if crowded.load(Ordering::Relaxed) {
                    return Ended::Quiet;
                }
                Ok(Event::Connected { server: String::new(), resumed: false })
            }
        };
        let event = match event {
            Ok(event) => event,
            Err(status) => {
                tracing::warn!(%session, %status, "events cannot be watched; retrying");
                cx.stalls.failed(session, cx.env.clock.now(), status.message());
                return Ended::Again(REFUSED);
            }
        };
        match &event {
            Event::Disconnected { status, .. } => {
                cx.stalls.failed(session, cx.env.clock.now(), status.message());
            }
            Event::CaughtUp { .. } => cx.stalls.progressed(session),
            _ => {}
        }
        let batch = Batch::of(event);
        if let Some(upto) = batch.as_ref().and_then(|batch| deleted(batch, after))
            && pass_over(cx, tasks, session, task, upto).await.is_none()
        {
            return Ended::Stopping;
        }
        let events = batch.map(events).unwrap_or_default();
        let mut left = events.as_slice();
        while !left.is_empty() {
            let (part, rest) = left.split_at(together(left));
            left = rest;
            let last = part.last().map_or(0, |e| e.offset);
            let take = || take(cx, session, task, part);
            let observer = &**cx.hub.observer();
            let applied = retry_until_applied(tasks, &cx.env, observer, VIEW, part.len(), take);
            let Some(reached) = applied.await else {
                return Ended::Stopping;
            };
            if reached < last {
                tracing::warn!(%session, last, "events are missing; reopening the stream");
                let why = format!("events after number {reached} are missing");
                cx.stalls.failed(session, cx.env.clock.now(), &why);
                return Ended::Again(PAUSE);
            }
            cx.stalls.progressed(session);
        }
        match sessions::event_cursor(&cx.store, session).await {
            Ok(Some(EventCursor { follows: true, .. })) => {}
            Ok(_) => return Ended::Quiet,
            Err(e) => tracing::warn!(%session, error = ?e, "a session could not be read"),
        }
    }
}

/// The offset up to which events after `after` do not exist any more. The provisioner deletes them once the task has
/// ended and its transcript holds them all; a database that was restored since then lacks them for ever.
fn deleted(batch: &Batch<AgentSessionItem>, after: i64) -> Option<i64> {
    // A part of the truth cannot show what is missing, and an open agent side may have more to come.
    let items = || batch.rows.iter().filter_map(|(_, _, item)| item.as_ref()?.item.as_ref());
    let closed = items().find_map(|item| match item {
        Item::AgentSession(agent) => (agent.state() == AgentSessionState::Closed).then_some(agent),
        Item::Event(_) => None,
    });
    let last = closed.filter(|_| batch.whole)?.last_offset;
    let offsets = items().filter_map(|item| match item {
        Item::Event(event) => Some(event.offset),
        Item::AgentSession(_) => None,
    });
    let upto = offsets.min().map_or(last, |first| first - 1);
    (upto > after).then_some(upto)
}

/// Goes on after deleted events, with a notice in their place; none when the process stops.
async fn pass_over(cx: &Context, tasks: &Tasks, session: &SessionId, task: &TaskId, upto: i64) -> Option<()> {
    let pass = || async {
        let passed = change(cx, task, |aggregate, ws| {
            let found = aggregate.session_mut(session.as_str());
            found.into_iter().for_each(|found| apply::deleted(ws, cx.env.clock.now(), found, upto));
            Ok(())
        });
        match passed.await {
            Err(e) if !is_damaged(&e) => Err(e),
            _ => Ok(()),
        }
    };
    retry_until_applied(tasks, &cx.env, &**cx.hub.observer(), VIEW, 1, pass).await
}

/// The events of a batch in their order.
fn events(batch: Batch<AgentSessionItem>) -> Vec<AgentEvent> {
    let mut events: Vec<AgentEvent> = batch
        .rows
        .into_iter()
        .filter_map(|(_, _, item)| match item?.item? {
            Item::Event(event) => Some(event),
            // The organization's stream carries the session itself.
            Item::AgentSession(_) => None,
        })
        .collect();
    events.sort_by_key(|e| e.offset);
    events.dedup_by_key(|e| e.offset);
    events
}

/// How many of the events, at least one, are written together. Those of another message begin a write set: its text
/// is written with them.
fn together(events: &[AgentEvent]) -> usize {
    let (mut bytes, mut turn) = (0, "");
    for (at, event) in events.iter().take(AT_A_TIME).enumerate() {
        bytes += event.encoded_len();
        let message = event.part.as_ref().map_or("", |part| part.message_id.as_str());
        let another = !turn.is_empty() && !message.is_empty() && message != turn;
        if at > 0 && (bytes > MAX_BYTES || another) {
            return at;
        }
        if !message.is_empty() {
            turn = message;
        }
    }
    events.len().min(AT_A_TIME)
}

async fn take(cx: &Context, session: &SessionId, task: &TaskId, events: &[AgentEvent]) -> Result<i64> {
    let taken = async {
        let texts = texts(cx, events).await?;
        append(cx, task, session, events, &texts).await
    };
    let taken = taken.await;
    if taken.as_ref().is_err_and(is_damaged) {
        // Trying again cannot help, and the session shows its damage. Once it is repaired, the events after its offset
        // are read again.
        return Ok(i64::MAX);
    }
    taken.inspect_err(|e| cx.stalls.failed(session, cx.env.clock.now(), e.message()))
}

/// The messages that started the turns of these events, unless the event carries the text itself.
async fn texts(cx: &Context, events: &[AgentEvent]) -> Result<Texts> {
    let mut texts: Texts = HashMap::new();
    for part in events.iter().filter_map(|e| e.part.as_ref()) {
        let speaks = matches!(part.body, Some(Body::UserMessage(_)));
        if part.message_id.is_empty() || speaks || texts.contains_key(&part.message_id) {
            continue;
        }
        if let Some(text) = messages::said(&cx.store, &part.message_id).await? {
            texts.insert(part.message_id.clone(), text);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundry_core::Env;
    use foundry_proto::common::v1::{AgentMessage, TranscriptPart};

    fn event(message_id: &str, size: usize) -> AgentEvent {
        let body = Body::AgentMessage(AgentMessage { text: "x".repeat(size) });
        let part = TranscriptPart { message_id: message_id.into(), body: Some(body), ..Default::default() };
        AgentEvent { part: Some(part), ..AgentEvent::default() }
    }

    #[test]
    fn writes_so_many_events_together_that_a_revision_stays_small_and_has_one_message() {
        assert_eq!(together(&vec![event("m", 10); 1_000]), AT_A_TIME);
        let large = vec![event("m", 4 << 10); 1_000];
        let taken = together(&large);
        let bytes = |events: &[AgentEvent]| events.iter().map(AgentEvent::encoded_len).sum::<usize>();
        assert!(bytes(&large[..taken]) <= MAX_BYTES && bytes(&large[..=taken]) > MAX_BYTES, "{taken}");
        assert_eq!(together(&[event("m", 2 * MAX_BYTES), event("m", 1)]), 1);
        let turns = ["a", "", "a", "", "b", "b"].map(|message| event(message, 10));
        assert_eq!(together(&turns), 4);
    }

    #[test]
    fn gives_free_streams_to_those_that_waited_longest_and_tells_when_there_are_too_few() {
        let env = Env::system();
        let session = || (SessionId::generate(&env), TaskId::generate(&env));
        let (old, had, never) = (session(), session(), session());
        let wanted = vec![old.clone(), had.clone(), never.clone()];
        let open: HashSet<_> = [old.0.clone()].into();
        let given = [(old.0.clone(), 1), (had.0.clone(), 2)].into();
        assert_eq!(chosen(wanted.clone(), &open, &given, 2), (vec![never.clone()], true));
        assert_eq!(chosen(wanted.clone(), &open, &given, 3), (vec![never, had], false));
        assert_eq!(chosen(wanted, &open, &given, 1), (vec![], true));
    }
}
