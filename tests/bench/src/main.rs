//! Benchmarks of the mesh, each next to a baseline that runs in the same minute, and to peers. Results are reported, never
//! gated; `compare` judges two of them. `make bench` builds the binaries and runs this; `docs/bench.md` says what the
//! figures mean.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a harness: what it cannot do, it cannot report

mod at_rest;
mod audience;
mod authorization;
mod commands;
mod compare;
mod databases;
mod fan_out;
mod figures;
mod flows;
mod load;
mod options;
mod peers;
mod raw;
mod reconnect;
mod report;
mod repositories;
mod rest;
mod result;
mod webhooks;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use at_rest::AtRest;
use clap::Parser as _;
use compare::{compare, compare_beside};
use databases::Databases;
use foundry_core::Env;
use options::{Cli, Command, CompareOptions, Part, RunOptions};
use peers::Peers;
use raw::RawServer;
use report::Report;
use result::{Machine, Role, RunResult};
use world::{Build, Provider, World};

/// Tasks in the organization: one for each of the most clients, so that each renames its own.
const TASKS: usize = 64;

/// Sizes of the measurements.
pub struct Plan {
    /// Interleaved rounds of each figure.
    pub pairs: u32,
    /// Duration of one slice of one figure.
    pub slice: Duration,
    /// How long a mesh is observed at rest.
    pub idle: Duration,
    /// Tasks in the mesh with many.
    pub many: usize,
    /// Tasks with living sandboxes.
    pub living: usize,
    /// Streams that come back at once.
    pub streams: usize,
    /// Branches of the repositories whose overviews are read.
    pub branches: &'static [usize],
}

/// What is measured, running.
pub struct Bed {
    /// Sizes of the measurements.
    pub plan: Plan,
    /// The mesh, and the build beside it if there is one.
    pub worlds: Vec<World>,
    /// The baseline of calls and watches.
    pub raw: RawServer,
    /// Other systems.
    pub peers: Peers,
    /// Where rows are kept.
    pub databases: Databases,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Some(Command::RawServer) => raw::serve().await.map(|()| true).map_err(|e| e.to_string()),
        Some(Command::Compare(options)) => judge(&options),
        None => Box::pin(run(&cli.run)).await.map(|()| true),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

/// Prints the comparison; whether nothing is slower.
fn judge(options: &CompareOptions) -> Result<bool, String> {
    let before = RunResult::read(&options.before)?;
    let changes = match &options.after {
        Some(after) => compare(&before, &RunResult::read(after)?, options.tolerance()),
        None => compare_beside(&before, options.tolerance()),
    };
    if changes.is_empty() {
        return Err("there is nothing to compare".to_owned());
    }
    changes.iter().for_each(|change| println!("{change}"));
    let worse = changes.iter().filter(|change| change.worse).count();
    let (cpu, p50) = (options.cpu * 100.0, options.p50 * 100.0);
    println!(
        "{worse} of {} values are slower (by more than {cpu:.0} % in cpu_us, {p50:.0} % in p50_ratio)",
        changes.len()
    );
    Ok(worse == 0)
}

async fn run(options: &RunOptions) -> Result<(), String> {
    let (begun, time) = (Instant::now(), Env::system().clock.now().to_string());
    let out = options.out(&time)?;
    let databases = if options.on_postgres() { Databases::postgres()? } else { Databases::Sqlite };
    let plan = options.plan();
    let result = RunResult::new(time, databases.name(), plan.pairs, plan.slice.as_secs_f64());
    let mut report = Report { result };
    let builds = options.builds()?;
    for Build { role, foundry } in &builds {
        let role = if *role == Role::Beside { "beside" } else { "mesh" };
        report.result.programs.insert(role.to_owned(), foundry.display().to_string());
    }
    report.result.machine = machine();
    println!("load at the start: {}", report.result.machine.load_at_start);
    let peers =
        if options.no_peers { Peers::default() } else { Peers::start(&options.peers()?, &mut report).await };
    let bed = Bed { plan, worlds: Vec::new(), raw: RawServer::start(), peers, databases };
    Box::pin(measure(bed, &builds, options, &mut report)).await;
    report.result.machine.load_at_end = load_average();
    println!("load at the end: {}", report.result.machine.load_at_end);
    report.result.failures.iter().for_each(|failure| println!("! {failure}"));
    report.result.write(&out)?;
    println!("took {:.0} s; result in {}", begun.elapsed().as_secs_f64(), out.display());
    Ok(())
}

async fn measure(mut bed: Bed, builds: &[Build], options: &RunOptions, report: &mut Report) {
    if options.wants(Part::Authorization) {
        authorization::authorization(&bed.plan, report).await;
    }
    if Part::ON_FEW_TASKS.iter().any(|part| options.wants(*part)) {
        few_tasks(&mut bed, builds, options, report).await;
    }
    if options.wants(Part::ManyTasks) {
        let tasks = bed.plan.many;
        report.section(&format!("{tasks} tasks that wait for their sandboxes"));
        for build in builds {
            let (world, without) = populated(&bed, build, Provider::Hangs, tasks, report).await;
            at_rest::at_rest(&bed.plan, &world, &format!("{tasks} tasks"), Some(without), report).await;
            fan_out::memory(std::slice::from_ref(&world), &bed.raw, report).await;
            end(world);
        }
    }
    if options.wants(Part::Living) {
        let tasks = bed.plan.living;
        report.section(&format!("{tasks} idle tasks with living sandboxes"));
        for build in builds {
            let (world, without) = populated(&bed, build, Provider::Works, tasks, report).await;
            at_rest::all_idle(&world).await;
            let load = format!("{tasks} tasks with sandboxes");
            at_rest::at_rest(&bed.plan, &world, &load, Some(without), report).await;
            end(world);
        }
    }
    if options.wants(Part::Reconnect) {
        let streams = bed.plan.streams;
        report.section(&format!("{streams} streams that come back at once with valid positions"));
        for build in builds {
            let mut world = World::start(build, &bed.databases, Provider::Hangs).await;
            world.populate(TASKS).await;
            reconnect::reconnect(&mut world, streams, report).await;
            end(world);
        }
    }
    if options.wants(Part::Overview) {
        Box::pin(repositories::overviews(&bed, builds, report)).await;
    }
    if options.wants(Part::Sync) {
        Box::pin(repositories::synchronizations(&bed, builds, report)).await;
    }
    if options.wants(Part::Fetch) {
        Box::pin(repositories::fetches(&bed, builds, report)).await;
    }
}

/// The figures of a mesh with as many tasks as there are clients.
async fn few_tasks(bed: &mut Bed, builds: &[Build], options: &RunOptions, report: &mut Report) {
    let mut without = Vec::new();
    report.section("At rest: the embedded mesh, five services in one process");
    for build in builds {
        let mut world = World::start(build, &bed.databases, Provider::Hangs).await;
        if options.wants(Part::AtRest) {
            without.push(at_rest::at_rest(&bed.plan, &world, "no task", None, report).await);
        }
        world.populate(TASKS).await;
        bed.worlds.push(world);
    }
    for (world, without) in bed.worlds.iter().zip(without) {
        at_rest::at_rest(&bed.plan, world, &format!("{TASKS} tasks"), Some(without), report).await;
    }
    if options.wants(Part::Restart) {
        report.section("Restart after a kill");
        for world in &mut bed.worlds {
            at_rest::restarts(world, report).await;
        }
    }
    if options.wants(Part::Memory) {
        fan_out::memory(&bed.worlds, &bed.raw, report).await;
    }
    if options.wants(Part::Rename) {
        Box::pin(commands::renames(bed, report)).await;
    }
    if options.wants(Part::Flow) {
        Box::pin(flows::flows(bed, report)).await;
    }
    if options.wants(Part::FanOut) {
        Box::pin(fan_out::deliveries(bed, report)).await;
    }
    if options.wants(Part::Webhook) {
        Box::pin(webhooks::deliveries(bed, report)).await;
    }
    // Last, since it leaves thousands of tasks behind.
    if options.wants(Part::CreateTask) {
        Box::pin(commands::creates(bed, report)).await;
    }
    bed.worlds.drain(..).for_each(end);
}

/// A mesh with its tasks, and what it was at rest without them.
async fn populated(
    bed: &Bed,
    build: &Build,
    provider: Provider,
    tasks: usize,
    report: &mut Report,
) -> (World, AtRest) {
    let mut world = World::start(build, &bed.databases, provider).await;
    let load = format!("before {tasks} tasks");
    let without = at_rest::at_rest(&bed.plan, &world, &load, None, report).await;
    world.populate(tasks).await;
    (world, without)
}

/// Ends a mesh. No drain is needed: its data directory is temporary.
fn end(mut world: World) {
    world.mesh.crash();
}

fn machine() -> Machine {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: kernel.trim().to_owned(),
        load_at_start: load_average(),
        load_at_end: String::new(),
    }
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
