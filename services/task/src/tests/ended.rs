//! What an ended task gives back.

use super::*;
use crate::consume;

async fn kill(running: &Running, tenant: &Tenant, task: &str) {
    let request = KillTaskRequest { task_id: task.into(), request_id: String::new() };
    ops::kill_task::kill_task(&running.cx, &tenant.caller, request).await.unwrap();
    running.until(tenant, task, |t| t.task.as_ref().unwrap().state() == TaskState::Killed).await;
}

#[tokio::test]
async fn releases_the_events_of_a_killed_task_alone_whose_transcript_is_complete() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (living, other) = ids(&running.create(&tenant, "one").await);
    let (task, session) = ids(&running.create(&tenant, "two").await);
    for (task, session) in [(&living, &other), (&task, &session)] {
        running.until_session(&tenant, task, session, |s| s.state() == SessionState::Running).await;
    }
    world.provisioner.say(&session, "done").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    // One more event is still to come.
    world.provisioner.tell_ready(&session).await;
    kill(&running, &tenant, &task).await;
    consume::release(&running.cx).await.unwrap();
    assert!(world.provisioner.released.borrow().is_empty(), "the transcript is not complete");

    world.provisioner.tell_end(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 3).await;
    for _ in 0..2 {
        consume::release(&running.cx).await.unwrap();
    }
    let mut released = world.provisioner.released.subscribe();
    released.wait_for(|all| !all.is_empty()).await.unwrap();
    let agent = world.provisioner.session(&session).unwrap();
    assert_eq!(*world.provisioner.released.borrow(), [(session.clone(), agent.last_offset)]);
    let kept = ["user: two", "agent: done", "end: Completed"].map(str::to_owned);
    let kept: Vec<_> = (1..).zip(kept).collect();
    assert_eq!(transcript(&running, &tenant, &session).await, kept);
    running.stop().await;
}

#[tokio::test]
async fn releases_the_events_by_itself_when_a_task_ends() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let mut released = world.provisioner.released.subscribe();
    kill(&running, &tenant, &task).await;
    released.wait_for(|all| all.iter().any(|(id, _)| *id == session)).await.unwrap();
    running.stop().await;
}
