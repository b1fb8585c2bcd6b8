//! Pumps: one owned task per living agent session reads its tap log from the stored position on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Error, SessionId};
use foundry_proto::common::v1::Condition;
use foundry_runtime_client::{LogFollower, RuntimeClient};
use foundry_sandbox::{TapBatch, TapCursor, TapReadError, TapReader};
use foundry_store::WriteSet;
use foundry_watch::Stall;
use tokio_util::sync::CancellationToken;

use super::news::USAGE_PACE;
use super::record::{Recorded, record, record_hole};
use crate::domain::{Session, SessionState};
use crate::shared::{Shared, acp_of};
use crate::store::{cleared, condition_value, sandboxes, sessions};

/// Pause between looks at the log, in case a wake-up by the runtime was lost.
const POLL: Duration = Duration::from_millis(500);
/// Pause between two flushes of one session: at most ten a second.
const PACE: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// What the metrics call the reading of a log.
const LOG: &str = "AgentLog";

/// The running pumps of this process, with what stops each.
#[derive(Default)]
pub struct Pumps(Mutex<HashMap<SessionId, CancellationToken>>);

impl Pumps {
    /// Starts the pump of a session, unless it runs.
    pub fn ensure(shared: &Arc<Shared>, session: &SessionId) {
        let mut running = shared.pumps.lock();
        if running.contains_key(session) || shared.tasks.cancellation().is_cancelled() {
            return;
        }
        let stop = shared.tasks.cancellation().child_token();
        running.insert(session.clone(), stop.clone());
        drop(running);
        let (shared, session) = (Arc::clone(shared), session.clone());
        shared.tasks.clone().spawn("event pump", async move {
            run(&shared, &session, &stop).await;
            // A stopped pump is removed by `stop`; another one may have started since.
            if !stop.is_cancelled() {
                shared.pumps.lock().remove(&session);
            }
        });
    }

    /// Stops the pump of a session.
    pub fn stop(&self, session: &SessionId) {
        if let Some(stop) = self.lock().remove(session) {
            stop.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, CancellationToken>> {
        foundry_core::lock(&self.0)
    }
}

enum Followed {
    /// Start over from the stored position.
    Again,
    /// There is nothing more to read.
    End,
}

async fn run(shared: &Arc<Shared>, id: &SessionId, stop: &CancellationToken) {
    let mut stall = Stall::default();
    loop {
        let followed = tokio::select! {
            () = stop.cancelled() => return,
            followed = follow(shared, id, &mut stall) => followed,
        };
        match followed {
            Ok(Followed::End) => return,
            Ok(Followed::Again) => continue,
            Err(e) => note_failure(shared, id, &mut stall, &e).await,
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.env.clock.sleep(PAUSE) => {}
        }
    }
}

/// The reason of a session whose log is not recorded.
const fn stalled_reason() -> &'static str {
    "AGENT_LOG_STALLED"
}

/// Reports the first failure, and those that last, which the session shows.
async fn note_failure(shared: &Shared, id: &SessionId, stall: &mut Stall, error: &Error) {
    let first = !stall.is_failing();
    let lasted = stall.failed(shared.env.clock.now());
    if first || lasted.is_some() {
        tracing::warn!(session = %id, ?lasted, ?error, "the agent's log was not recorded; retrying");
    }
    let Some(lasted) = lasted else { return };
    shared.hub.observer().stalled(LOG, error.code());
    if let Err(e) = show(shared, id, Some((lasted, error))).await {
        tracing::debug!(session = %id, error = ?e, "the session does not show that its log is not recorded");
    }
}

/// Shows on a session that its log is not recorded, unless it has something else to show, or that it is again.
async fn show(shared: &Shared, id: &SessionId, failing: Option<(Duration, &Error)>) -> Result<(), Error> {
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some(session) = sessions::find(&shared.store, id).await? else { return Ok((ws, ())) };
        let (shows, now) = (session.condition.reason == stalled_reason(), shared.env.clock.now());
        let free = session.condition.reason.is_empty() && !session.waits_for_person();
        let condition = match failing {
            Some((lasted, error)) if shows || free => Condition {
                reason: stalled_reason().to_owned(),
                message: format!("what the agent says and does cannot be stored: {}", error.message()),
                since_time: Some(now.minus(lasted).to_proto()),
                retryable: true,
                next_action: "none needed: it is retried automatically; if it persists, see the log"
                    .to_owned(),
                ..Condition::default()
            },
            None if shows => cleared(now),
            _ => return Ok((ws, ())),
        };
        let condition = Condition { waiting_on: session.condition.waiting_on.clone(), ..condition };
        sessions::update(&mut ws, &session, vec![("condition", condition_value(&condition))]);
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}

/// Where one session's log is and how it is read.
struct Source {
    session: Session,
    reader: TapReader,
    workspace: String,
    client: RuntimeClient,
    acp: foundry_sandbox::AcpId,
}

async fn source(shared: &Shared, id: &SessionId) -> Result<Option<Source>, Error> {
    let Some(session) = sessions::find(&shared.store, id).await? else { return Ok(None) };
    if session.state == SessionState::Closed {
        return Ok(None);
    }
    let Some(sandbox) = sandboxes::find(&shared.store, &session.sandbox_id).await? else { return Ok(None) };
    if sandbox.state.is_ending() {
        return Ok(None);
    }
    // Without a runtime, nothing writes to the log.
    let Some(facts) = &sandbox.facts else { return Ok(None) };
    let workspace = facts.workspace.display().to_string();
    let acp = acp_of(&session)?;
    let client = shared.client(&sandbox)?;
    let reader = TapReader::new(Arc::clone(client.sandbox()), &acp);
    Ok(Some(Source { session, reader, workspace, client, acp }))
}

async fn follow(shared: &Arc<Shared>, id: &SessionId, stall: &mut Stall) -> Result<Followed, Error> {
    let Some(source) = source(shared, id).await? else { return Ok(Followed::End) };
    let mut cursor = source.session.cursor.clone();
    let mut shows = source.session.condition.reason == stalled_reason();
    let mut follower = LogFollower::new(
        source.reader,
        source.acp,
        cursor.clone(),
        Some(source.client),
        POLL,
        shared.env.clone(),
    );
    let mut owing = false;
    loop {
        let next = tokio::select! {
            next = follower.next() => next,
            // A usage that was held back is shown even if the agent sends nothing more.
            () = shared.env.clock.sleep(USAGE_PACE), if owing => Ok(TapBatch { next: cursor.clone(), ..TapBatch::default() }),
        };
        let batch = match next {
            Ok(batch) => batch,
            Err(e) => return hole(shared, id, cursor, &e).await,
        };
        let more = batch.more;
        let recorded = record(shared, id, &source.workspace, &cursor, &batch).await?;
        owing = recorded == Recorded::Owing;
        stall.progressed();
        if std::mem::take(&mut shows) {
            show(shared, id, None).await?;
        }
        match recorded {
            Recorded::Stored | Recorded::Owing => cursor = batch.next,
            Recorded::Stale => return Ok(Followed::Again),
            Recorded::Gone => return Ok(Followed::End),
        }
        if batch.events.iter().any(|e| matches!(e.body, foundry_sandbox::TapBody::Exited { .. })) {
            shared.health_check_requested.notify_one();
        }
        if !more {
            shared.env.clock.sleep(PACE).await;
        }
    }
}

async fn hole(
    shared: &Shared,
    id: &SessionId,
    cursor: TapCursor,
    e: &TapReadError,
) -> Result<Followed, Error> {
    let next = match e {
        TapReadError::Truncated { found, .. } => TapCursor { offset: *found, skipping: false, ..cursor },
        TapReadError::Refused(_) | TapReadError::Io(_) => cursor,
    };
    match record_hole(shared, id, &next, &e.to_string()).await? {
        Recorded::Gone => Ok(Followed::End),
        _ => {
            shared.env.clock.sleep(PAUSE).await;
            Ok(Followed::Again)
        }
    }
}

/// Records the rest of the log of a session whose runtime is dead.
///
/// # Errors
/// When the database fails. A log that cannot be read gets a notice in the transcript instead.
pub async fn drain_log(shared: &Arc<Shared>, id: &SessionId) -> Result<(), Error> {
    shared.pumps.stop(id);
    let Some(source) = source(shared, id).await? else { return Ok(()) };
    let mut cursor = source.session.cursor.clone();
    loop {
        let batch = match source.reader.read(&cursor).await {
            Ok(batch) => batch,
            Err(e) => {
                record_hole(shared, id, &cursor, &e.to_string()).await?;
                return Ok(());
            }
        };
        if batch.next == cursor {
            return Ok(());
        }
        match record(shared, id, &source.workspace, &cursor, &batch).await? {
            Recorded::Stored | Recorded::Owing => cursor = batch.next,
            Recorded::Stale => {
                let Some(now) = sessions::find(&shared.store, id).await? else { return Ok(()) };
                cursor = now.cursor;
            }
            Recorded::Gone => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Code;
    use foundry_store::DialectSql;
    use foundry_testkit::Log;
    use foundry_watch::Observer;

    use super::*;
    use crate::testing::Fixture;
    use crate::testing::agent::FakeAgent;

    #[derive(Debug, Default)]
    struct Stalls(Mutex<Vec<(&'static str, Code)>>);

    impl Observer for Stalls {
        fn stalled(&self, view: &'static str, code: Code) {
            self.0.lock().unwrap().push((view, code));
        }
    }

    #[tokio::test]
    async fn reports_a_log_that_cannot_be_recorded_for_ten_seconds() {
        let (log, stalls) = (Log::of_warnings(), Arc::new(Stalls::default()));
        let f = Fixture::observed(stalls.clone()).await;
        let session = f.session(&f.ensure().await).await;
        const DAMAGE: &str = "UPDATE agent_sessions SET fold = $1 WHERE session_id = $2";
        let sql = DialectSql { sqlite: DAMAGE, postgres: DAMAGE };
        f.shared.store.write(sql, &["{".into(), session.session_id.as_str().into()]).await.unwrap();
        Pumps::ensure(&f.shared, &session.session_id);
        let reported = || !stalls.0.lock().unwrap().is_empty();
        let passed = f.env.clock.advance_until(PAUSE, 30 * PAUSE, 1, reported).await;
        assert!((10..20).contains(&passed.as_secs()), "{passed:?}");
        assert_eq!(*stalls.0.lock().unwrap(), [(LOG, Code::DataLoss)]);
        let lines = log.count("the agent's log was not recorded");
        assert_eq!(lines, 2, "the first failure and the report: {}", log.text());
    }

    #[tokio::test]
    async fn a_session_shows_that_its_log_cannot_be_recorded_until_it_can() {
        let f = Fixture::new().await;
        let agent = FakeAgent::serve(&f).await;
        let sandbox = f.ensure().await;
        f.run().await;
        let session = f.session(&sandbox).await;
        f.run().await;
        let alter = async |statement: &'static str| {
            let sql = DialectSql { sqlite: statement, postgres: statement };
            f.shared.store.write(sql, &[]).await.unwrap();
        };
        let known = f.again(&session).await.last_offset;
        alter("ALTER TABLE agent_events RENAME TO hidden").await;
        agent.logs(&session.session_id, words("hello"));
        Pumps::ensure(&f.shared, &session.session_id);
        let until = async |wanted: &str| {
            for _ in 0..200 {
                let shown = f.again(&session).await;
                if shown.condition.reason == wanted {
                    return shown;
                }
                let begun = f.env.env.clock.now();
                f.env.clock.advance_until(PAUSE / 4, PAUSE, 1, || f.env.env.clock.now() > begun).await;
            }
            panic!("{:?}", f.again(&session).await.condition);
        };
        let shown = until(stalled_reason()).await;
        assert!(shown.condition.message.contains("cannot be stored"), "{:?}", shown.condition);
        assert_eq!(shown.last_offset, known);
        alter("ALTER TABLE hidden RENAME TO agent_events").await;
        let shown = until("").await;
        assert!(shown.last_offset > known, "nothing is lost");
    }

    fn words(text: &str) -> serde_json::Value {
        let content = serde_json::json!({"type": "text", "text": text});
        let update = serde_json::json!({"sessionUpdate": "agent_message_chunk", "content": content});
        let params = serde_json::json!({"sessionId": "s1", "update": update});
        serde_json::json!({"method": "session/update", "params": params})
    }
}
