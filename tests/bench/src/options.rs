//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::Plan;
use crate::compare::Tolerance;
use crate::result::Role;
use crate::world::Build;

/// Measures the mesh beside baselines and peers.
#[derive(Parser)]
#[command(name = "foundry-bench", args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunOptions,
}

/// What to do instead of measuring.
#[derive(Subcommand)]
pub enum Command {
    /// Compare two results, or the mesh of one with the build beside it; exits with 1 when a value became slower
    Compare(CompareOptions),
    /// Serve the baseline of calls and watches
    #[command(hide = true)]
    RawServer,
}

/// Options of a comparison.
#[derive(Args)]
pub struct CompareOptions {
    /// The earlier result, or the only one if it was measured with `--beside`
    pub before: PathBuf,
    /// The later result
    pub after: Option<PathBuf>,
    /// By which part the processor time per operation may grow
    #[arg(long, default_value_t = 0.10)]
    pub cpu: f64,
    /// By which part the ratio of the median to its floor may grow
    #[arg(long, default_value_t = 0.25)]
    pub p50: f64,
}

impl CompareOptions {
    /// By which part values may grow.
    pub fn tolerance(&self) -> Tolerance {
        Tolerance { cpu: self.cpu, p50: self.p50 }
    }
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Verified calls with the layer of authorization and without it
    Authorization,
    /// Processor time and memory at rest, without tasks and with 64
    AtRest,
    /// Restart to serving
    Restart,
    /// Memory per idle watch, 64 tasks shown
    Memory,
    /// `UpdateTask`
    Rename,
    /// The flow of seven stages
    Flow,
    /// Change to watchers
    FanOut,
    /// Deliveries of webhooks
    Webhook,
    /// `CreateTask`
    CreateTask,
    /// At rest and memory per idle watch with 1,000 tasks
    ManyTasks,
    /// At rest with 50 living sandboxes
    Living,
    /// 5,000 streams that come back at once after a kill
    Reconnect,
    /// `GetRepositoryOverview` by number of branches, while the remote hangs
    Overview,
    /// Synchronization of one commit, beside `git fetch`
    Sync,
    /// Fetch of a task's branch, beside `git clone`
    Fetch,
}

impl Part {
    /// The parts that share one mesh.
    pub const ON_FEW_TASKS: [Self; 8] = [
        Self::AtRest,
        Self::Restart,
        Self::Memory,
        Self::Rename,
        Self::Flow,
        Self::FanOut,
        Self::Webhook,
        Self::CreateTask,
    ];
}

/// A database.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// Files, as `foundry up` does by default
    Sqlite,
    /// A temporary PostgreSQL that syncs its commits
    Postgres,
}

/// Options of a run.
#[derive(Args)]
pub struct RunOptions {
    /// Two short rounds, few tasks: shows that everything runs, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Scales how long each figure is measured: a slice takes a tenth of this, 0.1 to 4 s
    #[arg(long, env = "FOUNDRY_BENCH_SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Only these parts; repeat it or separate them by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The database of the mesh and of the bare commits
    #[arg(long, value_enum, default_value_t = StoreKind::Sqlite)]
    store: StoreKind,
    /// The `foundry` of another build to measure in turns with this one; its `foundry-with-faults` is in the same directory
    #[arg(long, value_name = "FOUNDRY")]
    beside: Option<PathBuf>,
    /// Where to write the result [default: bench/TIME.json in the target directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where `make bench-peers` installs [default: bench-peers in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    peers: Option<PathBuf>,
    /// Start no peers
    #[arg(long)]
    pub no_peers: bool,
}

impl RunOptions {
    /// Sizes of the measurements.
    pub fn plan(&self) -> Plan {
        if self.quick {
            let short = Duration::from_millis(200);
            let idle = Duration::from_secs(2);
            return Plan {
                pairs: 2,
                slice: short,
                idle,
                many: 100,
                living: 2,
                streams: 300,
                branches: &[10, 200],
            };
        }
        let slice = Duration::from_secs_f64((self.seconds / 10.0).clamp(0.1, 4.0));
        let branches = &[10, 1_000, 10_000];
        Plan { pairs: 5, slice, idle: slice * 10, many: 1_000, living: 50, streams: 5_000, branches }
    }

    /// Whether to measure a part.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether rows are kept in PostgreSQL.
    pub fn on_postgres(&self) -> bool {
        self.store == StoreKind::Postgres
    }

    /// The mesh, and the build beside it if there is one.
    ///
    /// # Errors
    /// When the build beside does not exist.
    pub fn builds(&self) -> Result<Vec<Build>, String> {
        let mut builds = vec![Build { role: Role::Mesh, foundry: foundry_tests::mesh::binary() }];
        if let Some(foundry) = self.beside.clone() {
            if !foundry.is_file() {
                return Err(format!("{} does not exist", foundry.display()));
            }
            builds.push(Build { role: Role::Beside, foundry });
        }
        Ok(builds)
    }

    /// The file for the result.
    ///
    /// # Errors
    /// When this program's own path is unknown.
    pub fn out(&self, time: &str) -> Result<PathBuf, String> {
        match &self.out {
            Some(out) => Ok(out.clone()),
            None => Ok(target_directory()?.join("bench").join(format!("{}.json", time.replace(':', "-")))),
        }
    }

    /// The directory of installed peers.
    ///
    /// # Errors
    /// When this program's own path is unknown.
    pub fn peers(&self) -> Result<PathBuf, String> {
        match &self.peers {
            Some(directory) => Ok(directory.clone()),
            None => Ok(target_directory()?.join("bench-peers")),
        }
    }
}

/// Two levels above this program: `target/release/foundry-bench`.
fn target_directory() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = own.parent().and_then(Path::parent);
    target.map(Path::to_owned).ok_or_else(|| format!("{} has no target directory", own.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["foundry-bench", "--quick", "--only", "rename,flow", "--out", "run.json"]);
        assert!(cli.run.wants(Part::Flow) && !cli.run.wants(Part::Living));
        assert_eq!(cli.run.plan().pairs, 2);
        assert_eq!(cli.run.out("2026-01-01T00:00:00Z").unwrap(), Path::new("run.json"));
        let cli = Cli::parse_from(["foundry-bench", "compare", "a.json", "b.json", "--cpu", "0.2"]);
        let Some(Command::Compare(options)) = cli.command else { panic!("no comparison") };
        assert!(options.tolerance().cpu > 0.19 && options.after.is_some());
    }

    #[test]
    fn a_file_is_named_by_the_time_of_the_run() {
        let cli = Cli::parse_from(["foundry-bench"]);
        let out = cli.run.out("2026-01-01T10:20:30Z").unwrap();
        assert!(out.ends_with("bench/2026-01-01T10-20-30Z.json"), "{}", out.display());
        assert!(cli.run.wants(Part::Living));
    }
}
