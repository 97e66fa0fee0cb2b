//! What a group waits for.

use std::fmt;
use std::time::Duration;

use parti_core::{Control, PlannerPhase, Slot};
use serde::Serialize;

use super::picture::{Picture, Presence, WorkerPicture};

/// Something that keeps a group from being settled: what waits for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Waiting {
    /// The store is out of reach for the one who looks: this is how the group was last known.
    Store,
    /// Nobody has a slot.
    NoWorkers,
    /// Nobody leads, or who led has been silent for its lease.
    NoLeader,
    /// There is no plan yet.
    NoPlan,
    /// So many stored values are no records.
    Unreadable {
        /// How many.
        records: usize,
    },
    /// A worker has been silent for its lease and the margin, and what it has waits for a leader.
    Silent {
        /// Which one.
        slot: Slot,
        /// How many partitions it has.
        partitions: usize,
        /// For how long it has been silent.
        silent_ms: u64,
    },
    /// A worker restarts, and what it has is held for its successor.
    Restarting {
        /// Which one.
        slot: Slot,
        /// How many partitions it has.
        partitions: usize,
        /// How long ago it has stopped.
        since_ms: u64,
    },
    /// A worker leaves or is drained, and still has partitions.
    Leaving {
        /// Which one.
        slot: Slot,
        /// How many partitions it has.
        partitions: usize,
    },
    /// The tenure that had these partitions has ended, and they are to be placed.
    Ended {
        /// Which slot.
        slot: Slot,
        /// How many partitions it had.
        partitions: usize,
    },
    /// A worker was told to give partitions up, and has not said yet that it has.
    Releasing {
        /// Which one.
        slot: Slot,
        /// How many partitions.
        partitions: usize,
        /// For how long it has known, at most.
        since_ms: u64,
    },
    /// A worker has not said yet that it has applied what it was assigned.
    Applying {
        /// Which one.
        slot: Slot,
    },
    /// The leader carries a plan out, or waits for more workers.
    Planner {
        /// What it is doing.
        phase: PlannerPhase,
    },
    /// Nobody owns these partitions.
    Unowned {
        /// How many.
        partitions: usize,
    },
    /// The stored list is not the one that the leader plans for.
    List,
}

impl Picture {
    /// What the group waits for, the gravest first; empty where it is settled: every partition has an owner that has
    /// applied its assignment, and no move is under way. (Whether another round of moves is due shows in a
    /// [forecast](Picture::forecast).) O(P).
    pub fn waits_for(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        if !self.live {
            waiting.push(Waiting::Store);
        }
        if self.workers.is_empty() {
            waiting.push(Waiting::NoWorkers);
        } else if self.acting_leader().is_none() {
            waiting.push(Waiting::NoLeader);
        }
        if self.head.is_none() {
            waiting.push(Waiting::NoPlan);
        }
        let unreadable =
            self.unreadable.iter().filter(|unreadable| !matches!(unreadable.key, parti_core::Key::Control(_)));
        match unreadable.count() {
            0 => {}
            records => waiting.push(Waiting::Unreadable { records }),
        }
        let partitions = self.partitions();
        match self.unowned(&partitions) {
            0 => {}
            partitions => waiting.push(Waiting::Unowned { partitions }),
        }
        self.workers.values().for_each(|worker| self.wait_for_worker(worker, &mut waiting));
        self.wait_for_moves(&mut waiting);
        if let Some(head) = self.head.as_ref().filter(|head| head.phase != PlannerPhase::Idle) {
            waiting.push(Waiting::Planner { phase: head.phase });
        }
        // The head of the plan names the list of the last plan; the leader's own record names the one that it has.
        let leaders = self.acting_leader().and_then(|leader| leader.record.shared.as_ref()?.list);
        let stored = self.list.as_ref().and_then(|list| list.partitions.as_ref().ok());
        if leaders.zip(stored).is_some_and(|(digest, stored)| stored.digest() != digest) {
            waiting.push(Waiting::List);
        }
        waiting
    }

    fn wait_for_worker(&self, worker: &WorkerPicture, waiting: &mut Vec<Waiting>) {
        let (slot, partitions) = (worker.slot, self.owned_by(worker.slot));
        let age = millis(self.age(worker.written).unwrap_or_default());
        let is_drained = self.wishes.contains_key(&Control::Drain(slot));
        match self.presence(worker) {
            Presence::Silent => waiting.push(Waiting::Silent { slot, partitions, silent_ms: age }),
            Presence::Restarting => waiting.push(Waiting::Restarting { slot, partitions, since_ms: age }),
            Presence::Leaving | Presence::Working => {
                if partitions > 0 && (is_drained || self.presence(worker) == Presence::Leaving) {
                    waiting.push(Waiting::Leaving { slot, partitions });
                }
                if !self.has_applied(worker) {
                    waiting.push(Waiting::Applying { slot });
                }
            }
        }
    }

    fn wait_for_moves(&self, waiting: &mut Vec<Waiting>) {
        for (&slot, assignment) in &self.assignments {
            let record = &assignment.record;
            let held = record.owned.len() + record.releasing.len();
            if !self.is_held(slot, assignment) {
                if held > 0 {
                    waiting.push(Waiting::Ended { slot, partitions: held });
                }
            } else if !record.releasing.is_empty() {
                let since_ms = millis(self.age(assignment.written).unwrap_or_default());
                waiting.push(Waiting::Releasing { slot, partitions: record.releasing.len(), since_ms });
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Waiting {
    /// In words, as part of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| ms / 1000;
        match self {
            Self::Store => f.write_str("the store cannot be read now, this is how the group was last known"),
            Self::NoWorkers => f.write_str("nobody has a slot: start a worker"),
            Self::NoLeader => f.write_str("nobody leads: a worker takes over when the last leader's lease has run out"),
            Self::NoPlan => f.write_str("there is no plan yet"),
            Self::Unreadable { records } => {
                write!(f, "{} cannot be read, and while they stand nothing new may be granted", Count(*records, "stored value"))
            }
            Self::Silent { slot, partitions, silent_ms } => {
                let (partitions, seconds) = (Count(*partitions, "partition"), seconds(silent_ms));
                write!(f, "worker-{slot} has been silent for {seconds} s, and its {partitions} wait for the leader to end its tenure")
            }
            Self::Restarting { slot, partitions, since_ms } => {
                let (partitions, seconds) = (Count(*partitions, "partition"), seconds(since_ms));
                write!(f, "worker-{slot} has been restarting for {seconds} s, and its {partitions} wait for it")
            }
            Self::Leaving { slot, partitions } => {
                write!(f, "worker-{slot} is to have nothing, and still has {}", Count(*partitions, "partition"))
            }
            Self::Ended { slot, partitions } => {
                write!(f, "the tenure in slot {slot} has ended, and its {} are to be placed", Count(*partitions, "partition"))
            }
            Self::Releasing { slot, partitions, since_ms } => {
                let (partitions, seconds) = (Count(*partitions, "partition"), seconds(since_ms));
                write!(f, "worker-{slot} has to release {partitions}, told {seconds} s ago")
            }
            Self::Applying { slot } => write!(f, "worker-{slot} has not said yet that it has what it was assigned"),
            Self::Planner { phase } => f.write_str(match phase {
                PlannerPhase::Idle => "the leader has nothing to do",
                PlannerPhase::Scaling => "the leader waits for more workers",
                PlannerPhase::Rebalancing => "the leader carries out a plan",
                PlannerPhase::Emergency => "the leader places the partitions of a lost worker",
            }),
            Self::Unowned { partitions } => write!(f, "nobody owns {}", Count(*partitions, "partition")),
            Self::List => f.write_str(
                "the stored list is not the one that the leader plans for: it has not come yet, or the workers have another source",
            ),
        }
    }
}

/// So many of something.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}
