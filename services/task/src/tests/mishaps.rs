//! What the service does when an update is late, duplicated, damaged or missing.

use foundry_core::Timestamp;
use foundry_proto::common::v1::TurnEnd;
use foundry_proto::provisioner::v1::AgentSession;
use foundry_proto::repo::v1::Repository;
use foundry_watch::Position;

use super::*;
use crate::domain::task::Lifecycle;
use crate::store::sessions::SESSIONS;
use crate::store::{positions, upstream};

async fn stop(running: &Running, tenant: &Tenant, session: &str) {
    let request = StopTurnRequest { session_id: session.into(), request_id: String::new() };
    ops::stop_turn::stop_turn(&running.cx, &tenant.caller, request).await.unwrap();
}

#[tokio::test]
async fn goes_on_in_another_sandbox_when_the_first_was_destroyed_and_the_task_retried() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    world.provisioner.lose_sandboxes().await;
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Error).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::PendingProvision).await;
    send(&running, &tenant, &session, "two").await;
    let request = RetryTaskRequest { task_id: task.clone(), request_id: String::new() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    assert_eq!(world.provisioner.prompts(), ["one", "two"]);
    running.stop().await;
}

#[tokio::test]
async fn counts_a_session_as_failed_no_more_from_the_commit_that_retries_it() {
    let world = World::new().await;
    world.provisioner.fails_sessions.store(true, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Error).await;
    // What the task's flow finds if it runs before the session's.
    running.halt_flows().await;
    let request = RetryTaskRequest { task_id: task.clone(), request_id: String::new() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    let found = running.get(&tenant, &task).await.sessions.remove(0);
    assert_eq!(found.state(), SessionState::PendingSessionCreate);
    let aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let flow = &aggregate.session(&session).unwrap().flow;
    assert_eq!((flow.status.as_str(), flow.condition.reason.as_str()), ("ready", ""));
    running.stop().await;
    let running = world.start().await;
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn holds_the_queue_once_for_an_interrupted_turn_however_often_it_is_told() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    let mut aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let mut tell = |rev, message: &str| {
        let agent = AgentSession {
            session_id: session.clone(),
            message_id: message.into(),
            state: AgentSessionState::Interrupted.into(),
            ..AgentSession::default()
        };
        apply::agent_session(&mut WriteSet::new(), &world.env, &mut aggregate, &agent, rev).unwrap();
        std::mem::take(&mut aggregate.session_mut(&session).unwrap().view.queue_held)
    };
    let most = i64::MAX - 10;
    assert!(tell(most, "first"));
    assert!(!tell(most + 1, "first"));
    assert!(tell(most + 2, "second"));
    running.stop().await;
}

#[tokio::test]
async fn holds_the_queue_for_an_interruption_that_only_the_end_of_the_turn_tells_and_only_once() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    send(&running, &tenant, &session, "two").await;
    // Only the ready state arrives, as after an interruption that came and went between two updates.
    world.provisioner.end_turn(&session, TurnOutcome::Interrupted).await;
    let held = running.until_session(&tenant, &task, &session, |s| s.queue_held && s.last_offset == 2).await;
    assert_eq!(held.queue_length, 1);
    let mut aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let agent = AgentSession {
        state: AgentSessionState::Interrupted.into(),
        ..world.provisioner.session(&session).unwrap()
    };
    aggregate.session_mut(&session).unwrap().view.queue_held = false;
    apply::agent_session(&mut WriteSet::new(), &world.env, &mut aggregate, &agent, i64::MAX).unwrap();
    assert!(!aggregate.session_mut(&session).unwrap().view.queue_held, "a resumed queue was held again");
    assert_eq!(world.provisioner.prompts(), ["one"]);
    running.stop().await;
}

#[tokio::test]
async fn stops_a_turn_that_is_still_being_handed_to_the_agent() {
    let world = World::new().await;
    world.provisioner.takes_prompts.send_replace(false);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    world.provisioner.prompted.notified().await;
    stop(&running, &tenant, &session).await;
    world.provisioner.takes_prompts.send_replace(true);
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    let expected = vec![(1, "user: one".to_owned()), (2, "end: Cancelled".to_owned())];
    assert_eq!(transcript(&running, &tenant, &session).await, expected);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_or_a_resumption_says_whether_there_was_something_to_do() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let stop = async || {
        let request = StopTurnRequest { session_id: session.clone(), ..Default::default() };
        ops::stop_turn::stop_turn(&running.cx, &tenant.caller, request).await.unwrap().stopping
    };
    let resume = async || {
        let request = ResumeQueueRequest { session_id: session.clone(), ..Default::default() };
        ops::resume_queue::resume_queue(&running.cx, &tenant.caller, request).await.unwrap().resumed
    };
    assert!(!resume().await);
    assert!(stop().await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    assert_eq!((resume().await, resume().await), (true, false));
    assert!(!stop().await);
    running.stop().await;
}

#[tokio::test]
async fn refuses_to_archive_while_a_message_is_about_to_start_a_turn() {
    let world = World::new().await;
    world.provisioner.takes_prompts.send_replace(false);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    let archive = || {
        let request = ArchiveTaskRequest { task_id: task.clone(), request_id: String::new() };
        ops::archive_task::archive_task(&running.cx, &tenant.caller, request)
    };
    assert_eq!(archive().await.unwrap_err().reason(), "TURN_RUNNING");
    world.provisioner.prompted.notified().await;
    assert_eq!(archive().await.unwrap_err().reason(), "TURN_RUNNING");
    running.stop().await;
}

#[tokio::test]
async fn archives_when_the_end_of_the_turn_has_been_read_before_the_session_is_seen_at_rest() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let archive = || {
        let request = ArchiveTaskRequest { task_id: task.clone(), request_id: String::new() };
        ops::archive_task::archive_task(&running.cx, &tenant.caller, request)
    };
    assert_eq!(archive().await.unwrap_err().reason(), "TURN_RUNNING");
    let before = running.until_session(&tenant, &task, &session, |_| true).await.last_offset;
    world.provisioner.tell_end_early(&session, TurnOutcome::Completed).await;
    let shown = running.until_session(&tenant, &task, &session, |s| s.last_offset > before).await;
    assert_eq!(shown.state(), SessionState::Running);
    archive().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn shows_a_permission_request_again_when_the_agent_did_not_take_the_answer() {
    let world = World::new().await;
    world.provisioner.refuses_answers.store(true, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let pending = PermissionRequest { permission_id: "p1".into(), ..PermissionRequest::default() };
    world.provisioner.ask(&session, Some(pending)).await;
    running.until_session(&tenant, &task, &session, |s| s.pending_permission.is_some()).await;
    let aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    assert!(!aggregate.session(&session).unwrap().follows, "a turn that waits for a person keeps its stream");
    let request = RespondToPermissionRequest {
        session_id: session.clone(),
        permission_id: "p1".into(),
        ..RespondToPermissionRequest::default()
    };
    let answered = ops::respond_to_permission::respond_to_permission(&running.cx, &tenant.caller, request);
    assert_eq!(answered.await.unwrap().session.unwrap().pending_permission, None);
    running.until_session(&tenant, &task, &session, |s| s.pending_permission.is_some()).await;
    running.stop().await;
}

#[tokio::test]
async fn takes_in_the_news_of_other_tasks_when_one_cannot_be_read() {
    let world = World::new().await;
    world.provisioner.eager.store(false, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (damaged, session) = ids(&running.create(&tenant, "one").await);
    let (whole, _) = ids(&running.create(&tenant, "two").await);
    for task in [&damaged, &whole] {
        running.until(&tenant, task, |t| !t.task.as_ref().unwrap().sandbox_id.is_empty()).await;
    }
    let mut ws = WriteSet::new();
    ws.update(&SESSIONS, &[session.as_str().into()], &[("view", vec![0xff_u8].into())], &[]);
    running.cx.store.commit(ws).await.unwrap();
    world.provisioner.set_sandboxes(SandboxState::InstallingAgent).await;
    world.provisioner.set_sandboxes(SandboxState::Ready).await;
    running.until(&tenant, &whole, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn says_what_an_ended_task_waits_for_until_its_sandbox_is_destroyed() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let mut aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    aggregate.task.lifecycle = Lifecycle::Killed;
    let mut waits_for = |state| {
        aggregate.sandbox.as_mut().unwrap().entity.set_state(state);
        aggregate.refresh(world.env.clock.now());
        assert_eq!(aggregate.task.view.state(), TaskState::Killed);
        aggregate.task.view.condition.clone().unwrap().waiting_on
    };
    assert_eq!(waits_for(SandboxState::Destroying), "sandbox");
    assert_eq!(waits_for(SandboxState::Destroyed), "");
    running.stop().await;
}

#[tokio::test]
async fn keeps_no_repository_or_position_over_one_that_came_between() {
    let world = World::new().await;
    let running = world.start().await;
    let store = &running.cx.store;
    let repository = Repository { repository_id: "rep_1".into(), ..Repository::default() };
    let keep = |before: Option<i64>, rev: i64| {
        let mut ws = WriteSet::new();
        upstream::put_repository(&mut ws, before, rev, &repository);
        store.commit(ws)
    };
    keep(None, 5).await.unwrap();
    keep(Some(5), 7).await.unwrap();
    assert!(keep(Some(5), 6).await.is_err_and(|e| e.is_concurrent_change()));
    let at = |rev| Position { rev, resume_token: "t".into() };
    let advance = |before: Option<i64>, rev: i64| {
        let mut ws = WriteSet::new();
        positions::put(&mut ws, "s", before.map(at).as_ref(), &at(rev));
        store.commit(ws)
    };
    advance(None, 5).await.unwrap();
    advance(Some(5), 7).await.unwrap();
    assert!(advance(Some(5), 6).await.is_err_and(|e| e.is_concurrent_change()));
    assert_eq!(positions::find(store, "s").await.unwrap(), Some(at(7)));
    running.stop().await;
}

#[tokio::test]
async fn creates_a_session_once_for_a_request_however_late_it_is_repeated() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    let request = CreateSessionRequest { request_id: "same".into(), task_id: task, ..Default::default() };
    let create = || async {
        let created = ops::create_session::create_session(&running.cx, &tenant.caller, request.clone()).await;
        created.unwrap().session.unwrap().session_id
    };
    let first = create().await;
    assert_eq!(create().await, first);
    const KEPT: &str = "SELECT expires_at FROM store_idempotency WHERE method = $1";
    let kept = running.cx.store.query(KEPT, &["CreateSession".into()]).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].opt_int("expires_at").unwrap(), None, "the first answer will be forgotten");
    running.stop().await;
}

#[tokio::test]
async fn holds_the_queue_when_the_sandbox_was_destroyed_in_a_turn_but_not_for_a_stop_that_held_it_when_asked()
{
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let held_after = |reason: &str| {
        let mut aggregate = aggregate.clone();
        let end = TurnEnd {
            outcome: TurnOutcome::Cancelled.into(),
            reason: reason.to_owned(),
            ..TurnEnd::default()
        };
        let part = TranscriptPart {
            message_id: "msg".to_owned(),
            body: Some(Body::TurnEnd(end)),
            ..TranscriptPart::default()
        };
        let state = aggregate.session_mut(&session).unwrap();
        let offset = state.event_offset + 1;
        let event = AgentEvent { session_id: session.clone(), offset, part: Some(part) };
        let reached = apply::events(&mut WriteSet::new(), state, &[event], &apply::Texts::default());
        assert_eq!(reached, offset);
        state.view.queue_held
    };
    assert!(held_after("SANDBOX_DESTROYED"));
    assert!(!held_after(""));
    running.stop().await;
}

#[tokio::test]
async fn explains_that_the_events_of_a_session_cannot_be_taken_in_and_why_until_they_can() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let fault = tonic::Status::out_of_range("a message is too large");
    *world.provisioner.watch_fault.lock().unwrap() = Some(fault);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    let (stalls, id) = (&running.cx.stalls, session.parse().unwrap());
    // The condition that is shown from now on in ten seconds.
    let later = || running.cx.env.clock.now().plus(Duration::from_secs(10));
    running.until(&tenant, &task, |_| stalls.condition(&id, later()).is_some()).await;
    let stalled = stalls.condition(&id, later()).unwrap();
    assert!(stalled.message.ends_with(": a message is too large"), "{}", stalled.message);
    assert_eq!(stalls.condition(&id, Timestamp::from_proto(&stalled.since_time.unwrap())), None);
    // As if it had begun to fail ten seconds ago.
    let earlier = Timestamp::from_micros(running.cx.env.clock.now().as_micros() - 10_000_000);
    stalls.progressed(&id);
    stalls.failed(&id, earlier, "a message is too large");
    let explained = ExplainTaskRequest { task_id: task.clone() };
    let explained = ops::explain_task::explain_task(&running.cx, &tenant.caller, explained).await.unwrap();
    let of_transcript = |f: &&Finding| f.subject == format!("transcript of session {session}");
    let found = explained.findings.iter().find(of_transcript).expect("it is explained");
    assert_eq!(found.condition.as_ref().unwrap().reason, "TRANSCRIPT_STALLED");

    *world.provisioner.watch_fault.lock().unwrap() = None;
    world.provisioner.say(&session, "done").await;
    running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    running.until(&tenant, &task, |_| stalls.condition(&id, later()).is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_task_whose_repository_was_removed_says_so_everywhere_and_is_not_retried() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    world.repo.import(&tenant.organization, &task, 3).await;
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().changes.is_some()).await;
    world.repo.remove(&tenant.organization, &tenant.repository).await;
    let reason = |t: &GetTaskResponse| {
        let changes = t.task.as_ref().unwrap().changes.clone().unwrap_or_default();
        changes.condition.unwrap_or_default().reason
    };
    running.until(&tenant, &task, |t| reason(t) == "REPOSITORY_REMOVED").await;
    let (cx, caller) = (&running.cx, &tenant.caller);
    let explain = || async {
        let request = ExplainTaskRequest { task_id: task.clone() };
        ops::explain_task::explain_task(cx, caller, request).await.unwrap().findings
    };
    let findings = explain().await;
    let found = findings.iter().find(|f| f.subject == "repository widgets");
    assert_eq!(found.map(|f| f.state.as_str()), Some("removed"), "{findings:#?}");
    assert!(findings.iter().any(|f| f.subject == "work" && f.state == "not stored"), "{findings:#?}");
    let (path, id) = ("a.txt".to_owned(), task.clone());
    let diff = ListFileChangesRequest { task_id: id.clone(), ..Default::default() };
    let diff = ops::list_file_changes::list_file_changes(cx, caller, diff).await.unwrap_err();
    let cat = GetFileRequest { task_id: id, path };
    let cat = ops::get_file::get_file(cx, caller, cat).await.unwrap_err();
    assert_eq!((diff.reason(), diff.message()), ("REPOSITORY_REMOVED", cat.message()));

    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let rests = |t: &GetTaskResponse| t.task.as_ref().unwrap().state() == TaskState::Idle;
    let idle = running.until(&tenant, &task, rests).await.task.unwrap();
    assert_eq!(idle.condition.unwrap().reason, "REPOSITORY_REMOVED");
    let send = || {
        let text = "show me what you have".to_owned();
        SendMessageRequest { session_id: session.clone(), text, ..SendMessageRequest::default() }
    };
    // As long as its sandbox is there, the agent can be asked for what it has.
    ops::send_message::send_message(cx, caller, send()).await.unwrap();
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    world.provisioner.lose_sandboxes().await;
    let failed = |t: &GetTaskResponse| t.task.as_ref().unwrap().state() == TaskState::Error;
    let failed = running.until(&tenant, &task, failed).await.task.unwrap().condition.unwrap();
    assert_eq!((failed.reason.as_str(), failed.retryable), ("REPOSITORY_REMOVED", false));
    let retry = RetryTaskRequest { task_id: task.clone(), request_id: String::new() };
    let refused = ops::retry_task::retry_task(cx, caller, retry).await.unwrap_err();
    assert_eq!(refused.reason(), "REPOSITORY_REMOVED");
    let refused = ops::send_message::send_message(cx, caller, send()).await.unwrap_err();
    assert_eq!(refused.reason(), "REPOSITORY_REMOVED");
    let create = CreateTaskRequest {
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "two".into(),
        ..CreateTaskRequest::default()
    };
    let refused = ops::create_task::create_task(cx, caller, create).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test]
async fn a_repository_that_was_missing_for_a_while_and_its_works_are_there_again() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    world.repo.import(&tenant.organization, &task, 3).await;
    let changes = |t: &GetTaskResponse| t.task.as_ref().unwrap().changes.clone().unwrap_or_default();
    running.until(&tenant, &task, |t| changes(t).version == 3).await;
    // As when the repo service is started with an older database for a while.
    world.repo.remove(&tenant.organization, &tenant.repository).await;
    running.until(&tenant, &task, |t| changes(t).version == 0).await;
    world.repo.add(&tenant.organization, &tenant.repository).await;
    world.repo.import(&tenant.organization, &task, 3).await;
    running.until(&tenant, &task, |t| changes(t).version == 3).await;
    // The repository is written after the works that came with it.
    let summary = || async {
        let organization_id = tenant.organization.to_string();
        let request = GetOrganizationSummaryRequest { organization_id };
        ops::get_organization_summary::get_organization_summary(&running.cx, &tenant.caller, request)
            .await
            .unwrap()
    };
    running.until_read(&tenant, summary, |s| s.repositories.len() == 1).await;
    running.create(&tenant, "two").await;
    running.stop().await;
}

#[tokio::test]
async fn a_running_turn_is_named_from_the_moment_at_which_it_is_seen_to_run() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    let mut aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let agent = AgentSession {
        session_id: session.clone(),
        message_id: "the next".into(),
        state: AgentSessionState::Running.into(),
        ..AgentSession::default()
    };
    apply::agent_session(&mut WriteSet::new(), &world.env, &mut aggregate, &agent, i64::MAX).unwrap();
    aggregate.refresh(world.env.clock.now());
    let view = &aggregate.session(&session).unwrap().view;
    assert_eq!((view.state(), view.message_id.as_str()), (SessionState::Running, "the next"));
    running.stop().await;
}
