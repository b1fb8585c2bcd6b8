//! What an ended task gives back.

use foundry_core::Timestamp;
use foundry_proto::common::v1::AgentMessage;
use foundry_store::DialectSql;

use super::*;
use crate::consume::{self, append::append};

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
    let left = crate::store::tasks::unreleased(&running.cx.store, "", 100).await.unwrap();
    assert!(left.is_empty(), "it is looked at no more: {left:?}");
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

#[tokio::test]
async fn a_restored_database_goes_on_after_events_that_were_deleted_since() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    for text in ["a", "b"] {
        world.provisioner.say(&session, text).await;
    }
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 3).await;
    let mut released = world.provisioner.released.subscribe();
    kill(&running, &tenant, &task).await;
    released.wait_for(|all| all.iter().any(|(id, _)| *id == session)).await.unwrap();
    world.provisioner.delete_events(&session).await;

    // As if it had last been saved before the events arrived.
    const OLDER: &str =
        "UPDATE sessions SET event_offset = 0, follows = 1, released = 0 WHERE session_id = $1";
    let sql = DialectSql { sqlite: OLDER, postgres: OLDER };
    running.cx.store.write(sql, &[session.as_str().into()]).await.unwrap();
    let mut wake = WriteSet::new();
    wake.wake(crate::store::aggregate::FOLLOW_TOPIC);
    running.cx.store.commit(wake).await.unwrap();
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 4).await;
    let shown = transcript(&running, &tenant, &session).await;
    assert!(shown[3].1.contains("agent events are missing here"), "{shown:?}");
    let id = session.parse().unwrap();
    let cursor = crate::store::sessions::event_cursor(&running.cx.store, &id).await.unwrap().unwrap();
    let last = world.provisioner.session(&session).unwrap().last_offset;
    assert_eq!((cursor.offset, cursor.follows), (last, false), "nothing is waited for");
    running.stop().await;
}

/// Sets for how many days a task has ended.
async fn ended_for(running: &Running, task: &str, days: u64) {
    const SQL: &str = "UPDATE tasks SET lifecycle_time = $1 WHERE task_id = $2";
    let time: Timestamp = running.cx.env.clock.now().minus(Duration::from_secs(days * 24 * 3600));
    let sql = DialectSql { sqlite: SQL, postgres: SQL };
    running.cx.store.write(sql, &[time.into(), task.into()]).await.unwrap();
}

#[tokio::test]
async fn deletes_the_transcripts_of_a_killed_task_after_90_days_and_leaves_a_notice() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (killed, session) = ids(&running.create(&tenant, "one").await);
    let (archived, other) = ids(&running.create(&tenant, "two").await);
    for (task, session) in [(&killed, &session), (&archived, &other)] {
        running.until_session(&tenant, task, session, |s| s.state() == SessionState::Running).await;
        world.provisioner.end_turn(session, TurnOutcome::Completed).await;
        let ended = |s: &Session| s.state() == SessionState::Idle && s.last_offset == 2;
        running.until_session(&tenant, task, session, ended).await;
    }
    // More than one statement deletes.
    let said = |offset| {
        let body = Some(Body::AgentMessage(AgentMessage { text: "words".into() }));
        let part = TranscriptPart { body, ..TranscriptPart::default() };
        AgentEvent { session_id: session.clone(), offset, part: Some(part) }
    };
    let id = session.parse().unwrap();
    let offset = world.provisioner.session(&session).unwrap().last_offset;
    let events: Vec<_> = (1..=600).map(|n| said(offset + n)).collect();
    append(&running.cx, &killed.parse().unwrap(), &id, &events, &apply::Texts::new()).await.unwrap();
    kill(&running, &tenant, &killed).await;
    let archive = ArchiveTaskRequest { task_id: archived.clone(), request_id: String::new() };
    ops::archive_task::archive_task(&running.cx, &tenant.caller, archive).await.unwrap();
    running.until(&tenant, &archived, |t| t.task.as_ref().unwrap().state() == TaskState::Archived).await;

    let count = async || {
        const SQL: &str = "SELECT COUNT(*) AS n FROM transcript_entries WHERE session_id = $1";
        let rows = running.cx.store.query(SQL, &[session.as_str().into()]).await.unwrap();
        rows[0].int("n").unwrap()
    };
    for (days, kept) in [(89, 602), (91, 1), (92, 1)] {
        for task in [&killed, &archived] {
            ended_for(&running, task, days).await;
        }
        consume::delete_transcripts(&running.cx).await.unwrap();
        assert_eq!(count().await, kept, "after {days} days");
    }
    let left = transcript(&running, &tenant, &session).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, 603, "the offsets go on");
    assert!(left[0].1.contains("the task was killed more than 90d ago"), "{left:?}");
    assert_eq!(transcript(&running, &tenant, &other).await.len(), 2, "that of an archived task is kept");
    running.stop().await;
}

#[tokio::test]
async fn a_kill_of_an_archived_task_makes_it_killed_at_once() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    let archive = ArchiveTaskRequest { task_id: task.clone(), request_id: String::new() };
    ops::archive_task::archive_task(&running.cx, &tenant.caller, archive.clone()).await.unwrap();
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Archived).await;
    let kill = KillTaskRequest { task_id: task.clone(), request_id: String::new() };
    let killed = ops::kill_task::kill_task(&running.cx, &tenant.caller, kill).await.unwrap();
    assert_eq!(killed.task.unwrap().state(), TaskState::Killed);
    let refused = ops::archive_task::archive_task(&running.cx, &tenant.caller, archive).await.unwrap_err();
    assert_eq!(refused.reason(), "TASK_KILLED");
    running.stop().await;
}
