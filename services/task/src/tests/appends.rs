//! Agent events that only make a transcript longer, and updates that say only how many there are.

use foundry_core::TaskId;
use foundry_proto::common::v1::AgentMessage;
use foundry_proto::provisioner::v1::AgentSession;

use super::*;
use crate::consume::agent_side;
use crate::consume::append::append;
use crate::domain::derive::{Aggregate, Replica};
use crate::projection::organization;
use crate::store::{summary, tasks};

fn said(session: &str, offset: i64, text: &str) -> AgentEvent {
    let body = Some(Body::AgentMessage(AgentMessage { text: text.to_owned() }));
    let part = TranscriptPart { message_id: "msg".to_owned(), body, ..TranscriptPart::default() };
    AgentEvent { session_id: session.to_owned(), offset, part: Some(part) }
}

async fn load(running: &Running, task: &TaskId) -> Aggregate {
    *aggregate::load(&running.cx.store, task).await.unwrap().unwrap()
}

/// The agent's side with its newest event so much further, as an update from the provisioner.
fn further(held: &Aggregate, session: &str, by: i64) -> Replica<AgentSession> {
    let Replica { rev, mut entity } = held.agents[session].clone();
    entity.last_offset += by;
    Replica { rev: rev + 1, entity }
}

async fn update(running: &Running, task: &TaskId, update: &Replica<AgentSession>) {
    agent_side::update(&running.cx, task, &update.entity, update.rev, &|_| {}).await.unwrap();
}

/// Checks that the task as it was written is what its facts come to.
fn is_derived(running: &Running, written: &Aggregate) {
    let mut derived = written.clone();
    derived.refresh(running.cx.env.clock.now());
    assert_eq!(derived, *written, "something was left to derive");
}

/// The last signal to the flow of a session.
async fn signal(running: &Running, session: &str) -> Option<String> {
    signal_of(running, &aggregate::session_key(session)).await
}

async fn signal_of(running: &Running, key: &str) -> Option<String> {
    const SQL: &str = "SELECT nonce FROM flow_signals WHERE wait_key = $1";
    let rows = running.cx.store.query(SQL, &[key.into()]).await.unwrap();
    rows.first().map(|r| r.text("nonce").unwrap().to_owned())
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
        // Fewer than an append tries again, so that one that loses to each of them still succeeds.
        while written < 10 {
            let fence = tasks::fence(&cx.store, &task).await.unwrap().unwrap();
            let mut ws = WriteSet::new();
            tasks::update_fence(&mut ws, &task, fence, aggregate::fence(&cx.env));
            written += i32::from(cx.store.commit(ws).await.is_ok());
        }
    };
    tokio::join!(appends, others);
    let lines = transcript(&running, &tenant, &session).await;
    let expected: Vec<_> = (1..=20).map(|n| format!("agent: {n}")).collect();
    let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
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

#[tokio::test]
async fn takes_in_how_many_events_there_are_in_one_commit_without_loading_the_task_or_showing_anything() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let (store, task, id) = (&running.cx.store, task.parse().unwrap(), session.parse().unwrap());
    // The events come first, so that the session stays caught up and no flow wakes during a measure.
    let offset = load(&running, &task).await.session(&session).unwrap().event_offset;
    let events: Vec<_> = (1..=20).map(|n| said(&session, offset + n, "yes")).collect();
    append(&running.cx, &task, &id, &events, &apply::Texts::new()).await.unwrap();
    let mut costs = Vec::new();
    // What the service does by itself may fall into a measure; of a few one costs what it costs alone.
    for _ in 0..10 {
        let held = load(&running, &task).await;
        let news = further(&held, &session, 1);
        let before = store.stats();
        update(&running, &task, &news).await;
        let after = store.stats();
        let written = load(&running, &task).await;
        assert_eq!(written.agents[&session], news);
        let shows_the_same = written.sessions == held.sessions && written.task.rev == held.task.rev;
        costs.push((after.loads - before.loads, after.requests - before.requests, shows_the_same));
        if costs.last() == Some(&(0, 1, true)) {
            break;
        }
    }
    assert_eq!(costs.last(), Some(&(0, 1, true)), "{costs:?}");
    is_derived(&running, &load(&running, &task).await);
    running.stop().await;
}

#[tokio::test]
async fn keeps_the_agents_side_over_an_older_update_of_it() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let task = task.parse().unwrap();
    let newest = further(&load(&running, &task).await, &session, 2);
    update(&running, &task, &newest).await;
    let mut older = newest.clone();
    older.entity.last_offset -= 1;
    for rev in [newest.rev, newest.rev - 1] {
        older.rev = rev;
        update(&running, &task, &older).await;
    }
    assert_eq!(load(&running, &task).await.agents[&session], newest);
    running.stop().await;
}

#[tokio::test]
async fn wakes_the_flow_of_a_session_that_becomes_caught_up() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    send(&running, &tenant, &session, "two").await;
    // The turn has ended, but one event is still to come.
    world.provisioner.tell_ready(&session).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    let id = task.parse().unwrap();
    let held = load(&running, &id).await;
    assert!(!held.caught_up(held.session(&session).unwrap()));
    let before = signal(&running, &session).await;
    update(&running, &id, &further(&held, &session, -1)).await;
    assert_ne!(signal(&running, &session).await, before);
    running.until_session(&tenant, &task, &session, |s| s.queue_length == 0).await;
    assert_eq!(world.provisioner.prompts(), ["one", "two"]);
    running.stop().await;
}

#[tokio::test]
async fn follows_a_session_again_whose_agent_has_one_more_event_after_its_turn() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let ended = |s: &Session| s.state() == SessionState::Idle && s.last_offset == 2;
    running.until_session(&tenant, &task, &session, ended).await;
    assert!(!load(&running, &task.parse().unwrap()).await.session(&session).unwrap().follows);
    world.provisioner.say(&session, "late").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 3).await;
    let lines = transcript(&running, &tenant, &session).await;
    assert_eq!(lines.last(), Some(&(3, "agent: late".to_owned())));
    running.stop().await;
}

#[tokio::test]
async fn derives_the_task_when_an_update_says_more_than_how_many_events_there_are() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let task = task.parse().unwrap();
    let mut news = further(&load(&running, &task).await, &session, 1);
    news.entity.title = "The parser".to_owned();
    update(&running, &task, &news).await;
    let titled = load(&running, &task).await;
    assert_eq!(titled.session(&session).unwrap().view.agent_title, "The parser");
    is_derived(&running, &titled);

    let mut news = further(&titled, &session, 1);
    news.entity.set_state(AgentSessionState::Interrupted);
    update(&running, &task, &news).await;
    let held = load(&running, &task).await;
    let shown = &held.session(&session).unwrap().view;
    assert_eq!((shown.state(), shown.queue_held), (SessionState::Interrupted, true));
    is_derived(&running, &held);
    running.stop().await;
}

#[tokio::test]
async fn wakes_the_flow_of_a_failed_session_for_each_revision_of_its_agents_side() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let task = task.parse().unwrap();
    let mut news = further(&load(&running, &task).await, &session, 0);
    news.entity.set_state(AgentSessionState::Error);
    update(&running, &task, &news).await;
    let before = signal(&running, &session).await;
    update(&running, &task, &Replica { rev: news.rev + 1, ..news }).await;
    assert_ne!(signal(&running, &session).await, before);
    running.stop().await;
}

#[tokio::test]
async fn wakes_flows_for_those_states_of_a_sandbox_alone_that_they_tell_apart() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let task = task.parse().unwrap();
    let key = aggregate::sandbox_key(&task);
    let mut woken = Vec::new();
    for state in [
        SandboxState::Queued,
        SandboxState::Allocating,
        SandboxState::PreparingRepo,
        SandboxState::InstallingAgent,
        SandboxState::StartingAgent,
        SandboxState::Ready,
    ] {
        let before = signal_of(&running, &key).await;
        crate::flow::change(&running.cx, &task, |aggregate, _| {
            aggregate.sandbox.as_mut().unwrap().entity.set_state(state);
            Ok(())
        })
        .await
        .unwrap();
        woken.push(signal_of(&running, &key).await != before);
    }
    assert_eq!(woken, [true, false, false, true, false, true]);
    running.stop().await;
}
