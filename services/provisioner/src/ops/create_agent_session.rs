//! CreateAgentSession: a placeholder at once, whatever state the sandbox is in.

use foundry_authn::Caller;
use foundry_core::{Error, SessionId};
use foundry_proto::common::v1::{Condition, PermissionPolicy, Role};
use foundry_proto::provisioner::v1::{CreateAgentSessionRequest, CreateAgentSessionResponse};
use foundry_sandbox::{AgentKind, TapCursor};
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::{Command, audit, behalf, sandbox_for};
use crate::domain::fold::Fold;
use crate::domain::{MAX_SESSIONS, Sandbox, Session, SessionState};
use crate::flow;
use crate::shared::Shared;
use crate::store::sessions;

/// Asks for an agent session.
pub async fn create_agent_session(
    shared: &Shared,
    caller: &Caller,
    request: CreateAgentSessionRequest,
) -> Result<CreateAgentSessionResponse, Error> {
    let session_id: SessionId = request.session_id.parse()?;
    let organization = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = CreateAgentSessionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "CreateAgentSession", &request.request_id, &body)?;
    command
        .run(|| async {
            let sandbox = sandbox_for(shared, caller, &request.sandbox_id, Role::Member).await?;
            let mut ws = WriteSet::new();
            if let Some(there) = sessions::find(&shared.store, &session_id).await? {
                if there.sandbox_id != sandbox.sandbox_id {
                    return Err(Error::already_exists("agent session", session_id.as_str()));
                }
                return Ok((
                    ws,
                    CreateAgentSessionResponse { agent_session: Some(there.to_proto()), rev: 0 },
                ));
            }
            if sandbox.state.is_ending() {
                let text = format!("the sandbox is {}", sandbox.state.as_str());
                return Err(Error::precondition("SANDBOX_GONE", sandbox.sandbox_id.as_str(), text)
                    .next_action("ask for a new sandbox"));
            }
            limit(shared, &sandbox).await?;
            let flow_id = shared.flow_id();
            let session = fresh(shared, &sandbox, &request, &session_id, flow_id.to_string())?;
            sessions::insert(&mut ws, &session, &user_id)?;
            let trace = RequestContext::current_traceparent();
            flow::session::enqueue_flow(&mut ws, &session, flow_id, &trace);
            let id = session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.create", id, &request.request_id));
            Ok((ws, CreateAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

async fn limit(shared: &Shared, sandbox: &Sandbox) -> Result<(), Error> {
    let all = sessions::of_sandbox(&shared.store, &sandbox.sandbox_id).await?;
    let open = all.iter().filter(|s| s.state != SessionState::Closed).count();
    let (open, most) = (u64::try_from(open).unwrap_or(u64::MAX), u64::try_from(MAX_SESSIONS).unwrap_or(0));
    if open >= most {
        return Err(Error::quota("agent_sessions", sandbox.sandbox_id.as_str(), open, most)
            .next_action("close a session of this task"));
    }
    Ok(())
}

fn fresh(
    shared: &Shared,
    sandbox: &Sandbox,
    request: &CreateAgentSessionRequest,
    session_id: &SessionId,
    flow_id: String,
) -> Result<Session, Error> {
    let agent = if request.agent.is_empty() { &sandbox.agent } else { &request.agent };
    let agent: AgentKind = agent.parse().map_err(|e: foundry_sandbox::ProviderError| {
        Error::invalid_field("agent", format!("is not known: {}", e.message))
    })?;
    let permission_policy = match PermissionPolicy::try_from(request.permission_policy) {
        Ok(PermissionPolicy::Unspecified) => PermissionPolicy::Ask,
        Ok(policy) => policy,
        Err(_) => return Err(Error::invalid_field("permission_policy", "is not known")),
    };
    let now = shared.env.clock.now();
    Ok(Session {
        session_id: session_id.clone(),
        organization_id: sandbox.organization_id.clone(),
        task_id: sandbox.task_id.clone(),
        sandbox_id: sandbox.sandbox_id.clone(),
        agent: agent.name().to_owned(),
        permission_policy,
        state: SessionState::Pending,
        condition: Condition {
            waiting_on: flow::sandbox::ready_key(&sandbox.sandbox_id),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        message_id: String::new(),
        turn_count: 0,
        acp_session: String::new(),
        generation: 1,
        told_generation: 1,
        cursor: TapCursor::default(),
        fold: Fold::default(),
        pending_permission: None,
        last_offset: 0,
        flow_id,
        create_time: now,
        stages: foundry_flow::pending_stages(&flow::session::SESSION)
            .into_iter()
            .filter(|s| crate::domain::SESSION_STAGES.contains(&s.name.as_str()))
            .collect(),
        rev: 0,
        session_rev: 0,
    })
}
