//! Applies what an agent reports about its options and itself to its session.

use std::time::Duration;

use foundry_core::{Env, SessionId, Timestamp};
use foundry_flow::signal;
use foundry_proto::common::v1::{Condition, ElicitationRequest, PermissionRequest};
use foundry_store::WriteSet;

use crate::domain::fold::{Fold, Folded};
use crate::domain::{Offer, Session};
use crate::store::cleared;

/// Agents report their usage with every answer of a model. For usage alone, a session changes once in this time.
pub const USAGE_PACE: Duration = Duration::from_secs(1);

/// What a stretch of the log changed in the offer.
pub struct Taken {
    /// The offer, if it changed.
    pub offer: Option<Offer>,
    /// Whether a choice was settled, which its flow waits for.
    pub settled: bool,
    /// Whether a usage is still to be shown.
    pub owing: bool,
}

/// Applies the news of a stretch of the log.
pub fn taken(session: &Session, after: &mut Fold, folded: &Folded, now: Timestamp) -> Taken {
    let mut offer = session.offer.clone();
    let mut settled = false;
    for news in &folded.news {
        settled |= offer.apply(news, now);
    }
    let owed = after.usage.is_some() && after.usage != offer.usage;
    // A usage is added to any other change at no cost.
    let written = !folded.parts.is_empty() || folded.sent || offer != session.offer;
    let due = written || now.since(Timestamp::from_micros(after.usage_reported)) >= USAGE_PACE;
    if owed && due {
        offer.usage.clone_from(&after.usage);
        after.usage_reported = now.as_micros();
    }
    Taken { owing: owed && !due, settled, offer: (offer != session.offer).then_some(offer) }
}

/// Wait key of the flows that apply the choices of a session.
pub fn options_key(session: &SessionId) -> String {
    format!("options/{session}")
}

/// Wakes the flows that apply the choices of a session.
pub fn wake(ws: &mut WriteSet, env: &Env, session: &SessionId) {
    signal(ws, env, &options_key(session));
}

/// The condition of a session with these open questions to a person; a cleared one without any.
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
