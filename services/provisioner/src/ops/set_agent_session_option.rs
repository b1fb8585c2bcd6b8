//! SetAgentSessionOption: records a choice; a flow applies it in the agent.

use foundry_authn::Caller;
use foundry_core::Error;
use foundry_proto::provisioner::v1::{SetAgentSessionOptionRequest, SetAgentSessionOptionResponse};
use foundry_server::RequestContext;
use foundry_store::WriteSet;

use super::{Command, audit, behalf, session_for};
use crate::domain::offer::{ChoiceState, Chosen, MAX_VALUE};
use crate::domain::{Offer, Session, SessionState};
use crate::flow;
use crate::shared::Shared;
use crate::store::sessions;

/// Chooses a value for an option of an agent session.
///
/// # Errors
/// `OPTION_UNKNOWN` for one that is not offered, `INVALID_ARGUMENT` for a value that is none of its choices,
/// `SESSION_CLOSED`, `NOT_FOUND`.
pub async fn set_agent_session_option(
    shared: &Shared,
    caller: &Caller,
    request: SetAgentSessionOptionRequest,
) -> Result<SetAgentSessionOptionResponse, Error> {
    let organization = session_for(shared, caller, &request.session_id).await?.organization_id;
    let user_id = behalf(caller, &request.user_id)?;
    let body = SetAgentSessionOptionRequest { request_id: String::new(), ..request.clone() };
    let command =
        Command::new(shared, caller, &organization, "SetAgentSessionOption", &request.request_id, &body)?;
    command
        .run(|| async {
            let session = session_for(shared, caller, &request.session_id).await?;
            let mut ws = WriteSet::new();
            let session = choose(shared, &mut ws, session, &request)?;
            let id = session.session_id.as_str();
            ws.audit(audit(&organization, caller, &user_id, "agent_session.set", id, &request.request_id));
            Ok((ws, SetAgentSessionOptionResponse { agent_session: Some(session.to_proto()), rev: 0 }))
        })
        .await
}

fn choose(
    shared: &Shared,
    ws: &mut WriteSet,
    session: Session,
    request: &SetAgentSessionOptionRequest,
) -> Result<Session, Error> {
    let (option, value) = (request.option_id.as_str(), request.value.as_str());
    if session.state == SessionState::Closed {
        return Err(Error::precondition(
            "SESSION_CLOSED",
            session.session_id.as_str(),
            "the session is closed",
        )
        .next_action("create another session"));
    }
    // What this agent process has in effect, the next one may not, and it may be starting just now.
    let shown = check(&session.offer, session.session_id.as_str(), option, value)?;
    // The answer to an earlier pending choice would otherwise override this one.
    let on_its_way = session.offer.chosen.get(option).is_some_and(|c| c.state == ChoiceState::Wanted);
    let holds = shown && !on_its_way && session.state.is_living();
    let flow_id = shared.flow_id();
    let chosen = Chosen {
        value: value.to_owned(),
        state: if holds { ChoiceState::Holds } else { ChoiceState::Wanted },
        flow_id: flow_id.to_string(),
        since: shared.env.clock.now(),
    };
    let mut offer = session.offer.clone();
    offer.chosen.insert(option.to_owned(), chosen);
    sessions::update(ws, &session, vec![("offer", sessions::json(&offer)?)]);
    if !holds {
        let trace = RequestContext::current_traceparent();
        flow::option::enqueue_for(ws, &session, option, flow_id, &trace)?;
    }
    Ok(Session { offer, ..session })
}

/// Checks that the option can take the value. True when it is in effect already.
fn check(offer: &Offer, session: &str, option: &str, value: &str) -> Result<bool, Error> {
    let Some(found) = offer.option(option) else {
        let (shown, _) = crate::domain::head(option, 100);
        let text = match offer.known {
            true => format!("the agent has no option {shown:?}"),
            false => "the agent has not reported its options yet".to_owned(),
        };
        return Err(Error::precondition("OPTION_UNKNOWN", session, text)
            .next_action("choose one of the session's options"));
    };
    if value.is_empty() || value.len() > MAX_VALUE {
        return Err(Error::invalid_field("value", format!("is empty or longer than {MAX_VALUE} bytes")));
    }
    if !found.more && !found.choices.iter().any(|c| c.value == value) {
        let known: Vec<&str> = found.choices.iter().take(20).map(|c| c.value.as_str()).collect();
        let text = format!("is not a valid value for {option}");
        return Err(
            Error::invalid_field("value", text).next_action(format!("choose one of: {}", known.join(", ")))
        );
    }
    Ok(found.value == value)
}
