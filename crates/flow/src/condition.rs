//! A flow's status in the terms of the wire contract: the reason for its state, and the state of each stage.

use foundry_proto::common::v1::{Condition, Stage, StageState};

use crate::{Flow, FlowStatus, Status};

/// Why the flow is in its state, and what happens next.
pub fn condition<C>(flow: &Flow<C>, status: &FlowStatus) -> Condition {
    let stage = flow.stages.iter().find(|s| s.name == status.stage);
    let active = !matches!(status.status, Status::Done | Status::Failed | Status::Cancelled);
    let running = status.status == Status::Running;
    let retrying = status.status == Status::Ready && status.failures > 0;
    Condition {
        reason: status.reason.clone(),
        message: status.text(),
        waiting_on: if active {
            status.wait_key.clone().unwrap_or_else(|| status.stage.clone())
        } else {
            String::new()
        },
        since_time: Some(status.status_time.to_proto()),
        attempt: if active { i32::try_from(status.attempt).unwrap_or(i32::MAX) } else { 0 },
        // 0 means that there is no limit.
        max_attempts: stage.map_or(0, |s| i32::try_from(s.retry.budget).unwrap_or(0)),
        attempt_time: running.then(|| status.status_time.to_proto()),
        last_progress_time: Some(status.last_progress_time.to_proto()),
        deadline_time: status.deadline.filter(|_| active).map(foundry_core::Timestamp::to_proto),
        next_attempt_time: status.due_time.filter(|_| retrying).map(foundry_core::Timestamp::to_proto),
        retryable: status.retryable(),
        next_action: status.next_action(),
    }
}

/// All stages that have no record yet, pending, in the order of the table.
pub fn pending_stages<C>(flow: &Flow<C>) -> Vec<Stage> {
    flow.stages
        .iter()
        .map(|s| Stage { name: s.name.to_owned(), state: StageState::Pending.into(), ..Stage::default() })
        .collect()
}

/// The current stage as it is shown. A stage that the transition completed is
/// [`FlowStatus::completed_stage`]: mark it done with [`FlowStatus::status_time`] as its end.
pub fn current_stage(status: &FlowStatus) -> Stage {
    let state = match status.status {
        Status::Running => StageState::Running,
        Status::Ready | Status::Waiting | Status::Parked => StageState::Waiting,
        Status::Done => StageState::Done,
        Status::Failed => StageState::Failed,
        Status::Cancelled => StageState::Cancelled,
    };
    let ended = matches!(status.status, Status::Done | Status::Failed | Status::Cancelled);
    Stage {
        name: status.stage.clone(),
        state: state.into(),
        start_time: Some(status.stage_started_time.to_proto()),
        end_time: ended.then(|| status.status_time.to_proto()),
        attempts: i32::try_from(status.attempt).unwrap_or(i32::MAX),
        reason: status.reason.clone(),
        message: status.text(),
    }
}
