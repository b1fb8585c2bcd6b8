//! The stages that a task passes until its agent can work, at which crash tests interrupt it.

use foundry_proto::common::v1::{Stage, StageState};
use foundry_proto::task::v1::Task;

/// Calls of the sandbox provider, each with the stage that makes it, in order.
pub const STAGES: [(&str, &str); 5] = [
    ("allocate", "sandbox_allocated"),
    ("prepare_repo", "repo_prepared"),
    ("install_agent", "agent_installing"),
    ("start_agent", "agent_starting"),
    ("probe", "agent_ready"),
];

/// The stage with this name.
///
/// # Panics
/// When there is none.
pub fn stage<'a>(task: &'a Task, name: &str) -> &'a Stage {
    task.stages.iter().find(|s| s.name == name).expect("a stage")
}

/// The stages that are done, with their times and attempts.
pub fn completed(task: &Task) -> Vec<Stage> {
    task.stages.iter().filter(|s| s.state() == StageState::Done).cloned().collect()
}

/// Checks that stages that were done before are unchanged, so that none ran again.
///
/// # Panics
/// When one has changed.
pub fn assert_not_repeated(before: &[Stage], now: &Task) {
    for done in before {
        assert_eq!(stage(now, &done.name), done, "a completed stage ran again");
    }
}
