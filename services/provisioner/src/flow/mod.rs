//! The durable flows and jobs.

pub mod agent;
pub mod cancel;
pub mod close;
pub mod decline;
pub mod destroy;
pub mod option;
pub mod permission;
pub mod release;
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
pub const RETRY_LONG: Retry =
    Retry { initial: Duration::from_millis(500), factor: 2, max_delay: Duration::from_secs(30), budget: 10 };

/// The same without a limit: for jobs that nothing else would do, and that end by themselves when they are obsolete.
pub const UNTIL_DONE: Retry = Retry { budget: u32::MAX, ..RETRY_LONG };

/// All flows of the service with their code.
pub fn bindings(shared: &Arc<Shared>) -> Vec<Binding> {
    vec![
        sandbox::SANDBOX
            .bind(shared)
            .projection(|flow: &FlowStatus| sandbox::project(&sandbox::SANDBOX, flow)),
        sandbox::RESTART
            .bind(shared)
            .projection(|flow: &FlowStatus| sandbox::project(&sandbox::RESTART, flow)),
        session::SESSION.bind(shared).projection(session::projection(&shared.env)),
        turn::TURN.bind(shared).projection(turn::projection(&shared.env)),
        turn::UNDELIVERED.bind(shared),
        cancel::CANCEL.bind(shared),
        permission::ANSWER.bind(shared),
        decline::DECLINE.bind(shared),
        option::OPTION.bind(shared),
        work::WORK.bind(shared).projection(work::project),
        destroy::DESTROY.bind(shared).projection(destroy::project),
        close::CLOSE.bind(shared),
        release::RELEASE.bind(shared),
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

/// A provider's failure as the outcome of a stage.
pub fn failed(e: &ProviderError) -> Outcome {
    tracing::warn!(reason = e.reason, cause = std::error::Error::source(e), "{}", e.message);
    let outcome = if e.retryable {
        Outcome::retry(e.reason, e.message.as_str())
    } else {
        Outcome::fail(e.reason, e.message.as_str())
    };
    outcome.of_class(class_name(e.class))
}

/// The condition that a flow gives to its sandbox or session.
pub fn condition(spec: &foundry_flow::Flow<Shared>, flow: &FlowStatus) -> Condition {
    let mut condition = foundry_flow::condition(spec, flow);
    if let (Status::Failed, Some(advice)) = (flow.status, class_advice(&flow.class)) {
        condition.next_action = advice.to_owned();
    }
    if flow.status == Status::Done {
        condition = Condition { since_time: condition.since_time, ..Condition::default() };
    }
    condition
}

/// Why a stage ends early, for use with `?`.
pub enum StageError {
    /// An error of ours or of another service.
    Error(Error),
    /// An error of the provider or the runtime.
    Provider(ProviderError),
    /// Another outcome than an error, such as a wait or a failure with its own reason.
    Outcome(Box<Outcome>),
}

impl From<Error> for StageError {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<ProviderError> for StageError {
    fn from(e: ProviderError) -> Self {
        Self::Provider(e)
    }
}

impl From<foundry_runtime_client::ClientError> for StageError {
    fn from(e: foundry_runtime_client::ClientError) -> Self {
        Self::Provider(e.into())
    }
}

impl From<foundry_agents::AgentError> for StageError {
    fn from(e: foundry_agents::AgentError) -> Self {
        let class =
            if e.reason.starts_with("AGENT_MODEL") { Class::Credentials } else { Class::Configuration };
        Self::Provider(ProviderError::new(class, e.reason, e.message))
    }
}

impl From<Outcome> for StageError {
    fn from(o: Outcome) -> Self {
        Self::Outcome(Box::new(o))
    }
}

impl From<StageError> for Outcome {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Error(e) => e.into(),
            StageError::Provider(e) => failed(&e),
            StageError::Outcome(outcome) => *outcome,
        }
    }
}

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod cancel_tests;
#[cfg(test)]
mod tests;
