//! Random worlds from a seed: random faults in a safety phase, then healing, then a deadline by which all must be well.

mod deed;
mod loads;
mod loss;
mod messages;
mod perform;
mod provoke;
mod random;
mod shrink;
mod trouble;

use std::time::Duration;

pub use deed::{Act, Deed, Left, OnMessages, ToAll, ToOne, Trouble, Under, Wish};
pub use messages::WithMessages;
pub use random::Plan;
pub use shrink::{Shrunk, shrink};

use parti_core::Slot;

use crate::check::invariant::{Kind, Violation};
use crate::check::reached::Marks;
use crate::setting::birth::Birth;
use crate::setting::options::Options;
use crate::told::fact::{Fact, ProcessId};
use crate::told::flights::Flights;
use crate::told::trace::Trace;
use crate::world::World;
use crate::world::clock::Moment;

/// How many rounds of moves may follow the healing.
const MAX_ROUNDS: u64 = 12;

/// What came of one random world.
#[derive(Debug)]
pub struct Run {
    /// The first breach of an invariant.
    pub violation: Option<Violation>,
    /// What was reached.
    pub marks: Marks,
    /// Everything that happened, if it was asked for.
    pub trace: Option<Trace>,
    /// How many events the workers were given.
    pub events: u64,
    /// How much virtual time passed, in seconds.
    pub virtual_s: f64,
}

/// Lets a random world happen.
pub fn run(plan: &Plan, keep_trace: bool) -> Run {
    let mut happening = Happening { world: World::new(&plan.options) };
    happening.world.ground.observers.trace = keep_trace.then(Trace::default);
    happening.play(plan);
    let world = happening.world;
    Run {
        violation: world.ground.observers.violation,
        marks: world.ground.observers.marks,
        trace: world.ground.observers.trace,
        events: world.ground.observers.counts.events,
        virtual_s: world.ground.now.as_secs(),
    }
}

/// Lets a random world happen, and records what each worker is told, in segments of so many events: the segments of each
/// process, in order of the starts. See [`parti_core::recording`].
pub fn record(plan: &Plan, events: u64) -> Vec<Vec<Vec<u8>>> {
    let mut happening = Happening { world: World::new(&plan.options) };
    happening.world.flights = Some(Box::new(Flights::new(events)));
    happening.play(plan);
    happening.world.flights.map(|flights| flights.segments()).unwrap_or_default()
}
/// How long those that have died again and again soon after their start may still get no work when all faults are over: the
/// longest pause. Two messages that end their process, and come again with positions that were lost, make more than five deaths.
const LONGEST_RESTS: Duration = Duration::from_secs(300);

/// How long messages are published when all faults are over.
const PUBLISHES_FOR: Duration = Duration::from_secs(5);

/// How long a worker does not get what it has given up.
const GIVEN_UP_FOR: Duration = Duration::from_secs(60);

/// A world that a plan happens to.
struct Happening {
    world: World,
}

impl Happening {
    fn play(&mut self, plan: &Plan) {
        self.begin(plan);
        for act in &plan.acts {
            self.run_until_ms(plan.begins_ms + act.at_ms);
            if self.is_over() {
                break;
            }
            self.perform(&act.deed);
        }
        if !self.is_over() {
            self.run_for(Duration::from_millis(plan.lingers_ms));
        }
        if !self.is_over() {
            self.end_well(plan);
        }
    }

    fn is_over(&self) -> bool {
        self.world.ground.observers.violation.is_some()
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.world.ground.now + time;
        while !self.is_over() && self.world.step(until) {}
    }

    fn run_until_ms(&mut self, ms: u64) {
        let until = Moment::from_millis(ms);
        while !self.is_over() && self.world.step(until) {}
    }

    /// Starts the first workers, and lets them settle where the plan says so.
    fn begin(&mut self, plan: &Plan) {
        self.world.ground.tell(&Fact::Operated { what: "starts the workers", may_move: true });
        for number in 0..plan.options.workers {
            let preferred_slot = plan.ordinals.then(|| Slot::new(number));
            let birth = self.newcomer(preferred_slot);
            self.world.start(birth);
            self.run_for(Duration::from_millis(plan.start_gap_ms));
        }
        self.run_until_ms(plan.begins_ms);
    }

    /// Ends all faults, and gives everything time to become well.
    fn end_well(&mut self, plan: &Plan) {
        self.world.heal();
        if let Some(mut delivering) = self.world.delivering() {
            delivering.close_after(PUBLISHES_FOR);
        }
        self.run_for(Duration::from_millis(1)); // those that were paused run again
        self.world.take_back_wishes();
        let stays = |(_, process): (ProcessId, &crate::world::process::Process)| {
            process.status.state != parti_core::WorkerState::Shutdown
        };
        if !self.world.ground.living().any(stays) {
            self.world.ground.tell(&Fact::Operated { what: "starts a worker, since none is left", may_move: true });
            let birth = self.newcomer(None);
            self.world.start(birth);
        }
        let worker = &self.world.ground.options.worker;
        let windows = worker.cold_start_window_ms + worker.restart_hold_ms + worker.surge_wait_ms;
        let rounds = MAX_ROUNDS * (worker.rebalance_interval_ms + worker.planned_scale_window_ms);
        let drains = worker.release_timeout_ms; // one that was slow may have begun before the healing
        // What has moved rests, and what is judged by its load is judged again then.
        let measured = if self.world.ground.options.loads.are_measured() { 10 * worker.load_half_life_ms } else { 0 };
        // After a loss of writes the leases of forgotten holders are waited out, by the last of several leaders anew.
        let leases = if self.world.ground.observers.has_regressed() { 9 } else { 4 };
        let least = self.world.ground.options.observed_lease() * leases
            + Duration::from_millis(windows + drains + measured + self.world.ground.options.network.reread_ms.1);
        let quiet = Duration::from_millis(worker.rebalance_interval_ms + worker.planned_scale_window_ms + 3_000);
        let gives_up = plan.acts.iter().any(|act| matches!(act.deed, Deed::One(ToOne::GiveUp { .. })));
        let least = self.world.ground.now + least + if gives_up { GIVEN_UP_FOR } else { Duration::ZERO };
        let deadline = least + Duration::from_millis(rounds) + quiet + LONGEST_RESTS;
        let mut from = Moment::START;
        while !self.is_over() {
            if self.world.ground.has_resting() {
                from = self.world.ground.now; // who gets work again is what happens next
            }
            if self.world.ground.now < least && self.world.step(least) {
                continue;
            }
            let ownership = &self.world.ground.observers.ownership;
            let rests = ownership.is_even() && self.world.ground.now.since(ownership.last_change().max(from)) > quiet;
            if rests && self.world.ground.observers.all_is_done() {
                break;
            }
            if !self.world.step(deadline) {
                break;
            }
        }
        self.world.ground.observers.finish(self.world.ground.now);
        self.check_settled(quiet);
    }

    fn check_settled(&mut self, quiet: Duration) {
        let ownership = &self.world.ground.observers.ownership;
        if self.is_over() || self.world.ground.now.since(ownership.last_change()) > quiet {
            return;
        }
        self.world.ground.observers.violation = Some(Violation {
            invariant: "settles",
            guarantee: "G2, G5",
            kind: Kind::Liveness,
            sentence: format!("partitions still moved at {}, long after all faults", ownership.last_change()),
            at: self.world.ground.now,
            process: None,
            partition: None,
            partition_id: None,
        });
    }

    /// One of those that live, if any does.
    fn pick(&self, who: u32) -> Option<ProcessId> {
        let living = self.world.ground.all_living();
        if living.is_empty() { None } else { Some(living[who as usize % living.len()]) }
    }

    /// The next worker, as the world lets workers differ. Where it has a slot of its own, nobody else ever asks for that.
    fn newcomer(&self, preferred_slot: Option<Slot>) -> Birth {
        let Options { mix, zones, .. } = &self.world.ground.options;
        let number = u32::try_from(self.world.ground.processes.len()).unwrap_or(0);
        let preferred_slot = if mix.dead_predecessors { Some(Slot::new(number)) } else { preferred_slot };
        mix.apply(Birth { preferred_slot, ..Birth::default() }, number, *zones)
    }

    fn birth_of(&self, process: ProcessId) -> Birth {
        self.world.ground.process(process).birth.clone()
    }
}
