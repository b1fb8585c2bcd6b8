//! Whatever the provider does, requests are answered at once and no message is lost.

use std::time::{Duration, Instant};

use foundry_proto::common::v1::StageState;
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{
    CreateSessionRequest, KillTaskRequest, SendMessageRequest, Session, SessionState, Task, TaskState,
};
use foundry_tests::faults::Faults;
use foundry_tests::story::{
    await_session, await_task, await_turns, create_task, get_task, register, send, task_request, turn_ends,
    words,
};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// Distinguishes an answer from a request that waits for the provider, which would hang. A busy machine may delay a
/// request for seconds, but for less than the 20 s after which a call to the provisioner is abandoned.
const AT_ONCE: Duration = Duration::from_secs(15);
/// Upper bound of the median latency, even on a busy machine.
const USUALLY: Duration = Duration::from_secs(2);
/// Number of measured requests of each kind.
const CALLS: usize = 30;

/// Creates a task by a single call without retries, so that a refusal fails the test.
async fn create_once(caller: &Caller, repository: &Repository, prompt: &str) -> (Task, Session) {
    let answer = caller.task().create_task(task_request(caller, repository, prompt)).await.unwrap();
    let answer = answer.into_inner();
    (answer.task.unwrap(), answer.session.unwrap())
}

fn start(dir: &std::path::Path) -> Mesh {
    Mesh::start_faulty(Shape::Embedded, dir, &[])
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
    let (task, session) = create_once(&caller, &repository, "say first").await;
    let create = CreateSessionRequest { task_id: task.task_id.clone(), ..CreateSessionRequest::default() };
    let second = caller.task().create_session(create).await.unwrap().into_inner().session.unwrap();
    let send = |session_id: &str, text: &str| SendMessageRequest {
        request_id: String::new(),
        session_id: session_id.to_owned(),
        text: text.to_owned(),
        ..SendMessageRequest::default()
    };
    caller.task().send_message(send(&session.session_id, "say second")).await.unwrap();
    caller.task().send_message(send(&second.session_id, "say elsewhere")).await.unwrap();
    assert!(begun.elapsed() < AT_ONCE, "four requests took {:?}", begun.elapsed());

    let hanging = await_task(&caller, &task.task_id, |t| is_at(t, StageState::Running)).await;
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

/// Makes a call that must be answered at once, and records its duration.
async fn timed<T>(name: &str, took: &mut Vec<Duration>, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = tokio::time::timeout(AT_ONCE, call).await;
    let answer = answer.unwrap_or_else(|_| panic!("{name} number {} is not answered", took.len() + 1));
    took.push(begun.elapsed());
    answer
}

fn is_at(task: &Task, state: StageState) -> bool {
    task.stages.iter().any(|s| s.name == "sandbox_allocated" && s.state() == state)
}

fn report(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (median, most) = (took[(took.len() - 1) / 2], took[took.len() - 1]);
    let (p50, max) = (ms(median), ms(most));
    println!("{name} while allocate hangs: {} calls, p50 {p50:.1} ms, max {max:.1} ms", took.len());
    assert!(median < USUALLY, "{name} usually takes {median:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_single_request_answers_at_once_while_the_provider_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.hang("allocate");
    let mesh = start(dir.path());
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let (first, _) = create_task(&caller, &repository, "say first").await;
    await_task(&caller, &first.task_id, |t| is_at(t, StageState::Running)).await;

    let (mut tasks, mut sessions, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    let mut created = Vec::new();
    for n in 0..CALLS {
        let prompt = format!("say {n}");
        let create = create_once(&caller, &repository, &prompt);
        let (task, _) = timed("CreateTask", &mut tasks, create).await;
        let request =
            CreateSessionRequest { task_id: task.task_id.clone(), ..CreateSessionRequest::default() };
        let mut client = caller.task();
        let session = timed("CreateSession", &mut sessions, client.create_session(request)).await.unwrap();
        let session = session.into_inner().session.unwrap();
        timed("SendMessage", &mut messages, send(&caller, &session.session_id, "say more")).await;
        created.push((task.task_id, session.session_id));
    }
    // The provider must still hang: otherwise the measured calls prove nothing.
    let mut waiting = 0;
    for (task, session) in &created {
        let task = get_task(&caller, task).await;
        assert!(!is_at(&task, StageState::Done), "{task:?}");
        waiting += usize::from(is_at(&task, StageState::Running));
        let pending = await_session(&caller, session, |s| s.queue_length == 1).await;
        assert_eq!(pending.state(), SessionState::PendingProvision);
    }
    assert!(waiting > 0);
    // A provider call that has hung for long is retried: the stage may be waiting for that right now.
    await_task(&caller, &first.task_id, |t| is_at(t, StageState::Running)).await;
    println!("{waiting} of {CALLS} tasks are at the hanging provider, the others wait for their turn");
    report("CreateTask", tasks);
    report("CreateSession", sessions);
    report("SendMessage", messages);
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
