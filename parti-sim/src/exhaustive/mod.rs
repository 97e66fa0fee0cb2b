//! The exhaustive check: small worlds of the real [`parti_core::Worker`], in every order of what can happen.
//!
//! From a beginning on, every message under way may come next, every timer that is due may fire, and, as often as the
//! bound says, something may go wrong: see [`Fault`]. Time passes, to the next timer, only when nothing is under way
//! that is not late. The invariants are those of the other runs, looked at after each step. States that differ only in
//! names and in when they are reached are one state. States with fewer faults are visited first, and among those the
//! ones that come sooner after the last fault. A search that ends early has thus seen everything that can happen within
//! some time after a fault at any moment, and says within which.
//!
//! What is complete, with two workers and one partition: every beginning without faults; a settled group, and one that a
//! worker joins, with one crash, pause, cut or late message. The tests look at all of that, but of a cut while one joins
//! (110 000 states) only at what can happen within a lease of it. Not complete: a fresh group with one fault, whose
//! workers write everything at once. Ten minutes show all that can happen there within 4.5 s of a crash (205 000 states),
//! which is a lease as others see it; the tests look at the first 6 000. The command goes on for as long as it is told to,
//! and says of each whether it has seen all, or else within which time after the fault.

mod fingerprint;
mod state;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use parti_core::Revision;

use self::fingerprint::{PLAN_BEGINS_AT, Read, fingerprint};
pub use self::state::{Fault, Orders};
use self::state::{State, Step, Told};
use crate::clock::{Moment, nanos};
use crate::invariant::Violation;
use crate::mark::Marks;
use crate::options::{ApplicationOptions, NetworkOptions, Options, WorkerOptions};
use crate::plant::Plant;
use crate::process::Birth;
use crate::store::Store;
use crate::trace::Trace;
use crate::world::World;

/// The invariants that say what must never happen. The others are about bounds in time and about large groups.
const INVARIANTS: [&str; 8] =
    ["no-duplicate", "tokens-increase", "one-writer", "one-tenure", "monotone", "state-table", "contract", "bounded"];
/// How many states that are still to be looked at are kept as they are; the others are made again from their paths.
const KEPT: usize = 50_000;
/// How long a beginning may take to come about.
const PATIENCE: Moment = Moment::from_millis(600_000);

/// How large the worlds are, how they begin, and how far they are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many workers.
    pub workers: u32,
    /// How many partitions.
    pub partitions: u32,
    /// What there is at first.
    pub beginning: Beginning,
    /// Which things may come in any order, if nothing goes wrong.
    pub orders: Orders,
    /// How often something may go wrong.
    pub faults: u32,
    /// What may go wrong.
    pub kinds: Vec<Fault>,
    /// The longest path.
    pub depth: u32,
    /// A deliberate bug.
    pub plant: Option<Plant>,
}

/// What there is at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Beginning {
    /// An empty store, and workers that start at once.
    Fresh,
    /// A group in which everything has an owner.
    Settled,
    /// Such a group but for one worker, which starts now and is to get its share.
    Joining,
}

impl Beginning {
    /// Every beginning.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Settled, Self::Joining];
}

impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Settled => "settled",
            Self::Joining => "joining",
        })
    }
}

/// How far a search has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many steps were tried: states seen, the same ones again included.
    pub seen: u64,
    /// How many different states there were.
    pub distinct: u64,
    /// How many of those are still to be looked at.
    pub open: u64,
    /// The longest path so far.
    pub depth: u32,
    /// How many faults the paths have that are looked at now.
    pub faults: u32,
    /// How long after the last fault, or after the beginning, the states are that are looked at now.
    pub after: Duration,
}

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    /// How far it has come.
    pub progress: Progress,
    /// Of each number of faults that was gone into: how many different states it added, and whether those are all.
    pub levels: Vec<Level>,
    /// How often each mechanism was reached.
    pub marks: Marks,
    /// The first failure, and the path to it.
    pub failure: Option<Box<Failure>>,
}

/// The states with a certain number of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How many different states.
    pub states: u64,
    /// The longest path to one of them.
    pub depth: u32,
    /// Whether every one was looked at.
    pub complete: bool,
    /// Every one was looked at that comes sooner than this after the last fault, or after the beginning.
    pub within: Duration,
}

impl Level {
    /// Whether everything was looked at that can happen in this time after the last fault, or after the beginning.
    pub fn has_all_within(&self, time: Duration) -> bool {
        self.complete || self.within > time
    }
}

/// An invariant that does not hold, and how it came to that.
#[derive(Debug)]
pub struct Failure {
    /// What does not hold.
    pub violation: Violation,
    /// What happened, step by step, each with what the workers did about it.
    pub path: Vec<String>,
}

/// Looks at every state within the bounds, until an invariant does not hold or `goes_on` says no, which is asked from
/// time to time.
pub fn search(bounds: &Bounds, mut goes_on: impl FnMut(&Progress) -> bool) -> Found {
    let mut search = Search::new(bounds);
    for faults in 0..=bounds.faults as usize {
        search.progress.faults = u32::try_from(faults).unwrap_or(u32::MAX);
        while let Some((after, open)) = search.next(faults) {
            search.progress.after = Duration::from_nanos(after);
            if search.is_time_to_ask() && !goes_on(&search.progress) {
                search.levels[faults].within = search.progress.after;
                search.levels[faults].complete = false;
                return search.end(None);
            }
            if let Some(failure) = search.look_at(open) {
                search.levels[faults].within = search.progress.after;
                search.levels[faults].complete = false;
                return search.end(Some(failure));
            }
        }
    }
    search.end(None)
}

/// A state that is still to be looked at.
#[derive(Clone)]
struct Open {
    print: u64,
    node: u32,
    depth: u32,
    kept: Option<Box<Kept>>,
}

/// A state, and what was read of its processes.
#[derive(Clone)]
struct Kept {
    state: State,
    read: Read,
}

struct Search<'a> {
    bounds: &'a Bounds,
    root: State,
    /// Where each state came from: the state before and the step.
    nodes: Vec<(u32, Option<Step>)>,
    /// By fingerprint, how soon after the last fault each state can be, in nanoseconds.
    seen: HashMap<u64, u64>,
    /// By number of faults, and by how long after the last fault, in nanoseconds.
    open: Vec<BTreeMap<u64, VecDeque<Open>>>,
    /// How many states were taken up, the same ones again included.
    taken: u64,
    levels: Vec<Level>,
    progress: Progress,
    marks: Marks,
}

impl<'a> Search<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        let root = beginning(bounds);
        let levels = bounds.faults as usize + 1;
        let mut search = Self {
            bounds,
            root: root.clone(),
            nodes: Vec::new(),
            seen: HashMap::new(),
            open: vec![BTreeMap::new(); levels],
            taken: 0,
            levels: vec![Level { states: 0, depth: 0, complete: true, within: Duration::ZERO }; levels],
            progress: Progress::default(),
            marks: Marks::default(),
        };
        let (print, read) = fingerprint(&root, &[]);
        search.add(print, (0, None), 0, Kept { state: root, read });
        search
    }

    /// The next state to look at, and how long after the last fault it is.
    fn next(&mut self, faults: usize) -> Option<(u64, Open)> {
        loop {
            let mut soonest = self.open[faults].first_entry()?;
            let after = *soonest.key();
            let Some(open) = soonest.get_mut().pop_front() else {
                soonest.remove();
                continue;
            };
            self.progress.open -= 1;
            self.taken += 1;
            // One that can come sooner was looked at then.
            if self.seen[&open.print] == after {
                return Some((after, open));
            }
        }
    }

    fn is_time_to_ask(&self) -> bool {
        self.taken.is_multiple_of(100)
    }

    /// Tries everything that can happen next.
    fn look_at(&mut self, open: Open) -> Option<Box<Failure>> {
        let Open { node, depth, kept, .. } = open;
        if depth >= self.bounds.depth {
            let faults = self.progress.faults as usize;
            self.levels[faults].complete = false;
            return None;
        }
        let before = kept.unwrap_or_else(|| Box::new(self.make_again(node)));
        let can_be_late = before.state.faults_left > 0 && self.bounds.kinds.contains(&Fault::Late);
        for step in before.state.choices(&self.bounds.kinds) {
            let followed = match self.try_step(node, depth, &before, step) {
                Ok(followed) => followed,
                Err(failure) => return Some(failure),
            };
            if let (Step::Happen(number), true) = (step, can_be_late) {
                for late in 0..followed {
                    if let Err(failure) = self.try_step(node, depth, &before, Step::HappenBut(number, late)) {
                        return Some(failure);
                    }
                }
            }
        }
        None
    }

    fn try_step(&mut self, node: u32, depth: u32, before: &Kept, step: Step) -> Result<u32, Box<Failure>> {
        let mut state = before.state.clone();
        let followed = state.take(step);
        self.progress.seen += 1;
        self.marks.add(&std::mem::take(&mut state.world.observers.marks));
        if let Some(violation) = state.world.observers.violation.take() {
            return Err(Box::new(Failure { violation, path: self.tell(node, step) }));
        }
        let (print, read) = fingerprint(&state, &before.read);
        self.add(print, (node, Some(step)), depth + 1, Kept { state, read });
        Ok(followed)
    }

    /// Takes in a state that was come to by a step from another one, unless it is known to come as soon.
    fn add(&mut self, print: u64, from: (u32, Option<Step>), depth: u32, kept: Kept) {
        let faults = (self.bounds.faults - kept.state.faults_left) as usize;
        let after = nanos(kept.state.since_fault());
        let known = self.seen.get(&print).copied();
        if known.is_some_and(|sooner| sooner <= after) {
            return;
        }
        self.seen.insert(print, after);
        let node = u32::try_from(self.nodes.len()).expect("fewer states than u32 counts");
        self.nodes.push(from);
        let kept = (self.progress.open < KEPT as u64).then(|| Box::new(kept));
        self.open[faults].entry(after).or_default().push_back(Open { print, node, depth, kept });
        let level = &mut self.levels[faults];
        level.states += u64::from(known.is_none());
        level.depth = level.depth.max(depth);
        self.progress.distinct += u64::from(known.is_none());
        self.progress.open += 1;
        self.progress.depth = self.progress.depth.max(depth);
    }

    fn path_to(&self, mut node: u32) -> Vec<Step> {
        let mut path = Vec::new();
        while let (parent, Some(step)) = self.nodes[node as usize] {
            path.push(step);
            node = parent;
        }
        path.reverse();
        path
    }

    fn make_again(&self, node: u32) -> Kept {
        let mut state = self.root.clone();
        for step in self.path_to(node) {
            state.take(step);
        }
        let (_, read) = fingerprint(&state, &[]);
        Kept { state, read }
    }

    /// The path to a failure, in words.
    fn tell(&self, node: u32, last: Step) -> Vec<String> {
        let mut state = self.root.clone();
        let mut told = Vec::new();
        for (number, step) in self.path_to(node).into_iter().chain([last]).enumerate() {
            state.world.observers.trace = Some(Trace::default());
            told.push(format!("{:>3}. {}", number + 1, Told(&state, step)));
            state.take(step);
            let trace = state.world.observers.trace.take().unwrap_or_default();
            told.extend(trace.lines().iter().map(|line| format!("       {line}")));
        }
        told
    }

    fn end(mut self, failure: Option<Box<Failure>>) -> Found {
        for (level, open) in self.levels.iter_mut().zip(&self.open) {
            level.complete &= open.values().all(VecDeque::is_empty) && failure.is_none();
        }
        Found { progress: self.progress, levels: self.levels, marks: self.marks, failure }
    }
}

/// The world as it is at first.
fn beginning(bounds: &Bounds) -> State {
    let joining = u32::from(bounds.beginning == Beginning::Joining);
    let options = options(bounds, bounds.workers - joining);
    let mut world = World::new(&options);
    world.store = Store::lasting(Revision::new(PLAN_BEGINS_AT));
    world.observers.keep_invariants(&INVARIANTS);
    for _ in 0..bounds.workers - joining {
        world.start(Birth::default());
    }
    if bounds.beginning != Beginning::Fresh {
        settle(&mut world);
    }
    for _ in 0..joining {
        world.start(Birth::default());
    }
    let longest = options.worker.release_timeout_ms.max(options.worker.cold_start_window_ms);
    let horizon = nanos(options.observed_lease() + Duration::from_millis(longest));
    State::new(world, bounds.faults, horizon, bounds.orders)
}

/// Waits until everything has had an owner for two leases, and nothing is under way.
fn settle(world: &mut World) {
    let quiet = world.options.observed_lease() * 2;
    loop {
        let ownership = &world.observers.ownership;
        let rests = world.schedule.next_at().is_some_and(|at| at > world.now);
        if ownership.is_even() && world.now.since(ownership.last_change()) > quiet && rests {
            return;
        }
        assert!(world.step(PATIENCE) && world.observers.violation.is_none(), "a small group without faults settles");
    }
}

/// A setting in which few timers have much to tell: messages take no time, and windows are as long as a renewal.
fn options(bounds: &Bounds, expected: u32) -> Options {
    let lease_ms = 4_000;
    let renewal_ms = lease_ms / 4;
    Options {
        seed: 1,
        workers: bounds.workers,
        partitions: bounds.partitions,
        worker: WorkerOptions {
            lease_ms,
            slots: bounds.workers + 1,
            expected_workers: Some(expected),
            settle_window_ms: renewal_ms,
            cold_start_window_ms: renewal_ms,
            planned_scale_window_ms: renewal_ms,
            rebalance_interval_ms: renewal_ms,
            restart_hold_ms: renewal_ms,
            surge_wait_ms: 0,
            release_timeout_ms: lease_ms,
            probe_confirm_ms: 0,
            ..WorkerOptions::default()
        },
        network: NetworkOptions {
            one_way_us: (0, 0),
            notify_us: (0, 0),
            request_timeout_ms: renewal_ms,
            notice_ms: renewal_ms,
            reconnect_ms: (0, 0),
            reread_ms: (1_000_000_000, 1_000_000_000),
            ..NetworkOptions::default()
        },
        application: ApplicationOptions { drain_ms: (0, 0), write_every_ms: 0 },
        clock_ppm: 0,
        plant: bounds.plant,
        ..Options::default()
    }
}
