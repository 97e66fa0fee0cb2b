//! One process life of a worker, its connection, and the watches that the store keeps for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::assign::Labels;
use parti_core::{Config, Interest, Key, Mode, OperationId, Revision, Slot, Status, StrategyChoice, WatchId, Worker};

use crate::app::App;
use crate::clock::{Moment, WorkerClock};
use crate::ear::Ear;
use crate::fact::ProcessId;
use crate::store::LifeAndPurges;
use crate::world::What;

/// How a process comes into the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// The slot that it asks for.
    pub preferred_slot: Option<Slot>,
    /// Whether an earlier holder of that slot is certainly dead.
    pub predecessor_is_dead: bool,
    /// The version of the user's software.
    pub software: String,
    /// How much load it takes compared with others; 0 stands for 1.
    pub capacity: u32,
    /// What partitions can ask for.
    pub labels: Labels,
    /// The number of the worker whose process it is, where somebody numbers them.
    pub number: u32,
    /// How it divides the partitions where it leads, if not as the group's settings say.
    pub strategy: Option<StrategyChoice>,
    /// What it does when its lease runs out, if not what the group's settings say.
    pub mode: Option<Mode>,
    /// Which list of partitions it has; 0 for all that are listed.
    pub list: u32,
}

/// One process life of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) worker: Worker,
    pub(crate) clock: WorkerClock,
    pub(crate) app: App,
    pub(crate) link: Link,
    pub(crate) ear: Ear,
    pub(crate) life: Life,
    pub(crate) birth: Birth,
    /// The moment at which its timer fires.
    pub(crate) armed: Moment,
    /// What its worker said of itself when it last decided anything.
    pub(crate) status: Status,
    /// How often its worker had decided by then.
    pub(crate) decisions: u64,
    /// The requests whose outcome it waits for.
    pub(crate) pending: BTreeSet<OperationId>,
    /// Who takes its place when it has halted, and how long after.
    pub(crate) successor: Option<(Duration, Birth)>,
    /// Until when probes are told, falsely, that nobody listens.
    pub(crate) falsely_gone_until: Moment,
    /// How much longer its drains take than the others', in percent.
    pub(crate) drain_percent: u32,
    /// Whether the list of partitions changed while it was paused.
    pub(crate) missed_list: bool,
    /// Since when its machine sleeps, if it does.
    pub(crate) sleeps_since: Option<Moment>,
    /// Whether its machine has slept, and its worker does not know yet.
    pub(crate) overslept: bool,
}

impl Process {
    /// Whether its status differs from the one `before` in what is told of.
    fn tells_of(&self, before: &Status) -> bool {
        let after = &self.status;
        (before.state, before.slot, before.leader, before.generation)
            != (after.state, after.slot, after.leader, after.generation)
    }

    /// Takes in what its worker says of itself; returns what it said before, if it now says something else that is told
    /// of.
    pub(crate) fn look(&mut self) -> Option<Status> {
        let decisions = self.worker.decisions();
        if std::mem::replace(&mut self.decisions, decisions) == decisions {
            return None;
        }
        let before = std::mem::replace(&mut self.status, self.worker.status());
        self.tells_of(&before).then_some(before)
    }

    /// Sets its timer as its worker wants it; returns when it fires, if that is news. An `endless` one fires at once.
    pub(crate) fn rearm(&mut self, now: Moment, endless: bool) -> Option<Moment> {
        if self.life == Life::Ended {
            return None;
        }
        let deadline = self.worker.poll_timeout().map_or(Moment::NEVER, |instant| self.clock.when(instant));
        let at = if endless { now } else { deadline.max(now) };
        let is_news = at != self.armed || at == now;
        self.armed = at;
        Some(at).filter(|at| is_news && *at != Moment::NEVER)
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Paused { until: Moment },
    Ended,
}

/// The connection of a process to the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// Whether nothing gets through.
    pub(crate) broken: bool,
    /// Whether the client knows, and has told its worker.
    pub(crate) noticed: bool,
    /// Whether the other side knows too, and says that nobody listens.
    pub(crate) closed: bool,
    /// Counts breaks and repairs, so that what was planned for an earlier one is recognised.
    pub(crate) epoch: u64,
    /// When the client notices that it is broken, unless it has noticed before.
    pub(crate) notices_at: Moment,
    /// Until when the store is out of reach for this process, and only the store.
    pub(crate) store_away_until: Moment,
    /// Until when the store takes no write of this process.
    pub(crate) read_only_until: Moment,
    /// When the last of the faults that break it is over.
    pub(crate) broken_until: Moment,
    /// No request arrives before this: those of one connection keep their order.
    pub(crate) requests_front: Moment,
    /// What is under way and cannot get through.
    pub(crate) held: Vec<What>,
}

impl Link {
    /// Whether messages get through.
    pub(crate) const fn is_up(&self) -> bool {
        !self.broken && !self.noticed && !self.closed
    }
}

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

/// The config of a process born like this.
pub(crate) fn config_of(birth: &Birth, group: &Config) -> Config {
    Config {
        preferred_slot: birth.preferred_slot,
        predecessor_is_dead: birth.predecessor_is_dead,
        software: birth.software.clone(),
        capacity: birth.capacity.max(1),
        labels: birth.labels.clone(),
        strategy: birth.strategy.unwrap_or(group.strategy),
        mode: birth.mode.unwrap_or(group.mode),
        ..group.clone()
    }
}
