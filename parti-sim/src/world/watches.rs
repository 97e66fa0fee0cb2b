//! The watches that the store keeps for processes.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::{Bucket, Interest, Key, Revision, WatchId};

use super::clock::Moment;
use super::store::LifeAndPurges;
use crate::told::fact::ProcessId;

/// A watch that the store keeps for a process.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) id: WatchId,
    pub(crate) interest: Interest,
    /// Whether its first snapshot was read: only then do changes follow.
    pub(crate) open: bool,
    /// Until when it shows nothing, and says nothing about that.
    pub(crate) silent_until: Moment,
    /// Until when what it has shown waits in the worker's queue.
    pub(crate) waits_until: Moment,
    /// Nothing is shown before this.
    pub(crate) front: Moment,
    /// Nothing of a key is shown before this, where keys overtake each other.
    pub(crate) key_fronts: BTreeMap<Key, Moment>,
    /// The keys of which a change was not shown.
    pub(crate) missed: BTreeSet<Key>,
    /// Which life of the bucket was last read, and up to which revision it was heard; none before the first reading.
    pub(crate) heard: Option<(LifeAndPurges, Revision)>,
}

impl Watch {
    pub(crate) fn new(id: WatchId, interest: Interest) -> Self {
        Self {
            id,
            interest,
            open: false,
            silent_until: Moment::START,
            waits_until: Moment::START,
            front: Moment::START,
            key_fronts: BTreeMap::new(),
            missed: BTreeSet::new(),
            heard: None,
        }
    }
}

/// The watches that the store keeps for one bucket: one for each process that watches it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    kept: BTreeMap<ProcessId, Watch>,
    /// Who watches every key, in order.
    of_all: Vec<ProcessId>,
    /// Who watches this key and few others: each write asks for them, and they are few among many.
    of_key: BTreeMap<Key, Vec<ProcessId>>,
}

impl Watches {
    /// Keeps a watch in place of the one that the process had.
    pub(crate) fn insert(&mut self, process: ProcessId, watch: Watch) {
        self.remove(process);
        match &watch.interest {
            Interest::All => enlist(&mut self.of_all, process),
            Interest::Keys(keys) => keys.iter().for_each(|key| enlist(self.of_key.entry(*key).or_default(), process)),
        }
        self.kept.insert(process, watch);
    }

    pub(crate) fn remove(&mut self, process: ProcessId) {
        let Some(watch) = self.kept.remove(&process) else { return };
        match &watch.interest {
            Interest::All => self.of_all.retain(|other| *other != process),
            Interest::Keys(keys) => {
                for key in keys {
                    self.of_key.entry(*key).or_default().retain(|other| *other != process);
                }
            }
        }
    }

    pub(crate) fn get(&self, process: ProcessId) -> Option<&Watch> {
        self.kept.get(&process)
    }

    pub(crate) fn get_mut(&mut self, process: ProcessId) -> Option<&mut Watch> {
        self.kept.get_mut(&process)
    }

    /// All of them, in order of the processes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProcessId, &Watch)> {
        self.kept.iter().map(|(process, watch)| (*process, watch))
    }

    /// The processes that watch `key`, in order.
    pub(crate) fn watchers(&self, key: Key) -> Vec<ProcessId> {
        let of_key = self.of_key.get(&key).map_or(&[][..], Vec::as_slice);
        let mut watchers = [&self.of_all, of_key].concat();
        if !self.of_all.is_empty() {
            watchers.sort_unstable();
        }
        watchers
    }
}

/// Adds a process to others that are in order.
fn enlist(processes: &mut Vec<ProcessId>, process: ProcessId) {
    let place = processes.partition_point(|other| *other < process);
    processes.insert(place, process);
}

/// The watches of both buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers {
    members: Watches,
    plan: Watches,
}

impl Watchers {
    pub(crate) const fn of(&self, bucket: Bucket) -> &Watches {
        match bucket {
            Bucket::Members => &self.members,
            Bucket::Plan => &self.plan,
        }
    }

    pub(crate) const fn of_mut(&mut self, bucket: Bucket) -> &mut Watches {
        match bucket {
            Bucket::Members => &mut self.members,
            Bucket::Plan => &mut self.plan,
        }
    }

    /// Whether this is the watch that a process has of a bucket, and no other one has taken its place.
    pub(crate) fn is_current(&self, process: ProcessId, bucket: Bucket, watch: WatchId) -> bool {
        self.of(bucket).get(process).is_some_and(|current| current.id == watch)
    }

    /// A watch shows nothing for a while, and says nothing about that.
    pub(crate) fn silence(&mut self, process: ProcessId, bucket: Bucket, until: Moment) {
        if let Some(watch) = self.of_mut(bucket).get_mut(process) {
            watch.silent_until = until;
        }
    }

    /// A process has ended: nobody watches for it.
    pub(crate) fn remove(&mut self, process: ProcessId) {
        self.members.remove(process);
        self.plan.remove(process);
    }

    /// Whether a process has seen who is there.
    pub(crate) fn has_looked_around(&self, process: ProcessId) -> bool {
        self.members.get(process).is_some_and(|watch| watch.heard.is_some())
    }
}
