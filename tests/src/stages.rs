//! The stages that a task goes through until its agent can work, as a crash may meet them.

use foundry_proto::common::v1::{Stage, StageState};
use foundry_proto::task::v1::Task;

/// Calls of the sandbox provider and the stages they happen in, in this order.
pub const STAGES: [(&str, &str); 5] = [
    ("allocate", "sandbox_allocated"),
    ("prepare_repo", "repo_prepared"),
    ("install_agent", "agent_installing"),
    ("start_agent", "agent_starting"),
    ("probe", "agent_ready"),
];

/// The stage of this name.
///
/// # Panics
/// When there is none.
pub fn stage<'a>(task: &'a Task, name: &str) -> &'a Stage {
    task.stages.iter().find(|s| s.name == name).expect("a stage")
}

/// The stages that are done, with when and how often they ran.
pub fn completed(task: &Task) -> Vec<Stage> {
    task.stages.iter().filter(|s| s.state() == StageState::Done).cloned().collect()
}

/// Checks that what was done before is as it was: it ran no second time.
///
/// # Panics
/// When it is not.
pub fn assert_not_repeated(before: &[Stage], now: &Task) {
    for done in before {
        assert_eq!(stage(now, &done.name), done, "a completed stage ran again");
    }
}
