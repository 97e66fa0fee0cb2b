//! A worker of the laboratory, and what is around it.

use std::collections::{BTreeMap, VecDeque};

use parti_core::{Bucket, Event, Instance, Interest, PartitionId, Session, Token, WatchId, Worker, WorkerState};

/// A worker and what is around it.
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct Bench {
    pub(super) name: String,
    pub(crate) worker: Worker,
    pub(super) alive: bool,
    /// Whether the process does not run for now; its clock goes on.
    pub(super) frozen: bool,
    pub(super) reach: Reach,
    /// The server that its connection ends at.
    pub(super) server: u32,
    pub(super) session: Session,
    /// Whether its server has its subscription of the probe subject.
    pub(super) listens: bool,
    /// Whether it may subscribe.
    pub(super) may_listen: bool,
    /// How many probes and checks it has asked for.
    pub(crate) asked: usize,
    /// Every state that it has been in, in order.
    pub(crate) states: Vec<WorkerState>,
    pub(super) watches: BTreeMap<Bucket, (WatchId, Interest)>,
    pub(super) inbox: VecDeque<Event>,
    pub(crate) working: BTreeMap<PartitionId, Token>,
    /// Whether its application takes its time to release a partition.
    pub(crate) slow: bool,
    /// What it was told to release, and still works on.
    pub(crate) draining: BTreeMap<PartitionId, Token>,
}

impl Bench {
    pub(super) fn new(name: &str, worker: Worker, reach: Reach, server: u32, first: Event) -> Self {
        Self {
            name: name.into(),
            worker,
            alive: true,
            frozen: false,
            reach,
            server,
            session: Session::default(),
            listens: false,
            may_listen: true,
            asked: 0,
            states: vec![WorkerState::Init],
            watches: BTreeMap::new(),
            inbox: [first].into(),
            working: BTreeMap::new(),
            slow: false,
            draining: BTreeMap::new(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    pub(super) fn instance(&self) -> Instance {
        self.worker.status().instance
    }

    pub(super) fn works_on(&self, partition: &PartitionId) -> bool {
        self.working.contains_key(partition) || self.draining.contains_key(partition)
    }
}

/// How far a worker reaches the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As it should be.
    Full,
    /// Its writes go nowhere, and it hears nothing, but its connection looks alive.
    Mute,
    /// Its watches have gone silent; its writes land.
    Deaf,
    /// It hears nothing of the plan; all else is as it should be.
    DeafToPlan,
    /// It hears everything, and whatever it writes is refused.
    Refused,
    /// Its connection is gone, and it knows.
    Cut,
}

impl Reach {
    pub(super) fn hears(self, bucket: Bucket) -> bool {
        match self {
            Self::Full | Self::Refused => true,
            Self::DeafToPlan => bucket == Bucket::Members,
            Self::Mute | Self::Deaf | Self::Cut => false,
        }
    }
}
