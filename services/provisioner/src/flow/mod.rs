//! The durable flows and jobs.

pub mod agent;
pub mod cancel;
pub mod close;
pub mod decline;
pub mod destroy;
pub mod option;
pub mod permission;
pub mod sandbox;
pub mod session;
pub mod turn;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use foundry_flow::{Binding, FlowStatus, Outcome, Retry, Status};
use foundry_proto::common::v1::Condition;
use foundry_sandbox::{Class, ProviderError};

use crate::domain::class_advice;
use crate::shared::Shared;

/// Half a second doubling to 30 s, ten failures.
pub const PATIENT: Retry =
    Retry { initial: Duration::from_millis(500), factor: 2, max_delay: Duration::from_secs(30), budget: 10 };

/// The same without a limit: for what nobody else would do, and what ends by itself once it is of no use.
pub const UNTIL_DONE: Retry = Retry { budget: u32::MAX, ..PATIENT };

/// All flows of the service with their code.
pub fn bindings(shared: &Arc<Shared>) -> Vec<Binding> {
    vec![
        sandbox::binding(shared),
        sandbox::restart_binding(shared),
        session::binding(shared),
        turn::binding(shared),
        turn::undelivered_binding(shared),
        cancel::binding(shared),
        permission::binding(shared),
        decline::binding(shared),
        option::binding(shared),
        work::binding(shared),
        destroy::binding(shared),
        close::binding(shared),
    ]
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Capacity => "capacity",
        Class::Image => "image",
        Class::Configuration => "configuration",
        Class::Credentials => "credentials",
        Class::Provider => "provider",
        Class::Timeout => "timeout",
        Class::Cancelled => "cancelled",
    }
}

/// A provider's failure as the outcome of a stage, its class in front of the message.
pub fn failed(e: &ProviderError) -> Outcome {
    tracing::warn!(reason = e.reason, cause = std::error::Error::source(e), "{}", e.message);
    let message = format!("{}: {}", class_name(e.class), e.message);
    if e.retryable { Outcome::retry(e.reason, message) } else { Outcome::fail(e.reason, message) }
}

/// Reason and message of a flow's status. A wait carries its own reason in front of its message.
pub fn why(flow: &FlowStatus) -> (String, String) {
    let message = if flow.message.is_empty() { &flow.last_progress } else { &flow.message };
    if flow.status == Status::Waiting
        && let Some((reason, rest)) = message.split_once(": ")
        && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    {
        return (reason.to_owned(), rest.to_owned());
    }
    if flow.reason == "STAGE_TIMED_OUT" {
        return (flow.reason.clone(), format!("timeout: {message}"));
    }
    (flow.reason.clone(), message.clone())
}

/// The condition of what a flow moves.
pub fn condition(spec: &foundry_flow::Flow, flow: &FlowStatus) -> Condition {
    let mut condition = foundry_flow::condition(spec, flow);
    (condition.reason, condition.message) = why(flow);
    if let (Status::Failed, Some(advice)) = (flow.status, class_advice(&condition.message)) {
        condition.next_action = advice.to_owned();
        condition.retryable = true;
    }
    if flow.status == Status::Done {
        condition = Condition { since_time: condition.since_time, ..Condition::default() };
    }
    condition
}

/// Ends a stage early by its error.
pub enum Halt {
    /// An error of ours or of another service.
    Error(Error),
    /// An error of the provider or the runtime.
    Provider(ProviderError),
    /// Anything else.
    Outcome(Box<Outcome>),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<ProviderError> for Halt {
    fn from(e: ProviderError) -> Self {
        Self::Provider(e)
    }
}

impl From<foundry_runtime_client::ClientError> for Halt {
    fn from(e: foundry_runtime_client::ClientError) -> Self {
        Self::Provider(e.into())
    }
}

impl From<foundry_agents::AgentError> for Halt {
    fn from(e: foundry_agents::AgentError) -> Self {
        let class =
            if e.reason.starts_with("AGENT_MODEL") { Class::Credentials } else { Class::Configuration };
        Self::Provider(ProviderError::new(class, e.reason, e.message))
    }
}

impl From<Outcome> for Halt {
    fn from(o: Outcome) -> Self {
        Self::Outcome(Box::new(o))
    }
}

/// The outcome of a stage's code.
pub fn outcome(result: Result<Outcome, Halt>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(Halt::Error(e)) => e.into(),
        Err(Halt::Provider(e)) => failed(&e),
        Err(Halt::Outcome(outcome)) => *outcome,
    }
}

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod cancel_tests;
#[cfg(test)]
mod tests;
