//! A row that cannot be decoded harms the one entity that it belongs to, and nothing else.

use std::sync::Arc;

use foundry_frame::{RawBody, RawOp};
use foundry_store::{DialectSql, Scope};
use foundry_watch::{Observer, Unrestricted};
use foundry_watch_hub::TableView;
use futures::StreamExt as _;
use prost::Message;
use tokio::sync::watch;

use super::*;
use crate::store::{ENCODED, REFERENCES, upstream};
use crate::{Rebuilt, rebuild, view};

/// No message begins with these bytes.
const GARBAGE: [u8; 3] = [0xff; 3];
const REASON: &str = "STORED_DATA_DAMAGED";

/// Replaces a stored value, as a flipped byte would.
async fn damage(running: &Running, sql: &'static str, id: &str) {
    let params = [GARBAGE.to_vec().into(), id.into()];
    running.cx.store.write(DialectSql { sqlite: sql, postgres: sql }, &params).await.unwrap();
}

/// A task whose first turn runs; nothing of it changes by itself any more.
async fn busy(running: &Running, tenant: &Tenant, prompt: &str) -> (String, String) {
    let (task, session) = ids(&running.create(tenant, prompt).await);
    running.until_session(tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let id = task.parse().unwrap();
    let mut hint = running.cx.store.subscribe(&Scope::organization(&tenant.organization));
    // The session is shown as running before its flows have come to rest.
    loop {
        let aggregate = crate::store::aggregate::load(&running.cx.store, &id).await.unwrap().unwrap();
        let flows = aggregate.sessions.iter().map(|s| s.flow.status.as_str());
        if aggregate.task.flow.status == "done" && flows.into_iter().all(|status| status == "waiting") {
            break;
        }
        let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
    }
    crate::consume::freshen(&running.cx).await.unwrap();
    (task, session)
}

/// The rows of a view as a watch sends them, decoded.
async fn watched<T: Message + Default>(running: &Running, view: TableView) -> Vec<(String, T)> {
    let mut stream = running.cx.hub.watch(view, None, Unrestricted).unwrap();
    let mut rows = Vec::new();
    loop {
        match stream.next().await.unwrap().unwrap().raw().unwrap().body {
            Some(RawBody::SnapshotChunk(chunk)) => {
                for change in chunk.changes {
                    if let Some(RawOp::Upsert(item)) = change.op {
                        rows.push((change.key, T::decode(item).expect("a watch sent what does not decode")));
                    }
                }
            }
            Some(RawBody::SnapshotEnd(_)) => return rows,
            _ => {}
        }
    }
}

async fn summary(running: &Running, tenant: &Tenant) -> GetOrganizationSummaryResponse {
    let request = GetOrganizationSummaryRequest { organization_id: tenant.organization.to_string() };
    ops::get_organization_summary::get_organization_summary(&running.cx, &tenant.caller, request)
        .await
        .unwrap()
}

async fn kill(running: &Running, tenant: &Tenant, task: &str) {
    let request = KillTaskRequest { task_id: task.into(), request_id: String::new() };
    ops::kill_task::kill_task(&running.cx, &tenant.caller, request).await.unwrap();
    running.until(tenant, task, |t| t.task.as_ref().unwrap().state() == TaskState::Killed).await;
}

async fn say(running: &Running, tenant: &Tenant, session: &str) -> Result<(), foundry_core::Error> {
    let request = SendMessageRequest {
        session_id: session.into(),
        text: "more".into(),
        ..SendMessageRequest::default()
    };
    ops::send_message::send_message(&running.cx, &tenant.caller, request).await.map(drop)
}

#[tokio::test]
async fn a_damaged_summary_row_is_listed_as_unreadable_and_all_others_as_they_are() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (bad, _) = busy(&running, &tenant, "one").await;
    let (good, _) = busy(&running, &tenant, "two").await;
    summary(&running, &tenant).await;
    const SQL: &str = "UPDATE summary_rows SET item = $1 WHERE key = $2";
    damage(&running, SQL, &format!("task/{bad}")).await;
    damage(&running, SQL, &format!("repository/{}", tenant.repository)).await;
    let shown = summary(&running, &tenant).await;
    let reasons: Vec<_> = shown.tasks.iter().map(|t| (t.task_id.as_str(), t.reason.as_str())).collect();
    assert_eq!(reasons, [(good.as_str(), ""), (bad.as_str(), REASON)]);
    assert_eq!(shown.tasks[1].repository_id, tenant.repository.as_str());
    let repository = &shown.repositories[0];
    assert_eq!(
        (repository.repository_id.as_str(), repository.reason.as_str()),
        (tenant.repository.as_str(), REASON)
    );
    let request = ListTasksRequest { organization_id: tenant.organization.to_string(), ..Default::default() };
    let listed = ops::list_tasks::list_tasks(&running.cx, &tenant.caller, request).await.unwrap();
    assert_eq!(listed.tasks, shown.tasks);
    let view = view::organization::of_organization(&tenant.organization);
    let rows = watched::<OrganizationItem>(&running, view).await;
    let items = rows.into_iter().filter_map(|(_, item)| item.item);
    let watched: Vec<_> = items
        .filter_map(|item| match item {
            organization_item::Item::Task(task) => Some(task),
            organization_item::Item::Repository(_) => None,
        })
        .collect();
    assert!(shown.tasks.iter().all(|task| watched.contains(task)), "{watched:#?}");
    // The next change writes the row again.
    world.provisioner.say(&running.get(&tenant, &bad).await.sessions[0].session_id, "on").await;
    kill(&running, &tenant, &bad).await;
    let listed = summary(&running, &tenant).await.tasks;
    assert_eq!(listed.iter().map(|t| t.task_id.as_str()).collect::<Vec<_>>(), [good.as_str()]);
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_task_or_session_is_shown_takes_no_command_and_can_be_killed() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let damages = [
        ("UPDATE tasks SET view = $1 WHERE task_id = $2", true),
        ("UPDATE sessions SET view = $1 WHERE session_id = $2", false),
    ];
    for (sql, of_task) in damages {
        let (task, session) = busy(&running, &tenant, "one").await;
        damage(&running, sql, if of_task { &task } else { &session }).await;
        let found = running.get(&tenant, &task).await;
        let condition = match of_task {
            true => found.task.unwrap().condition,
            false => found.sessions[0].condition.clone(),
        };
        assert_eq!(condition.unwrap().reason, REASON);
        let view = view::task::of_task(&tenant.organization, &task.parse().unwrap());
        assert_eq!(watched::<TaskItem>(&running, view).await.len(), 2);
        let view = view::session::of_session(&session.parse().unwrap(), 0);
        assert!(!watched::<SessionItem>(&running, view).await.is_empty());
        assert_eq!(say(&running, &tenant, &session).await.unwrap_err().reason(), REASON);
        let (other, theirs) = busy(&running, &tenant, "two").await;
        say(&running, &tenant, &theirs).await.unwrap();
        let listed = summary(&running, &tenant).await.tasks;
        let title = |id: &str| listed.iter().find(|t| t.task_id == id).map(|t| t.title.as_str());
        assert_eq!((title(&task), title(&other)), (Some("one"), Some("two")));
        kill(&running, &tenant, &task).await;
        assert!(world.provisioner.sandbox_states().contains(&SandboxState::Destroyed));
        assert!(summary(&running, &tenant).await.tasks.iter().all(|t| t.task_id != task));
        let found = foundry_store::verify(&world.url, &ENCODED).await.unwrap();
        let kept = if of_task { task } else { session };
        assert!(found.iter().any(|row| row.key == kept), "the damaged bytes were written over: {found:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_task_whose_turn_cannot_be_stopped_can_be_archived_as_the_refusal_says() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    // Its flow would fail, and the session show an error instead of the running turn.
    running.halt_flows().await;
    damage(&running, "UPDATE tasks SET view = $1 WHERE task_id = $2", &task).await;
    let stop = StopTurnRequest { session_id: session, ..Default::default() };
    let refused = ops::stop_turn::stop_turn(&running.cx, &tenant.caller, stop).await.unwrap_err();
    assert_eq!(refused.reason(), REASON);
    assert!(format!("{refused:?}").contains("kill or archive the task"), "{refused:?}");
    let archive = ArchiveTaskRequest { task_id: task, ..Default::default() };
    let archived = ops::archive_task::archive_task(&running.cx, &tenant.caller, archive).await.unwrap();
    assert_eq!(archived.task.unwrap().state(), TaskState::Archiving);
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_copy_is_replaced_by_the_next_update_and_hinders_no_kill() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = busy(&running, &tenant, "one").await;
    let (id, store) = (task.parse().unwrap(), &running.cx.store);
    for sql in [
        "UPDATE sandboxes SET data = $1 WHERE task_id = $2",
        "UPDATE agent_sessions SET data = $1 WHERE task_id = $2",
    ] {
        damage(&running, sql, &task).await;
    }
    let copy = upstream::of_task(store, &id).await.unwrap().sandbox.unwrap();
    assert!(copy.is_damaged() && !copy.entity.sandbox_id.is_empty());
    let mut hint = store.subscribe(&Scope::organization(&tenant.organization));
    world.provisioner.set_sandboxes(SandboxState::Ready).await;
    while upstream::of_task(store, &id).await.unwrap().sandbox.unwrap().is_damaged() {
        let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
    }
    damage(&running, "UPDATE sandboxes SET data = $1 WHERE task_id = $2", &task).await;
    kill(&running, &tenant, &task).await;
    assert_eq!(world.provisioner.sandbox_states(), [SandboxState::Destroyed]);
    running.stop().await;
}

/// Counts the stretches of agent events that are done with, taken or given up.
#[derive(Debug, Default)]
struct Done(watch::Sender<usize>);

impl Observer for Done {
    fn updated(&self, view: &'static str, _: Duration) {
        if view == "WatchAgentSession" {
            self.0.send_modify(|done| *done += 1);
        }
    }
}

#[tokio::test]
async fn events_that_a_damaged_session_cannot_take_are_given_up_at_once_and_taken_after_its_repair() {
    let (world, done) = (World::new().await, Arc::new(Done::default()));
    let (tenant, running) = (world.tenant(Role::Member).await, world.start_observed(done.clone()).await);
    let (task, session) = busy(&running, &tenant, "one").await;
    const VIEW: &str = "SELECT view FROM sessions WHERE session_id = $1";
    let whole =
        running.cx.store.query(VIEW, &[session.as_str().into()]).await.unwrap()[0].blob("view").unwrap();
    const SET: &str = "UPDATE sessions SET view = $1 WHERE session_id = $2";
    damage(&running, SET, &session).await;
    world.provisioner.say(&session, "two").await;
    let mut given_up = done.0.subscribe();
    let waited = tokio::time::timeout(Duration::from_secs(30), given_up.wait_for(|done| *done > 0)).await;
    assert!(waited.is_ok_and(|done| done.is_ok()), "it is tried again and again");
    let (id, later) = (session.parse().unwrap(), running.cx.env.clock.now().plus(Duration::from_secs(60)));
    assert_eq!(running.cx.stalls.condition(&id, later), None, "the session shows its damage itself");

    let repair = DialectSql { sqlite: SET, postgres: SET };
    running.cx.store.write(repair, &[whole.into(), session.as_str().into()]).await.unwrap();
    world.provisioner.say(&session, "three").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 3).await;
    let expected = ["user: one", "agent: two", "agent: three"];
    let expected: Vec<_> = (1..).zip(expected.map(String::from)).collect();
    assert_eq!(transcript(&running, &tenant, &session).await, expected);
    running.stop().await;
}

#[tokio::test]
async fn rebuild_restores_lists_and_copies_and_names_what_it_cannot_derive() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    let (other, _) = busy(&running, &tenant, "two").await;
    let before = summary(&running, &tenant).await;
    let (id, repository) = (task.parse().unwrap(), tenant.repository.to_string());
    for (sql, key) in [
        ("UPDATE summary_rows SET item = $1 WHERE key = $2", format!("task/{task}")),
        ("UPDATE summary_rows SET item = $1 WHERE key = $2", format!("repository/{repository}")),
        ("UPDATE sandboxes SET data = $1 WHERE task_id = $2", task.clone()),
        ("UPDATE agent_sessions SET data = $1 WHERE task_id = $2", task.clone()),
        ("UPDATE tasks SET view = $1 WHERE task_id = $2", other.clone()),
    ] {
        damage(&running, sql, &key).await;
    }
    running.stop().await;

    let damaged = foundry_store::verify(&world.url, &ENCODED).await.unwrap();
    let rebuilt = rebuild(&world.url, &world.env, &damaged).await.unwrap();
    let mut became: Vec<_> = damaged.iter().map(|row| row.table).zip(rebuilt).collect();
    became.sort_by_key(|(table, _)| *table);
    let expected = [
        ("agent_sessions", Rebuilt::AtNextStart),
        ("sandboxes", Rebuilt::AtNextStart),
        ("summary_rows", Rebuilt::Now),
        ("summary_rows", Rebuilt::Now),
        ("tasks", Rebuilt::No),
    ];
    assert_eq!(became, expected);

    let running = world.start().await;
    let restored = |copy: Option<crate::domain::derive::Replica<_>>| copy.is_some_and(|c| !c.is_damaged());
    let mut hint = running.cx.store.subscribe(&Scope::organization(&tenant.organization));
    while !restored(upstream::of_task(&running.cx.store, &id).await.unwrap().sandbox) {
        let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
    }
    let session = session.parse().unwrap();
    let agent = upstream::agent_session(&running.cx.store, &session).await;
    assert!(agent.unwrap().is_some_and(|copy| !copy.is_damaged()));
    let after = summary(&running, &tenant).await;
    let titles =
        |s: &GetOrganizationSummaryResponse| s.tasks.iter().map(|t| t.title.clone()).collect::<Vec<_>>();
    assert_eq!((titles(&after), &after.repositories), (titles(&before), &before.repositories));
    let left = foundry_store::verify(&world.url, &ENCODED).await.unwrap();
    assert_eq!(left.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), [other.as_str()]);
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_copy_of_an_agent_session_is_fetched_again_for_the_next_message_and_by_a_retry() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    const SQL: &str = "UPDATE agent_sessions SET data = $1 WHERE task_id = $2";
    let rests = |offset| move |s: &Session| s.state() == SessionState::Idle && s.last_offset == offset;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, rests(2)).await;
    damage(&running, SQL, &task).await;
    send(&running, &tenant, &session, "two").await;
    running
        .until_session(&tenant, &task, &session, |s| {
            assert_ne!(s.condition.as_ref().unwrap().reason, "REQUEST_ID_REUSED");
            s.state() == SessionState::Running
        })
        .await;
    assert_eq!(world.provisioner.prompts(), ["one", "two"]);
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, rests(4)).await;

    // Its flow must not see the damage before the retry.
    running.halt_flows().await;
    damage(&running, SQL, &task).await;
    let request = RetryTaskRequest { task_id: task.clone(), ..Default::default() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    assert_eq!(running.get(&tenant, &task).await.sessions[0].state(), SessionState::Error);
    running.stop().await;
    let running = world.start().await;
    running.until_session(&tenant, &task, &session, rests(4)).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_entry_of_a_transcript_is_a_notice_in_its_place() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    world.provisioner.say(&session, "two").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    const SQL: &str = "UPDATE transcript_entries SET part = $1 WHERE session_id = $2 AND entry_offset = 1";
    damage(&running, SQL, &session).await;
    let entries = transcript(&running, &tenant, &session).await;
    assert!(entries[0].1.contains("EventsLost") || entries[0].1.contains("Notice"), "{entries:?}");
    assert_eq!(entries[1], (2, "agent: two".to_owned()));
    let view = view::session::of_session(&session.parse().unwrap(), 0);
    let keys: Vec<_> = watched::<SessionItem>(&running, view).await.into_iter().map(|(key, _)| key).collect();
    assert!(keys.contains(&"entry/000000000001".to_owned()), "{keys:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_message_whose_files_are_damaged_waits_for_a_person_and_is_not_sent_without_them() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    let message = send(&running, &tenant, &session, "two").await.message_id;
    damage(&running, "UPDATE messages SET attachments = $1 WHERE message_id = $2", &message).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let held = running.until_session(&tenant, &task, &session, |s| s.queue_held).await;
    assert_eq!((held.queue_length, world.provisioner.prompts()), (1, vec!["one".to_owned()]));
    running.stop().await;
}

#[tokio::test]
async fn a_healthy_database_verifies_without_a_finding() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    busy(&running, &tenant, "one").await;
    let columns = [&ENCODED[..], &foundry_flow::ENCODED].concat();
    assert_eq!(foundry_store::verify(&world.url, &columns).await.unwrap(), []);
    running.stop().await;
}

#[tokio::test]
async fn an_empty_value_is_damaged_for_lists_and_for_verify_alike() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    world.provisioner.say(&session, "two").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    running.halt_flows().await;
    let store = &running.cx.store;
    // The transcript arrives before the copy of the agent's session, which would replace what is damaged.
    let (id, said) = (task.parse().unwrap(), world.provisioner.session(&session).unwrap());
    let copy = || async { upstream::of_task(store, &id).await.unwrap().agents.pop().map(|copy| copy.entity) };
    running.until_read(&tenant, copy, |copy| copy.as_ref() == Some(&said)).await;
    for (sql, id) in [
        ("UPDATE tasks SET view = $1 WHERE task_id = $2", &task),
        ("UPDATE sessions SET view = $1 WHERE session_id = $2", &session),
        ("UPDATE sandboxes SET data = $1 WHERE task_id = $2", &task),
        ("UPDATE agent_sessions SET data = $1 WHERE task_id = $2", &task),
        ("UPDATE transcript_entries SET part = $1 WHERE session_id = $2", &session),
    ] {
        let params = [Vec::<u8>::new().into(), id.as_str().into()];
        store.write(DialectSql { sqlite: sql, postgres: sql }, &params).await.unwrap();
    }
    let found = running.get(&tenant, &task).await;
    assert_eq!(found.task.unwrap().condition.unwrap().reason, REASON);
    assert_eq!(found.sessions[0].condition.as_ref().unwrap().reason, REASON);
    assert!(upstream::of_task(store, &task.parse().unwrap()).await.unwrap().sandbox.unwrap().is_damaged());
    let named = foundry_store::verify(&world.url, &ENCODED).await.unwrap();
    let tables: Vec<_> = named.iter().map(|row| row.table).collect();
    let expected =
        ["tasks", "sessions", "transcript_entries", "transcript_entries", "sandboxes", "agent_sessions"];
    assert_eq!(tables, expected);
    running.stop().await;
}

#[tokio::test]
async fn rows_that_were_deleted_are_named_by_those_that_need_them() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    let (whole, _) = busy(&running, &tenant, "two").await;
    world.provisioner.say(&session, "two").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    assert_eq!(foundry_store::missing(&world.url, &REFERENCES).await.unwrap(), []);
    let kept = summary(&running, &tenant).await;
    let flow = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let flow = flow.session(&session).unwrap().flow.flow_id.to_string();
    running.halt_flows().await;
    let listed = format!("task/{whole}");
    for (sql, id) in [
        ("DELETE FROM summary_rows WHERE key = $1 RETURNING 1 AS gone", &listed),
        (
            "DELETE FROM transcript_entries WHERE entry_offset = 1 AND session_id = $1 RETURNING 1 AS gone",
            &session,
        ),
        ("DELETE FROM flows WHERE flow_id = $1 RETURNING 1 AS gone", &flow),
    ] {
        let sql = DialectSql { sqlite: sql, postgres: sql };
        assert!(!running.cx.store.write(sql, &[id.as_str().into()]).await.unwrap().is_empty());
    }
    let missing = foundry_store::missing(&world.url, &REFERENCES).await.unwrap();
    let named: Vec<_> = missing.iter().map(|row| (row.table, row.key.clone())).collect();
    let row = format!("{}/{listed}", tenant.organization);
    let expected = [("summary_rows", row), ("transcript_entries", session.clone()), ("flows", flow)];
    assert_eq!(named, expected);
    const TASK: DialectSql = DialectSql {
        sqlite: "DELETE FROM tasks WHERE task_id = $1",
        postgres: "DELETE FROM tasks WHERE task_id = $1",
    };
    running.cx.store.write(TASK, &[task.as_str().into()]).await.unwrap();
    running.stop().await;

    let missing = foundry_store::missing(&world.url, &REFERENCES).await.unwrap();
    assert!(
        missing.iter().any(|row| (row.table, row.key.as_str()) == ("tasks", task.as_str())),
        "{missing:?}"
    );
    let rebuilt = rebuild(&world.url, &world.env, &missing).await.unwrap();
    let became: Vec<_> = missing.iter().map(|row| row.table).zip(rebuilt).collect();
    assert!(became.contains(&("summary_rows", Rebuilt::Now)), "{became:?}");
    assert!(became.contains(&("tasks", Rebuilt::No)), "{became:?}");
    let running = world.start().await;
    let titles = |s: GetOrganizationSummaryResponse| s.tasks.into_iter().map(|t| t.title).collect::<Vec<_>>();
    assert_eq!(titles(summary(&running, &tenant).await), titles(kept));
    running.stop().await;
}

#[tokio::test]
async fn the_damaged_copy_of_a_replaced_sandbox_is_removed_as_nothing_sends_it_again() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    let first = running.get(&tenant, &task).await.task.unwrap().sandbox_id;
    world.provisioner.lose_sandboxes().await;
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Error).await;
    let request = RetryTaskRequest { task_id: task.clone(), ..Default::default() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    damage(&running, "UPDATE sandboxes SET data = $1 WHERE sandbox_id = $2", &first).await;
    running.stop().await;
    let damaged = foundry_store::verify(&world.url, &ENCODED).await.unwrap();
    assert_eq!(damaged.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), [first.as_str()]);
    assert_eq!(rebuild(&world.url, &world.env, &damaged).await.unwrap(), [Rebuilt::Removed]);
    assert_eq!(foundry_store::verify(&world.url, &ENCODED).await.unwrap(), []);
    let running = world.start().await;
    assert_ne!(running.get(&tenant, &task).await.task.unwrap().sandbox_id, "");
    running.stop().await;
}

#[tokio::test]
async fn a_task_whose_row_was_restored_is_listed_as_it_is_after_the_start_and_goes_on() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = busy(&running, &tenant, "one").await;
    const VIEW: &str = "SELECT view FROM tasks WHERE task_id = $1";
    let whole = running.cx.store.query(VIEW, &[task.as_str().into()]).await.unwrap()[0].blob("view").unwrap();
    const SET: &str = "UPDATE tasks SET view = $1 WHERE task_id = $2";
    damage(&running, SET, &task).await;
    // Any change of it writes into the list what is left of it.
    world.provisioner.set_sandboxes(SandboxState::Ready).await;
    let mut hint = running.cx.store.subscribe(&Scope::organization(&tenant.organization));
    let failed = || async {
        let aggregate = aggregate::read(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
        aggregate.sessions[0].flow.failed()
    };
    // Its flow finds the damage, too, once there is something to do.
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    while summary(&running, &tenant).await.tasks[0].reason != REASON || !failed().await {
        let _ = tokio::time::timeout(Duration::from_millis(50), hint.changed()).await;
    }
    let repair = DialectSql { sqlite: SET, postgres: SET };
    running.cx.store.write(repair, &[whole.into(), task.as_str().into()]).await.unwrap();
    running.stop().await;
    let running = world.start().await;
    crate::consume::list_restored(&running.cx).await.unwrap();
    let listed = summary(&running, &tenant).await.tasks.remove(0);
    assert_eq!((listed.title.as_str(), listed.reason.as_str()), ("one", ""));
    let next = send(&running, &tenant, &session, "two").await.message_id;
    running.until_session(&tenant, &task, &session, |s| s.message_id == next).await;
    assert_eq!(world.provisioner.prompts(), ["one", "two"], "its flow stands still");
    running.stop().await;
}
