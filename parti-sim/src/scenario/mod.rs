//! The scenarios: what is done to a fleet, and what must come of it.

mod crashes;
mod lists;
mod loads;
mod messages;
mod operators;
mod outages;
mod queues;
mod restarts;
mod scaling;
mod stage;

pub(crate) use stage::Stage;

use crate::check::invariant::{Kind, Violation};
use crate::check::mark::Mark;
use crate::check::reached::Marks;
use crate::setting::options::Options;
use crate::told::figures::Figures;
use crate::told::observers::TimelineEntry;
use crate::told::trace::Trace;

/// Something that can be done to a fleet, with what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// How it is called on the command line.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub shows: &'static str,
    /// How many workers it starts with, unless told otherwise.
    pub workers: u32,
    /// How many partitions there are, unless told otherwise.
    pub partitions: u32,
    /// What it changes in the setting.
    adjust: fn(&mut Options),
    /// What it does.
    act: fn(&mut Stage),
    /// What it must reach, or it has shown nothing.
    marks: &'static [Mark],
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What it measured.
    pub figures: Figures,
    /// What was expected, and whether it came true.
    pub expectations: Vec<Expectation>,
    /// The first breach of an invariant.
    pub violation: Option<Violation>,
    /// What it should have reached and did not.
    pub missed: Vec<Mark>,
    /// What it reached.
    pub marks: Marks,
    /// The setting that it ran in.
    pub options: Options,
    /// How much virtual time it took, in seconds.
    pub virtual_s: f64,
    /// How many events its workers were given.
    pub events: u64,
    /// Everything that happened, if a trace was asked for.
    pub trace: Option<Trace>,
    pub(crate) recording: Option<crate::told::recording::Recording>,
    pub(crate) timeline: Vec<TimelineEntry>,
    pub(crate) measured_from: crate::world::clock::Moment,
    pub(crate) ended: crate::world::clock::Moment,
}

/// Something measured beside what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What was measured.
    pub what: &'static str,
    /// The value.
    pub measured: String,
    /// What it should be.
    pub expected: String,
    /// Whether it is.
    pub held: bool,
    /// What it means if it is not.
    pub kind: Kind,
}

/// What a run is to keep for later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Every line of the trace.
    pub trace: bool,
    /// What the report draws.
    pub recording: bool,
}

impl Scenario {
    /// Every scenario, in the order in which they are listed.
    pub fn all() -> Vec<Self> {
        [
            scaling::SCENARIOS,
            crashes::SCENARIOS,
            restarts::SCENARIOS,
            outages::SCENARIOS,
            lists::SCENARIOS,
            loads::SCENARIOS,
            operators::SCENARIOS,
            messages::SCENARIOS,
            queues::SCENARIOS,
        ]
        .concat()
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scenario| scenario.name == name)
    }

    /// The setting of the scenario, with another number of workers and partitions where one is given.
    pub fn options(&self, seed: u64, workers: Option<u32>, partitions: Option<u32>) -> Options {
        let mut options = Options {
            seed,
            workers: workers.unwrap_or(self.workers),
            partitions: partitions.unwrap_or(self.partitions),
            ..Options::default()
        };
        options.worker.slots = options.worker.slots.max(options.workers.saturating_mul(4));
        (self.adjust)(&mut options);
        options
    }

    /// Plays the scenario in this setting.
    pub fn run(&self, options: &Options, keep: Keep) -> Outcome {
        let mut stage = Stage::new(options, keep);
        (self.act)(&mut stage);
        stage.close(self.name, self.marks)
    }
}

impl Outcome {
    /// What came of it, in a word or two.
    pub fn verdict(&self) -> &'static str {
        match self.exit_code() {
            0 => "held",
            4 => "NOTHING WAS SHOWN",
            _ => "DID NOT HOLD",
        }
    }

    /// The command that plays it again.
    pub fn again(&self) -> String {
        let Figures { scenario, workers, partitions, seed, .. } = &self.figures;
        let plain = format!(
            "cargo run -p parti-sim -- scenario {scenario} --workers {workers} --partitions {partitions} --seed {seed}"
        );
        #[cfg(feature = "planted-bugs")]
        if let Some(plant) = self.options.plant {
            return format!("{plain} --plant {plant}");
        }
        plain
    }

    /// What never came to be though the scenario is about it, and what to do about that; `None` if all of it did.
    pub fn why_nothing_was_shown(&self) -> Option<String> {
        if self.missed.is_empty() {
            return None;
        }
        let missed: Vec<_> = self.missed.iter().map(|mark| format!("{} ({mark:?})", mark.words())).collect();
        let Figures { workers, partitions, .. } = self.figures;
        let why = if workers < 2 {
            format!("With {workers} worker nobody is there to take over: give it 2 or more.")
        } else {
            format!("{workers} workers and {partitions} partitions are too few for it: give it more, or neither.")
        };
        Some(format!("nothing was shown, since this never came to be: {}.\n{why}", missed.join("; ")))
    }

    /// The exit code that tells a script what came of it: 0 held, 1 safety, 3 liveness, 4 vacuous.
    pub fn exit_code(&self) -> u8 {
        let broken = |kind| {
            self.violation.as_ref().is_some_and(|violation| violation.kind == kind)
                || self.expectations.iter().any(|expectation| !expectation.held && expectation.kind == kind)
        };
        match (broken(Kind::Safety), broken(Kind::Liveness), self.missed.is_empty()) {
            (true, _, _) => 1,
            (false, true, _) => 3,
            (false, false, false) => 4,
            (false, false, true) => 0,
        }
    }
}
