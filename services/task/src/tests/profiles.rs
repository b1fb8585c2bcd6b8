//! Tasks and sessions that use an agent profile.

use foundry_core::Code;
use foundry_proto::common::v1::{PermissionPolicy, Role};
use foundry_proto::task::v1::*;

use crate::ops;
use crate::testing::provisioner::NIGHT;
use crate::testing::{Running, Tenant, World};

async fn create(running: &Running, tenant: &Tenant, agent: &str, profile: &str) -> CreateTaskResponse {
    try_create(running, tenant, agent, profile).await.unwrap()
}

async fn try_create(
    running: &Running,
    tenant: &Tenant,
    agent: &str,
    profile: &str,
) -> foundry_core::Result<CreateTaskResponse> {
    let request = CreateTaskRequest {
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "say hi".into(),
        agent: agent.into(),
        profile: profile.into(),
        ..CreateTaskRequest::default()
    };
    ops::create_task::create_task(&running.cx, &tenant.caller, request).await
}

#[tokio::test]
async fn a_task_shows_the_agent_and_the_profile_that_the_provisioner_found() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    for (agent, profile, expected) in
        [("", "night", ("claude", NIGHT)), ("", "", ("demo", "")), ("codex", "", ("codex", ""))]
    {
        let made = create(&running, &tenant, agent, profile).await.task.unwrap();
        assert_eq!((made.agent.as_str(), made.profile.as_str()), (agent, profile));
        let found = running
            .until(&tenant, &made.task_id, |t| t.task.as_ref().unwrap().state() == TaskState::Running)
            .await;
        let (task, session) = (found.task.unwrap(), &found.sessions[0]);
        assert_eq!((task.agent.as_str(), task.profile.as_str()), expected);
        assert_eq!((session.agent.as_str(), session.profile.as_str()), expected);
        assert_eq!(task.permission_policy(), PermissionPolicy::Ask);
        assert_eq!(session.permission_policy(), PermissionPolicy::Ask);
        // A further session uses its task's profile unless the request names something else.
        let more = CreateSessionRequest { task_id: made.task_id.clone(), ..Default::default() };
        let more = ops::create_session::create_session(&running.cx, &tenant.caller, more).await.unwrap();
        let more = more.session.unwrap();
        assert_eq!((more.agent.as_str(), more.profile.as_str()), expected);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_task_with_a_profile_that_is_not_there_says_so_and_goes_no_further() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let made = create(&running, &tenant, "", "gone").await.task.unwrap();
    let found =
        running.until(&tenant, &made.task_id, |t| t.task.as_ref().unwrap().state() == TaskState::Error).await;
    assert_eq!(found.task.unwrap().condition.unwrap().reason, "PROFILE_NOT_FOUND");
    running.stop().await;
}

#[tokio::test]
async fn a_profile_says_the_agent_so_both_are_refused() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    for (agent, profile) in [("codex", "night"), ("hal", ""), ("", "a b"), ("", "../x"), ("--x", "")] {
        let refused = try_create(&running, &tenant, agent, profile).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{agent} {profile}");
    }
    running.stop().await;
}
