//! The service's promises, tested through its ops on a real store, with fakes of the services that it calls.

mod appends;
mod attachments;
mod branches;
mod damage;
mod ended;
mod fixes;
mod measures;
mod mishaps;
mod options;
mod profiles;
mod quota;
mod reviews;
mod turns;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use foundry_core::Code;
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{PermissionRequest, Role, TranscriptPart, TurnOutcome};
use foundry_proto::provisioner::v1::{AgentEvent, AgentSessionState, SandboxState};
use foundry_proto::task::v1::*;
use foundry_store::WriteSet;

use crate::consume::apply;
use crate::ops;
use crate::store::aggregate;
use crate::testing::{Running, Tenant, World};

async fn send(running: &Running, tenant: &Tenant, session_id: &str, text: &str) -> QueuedMessage {
    let request = SendMessageRequest {
        session_id: session_id.into(),
        text: text.into(),
        ..SendMessageRequest::default()
    };
    ops::send_message::send_message(&running.cx, &tenant.caller, request).await.unwrap().message.unwrap()
}

async fn transcript(running: &Running, tenant: &Tenant, session_id: &str) -> Vec<(i64, String)> {
    let request = ListTranscriptRequest { session_id: session_id.into(), ..ListTranscriptRequest::default() };
    let answer = ops::list_transcript::list_transcript(&running.cx, &tenant.caller, request).await.unwrap();
    let say = |e: &TranscriptEntry| match e.part.as_ref().and_then(|p| p.body.as_ref()) {
        Some(Body::UserMessage(m)) => format!("user: {}", m.text),
        Some(Body::AgentMessage(m)) => format!("agent: {}", m.text),
        Some(Body::TurnEnd(e)) => format!("end: {:?}", e.outcome()),
        other => format!("{other:?}"),
    };
    answer.entries.iter().map(|e| (e.offset, say(e))).collect()
}

fn ids(created: &CreateTaskResponse) -> (String, String) {
    (created.task.as_ref().unwrap().task_id.clone(), created.session.as_ref().unwrap().session_id.clone())
}

#[tokio::test]
async fn runs_a_task_from_its_creation_to_the_end_of_its_first_turn() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let created = running.create(&tenant, "Fix the parser. Now.").await;
    let task = created.task.clone().unwrap();
    assert_eq!((task.state(), task.branch.as_str()), (TaskState::Queued, "fix/parser"));
    assert_eq!(created.session.as_ref().unwrap().state(), SessionState::PendingProvision);
    let (task, session) = ids(&created);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    world.provisioner.say(&session, "done").await;
    world.repo.import(&tenant.organization, &task, 1).await;
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    let found = running
        .until(&tenant, &task, |t| {
            let view = t.task.as_ref().unwrap();
            view.state() == TaskState::Idle && view.changes.is_some() && t.sessions[0].last_offset == 3
        })
        .await;
    assert_eq!(found.sessions[0].state(), SessionState::Idle);
    assert_eq!(found.sessions[0].queue_length, 0);
    let expected = ["user: Fix the parser. Now.", "agent: done", "end: Completed"];
    let expected: Vec<_> = (1..).zip(expected.map(String::from)).collect();
    assert_eq!(transcript(&running, &tenant, &session).await, expected);
    assert_eq!(world.provisioner.prompts(), ["Fix the parser. Now."]);
    running.stop().await;
}

#[tokio::test]
async fn answers_at_once_while_the_provisioner_hangs_and_delivers_later() {
    let world = World::new().await;
    world.provisioner.hangs.store(true, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let began = Instant::now();
    let (task, first) = ids(&running.create(&tenant, "one").await);
    let request = CreateSessionRequest { task_id: task.clone(), ..CreateSessionRequest::default() };
    let second = ops::create_session::create_session(&running.cx, &tenant.caller, request).await.unwrap();
    let second = second.session.unwrap();
    assert_eq!(second.state(), SessionState::PendingProvision);
    send(&running, &tenant, &second.session_id, "two").await;
    // Generous for a busy machine, yet below the 20 s that a call to the provisioner may take.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let found = running
        .until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::CreatingSandbox)
        .await;
    assert_eq!(found.sessions.iter().map(|s| s.queue_length).collect::<Vec<_>>(), [1, 1]);
    running.crash().await;
    world.provisioner.hangs.store(false, Ordering::SeqCst);
    let running = world.start().await;
    for session in [&first, &second.session_id] {
        running.until_session(&tenant, &task, session, |s| s.state() == SessionState::Running).await;
    }
    let mut prompts = world.provisioner.prompts();
    prompts.sort();
    assert_eq!(prompts, ["one", "two"]);
    running.stop().await;
}

#[tokio::test]
async fn delivers_in_order_one_turn_at_a_time_and_holds_the_queue_after_a_stop() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "first").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    for text in ["second", "third", "gone"] {
        let message = send(&running, &tenant, &session, text).await;
        if text == "gone" {
            let request =
                RemoveQueuedMessageRequest { message_id: message.message_id, request_id: "r".into() };
            for _ in 0..2 {
                // The repeated request gets the first answer although the message is gone.
                let remove = ops::remove_queued_message::remove_queued_message;
                remove(&running.cx, &tenant.caller, request.clone()).await.unwrap();
            }
        }
    }
    assert_eq!(world.provisioner.prompts(), ["first"]);
    world.provisioner.end_turn(&session, TurnOutcome::Completed).await;
    running.until_session(&tenant, &task, &session, |s| s.queue_length == 1 && s.last_offset == 2).await;
    assert_eq!(world.provisioner.prompts(), ["first", "second"]);
    let stop = StopTurnRequest { session_id: session.clone(), request_id: String::new() };
    let stopped = ops::stop_turn::stop_turn(&running.cx, &tenant.caller, stop).await.unwrap();
    assert!(stopped.session.unwrap().queue_held);
    let held = running
        .until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle && s.last_offset == 4)
        .await;
    assert!(held.queue_held);
    assert_eq!(held.condition.unwrap().reason, "QUEUE_HELD");
    assert_eq!(world.provisioner.prompts(), ["first", "second"]);
    let resume = ResumeQueueRequest { session_id: session.clone(), request_id: String::new() };
    ops::resume_queue::resume_queue(&running.cx, &tenant.caller, resume).await.unwrap();
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    assert_eq!(world.provisioner.prompts(), ["first", "second", "third"]);
    running.stop().await;
}

#[tokio::test]
async fn never_delivers_between_the_end_of_a_failed_turn_and_the_word_of_it() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "first").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    send(&running, &tenant, &session, "second").await;
    world.provisioner.tell_ready(&session).await;
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Idle).await;
    // After a whole delivery in another session, this queue has had its chance.
    let request = CreateSessionRequest { task_id: task.clone(), ..CreateSessionRequest::default() };
    let other = ops::create_session::create_session(&running.cx, &tenant.caller, request).await.unwrap();
    let other = other.session.unwrap().session_id;
    send(&running, &tenant, &other, "elsewhere").await;
    running.until_session(&tenant, &task, &other, |s| s.state() == SessionState::Running).await;
    world.provisioner.tell_end(&session, TurnOutcome::Error).await;
    let held = running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
    assert!(held.queue_held);
    assert_eq!(world.provisioner.prompts(), ["first", "elsewhere"]);
    running.stop().await;
}

#[tokio::test]
async fn goes_on_after_a_crash_in_a_turn_without_gap_or_duplicate() {
    let world = World::new().await;
    let tenant = world.tenant(Role::Member).await;
    let running = world.start().await;
    let (task, session) = ids(&running.create(&tenant, "go").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let mut expected = vec!["user: go".to_owned()];
    let mut running = Some(running);
    for round in 0..4 {
        for part in 0..5 {
            let text = format!("{round}.{part}");
            world.provisioner.say(&session, &text).await;
            expected.push(format!("agent: {text}"));
        }
        if let Some(dying) = running.take() {
            dying.crash().await;
        }
        world.provisioner.say(&session, "meanwhile").await;
        expected.push("agent: meanwhile".to_owned());
        running = Some(world.start().await);
    }
    let running = running.unwrap();
    let all = i64::try_from(expected.len()).unwrap();
    running.until_session(&tenant, &task, &session, |s| s.last_offset == all).await;
    let expected: Vec<_> = (1..).zip(expected).collect();
    assert_eq!(transcript(&running, &tenant, &session).await, expected);
    assert_eq!(world.provisioner.prompts(), ["go"]);
    running.stop().await;
}

#[tokio::test]
async fn kills_in_every_state_and_keeps_what_was_said() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let kill = |task: String| {
        let (cx, caller) = (running.cx.clone(), tenant.caller.clone());
        async move {
            let request = KillTaskRequest { task_id: task, request_id: String::new() };
            ops::kill_task::kill_task(&cx, &caller, request).await.unwrap()
        }
    };
    let killed = |t: &GetTaskResponse| t.task.as_ref().unwrap().state() == TaskState::Killed;
    // During a turn.
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let archive = ArchiveTaskRequest { task_id: task.clone(), request_id: String::new() };
    let refused = ops::archive_task::archive_task(&running.cx, &tenant.caller, archive).await.unwrap_err();
    assert_eq!(refused.reason(), "TURN_RUNNING");
    assert_eq!(kill(task.clone()).await.task.unwrap().state(), TaskState::Killing);
    running.until(&tenant, &task, killed).await;
    assert_eq!(world.provisioner.sandbox_states(), [SandboxState::Destroyed]);
    let request =
        SendMessageRequest { session_id: session, text: "more".into(), ..SendMessageRequest::default() };
    let refused = ops::send_message::send_message(&running.cx, &tenant.caller, request).await.unwrap_err();
    assert_eq!(refused.reason(), "TASK_KILLED");
    // While the provisioner hangs: no sandbox is known.
    world.provisioner.hangs.store(true, Ordering::SeqCst);
    let (task, _) = ids(&running.create(&tenant, "two").await);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::CreatingSandbox).await;
    kill(task.clone()).await;
    running.until(&tenant, &task, killed).await;
    kill(task.clone()).await;
    let summary = GetOrganizationSummaryRequest { organization_id: tenant.organization.to_string() };
    let get = ops::get_organization_summary::get_organization_summary;
    assert_eq!(get(&running.cx, &tenant.caller, summary).await.unwrap().tasks, []);
    running.stop().await;
}

#[tokio::test]
async fn retries_a_failed_sandbox_where_it_failed() {
    let world = World::new().await;
    world.provisioner.eager.store(false, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| !t.task.as_ref().unwrap().sandbox_id.is_empty()).await;
    let retry = || {
        let request = RetryTaskRequest { task_id: task.clone(), request_id: String::new() };
        ops::retry_task::retry_task(&running.cx, &tenant.caller, request)
    };
    assert_eq!(retry().await.unwrap_err().reason(), "NOTHING_TO_RETRY");
    world.provisioner.set_sandboxes(SandboxState::Error).await;
    let failed =
        running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Error).await;
    assert!(failed.task.unwrap().condition.unwrap().retryable);
    retry().await.unwrap();
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn a_retry_hastens_the_next_attempt_of_a_sandbox_and_explain_says_when_it_would_be() {
    let world = World::new().await;
    world.provisioner.eager.store(false, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    running.until(&tenant, &task, |t| !t.task.as_ref().unwrap().sandbox_id.is_empty()).await;
    world.provisioner.fail_attempt("AGENT_INSTALL_FAILED", 1_764_070_696).await;
    let waits = |t: &GetTaskResponse| {
        t.task.as_ref().unwrap().condition.as_ref().is_some_and(|c| c.next_attempt_time.is_some())
    };
    running.until(&tenant, &task, waits).await;
    let request = ExplainTaskRequest { task_id: task.clone() };
    let told = ops::explain_task::explain_task(&running.cx, &tenant.caller, request).await.unwrap().summary;
    assert!(told.contains("Attempt 2 of 10 failed; the next is at 2025-11-25T11:38:16Z"), "{told}");
    assert!(told.ends_with("Retry the task to make the next attempt now."), "{told}");
    let request = RetryTaskRequest { task_id: task.clone(), ..Default::default() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn a_retry_hastens_the_next_attempt_of_the_task_itself() {
    let world = World::new().await;
    world.provisioner.refuses_sandboxes.store(true, Ordering::SeqCst);
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    // After a few attempts the next one is seconds away.
    let waits = |t: &GetTaskResponse| {
        let condition = t.task.as_ref().unwrap().condition.clone().unwrap_or_default();
        condition.attempt >= 4 && condition.next_attempt_time.is_some()
    };
    running.until(&tenant, &task, waits).await;
    running.halt_flows().await;
    let store = running.cx.store.clone();
    let id = task.parse().unwrap();
    let flow_id = crate::store::aggregate::load(&store, &id).await.unwrap().unwrap().task.flow.flow_id;
    let due = async || foundry_flow::find(&store, &flow_id).await.unwrap().unwrap().due_time;
    let before = due().await;
    let request = RetryTaskRequest { task_id: task.clone(), ..Default::default() };
    ops::retry_task::retry_task(&running.cx, &tenant.caller, request).await.unwrap();
    assert!(due().await < before, "the next attempt is not made sooner");
    running.stop().await;
    let running = world.start().await;
    world.provisioner.refuses_sandboxes.store(false, Ordering::SeqCst);
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().state() == TaskState::Running).await;
    running.stop().await;
}

#[tokio::test]
async fn shows_a_permission_request_until_it_is_answered() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
    let pending = PermissionRequest {
        permission_id: "p1".into(),
        title: "run tests".into(),
        ..PermissionRequest::default()
    };
    world.provisioner.ask(&session, Some(pending)).await;
    let asked = running.until(&tenant, &task, |t| t.sessions[0].pending_permission.is_some()).await;
    let condition = asked.task.unwrap().condition.unwrap();
    assert_eq!(
        (condition.waiting_on.as_str(), condition.next_action.as_str()),
        ("permission: run tests", "answer it")
    );
    let answer = |id: &str| {
        let request = RespondToPermissionRequest {
            session_id: session.clone(),
            permission_id: id.into(),
            ..RespondToPermissionRequest::default()
        };
        ops::respond_to_permission::respond_to_permission(&running.cx, &tenant.caller, request)
    };
    assert_eq!(answer("p2").await.unwrap_err().reason(), "PERMISSION_NOT_PENDING");
    assert_eq!(answer("p1").await.unwrap().session.unwrap().pending_permission, None);
    assert_eq!(answer("p1").await.unwrap_err().reason(), "PERMISSION_NOT_PENDING");
    running.stop().await;
    assert_eq!(world.provisioner.session(&session).unwrap().state(), AgentSessionState::Running);
}

#[tokio::test]
async fn hides_everything_of_one_organization_from_another() {
    let world = World::new().await;
    let (ours, theirs) = (world.tenant(Role::Admin).await, world.tenant(Role::Admin).await);
    let running = world.start().await;
    let (task, session) = ids(&running.create(&ours, "one").await);
    let (cx, caller) = (&running.cx, &theirs.caller);
    let read =
        ops::get_task::get_task(cx, caller, GetTaskRequest { task_id: task.clone() }).await.unwrap_err();
    assert_eq!(read.code(), Code::NotFound);
    let kill = KillTaskRequest { task_id: task.clone(), request_id: String::new() };
    assert_eq!(ops::kill_task::kill_task(cx, caller, kill).await.unwrap_err().code(), Code::NotFound);
    let message =
        SendMessageRequest { session_id: session.clone(), text: "x".into(), ..SendMessageRequest::default() };
    assert_eq!(
        ops::send_message::send_message(cx, caller, message).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut watch = WatchSessionRequest { session_id: session, ..WatchSessionRequest::default() };
    assert_eq!(ops::watch_session::grant(cx, caller, &mut watch).await.unwrap_err().code(), Code::NotFound);
    let create = CreateTaskRequest {
        organization_id: theirs.organization.to_string(),
        repository_id: ours.repository.to_string(),
        prompt: "x".into(),
        ..CreateTaskRequest::default()
    };
    assert_eq!(ops::create_task::create_task(cx, caller, create).await.unwrap_err().code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test]
async fn repeats_the_first_answer_and_refuses_bad_input() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Admin).await, world.start().await);
    let request = CreateTaskRequest {
        request_id: "same".into(),
        organization_id: tenant.organization.to_string(),
        repository_id: tenant.repository.to_string(),
        prompt: "Add a page".into(),
        ..CreateTaskRequest::default()
    };
    let create =
        |request: CreateTaskRequest| ops::create_task::create_task(&running.cx, &tenant.caller, request);
    let first = create(request.clone()).await.unwrap();
    assert_eq!(create(request.clone()).await.unwrap(), first);
    let other = CreateTaskRequest { prompt: "Other".into(), ..request.clone() };
    assert_eq!(create(other).await.unwrap_err().reason(), "REQUEST_ID_REUSED");
    let fresh = CreateTaskRequest { request_id: String::new(), ..request };
    let second = create(fresh.clone()).await.unwrap().task.unwrap();
    assert!(second.branch.starts_with("feat/add-page-"), "{}", second.branch);
    for bad in [
        CreateTaskRequest { prompt: "x".repeat(256 * 1024 + 1), ..fresh.clone() },
        CreateTaskRequest { prompt: String::new(), ..fresh.clone() },
        CreateTaskRequest { branch: "--upload-pack=x".into(), ..fresh.clone() },
        CreateTaskRequest { base_branch: "-x".into(), ..fresh.clone() },
        CreateTaskRequest { agent: "../x".into(), ..fresh.clone() },
        CreateTaskRequest { agent: "unheard-of".into(), ..fresh.clone() },
        CreateTaskRequest { provider: "unheard-of".into(), ..fresh.clone() },
    ] {
        assert_eq!(create(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let taken = CreateTaskRequest { branch: second.branch, ..fresh };
    assert_eq!(create(taken).await.unwrap_err().code(), Code::AlreadyExists);
    let audit =
        ListAuditEventsRequest { organization_id: tenant.organization.to_string(), ..Default::default() };
    let events =
        ops::list_audit_events::list_audit_events(&running.cx, &tenant.caller, audit).await.unwrap().events;
    assert_eq!(events.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["task.create", "task.create"]);
    running.stop().await;
}

#[tokio::test]
async fn compares_a_branch_with_those_of_the_remote() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Admin).await, world.start().await);
    *world.repo.branches.lock().unwrap() =
        ["feature/x", "fix", "fix-writer", "feat/add-page"].map(str::to_owned).to_vec();
    running.cx.follow(&tenant.organization).await.unwrap();
    crate::consume::branch_names::copy_outdated(&running.cx).await.unwrap();
    let create = async |prompt: &str, branch: &str| {
        let request = CreateTaskRequest {
            organization_id: tenant.organization.to_string(),
            repository_id: tenant.repository.to_string(),
            prompt: prompt.into(),
            branch: branch.into(),
            ..CreateTaskRequest::default()
        };
        let created = ops::create_task::create_task(&running.cx, &tenant.caller, request);
        let created = tokio::time::timeout(Duration::from_secs(20), created).await;
        created.expect("it waits for the repo service").map(|c| c.task.unwrap().branch)
    };
    // Whatever the repo service does now is of no concern.
    world.repo.hangs.store(true, Ordering::SeqCst);
    for branch in ["feature", "feature/x", "feature/x/y", "fix/y"] {
        let refused = create("Add a page", branch).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.reason()),
            (Code::FailedPrecondition, "BRANCH_CONFLICT"),
            "{branch}"
        );
    }
    assert_eq!(create("Add a page", "feature/y").await.unwrap(), "feature/y");
    // Derived names avoid what is there.
    let derived = create("Add a page", "").await.unwrap();
    assert!(derived.starts_with("feat/add-page-"), "{derived}");
    assert_eq!(create("Fix the parser", "").await.unwrap(), "fix-parser");
    let derived = create("Fix the writer", "").await.unwrap();
    assert!(derived.starts_with("fix-writer-"), "{derived}");
    running.stop().await;
}

#[tokio::test]
async fn copies_the_names_of_branches_after_each_synchronization_and_forgets_them_with_the_repository() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Admin).await, world.start().await);
    let (organization, repository) = (&tenant.organization, &tenant.repository);
    running.cx.follow(organization).await.unwrap();
    // Nothing but the service's own consumers copies them.
    let until = async |wanted: Option<&str>| {
        let came = async {
            loop {
                let found = crate::store::branch_names::find(&running.cx.store, repository).await.unwrap();
                if found.map(|f| f.names).as_deref() == wanted {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), came).await.unwrap();
    };
    until(Some("")).await;
    world.repo.set_branches(organization, repository, &["a", "b/c"], 2).await;
    until(Some("a\nb/c\n")).await;
    world.repo.set_branches(organization, repository, &["d"], 3).await;
    until(Some("d\n")).await;
    // One that finds the same names is recorded too.
    world.repo.set_branches(organization, repository, &["d"], 4).await;
    let as_of = async || {
        let found = crate::store::branch_names::find(&running.cx.store, repository).await.unwrap().unwrap();
        assert_eq!(found.names, "d\n");
        found.as_of.as_micros()
    };
    let confirmed = async {
        while as_of().await != 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), confirmed).await.unwrap();
    // After a poll that found nothing new they are not read.
    *world.repo.branches.lock().unwrap() = vec!["not read".to_owned()];
    world.repo.synced(organization, repository, 5, 4).await;
    let polled = async || {
        let copy = crate::store::upstream::repository(&running.cx.store, repository).await.unwrap().unwrap();
        copy.entity.sync_time == Some(foundry_core::Timestamp::from_micros(5).to_proto())
    };
    let unread = async {
        let store = &running.cx.store;
        while !polled().await || !crate::store::branch_names::outdated(store).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), unread).await.unwrap();
    assert_eq!(as_of().await, 4);
    world.repo.remove(organization, repository).await;
    until(None).await;
    running.stop().await;
}

#[tokio::test]
async fn reads_everything_but_diffs_while_the_repo_service_is_down() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, _) = ids(&running.create(&tenant, "one").await);
    let list = || {
        let request = ListFileChangesRequest { task_id: task.clone(), ..ListFileChangesRequest::default() };
        ops::list_file_changes::list_file_changes(&running.cx, &tenant.caller, request)
    };
    assert_eq!(list().await.unwrap().files, []);
    world.repo.import(&tenant.organization, &task, 1).await;
    running.until(&tenant, &task, |t| t.task.as_ref().unwrap().changes.is_some()).await;
    assert_eq!(list().await.unwrap().files[0].kind, "added");
    world.repo.down.store(true, Ordering::SeqCst);
    assert_eq!(list().await.unwrap_err().reason(), "REPO_UNAVAILABLE");
    let explained = ExplainTaskRequest { task_id: task.clone() };
    let explained = ops::explain_task::explain_task(&running.cx, &tenant.caller, explained).await.unwrap();
    assert!(explained.findings.iter().any(|f| f.subject == "work"), "{explained:#?}");
    running.create(&tenant, "two").await;
    running.stop().await;
}

#[tokio::test]
async fn takes_no_event_behind_a_hole_and_none_twice() {
    let world = World::new().await;
    let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
    let (task, session) = ids(&running.create(&tenant, "one").await);
    let mut aggregate = aggregate::load(&running.cx.store, &task.parse().unwrap()).await.unwrap().unwrap();
    let event =
        |offset| AgentEvent { offset, part: Some(TranscriptPart::default()), ..AgentEvent::default() };
    let mut take = |offsets: &[i64]| {
        let events: Vec<_> = offsets.iter().copied().map(event).collect();
        let session = aggregate.session_mut(&session).unwrap();
        apply::events(&mut WriteSet::new(), session, &events, &apply::Texts::new());
        (session.event_offset, session.view.last_offset)
    };
    assert_eq!(take(&[1, 3, 4]), (1, 1));
    assert_eq!(take(&[1, 2, 3]), (3, 3));
    assert_eq!(take(&[2, 3]), (3, 3));
    running.stop().await;
}
