//! When each partition is to be asked again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::partition::PartitionId;
use crate::time::Instant;

/// At most one instant for each partition, found by the earliest.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(Instant, PartitionId)>,
    by_partition: BTreeMap<PartitionId, Instant>,
}

impl Agenda {
    /// Sets or clears the instant of a partition.
    pub(super) fn set(&mut self, partition: &PartitionId, at: Option<Instant>) {
        let before = self.by_partition.get(partition).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, partition.clone()));
            self.by_partition.remove(partition);
        }
        if let Some(at) = at {
            self.by_time.insert((at, partition.clone()));
            self.by_partition.insert(partition.clone(), at);
        }
    }

    /// The earliest instant.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out every partition whose instant has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<PartitionId> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now) {
            if let Some((_, partition)) = self.by_time.pop_first() {
                self.by_partition.remove(&partition);
                due.push(partition);
            }
        }
        due
    }
}
