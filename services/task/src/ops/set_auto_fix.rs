//! Switches the rule on or off that sends what fails at the pull request of a task to the agent.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{AutoFix, SetAutoFixRequest, SetAutoFixResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::fix::{MAX_TRIES, USUAL_TRIES};

/// The count begins again; what was sent before stays sent. A failure that is there already is sent with the same commit, if
/// the agent is idle.
///
/// # Errors
/// `INVALID_ARGUMENT` for a number of tries out of range; `FAILED_PRECONDITION` for an ended task; `NOT_FOUND`.
pub async fn set_auto_fix(
    cx: &Context,
    caller: &Caller,
    request: SetAutoFixRequest,
) -> Result<SetAutoFixResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let max_tries = if request.max_tries == 0 { USUAL_TRIES } else { request.max_tries };
    if !(1..=MAX_TRIES).contains(&max_tries) {
        return Err(Error::invalid_field("max_tries", format!("must be 0 to {MAX_TRIES}")));
    }
    let set_by = caller.on_behalf_of().map(ToString::to_string).unwrap_or_default();
    let decide = |decision: &mut Decision<'_>| {
        decision.aggregate.task.require_active()?;
        let record = &mut decision.aggregate.task.auto_fix;
        let last_time = record.auto_fix.as_ref().and_then(|rule| rule.last_time);
        record.auto_fix = Some(AutoFix {
            enabled: request.enabled,
            max_tries,
            tries: 0,
            set_by: set_by.clone(),
            stopped: None,
            last_time,
            waiting: None,
        });
        Ok(())
    };
    let command =
        Command::new(caller, found, "SetAutoFix", &request.request_id, "task.auto_fix", &request.task_id);
    let answer = |aggregate: &crate::domain::derive::Aggregate| SetAutoFixResponse {
        task: Some(aggregate.task.view.clone()),
        rev: 0,
    };
    let (answer, rev) = command.run(cx, &request, decide, answer).await?;
    Ok(SetAutoFixResponse { rev, ..answer })
}
