//! The message that the rule of a task sends, written with the change that makes it due.

use foundry_core::{Env, MessageId, SessionId};
use foundry_service::{audit_as, with_detail};
use foundry_store::{Scope, WriteSet};

use super::messages;
use crate::domain::derive::Aggregate;
use crate::domain::fix::{self, Sender, Step};
use crate::domain::session::Message;

/// What the rule of a task did.
pub enum Stepped {
    /// It had nothing to send.
    Not,
    /// It stopped at its limit of messages.
    Stopped,
    /// It queued a message in this session.
    Sent(SessionId),
}

/// Queues a message if one is due, or stops the rule at its limit.
pub fn take_step(ws: &mut WriteSet, env: &Env, aggregate: &mut Aggregate) -> Stepped {
    match fix::step(aggregate) {
        None => Stepped::Not,
        Some(Step::Stop(condition)) => {
            if let Some(rule) = &mut aggregate.task.auto_fix.auto_fix {
                rule.stopped = Some(foundry_proto::common::v1::Condition {
                    since_time: Some(env.clock.now().to_proto()),
                    ..condition
                });
            }
            Stepped::Stopped
        }
        Some(Step::Send { session, text, failures }) => {
            let (now, id) = (env.clock.now(), MessageId::generate(env));
            let user = aggregate.task.auto_fix.auto_fix.as_ref().map(|rule| rule.set_by.clone());
            let (Some(session), Some(user)) = (aggregate.session(session.as_str()), user) else {
                return Stepped::Not;
            };
            let message = Message::new(session, id.clone(), &text, &[], user.clone(), now);
            let record = &mut aggregate.task.auto_fix;
            fix::note_sent(record, &failures, &id, Sender::Rule);
            record.message_id = id.to_string();
            if let Some(rule) = &mut record.auto_fix {
                (rule.tries, rule.last_time) = (rule.tries.saturating_add(1), Some(now.to_proto()));
            }
            let feed = ws.scope(Scope::session(&message.session_id));
            messages::insert(ws, feed, &message, &text);
            let organization = &aggregate.task.organization_id;
            let subject = message.message_id.as_str();
            // The user who switched it on may have left since.
            let record = audit_as("service:task", organization, "message.auto_fix", subject, "");
            ws.audit(with_detail(record, serde_json::json!({ "on_behalf_of": user })));
            let session = message.session_id.clone();
            aggregate.messages.push(message);
            Stepped::Sent(session)
        }
    }
}
