//! Compares two results: what became slower than the tolerance.

use crate::result::{Entry, Role, RunResult};

/// By which part a value may grow before it counts as slower.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// For processor time per operation.
    pub cpu: f64,
    /// For the median as a multiple of the floor in the same run.
    pub p50: f64,
}

/// A value before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Figure, load, line and value.
    pub what: String,
    /// The earlier value.
    pub before: f64,
    /// The later value; none = it was not measured.
    pub after: Option<f64>,
    /// Whether it grew by more than its tolerance, or is missing.
    pub worse: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, before, after, worse } = self;
        let mark = if *worse { '!' } else { ' ' };
        match after {
            Some(after) => {
                let part = 100.0 * (after / before - 1.0);
                write!(f, "{mark} {what:<72} {before:>10.2} -> {after:>10.2} {part:>+7.1} %")
            }
            None => write!(f, "{mark} {what:<72} {before:>10.2} -> not measured"),
        }
    }
}

/// Compares the mesh of two runs, in processor time per operation and in the ratio of the median to its floor. These
/// two hardly depend on how fast the machine is in that hour; rates and times do.
pub fn compare(before: &RunResult, after: &RunResult, tolerance: Tolerance) -> Vec<Change> {
    changes(&before.entries, Role::Mesh, &after.entries, tolerance)
}

/// Compares the mesh of a run with the build beside it.
pub fn compare_beside(run: &RunResult, tolerance: Tolerance) -> Vec<Change> {
    changes(&run.entries, Role::Beside, &run.entries, tolerance)
}

fn changes(before: &[Entry], role: Role, after: &[Entry], tolerance: Tolerance) -> Vec<Change> {
    let mut changes = Vec::new();
    for earlier in before.iter().filter(|e| e.role == role) {
        let later = after.iter().find(|e| {
            e.role == Role::Mesh
                && (&e.figure, &e.load, &e.name) == (&earlier.figure, &earlier.load, &earlier.name)
        });
        for (value, allowed) in [("cpu_us", tolerance.cpu), ("p50_ratio", tolerance.p50)] {
            let Some(&before) = earlier.values.get(value) else { continue };
            let after = later.and_then(|e| e.values.get(value)).copied();
            let worse = after.is_none_or(|after| after > before * (1.0 + allowed));
            let what = format!("{}, {}, {}: {value}", earlier.figure, earlier.load, earlier.name);
            changes.push(Change { what, before, after, worse });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { cpu: 0.1, p50: 0.25 };

    fn run(lines: &[(Role, &str, f64, f64)]) -> RunResult {
        let mut run = RunResult::new("2026-01-01T00:00:00Z".to_owned(), "sqlite", 5, 1.0);
        for (role, load, cpu, p50) in lines {
            run.add(
                "rename",
                *role,
                load,
                "rename",
                &[("cpu_us", *cpu), ("p50_ratio", *p50), ("p99_ms", *p50)],
            );
        }
        run
    }

    fn worse(changes: &[Change]) -> Vec<&str> {
        changes.iter().filter(|c| c.worse).map(|c| c.what.as_str()).collect()
    }

    #[test]
    fn names_what_grew_by_more_than_its_tolerance() {
        let before = run(&[(Role::Mesh, "1 client", 100.0, 2.0), (Role::Mesh, "64 clients", 100.0, 2.0)]);
        let after = run(&[(Role::Mesh, "1 client", 109.0, 2.6), (Role::Mesh, "64 clients", 111.0, 2.4)]);
        let changes = compare(&before, &after, TOLERANCE);
        assert_eq!(changes.len(), 4, "the median and 99th percentile in milliseconds are not compared");
        assert_eq!(
            worse(&changes),
            ["rename, 1 client, rename: p50_ratio", "rename, 64 clients, rename: cpu_us"]
        );
        assert!(worse(&compare(&after, &before, TOLERANCE)).is_empty(), "faster is not worse");
    }

    #[test]
    fn a_figure_that_is_no_longer_measured_is_worse() {
        let before = run(&[(Role::Mesh, "1 client", 100.0, 2.0)]);
        let changes = compare(&before, &run(&[(Role::Floor, "1 client", 1.0, 1.0)]), TOLERANCE);
        assert_eq!(worse(&changes).len(), 2);
        assert!(changes[0].to_string().ends_with("not measured"), "{}", changes[0]);
    }

    #[test]
    fn baselines_and_peers_are_not_judged() {
        let before = run(&[(Role::Floor, "1 client", 1.0, 1.0), (Role::Peer, "1 client", 1.0, 1.0)]);
        assert!(compare(&before, &run(&[]), TOLERANCE).is_empty());
    }

    #[test]
    fn a_build_beside_is_the_earlier_one() {
        let run = run(&[(Role::Beside, "1 client", 100.0, 2.0), (Role::Mesh, "1 client", 150.0, 2.0)]);
        let changes = compare_beside(&run, TOLERANCE);
        assert_eq!(worse(&changes), ["rename, 1 client, rename: cpu_us"]);
        assert!(changes[0].to_string().contains("+50.0 %"), "{}", changes[0]);
    }
}
