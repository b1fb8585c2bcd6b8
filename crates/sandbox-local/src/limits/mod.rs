//! The limits of a sandbox on its host. Control groups limit processes, memory and processors where they are available;
//! the supervisor measures the rest, and everything elsewhere.

pub(crate) mod cgroup;
pub(crate) mod disk;
pub(crate) mod enter;
pub(crate) mod family;
pub(crate) mod judge;
pub(crate) mod watch;

use std::path::PathBuf;

use foundry_sandbox::limits::{bytes, grouped};
use serde::{Deserialize, Serialize};

pub(crate) use cgroup::{Group, Parents};

use crate::launch::write_json;
use crate::layout::read_json;

/// How limits are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// By control groups where they are available, else measured, with a note.
    #[default]
    Auto,
    /// Measured, even where there are control groups.
    Measure,
}

/// The limits of one sandbox. 0 = no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads together.
    pub processes: u64,
    /// Memory in bytes; default: three quarters of the host's.
    pub memory_bytes: Option<u64>,
    /// Processors, with fractions; default: all of the host, shared evenly with other sandboxes.
    pub cpus: f64,
    /// Bytes on disk in work tree, HOME and `/tmp`.
    pub disk_bytes: u64,
    /// Files and directories in the same places.
    pub disk_files: u64,
    /// Open descriptors of each process.
    pub descriptors: u64,
    /// How they are enforced: auto or measure.
    pub mode: LimitMode,
}

impl Default for Limits {
    /// Enough for a parallel build of a large project, and no more than the host has.
    fn default() -> Self {
        Self {
            processes: 4_096,
            memory_bytes: None,
            cpus: 0.0,
            disk_bytes: 32 << 30,
            disk_files: 2_000_000,
            descriptors: 65_536,
            mode: LimitMode::Auto,
        }
    }
}

impl Limits {
    /// No limits at all. For tests of other features.
    pub fn none() -> Self {
        Self {
            processes: 0,
            memory_bytes: Some(0),
            cpus: 0.0,
            disk_bytes: 0,
            disk_files: 0,
            descriptors: 0,
            mode: LimitMode::Auto,
        }
    }

    /// The limit of memory in bytes; 0 = none.
    pub(crate) fn memory(&self) -> u64 {
        self.memory_bytes.unwrap_or_else(|| host_memory() / 4 * 3)
    }

    /// The limits as a text for users.
    pub(crate) fn describe(&self) -> String {
        let mut parts = Vec::new();
        let mut add = |amount: u64, words: &dyn Fn(u64) -> String| {
            if amount > 0 {
                parts.push(words(amount));
            }
        };
        add(self.processes, &|n| format!("{} processes", grouped(n)));
        add(self.memory(), &|n| format!("{} of memory", bytes(n)));
        add(u64::from(self.cpus > 0.0), &|_| format!("{} CPUs", self.cpus));
        add(self.disk_bytes, &|n| format!("{} on disk", bytes(n)));
        add(self.disk_files, &|n| format!("{} files", grouped(n)));
        add(self.descriptors, &|n| format!("{} descriptors", grouped(n)));
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }
}

/// The limits of one sandbox, with the data its supervisor needs to enforce and report them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub limits: Limits,
    /// Where its group is made, or why it has none.
    pub parents: Result<Parents, String>,
    /// The name of its group.
    pub name: String,
    /// The file in which the group is recorded before it is made.
    pub group_file: PathBuf,
    /// The file in which the supervisor reports reached limits.
    pub report_file: PathBuf,
    /// The directories whose disk counts.
    pub places: Vec<PathBuf>,
    /// Whether the sandbox has a user of its own, so that limits per user apply to it alone.
    #[serde(default)]
    pub own_user: bool,
}

impl Bounds {
    /// Makes the group, in place of one that an earlier start made elsewhere; also describes how limits are enforced.
    pub fn set_up(&self) -> (Option<Group>, String) {
        let made = self.parents.as_ref().map_err(Clone::clone).and_then(|parents| {
            let group = parents.group(&self.name);
            let earlier = read_json::<Group>(&self.group_file).filter(|e| *e != group);
            if let Some(earlier) = earlier {
                // Its processes are killed by the next start or destroy; an empty one is removed now.
                let _ = earlier.remove();
            }
            write_json(&self.group_file, &group).map_err(|e| e.to_string())?;
            group.create(&self.limits).map_err(|e| e.to_string())?;
            Ok(group)
        });
        let how = enforcement(made.as_ref().and(self.parents.as_ref()).map_err(String::as_str));
        (made.ok(), format!("{}; {how}", self.limits.describe()))
    }

    /// The limits that the first process sets for itself.
    pub fn entry(&self, group: Option<Group>) -> enter::Entry {
        let by_group = group.is_some() && self.parents.as_ref().is_ok_and(Parents::has_cpu);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded
        let cpus = if by_group { 0 } else { self.limits.cpus.clamp(0.0, 1_024.0).ceil() as usize };
        let first_cpu =
            self.name.bytes().fold(0, |h: usize, b| h.wrapping_mul(31).wrapping_add(usize::from(b)));
        // Processes can multiply faster than any measurement.
        let measured = group.is_none() && self.own_user;
        let processes = if measured { self.limits.processes.saturating_mul(2) } else { 0 };
        enter::Entry { group, processes, descriptors: self.limits.descriptors, cpus, first_cpu }
    }
}

/// How limits are enforced on this host, as a text for users.
pub(crate) fn enforcement(parents: Result<&Parents, &str>) -> String {
    match parents {
        Ok(parents) => {
            let missing = if parents.has_cpu() { "" } else { ", no CPU limit" };
            format!("enforced by cgroups (version {}{missing}); disk is measured", parents.version())
        }
        Err(reason) => format!("measured every second: {reason}"),
    }
}

/// The memory of this host in bytes; 0 when unknown.
fn host_memory() -> u64 {
    meminfo("MemTotal:")
}

/// A line of `/proc/meminfo` in bytes.
pub(crate) fn meminfo(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|l| l.strip_prefix(line)?.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_limited_and_nothing_else() {
        let limits =
            Limits { memory_bytes: Some(512 << 20), cpus: 1.5, disk_bytes: 1 << 30, ..Limits::none() };
        assert_eq!(limits.describe(), "512.0 MiB of memory, 1.5 CPUs, 1.0 GiB on disk");
        assert_eq!(Limits::none().describe(), "none");
        assert!(Limits::default().memory() > 0, "the host says what it has");
    }
}
