//! Prints the results as a table.

use crate::figures::{Figures, count};

/// Prints results as they arrive, and collects the failures.
#[derive(Default)]
pub struct Report {
    failures: Vec<String>,
}

impl Report {
    /// Prints a heading.
    #[allow(clippy::unused_self)] // one way to print
    pub fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    /// Prints a heading with column titles.
    #[allow(clippy::unused_self)] // one way to print
    pub fn table(&mut self, title: &str) {
        self.section(title);
        println!(
            "  {:>7}  {:<34} {:>9} {:>9} {:>10} {:>11}",
            "", "", "p50 ms", "p99 ms", "per s", "CPU µs/op"
        );
    }

    /// Prints a line about operations of a number of clients.
    pub fn line(&mut self, clients: usize, name: &str, figures: &Figures) {
        let unit = if clients == 1 { "client" } else { "clients" };
        self.row(&format!("{clients} {unit}"), name, figures, "");
    }

    /// Prints a line about deliveries of events published at a rate, with the share of the `wanted` ones that arrived.
    pub fn delivered(&mut self, rate: u32, name: &str, figures: &Figures, wanted: usize) {
        let part = 100.0 * count(figures.count()) / count(wanted);
        self.row(&format!("{rate}/s"), name, figures, &format!("  {part:.1} % delivered one by one"));
    }

    fn row(&mut self, load: &str, name: &str, figures: &Figures, more: &str) {
        println!(
            "  {load:>10}  {name:<34} {:>9.3} {:>9.3} {:>10.0} {:>11.1}{more}",
            figures.percentile(0.5),
            figures.percentile(0.99),
            figures.rate(),
            figures.cpu_micros(),
        );
        if let (n, Some(first)) = &figures.failed {
            self.failures.push(format!("{n} operations failed in \"{} {load}\": {first}", name.trim()));
        }
    }

    /// Prints a line of text.
    #[allow(clippy::unused_self)] // one way to print
    pub fn say(&mut self, line: &str) {
        println!("              {line}");
    }

    /// Prints the failures that were collected, if any.
    pub fn end(self) {
        for failure in self.failures {
            println!("! {failure}");
        }
    }
}

/// Formats a ratio for the table.
pub fn ratio(ours: f64, theirs: f64) -> String {
    format!("{:.2} x", ours / theirs)
}
