//! Benchmarks of the mesh, each next to a baseline that runs in the same minute. Results are reported, never gated:
//! nothing here fails for being slow. `make bench` builds both binaries and runs it; `FOUNDRY_BENCH_SECONDS` (default
//! 10) scales how long each figure is measured.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a harness: what it cannot do, it cannot report

mod commands;
mod fan_out;
mod figures;
mod flows;
mod load;
mod raw;
mod report;
mod world;

use std::time::{Duration, Instant};

use figures::{cpu_of, rss_of};
use foundry_proto::task::v1::GetTaskRequest;
use raw::RawServer;
use report::Report;
use world::{World, settle};

/// Interleaved pairs of a measurement and its baseline.
pub const PAIRS: usize = 5;
/// Tasks in the organization: one for each of the most clients, so that each renames its own.
const TASKS: usize = 64;
/// How often the mesh is killed and restarted.
const RESTARTS: usize = 3;

/// Durations of the measurements.
pub struct Plan {
    /// Duration of one slice of one figure.
    pub slice: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("raw-server") {
        return raw::serve().await;
    }
    let seconds: f64 =
        std::env::var("FOUNDRY_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10.0);
    let plan = Plan { slice: Duration::from_secs_f64((seconds / 10.0).clamp(0.1, 4.0)) };
    let begun = Instant::now();
    say_load("at the start");
    Box::pin(measure(&plan)).await;
    say_load("at the end");
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn measure(plan: &Plan) {
    let mut report = Report::default();
    let raw = RawServer::start();
    let mut world = World::start().await;
    idle(plan, &world, &raw, &mut report).await;
    let (repository, tasks) = world.populate(TASKS).await;
    restarts(&mut world, &tasks[0], &mut report).await;
    Box::pin(commands::renames(plan, &world, &raw, &tasks, &mut report)).await;
    Box::pin(flows::flows(plan, &mut report)).await;
    Box::pin(fan_out::watches(plan, &world, &raw, &tasks, &mut report)).await;
    Box::pin(commands::creates(plan, &world, &repository, &mut report)).await;
    report.end();
    // No drain is needed: the data directory is temporary.
    world.mesh.crash();
}

async fn idle(plan: &Plan, world: &World, raw: &RawServer, report: &mut Report) {
    settle(Duration::from_secs(2)).await;
    let (begun, cpu) = (Instant::now(), cpu_of(world.pid()));
    settle(plan.slice * 5).await;
    let part = (cpu_of(world.pid()) - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    report.section("5. the embedded mesh at rest (five services, one process)");
    report.say(&format!(
        "RSS {:.1} MiB, {:.2} % of one processor; bare tonic server RSS {:.1} MiB",
        rss_of(world.pid()) / 1_024.0,
        part * 100.0,
        rss_of(raw.pid()) / 1_024.0,
    ));
}

async fn restarts(world: &mut World, task_id: &str, report: &mut Report) {
    let (mut ready, mut served, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        world.mesh.crash();
        let begun = Instant::now();
        world.mesh.start_again();
        ready.push(begun.elapsed());
        let request = GetTaskRequest { task_id: task_id.to_owned() };
        world.at_gateway().task().get_task(request).await.expect("a task after the restart");
        served.push(begun.elapsed());
        let begun = Instant::now();
        let raw = RawServer::start();
        raw::call_echo(commands::connect(raw.url()).await, 1).await.expect("an echo");
        bare.push(begun.elapsed());
    }
    report.section("6. restart after a kill, with 64 tasks waiting for sandboxes (median of 3)");
    let [ready, served, bare] = [ready, served, bare].map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_millis()
    });
    report.say(&format!(
        "ready line after {ready} ms (looked for every 20 ms), first GetTask answered through the gateway after {served} ms; \
         bare tonic server {bare} ms"
    ));
}

fn say_load(when: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!("load {when}: {} ({processors} processors)", load.trim());
}
