//! Sets an option that the agent of a session offers: its mode, its model, its effort.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::{AgentOption, Role};
use foundry_proto::task::v1::{SetSessionOptionRequest, SetSessionOptionResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::asked::Choice;
use crate::flow::provisioner_call::ProvisionerCall;

/// Records the choice; a flow sends it to the agent.
///
/// # Errors
/// `FAILED_PRECONDITION` `OPTION_UNKNOWN` for an option that the session does not show, or a closed session;
/// `INVALID_ARGUMENT` for a value that is not among its choices, `NOT_FOUND`.
pub async fn set_session_option(
    cx: &Context,
    caller: &Caller,
    request: SetSessionOptionRequest,
) -> Result<SetSessionOptionResponse> {
    let found = cx.task_of_session(caller, &request.session_id, Role::Member).await?;
    let decide = |decision: &mut Decision<'_>| {
        let time = decision.now;
        let session = decision.open_session(&request.session_id)?;
        let options = session.view.options.as_ref();
        let option = options.and_then(|o| o.options.iter().find(|o| o.option_id == request.option_id));
        check(option, options.is_some(), &request)?;
        let choice =
            Choice { value: request.value.clone(), time, reason: String::new(), message: String::new() };
        session.asked.choices.insert(request.option_id.clone(), choice);
        let call = ProvisionerCall::SetOption {
            session_id: request.session_id.clone(),
            option_id: request.option_id.clone(),
            value: request.value.clone(),
        };
        decision.send(&request.session_id, &call)
    };
    let command = Command::new(
        caller,
        found,
        "SetSessionOption",
        &request.request_id,
        "session.set",
        &request.session_id,
    );
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| SetSessionOptionResponse {
            session: aggregate.session(&request.session_id).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(SetSessionOptionResponse { rev, ..answer })
}

/// Accepts any value if the list of choices is truncated: then the agent's side decides.
fn check(option: Option<&AgentOption>, known: bool, request: &SetSessionOptionRequest) -> Result<()> {
    let Some(option) = option else {
        let text = match known {
            true => "the agent of this session offers no such option",
            false => "the agent has not reported its options yet",
        };
        return Err(Error::precondition("OPTION_UNKNOWN", &request.session_id, text)
            .next_action("choose one of the session's options"));
    };
    let fits = !request.value.is_empty() && request.value.len() <= 120;
    let offered = option.choices.iter().any(|c| c.value == request.value);
    if !fits || !(offered || option.truncated) {
        let known: Vec<&str> = option.choices.iter().take(20).map(|c| c.value.as_str()).collect();
        return Err(Error::invalid_field("value", format!("is not a valid value for {}", option.option_id))
            .next_action(format!("choose one of: {}", known.join(", "))));
    }
    Ok(())
}
