//! Adds a session to a task, whatever state its sandbox is in.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, Result, SessionId};
use foundry_flow::enqueue;
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{CreateSessionRequest, CreateSessionResponse};

use super::command::{Command, Decision};
use crate::context::Context;
use crate::domain::session::{MAX_SESSIONS, Session};
use crate::domain::task::AgentChoice;
use crate::domain::{naming, validate};
use crate::flow;

/// Returns a durable placeholder at once; its id stays through all states.
///
/// # Errors
/// `FAILED_PRECONDITION` for a task that has ended, `RESOURCE_EXHAUSTED` at ten open sessions,
/// `INVALID_ARGUMENT`, `NOT_FOUND`.
pub async fn create_session(
    cx: &Context,
    caller: &Caller,
    request: CreateSessionRequest,
) -> Result<CreateSessionResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    let name = match request.name.as_str() {
        "" => String::new(),
        name => naming::check_name("name", name, naming::MAX_SESSION_NAME)?,
    };
    let of_task = &found.task.view;
    let (agent, profile) = match (request.agent.as_str(), request.profile.as_str()) {
        ("", "") => (of_task.agent.clone(), of_task.profile.clone()),
        (agent, "") if agent == of_task.agent => (of_task.agent.clone(), String::new()),
        (agent, profile) => validate::agent(agent, profile, &cx.agents)?,
    };
    let choice = AgentChoice {
        agent,
        profile,
        policy: validate::policy(request.permission_policy)?.into(),
        start: validate::settings(request.settings.clone())?,
    };
    let session_id = SessionId::generate(&cx.env);
    let decide = |decision: &mut Decision<'_>| {
        decision.aggregate.task.require_active()?;
        let open = decision.aggregate.sessions.iter().filter(|s| !s.closed).count() as u64;
        if open >= MAX_SESSIONS {
            return Err(Error::quota("sessions", &request.task_id, open, MAX_SESSIONS)
                .next_action("close a session you no longer need"));
        }
        let name = if name.is_empty() {
            format!("session {}", decision.aggregate.sessions.len() + 1)
        } else {
            name.clone()
        };
        let flow_id = FlowId::generate(decision.env);
        let task = &decision.aggregate.task;
        let session = Session::new(task, session_id.clone(), flow_id, &name, &choice, decision.now);
        let sandbox = decision.aggregate.sandbox_state();
        enqueue(&mut decision.ws, flow::session::new(&session, sandbox, &decision.caller.actor())?);
        decision.aggregate.sessions.push(session);
        Ok(())
    };
    let command = Command {
        creates: true,
        ..Command::new(
            caller,
            found,
            "CreateSession",
            &request.request_id,
            "session.create",
            session_id.as_str(),
        )
    };
    let (answer, rev) = command
        .run(cx, &request, decide, |aggregate| CreateSessionResponse {
            session: aggregate.session(session_id.as_str()).map(|s| s.view.clone()),
            rev: 0,
        })
        .await?;
    Ok(CreateSessionResponse { rev, ..answer })
}
