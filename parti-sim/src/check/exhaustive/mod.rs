//! The exhaustive check: small worlds of the real [`parti_core::Worker`], in every order of what can happen.
//!
//! From a beginning on, every message under way may come next, every timer that is due may fire, and, as often as the
//! bound says, something may go wrong: see [`Fault`]. Time passes, to the next timer, only when nothing is under way
//! that is not late. The invariants are those of the other runs, looked at after each step. States that differ only in
//! names and in when they are reached are one state. States with fewer faults are visited first, and among those the
//! ones that come sooner after the last fault. A search that ends early has thus seen everything that can happen within
//! some time after a fault at any moment, and says within which.
//!
//! What is complete, with two workers and one partition where no other number is given, and how many states a command looks at for it:
//!
//! | Where | What goes wrong | States |
//! | --- | --- | --- |
//! | any beginning, no probes | nothing | 52 settled, 180 joining, more fresh |
//! | any beginning, probes | nothing | 144 settled, 246 joining, 18 053 fresh |
//! | settled, no probes | one crash, pause, cut, late message, leave or restart | 10 438, 16 510, 24 552, 2 882, 2 179, 18 463 |
//! | settled or joining, no probes | the last write of a bucket is lost | 30 015, 88 929 |
//! | settled, no probes | two leaves | 6 616 |
//! | joining, no probes | one crash, pause, late message, leave or cut | 61 856, 57 313, 36 008, 12 881, 110 000 |
//! | settled, probes | one crash, pause, cut or late message | 84 417, 108 690, 577 430, 11 664 |
//! | settled, probes | a subscription is taken away, or a connection closed | 152 005, 321 580 |
//! | settled, probes | a client connects again | 7 787 |
//! | settled, probes, two servers | the route between them breaks | 736 |
//! | fresh, one worker, no probes | one crash, pause, cut, late message, leave, restart or lost write | 36 635 in all |
//!
//! The largest takes two minutes. Not complete, but everything was looked at that can happen within some time after the
//! last fault. Settled, no probes: two crashes or two late messages (1 s). Fresh with one fault, whose workers write
//! everything at once, in two minutes each: 8.5 s after a crash (656 000 states), 2 s after a pause (518 000), 8 s after a
//! cut (669 000), 6 s after a late message (593 000); a lease lasts 4.5 s there, as others see it.
//!
//! With probes, presence lasts as long as a renewal interval as others see it, so that a row of probes just fits between
//! two renewals. Probes, checks, and what comes of them come at once and in order, like replies; that one does not is a
//! late message. The tests look at less than the command where there is more than they have time for: see there. The
//! command goes on for as long as it is told to, and says of each number of faults whether it has seen all, or else within
//! which time after the last one. A loss takes one write unless `--lost` says more. With two partitions,
//! one of which moves to the worker that joins, a loss of one write finds the planted bug `older-assignment`, after 1 358
//! states; those that are found only where a store loses writes take longer paths than these bounds have room for.

mod fault;
mod fingerprint;
mod scope;
mod setting;
mod state;
mod told;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use self::fingerprint::{Read, fingerprint};
use self::scope::Step;
pub use self::scope::{Beginning, Bounds, Fault, Orders};
use self::setting::beginning;
use self::state::State;
use self::told::Told;
use crate::check::invariant::Violation;
use crate::check::reached::Marks;
use crate::told::trace::Trace;
use crate::world::clock::nanos;

/// How many states that are still to be looked at are kept as they are; the others are made again from their paths.
const KEPT: usize = 50_000;
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
        self.marks.add(&std::mem::take(&mut state.world.ground.observers.marks));
        if let Some(violation) = state.world.ground.observers.violation.take() {
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
            state.world.ground.observers.trace = Some(Trace::default());
            told.push(format!("{:>3}. {}", number + 1, Told(&state, step)));
            state.take(step);
            let trace = state.world.ground.observers.trace.take().unwrap_or_default();
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
