//! The result of a run, as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Version of the format.
const FORMAT: u32 = 1;

/// Everything that one run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this format.
    pub format: u32,
    /// When the run began, RFC 3339, UTC.
    pub time: String,
    /// Database of the mesh and of the bare commits: `sqlite` or `postgres`.
    pub store: String,
    /// Interleaved rounds of each figure.
    pub pairs: u32,
    /// Length of one slice of a load in seconds.
    pub slice_seconds: f64,
    /// The machine.
    pub machine: Machine,
    /// Programs by role: the path of a mesh, the version of a peer, or why there is none.
    pub programs: BTreeMap<String, String>,
    /// The figures, in the order in which they were measured.
    pub entries: Vec<Entry>,
    /// Operations that failed and slices without rest, as sentences.
    pub failures: Vec<String>,
}

/// The machine, and how busy it was: a run on a busy machine shows little.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Number of processors.
    pub processors: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// `/proc/loadavg` at the start.
    pub load_at_start: String,
    /// `/proc/loadavg` at the end.
    pub load_at_end: String,
}

/// What a line is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The mesh under measurement.
    Mesh,
    /// The other build, measured in turns with it.
    Beside,
    /// A baseline; the floor of a figure is the sum of its baselines.
    Floor,
    /// Another system that does the same for its users.
    Peer,
}

/// A figure under a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Short name of the figure, such as `create_task`.
    pub figure: String,
    /// What it is in a comparison.
    pub role: Role,
    /// The load, such as `64 clients`.
    pub load: String,
    /// The line of the report.
    pub name: String,
    /// Values by name; the name ends in the unit (`docs/bench.md` lists them). A value that is no number is absent.
    pub values: BTreeMap<String, f64>,
}

impl RunResult {
    /// A result without figures yet.
    pub fn new(time: String, store: &str, pairs: u32, slice_seconds: f64) -> Self {
        Self {
            format: FORMAT,
            time,
            store: store.to_owned(),
            pairs,
            slice_seconds,
            machine: Machine::default(),
            programs: BTreeMap::new(),
            entries: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a figure. Values that are not finite are left out: JSON has none.
    pub fn add(&mut self, figure: &str, role: Role, load: &str, name: &str, values: &[(&str, f64)]) {
        let values =
            values.iter().filter(|(_, v)| v.is_finite()).map(|(n, v)| ((*n).to_owned(), *v)).collect();
        let (figure, load, name) = (figure.to_owned(), load.to_owned(), name.trim().to_owned());
        self.entries.push(Entry { figure, role, load, name, values });
    }

    /// Writes the result; makes the directory if needed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| failed(&e))?;
        }
        let mut text = serde_json::to_string_pretty(self).map_err(|e| failed(&e))?;
        text.push('\n');
        std::fs::write(path, text).map_err(|e| failed(&e))
    }

    /// Reads a result.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a result of this format.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
        let result: Self = serde_json::from_str(&text).map_err(|e| failed(&e))?;
        if result.format != FORMAT {
            return Err(failed(&format!("format {}, this program reads {FORMAT}", result.format)));
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> RunResult {
        let mut result = RunResult::new("2026-01-01T00:00:00Z".to_owned(), "sqlite", 5, 1.0);
        result.programs.insert("mesh".to_owned(), "foundry".to_owned());
        result.machine.processors = 2;
        let values = [("p50_ms", 1.25), ("p50_ratio", f64::NAN), ("burst_per_s", f64::INFINITY)];
        result.add("rename", Role::Mesh, "1 client", "  rename", &values);
        result.failures.push("1 operation failed".to_owned());
        result
    }

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/run.json");
        result().write(&path).unwrap();
        assert_eq!(RunResult::read(&path).unwrap(), result());
    }

    #[test]
    fn leaves_out_values_that_are_no_numbers() {
        let entry = &result().entries[0];
        assert_eq!(entry.values, BTreeMap::from([("p50_ms".to_owned(), 1.25)]));
        assert_eq!(entry.name, "rename");
    }

    #[test]
    fn refuses_another_format_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        RunResult { format: 9, ..result() }.write(&path).unwrap();
        let refused = RunResult::read(&path).unwrap_err();
        assert!(refused.contains("run.json: format 9"), "{refused}");
        std::fs::write(&path, "{}").unwrap();
        assert!(RunResult::read(&path).unwrap_err().contains("missing field"));
    }
}
