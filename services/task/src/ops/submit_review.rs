//! Sends the caller's comments on the changes of a task to an agent, as one message.

use foundry_authn::Caller;
use foundry_core::{Code, Error, MessageId, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{PlacedReviewComment, SubmitReviewRequest, SubmitReviewResponse};
use foundry_service::RequestKey;
use foundry_store::Scope;

use super::command::{Command, Decision};
use super::placing::placed;
use super::queueing::{Queued, queue};
use crate::context::Context;
use crate::domain::review;
use crate::domain::session::Message;
use crate::domain::validate::{self, MAX_TEXT};
use crate::store::reviews;
use crate::store::user_state::{self, Owner};

const METHOD: &str = "SubmitReview";
/// How often the comments are read when others of the user's tabs keep changing them.
const MAX_READS: u32 = 3;

/// One commit: the message is queued, and the comments and the draft of the same text are removed. A comment that is written
/// while it is sent stays for the next review; one that is changed is sent as changed. Where the repo service cannot be asked
/// for a place, the message names the version that the comment was made on.
///
/// # Errors
/// `FAILED_PRECONDITION` `REVIEW_EMPTY`, `REVIEW_TOO_LARGE`, and as for a message; `NOT_FOUND`, also for a session of another
/// task.
pub async fn submit_review(
    cx: &Context,
    caller: &Caller,
    request: SubmitReviewRequest,
) -> Result<SubmitReviewResponse> {
    let mut reads = 0;
    loop {
        reads += 1;
        match attempt(cx, caller, &request).await {
            // A comment or the draft was changed or removed since it was read.
            Err(e) if e.code() == Code::Aborted && reads < MAX_READS => {}
            done => return done,
        }
    }
}

async fn attempt(
    cx: &Context,
    caller: &Caller,
    request: &SubmitReviewRequest,
) -> Result<SubmitReviewResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    if found.session(&request.session_id).is_none() {
        return Err(Error::not_found("session", &request.session_id));
    }
    let owner = Owner::of(found.task.organization_id.clone(), caller)?;
    let key = RequestKey::new(owner.organization.as_str(), caller, METHOD, &request.request_id, request)?;
    // A repeated request gets its first answer, as the comments are gone.
    if let Some((answer, rev)) = key.first_answer::<SubmitReviewResponse>(&cx.store).await? {
        return Ok(SubmitReviewResponse { rev, ..answer });
    }
    let comments = reviews::comments(&cx.store, &owner, &found.task.task_id).await?;
    let draft = format!("review/{}", found.task.task_id);
    // A text that was written elsewhere, and is not the one that is sent, stays.
    let drafted = user_state::draft(&cx.store, &owner, &draft).await?;
    let drafted = drafted.filter(|drafted| drafted.entity.text == request.text);
    let version = found.changes_version();
    let entities = comments.iter().map(|comment| comment.entity.clone()).collect();
    let placed = placed(cx, &found.task.task_id, version, entities).await;
    let text = text_of(request, version, &placed)?;
    let message_id = MessageId::generate(&cx.env);
    let session_id = request.session_id.parse()?;
    let scope = Scope::session(&session_id);
    let created_by = caller.on_behalf_of().map(ToString::to_string).unwrap_or_default();
    let decide = |decision: &mut Decision<'_>| {
        let queued = Queued {
            session_id: &request.session_id,
            message_id: &message_id,
            text: &text,
            files: &[],
            created_by: &created_by,
        };
        queue(decision, &queued)?;
        let rev = decision.ws.scope(owner.scope());
        for comment in &comments {
            reviews::remove_comment(&mut decision.ws, rev, &owner, comment);
        }
        if let Some(drafted) = &drafted {
            user_state::remove_sent_draft(&mut decision.ws, rev, &owner, drafted);
        }
        Ok(())
    };
    let command = Command {
        scope: scope.clone(),
        ..Command::new(caller, found, METHOD, &request.request_id, "review.send", message_id.as_str())
    };
    let (answer, rev) = command
        .run(cx, request, decide, |aggregate| SubmitReviewResponse {
            message: aggregate.messages.iter().find(|m| m.message_id == message_id).map(Message::to_proto),
            comment_count: i32::try_from(comments.len()).unwrap_or(i32::MAX),
            rev: 0,
        })
        .await?;
    Ok(SubmitReviewResponse { rev, ..answer })
}

/// The text of the message: the summary, then each comment with its place and lines.
fn text_of(request: &SubmitReviewRequest, version: i64, comments: &[PlacedReviewComment]) -> Result<String> {
    let task = request.task_id.as_str();
    if comments.is_empty() && request.text.trim().is_empty() {
        return Err(Error::precondition("REVIEW_EMPTY", task, "there is no comment and no text to send")
            .next_action("comment on the changes first"));
    }
    let text = review::message(version, &request.text, comments);
    if text.len() > MAX_TEXT {
        let says = format!("the review is {} bytes as a message; the limit is {MAX_TEXT}", text.len());
        return Err(Error::precondition("REVIEW_TOO_LARGE", task, says)
            .next_action("shorten or remove some of the comments"));
    }
    validate::text("text", &text)?;
    Ok(text)
}
