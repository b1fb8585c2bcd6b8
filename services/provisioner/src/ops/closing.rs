//! What closing an agent session and destroying its sandbox share.

use foundry_core::Error;
use foundry_proto::common::v1::TurnEnd;
use foundry_store::WriteSet;

use crate::domain::{Session, SessionState, TurnState};
use crate::runtime::append_to_transcript;
use crate::shared::Shared;
use crate::store::{cleared, condition_value, sessions, turns};

/// Writes the end of a session: its turn is ended, its flows are cancelled.
pub async fn close(
    shared: &Shared,
    ws: &mut WriteSet,
    session: &Session,
    end: &TurnEnd,
) -> Result<Session, Error> {
    let now = shared.env.clock.now();
    let turn = turns::find_named(&shared.store, &session.session_id, &session.message_id).await?;
    let turn = turn.filter(|t| t.state != TurnState::Ended);
    let mut set = append_to_transcript(ws, session, turn.as_ref().map(|t| (t, end)), Vec::new(), now);
    let condition = cleared(now);
    set.extend([
        ("state", SessionState::Closed.as_str().into()),
        ("condition", condition_value(&condition)),
        ("flow_id", "".into()),
    ]);
    sessions::update(ws, session, set);
    for flow in [Some(&session.flow_id), turn.as_ref().map(|t| &t.flow_id)].into_iter().flatten() {
        if let Ok(flow) = flow.parse() {
            foundry_flow::request_cancel(ws, &flow);
        }
    }
    let last_offset = session.last_offset + i64::from(turn.is_some());
    Ok(session.closed(condition, last_offset))
}
