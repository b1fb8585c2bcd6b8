//! Answers a form that the agent has sent.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{RespondToElicitationRequest, RespondToElicitationResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::flow::provisioner_call::{Filled, ProvisionerCall};

/// Checks the answer against the form and records it; a flow delivers it to the agent.
///
/// # Errors
/// `FAILED_PRECONDITION` `ELICITATION_NOT_PENDING`, `INVALID_ARGUMENT` naming the field that violates the form,
/// `NOT_FOUND`.
pub async fn respond_to_elicitation(
    cx: &Context,
    caller: &Caller,
    request: RespondToElicitationRequest,
) -> Result<RespondToElicitationResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |decision: &mut Decision<'_>| {
        let session = decision.open_session(&request.session_id)?;
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
        let filled = |v: &foundry_proto::common::v1::ElicitationValue| Filled {
            name: v.name.clone(),
            values: v.values.clone(),
        };
        let call = ProvisionerCall::AnswerForm {
            session_id: request.session_id.clone(),
            elicitation_id: request.elicitation_id.clone(),
            action: request.action,
            values: request.values.iter().map(filled).collect(),
        };
        decision.send(&request.session_id, &call)
    };
    let command = Command::new(
        caller,
        found,
        "RespondToElicitation",
        &request.request_id,
        "elicitation.answer",
        &request.session_id,
    );
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| RespondToElicitationResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(RespondToElicitationResponse { rev, ..answer })
}
