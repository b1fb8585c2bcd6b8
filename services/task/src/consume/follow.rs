//! The agent's events of each session that runs or is not caught up, as entries of its transcript.
//!
//! The position is the offset of the newest event that the transcript holds; it commits with the
//! entries themselves. After a restart the stream is opened after that offset.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foundry_core::{Result, SessionId, TaskId, Tasks};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::provisioner::v1::agent_session_item::Item;
use foundry_proto::provisioner::v1::{AgentEvent, AgentSessionItem, WatchAgentSessionRequest};
use foundry_watch::{Consumer, Event};

use super::apply::Texts;
use super::{Batch, PAUSE, REFUSED, apply, config, insist, pause};
use crate::context::Context;
use crate::flow::change;
use crate::store::aggregate::{self, FOLLOW_TOPIC};
use crate::store::{messages, sessions};

/// Streams at the same time: what one channel carries well.
const STREAMS: u32 = 100;
/// A lost wake-up costs this much at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Events in one write set.
const AT_A_TIME: usize = 256;

type Followed = Arc<Mutex<HashSet<SessionId>>>;

/// Gives its session back, also when its task ends in a panic.
struct Place(Followed, SessionId);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

pub(super) async fn supervise(cx: Arc<Context>, tasks: Tasks) {
    let followed = Followed::default();
    let mut woken = cx.store.subscribe_topic(FOLLOW_TOPIC);
    loop {
        woken.mark_seen();
        match sessions::followed(&cx.store, STREAMS).await {
            Ok(wanted) => {
                for (session, task) in wanted {
                    if followed.lock().unwrap_or_else(PoisonError::into_inner).insert(session.clone()) {
                        let place = Place(Arc::clone(&followed), session.clone());
                        tasks.spawn(
                            "agent session",
                            run(Arc::clone(&cx), tasks.clone(), session, task, place),
                        );
                    }
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

async fn run(cx: Arc<Context>, tasks: Tasks, session: SessionId, task: TaskId, _place: Place) {
    loop {
        let offset = match aggregate::load(&cx.store, &task).await {
            Ok(of) => {
                of.as_ref().and_then(|of| of.session(session.as_str())).map(|s| (s.event_offset, s.follows))
            }
            Err(e) => {
                tracing::warn!(%session, error = ?e, "a session could not be read");
                Some((-1, true))
            }
        };
        let after = match offset {
            Some((offset, true)) if offset >= 0 => offset,
            Some((_, true)) => {
                if !pause(&tasks, &cx.env, PAUSE).await {
                    return;
                }
                continue;
            }
            _ => return,
        };
        match follow(&cx, &tasks, &session, &task, after).await {
            Ended::Quiet | Ended::Stopping => return,
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
    /// No turn runs and all is taken in.
    Quiet,
    /// The process stops.
    Stopping,
    /// It must be opened anew after this time.
    Again(Duration),
}

async fn follow(cx: &Arc<Context>, tasks: &Tasks, session: &SessionId, task: &TaskId, after: i64) -> Ended {
    let (client, id) = (cx.provisioner.clone(), session.to_string());
    let mut consumer = Consumer::<AgentSessionItem>::start(
        tasks,
        cx.env.clone(),
        config("WatchAgentSession", None),
        move |options| {
            let (mut client, session_id) = (client.clone(), id.clone());
            async move {
                let request =
                    WatchAgentSessionRequest { options: Some(options), session_id, after_offset: after };
                Ok(client.watch_agent_session(request).await?.into_inner())
            }
        },
    );
    loop {
        let event = tokio::select! {
            () = tasks.cancellation().cancelled() => return Ended::Stopping,
            event = consumer.next() => event,
            // The end of the turn may be told by the organization's stream alone.
            () = cx.env.clock.sleep(LOOK_AGAIN) => Ok(Event::Connected { server: String::new(), resumed: false }),
        };
        let event = match event {
            Ok(event) => event,
            Err(status) => {
                tracing::warn!(%session, %status, "events cannot be watched; it is tried again");
                return Ended::Again(REFUSED);
            }
        };
        let events = Batch::of(event).map(events).unwrap_or_default();
        for part in events.chunks(AT_A_TIME) {
            let holed = Mutex::new(false);
            let (last, holed_) = (part.last().map_or(0, |e| e.offset), &holed);
            let take = || async move {
                let reached = take(cx, session, task, part).await?;
                *holed_.lock().unwrap_or_else(PoisonError::into_inner) = reached < last;
                Ok(())
            };
            if !insist(tasks, &cx.env, "events of an agent", take).await {
                return Ended::Stopping;
            }
            if holed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                tracing::warn!(%session, last, "events are missing; the stream is opened anew");
                return Ended::Again(PAUSE);
            }
        }
        match still_wanted(cx, session, task).await {
            Ok(true) => {}
            Ok(false) => return Ended::Quiet,
            Err(e) => tracing::warn!(%session, error = ?e, "a session could not be read"),
        }
    }
}

async fn still_wanted(cx: &Context, session: &SessionId, task: &TaskId) -> Result<bool> {
    let of = aggregate::load(&cx.store, task).await?;
    Ok(of.is_some_and(|of| of.session(session.as_str()).is_some_and(|s| s.follows)))
}

/// The events of a batch in their order.
fn events(batch: Batch<AgentSessionItem>) -> Vec<AgentEvent> {
    let mut events: Vec<AgentEvent> = batch
        .rows
        .into_iter()
        .filter_map(|(_, _, item)| match item?.item? {
            Item::Event(event) => Some(event),
            // The organization's stream tells of the session itself.
            Item::AgentSession(_) => None,
        })
        .collect();
    events.sort_by_key(|e| e.offset);
    events.dedup_by_key(|e| e.offset);
    events
}

async fn take(cx: &Context, session: &SessionId, task: &TaskId, events: &[AgentEvent]) -> Result<i64> {
    let texts = texts(cx, events).await?;
    let taken =
        change(cx, task, |of, ws| Ok(apply::events(ws, of, session.as_str(), events, &texts))).await?;
    Ok(taken.map_or(i64::MAX, |(_, reached)| reached))
}

/// The words that started the turns of these events, for those that do not hold them themselves.
async fn texts(cx: &Context, events: &[AgentEvent]) -> Result<Texts> {
    let mut texts: Texts = HashMap::new();
    for part in events.iter().filter_map(|e| e.part.as_ref()) {
        let speaks = matches!(part.body, Some(Body::UserMessage(_)));
        if part.message_id.is_empty() || speaks || texts.contains_key(&part.message_id) {
            continue;
        }
        if let Some(text) = messages::text(&cx.store, &part.message_id).await? {
            texts.insert(part.message_id.clone(), text);
        }
    }
    Ok(texts)
}
