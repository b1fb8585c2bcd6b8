//! A task with its sessions.

use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{GetTaskRequest, GetTaskResponse};

use crate::context::Context;
use crate::store::aggregate;

/// # Errors
/// `NOT_FOUND`.
pub async fn get_task(cx: &Context, caller: &Caller, request: GetTaskRequest) -> Result<GetTaskResponse> {
    let id = request.task_id.parse()?;
    let found = aggregate::of_one_moment(&cx.store, &id).await?;
    let (task, sessions) = found.ok_or_else(|| Error::not_found("task", &request.task_id))?;
    caller.require_for(&task.organization_id, Role::Viewer, "task", &request.task_id)?;
    Ok(GetTaskResponse { task: Some(task.view), sessions: sessions.into_iter().map(|s| s.view).collect() })
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::PermissionRequest;
    use foundry_proto::task::v1::SessionState;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn shows_the_task_and_its_sessions_of_one_moment() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let made = running.create(&tenant, "one").await;
        let (task, session) = (made.task.unwrap().task_id, made.session.unwrap().session_id);
        running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
        for turn in 0..20 {
            let asks = turn % 2 == 0;
            let pending = PermissionRequest {
                permission_id: format!("p{turn}"),
                title: "run tests".into(),
                ..PermissionRequest::default()
            };
            world.provisioner.ask(&session, asks.then_some(pending)).await;
            loop {
                let request = GetTaskRequest { task_id: task.clone() };
                let aggregate = get_task(&running.cx, &tenant.caller, request).await.unwrap();
                let waits = aggregate.sessions[0].pending_permission.is_some();
                let condition = aggregate.task.unwrap().condition.unwrap_or_default();
                assert_eq!(condition.waiting_on.starts_with("permission"), waits, "{condition:?}");
                if waits == asks {
                    break;
                }
            }
        }
        running.stop().await;
    }
}
