//! The table of figures, on paper and as JSON.

use std::io::{self, Write};

use serde::Serialize;

/// All figures so far.
#[derive(Debug)]
pub(crate) struct Table {
    json: bool,
    rows: Vec<Row>,
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    value: f64,
    bound: Option<Bound>,
    holds: Option<bool>,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new() }
    }

    /// Whether every bound holds.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    pub(crate) fn header(&self) -> io::Result<()> {
        self.print(&format!("{:<72} {:>12}  {:<10} {:>12}  holds", "figure", "value", "unit", "bound"))
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, what: &str, unit: &'static str, value: f64, bound: Option<Bound>) -> io::Result<()> {
        let (text, holds) = match bound {
            Some(Bound::AtLeast(least)) => (format!(">= {least}"), Some(value >= least)),
            Some(Bound::AtMost(most)) => (format!("<= {most}"), Some(value <= most)),
            None => (String::new(), None),
        };
        let said = holds.map_or("", |holds| if holds { "yes" } else { "NO" });
        self.print(&format!("{what:<72} {value:>12.2}  {unit:<10} {text:>12}  {said}"))?;
        self.rows.push(Row { what: what.into(), unit, value, bound, holds });
        Ok(())
    }

    /// Adds the median and the 99th percentile of these.
    pub(crate) fn spread(
        &mut self,
        what: &str,
        unit: &'static str,
        mut samples: Vec<f64>,
        bound: Option<Bound>,
    ) -> io::Result<()> {
        assert!(!samples.is_empty(), "{what} was not measured");
        samples.sort_by(f64::total_cmp);
        let [p50, p99] = [50, 99].map(|percent| samples[(samples.len() * percent).div_ceil(100).max(1) - 1]);
        self.add(&format!("{what}, p50 of {}", samples.len()), unit, p50, None)?;
        self.add(&format!("{what}, p99 of {}", samples.len()), unit, p99, bound)
    }

    pub(crate) fn footer(&self) -> io::Result<()> {
        let bounds = self.rows.iter().filter(|row| row.holds.is_some()).count();
        let missed = self.rows.iter().filter(|row| row.holds == Some(false)).count();
        self.print(&format!("\n{} of {bounds} bounds hold", bounds - missed))?;
        if self.json {
            writeln!(io::stdout().lock(), "{}", serde_json::to_string_pretty(&self.rows)?)?;
        }
        Ok(())
    }

    fn print(&self, line: &str) -> io::Result<()> {
        if self.json { writeln!(io::stderr().lock(), "{line}") } else { writeln!(io::stdout().lock(), "{line}") }
    }
}
