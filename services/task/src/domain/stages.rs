//! The stages that a task shows, combined from those of its sandbox and of its first agent session.

use foundry_proto::common::v1::{Condition, Stage, StageState};
use foundry_proto::provisioner::v1::{AgentSession, Sandbox};

/// Stages of a sandbox.
const OF_SANDBOX: [&str; 5] =
    ["sandbox_allocated", "repo_prepared", "agent_installing", "agent_starting", "agent_ready"];
/// Stages of a session.
const OF_SESSION: [&str; 2] = ["session_creating", "ready"];

/// All stages in order; `error` is listed only once something failed for good.
pub fn fold(
    sandbox: Option<&Sandbox>,
    agent: Option<&AgentSession>,
    failure: Option<&Condition>,
) -> Vec<Stage> {
    let mut stages: Vec<Stage> = OF_SANDBOX
        .iter()
        .map(|name| pick(sandbox.map(|s| s.stages.as_slice()), name))
        .chain(OF_SESSION.iter().map(|name| pick(agent.map(|a| a.stages.as_slice()), name)))
        .collect();
    if let Some(failure) = failure {
        stages.push(Stage {
            name: "error".to_owned(),
            state: StageState::Failed.into(),
            start_time: failure.since_time,
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            ..Stage::default()
        });
    }
    stages
}

fn pick(known: Option<&[Stage]>, name: &str) -> Stage {
    known.and_then(|stages| stages.iter().find(|s| s.name == name)).cloned().unwrap_or_else(|| Stage {
        name: name.to_owned(),
        state: StageState::Pending.into(),
        ..Stage::default()
    })
}
