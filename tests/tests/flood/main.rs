//! 64 MiB of an agent's output in one line, in a million lines, and as a million updates of a tool call, and a work of 30,000
//! files, through a real mesh: `make test-long`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, helpers included
#![allow(clippy::print_stdout)] // the printed figures are part of the result

mod hand_over;

use std::path::Path;
use std::time::{Duration, Instant};

use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{NoticeKind, TurnOutcome};
use foundry_proto::repo::v1::Repository;
use foundry_proto::task::v1::{
    CreateTaskRequest, ListTranscriptRequest, SessionItem, WatchSessionRequest, session_item,
};
use foundry_tests::story::{Opening, await_item_within, register, send, task_request};
use foundry_tests::{Caller, Mesh, Origin, Shape};

const SIZE: usize = 64 << 20;
const AGENT: &str = include_str!("agent.py");
/// Longest time for one flood and the turn after it, in a build without optimization on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// The memory that a flood may add, whatever its size.
const ROOM: u64 = 192 << 20;
/// What is stored beside an agent's output.
const BESIDE: u64 = 8 << 20;

/// Bytes of all files below a directory whose names are wanted.
fn bytes(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().unwrap());
        if kind.is_dir() {
            sum += bytes(&entry.path(), wanted);
        } else if wanted(&name.to_string_lossy()) {
            // The runtime may have removed it since.
            sum += entry.metadata().map_or(0, |m| m.len());
        }
    }
    sum
}

/// The databases, and the logs of the agents in their sandboxes.
fn stored(mesh: &Mesh) -> (u64, u64) {
    let database = |name: &str| name.ends_with(".db") || name.ends_with(".db-wal");
    (
        bytes(&mesh.data(), &database),
        bytes(&mesh.data(), &|name| name.ends_with(".log") && name.starts_with("ses_")),
    )
}

/// A value of the mesh's `/proc/PID/status` in bytes.
fn memory(mesh: &Mesh, value: &str) -> u64 {
    memory_of(mesh.pids()[0], value)
}

fn memory_of(process: u32, value: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(value)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What a transcript shows.
#[derive(Default)]
struct Shown {
    text: usize,
    said: String,
    updates: Vec<String>,
    notices: Vec<(NoticeKind, String)>,
    ends: Vec<TurnOutcome>,
}

/// Reads a whole transcript, without keeping it.
async fn shown(caller: &Caller, session_id: &str) -> Shown {
    let (mut shown, mut from) = (Shown::default(), 1);
    loop {
        let request =
            ListTranscriptRequest { session_id: session_id.to_owned(), from_offset: from, page_size: 500 };
        let page = caller.task().list_transcript(request).await.unwrap().into_inner();
        for (entry, expected) in page.entries.iter().zip(from..) {
            assert_eq!(entry.offset, expected, "an entry is missing or doubled");
        }
        if page.entries.is_empty() {
            return shown;
        }
        from = page.next_offset;
        for body in page.entries.into_iter().filter_map(|entry| entry.part?.body) {
            match body {
                Body::AgentMessage(message) => {
                    shown.text += message.text.len();
                    shown.said = message.text;
                }
                Body::ToolCall(call) => shown.updates.push(format!("{call:?}")),
                Body::Notice(notice) => shown.notices.push((notice.kind(), notice.message)),
                Body::TurnEnd(end) => shown.ends.push(end.outcome()),
                _ => {}
            }
        }
    }
}

async fn flood(mesh: &Mesh, caller: &Caller, repository: &Repository, prompt: &str) -> Shown {
    let (before, logs_before) = stored(mesh);
    std::fs::write(format!("/proc/{}/clear_refs", mesh.pids()[0]), "5").unwrap();
    let (resident, begun) = (memory(mesh, "VmRSS"), Instant::now());
    let request = CreateTaskRequest { agent: "flood".to_owned(), ..task_request(caller, repository, prompt) };
    let session = caller.task().create_task(request).await.unwrap().into_inner().session.unwrap().session_id;
    send(caller, &session, "hello").await;
    let (client, id) = (caller.task(), session.clone());
    let open = move |options| -> Opening {
        let (mut client, session_id) = (client.clone(), id.clone());
        Box::pin(async move {
            let request = WatchSessionRequest { options: Some(options), session_id, after_offset: i64::MAX };
            Ok(client.watch_session(request).await?.into_inner())
        })
    };
    // Both turns have ended, and the transcript holds all of the second.
    let ended = |item: &SessionItem| match &item.item {
        Some(session_item::Item::Session(s)) => {
            s.state() == foundry_proto::task::v1::SessionState::Idle
                && s.queue_length == 0
                && s.last_offset > 2
        }
        _ => false,
    };
    let mut all = Shown::default();
    while all.ends.len() < 2 && begun.elapsed() < PATIENCE {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        await_item_within::<SessionItem>(left, "session", open.clone(), &format!("session/{session}"), ended)
            .await;
        all = shown(caller, &session).await;
    }
    let took = begun.elapsed();
    assert_eq!(all.ends, [TurnOutcome::Completed; 2], "{:?}", all.notices);
    assert_eq!(all.said, "still here", "the next turn appears");
    let (peak, (after, logs)) = (memory(mesh, "VmHWM"), stored(mesh));
    let (database, log) = (after - before, logs - logs_before);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{prompt}: {:.0} s, memory {} MiB, then {} MiB at most, log {} MiB, databases {} MiB, text {} MiB, {} updates, {:?}",
        took.as_secs_f64(),
        mib(resident),
        mib(peak),
        mib(log),
        mib(database),
        all.text >> 20,
        all.updates.len(),
        all.notices,
    );
    assert!(peak < resident + ROOM, "memory grew from {} to {} MiB", mib(resident), mib(peak));
    assert!(database <= 3 * log + BESIDE, "{} MiB for a log of {} MiB", mib(database), mib(log));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_shown_whole_or_with_visible_gaps_and_the_next_turn_follows() {
    let command = format!("provisioner.agents.flood.command=[\"/usr/bin/python3\", \"-c\", {}]", toml(AGENT));
    let settings =
        [command.as_str(), "provisioner.output.task_bytes=0", "provisioner.output.organization_bytes=0"];
    let mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;

    let line = flood(&mesh, &caller, &repository, "one line").await;
    assert!(
        line.text >= SIZE || line.notices.iter().any(|(kind, _)| *kind == NoticeKind::EventsLost),
        "a silent gap"
    );

    let lines = flood(&mesh, &caller, &repository, "a million lines").await;
    let whole = lines.text >= SIZE / 1_000_000 * 1_000_000;
    assert!(whole || !lines.notices.is_empty(), "{} bytes without a notice", lines.text);

    let updates = flood(&mesh, &caller, &repository, "a million updates").await;
    let last = updates.updates.last().expect("a tool call");
    assert!(last.contains("0999999 ") || !updates.notices.is_empty(), "{last}");
}

/// A text as a TOML string.
fn toml(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
