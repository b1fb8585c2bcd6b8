//! The durable flows: a task's provisioning, a session's creation and the delivery of its messages,
//! the end of a task, and single commands to the provisioner.

pub mod provisioner_call;
pub mod session;
mod shown;
pub mod task;
pub mod teardown;

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Error, Result, TaskId};
use foundry_flow::{Binding, Outcome, Retry};
use foundry_store::{CommitError, WriteSet};

use crate::context::{Context, UpstreamError};
use crate::domain::derive::Aggregate;
use crate::store::aggregate;
use crate::view;

/// For calls to another service: retried without end; the flow's condition shows why it waits.
pub const RETRY_FOREVER: Retry = Retry {
    initial: Duration::from_millis(250),
    factor: 2,
    max_delay: Duration::from_secs(15),
    budget: u32::MAX,
};

/// How long one call to another service may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(20);

/// All flows with their code.
pub fn bindings(cx: &Arc<Context>) -> Vec<Binding> {
    vec![
        task::PROVISION.bind(cx).projection(shown::OfTask(Arc::clone(cx))),
        session::SESSION.bind(cx).projection(shown::OfSession(Arc::clone(cx))),
        teardown::TEARDOWN.bind(cx),
        provisioner_call::PROVISIONER_CALL.bind(cx),
    ]
}

/// Loads a task, changes it and writes it; starts over when another writer came between.
pub(crate) async fn change<T>(
    cx: &Context,
    id: &TaskId,
    decide: impl Fn(&mut Aggregate, &mut WriteSet) -> Result<T>,
) -> Result<Option<(Box<Aggregate>, T)>> {
    change_with(cx, id, decide, |_| {}).await
}

/// The same; `also` adds what is written only together with a change.
pub(crate) async fn change_with<T>(
    cx: &Context,
    id: &TaskId,
    decide: impl Fn(&mut Aggregate, &mut WriteSet) -> Result<T>,
    also: impl Fn(&mut WriteSet),
) -> Result<Option<(Box<Aggregate>, T)>> {
    let readable = |aggregate: &mut Aggregate, ws: &mut WriteSet| {
        aggregate.require_readable()?;
        decide(aggregate, ws)
    };
    change_damaged_too(cx, id, readable, also).await
}

/// The same for a task whose row cannot be decoded, too: for what its end needs. What is damaged stays as it is.
pub(crate) async fn change_damaged_too<T>(
    cx: &Context,
    id: &TaskId,
    decide: impl Fn(&mut Aggregate, &mut WriteSet) -> Result<T>,
    also: impl Fn(&mut WriteSet),
) -> Result<Option<(Box<Aggregate>, T)>> {
    let _turn = cx.writers.turn(id).await;
    let begun = cx.env.clock.now();
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(before) = aggregate::load_damaged_too(&cx.store, id).await? else { return Ok(None) };
        let mut ws = WriteSet::new();
        let mut aggregate = before.clone();
        let decided = decide(&mut aggregate, &mut ws)?;
        if aggregate == before && ws.is_empty() && !before.task.stale {
            return Ok(Some((aggregate, decided)));
        }
        also(&mut ws);
        let after = aggregate::write(&mut ws, &cx.env, &before, aggregate);
        match cx.store.commit(ws).await {
            Ok(_) => {
                // Task view and summary are written in one commit, so one measurement covers both.
                cx.hub.observer().updated(view::organization::NAME, cx.env.clock.now().since(begun));
                return Ok(Some((after, decided)));
            }
            Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) if tries < MAX_CHANGES => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// How often a change is decided when others keep writing the task.
pub(crate) const MAX_CHANGES: u32 = 20;

/// A task's row is gone: nothing is left to do.
fn gone() -> Outcome {
    Outcome::fail("TASK_GONE", "the task no longer exists")
}

/// Retries a stage after a transient failure of another service, and fails it after any other.
fn refused(e: UpstreamError) -> Outcome {
    if e.is_transient() { Outcome::retry(e.reason, e.message) } else { Outcome::fail(e.reason, e.message) }
}

/// Calls another service within [`CALL_LIMIT`].
pub(crate) async fn call<T>(
    env: &Env,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, UpstreamError> {
    tokio::select! {
        biased;
        answer = call => answer.map(tonic::Response::into_inner).map_err(UpstreamError::from),
        () = env.clock.sleep(CALL_LIMIT) => {
            Err(UpstreamError::from(tonic::Status::deadline_exceeded("no answer in time")))
        }
    }
}

/// Parses an id from a flow's subject or input.
fn id<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse()
}
