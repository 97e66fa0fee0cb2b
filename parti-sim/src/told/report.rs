//! The report: one page that draws what a scenario did, with everything in it that it needs.

use parti_core::PartitionList;
use serde::Serialize;

use crate::check::invariant::Violation;
use crate::scenario::{Expectation, Outcome};
use crate::told::figures::Figures;
use crate::told::observers::TimelineEntry;
use crate::told::recording::{LifeMark, PlanMade, Recording};
use crate::world::clock::Moment;

/// The page, but for the data.
const PAGE: &str = include_str!("report.html");
/// Where the data goes.
const PLACE: &str = "\"the data goes here\"";

/// What the page draws. Times are in milliseconds.
#[derive(Serialize)]
struct Data<'a> {
    figures: &'a Figures,
    shows: &'a str,
    /// What came of it, in a word or two; and why, where it did not hold or nothing was shown.
    verdict: &'a str,
    why: Vec<String>,
    /// How to make this page again.
    again: &'a str,
    measured_from: f64,
    ends: f64,
    expectations: Vec<Row<'a>>,
    /// When, which process, which partition, 1 for the beginning of work and 0 for its end.
    works: Vec<(f64, usize, usize, u8)>,
    /// When, which partition, 1 where it came into the list and 0 where it left it.
    listed: Vec<(f64, usize, u8)>,
    /// When, which process, which slot (-1 for none), whether it leads.
    slots: Vec<(f64, usize, i64, bool)>,
    /// When, which process, what.
    lives: Vec<(f64, usize, &'static str)>,
    /// When, which process (-1 for the world), what.
    timeline: Vec<(f64, i64, &'a str)>,
    /// When, generation, why, how many moved, how many were placed, whether another round follows.
    plans: Vec<(f64, u64, String, usize, usize, bool)>,
    /// By process.
    capacities: &'a [u32],
    /// By partition.
    names: Vec<&'a str>,
    /// By partition; none where all are 1.
    weights: Option<Vec<u32>>,
}

/// What a page is about.
pub(crate) struct Drawing<'a> {
    pub(crate) figures: &'a Figures,
    pub(crate) shows: &'a str,
    pub(crate) verdict: &'a str,
    /// Why it is the verdict, where that is not to be seen in the expectations and the violation.
    pub(crate) why: Option<String>,
    pub(crate) again: &'a str,
    pub(crate) measured_from: Moment,
    pub(crate) ends: Moment,
    pub(crate) expectations: &'a [Expectation],
    pub(crate) violation: Option<&'a Violation>,
    pub(crate) recording: &'a Recording,
    pub(crate) timeline: &'a [TimelineEntry],
    pub(crate) partitions: &'a PartitionList,
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
        let drawing = Drawing {
            figures: &self.figures,
            shows,
            verdict: self.verdict(),
            why: self.why_nothing_was_shown(),
            again: &format!("{} --report page.html", self.again()),
            measured_from: self.measured_from,
            ends: self.ended,
            expectations: &self.expectations,
            violation: self.violation.as_ref(),
            recording: self.recording.as_ref().unwrap_or(&nothing),
            timeline: &self.timeline,
            partitions: &self.options.all_partitions(),
        };
        drawing.page()
    }
}

impl Drawing<'_> {
    /// The page.
    pub(crate) fn page(&self) -> String {
        let partitions = self.partitions.as_slice();
        let recording = self.recording;
        let told = self.timeline.iter();
        let data = Data {
            figures: self.figures,
            shows: self.shows,
            verdict: self.verdict,
            why: self.reasons(),
            again: self.again,
            measured_from: ms(self.measured_from),
            ends: ms(self.ends),
            expectations: self.expectations.iter().map(Row::from).collect(),
            works: works(recording),
            listed: recording.listed.iter().map(|(at, one, is)| (ms(*at), one.index(), u8::from(*is))).collect(),
            slots: slots(recording),
            lives: recording.lives.iter().map(|life| (ms(life.at), life.process.index(), name(life.life))).collect(),
            timeline: told.map(|entry| (ms(entry.at), number(entry.who), entry.what.as_str())).collect(),
            plans: recording.plans.iter().map(plan).collect(),
            capacities: &recording.capacities,
            names: partitions.iter().map(|partition| partition.id.as_str()).collect(),
            weights: (partitions.iter().any(|partition| partition.weight.get() != 1))
                .then(|| partitions.iter().map(|partition| partition.weight.get()).collect()),
        };
        let json = serde_json::to_string(&data).expect("figures and names have no value that JSON lacks");
        PAGE.replace(PLACE, &json.replace("</", "<\\/"))
    }

    /// Why it did not hold, or showed nothing.
    fn reasons(&self) -> Vec<String> {
        let failed = self.expectations.iter().filter(|expectation| !expectation.held);
        let failed = failed.map(|Expectation { what, measured, expected, .. }| {
            format!("{what} must be {expected}, but is {measured}")
        });
        self.violation.map(ToString::to_string).into_iter().chain(failed).chain(self.why.clone()).collect()
    }
}

impl<'a> From<&'a Expectation> for Row<'a> {
    fn from(expectation: &'a Expectation) -> Self {
        let Expectation { what, measured, expected, held, .. } = expectation;
        Self { what, measured, expected, held: *held }
    }
}

fn plan(plan: &PlanMade) -> (f64, u64, String, usize, usize, bool) {
    let reason = plan.reason.to_string();
    (ms(plan.at), plan.generation.value(), reason, plan.moved, plan.placed, plan.another_round)
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

fn number(process: Option<crate::told::fact::ProcessId>) -> i64 {
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
        for part in ["\"scenario\":\"crash\"", "\"crashed\"", "have lost their owner", "\"p00011\""] {
            assert!(page.contains(part), "{part}");
        }
        for section in
            ["Expected", "Who works on", "What each worker holds", "Partitions without an owner", "Load of the"]
        {
            assert_eq!(page.matches(&format!("<h2>{section}")).count(), 1, "{section}");
        }
        for element in page.split("element(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(page.contains(&format!("id=\"{element}\"")), "the page has no {element}");
        }
        assert!(!page.contains(super::PLACE));
        for outside in ["http://", "https://", "src=", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
