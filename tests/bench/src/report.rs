//! Prints the results as a table, and collects them for the JSON.

use crate::figures::{Figures, count};
use crate::load::Floor;
use crate::result::{Role, RunResult};

/// Prints results as they arrive, and collects them.
pub struct Report {
    /// What was measured so far.
    pub result: RunResult,
}

impl Report {
    /// Prints a heading.
    #[allow(clippy::unused_self)] // one way to print
    pub fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    /// Prints a heading with column titles.
    pub fn table(&mut self, title: &str) {
        self.section(title);
        println!(
            "  {:>10}  {:<36} {:>9} {:>9} {:>9} {:>11} {:>10} {:>8} {:>8}",
            "", "", "p50 ms", "p99 ms", "burst/s", "sustained/s", "CPU µs/op", "p50 ×", "CPU ×"
        );
    }

    /// Prints and keeps a line about operations. Values of the mesh and of peers are also shown as multiples of the floor.
    pub fn load(
        &mut self,
        figure: &str,
        role: Role,
        load: &str,
        name: &str,
        figures: &Figures,
        floor: &Floor,
    ) {
        self.row(figure, role, load, name, figures, floor, None);
    }

    /// The same about deliveries, with the number of `wanted` ones: what is delivered together with a later change of the
    /// same entity does not arrive by itself.
    pub fn deliveries(
        &mut self,
        figure: &str,
        role: Role,
        load: &str,
        name: &str,
        (figures, wanted): (&Figures, usize),
        floor: &Floor,
    ) {
        let part = 100.0 * count(figures.count()) / count(wanted);
        self.row(figure, role, load, name, figures, floor, Some(part));
    }

    #[allow(clippy::too_many_arguments)] // the columns of a line
    fn row(
        &mut self,
        figure: &str,
        role: Role,
        load: &str,
        name: &str,
        figures: &Figures,
        floor: &Floor,
        delivered: Option<f64>,
    ) {
        let (p50, p99, cpu) = (figures.percentile(0.5), figures.percentile(0.99), figures.cpu_micros());
        let over = |value: f64, floor: f64| if role == Role::Floor { f64::NAN } else { value / floor };
        let (p50_ratio, cpu_ratio) = (over(p50, floor.p50), over(cpu, floor.cpu));
        let ratio = |r: f64| if r.is_finite() { format!("{r:.2}") } else { String::new() };
        let indent = if matches!(role, Role::Mesh | Role::Beside) { "" } else { "  " };
        println!(
            "  {load:>10}  {:<36} {p50:>9.3} {p99:>9.3} {:>9.0} {:>11.0} {cpu:>10.1} {:>8} {:>8}{}",
            format!("{indent}{name}{}", if role == Role::Beside { " (beside)" } else { "" }),
            figures.burst(),
            figures.sustained(),
            ratio(p50_ratio),
            ratio(cpu_ratio),
            delivered.map(|part| format!("  {part:.1} % delivered one by one")).unwrap_or_default(),
        );
        let mut values = vec![
            ("operations", count(figures.count())),
            ("p50_ms", p50),
            ("p99_ms", p99),
            ("burst_per_s", figures.burst()),
            ("sustained_per_s", figures.sustained()),
            ("cpu_us", cpu),
            ("p50_ratio", p50_ratio),
            ("p99_ratio", over(p99, floor.p99)),
            ("cpu_ratio", cpu_ratio),
        ];
        values.extend(delivered.map(|part| ("delivered_percent", part)));
        self.result.add(figure, role, load, name, &values);
        if let (n, Some(first)) = &figures.failed {
            self.fail(format!("{n} operations failed in \"{name}, {load}\": {first}"));
        }
        if figures.restless > 0 {
            self.fail(format!("no rest after {} slices of \"{name}, {load}\"", figures.restless));
        }
    }

    /// Prints and keeps values that belong to no operation.
    pub fn values(&mut self, figure: &str, role: Role, load: &str, name: &str, values: &[(&str, f64)]) {
        let text: Vec<_> = values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        let beside = if role == Role::Beside { " (beside)" } else { "" };
        println!("  {load:>24}  {:<36} {}", format!("{name}{beside}"), text.join(", "));
        self.result.add(figure, role, load, name, values);
    }

    /// Keeps a failure, which is printed at the end.
    pub fn fail(&mut self, failure: String) {
        self.result.failures.push(failure);
    }
}
