//! Crashes of real processes: the mesh or a sandbox is killed at every stage of both flows and during turns, and the
//! result must equal that of an undisturbed run.
//!
//! `FOUNDRY_CRASH_ROUNDS` repeats each test; 1 by default, to keep the checks short.

use foundry_proto::common::v1::{NoticeKind, StageState, TurnOutcome};
use foundry_proto::provisioner::v1::{Sandbox, SandboxState};
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{CreateSessionRequest, SessionState, Task, TaskState, TranscriptEntry};
use foundry_tests::faults::Faults;
use foundry_tests::sandboxes::{self, Runtime};
use foundry_tests::stages::{STAGES, assert_not_repeated, completed, stage};
use foundry_tests::story::{
    await_session, await_task, await_transcript, await_turns, create_task, get_task, patch, register, send,
    turn_ends, words,
};
use foundry_tests::transcript_summary::TranscriptSummary;
use foundry_tests::{Caller, Mesh, Origin, Shape};
use rustix::process::Signal;

const PROMPT: &str = "append log.txt: once\nwrite docs/hello.md: Hello there.\nreplace 1 with 2 in src/lib.rs\nsay All is done.";
/// Files that the prompt changes.
const FILES: i32 = 3;
fn rounds() -> usize {
    std::env::var("FOUNDRY_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// A mesh whose provider is controlled by faults, a user and a repository.
struct World {
    mesh: Mesh,
    faults: Faults,
    ada: Caller,
    repository: Repository,
    origin: Origin,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::none(dir.path());
        let mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &[]);
        let ada = mesh.sign_in("ada").await;
        let origin = Origin::create(mesh.dir());
        let repository = register(&ada, &origin).await;
        Self { mesh, faults, ada, repository, origin, _dir: dir }
    }

    async fn create(&self, prompt: &str) -> (String, String) {
        let (task, session) = create_task(&self.ada, &self.repository, prompt).await;
        (task.task_id, session.session_id)
    }

    /// Waits until a task's turn has ended and its work is imported; returns summary and patch.
    async fn finished(&self, task: &str, session: &str) -> (TranscriptSummary, Vec<u8>) {
        let entries = await_turns(&self.ada, session, 1).await;
        let imported = |t: &Task| {
            t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed == FILES)
        };
        await_task(&self.ada, task, imported).await;
        assert_spoken_once(&entries);
        (TranscriptSummary::of(&entries), patch(&self.ada, task).await)
    }

    async fn undisturbed(&self) -> (TranscriptSummary, Vec<u8>) {
        let (task, session) = self.create(PROMPT).await;
        let (summary, patch) = self.finished(&task, &session).await;
        assert_eq!(summary.ends, [TurnOutcome::Completed]);
        assert_eq!(summary.spoken, [PROMPT]);
        assert!(summary.words.contains("All is done.") && summary.notices.is_empty(), "{summary:?}");
        (summary, patch)
    }

    /// Creates a task and waits until it is idle; returns task, session and sandbox ids.
    async fn ready_task(&self) -> (String, String, String) {
        let (task, session) = self.create("say ready").await;
        await_turns(&self.ada, &session, 1).await;
        let sandbox = sandboxes::only(&self.ada, &task).await.sandbox_id;
        (task, session, sandbox)
    }

    async fn another_session(&self, task: &str) -> String {
        let request = CreateSessionRequest {
            request_id: String::new(),
            task_id: task.to_owned(),
            permission_policy: foundry_proto::common::v1::PermissionPolicy::Allow.into(),
            ..CreateSessionRequest::default()
        };
        loop {
            match self.ada.task().create_session(request.clone()).await {
                Ok(answer) => return answer.into_inner().session.unwrap().session_id,
                Err(status) => assert_eq!(status.code(), tonic::Code::Aborted, "{status}"),
            }
        }
    }

    /// Checks that the task's only sandbox is ready and the same, and that exactly this runtime runs for it.
    async fn assert_adopted(&self, task: &str, sandbox: &str, runtime: Runtime, instance: i64) {
        let now = sandboxes::only(&self.ada, task).await;
        assert_eq!(now.sandbox_id, sandbox, "another sandbox was made");
        assert_eq!(now.state(), SandboxState::Ready);
        assert_eq!(now.runtime_instance, instance, "a living runtime was not adopted");
        assert_eq!(sandboxes::runtime(&self.mesh, sandbox), runtime, "a living runtime was replaced");
    }
}

fn assert_spoken_once(entries: &[TranscriptEntry]) {
    let times = TranscriptSummary::times_spoken(entries);
    assert!(times.values().all(|n| *n == 1), "a prompt stands more than once in the transcript: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_every_stage_of_a_sandbox_goes_on_at_that_stage_and_ends_as_if_nothing_had_happened() {
    let mut world = World::start().await;
    let expected = world.undisturbed().await;
    for _ in 0..rounds() {
        for point in [Point::BeforeEffect, Point::AfterEffect] {
            Box::pin(crash_at_all_stages(&mut world, &expected, point)).await;
        }
    }
}

/// Where within a stage the mesh is killed.
#[derive(Clone, Copy, PartialEq)]
enum Point {
    BeforeEffect,
    /// The effect has happened, but is not recorded.
    AfterEffect,
}

/// One task waits in each stage while the mesh is killed twice; the last stage is reached first.
async fn crash_at_all_stages(world: &mut World, expected: &(TranscriptSummary, Vec<u8>), point: Point) {
    let mut waiting = Vec::new();
    for (call, name) in STAGES.into_iter().rev() {
        match point {
            Point::BeforeEffect => world.faults.hang(call),
            Point::AfterEffect => world.faults.linger(call),
        }
        let (task, session) = world.create(PROMPT).await;
        let at = await_task(&world.ada, &task, |t| stage(t, name).state() == StageState::Running).await;
        // Only then has the stage all that it waits for itself: a wait would begin to count its attempts from one.
        match point {
            Point::BeforeEffect => world.faults.hangs(call).await,
            Point::AfterEffect => world.faults.lingers(call).await,
        }
        let sandbox = sandboxes::only(&world.ada, &task).await;
        let runtimes = sandboxes::runtimes(&world.mesh, &sandbox.sandbox_id);
        let started = name == "agent_ready" || (name == "agent_starting" && point == Point::AfterEffect);
        assert_eq!(runtimes.len(), usize::from(started), "{name}: {runtimes:?}");
        waiting.push((name, task, session, sandbox, runtimes, completed(&at)));
    }
    for crash in 1..=2 {
        world.mesh.crash_and_restart();
        for (name, task, _, sandbox, _, before) in &waiting {
            let again =
                |t: &Task| stage(t, name).state() == StageState::Running && stage(t, name).attempts > crash;
            let at = await_task(&world.ada, task, again).await;
            assert_not_repeated(before, &at);
            assert_eq!(sandboxes::only(&world.ada, task).await.sandbox_id, sandbox.sandbox_id);
        }
    }
    for (call, _) in STAGES {
        match point {
            Point::BeforeEffect => world.faults.release(call),
            Point::AfterEffect => world.faults.answer(call),
        }
    }
    for (name, task, session, sandbox, runtimes, before) in &waiting {
        let found = world.finished(task, session).await;
        assert_eq!(&found.0, &expected.0, "{name}: another transcript");
        assert_eq!(found.1, expected.1, "{name}: another patch");
        let done = get_task(&world.ada, task).await;
        assert_not_repeated(before, &done);
        let runtime = sandboxes::runtime(&world.mesh, &sandbox.sandbox_id);
        world.assert_adopted(task, &sandbox.sandbox_id, *runtimes.first().unwrap_or(&runtime), 1).await;
    }
}

type TaskMoment = fn(&Task) -> bool;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_right_after_any_change_of_a_new_task_ends_as_if_nothing_had_happened() {
    let mut world = World::start().await;
    let expected = world.undisturbed().await;
    // Moments that every run reaches: begin and end of stages, and then of the turn.
    let moments: [(&str, TaskMoment); 7] = [
        ("created", |_| true),
        ("allocated", |t| stage(t, "sandbox_allocated").state() == StageState::Done),
        ("cloned", |t| stage(t, "repo_prepared").state() == StageState::Done),
        ("starting", |t| stage(t, "agent_starting").state() != StageState::Pending),
        ("session", |t| stage(t, "session_creating").state() != StageState::Pending),
        ("session made", |t| stage(t, "ready").state() != StageState::Pending),
        // A short turn may have ended before it is seen; its work remains.
        ("running", |t| {
            t.state() == TaskState::Running || t.changes.as_ref().is_some_and(|c| c.files_changed > 0)
        }),
    ];
    for _ in 0..rounds() {
        for (name, reached) in moments {
            let (task, session) = world.create(PROMPT).await;
            let before = completed(&await_task(&world.ada, &task, reached).await);
            world.mesh.crash_and_restart();
            let found = world.finished(&task, &session).await;
            assert_eq!(&found.0, &expected.0, "{name}: another transcript");
            assert_eq!(found.1, expected.1, "{name}: another patch");
            assert_not_repeated(&before, &get_task(&world.ada, &task).await);
            let sandbox = sandboxes::only(&world.ada, &task).await;
            sandboxes::runtime(&world.mesh, &sandbox.sandbox_id);
            assert_eq!(sandbox.runtime_instance, 1, "{name}: a living runtime was not adopted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_an_agent_session_is_created_goes_on_with_the_same_agent() {
    let mut world = World::start().await;
    let (task, _, sandbox) = world.ready_task().await;
    let runtime = sandboxes::runtime(&world.mesh, &sandbox);
    let before = completed(&get_task(&world.ada, &task).await);
    for round in 0..2 * rounds() {
        // A stopped server accepts connections but does not answer: the stage cannot end.
        sandboxes::signal(&world.mesh, &sandbox, runtime.server, Signal::STOP);
        let session = world.another_session(&task).await;
        send(&world.ada, &session, &format!("append session{round}.txt: once\nsay All is done.")).await;
        sandboxes::await_agent_stage(&world.ada, &sandbox, &session, "session_creating", 1).await;
        world.mesh.crash_and_restart();
        let again = sandboxes::await_agent_stage(&world.ada, &sandbox, &session, "session_creating", 2).await;
        assert_eq!(again.session_id, session);
        sandboxes::signal(&world.mesh, &sandbox, runtime.server, Signal::CONT);
        let entries = await_turns(&world.ada, &session, 1).await;
        assert_spoken_once(&entries);
        let summary = TranscriptSummary::of(&entries);
        assert_eq!((summary.ends, summary.notices), (vec![TurnOutcome::Completed], vec![]));
        assert_not_repeated(&before, &get_task(&world.ada, &task).await);
        world.assert_adopted(&task, &sandbox, runtime, 1).await;
    }
    assert_files(&world, &task, (0..2 * rounds()).map(|n| (format!("session{n}.txt"), "once\n"))).await;
}

/// Checks that a task's patch applies and produces exactly these contents.
async fn assert_files(world: &World, task: &str, files: impl Iterator<Item = (String, &str)>) {
    let files: Vec<_> = files.collect();
    let count = i32::try_from(files.len()).unwrap();
    let lines: usize = files.iter().map(|(_, content)| content.lines().count()).sum();
    // Work is also imported within a turn, with all of the files but not yet all of their lines.
    let imported = |t: &Task| {
        t.changes.as_ref().is_some_and(|c| c.files_changed == count && c.additions >= lines as i64)
    };
    await_task(&world.ada, task, imported).await;
    let clone = world.origin.apply(&patch(&world.ada, task).await);
    for (file, content) in files {
        let found = std::fs::read_to_string(clone.path().join(&file)).unwrap();
        assert_eq!(found, content, "{file}: an effect of the agent is lost or doubled");
    }
}

/// A turn that lasts long enough to be interrupted at several points; the lines it appends show whether it ran once.
fn long_turn(file: &str) -> String {
    format!("append {file}: begun\nstream 40 chunks\nrun sleep 1\nappend {file}: ended\nsay All is done.")
}

type Moment = fn(&[TranscriptEntry]) -> bool;

/// Points within such a turn at which the mesh is killed.
const MOMENTS: [(&str, Moment); 4] = [
    ("spoken", |entries| !entries.is_empty()),
    ("first words", |entries| !words(entries).is_empty()),
    // On a slow machine the command may have ended when it is seen; the mesh is then killed a little later.
    ("in a command", |entries| TranscriptSummary::tools_begun(entries).iter().any(|t| t.contains("sleep"))),
    ("last words", |entries| words(entries).contains("All is")),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_within_a_turn_loses_and_doubles_nothing_and_the_turn_is_not_prompted_again() {
    let mut world = World::start().await;
    let (task, session, sandbox) = world.ready_task().await;
    let message = send(&world.ada, &session, &long_turn("quiet.txt")).await;
    let expected = turn_text(&await_turns(&world.ada, &session, 2).await, &message, "quiet.txt");
    let runtime = sandboxes::runtime(&world.mesh, &sandbox);
    let mut files = vec![("quiet.txt".to_owned(), "begun\nended\n")];
    for round in 0..rounds() {
        for (at, (name, reached)) in MOMENTS.iter().enumerate() {
            let file = format!("turn{round}-{at}.txt");
            let before = await_session(&world.ada, &session, |_| true).await.last_offset;
            let message = send(&world.ada, &session, &long_turn(&file)).await;
            await_transcript(&world.ada, &session, before, reached).await;
            world.mesh.crash_and_restart();
            let entries = await_turns(&world.ada, &session, 2 + files.len()).await;
            assert_spoken_once(&entries);
            assert_eq!(turn_text(&entries, &message, &file), expected, "{name}");
            files.push((file, "begun\nended\n"));
            world.assert_adopted(&task, &sandbox, runtime, 1).await;
        }
    }
    assert_files(&world, &task, files.into_iter()).await;
}

/// The summary of a turn with its file name replaced, for comparison between turns.
fn turn_text(entries: &[TranscriptEntry], message: &str, file: &str) -> String {
    format!("{:#?}", TranscriptSummary::of_turn(entries, message)).replace(file, "FILE")
}

/// Kills a runtime's server or its outermost process, and waits until another runtime is ready.
async fn kill_runtime(world: &World, sandbox: &str, server: bool) -> Runtime {
    let old = sandboxes::runtime(&world.mesh, sandbox);
    let instance = sandboxes::get(&world.ada, sandbox).await.runtime_instance;
    sandboxes::signal(&world.mesh, sandbox, if server { old.server } else { old.pid }, Signal::KILL);
    let next = |s: &Sandbox| s.state() == SandboxState::Ready && s.runtime_instance == instance + 1;
    sandboxes::await_sandbox(&world.ada, sandbox, next).await;
    let new = sandboxes::runtime(&world.mesh, sandbox);
    assert!(new.pid != old.pid && new.server != old.server, "nothing was killed");
    new
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_dies_within_a_turn_comes_back_and_the_queue_waits_for_the_person() {
    let world = World::start().await;
    let (task, session, sandbox) = world.ready_task().await;
    let mut turns = 1;
    // The outermost process, then only the server inside, which its agent may outlive by a few words.
    for server in [false, true].repeat(rounds()) {
        let before =
            await_session(&world.ada, &session, |s| s.state() == SessionState::Idle).await.last_offset;
        let cut = send(&world.ada, &session, &format!("stream 40 chunks\nrun sleep {}", 600 + turns)).await;
        let held = send(&world.ada, &session, &format!("say held {turns}")).await;
        let in_command: Moment = |entries| !TranscriptSummary::tools_running(entries).is_empty();
        await_transcript(&world.ada, &session, before, &in_command).await;
        kill_runtime(&world, &sandbox, server).await;
        let waits =
            await_session(&world.ada, &session, |s| s.queue_held && s.state() != SessionState::Running).await;
        assert_eq!(waits.queue_length, 1, "the queue must wait: {waits:?}");
        let entries = await_turns(&world.ada, &session, turns + 1).await;
        let end = turn_ends(&entries).pop().unwrap();
        assert_eq!(end.outcome(), TurnOutcome::Interrupted);
        let reasons: &[&str] =
            if server { &["SANDBOX_VANISHED", "AGENT_STOPPED"] } else { &["SANDBOX_VANISHED"] };
        assert!(reasons.contains(&end.reason.as_str()), "{end:?}");
        assert_eq!(
            TranscriptSummary::of_turn(&entries, &cut).words.matches("chunk").count(),
            40,
            "words were lost"
        );

        let new = send(&world.ada, &session, &format!("say new {turns}")).await;
        let entries = await_turns(&world.ada, &session, turns + 3).await;
        assert_spoken_once(&entries);
        let summary = TranscriptSummary::of(&entries);
        assert_eq!(
            summary.ends[turns..],
            [TurnOutcome::Interrupted, TurnOutcome::Completed, TurnOutcome::Completed]
        );
        assert!(TranscriptSummary::of_turn(&entries, &held).words.contains(&format!("held {turns}")));
        assert!(TranscriptSummary::of_turn(&entries, &new).words.contains(&format!("new {turns}")));
        let rebuilt = summary.notices.iter().filter(|n| **n == NoticeKind::ContextRebuilt).count();
        assert_eq!(rebuilt, turns.div_ceil(3), "each new agent is mentioned once: {:?}", summary.notices);
        turns += 3;
    }
    assert_eq!(sandboxes::only(&world.ada, &task).await.sandbox_id, sandbox);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_dies_while_it_is_made_ready_or_a_session_is_created_is_made_ready_again() {
    let world = World::start().await;
    let expected = world.undisturbed().await;
    for round in 0..rounds() {
        world.faults.hang("probe");
        let (task, session) = world.create(PROMPT).await;
        let at =
            await_task(&world.ada, &task, |t| stage(t, "agent_ready").state() == StageState::Running).await;
        let before: Vec<_> = completed(&at).into_iter().filter(|s| s.name != "agent_starting").collect();
        let sandbox = sandboxes::only(&world.ada, &task).await.sandbox_id;
        let old = sandboxes::runtime(&world.mesh, &sandbox);
        sandboxes::signal(&world.mesh, &sandbox, old.pid, Signal::KILL);
        world.faults.release("probe");
        assert_eq!(world.finished(&task, &session).await, expected, "the runtime died at agent_ready");
        assert_not_repeated(&before, &get_task(&world.ada, &task).await);
        let now = sandboxes::only(&world.ada, &task).await;
        assert_eq!((now.sandbox_id.as_str(), now.runtime_instance), (sandbox.as_str(), 2));

        let old = sandboxes::runtime(&world.mesh, &sandbox);
        sandboxes::signal(&world.mesh, &sandbox, old.server, Signal::STOP);
        let second = world.another_session(&task).await;
        let file = format!("second{round}.txt");
        send(&world.ada, &second, &format!("append {file}: once")).await;
        sandboxes::await_agent_stage(&world.ada, &sandbox, &second, "session_creating", 1).await;
        kill_runtime(&world, &sandbox, false).await;
        let entries = await_turns(&world.ada, &second, 1).await;
        assert_spoken_once(&entries);
        assert_eq!(TranscriptSummary::of(&entries).ends, [TurnOutcome::Completed]);
        let changed = |t: &Task| t.changes.as_ref().is_some_and(|c| c.files_changed == FILES + 1);
        await_task(&world.ada, &task, changed).await;
        let clone = world.origin.apply(&patch(&world.ada, &task).await);
        assert_eq!(std::fs::read_to_string(clone.path().join(file)).unwrap(), "once\n");
        assert_eq!(sandboxes::only(&world.ada, &task).await.sandbox_id, sandbox);
    }
}
