//! The report: one page that draws what a scenario did, with everything in it that it needs.

use serde::Serialize;

use crate::clock::Moment;
use crate::figures::Figures;
use crate::recording::{LifeMark, Recording};
use crate::scenario::Outcome;

/// The page, but for the data.
const PAGE: &str = include_str!("report.html");
/// Where the data goes.
const PLACE: &str = "\"the data goes here\"";

/// What the page draws. Times are in milliseconds.
#[derive(Serialize)]
struct Data<'a> {
    figures: &'a Figures,
    shows: &'a str,
    measured_from: f64,
    ends: f64,
    expectations: Vec<Row<'a>>,
    violation: Option<String>,
    /// When, which process, which partition, 1 for the beginning of work and 0 for its end.
    works: Vec<(f64, usize, usize, u8)>,
    /// When, which process, which slot (-1 for none), whether it leads.
    slots: Vec<(f64, usize, i64, bool)>,
    /// When, which process, what.
    lives: Vec<(f64, usize, &'static str)>,
    /// When, which process (-1 for the world), what.
    timeline: Vec<(f64, i64, &'a str)>,
}

#[derive(Serialize)]
struct Row<'a> {
    what: &'a str,
    measured: &'a str,
    expected: &'a str,
    held: bool,
}

impl Outcome {
    /// The report as one HTML page. It draws nothing but the table unless a recording was kept.
    ///
    /// # Panics
    ///
    /// Never: figures and names have no value that JSON lacks.
    pub fn report(&self, shows: &str) -> String {
        let nothing = Recording::default();
        let recording = self.recording.as_ref().unwrap_or(&nothing);
        let data = Data {
            figures: &self.figures,
            shows,
            measured_from: ms(self.measured_from),
            ends: self.virtual_s * 1_000.0,
            expectations: self.rows(),
            violation: self.violation.as_ref().map(ToString::to_string),
            works: works(recording),
            slots: slots(recording),
            lives: recording.lives.iter().map(|life| (ms(life.at), life.process.index(), name(life.life))).collect(),
            timeline: self
                .timeline
                .iter()
                .map(|entry| (ms(entry.at), number(entry.who), entry.what.as_str()))
                .collect(),
        };
        let json = serde_json::to_string(&data).expect("figures and names have no value that JSON lacks");
        PAGE.replace(PLACE, &json.replace("</", "<\\/"))
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.expectations
            .iter()
            .map(|expectation| Row {
                what: expectation.what,
                measured: &expectation.measured,
                expected: &expectation.expected,
                held: expectation.held,
            })
            .collect()
    }
}

fn works(recording: &Recording) -> Vec<(f64, usize, usize, u8)> {
    let changes = recording.changes.iter();
    changes
        .map(|change| (ms(change.at), change.process.index(), change.partition.index(), u8::from(change.works)))
        .collect()
}

fn slots(recording: &Recording) -> Vec<(f64, usize, i64, bool)> {
    let changes = recording.slots.iter();
    changes
        .map(|change| {
            let slot = change.slot.map_or(-1, |slot| i64::from(slot.value()));
            (ms(change.at), change.process.index(), slot, change.leader)
        })
        .collect()
}

fn number(process: Option<crate::fact::ProcessId>) -> i64 {
    process.map_or(-1, |process| i64::try_from(process.index()).unwrap_or(-1))
}

const fn name(life: LifeMark) -> &'static str {
    match life {
        LifeMark::Started => "started",
        LifeMark::Crashed => "crashed",
        LifeMark::Halted => "halted",
        LifeMark::Paused => "paused",
        LifeMark::Woke => "woke",
        LifeMark::Suspended => "suspended",
        LifeMark::Resumed => "resumed",
    }
}

/// Milliseconds with three digits after the point.
fn ms(at: Moment) -> f64 {
    (at.as_secs() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Keep, Scenario};

    #[test]
    fn the_report_has_everything_in_it_and_nothing_from_elsewhere() {
        let scenario = Scenario::named("crash").expect("it is listed");
        let options = scenario.options(1, Some(3), Some(12));
        let outcome = scenario.run(&options, Keep { trace: false, recording: true });
        let page = outcome.report(scenario.shows);
        assert!(page.contains("\"scenario\":\"crash\""));
        assert!(page.contains("crashed"));
        assert!(!page.contains(super::PLACE));
        for outside in ["http://", "https://", "src=", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
