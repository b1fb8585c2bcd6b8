//! Agent events that only make a transcript longer.

use foundry_proto::common::v1::AgentMessage;

use super::*;
use crate::consume::append::append;
use crate::projection::organization;
use crate::store::{summary, tasks};

fn said(session: &str, offset: i64, text: &str) -> AgentEvent {
    let body = Some(Body::AgentMessage(AgentMessage { text: text.to_owned() }));
    let part = TranscriptPart { message_id: "msg".to_owned(), body, ..TranscriptPart::default() };
    AgentEvent { session_id: session.to_owned(), offset, part: Some(part) }
}

#[tokio::test]
async fn appends_a_batch_in_one_commit_without_loading_the_task_and_leaves_nothing_to_derive() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let (store, task, id) = (&running.cx.store, task.parse().unwrap(), session.parse().unwrap());
    let mut costs = Vec::new();
    // What the service does by itself may fall into a measure; of a few one costs what it costs alone.
    for _ in 0..10 {
        let held = aggregate::load(store, &task).await.unwrap().unwrap();
        let offset = held.session(&session).unwrap().event_offset;
        let events = [said(&session, offset + 1, "yes"), said(&session, offset + 2, "no")];
        let before = store.stats();
        let reached = append(&running.cx, &task, &id, &events, &apply::Texts::new()).await.unwrap();
        let after = store.stats();
        assert_eq!(reached, offset + 2);
        costs.push((after.loads - before.loads, after.requests - before.requests));
        if costs.last() == Some(&(0, 1)) {
            break;
        }
    }
    assert_eq!(costs.last(), Some(&(0, 1)), "{costs:?}");

    let written = aggregate::load(store, &task).await.unwrap().unwrap();
    let mut derived = written.clone();
    derived.refresh(running.cx.env.clock.now());
    assert_eq!(derived, written, "the append left something to derive");
    let shown = summary::task(store, &tenant.organization, &task).await.unwrap();
    let Some(organization_item::Item::Task(expected)) = organization::of_task(&written).item.item else {
        panic!("the summary of a task is a task");
    };
    assert_eq!(shown, Some(expected));
    let lines = transcript(&running, &tenant, &session).await;
    let lines: Vec<_> = lines.iter().rev().take(2).map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines, ["agent: no", "agent: yes"]);
    running.stop().await;
}

#[tokio::test]
async fn appends_each_event_once_while_others_write_parts_of_the_task() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let (cx, task, id) = (&running.cx, task.parse().unwrap(), session.parse().unwrap());
    let held = aggregate::load(&cx.store, &task).await.unwrap().unwrap();
    let offset = held.session(&session).unwrap().event_offset;
    let appends = async {
        for n in 1..=20 {
            // A stream that was reopened brings the event before once more.
            let events = [n - 1, n].map(|n| said(&session, offset + n, &n.to_string()));
            let reached = append(cx, &task, &id, &events[usize::from(n == 1)..], &apply::Texts::new()).await;
            assert_eq!(reached.unwrap(), offset + n);
        }
    };
    let others = async {
        let mut written = 0;
        while written < 20 {
            let fence = tasks::fence(&cx.store, &task).await.unwrap().unwrap();
            let mut ws = WriteSet::new();
            tasks::update_fence(&mut ws, &task, fence, aggregate::fence(&cx.env));
            written += i32::from(cx.store.commit(ws).await.is_ok());
        }
    };
    tokio::join!(appends, others);
    let lines = transcript(&running, &tenant, &session).await;
    let expected: Vec<_> = (1..=20).map(|n| format!("agent: {n}")).collect();
    let lines: Vec<_> = lines.into_iter().skip(1).map(|(_, line)| line).collect();
    assert_eq!(lines, expected);
    let written = aggregate::load(&cx.store, &task).await.unwrap().unwrap();
    let mut derived = written.clone();
    derived.refresh(cx.env.clock.now());
    assert_eq!(derived, written);
    running.stop().await;
}

#[tokio::test]
async fn derives_the_task_when_the_end_of_a_turn_holds_its_queue() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    send(&running, &tenant, &session, "two").await;
    world.provisioner.end_turn(&session, TurnOutcome::Refused).await;
    let held = |t: &GetTaskResponse| {
        let condition = t.task.as_ref().unwrap().condition.clone().unwrap_or_default();
        condition.reason == "QUEUE_HELD" && t.sessions[0].queue_held
    };
    running.until(&tenant, &task, held).await;
    running.stop().await;
}
