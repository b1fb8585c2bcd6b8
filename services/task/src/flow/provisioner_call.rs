//! Single commands to the provisioner, recorded by a handler and carried out here.

use std::time::Duration;

use foundry_core::{Env, FlowId, OrganizationId, Result, SessionId, TaskId};
use foundry_flow::{Flow, NewFlow, Outcome, Stage, StageContext, enqueue, stage};
use foundry_proto::common::v1::ElicitationValue;
use foundry_proto::provisioner::v1::{
    CancelPromptRequest, CloseAgentSessionRequest, DestroySandboxRequest, RespondToElicitationRequest,
    RespondToPermissionRequest, ResumeAgentSessionRequest, RetryAgentSessionRequest, RetrySandboxRequest,
    SetAgentSessionOptionRequest, SetAgentSessionOptionResponse,
};
use foundry_server::RequestContext;
use foundry_store::WriteSet;
use serde::{Deserialize, Serialize};

use super::{PATIENT, call, change, id, refused};
use crate::consume::apply;
use crate::context::{Context, UpstreamError};
use crate::domain::session::MessageState;
use crate::store::{aggregate, sessions};

/// The flow.
pub static PROVISIONER_CALL: Flow<Context> = Flow::new(
    "task_command",
    &[Stage::new("call", Duration::from_secs(25), PATIENT, |cx, ctx| stage(run(cx, ctx)))],
)
.concurrency(32);

/// What the provisioner is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionerCall {
    /// Stop a turn of a session.
    StopTurn {
        /// The session.
        session_id: String,
        /// The turn, by the id of its message; empty = whatever runs.
        #[serde(default)]
        message_id: String,
    },
    /// Answer a permission request.
    Respond {
        /// The session.
        session_id: String,
        /// The request.
        permission_id: String,
        /// The chosen option; empty = cancel.
        option_id: String,
    },
    /// Answer a form.
    AnswerForm {
        /// The session.
        session_id: String,
        /// The form.
        elicitation_id: String,
        /// What is done with it, as on the wire.
        action: i32,
        /// What is filled in.
        values: Vec<Filled>,
    },
    /// Choose a value for an option.
    SetOption {
        /// The session.
        session_id: String,
        /// The option.
        option_id: String,
        /// The value.
        value: String,
    },
    /// Close the agent's side of a session.
    CloseSession {
        /// The session.
        session_id: String,
    },
    /// Destroy a sandbox.
    DestroySandbox {
        /// The sandbox.
        sandbox_id: String,
    },
    /// Take up a failed sandbox.
    RetrySandbox {
        /// The sandbox.
        sandbox_id: String,
    },
    /// Do not wait for the time of a model provider's quota.
    Resume {
        /// The session.
        session_id: String,
    },
    /// Take up a failed agent session.
    RetrySession {
        /// The session.
        session_id: String,
    },
}

/// A field of a form with what it is filled in with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Filled {
    /// Its name.
    pub name: String,
    /// Its values.
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
                // The agent did not take it, and the queue is held: nothing runs.
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
            if !wished(cx, &session_id, &option_id, &value).await? {
                // Another value was chosen since.
                return Ok(Outcome::done());
            }
            let request = SetAgentSessionOptionRequest { request_id, session_id, option_id, value, user_id };
            set_option(cx, request).await?
        }
        ProvisionerCall::CloseSession { session_id } => {
            let request = CloseAgentSessionRequest { request_id, session_id, user_id };
            call(&cx.env, client.close_agent_session(request)).await.map(drop)
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
        // The turn has ended, the request is answered, the sandbox is gone: what was wanted, is.
        Err(e) if matches!(e.code, tonic::Code::NotFound | tonic::Code::FailedPrecondition) => {
            tracing::info!(reason = e.reason, "a command arrived too late to have an effect: {}", e.message);
            Outcome::done()
        }
        Err(e) => refused(e),
    })
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

/// How far a message is that still is in its queue.
async fn handed_over(cx: &Context, session: &str, message: &str) -> Result<Option<MessageState>> {
    let Some(task) = task_of(cx, session).await? else { return Ok(None) };
    let aggregate = aggregate::load(&cx.store, &task).await?;
    Ok(aggregate.and_then(|aggregate| {
        aggregate.messages.iter().find(|m| m.message_id.as_str() == message).map(|m| m.state)
    }))
}

/// The agent did not take the answer: if the request still waits there, it can be answered again.
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

/// The agent's side did not take the answer: if the form still waits there, it can be answered again.
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

/// Whether this is what was chosen last.
async fn wished(cx: &Context, session: &str, option: &str, value: &str) -> Result<bool> {
    let found = sessions::find(&cx.store, &id::<SessionId>(session)?).await?;
    Ok(found.is_some_and(|s| s.asked.wishes.get(option).is_some_and(|w| w.value == value)))
}

/// The agent's side has recorded the choice, and from here on shows it itself; or it has refused it.
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
        match (answer, session.asked.wishes.get_mut(option).filter(|w| w.value == value)) {
            (Err(e), Some(request)) => {
                request.reason.clone_from(&e.reason);
                request.message.clone_from(&e.message);
            }
            (Ok(_), Some(_)) => drop(session.asked.wishes.remove(option)),
            (_, None) => {}
        }
        Ok(())
    })
    .await?;
    Ok(())
}
