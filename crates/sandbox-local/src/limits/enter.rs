//! `internal enter`: sets limits on the way into a sandbox, and then becomes the first program in it.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::Group;

/// The usual soft limit of descriptors of a new process.
const USUAL: u64 = 1_024;

/// The instructions of the supervisor, as JSON in the first argument.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The group to join.
    pub group: Option<Group>,
    /// Processes its user may have, as an upper bound where no group limits them; 0 = as many as the mesh.
    #[serde(default)]
    pub processes: u64,
    /// Hard limit of descriptors per process; 0 = that of the mesh. The soft limit is the usual one.
    pub descriptors: u64,
    /// The number of processors it may use where no group limits them; 0 = all.
    pub cpus: usize,
    /// The first of these processors: spreads sandboxes over the host.
    pub first_cpu: usize,
}

/// `internal enter ENTRY -- COMMAND…`: joins the group, takes the limits and becomes the command.
pub(crate) fn enter(args: &[String]) -> i32 {
    let [entry, dashes, program, rest @ ..] = args else { return 64 };
    let (Ok(entry), "--") = (serde_json::from_str::<Entry>(entry), dashes.as_str()) else { return 64 };
    if let Err(e) = prepare(&entry) {
        let _ = writeln!(io::stderr(), "cannot take the limits of the sandbox: {e}");
        return 126;
    }
    let e = Command::new(program).args(rest).exec();
    let _ = writeln!(io::stderr(), "cannot run {program}: {e}");
    126
}

fn prepare(entry: &Entry) -> io::Result<()> {
    if let Some(group) = &entry.group {
        group.join()?;
    }
    let allowed = getrlimit(Resource::Nofile).maximum;
    let descriptors = if entry.descriptors > 0 {
        // Never more than the mesh itself may set.
        let most = allowed.map_or(entry.descriptors, |m| m.min(entry.descriptors));
        Rlimit { current: Some(most), maximum: Some(most) }
    } else {
        // The mesh has raised its own; programs that use `select` break on that.
        Rlimit { current: Some(allowed.map_or(USUAL, |m| m.min(USUAL))), maximum: allowed }
    };
    setrlimit(Resource::Nofile, descriptors)?;
    if entry.processes > 0 {
        let most = getrlimit(Resource::Nproc).maximum.map_or(entry.processes, |m| m.min(entry.processes));
        setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    if entry.cpus > 0 {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|n| allowed.is_set(*n)).collect();
        let mut chosen = CpuSet::new();
        for n in 0..entry.cpus.min(all.len()) {
            chosen.set(all[(entry.first_cpu + n) % all.len()]);
        }
        sched_setaffinity(None, &chosen)?;
    }
    Ok(())
}
