//! What the mesh costs while nobody asks it for anything, and how soon it serves after a kill.

use std::time::{Duration, Instant};

use foundry_proto::task::v1::{GetTaskRequest, TaskState};
use foundry_tests::story::await_task;

use crate::Plan;
use crate::commands::connect;
use crate::figures::{count, cpu_of, rss_of};
use crate::raw::{RawServer, call_echo};
use crate::report::Report;
use crate::rest::{Meter, PATIENCE};
use crate::result::Role;
use crate::world::{World, settle};

/// How often a mesh is killed and restarted.
const RESTARTS: usize = 3;

/// Memory and processor time of a mesh at rest.
#[derive(Clone, Copy)]
pub struct AtRest {
    /// Resident memory in KiB.
    pub rss: f64,
}

/// Measures the processor time and memory of the mesh's own process at rest. With the figures of the same mesh without
/// tasks, also the memory per task.
pub async fn at_rest(
    plan: &Plan,
    world: &World,
    load: &str,
    without: Option<AtRest>,
    report: &mut Report,
) -> AtRest {
    Meter::start(&[world.pid()]).until_rest(PATIENCE).await;
    settle(Duration::from_secs(2)).await;
    let (begun, cpu) = (Instant::now(), cpu_of(world.pid()));
    settle(plan.idle).await;
    let part = (cpu_of(world.pid()) - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let rss = rss_of(world.pid());
    let mut values = vec![("rss_mib", rss / 1_024.0), ("core_percent", part * 100.0)];
    if let Some(without) = without {
        values.push(("rss_kib_per_task", (rss - without.rss) / count(world.tasks.len())));
    }
    report.values("at_rest", world.role, load, "embedded mesh", &values);
    AtRest { rss }
}

/// Waits until the demo agent of every task has ended its first turn.
pub async fn all_idle(world: &World) {
    for task in &world.tasks {
        await_task(&world.owner, task, |t| t.state() == TaskState::Idle).await;
    }
}

/// Measures the time from a restart after a kill to the ready line, and to the first answer through the gateway.
pub async fn restarts(world: &mut World, report: &mut Report) {
    let (mut ready, mut served, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        world.mesh.crash();
        let begun = Instant::now();
        world.mesh.start_again();
        ready.push(begun.elapsed());
        let request = GetTaskRequest { task_id: world.tasks[0].clone() };
        world.at_gateway().await.task().get_task(request).await.expect("a task after the restart");
        served.push(begun.elapsed());
        let begun = Instant::now();
        let raw = RawServer::start();
        call_echo(connect(raw.url()).await, 1).await.expect("an echo");
        bare.push(begun.elapsed());
    }
    let [ready, served, bare] = [ready, served, bare].map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1_000.0
    });
    let load = format!("{} tasks", world.tasks.len());
    let values = [("ready_line_ms", ready), ("first_answer_ms", served)];
    report.values("restart", world.role, &load, "killed mesh", &values);
    report.values("restart", Role::Floor, &load, "bare tonic server", &[("first_answer_ms", bare)]);
}
