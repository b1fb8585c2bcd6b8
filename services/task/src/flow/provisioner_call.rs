//! Single commands to the provisioner: recorded by a handler, carried out by this flow.

use std::time::Duration;

use foundry_core::{Env, FlowId, OrganizationId, Result, SessionId, TaskId};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_proto::common::v1::ElicitationValue;
use foundry_proto::provisioner::v1::{
    CancelPromptRequest, CloseAgentSessionRequest, DestroySandboxRequest, ReleaseAgentEventsRequest,
    RespondToElicitationRequest, RespondToPermissionRequest, ResumeAgentSessionRequest,
    RetryAgentSessionRequest, RetrySandboxRequest, SetAgentSessionOptionRequest,
    SetAgentSessionOptionResponse,
};
use foundry_server::RequestContext;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::{RETRY_FOREVER, call, change, id, refused};
use crate::consume::apply;
use crate::context::{Context, UpstreamError};
use crate::domain::session::MessageState;
use crate::store::{aggregate, sessions};

/// One stage; retried until the provisioner accepts the command or refuses it for good.
pub static PROVISIONER_CALL: Flow<Context> = Flow::new(
    "task_command",
    &[Stage::new("call", Duration::from_secs(25), RETRY_FOREVER, |cx, ctx| stage(run(cx, ctx)))],
)
.concurrency(32);

/// A command to the provisioner, stored as JSON in the flow's input.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionerCall {
    /// Stop a turn of a session.
    StopTurn {
        session_id: String,
        /// The turn, by the id of its message; empty = the one that runs.
        #[serde(default)]
        message_id: String,
    },
    /// Answer a permission request.
    Respond {
        session_id: String,
        permission_id: String,
        /// Id of the chosen option; empty = cancel.
        option_id: String,
    },
    /// Answer a form.
    AnswerForm {
        session_id: String,
        elicitation_id: String,
        /// The response action, as on the wire.
        action: i32,
        /// The values entered in its fields.
        values: Vec<Filled>,
    },
    /// Set an option of the agent.
    SetOption { session_id: String, option_id: String, value: String },
    /// Close the agent's side of a session.
    CloseSession { session_id: String },
    /// Delete the events of a closed session, all of which the transcript holds.
    ReleaseEvents {
        session_id: String,
        /// Offset of the newest of them.
        stored_offset: i64,
    },
    /// Destroy a sandbox.
    DestroySandbox { sandbox_id: String },
    /// Retry a failed sandbox.
    RetrySandbox { sandbox_id: String },
    /// Try again now instead of waiting until the model provider's quota resets.
    Resume { session_id: String },
    /// Retry a failed agent session.
    RetrySession { session_id: String },
}

/// The values entered in one field of a form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Filled {
    /// Name of the field.
    pub name: String,
    /// One value, or several for a field with multiple choice.
    pub values: Vec<String>,
}

/// Adds a command to a write set.
///
/// # Errors
/// When the command cannot be written as JSON.
pub fn send(
    ws: &mut WriteSet,
    env: &Env,
    organization: &OrganizationId,
    subject: &str,
    user_id: &str,
    call: &ProvisionerCall,
) -> Result<()> {
    let id = FlowId::generate(env);
    let key = id.to_string();
    let flow = NewFlow::new(&PROVISIONER_CALL, id, key, subject)
        .organization(organization)
        .on_behalf_of(user_id)
        .traced(RequestContext::current_traceparent())
        .input(call)?;
    enqueue(ws, flow);
    Ok(())
}

async fn run(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let mut client = cx.provisioner.clone();
    let request_id = ctx.effect_name();
    let user_id = ctx.flow().user_id.clone();
    let answer = match ctx.input::<ProvisionerCall>()? {
        ProvisionerCall::StopTurn { session_id, message_id } => {
            match handed_over(cx, &session_id, &message_id).await? {
                Some(MessageState::Delivering) => {
                    return Ok(Outcome::retry("TURN_NOT_STARTED", "the turn is being sent to the agent"));
                }
                // The agent did not accept it, and the queue is held: no turn runs.
                Some(MessageState::Queued) => return Ok(Outcome::done()),
                _ => {}
            }
            let request = CancelPromptRequest { request_id, session_id, user_id, message_id };
            call(&cx.env, client.cancel_prompt(request)).await.map(drop)
        }
        ProvisionerCall::Respond { session_id, permission_id, option_id } => {
            let (session, permission) = (session_id.clone(), permission_id.clone());
            let request =
                RespondToPermissionRequest { request_id, session_id, permission_id, option_id, user_id };
            let answer = call(&cx.env, client.respond_to_permission(request)).await.map(drop);
            if answer.as_ref().is_err_and(|e| !e.is_transient()) {
                not_answered(cx, &session, &permission).await?;
            }
            answer
        }
        ProvisionerCall::AnswerForm { session_id, elicitation_id, action, values } => {
            let values =
                values.into_iter().map(|v| ElicitationValue { name: v.name, values: v.values }).collect();
            let request = RespondToElicitationRequest {
                request_id,
                session_id,
                elicitation_id,
                action,
                values,
                user_id,
            };
            answer_form(cx, request).await?
        }
        ProvisionerCall::SetOption { session_id, option_id, value } => {
            if !is_chosen(cx, &session_id, &option_id, &value).await? {
                // Another value has been chosen since.
                return Ok(Outcome::done());
            }
            let request = SetAgentSessionOptionRequest { request_id, session_id, option_id, value, user_id };
            set_option(cx, request).await?
        }
        ProvisionerCall::CloseSession { session_id } => {
            let request = CloseAgentSessionRequest { request_id, session_id, user_id };
            call(&cx.env, client.close_agent_session(request)).await.map(drop)
        }
        ProvisionerCall::ReleaseEvents { session_id, stored_offset } => {
            let request = ReleaseAgentEventsRequest { request_id, session_id, stored_offset };
            return Ok(release_events(cx, request).await);
        }
        ProvisionerCall::DestroySandbox { sandbox_id } => {
            let request = DestroySandboxRequest { request_id, sandbox_id, user_id };
            call(&cx.env, client.destroy_sandbox(request)).await.map(drop)
        }
        ProvisionerCall::RetrySandbox { sandbox_id } => {
            let request = RetrySandboxRequest { request_id, sandbox_id, user_id };
            call(&cx.env, client.retry_sandbox(request)).await.map(drop)
        }
        ProvisionerCall::Resume { session_id } => {
            let request = ResumeAgentSessionRequest { request_id, session_id, user_id };
            call(&cx.env, client.resume_agent_session(request)).await.map(drop)
        }
        ProvisionerCall::RetrySession { session_id } => {
            let request = RetryAgentSessionRequest { request_id, session_id, user_id };
            call(&cx.env, client.retry_agent_session(request)).await.map(drop)
        }
    };
    Ok(match answer {
        Ok(()) => Outcome::done(),
        // The turn has ended, the request is answered or the sandbox is gone: the command's purpose is met.
        Err(e) if matches!(e.code, tonic::Code::NotFound | tonic::Code::FailedPrecondition) => {
            tracing::info!(reason = e.reason, "a command arrived too late to have an effect: {}", e.message);
            Outcome::done()
        }
        Err(e) => refused(e),
    })
}

/// Lets the provisioner delete its copy of a session's events. The command is sent only once.
async fn release_events(cx: &Context, request: ReleaseAgentEventsRequest) -> Outcome {
    match call(&cx.env, cx.provisioner.clone().release_agent_events(request)).await {
        Ok(_) => Outcome::done(),
        // An older provisioner, which will be replaced.
        Err(e) if e.code == tonic::Code::Unimplemented => {
            Outcome::retry("PROVISIONER_UNAVAILABLE", e.message)
        }
        // The session cannot be read there. Its copy stays, and `foundry verify` names it.
        Err(e)
            if matches!(
                e.code,
                tonic::Code::DataLoss | tonic::Code::NotFound | tonic::Code::FailedPrecondition
            ) =>
        {
            tracing::warn!(reason = e.reason, "a copy of agent events is kept: {}", e.message);
            Outcome::done()
        }
        Err(e) => refused(e),
    }
}

async fn answer_form(
    cx: &Context,
    request: RespondToElicitationRequest,
) -> Result<std::result::Result<(), UpstreamError>> {
    let (session, form) = (request.session_id.clone(), request.elicitation_id.clone());
    let answer = call(&cx.env, cx.provisioner.clone().respond_to_elicitation(request)).await.map(drop);
    if answer.as_ref().is_err_and(|e| !e.is_transient()) {
        form_not_answered(cx, &session, &form).await?;
    }
    Ok(answer)
}

async fn set_option(
    cx: &Context,
    request: SetAgentSessionOptionRequest,
) -> Result<std::result::Result<(), UpstreamError>> {
    let (session, option) = (request.session_id.clone(), request.option_id.clone());
    let value = request.value.clone();
    let answer = call(&cx.env, cx.provisioner.clone().set_agent_session_option(request)).await;
    if !answer.as_ref().is_err_and(UpstreamError::is_transient) {
        option_set(cx, &session, (&option, &value), answer.as_ref()).await?;
    }
    Ok(answer.map(drop))
}

async fn task_of(cx: &Context, session: &str) -> Result<Option<TaskId>> {
    sessions::task_of(&cx.store, &id::<SessionId>(session)?).await
}

/// Delivery state of a message that is still in its queue.
async fn handed_over(cx: &Context, session: &str, message: &str) -> Result<Option<MessageState>> {
    let Some(task) = task_of(cx, session).await? else { return Ok(None) };
    let aggregate = aggregate::load(&cx.store, &task).await?;
    Ok(aggregate.and_then(|aggregate| {
        aggregate.messages.iter().find(|m| m.message_id.as_str() == message).map(|m| m.state)
    }))
}

/// Makes a permission request answerable again if it is still pending, as the agent did not accept the answer.
async fn not_answered(cx: &Context, session: &str, permission: &str) -> Result<()> {
    let Some(task) = task_of(cx, session).await? else { return Ok(()) };
    change(cx, &task, |aggregate, _| {
        if let Some(session) = aggregate.session_mut(session).filter(|s| s.answered == permission) {
            session.answered.clear();
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Makes a form answerable again if it is still pending, as the agent did not accept the answer.
async fn form_not_answered(cx: &Context, session: &str, form: &str) -> Result<()> {
    let Some(task) = task_of(cx, session).await? else { return Ok(()) };
    change(cx, &task, |aggregate, _| {
        if let Some(session) = aggregate.session_mut(session).filter(|s| s.asked.form == form) {
            session.asked.form.clear();
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Whether this is the value chosen last for the option.
async fn is_chosen(cx: &Context, session: &str, option: &str, value: &str) -> Result<bool> {
    let found = sessions::find(&cx.store, &id::<SessionId>(session)?).await?;
    Ok(found.is_some_and(|s| s.asked.choices.get(option).is_some_and(|c| c.value == value)))
}

/// Settles a choice: the agent's side has recorded it and reports it from now on, or has refused it.
async fn option_set(
    cx: &Context,
    session: &str,
    (option, value): (&str, &str),
    answer: std::result::Result<&SetAgentSessionOptionResponse, &UpstreamError>,
) -> Result<()> {
    let Some(task) = task_of(cx, session).await? else { return Ok(()) };
    change(cx, &task, |aggregate, ws| {
        if let Ok(SetAgentSessionOptionResponse { agent_session: Some(agent), rev }) = answer {
            apply::agent_session(ws, &cx.env, aggregate, agent, *rev)?;
        }
        let Some(session) = aggregate.session_mut(session) else { return Ok(()) };
        match (answer, session.asked.choices.get_mut(option).filter(|c| c.value == value)) {
            (Err(e), Some(request)) => {
                request.reason.clone_from(&e.reason);
                request.message.clone_from(&e.message);
            }
            (Ok(_), Some(_)) => drop(session.asked.choices.remove(option)),
            (_, None) => {}
        }
        Ok(())
    })
    .await?;
    Ok(())
}
