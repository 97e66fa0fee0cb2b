//! The model of the bucket of positions: conditional writes, and a server that can lose them.

use std::collections::{BTreeMap, VecDeque};

use parti_core::delivery::PositionRecord;
use parti_core::{Outcome, Revision};

use crate::told::fact::PartitionIndex;
use crate::world::clock::Moment;

/// How many of the last writes can be lost.
const MAX_JOURNAL: usize = 64;

type Stored = (Revision, PositionRecord);

/// The stored positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    records: BTreeMap<PartitionIndex, Stored>,
    last: Revision,
    /// The last writes, newest at the back, each with what it replaced.
    journal: VecDeque<(PartitionIndex, Option<Stored>)>,
    /// When it last lost something.
    pub(super) lost_at: Option<Moment>,
}

impl Positions {
    pub(super) fn get(&self, partition: PartitionIndex) -> Option<&Stored> {
        self.records.get(&partition)
    }

    /// Writes a position on the condition that `expected` is the last revision of the key, if `is_conditional`.
    pub(super) fn write(
        &mut self,
        partition: PartitionIndex,
        expected: Option<Revision>,
        record: PositionRecord,
        is_conditional: bool,
    ) -> Outcome {
        let stored = self.records.get(&partition).map(|(revision, _)| *revision);
        if is_conditional && stored != expected {
            return Outcome::Conflict;
        }
        self.last = self.last.next();
        let before = self.records.insert(partition, (self.last, record));
        self.journal.push_back((partition, before));
        if self.journal.len() > MAX_JOURNAL {
            self.journal.pop_front();
        }
        Outcome::Committed(self.last)
    }

    /// Loses its last writes, whose revisions are then given again.
    pub(super) fn roll_back(&mut self, writes: u32, now: Moment) {
        for _ in 0..writes {
            let Some((partition, before)) = self.journal.pop_back() else { break };
            match before {
                Some(before) => self.records.insert(partition, before),
                None => self.records.remove(&partition),
            };
            self.last = Revision::new(self.last.value() - 1);
        }
        self.lost_at = Some(now);
    }

    /// Removes everything; revisions go on.
    pub(super) fn purge(&mut self, now: Moment) {
        self.records.clear();
        self.journal.clear();
        self.lost_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_depends_on_the_revision_of_its_key_and_lost_ones_are_given_again() {
        let mut positions = Positions::default();
        let (a, b) = (PartitionIndex::new(0), PartitionIndex::new(1));
        let mut write = |partition, expected: Option<u64>| {
            positions.write(partition, expected.map(Revision::new), PositionRecord::default(), true)
        };
        assert_eq!(write(a, None), Outcome::Committed(Revision::new(1)));
        assert_eq!(write(b, None), Outcome::Committed(Revision::new(2)));
        assert_eq!(write(a, None), Outcome::Conflict);
        assert_eq!(write(a, Some(1)), Outcome::Committed(Revision::new(3)));
        positions.roll_back(1, Moment::START);
        let mut write = |expected| positions.write(a, expected, PositionRecord::default(), true);
        assert_eq!(write(Some(Revision::new(3))), Outcome::Conflict);
        assert_eq!(write(Some(Revision::new(1))), Outcome::Committed(Revision::new(3)));
        positions.purge(Moment::START);
        assert!(positions.get(a).is_none());
    }
}
