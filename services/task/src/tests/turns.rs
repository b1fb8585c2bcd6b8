//! What a task shows of its turns.

use super::*;

#[tokio::test]
async fn the_end_of_the_newest_turn_is_shown_so_that_its_work_can_be_waited_for() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    let begun = running.until(&tenant, &task, |t| t.task.as_ref().unwrap().newest_turn.is_some()).await;
    assert_eq!(begun.task.unwrap().newest_turn.unwrap().end_time, None, "it runs");
    // As the provisioner shows it: the session rests since the end of the turn.
    let ended = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
    let rests = foundry_proto::common::v1::Condition { since_time: ended, ..Default::default() };
    world.provisioner.set_condition(&session, rests).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let over = running
        .until(&tenant, &task, |t| {
            t.task.as_ref().unwrap().newest_turn.as_ref().is_some_and(|turn| turn.end_time.is_some())
        })
        .await;
    let view = over.task.unwrap();
    assert_eq!((view.state(), view.newest_turn.unwrap().end_time), (TaskState::Idle, ended));
    // The next turn is another one, which runs.
    send(&running, &tenant, &session, "two").await;
    running
        .until(&tenant, &task, |t| {
            t.task.as_ref().unwrap().newest_turn.as_ref().is_some_and(|turn| turn.end_time.is_none())
        })
        .await;
    // A limit that was reached during the turn is older than its end, which is not known then.
    let limit = foundry_proto::common::v1::Condition {
        reason: "TASK_OUTPUT_LIMIT".to_owned(),
        since_time: ended,
        ..Default::default()
    };
    world.provisioner.set_condition(&session, limit).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let over = running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Idle).await;
    assert_eq!(over.task.unwrap().newest_turn.unwrap().end_time, None);
    running.stop().await;
}
