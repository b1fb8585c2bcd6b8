//! How a task is shown that looks for the branch it is to work on.

use foundry_proto::common::v1::Condition;

use super::task::{FlowFacts, Task};

/// Why a task waits for its branch. It stays the same from one look at the job to the next, unless there is trouble.
pub fn sought(task: &Task) -> Condition {
    let flow = &task.flow;
    let is_trouble = !["", "WAITING"].contains(&flow.condition.reason.as_str());
    let trouble = is_trouble.then(|| flow.condition.clone());
    let plain = || Condition {
        message: format!(
            "the branch {} is not known here yet, and is being looked for at the remote",
            task.view.branch
        ),
        since_time: Some(task.create_time.to_proto()),
        ..Condition::default()
    };
    Condition {
        waiting_on: "the branch at the remote".to_owned(),
        next_action: "none needed: the task goes on by itself; kill it if it is not to wait".to_owned(),
        ..trouble.unwrap_or_else(plain)
    }
}

/// Why a task did not get its branch.
pub fn not_found(flow: &FlowFacts) -> Condition {
    let next_action = match flow.condition.reason.as_str() {
        "BRANCH_NOT_AT_REMOTE" => {
            "push the branch and retry the task, or kill it and create one on a branch that is there"
        }
        _ => "retry the task: the branch is looked for again",
    };
    Condition { next_action: next_action.to_owned(), ..flow.condition.clone() }
}
