use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use foundry_sandbox::wire::LOG_LENGTH_HEADER;

use crate::talk::{Talk, scripted};
use crate::world::World;

/// Long before the reader's own wait is over.
async fn at_once<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), work).await.unwrap()
}

#[tokio::test]
async fn a_waiting_reader_gets_new_bytes_at_once() {
    let world = World::new();
    let caller = world.caller().await;
    let none = caller.get("/v1/logs/agt_1?offset=0").await;
    assert_eq!((none.raw().len(), none.number(LOG_LENGTH_HEADER)), (0, 0));
    let waiting = caller.get("/v1/logs/agt_1?offset=0&max=0&wait_ms=30000");
    let agent = scripted("run1/1");
    let start = Talk::start(&caller, "agt_1", &agent);
    let (woken, (mut talk, _)) = at_once(futures::future::join(waiting, start)).await;
    assert!(woken.raw().is_empty() && woken.number(LOG_LENGTH_HEADER) > 0, "{woken:?}");
    talk.turn("m1", "hello").await;
    let length = talk.offset;
    let path = format!("/v1/logs/agt_1?offset={length}&wait_ms=30000");
    let (more, _) = at_once(futures::future::join(caller.get(&path), talk.turn("m2", "again"))).await;
    assert!(more.raw().ends_with(b"\n") && more.number(LOG_LENGTH_HEADER) > length);
    let nothing = caller.get(&format!("/v1/logs/agt_1?offset={}&wait_ms=100", talk.offset)).await;
    assert!(nothing.raw().is_empty());
}

#[tokio::test]
async fn a_reader_that_disconnects_while_waiting_frees_its_connection() {
    let world = World::new();
    let caller = world.caller().await;
    let wait = Duration::from_millis(50);
    // More readers than connections are allowed.
    for _ in 0..4 {
        let readers = (0..20).map(|_| caller.get("/v1/logs/agt_1?wait_ms=30000"));
        let all = futures::future::join_all(readers);
        assert!(tokio::time::timeout(wait, all).await.is_err());
    }
    caller.get("/v1/health").await.ok::<serde_json::Value>();
}

#[tokio::test]
async fn returns_a_whole_line_even_when_max_is_smaller() {
    let world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    talk.turn("m1", "huge 2000000").await;
    let (mut offset, mut lines) = (0, 0);
    while offset < talk.offset {
        let answer = talk.caller.get(&format!("/v1/logs/agt_1?offset={offset}&max=1")).await;
        let line = answer.raw();
        assert!(line.ends_with(b"\n") && line.iter().filter(|b| **b == b'\n').count() == 1);
        offset += line.len() as u64;
        lines += 1;
    }
    assert_eq!((offset, lines), (talk.offset, 4));
}

#[tokio::test]
async fn reports_a_log_that_was_cut_or_replaced() {
    let world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    talk.turn("m1", "hello").await;
    let path = format!("/v1/logs/agt_1?offset={}&wait_ms=30000", talk.offset + 1);
    at_once(talk.caller.get(&path)).await.is(409, "truncated");
    let log = world.home().join(".foundry/tap/agt_1.log");
    fs::rename(&log, log.with_extension("old")).unwrap();
    symlink("/etc/passwd", &log).unwrap();
    talk.caller.get("/v1/logs/agt_1?offset=0").await.is(403, "refused");
    talk.caller.get("/v1/logs/agt_1?offset=x").await.is(400, "invalid");
}

#[tokio::test]
async fn starts_no_agent_whose_log_cannot_be_written() {
    let world = World::new();
    let caller = world.caller().await;
    let directory = world.home().join(".foundry");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("tap"), "in the way").unwrap();
    caller.put("/v1/agents/agt_1", &scripted("run1/1")).await.is(507, "log_unwritable");
    fs::remove_file(directory.join("tap")).unwrap();
    Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
}
