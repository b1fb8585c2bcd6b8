//! Closed-loop load: each client starts its next operation when the last one is answered; several lanes of load take
//! turns.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::task::JoinSet;

use crate::Plan;
use crate::figures::Figures;
use crate::report::Report;
use crate::rest::{Meter, PATIENCE, PATIENCE_WITH_PEERS};
use crate::result::Role;

/// The operation that a client repeats; the argument counts its runs.
pub type Operation = Box<dyn FnMut(u64) -> BoxFuture<'static, Result<(), String>> + Send>;

/// Boxes a closure as an operation.
pub fn operation<F, Fut>(mut code: F) -> Operation
where
    F: FnMut(u64) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    Box::new(move |number| Box::pin(code(number)))
}

/// Prepares the operations of this many clients.
type Clients<'a> = Box<dyn Fn(usize) -> LocalBoxFuture<'a, Vec<Operation>> + 'a>;

/// One of the loads that take turns in a figure.
pub struct Lane<'a> {
    /// Short name of the figure of this lane in the result, such as `rename`.
    figure: &'static str,
    /// What it is in the comparison.
    role: Role,
    /// The line of the report.
    name: String,
    /// Processes whose processor time counts.
    servers: Vec<u32>,
    clients: Clients<'a>,
}

impl<'a> Lane<'a> {
    /// A lane with clients that `clients` prepares before each slice.
    pub fn new<F>(
        figure: &'static str,
        role: Role,
        name: impl Into<String>,
        servers: Vec<u32>,
        clients: F,
    ) -> Self
    where
        F: AsyncFn(usize) -> Vec<Operation> + 'a,
    {
        let clients = Rc::new(clients);
        let clients: Clients<'a> = Box::new(move |count| {
            let clients = Rc::clone(&clients);
            Box::pin(async move { clients(count).await })
        });
        Self { figure, role, name: name.into(), servers, clients }
    }
}

/// Measures the lanes in turns, and reports each beside the sum of the floors.
pub async fn interleave(
    plan: &Plan,
    slice: Duration,
    clients: usize,
    lanes: &[Lane<'_>],
    report: &mut Report,
) {
    for lane in lanes.iter().filter(|lane| matches!(lane.role, Role::Mesh | Role::Beside)) {
        // What came before must not count here.
        Meter::start(&lane.servers).until_rest(PATIENCE).await;
    }
    let mut sums: Vec<Figures> = lanes.iter().map(|_| Figures::default()).collect();
    for pair in 0..plan.pairs {
        for turn in 0..lanes.len() {
            // Every other round runs backwards, so that a drift of the machine does not favour a lane.
            let at = if pair % 2 == 0 { turn } else { lanes.len() - 1 - turn };
            let lane = &lanes[at];
            let operations = (lane.clients)(clients).await;
            sums[at].merge_earlier(run(lane, slice, operations).await);
        }
    }
    let floor = Floor::of(lanes.iter().zip(&sums).filter(|(l, _)| l.role == Role::Floor).map(|(_, f)| f));
    let unit = if clients == 1 { "client" } else { "clients" };
    for (lane, figures) in lanes.iter().zip(&sums) {
        let load = format!("{clients} {unit}");
        report.load(lane.figure, lane.role, &load, &lane.name, figures, &floor);
    }
}

/// What an operation costs at least: the sum of the baselines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// Sum of the medians in milliseconds; 0 = no floor.
    pub p50: f64,
    /// Sum of the 99th percentiles in milliseconds.
    pub p99: f64,
    /// Sum of processor times per operation in microseconds.
    pub cpu: f64,
}

impl Floor {
    /// The sum of these baselines.
    pub fn of<'a>(floors: impl Iterator<Item = &'a Figures>) -> Self {
        floors.fold(Self::default(), |sum, floor| Self {
            p50: sum.p50 + floor.percentile(0.5),
            p99: sum.p99 + floor.percentile(0.99),
            cpu: sum.cpu + floor.cpu_micros(),
        })
    }
}

/// Longest wait for the rest of such servers.
pub fn patience(role: Role) -> Duration {
    if role == Role::Peer { PATIENCE_WITH_PEERS } else { PATIENCE }
}

/// Runs clients concurrently and measures them, and the processor time that the servers use until they are at rest.
async fn run(lane: &Lane<'_>, length: Duration, clients: Vec<Operation>) -> Figures {
    let meter = Meter::start(&lane.servers);
    let begun = meter.begun();
    let mut running = JoinSet::new();
    for mut operation in clients {
        running.spawn(async move {
            let mut figures = Figures::default();
            let mut number = 0;
            while begun.elapsed() < length {
                let sent = Instant::now();
                match operation(number).await {
                    Ok(()) => figures.add(sent.elapsed()),
                    Err(e) => figures.fail(e),
                }
                number += 1;
            }
            figures
        });
    }
    let mut all = Figures::default();
    while let Some(figures) = running.join_next().await {
        all.merge(figures.expect("a client does not panic"));
    }
    all.elapsed = begun.elapsed();
    all.rested(meter.until_rest(patience(lane.role)).await);
    all
}
