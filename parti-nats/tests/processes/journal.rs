//! Who worked on what, when; and what that says about the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment by the clock that all processes of the machine share, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct At(u64);

impl At {
    pub(crate) fn now() -> Self {
        let time = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic));
        let since_boot = time.expect("the machine was not started in the future");
        Self(u64::try_from(since_boot.as_nanos()).expect("the machine was started less than 500 years ago"))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What an agent prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) at: At,
    pub(crate) worker: u32,
    pub(crate) event: Event,
}

/// What happens to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It works on these from now on, with these tokens.
    Started {
        partitions: Vec<(u32, String)>,
    },
    /// It no longer works on these.
    Stopped {
        partitions: Vec<u32>,
    },
    Leads {
        leads: bool,
    },
    State {
        state: String,
        slot: Option<u32>,
        instance: String,
    },
    Ended {
        error: Option<String>,
    },
}

/// One worker of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) process: u32,
    pub(crate) worker: u32,
}

/// One unbroken time of work of one worker on one partition.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) who: Who,
    pub(crate) token: String,
    pub(crate) from: At,
    pub(crate) to: Option<At>,
}

/// One time of leadership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reign {
    pub(crate) who: Who,
    pub(crate) from: At,
    pub(crate) to: Option<At>,
}

/// Everything that was told so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// By partition, in the order in which they were told.
    holds: Vec<Vec<Hold>>,
    reigns: Vec<Reign>,
    states: BTreeMap<Who, (String, Option<u32>)>,
    ended: BTreeMap<Who, Option<String>>,
    frozen: BTreeMap<u32, At>,
}

impl Journal {
    pub(crate) fn new(partitions: u32) -> Self {
        Self { holds: vec![Vec::new(); partitions as usize], ..Self::default() }
    }

    pub(crate) fn write(&mut self, process: u32, line: Line) {
        let who = Who { process, worker: line.worker };
        match line.event {
            Event::Started { partitions } => {
                for (partition, token) in partitions {
                    self.holds[partition as usize].push(Hold { who, token, from: line.at, to: None });
                }
            }
            Event::Stopped { partitions } => {
                for partition in partitions {
                    let mut holds = self.holds[partition as usize].iter_mut().rev();
                    let open = holds.find(|hold| hold.who == who && hold.to.is_none());
                    open.expect("what stops has started").to = Some(line.at);
                }
            }
            Event::Leads { leads: true } => self.reigns.push(Reign { who, from: line.at, to: None }),
            Event::Leads { leads: false } => self.end_reigns(|other| other == who, line.at),
            Event::State { state, slot, .. } => drop(self.states.insert(who, (state, slot))),
            Event::Ended { error } => {
                self.end_reigns(|other| other == who, line.at);
                self.states.remove(&who);
                self.ended.insert(who, error);
            }
        }
    }

    /// The process was killed at that moment, and all that it told before has been written.
    pub(crate) fn bury(&mut self, process: u32, at: At) {
        for hold in self.holds.iter_mut().flatten().filter(|hold| hold.who.process == process) {
            hold.to = hold.to.or(Some(at));
        }
        self.end_reigns(|who| who.process == process, at);
        self.states.retain(|who, _| who.process != process);
    }

    fn end_reigns(&mut self, of: impl Fn(Who) -> bool, at: At) {
        for reign in self.reigns.iter_mut().filter(|reign| of(reign.who)) {
            reign.to = reign.to.or(Some(at));
        }
    }

    /// The process was stopped by a signal: what it holds counts as held by nobody until it says more.
    pub(crate) fn freeze(&mut self, process: u32, at: At) {
        self.frozen.insert(process, at);
    }

    /// The process goes on. It says by itself until when it worked.
    pub(crate) fn thaw(&mut self, process: u32) {
        self.frozen.remove(&process);
    }

    fn is_frozen(&self, who: Who) -> bool {
        self.frozen.contains_key(&who.process)
    }

    /// When a hold ended: where its worker is frozen, at that moment.
    fn end(&self, hold: &Hold) -> Option<At> {
        hold.to.or_else(|| self.frozen.get(&hold.who.process).copied())
    }

    /// Who works on each partition; only those that exactly one worker works on.
    pub(crate) fn owners(&self) -> BTreeMap<u32, Who> {
        let owner = |(partition, holds): (usize, &Vec<Hold>)| {
            let mut open = holds.iter().filter(|hold| self.end(hold).is_none());
            let partition = u32::try_from(partition).expect("made from one");
            open.next().filter(|_| open.next().is_none()).map(|hold| (partition, hold.who))
        };
        self.holds.iter().enumerate().filter_map(owner).collect()
    }

    /// The owners with their tokens.
    pub(crate) fn grants(&self) -> BTreeMap<u32, (Who, String)> {
        let token = |partition: u32| {
            let hold = self.holds[partition as usize].iter().rev().find(|hold| self.end(hold).is_none());
            hold.expect("it has an owner").token.clone()
        };
        self.owners().into_iter().map(|(partition, who)| (partition, (who, token(partition)))).collect()
    }

    /// Whether each partition has exactly one worker, each worker of `all` has at least one, and nobody else has any.
    pub(crate) fn is_settled(&self, all: &BTreeSet<Who>) -> bool {
        let owners = self.owners();
        owners.len() == self.holds.len() && owners.into_values().collect::<BTreeSet<_>>() == *all
    }

    /// The same, and nobody has two more than another: no round of balancing is still to come.
    pub(crate) fn is_level(&self, all: &BTreeSet<Who>) -> bool {
        let mut loads: BTreeMap<Who, usize> = BTreeMap::new();
        for who in self.owners().into_values() {
            *loads.entry(who).or_default() += 1;
        }
        let (least, most) = (loads.values().min().copied(), loads.values().max().copied());
        self.is_settled(all) && most <= least.map(|least| least + 1)
    }

    /// Whether each partition has exactly one worker.
    pub(crate) fn is_covered(&self) -> bool {
        self.holds.iter().all(|holds| holds.iter().filter(|hold| self.end(hold).is_none()).count() == 1)
    }

    /// Whether nobody works on anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.holds.iter().flatten().all(|hold| self.end(hold).is_some())
    }

    /// Who leads now, as far as they say themselves.
    pub(crate) fn leaders(&self) -> Vec<Who> {
        let now = self.reigns.iter().filter(|reign| reign.to.is_none() && !self.is_frozen(reign.who));
        now.map(|reign| reign.who).collect()
    }

    /// The first reign that began after `at`.
    pub(crate) fn next_reign(&self, at: At) -> Option<Reign> {
        self.reigns.iter().filter(|reign| reign.from > at).min_by_key(|reign| reign.from).copied()
    }

    pub(crate) fn state(&self, who: Who) -> Option<&str> {
        self.states.get(&who).map(|(state, _)| state.as_str())
    }

    pub(crate) fn slot(&self, who: Who) -> Option<u32> {
        self.states.get(&who).and_then(|(_, slot)| *slot)
    }

    /// How many workers of a process have ended, and with which errors.
    pub(crate) fn ended(&self, process: u32) -> Vec<Option<&str>> {
        let of_it = self.ended.iter().filter(|(who, _)| who.process == process);
        of_it.map(|(_, error)| error.as_deref()).collect()
    }

    /// When the first hold of each worker that has had one began.
    pub(crate) fn first_holds(&self) -> BTreeMap<Who, At> {
        let mut first = BTreeMap::new();
        for hold in self.holds.iter().flatten() {
            let at = first.entry(hold.who).or_insert(hold.from);
            *at = hold.from.min(*at);
        }
        first
    }

    /// How long each partition that the process worked on at `at`, or began to work on later, was without a worker
    /// before the next one.
    pub(crate) fn gaps(&self, process: u32, at: At) -> Vec<Duration> {
        self.ended_holds(process, at).map(|(end, next)| next.from.since(end)).collect()
    }

    /// How long after `at` each partition that the process worked on then had its next worker.
    pub(crate) fn takeovers(&self, process: u32, at: At) -> Vec<Duration> {
        self.ended_holds(process, at).map(|(_, next)| next.from.since(at)).collect()
    }

    /// For each hold of the process that ended at `at` or later: when, and the next hold of that partition by another.
    fn ended_holds(&self, process: u32, at: At) -> impl Iterator<Item = (At, &Hold)> {
        self.holds.iter().flat_map(move |holds| {
            let own = holds.iter().filter(move |hold| hold.who.process == process);
            own.filter_map(move |hold| {
                let end = self.end(hold).filter(|end| *end >= at)?;
                let others = holds.iter().filter(|other| other.who.process != process && other.from >= end);
                others.min_by_key(|other| other.from).map(|next| (end, next))
            })
        })
    }

    /// Each time at which two workers worked on one partition, and each token that does not exceed that of an earlier
    /// owner, in words; empty if all is well.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (partition, holds) in self.holds.iter().enumerate() {
            let holds = self.in_order(holds);
            for pair in holds.windows(2) {
                let (earlier, later) = (pair[0], pair[1]);
                if self.end(earlier).is_none_or(|end| end > later.from) {
                    found.push(format!("partition {partition} has two workers: {earlier:?} and {later:?}"));
                }
                let resumed = earlier.who == later.who && earlier.token == later.token;
                if earlier.token >= later.token && !resumed {
                    found.push(format!("the token of partition {partition} does not grow: {earlier:?} {later:?}"));
                }
            }
        }
        found
    }

    fn in_order<'a>(&self, holds: &'a [Hold]) -> Vec<&'a Hold> {
        let mut holds: Vec<_> = holds.iter().collect();
        holds.sort_by_key(|hold| (hold.from, self.end(hold).is_none()));
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 0;
    const B: u32 = 1;

    fn write(journal: &mut Journal, process: u32, at: u64, event: Event) {
        journal.write(process, Line { at: At(at), worker: 0, event });
    }

    fn started(token: &str) -> Event {
        Event::Started { partitions: vec![(0, token.into())] }
    }

    fn stopped() -> Event {
        Event::Stopped { partitions: vec![0] }
    }

    #[test]
    fn a_handover_is_no_violation_and_its_gap_is_known() {
        let mut journal = Journal::new(1);
        write(&mut journal, A, 10, started("1"));
        write(&mut journal, A, 20, stopped());
        assert!(journal.is_idle());
        write(&mut journal, B, 25, started("2"));
        assert_eq!(journal.violations(), [""; 0]);
        assert!(journal.is_covered() && !journal.is_idle());
        assert_eq!(journal.gaps(A, At(15)), [Duration::from_nanos(5)]);
        assert_eq!(journal.takeovers(A, At(15)), [Duration::from_nanos(10)]);
        assert!(journal.gaps(A, At(21)).is_empty());
    }

    #[test]
    fn two_workers_at_once_are_a_violation_and_so_is_a_token_that_does_not_grow() {
        let mut journal = Journal::new(1);
        write(&mut journal, A, 10, started("2"));
        write(&mut journal, B, 15, started("1"));
        write(&mut journal, A, 16, stopped());
        let violations = journal.violations();
        assert!(violations.len() == 2 && violations[0].contains("two workers"), "{violations:?}");
        assert!(violations[1].contains("does not grow"), "{violations:?}");
    }

    #[test]
    fn a_worker_that_resumes_keeps_its_token() {
        let mut journal = Journal::new(1);
        write(&mut journal, A, 10, started("1"));
        write(&mut journal, A, 20, stopped());
        write(&mut journal, A, 30, started("1"));
        assert_eq!(journal.violations(), [""; 0]);
        journal.bury(A, At(40));
        write(&mut journal, B, 50, started("1"));
        assert_eq!(journal.violations().len(), 1);
    }

    #[test]
    fn a_frozen_worker_holds_nothing_until_it_says_that_it_went_on() {
        let mut journal = Journal::new(1);
        write(&mut journal, A, 10, started("1"));
        journal.freeze(A, At(20));
        write(&mut journal, B, 30, started("2"));
        assert!(journal.is_covered());
        assert_eq!(journal.violations(), [""; 0]);
        journal.thaw(A);
        write(&mut journal, A, 35, stopped());
        assert_eq!(journal.violations().len(), 1);
    }
}
