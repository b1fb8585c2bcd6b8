//! The main job, end to end: a prompt on a real repository becomes a reviewed patch.

use foundry_proto::common::v1::{StageState, TurnOutcome};
use foundry_proto::provisioner::v1::DestroySandboxRequest;
use foundry_proto::task::v1::{KillTaskRequest, RetryTaskRequest, SessionState, Task, TaskState};
use foundry_tests::mesh::LONG_STOP;
use foundry_tests::story::{
    assert_contiguous, await_session, await_task, await_turns, create_task, patch, register, send, turn_ends,
    words,
};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const PROMPT: &str = "write docs/hello.md: Hello there.\nreplace 1 with 2 in src/lib.rs\nsay All is done.";

/// The story itself; `meanwhile` runs once the task is created.
async fn from_prompt_to_patch(mesh: &mut Mesh, caller: &Caller, meanwhile: impl FnOnce(&mut Mesh)) {
    let origin = Origin::create(mesh.dir());
    let repository = register(caller, &origin).await;
    let (task, session) = create_task(caller, &repository, PROMPT).await;
    assert_eq!(session.state(), SessionState::PendingProvision);
    meanwhile(mesh);

    let entries = await_turns(caller, &session.session_id, 1).await;
    assert_contiguous(&entries);
    assert_eq!(turn_ends(&entries)[0].outcome(), TurnOutcome::Completed);
    assert!(words(&entries).contains("All is done."), "{}", words(&entries));

    let done = await_task(caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == 2)
    })
    .await;
    let unfinished: Vec<_> = done
        .stages
        .iter()
        .filter(|s| s.name != "error" && s.state() != StageState::Done)
        .map(|s| (s.name.as_str(), s.state()))
        .collect();
    assert_eq!(unfinished, [], "a stage is not done though the task is idle");
    let before = patch(caller, &task.task_id).await;

    caller
        .task()
        .kill_task(KillTaskRequest { request_id: String::new(), task_id: task.task_id.clone() })
        .await
        .unwrap();
    await_task(caller, &task.task_id, |t| t.state() == TaskState::Killed).await;
    assert_eq!(patch(caller, &task.task_id).await, before, "the patch must outlive its sandbox");
    await_session(caller, &session.session_id, |s| s.last_offset >= entries.len() as i64).await;

    let clone = origin.apply(&before);
    let read = |path: &str| std::fs::read_to_string(clone.path().join(path)).unwrap();
    assert!(read("docs/hello.md").contains("Hello there."));
    assert!(read("src/lib.rs").contains("    2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_sandbox_was_destroyed_continues_with_its_work() {
    let mesh = Mesh::start(Shape::Embedded, &[LONG_STOP]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&caller, &repository, "write kept.txt: first").await;
    await_turns(&caller, &session.session_id, 1).await;
    let has = |files: i32| {
        move |t: &Task| {
            t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == files)
        }
    };
    let done = await_task(&caller, &task.task_id, has(1)).await;

    let destroy =
        DestroySandboxRequest { sandbox_id: done.sandbox_id.clone(), ..DestroySandboxRequest::default() };
    caller.provisioner().destroy_sandbox(destroy).await.unwrap();
    await_task(&caller, &task.task_id, |t| t.state() == TaskState::Error && t.sandbox_id.is_empty()).await;
    let retry = RetryTaskRequest { task_id: task.task_id.clone(), ..RetryTaskRequest::default() };
    caller.task().retry_task(retry).await.unwrap();
    await_task(&caller, &task.task_id, |t| t.state() == TaskState::Idle && !t.sandbox_id.is_empty()).await;

    send(&caller, &session.session_id, "run cat kept.txt\nwrite new.txt: second").await;
    let entries = await_turns(&caller, &session.session_id, 2).await;
    assert_eq!(turn_ends(&entries)[1].outcome(), TurnOutcome::Completed);
    await_task(&caller, &task.task_id, has(2)).await;
    let patch = String::from_utf8_lossy(&patch(&caller, &task.task_id).await).into_owned();
    assert!(patch.contains("+first") && patch.contains("+second"), "{patch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_patch_that_applies_in_one_process() {
    let mut mesh = Mesh::start(Shape::Embedded, &[LONG_STOP]);
    let caller = mesh.sign_in("ada").await;
    Box::pin(from_prompt_to_patch(&mut mesh, &caller, |_| {})).await;
    assert!(mesh.stop().iter().all(std::process::ExitStatus::success), "{}", mesh.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_becomes_a_patch_that_applies_in_five_processes_one_of_them_restarted() {
    let mut mesh = Mesh::start(Shape::Separate, &[LONG_STOP]);
    let caller = mesh.sign_in("ada").await;
    let restarted = |mesh: &mut Mesh| {
        mesh.signal("task", rustix::process::Signal::KILL);
        mesh.ended("task");
        mesh.start_again();
    };
    Box::pin(from_prompt_to_patch(&mut mesh, &caller, restarted)).await;
    assert!(mesh.stop().iter().all(std::process::ExitStatus::success), "{}", mesh.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_are_delivered_in_order_and_a_stop_holds_the_queue() {
    use foundry_proto::task::v1::{ResumeQueueRequest, SendMessageRequest, StopTurnRequest};
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (_, session) = create_task(&caller, &repository, "say one").await;
    let id = session.session_id;
    let send = |text: &str| {
        let request = SendMessageRequest {
            session_id: id.clone(),
            text: text.to_owned(),
            ..SendMessageRequest::default()
        };
        let mut client = caller.task();
        async move { client.send_message(request).await.unwrap().into_inner() }
    };
    send("say two").await;
    send("hang").await;
    send("say four").await;
    await_session(&caller, &id, |s| s.state() == SessionState::Running && s.queue_length == 1).await;
    let entries = await_turns(&caller, &id, 2).await;
    assert!(words(&entries).find("one") < words(&entries).find("two"));
    caller
        .task()
        .stop_turn(StopTurnRequest { request_id: String::new(), session_id: id.clone() })
        .await
        .unwrap();
    let held = await_session(&caller, &id, |s| s.state() == SessionState::Idle && s.queue_held).await;
    assert_eq!(held.queue_length, 1);
    caller
        .task()
        .resume_queue(ResumeQueueRequest { request_id: String::new(), session_id: id.clone() })
        .await
        .unwrap();
    let entries = await_turns(&caller, &id, 4).await;
    let outcomes: Vec<_> = turn_ends(&entries).iter().map(|e| e.outcome()).collect();
    let wanted =
        [TurnOutcome::Completed, TurnOutcome::Completed, TurnOutcome::Cancelled, TurnOutcome::Completed];
    assert_eq!(outcomes, wanted);
    assert_contiguous(&entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_request_waits_until_somebody_answers() {
    use foundry_proto::common::v1::PermissionPolicy;
    use foundry_proto::task::v1::RespondToPermissionRequest;
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let mut request =
        foundry_tests::story::task_request(&caller, &repository, "ask permission to run echo allowed");
    request.permission_policy = PermissionPolicy::Ask.into();
    let created = caller.task().create_task(request).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    let asked = await_session(&caller, &id, |s| s.pending_permission.is_some()).await;
    let pending = asked.pending_permission.unwrap();
    let option = pending.options.iter().find(|o| o.kind == "allow_once").unwrap();
    let answer = RespondToPermissionRequest {
        request_id: String::new(),
        session_id: id.clone(),
        permission_id: pending.permission_id.clone(),
        option_id: option.option_id.clone(),
    };
    caller.task().respond_to_permission(answer).await.unwrap();
    let entries = await_turns(&caller, &id, 1).await;
    assert_eq!(turn_ends(&entries)[0].outcome(), TurnOutcome::Completed);
    let idle = await_session(&caller, &id, |s| s.state() == SessionState::Idle).await;
    assert!(idle.pending_permission.is_none());
}
