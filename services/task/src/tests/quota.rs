//! A model provider whose quota is used up until a known time, and limits of stored output.

use foundry_proto::common::v1::Condition;

use super::*;

#[tokio::test]
async fn hands_over_what_waits_after_a_turn_that_ended_for_a_quota_with_a_time_and_holds_nothing() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    send(&running, &tenant, &session, "two").await;
    let until = world.env.clock.now().plus(Duration::from_secs(3600)).to_proto();
    world.provisioner.refuse_until(&session, until).await;
    // The provisioner holds the turn back and reports why; here the message has left the queue.
    let waits = |s: &Session| s.state() == SessionState::Running && s.queue_length == 0;
    let waiting = running.until_session(&tenant, &task, &session, waits).await;
    assert!(!waiting.queue_held);
    assert_eq!(world.provisioner.prompts(), ["one", "two"]);
    running.stop().await;
}

#[tokio::test]
async fn tells_the_provisioner_to_go_on_when_a_person_resumes_a_session_that_waits_for_a_quota() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let resume = || {
        let request = ResumeQueueRequest { session_id: session.clone(), request_id: String::new() };
        ops::resume_queue::resume_queue(&running.cx, &tenant.caller, request)
    };
    resume().await.unwrap();
    let until = world.env.clock.now().plus(Duration::from_secs(3600)).to_proto();
    world.provisioner.refuse_until(&session, until).await;
    let refused = |s: &Session| s.condition.as_ref().is_some_and(|c| c.reason == "MODEL_QUOTA");
    running.until_session(&tenant, &task, &session, refused).await;
    assert!(world.provisioner.resumed.borrow().is_empty(), "nothing waited at the first");
    resume().await.unwrap();
    let mut resumed = world.provisioner.resumed.subscribe();
    resumed.wait_for(|all| *all == [session.clone()]).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn shows_during_and_after_a_turn_that_output_of_the_agent_is_no_longer_stored() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    for reason in ["TASK_OUTPUT_LIMIT", "ORGANIZATION_OUTPUT_LIMIT"] {
        let condition = Condition {
            reason: reason.to_owned(),
            message: "1.0 MiB of agent output was not stored".to_owned(),
            ..Condition::default()
        };
        world.provisioner.set_condition(&session, condition).await;
        let shows = |t: &GetTaskResponse, state| {
            let task = t.task.as_ref().unwrap();
            task.state() == state && task.condition.as_ref().is_some_and(|c| c.reason == reason)
        };
        running.until(&tenant, &task, |t| shows(t, TaskState::Running)).await;
        world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
        running.until(&tenant, &task, |t| shows(t, TaskState::Idle)).await;
        let request = ExplainTaskRequest { task_id: task.clone() };
        let explained = ops::explain_task::explain_task(&running.cx, &tenant.caller, request).await.unwrap();
        assert!(explained.summary.contains("1.0 MiB of agent output was not stored"), "{explained:#?}");
        assert_eq!(explained.summary.matches(reason).count(), 1, "{explained:#?}");
        send(&running, &tenant, &session, "more").await;
        running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    }
    running.stop().await;
}
