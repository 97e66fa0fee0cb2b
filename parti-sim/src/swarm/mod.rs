//! Random worlds from a seed: random faults in a safety phase, then healing, then a deadline by which all must be well.

mod loss;
mod provoke;
mod random;
mod shrink;
mod trouble;

use std::time::Duration;

pub use random::{Act, Deed, Plan, Wish};
pub use shrink::{Shrunk, shrink};
pub use trouble::{Trouble, Under};

use parti_core::{Bucket, Command, Key, Slot};

use crate::check::invariant::{Kind, Violation};
use crate::check::reached::Marks;
use crate::rng::Rng;
use crate::setting::birth::Birth;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::told::trace::Trace;
use crate::world::World;
use crate::world::process::Life;

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
    happening.begin(plan);
    for act in &plan.acts {
        happening.run_until_ms(plan.begins_ms + act.at_ms);
        if happening.is_over() {
            break;
        }
        happening.perform(&act.deed);
    }
    if !happening.is_over() {
        happening.run_for(Duration::from_millis(plan.lingers_ms));
    }
    if !happening.is_over() {
        happening.end_well(plan);
    }
    let world = happening.world;
    Run {
        violation: world.ground.observers.violation,
        marks: world.ground.observers.marks,
        trace: world.ground.observers.trace,
        events: world.ground.observers.counts.events,
        virtual_s: world.ground.now.as_secs(),
    }
}

/// How long those that have died again and again soon after their start may still get no work when all faults are over:
/// the pauses after up to five early deaths of one worker.
const LONGEST_RESTS: Duration = Duration::from_secs(160);

/// How long a worker does not get what it has given up.
const GIVEN_UP_FOR: Duration = Duration::from_secs(60);

/// A world that a plan happens to.
struct Happening {
    world: World,
}

impl Happening {
    fn is_over(&self) -> bool {
        self.world.ground.observers.violation.is_some()
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.world.ground.now + time;
        while !self.is_over() && self.world.step(until) {}
    }

    fn run_until_ms(&mut self, ms: u64) {
        let until = crate::world::clock::Moment::from_millis(ms);
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
        // After a loss of writes the leases of forgotten holders are waited out, by the last of several leaders anew.
        let leases = if self.world.ground.observers.has_regressed() { 9 } else { 4 };
        let least = self.world.ground.options.observed_lease() * leases
            + Duration::from_millis(windows + drains + self.world.ground.options.network.reread_ms.1);
        let quiet = Duration::from_millis(worker.rebalance_interval_ms + worker.planned_scale_window_ms + 3_000);
        self.run_for(least);
        if plan.acts.iter().any(|act| matches!(act.deed, Deed::GiveUp { .. })) {
            self.run_for(GIVEN_UP_FOR);
        }
        let deadline = self.world.ground.now + Duration::from_millis(rounds) + quiet + LONGEST_RESTS;
        while !self.is_over() {
            let ownership = &self.world.ground.observers.ownership;
            if ownership.is_even() && self.world.ground.now.since(ownership.last_change()) > quiet {
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

    fn perform(&mut self, deed: &Deed) {
        let what = format!("{deed:?}");
        let may_move = deed.may_move();
        if deed.is_fault() {
            self.world.ground.tell(&Fact::Disturbed { what: &what, may_move });
        } else {
            self.world.ground.tell(&Fact::Operated { what: &what, may_move });
        }
        if let Some(who) = deed.who() {
            if let Some(process) = self.pick(who) {
                self.perform_on(process, deed);
            }
        } else {
            self.perform_on_all(deed);
        }
    }

    fn perform_on(&mut self, process: ProcessId, deed: &Deed) {
        let ms = Duration::from_millis;
        match *deed {
            Deed::Crash { .. } => self.world.crash(process),
            Deed::CrashAndReplace { after_ms, .. } => self.world.crash_and_replace(process, ms(after_ms)),
            Deed::Restart { gap_ms, .. } => {
                let birth = Birth { predecessor_is_dead: false, ..self.birth_of(process) };
                if self.world.ground.process(process).life == Life::Running {
                    self.world.restart(process, ms(gap_ms), birth);
                }
            }
            Deed::Leave { .. } => self.world.command(process, Command::Leave),
            Deed::RebalanceNow { .. } => self.world.command(process, Command::RebalanceNow),
            Deed::Drain { drains, .. } => {
                self.world.command(process, if drains { Command::Drain } else { Command::Undrain });
            }
            Deed::GiveUp { which, .. } => self.world.give_up(process, which),
            Deed::Upgrade { software, .. } => {
                let birth = Birth { software: software.to_string(), ..self.birth_of(process) };
                self.world.start_in_turn(Birth { predecessor_is_dead: false, ..birth });
                self.world.command(process, Command::Restart);
            }
            Deed::Freeze { for_ms, .. } => self.world.freeze(process, ms(for_ms)),
            Deed::Pause { for_ms, .. } => self.world.pause(process, ms(for_ms)),
            Deed::Isolate { for_ms, closed, .. } => self.world.links().isolate(process, Some(ms(for_ms)), closed),
            Deed::SilenceWatch { for_ms, plan, .. } => {
                let until = self.world.ground.now + ms(for_ms);
                self.world.watchers.silence(process, bucket(plan), until);
            }
            Deed::BreakWatch { plan, .. } => self.world.at_store().break_watch(process, bucket(plan)),
            Deed::FalselyGone { for_ms, .. } => {
                let until = self.world.ground.now + ms(for_ms);
                self.world.ground.process_mut(process).falsely_gone_until = until;
            }
            Deed::Reconnect { .. } => self.world.reconnect_unheard(process),
            Deed::TakeSubscription { for_ms, told, .. } => {
                self.world.probing().take_subscription(process, ms(for_ms), told)
            }
            Deed::SlowApplication { percent, .. } => self.world.ground.process_mut(process).drain_percent = percent,
            Deed::Trouble(ref trouble) => self.trouble_one(process, trouble),
            Deed::Join { .. }
            | Deed::Wish { .. }
            | Deed::CutRoute { .. }
            | Deed::StallServer { .. }
            | Deed::IsolateAll { .. }
            | Deed::StoreDown { .. }
            | Deed::StoreFull { .. }
            | Deed::ServerDown { .. }
            | Deed::RollBack { .. }
            | Deed::Recreate { .. }
            | Deed::BringBack { .. }
            | Deed::Purge { .. }
            | Deed::ChangeList { .. }
            | Deed::Garbage { .. } => {}
        }
    }

    fn perform_on_all(&mut self, deed: &Deed) {
        let ms = Duration::from_millis;
        match *deed {
            Deed::Join { ordinal } => {
                let birth = self.newcomer(ordinal.map(Slot::new));
                self.world.start(birth);
            }
            Deed::Wish { wish, wanted } => self.world.at_store().wish(wish.control(), wanted),
            Deed::IsolateAll { for_ms, closed } => self.world.links().isolate_all(ms(for_ms), closed),
            Deed::CutRoute { one, other, for_ms } => self.world.probing().cut_route(one, other, ms(for_ms)),
            Deed::StallServer { server, for_ms } => self.world.probing().stall_server(server, ms(for_ms)),
            Deed::StoreDown { for_ms } => self.world.links().store_down(ms(for_ms)),
            Deed::StoreFull { for_ms } => self.world.links().store_full(ms(for_ms)),
            Deed::ServerDown { for_ms } => self.world.links().server_down(ms(for_ms)),
            Deed::RollBack { plan, writes, for_ms } => {
                self.world.at_store().roll_back(bucket(plan), writes as usize, ms(for_ms))
            }
            Deed::Recreate { plan, unknowing } => self.world.at_store().recreate(bucket(plan), unknowing),
            Deed::BringBack { plan, writes, for_ms } => {
                self.world.at_store().bring_back(bucket(plan), writes as usize, ms(for_ms));
            }
            Deed::Purge { plan } => self.world.at_store().purge(bucket(plan)),
            Deed::ChangeList { seed, keep_percent } => {
                let keeps = |partition: PartitionIndex| {
                    Rng::new(seed ^ partition.index() as u64).below(100) < u64::from(keep_percent)
                };
                self.world.set_list(keeps);
            }
            Deed::Garbage { slot, plan } => {
                let slot = Slot::new(slot);
                let key = if plan { Key::Assign(slot) } else { Key::Slot(slot) };
                self.world.at_store().write_garbage(key);
            }
            Deed::Crash { .. }
            | Deed::CrashAndReplace { .. }
            | Deed::Restart { .. }
            | Deed::Leave { .. }
            | Deed::RebalanceNow { .. }
            | Deed::Drain { .. }
            | Deed::GiveUp { .. }
            | Deed::Upgrade { .. }
            | Deed::Pause { .. }
            | Deed::Freeze { .. }
            | Deed::Isolate { .. }
            | Deed::SilenceWatch { .. }
            | Deed::BreakWatch { .. }
            | Deed::FalselyGone { .. }
            | Deed::Reconnect { .. }
            | Deed::TakeSubscription { .. }
            | Deed::SlowApplication { .. } => {}
            Deed::Trouble(ref trouble) => self.trouble_all(trouble),
        }
    }
}

const fn bucket(plan: bool) -> Bucket {
    if plan { Bucket::Plan } else { Bucket::Members }
}
