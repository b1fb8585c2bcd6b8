//! Sends what has failed at the pull request of a task to an agent, as one message.

use foundry_authn::Caller;
use foundry_core::{Error, MessageId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RequestFixRequest, RequestFixResponse};
use foundry_store::Scope;

use super::command::{Command, Decision};
use super::queueing::{Queued, queue};
use crate::context::Context;
use crate::domain::derive::Aggregate;
use crate::domain::fix::{self, Failure, Sender};
use crate::domain::session::Message;

/// Queues the message, and resumes a held queue. What was sent before, by a user or by the rule, is not sent again, unless
/// the message was removed from the queue.
///
/// # Errors
/// `FAILED_PRECONDITION` `NOTHING_TO_FIX` without a failure, `FIX_SENT` if all were sent before, and as for a message;
/// `RESOURCE_EXHAUSTED` for a full queue; `NOT_FOUND`, also for a session of another task.
pub async fn request_fix(
    cx: &Context,
    caller: &Caller,
    request: RequestFixRequest,
) -> Result<RequestFixResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let session = match request.session_id.as_str() {
        "" => fix::session(&found).map(|session| session.session_id.clone()),
        id => found.session(id).map(|session| session.session_id.clone()),
    };
    let session = session.ok_or_else(|| Error::not_found("session", &request.session_id))?;
    let message_id = MessageId::generate(&cx.env);
    let created_by = caller.on_behalf_of().map(ToString::to_string).unwrap_or_default();
    let decide = |decision: &mut Decision<'_>| {
        let (text, failures) = wanted(&decision.aggregate, &request)?;
        let queued = Queued {
            session_id: session.as_str(),
            message_id: &message_id,
            text: &text,
            files: &[],
            created_by: &created_by,
        };
        queue(decision, &queued)?;
        fix::note_sent(&mut decision.aggregate.task.auto_fix, &failures, &message_id, Sender::User);
        Ok(())
    };
    let command = Command {
        scope: Scope::session(&session),
        ..Command::new(caller, found, "RequestFix", &request.request_id, "message.fix", message_id.as_str())
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| RequestFixResponse {
            message: aggregate.messages.iter().find(|m| m.message_id == message_id).map(Message::to_proto),
            rev: 0,
        })
        .await?;
    Ok(RequestFixResponse { rev, ..answer })
}

fn wanted(aggregate: &Aggregate, request: &RequestFixRequest) -> Result<(String, Vec<Failure>)> {
    let task = request.task_id.as_str();
    let nothing = || {
        let text =
            "the task has no open pull request with a failed check, a review that wants changes or a comment";
        Error::precondition("NOTHING_TO_FIX", task, text)
            .next_action("wait until its checks have ended; `foundry task show` shows how they stand")
    };
    let none = || {
        Error::precondition("NOTHING_TO_FIX", task, "the task has no open pull request").next_action(
            "publish its work as a pull request first; the agent can also be sent a message at any time",
        )
    };
    let p = fix::pull_request(aggregate).ok_or_else(none)?;
    let failures = fix::failures(p, request.subject(), Sender::User);
    if failures.is_empty() {
        return Err(nothing());
    }
    let unsent = fix::unsent(failures, &aggregate.task.auto_fix, Sender::User);
    if unsent.is_empty() {
        return Err(Error::precondition("FIX_SENT", task, "the agent has been sent these failures already")
            .next_action("publish what it has changed, or write a message of your own"));
    }
    Ok((fix::message(p, &unsent), unsent))
}
