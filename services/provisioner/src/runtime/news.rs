//! What an agent said of what can be chosen and of itself, taken into its session.

use std::time::Duration;

use foundry_core::{Env, SessionId, Timestamp};
use foundry_flow::signal;
use foundry_proto::common::v1::{Condition, ElicitationRequest, PermissionRequest};
use foundry_store::WriteSet;

use crate::domain::fold::{Fold, Folded};
use crate::domain::{Offer, Session};
use crate::store::cleared;

/// Agents tell their usage with every answer of a model; for it alone a session changes once in this time.
pub const USAGE_PACE: Duration = Duration::from_secs(1);

/// What became of the offer.
pub struct Taken {
    /// The offer, if it changed.
    pub offer: Option<Offer>,
    /// Whether a choice came to its end, which its flow waits for.
    pub settled: bool,
    /// Whether a usage waits to be shown.
    pub owing: bool,
}

/// Takes in what a stretch said.
pub fn taken(session: &Session, after: &mut Fold, folded: &Folded, now: Timestamp) -> Taken {
    let mut offer = session.offer.clone();
    let mut settled = false;
    for news in &folded.news {
        settled |= offer.apply(news, now);
    }
    let owed = after.usage.is_some() && after.usage != offer.usage;
    // What is written anyway takes it along.
    let written = !folded.parts.is_empty() || folded.sent || offer != session.offer;
    let due = written || now.since(Timestamp::from_micros(after.usage_told)) >= USAGE_PACE;
    if owed && due {
        offer.usage.clone_from(&after.usage);
        after.usage_told = now.as_micros();
    }
    Taken { owing: owed && !due, settled, offer: (offer != session.offer).then_some(offer) }
}

/// What the flows that carry out choices of a session wait for.
pub fn options_key(session: &SessionId) -> String {
    format!("options/{session}")
}

/// Wakes them.
pub fn wake(ws: &mut WriteSet, env: &Env, session: &SessionId) {
    signal(ws, env, &options_key(session));
}

/// The condition of a session in whose turn these wait for a person; calm when nothing does.
pub fn waiting(
    permission: Option<&PermissionRequest>,
    elicitation: Option<&ElicitationRequest>,
    now: Timestamp,
) -> Condition {
    match (permission, elicitation) {
        (Some(permission), _) => super::waits_for(&permission.title, now),
        (None, Some(form)) => {
            let (title, _) = crate::domain::head(&form.message, 500);
            Condition {
                reason: "ANSWER_PENDING".to_owned(),
                message: format!("the agent is asking: {title}"),
                waiting_on: format!("answer: {title}"),
                since_time: Some(now.to_proto()),
                next_action: "answer it".to_owned(),
                ..Condition::default()
            }
        }
        (None, None) => cleared(now),
    }
}
