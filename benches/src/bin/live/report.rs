//! The table of figures, on paper and as JSON.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// All figures so far.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    rows: Vec<Row>,
    violations: usize,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    samples: usize,
    p50: f64,
    p99: f64,
    largest: f64,
    /// The most that it may be, if it is held to a bound: compared with the p99.
    bound: Option<f64>,
    holds: Option<bool>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), violations: 0 }
    }

    /// Whether every bound holds.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    pub(crate) fn header(&self) -> io::Result<()> {
        self.print(&format!(
            "{:<68} {:>5} {:>9} {:>9} {:>9}  {:<9} {:>9}  holds",
            "figure", "n", "p50", "p99", "largest", "unit", "bound"
        ))
    }

    /// Adds a figure in milliseconds.
    pub(crate) fn times(&mut self, what: &str, times: &[Duration], bound: Option<Duration>) -> io::Result<()> {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        self.figures(what, "ms", times.iter().copied().map(milliseconds).collect(), bound.map(milliseconds))
    }

    /// Adds one figure that was measured once.
    pub(crate) fn figure(&mut self, what: &str, unit: &'static str, value: f64, bound: Option<f64>) -> io::Result<()> {
        self.figures(what, unit, vec![value], bound)
    }

    /// Adds what must never be, whatever happens: two workers at once, or tokens that do not grow.
    pub(crate) fn violations(&mut self, scene: &str, violations: &[String]) -> io::Result<()> {
        self.violations += violations.len();
        violations.iter().take(3).try_for_each(|violation| self.print(&format!("{scene}: {violation}")))
    }

    /// Adds a number of things that must not be.
    pub(crate) fn count(&mut self, what: &str, count: usize) -> io::Result<()> {
        self.figure(what, "times", f64::from(u32::try_from(count).unwrap_or(u32::MAX)), Some(0.0))
    }

    /// Adds a figure that was measured several times.
    pub(crate) fn figures(
        &mut self,
        what: &str,
        unit: &'static str,
        mut samples: Vec<f64>,
        bound: Option<f64>,
    ) -> io::Result<()> {
        assert!(!samples.is_empty(), "{what} was not measured");
        samples.sort_by(f64::total_cmp);
        let [p50, p99] = [50, 99].map(|percent| samples[(samples.len() * percent).div_ceil(100).max(1) - 1]);
        let largest = samples[samples.len() - 1];
        let holds = bound.map(|bound| p99 <= bound);
        let row = Row { what: what.into(), unit, samples: samples.len(), p50, p99, largest, bound, holds };
        self.print(&row.line())?;
        self.rows.push(row);
        Ok(())
    }

    pub(crate) fn footer(&mut self) -> io::Result<()> {
        self.count("two workers at once, or tokens that do not grow, in all of these", self.violations)?;
        let bounds = self.rows.iter().filter(|row| row.holds.is_some()).count();
        let missed: Vec<_> = self.rows.iter().filter(|row| row.holds == Some(false)).collect();
        self.print(&format!("\n{} of {bounds} bounds hold", bounds - missed.len()))?;
        for row in missed {
            self.print(&format!("missed: {}", row.line()))?;
        }
        if self.json {
            writeln!(io::stdout().lock(), "{}", serde_json::to_string_pretty(&self.rows)?)?;
        }
        Ok(())
    }

    fn print(&self, line: &str) -> io::Result<()> {
        if self.json { writeln!(io::stderr().lock(), "{line}") } else { writeln!(io::stdout().lock(), "{line}") }
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { what, unit, samples, p50, p99, largest, .. } = self;
        let bound = self.bound.map_or_else(String::new, |bound| format!("{bound:.1}"));
        let holds = match self.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        format!("{what:<68} {samples:>5} {p50:>9.2} {p99:>9.2} {largest:>9.2}  {unit:<9} {bound:>9}  {holds}")
    }
}
