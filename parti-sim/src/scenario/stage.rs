//! Where scenarios are played: a world, a stop-watch, and a list of expectations.

use std::time::Duration;

use parti_core::{Command, Slot};

use super::{Expectation, Keep, Outcome};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::check::ownership::WindowFigures;
use crate::rng::Rng;
use crate::setting::birth::Birth;
use crate::setting::options::Options;
use crate::told::fact::{Fact, ProcessId};
use crate::told::figures::{Counts, Figures};
use crate::told::recording::Recording;
use crate::told::trace::Trace;
use crate::world::World;
use crate::world::clock::Moment;

/// How long anything may take before a scenario is given up.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// Over how long the workers of a fleet start.
const START_SPREAD: Duration = Duration::from_secs(1);

/// A world that a scenario acts on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) world: World,
    /// Chooses who is hit.
    pub(crate) rng: Rng,
    expectations: Vec<Expectation>,
    pub(crate) measured_from: Moment,
}

impl Stage {
    pub(crate) fn new(options: &Options, keep: Keep) -> Self {
        Self::of(World::new(options), keep)
    }

    /// The stage of a world that is there.
    pub(crate) fn of(mut world: World, keep: Keep) -> Self {
        world.ground.observers.trace = keep.trace.then(Trace::default);
        world.ground.observers.recording = keep.recording.then(Recording::default);
        let rng = Rng::for_purpose(world.ground.options.seed, "scenario");
        Self { world, rng, expectations: Vec::new(), measured_from: Moment::START }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.world.ground.options
    }

    /// Starts all workers, one shortly after the other, and waits until the work is divided.
    pub(crate) fn begin(&mut self) {
        self.start_fleet(|_| Birth::default());
        self.calm();
        self.settle();
    }

    /// The same, with a slot of its own for each worker, as a `StatefulSet` does.
    pub(crate) fn begin_with_ordinals(&mut self) {
        self.start_fleet(ordinal);
        self.calm();
        self.settle();
    }

    /// From here on, nothing is wrong with the world unless the scenario says so.
    pub(crate) fn calm(&mut self) {
        self.world.ground.tell(&Fact::Healed);
    }

    /// Starts all workers, one shortly after the other.
    pub(crate) fn start_fleet(&mut self, birth: impl Fn(u32) -> Birth) {
        let workers = self.options().workers;
        self.operate(&format!("starts {workers} workers"), true);
        for number in 0..workers {
            self.world.start(birth(number));
            self.run_for(START_SPREAD / workers.max(1));
        }
    }

    /// Starts `count` more workers, one shortly after the other.
    pub(crate) fn start_more(&mut self, count: u32) {
        self.operate(&format!("starts {count} more workers"), true);
        for _ in 0..count {
            self.world.start(Birth::default());
            self.run_for(START_SPREAD / count.max(1));
        }
    }

    /// Tells that someone does something on purpose.
    pub(crate) fn operate(&mut self, what: &str, may_move: bool) {
        self.world.ground.tell(&Fact::Operated { what, may_move });
    }

    /// Tells that something goes wrong.
    pub(crate) fn disturb(&mut self, what: &str, may_move: bool) {
        self.world.ground.tell(&Fact::Disturbed { what, may_move });
    }

    /// Begins to take figures.
    pub(crate) fn measure(&mut self) {
        self.measured_from = self.world.ground.now;
        self.world.ground.observers.ownership.open_window(self.world.ground.now);
        self.world.ground.observers.messages.open_window(self.world.ground.now);
        let events = self.world.ground.observers.counts.events;
        self.world.ground.observers.counts = Counts { events, ..Counts::default() };
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.world.ground.now + time;
        while self.is_on() && self.world.step(until) {}
    }

    /// Lets time pass until `reached`, and says whether that came to be.
    pub(crate) fn run_until(&mut self, limit: Duration, mut reached: impl FnMut(&World) -> bool) -> bool {
        let until = self.world.ground.now + limit;
        while self.is_on() {
            if reached(&self.world) {
                return true;
            }
            if !self.world.step(until) {
                break;
            }
        }
        reached(&self.world)
    }

    /// Waits until every partition has one owner and nothing has moved for longer than any window lasts.
    pub(crate) fn settle(&mut self) {
        let quiet = self.quiet();
        let from = self.world.ground.now;
        let settled = self.run_until(PATIENCE, |world| {
            let ownership = &world.ground.observers.ownership;
            ownership.is_even() && world.ground.now.since(ownership.last_change().max(from)) > quiet
        });
        if !settled {
            let unowned = self.world.ground.observers.ownership.unowned();
            self.expect(Kind::Liveness, "settles", format!("{unowned} unowned"), "all owned once", false);
        }
    }

    /// How long nothing must move until nothing more is to be expected.
    pub(crate) fn quiet(&self) -> Duration {
        let worker = &self.options().worker;
        Duration::from_millis(worker.rebalance_interval_ms + worker.planned_scale_window_ms + 3_000)
    }

    /// Notes something measured beside what was expected.
    pub(crate) fn expect(
        &mut self,
        kind: Kind,
        what: &'static str,
        measured: impl std::fmt::Display,
        expected: impl std::fmt::Display,
        held: bool,
    ) {
        let (measured, expected) = (measured.to_string(), expected.to_string());
        self.expectations.push(Expectation { what, measured, expected, held, kind });
    }

    /// Expects that no partition ever had two owners.
    pub(crate) fn expect_no_duplicate(&mut self) {
        let duplicate = self.window().duplicate;
        self.expect(Kind::Safety, "duplicate partition-seconds", show(duplicate), "0", duplicate.is_zero());
    }

    /// Expects that nothing went from one slot to another.
    pub(crate) fn expect_nothing_moved(&mut self) {
        let moved = self.window().moved;
        self.expect(Kind::Safety, "partitions moved", moved, "0", moved == 0);
        let rounds = self.world.ground.observers.counts.rounds;
        self.expect(Kind::Safety, "rebalances", rounds, "0", rounds == 0);
    }

    /// Expects that no planned round took more partitions from those who stay than it may.
    pub(crate) fn expect_rounds_within_budget(&mut self) {
        let budget = self.options().partitions as usize * self.options().worker.move_budget_percent as usize;
        let (largest, most) = (self.world.ground.observers.counts.largest_round, budget.div_ceil(100));
        self.expect(Kind::Safety, "most moved in one round", largest, format!("<= {most}"), largest <= most);
    }

    /// Expects that no partition was without an owner for longer.
    pub(crate) fn expect_orphans_within(&mut self, most: Duration) {
        let longest = self.window().longest_orphan;
        let expected = format!("<= {}", show(most));
        self.expect(Kind::Liveness, "longest time without an owner", show(longest), expected, longest <= most);
    }

    /// Expects that all was well again by then.
    pub(crate) fn expect_recovery_within(&mut self, most: Duration) {
        let recovery = self.window().recovery;
        self.expect(Kind::Liveness, "recovery", show(recovery), format!("<= {}", show(most)), recovery <= most);
    }

    /// What the window has added up to.
    pub(crate) fn window(&self) -> WindowFigures {
        self.world.ground.observers.ownership.figures(self.world.ground.now)
    }

    /// The process that leads.
    pub(crate) fn leader(&self) -> Option<ProcessId> {
        self.world.ground.living().find(|(_, process)| process.status.leader).map(|(process, _)| process)
    }

    /// Some process that does not lead.
    pub(crate) fn any_follower(&mut self) -> Option<ProcessId> {
        let followers = self.followers();
        followers.get(self.rng.index(followers.len())).copied()
    }

    /// The processes that do not lead, in order of their starts.
    pub(crate) fn followers(&self) -> Vec<ProcessId> {
        let leader = self.leader();
        self.world.ground.all_living().into_iter().filter(|process| Some(*process) != leader).collect()
    }

    /// The processes that run, in order of their starts.
    pub(crate) fn all(&self) -> Vec<ProcessId> {
        self.world.ground.all_living()
    }

    /// Asks a worker to hand over and leave.
    pub(crate) fn leave(&mut self, process: ProcessId) {
        self.world.command(process, Command::Leave);
    }

    /// Ends a process without a word, if there is one.
    pub(crate) fn crash(&mut self, process: Option<ProcessId>) {
        if let Some(process) = process {
            self.world.crash(process);
        }
    }

    /// Ends a process without a word, and starts another one like it, which knows that.
    pub(crate) fn replace(&mut self, process: Option<ProcessId>) {
        let Some(process) = process else { return };
        let birth = self.world.ground.process(process).birth.clone();
        self.world.crash(process);
        self.world.start(Birth { predecessor_is_dead: birth.preferred_slot.is_some(), ..birth });
    }

    /// Nothing has broken an invariant.
    pub(crate) const fn is_on(&self) -> bool {
        self.world.ground.observers.violation.is_none()
    }

    /// Takes the figures, and looks at how things ended.
    pub(crate) fn close(mut self, name: &str, required: &[Mark]) -> Outcome {
        self.world.ground.observers.finish(self.world.ground.now);
        self.expect_no_duplicate();
        let Self { world, expectations, measured_from, .. } = self;
        let observers = world.ground.observers;
        let mut figures =
            Figures::take(name, &world.ground.options, &observers.ownership, &observers.counts, world.ground.now);
        let missed = observers.marks.missed(required);
        let broken = expectations.iter().any(|expectation| !expectation.held);
        figures.held = observers.violation.is_none() && missed.is_empty() && !broken;
        Outcome {
            figures,
            expectations,
            violation: observers.violation,
            missed,
            marks: observers.marks,
            options: world.ground.options,
            virtual_s: world.ground.now.as_secs(),
            events: observers.counts.events,
            trace: observers.trace,
            recording: observers.recording,
            timeline: observers.timeline,
            measured_from,
            ended: world.ground.now,
        }
    }
}

/// A process with a slot of its own.
pub(crate) fn ordinal(number: u32) -> Birth {
    Birth { preferred_slot: Some(Slot::new(number)), ..Birth::default() }
}

/// A duration as people read it.
pub(crate) fn show(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
