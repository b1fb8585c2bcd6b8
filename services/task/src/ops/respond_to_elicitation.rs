//! Answers a form that the agent wants filled in.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RespondToElicitationRequest, RespondToElicitationResponse};
use foundry_store::Scope;

use super::steer::{Command, Draft};
use crate::context::Context;
use crate::flow::command::{self, Command as Order, Filled};

/// Checks the answer against the form and records it; the agent is told in the background.
///
/// # Errors
/// `FAILED_PRECONDITION` `ELICITATION_NOT_PENDING`, `INVALID_ARGUMENT` naming the field that is not filled in as the
/// form says, `NOT_FOUND`.
pub async fn respond_to_elicitation(
    cx: &Context,
    caller: &Caller,
    request: RespondToElicitationRequest,
) -> Result<RespondToElicitationResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |draft: &mut Draft<'_>| {
        let user = draft.caller.actor();
        let session = draft.open_session(&request.session_id)?;
        let asked = session.view.pending_elicitation.as_ref();
        let Some(asked) = asked.filter(|e| e.elicitation_id == request.elicitation_id) else {
            let text = "there is no such pending form";
            return Err(Error::precondition("ELICITATION_NOT_PENDING", &request.session_id, text)
                .next_action(
                    "reload the session; the form may have been answered, or its turn may have ended",
                ));
        };
        foundry_forms::answer(asked, request.action(), &request.values)?;
        session.asked.form.clone_from(&request.elicitation_id);
        let organization = session.organization_id.clone();
        let filled = |v: &foundry_proto::common::v1::ElicitationValue| Filled {
            name: v.name.clone(),
            values: v.values.clone(),
        };
        let order = Order::AnswerForm {
            session_id: request.session_id.clone(),
            elicitation_id: request.elicitation_id.clone(),
            action: request.action,
            values: request.values.iter().map(filled).collect(),
        };
        command::send(&mut draft.ws, draft.env, &organization, &request.session_id, &user, &order)
    };
    let command = Command {
        caller,
        scope: Scope::organization(&found.task.organization_id),
        found,
        method: "RespondToElicitation",
        request_id: &request.request_id,
        creates: false,
        action: "elicitation.answer",
        subject: &request.session_id,
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |of| RespondToElicitationResponse {
            session: of.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(RespondToElicitationResponse { rev, ..answer })
}
