//! Whatever the provider does, requests answer at once and nothing that was said is lost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, helpers included

use std::time::{Duration, Instant};

use foundry_proto::common::v1::StageState;
use foundry_proto::task::v1::{
    CreateSessionRequest, KillTaskRequest, SendMessageRequest, SessionState, TaskState,
};
use foundry_tests::faults::{Faults, settings};
use foundry_tests::story::{await_session, await_task, await_turns, create_task, register, turn_ends, words};
use foundry_tests::{Mesh, Origin, Shape};

/// A request that waited for a provider would take for ever; this only tells the two apart.
const AT_ONCE: Duration = Duration::from_secs(2);

fn start(dir: &std::path::Path) -> Mesh {
    let settings = settings(dir);
    Mesh::start(Shape::Embedded, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_answer_at_once_while_the_provider_hangs_and_the_message_is_delivered_later() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.hang("allocate");
    let mesh = start(dir.path());
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;

    let begun = Instant::now();
    let (task, session) = create_task(&caller, &repository, "say first").await;
    let create = CreateSessionRequest { task_id: task.task_id.clone(), ..CreateSessionRequest::default() };
    let second = caller.task().create_session(create).await.unwrap().into_inner().session.unwrap();
    let send = |session_id: &str, text: &str| SendMessageRequest {
        request_id: String::new(),
        session_id: session_id.to_owned(),
        text: text.to_owned(),
    };
    caller.task().send_message(send(&session.session_id, "say second")).await.unwrap();
    caller.task().send_message(send(&second.session_id, "say elsewhere")).await.unwrap();
    assert!(begun.elapsed() < AT_ONCE, "four requests took {:?}", begun.elapsed());

    let hanging = await_task(&caller, &task.task_id, |t| {
        t.stages.iter().any(|s| s.name == "sandbox_allocated" && s.state() == StageState::Running)
    })
    .await;
    let why = hanging.condition.unwrap();
    assert!(!why.waiting_on.is_empty() && why.since_time.is_some(), "{why:?}");
    for id in [&session.session_id, &second.session_id] {
        let pending = await_session(&caller, id, |_| true).await;
        assert_eq!(pending.state(), SessionState::PendingProvision);
        assert!(pending.queue_length >= 1);
    }

    faults.release("allocate");
    let entries = await_turns(&caller, &session.session_id, 2).await;
    let words = words(&entries);
    assert!(words.find("first") < words.find("second") && words.contains("second"), "{words}");
    assert_eq!(turn_ends(&await_turns(&caller, &second.session_id, 1).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_task_can_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.hang("prepare_repo");
    let mesh = start(dir.path());
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (task, _) = create_task(&caller, &repository, "say never").await;
    await_task(&caller, &task.task_id, |t| {
        t.stages.iter().any(|s| s.name == "repo_prepared" && s.state() == StageState::Running)
    })
    .await;
    let kill = KillTaskRequest { request_id: String::new(), task_id: task.task_id.clone() };
    caller.task().kill_task(kill).await.unwrap();
    await_task(&caller, &task.task_id, |t| t.state() == TaskState::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_fails_is_tried_again_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.fail("install_agent", 2);
    let mesh = start(dir.path());
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&caller, &repository, "say done").await;
    await_turns(&caller, &session.session_id, 1).await;
    let done = await_task(&caller, &task.task_id, |t| t.state() == TaskState::Idle).await;
    let stage = done.stages.iter().find(|s| s.name == "agent_installing").unwrap();
    assert_eq!((stage.state(), stage.attempts), (StageState::Done, 3));
}
