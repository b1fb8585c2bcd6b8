//! CreateAgentSession: records a session at once, whatever state the sandbox is in. A session whose sandbox was
//! destroyed continues in the task's next one.

use foundry_authn::Caller;
use foundry_core::{Error, SessionId};
use foundry_proto::common::v1::{AgentSettings, Condition, PermissionPolicy, Role};
use foundry_proto::provisioner::v1::{CreateAgentSessionRequest, CreateAgentSessionResponse};
use foundry_sandbox::TapCursor;
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::{Command, audit, behalf, sandbox_for};
use crate::domain::fold::Fold;
use crate::domain::offer::{MAX_VALUE, Start};
use crate::domain::{MAX_SESSIONS, Offer, Sandbox, Session, SessionState};
use crate::flow;
use crate::profiles::{Choice, check_agent, choose};
use crate::shared::Shared;
use crate::store::{sandboxes, sessions};

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
            let there = sessions::find(&shared.store, &session_id).await?;
            if let Some(there) = there.as_ref().filter(|t| t.sandbox_id == sandbox.sandbox_id) {
                return Ok((
                    ws,
                    CreateAgentSessionResponse { agent_session: Some(there.to_proto()), rev: 0 },
                ));
            }
            if let Some(there) = &there
                && !is_homeless(shared, there, &sandbox).await?
            {
                return Err(Error::already_exists("agent session", session_id.as_str()));
            }
            if sandbox.state.is_ending() {
                let text = format!("the sandbox is {}", sandbox.state.as_str());
                return Err(Error::precondition("SANDBOX_GONE", sandbox.sandbox_id.as_str(), text)
                    .next_action("request a new sandbox"));
            }
            limit(shared, &sandbox).await?;
            let otherwise = Some((sandbox.profile_id.as_str(), sandbox.agent.as_str()));
            let (profile, agent) = (&request.profile_id, &request.agent);
            let choice = choose(shared, &organization, profile, agent, otherwise).await?;
            check_agent(shared, "agent", &choice.agent)?;
            let policy = choice.permission_policy(request.permission_policy)?;
            let flow_id = shared.flow_id();
            let start = checked(request.settings.clone().unwrap_or_default())?;
            let session = fresh(shared, &sandbox, &choice, (policy, start), &session_id, flow_id.to_string());
            let session = match &there {
                Some(there) => rehome(shared, &mut ws, there, session)?,
                None => {
                    sessions::insert(&mut ws, &session, &user_id)?;
                    session
                }
            };
            let trace = RequestContext::current_traceparent();
            flow::session::enqueue_flow(&mut ws, &session, flow_id, &trace);
            let id = session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.create", id, &request.request_id));
            Ok((ws, CreateAgentSessionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

/// Whether a session was closed only because its sandbox was destroyed, and the new sandbox is of the same task.
async fn is_homeless(shared: &Shared, there: &Session, sandbox: &Sandbox) -> Result<bool, Error> {
    let same = there.organization_id == sandbox.organization_id && there.task_id == sandbox.task_id;
    if !same || there.state != SessionState::Closed {
        return Ok(false);
    }
    let old = sandboxes::find(&shared.store, &there.sandbox_id).await?;
    Ok(old.is_none_or(|old| old.state.is_ending()))
}

/// Moves a session to another sandbox: a new agent, the same transcript.
fn rehome(shared: &Shared, ws: &mut WriteSet, there: &Session, fresh: Session) -> Result<Session, Error> {
    // No event of the old log may be recorded after the move.
    shared.pumps.stop(&there.session_id);
    let session = Session {
        message_id: there.message_id.clone(),
        turn_count: there.turn_count,
        // With a new generation, the flow adds the notice that the agent has forgotten the conversation.
        generation: there.generation + 1,
        reported_generation: there.reported_generation,
        last_offset: there.last_offset,
        stored_bytes: there.stored_bytes,
        left_out_bytes: there.left_out_bytes,
        create_time: there.create_time,
        // Choices are carried over to the same agent only; another one has other options.
        offer: if there.agent == fresh.agent {
            Offer { start: fresh.offer.start.clone(), ..there.offer.carried(fresh.create_time) }
        } else {
            fresh.offer.clone()
        },
        rev: there.rev,
        ..fresh
    };
    sessions::rehome(ws, &session)?;
    Ok(session)
}

fn checked(settings: AgentSettings) -> Result<Start, Error> {
    for (field, value) in [("model", &settings.model), ("mode", &settings.mode), ("effort", &settings.effort)]
    {
        if value.len() > MAX_VALUE {
            let text = format!("is longer than {MAX_VALUE} bytes");
            return Err(Error::invalid_field(format!("settings.{field}"), text));
        }
    }
    Ok(settings.into())
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
    choice: &Choice,
    (permission_policy, start): (PermissionPolicy, Start),
    session_id: &SessionId,
    flow_id: String,
) -> Session {
    let now = shared.env.clock.now();
    Session {
        session_id: session_id.clone(),
        organization_id: sandbox.organization_id.clone(),
        task_id: sandbox.task_id.clone(),
        sandbox_id: sandbox.sandbox_id.clone(),
        agent: choice.agent.clone(),
        profile_id: choice.profile_id(),
        permission_policy,
        state: SessionState::Pending,
        model_provider_id: String::new(),
        model_answered: String::new(),
        model_noticed: String::new(),
        model_condition: None,
        condition: Condition {
            waiting_on: flow::sandbox::ready_key(&sandbox.sandbox_id),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        message_id: String::new(),
        turn_count: 0,
        acp_session: String::new(),
        prompt_kinds: String::new(),
        generation: 1,
        reported_generation: 1,
        cursor: TapCursor::default(),
        fold: Fold::default(),
        pending_permission: None,
        pending_elicitation: None,
        offer: Offer { start, ..Offer::default() },
        last_offset: 0,
        stored_bytes: 0,
        left_out_bytes: 0,
        flow_id,
        create_time: now,
        stages: foundry_flow::pending_stages(&flow::session::SESSION)
            .into_iter()
            .filter(|s| crate::domain::SESSION_STAGES.contains(&s.name.as_str()))
            .collect(),
        rev: 0,
        session_rev: 0,
    }
}

#[cfg(test)]
mod tests;
