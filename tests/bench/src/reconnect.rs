//! Streams that all come back at once, each with the position that it had reached, after the mesh was killed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use foundry_frame::RawBody;
use foundry_proto::task::v1::{UpdateTaskRequest, WatchOrganizationRequest};
use foundry_proto::watch::v1::{Bookmark, WatchOptions};
use foundry_tests::Caller;
use prost::Message as _;
use tokio::task::JoinSet;

use crate::figures::{Figures, count, cpu_of};
use crate::report::Report;
use crate::rest::{Meter, PATIENCE};
use crate::world::World;

/// Streams of one connection; a listener allows 128.
const PER_CONNECTION: usize = 100;
/// Streams of one user; a service allows 256.
const PER_USER: usize = 250;
/// Longest time until a stream is caught up.
const LIMIT: Duration = Duration::from_secs(60);

/// Where a stream can resume.
#[derive(Clone, Default)]
struct Position {
    token: String,
    rev: i64,
}

/// What a stream received until it was caught up.
#[derive(Default)]
struct Received {
    at: Position,
    snapshots: usize,
    /// Keys of changed entities.
    changed: HashSet<String>,
}

/// Opens a stream and reads it until it is caught up.
async fn catch_up(caller: Caller, from: Position) -> Result<Received, String> {
    let options = WatchOptions { resume_token: from.token, after_rev: from.rev, heartbeat: None };
    let organization_id = caller.organization_id.clone();
    let request = WatchOrganizationRequest { organization_id, options: Some(options) };
    let opened = caller.task().watch_organization(request).await;
    let mut stream = opened.map_err(|e| e.to_string())?.into_inner();
    let mut received = Received::default();
    while let Some(frame) = stream.message().await.map_err(|e| e.to_string())? {
        match frame.raw().map_err(|e| e.to_string())?.body {
            Some(RawBody::SnapshotBegin(_)) => received.snapshots += 1,
            Some(RawBody::Delta(delta)) => received.changed.extend(delta.changes.into_iter().map(|c| c.key)),
            Some(RawBody::Bookmark(bytes)) => {
                let bookmark = Bookmark::decode(bytes).map_err(|e| e.to_string())?;
                if bookmark.caught_up {
                    received.at = Position { token: bookmark.resume_token, rev: bookmark.rev };
                    return Ok(received);
                }
            }
            _ => {}
        }
    }
    Err("a stream ended before it was caught up".to_owned())
}

/// All streams at once. Returns what each received, and how long each took from now on.
async fn all(world: &World, tokens: &[String], from: Vec<Position>) -> (Vec<Received>, Figures) {
    let (begun, mut running) = (Instant::now(), JoinSet::new());
    let mut caller = None;
    for (stream, position) in from.into_iter().enumerate() {
        if stream % PER_CONNECTION == 0 || stream % PER_USER == 0 {
            caller = Some(world.at_task(&tokens[stream / PER_USER]).await);
        }
        let caller = caller.clone().expect("the first stream makes it");
        running.spawn(async move {
            let caught_up = tokio::time::timeout(LIMIT, catch_up(caller, position)).await;
            (caught_up.unwrap_or_else(|_| Err("not caught up in time".to_owned())), begun.elapsed())
        });
    }
    let (mut all, mut figures) = (Vec::new(), Figures::default());
    while let Some(stream) = running.join_next().await {
        let (received, took) = stream.expect("a stream does not panic");
        match received {
            Ok(received) => {
                figures.add(took);
                all.push(received);
            }
            Err(e) => figures.fail(e),
        }
    }
    figures.elapsed = begun.elapsed();
    (all, figures)
}

/// Measures how soon so many streams are caught up after a kill of the mesh, with a change of each task in between.
pub async fn reconnect(world: &mut World, streams: usize, report: &mut Report) {
    let tokens = world.more_watching_tokens(streams.div_ceil(PER_USER)).await;
    let (positions, first) = all(world, &tokens, vec![Position::default(); streams]).await;
    let mut positions: Vec<_> = positions.into_iter().map(|received| received.at).collect();
    positions.truncate(streams);
    world.mesh.crash();
    world.mesh.start_again();
    let owner = world.at_gateway().await;
    for task_id in world.tasks.clone() {
        let title = format!("changed while nobody watched {task_id}");
        let request = UpdateTaskRequest { request_id: String::new(), task_id, title };
        owner.task().update_task(request).await.expect("a change");
    }
    Meter::start(&[world.pid()]).until_rest(PATIENCE).await;
    let cpu = cpu_of(world.pid());
    let (received, figures) = all(world, &tokens, positions).await;
    let cpu = cpu_of(world.pid()) - cpu;
    let snapshots: usize = received.iter().map(|r| r.snapshots).sum();
    let missed = |r: &Received| {
        world.tasks.iter().any(|task| !r.changed.iter().any(|key| key.strip_prefix("task/") == Some(task)))
    };
    let lost = received.iter().filter(|r| missed(r)).count();
    let load = format!("{streams} streams, {} changes", world.tasks.len());
    let values = [
        ("caught_up_ms", figures.elapsed.as_secs_f64() * 1_000.0),
        ("p50_ms", figures.percentile(0.5)),
        ("p99_ms", figures.percentile(0.99)),
        ("cpu_us", cpu.as_secs_f64() * 1e6 / count(streams)),
        ("snapshots", count(snapshots)),
        ("incomplete", count(lost)),
    ];
    report.values("reconnect", world.role, &load, "after a kill", &values);
    for failed in [first.failed, figures.failed] {
        if let (n, Some(error)) = failed {
            report.fail(format!("{n} of {streams} streams failed: {error}"));
        }
    }
    if snapshots > 0 || lost > 0 {
        report.fail(format!("{snapshots} streams got a snapshot, {lost} did not get all changes"));
    }
}
