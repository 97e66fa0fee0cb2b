//! The model of where positions are: conditional writes in a bucket, of a server that can lose them; or a database of the
//! application, which stores one together with the effect of a message.

use std::collections::{BTreeMap, VecDeque};

use parti_core::delivery::{PositionRecord, Sequence, Timestamp};
use parti_core::{Outcome, Revision, Token};

use crate::told::fact::{PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// How many of the last writes can be lost.
const MAX_JOURNAL: usize = 64;

/// A stored position, and when it was stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) revision: Revision,
    pub(super) record: PositionRecord,
    at: Moment,
}

/// The stored positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    records: BTreeMap<PartitionIndex, Stored>,
    last: Revision,
    /// The last writes, newest at the back, each with what it replaced.
    journal: VecDeque<(PartitionIndex, Option<Stored>)>,
    /// When each process last read or wrote a position: what its next write depends on was stored by then.
    known: BTreeMap<(ProcessId, PartitionIndex), Moment>,
}

impl Positions {
    /// A process reads a position.
    pub(super) fn read(&mut self, process: ProcessId, partition: PartitionIndex, now: Moment) -> Option<&Stored> {
        self.known.insert((process, partition), now);
        self.records.get(&partition)
    }

    /// Under which token a position is stored.
    pub(super) fn token(&self, partition: PartitionIndex) -> Option<Token> {
        self.records.get(&partition).map(|stored| stored.record.token)
    }

    /// When a process last read or wrote a position.
    pub(super) fn known_at(&self, process: ProcessId, partition: PartitionIndex) -> Option<Moment> {
        self.known.get(&(process, partition)).copied()
    }

    /// Whether `expected` is a revision that was lost after `known_at`, when the sender had learned of it, and is given
    /// again now: no condition can tell.
    pub(super) fn is_blind(
        &self,
        partition: PartitionIndex,
        expected: Option<Revision>,
        known_at: Option<Moment>,
    ) -> bool {
        let stored = self.records.get(&partition).filter(|stored| Some(stored.revision) == expected);
        stored.is_some_and(|stored| known_at.is_none_or(|known_at| stored.at > known_at))
    }

    /// A process writes a position on the condition that `expected` is the last revision of the key, if `is_conditional`.
    pub(super) fn write(
        &mut self,
        now: Moment,
        (process, partition): (ProcessId, PartitionIndex),
        expected: Option<Revision>,
        record: PositionRecord,
        is_conditional: bool,
    ) -> Outcome {
        let stored = self.records.get(&partition).map(|stored| stored.revision);
        if is_conditional && stored != expected {
            return Outcome::Conflict;
        }
        self.store(now, (process, partition), record)
    }

    /// A process that has claimed a position writes it, where the application stores positions too: under its token, and for
    /// the same life of the stream unless it `is_of_any`, the position stays where the application has brought it.
    pub(super) fn write_beside(
        &mut self,
        now: Moment,
        (process, partition): (ProcessId, PartitionIndex),
        expected: Option<Revision>,
        mut record: PositionRecord,
        is_of_any: bool,
    ) -> Outcome {
        match self.records.get(&partition).map(|stored| &stored.record) {
            // One that was let go is written no more by its hold.
            Some(stored)
                if stored.open && stored.token == record.token && (is_of_any || stored.created == record.created) =>
            {
                record.through = record.through.max(stored.through);
                if stored.seq > record.seq {
                    (record.seq, record.at) = (stored.seq, stored.at);
                }
                tidy(&mut record);
                self.store(now, (process, partition), record)
            }
            Some(_) | None => self.write(now, (process, partition), expected, record, true),
        }
    }

    /// The application stores that it has finished a message of the stream that was `created` then, of any if that is none,
    /// and its effect. Returns what is stored then; none if neither is.
    pub(super) fn advance(
        &mut self,
        now: Moment,
        (process, partition): (ProcessId, PartitionIndex),
        (token, created): (Token, Option<Timestamp>),
        (sequence, at): (Sequence, Timestamp),
    ) -> Option<(PositionRecord, Revision)> {
        let stored = self.records.get(&partition)?;
        let mut record = stored.record.clone();
        let is_of_stream = created.is_none_or(|created| created == record.created);
        if record.token != token || !is_of_stream || record.seq >= sequence {
            return None;
        }
        (record.seq, record.at) = (sequence, at);
        tidy(&mut record);
        self.store(now, (process, partition), record.clone());
        Some((record, self.last))
    }

    fn store(
        &mut self,
        now: Moment,
        (process, partition): (ProcessId, PartitionIndex),
        record: PositionRecord,
    ) -> Outcome {
        self.last = self.last.next();
        let before = self.records.insert(partition, Stored { revision: self.last, record, at: now });
        self.known.insert((process, partition), now);
        self.journal.push_back((partition, before));
        if self.journal.len() > MAX_JOURNAL {
            self.journal.pop_front();
        }
        Outcome::Committed(self.last)
    }

    /// Loses its last writes, whose revisions are then given again.
    pub(super) fn roll_back(&mut self, writes: u32) {
        for _ in 0..writes {
            let Some((partition, before)) = self.journal.pop_back() else { break };
            match before {
                Some(before) => self.records.insert(partition, before),
                None => self.records.remove(&partition),
            };
            self.last = Revision::new(self.last.value() - 1);
        }
    }

    /// Removes everything; revisions go on.
    pub(super) fn purge(&mut self) {
        self.records.clear();
        self.journal.clear();
    }
}

/// What follows from how far the position has come.
fn tidy(record: &mut PositionRecord) {
    record.through = record.through.max(record.seq);
    record.failed = record.failed.filter(|failed| failed.seq > record.seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes that store positions, one event each millisecond.
    #[derive(Default)]
    struct Bucket {
        positions: Positions,
        ms: u64,
    }

    const A: usize = 0;
    const B: usize = 1;

    impl Bucket {
        fn now(&mut self) -> Moment {
            self.ms += 1;
            Moment::from_millis(self.ms)
        }

        fn write(&mut self, process: usize, partition: usize, expected: Option<u64>) -> Outcome {
            let (now, writer) = (self.now(), (ProcessId::new(process), PartitionIndex::new(partition)));
            self.positions.write(now, writer, expected.map(Revision::new), PositionRecord::default(), true)
        }

        fn read(&mut self, process: usize) -> Option<u64> {
            let now = self.now();
            self.positions
                .read(ProcessId::new(process), PartitionIndex::new(A), now)
                .map(|stored| stored.revision.value())
        }

        /// Whether a write is blind that the process would send now.
        fn is_blind(&self, process: usize, expected: u64) -> bool {
            let known_at = self.positions.known_at(ProcessId::new(process), PartitionIndex::new(A));
            self.positions.is_blind(PartitionIndex::new(A), Some(Revision::new(expected)), known_at)
        }
    }

    #[test]
    fn a_write_depends_on_the_revision_of_its_key_and_lost_ones_are_given_again() {
        let mut bucket = Bucket::default();
        let committed = |revision| Outcome::Committed(Revision::new(revision));
        assert_eq!(bucket.write(0, A, None), committed(1));
        assert_eq!(bucket.write(0, B, None), committed(2));
        assert_eq!(bucket.write(0, A, None), Outcome::Conflict);
        assert_eq!(bucket.write(0, A, Some(1)), committed(3));
        bucket.positions.roll_back(1);
        assert_eq!(bucket.write(0, A, Some(3)), Outcome::Conflict);
        assert_eq!(bucket.write(0, A, Some(1)), committed(3));
        bucket.positions.purge();
        assert_eq!(bucket.read(0), None);
    }

    #[test]
    fn an_application_stores_under_the_token_that_has_claimed_and_a_claim_depends_on_it() {
        let (mut positions, now, partition) = (Positions::default(), Moment::START, PartitionIndex::new(A));
        let [a, b] = [0, 1].map(|process| (ProcessId::new(process), partition));
        let token = |epoch| Token { epoch: parti_core::Generation::new(epoch), ..Token::default() };
        let of = |epoch, seq| {
            let seq = Sequence::new(seq);
            PositionRecord { token: token(epoch), seq, open: true, ..PositionRecord::default() }
        };
        let (under, at) =
            (|epoch| (token(epoch), Some(Timestamp::default())), |seq| (Sequence::new(seq), Timestamp::new(seq)));
        assert_eq!(positions.advance(now, a, under(1), at(1)), None, "nobody has claimed it");
        assert!(matches!(positions.write(now, a, None, of(1, 0), true), Outcome::Committed(_)));
        let (_, read) = positions.advance(now, a, under(1), at(1)).expect("its token is stored");
        assert_eq!(positions.advance(now, a, under(1), at(1)), None, "no effect is stored twice");
        positions.advance(now, a, under(1), at(2)).expect("its token is stored");
        assert_eq!(positions.write(now, b, Some(read), of(2, 1), true), Outcome::Conflict);
        let read = positions.read(b.0, partition, now).expect("it is there").revision;
        assert!(matches!(positions.write(now, b, Some(read), of(2, 2), true), Outcome::Committed(_)));
        assert_eq!(positions.advance(now, a, under(1), at(3)), None);
        positions.advance(now, b, under(2), at(3)).expect("its token is stored");
        assert_eq!(positions.write_beside(now, a, Some(read), of(1, 9), false), Outcome::Conflict);
        assert!(matches!(positions.write_beside(now, b, Some(read), of(2, 2), false), Outcome::Committed(_)));
        let stored = positions.read(b.0, partition, now).expect("it is there");
        assert_eq!(stored.record.seq, Sequence::new(3), "what delivery says does not bring the position back");
        let closed = PositionRecord { open: false, ..of(2, 3) };
        assert!(matches!(positions.write_beside(now, b, None, closed, false), Outcome::Committed(_)));
        assert_eq!(positions.write_beside(now, b, Some(read), of(2, 3), false), Outcome::Conflict, "it was let go");
    }

    #[test]
    fn positions_of_two_lives_of_a_stream_are_not_compared() {
        let (mut positions, now, a) =
            (Positions::default(), Moment::START, (ProcessId::new(0), PartitionIndex::new(A)));
        let of = |created, seq| {
            let (created, seq) = (Timestamp::new(created), Sequence::new(seq));
            PositionRecord { created, seq, ..PositionRecord::default() }
        };
        let Outcome::Committed(read) = positions.write(now, a, None, of(1, 9), true) else {
            panic!("nothing is there")
        };
        let next = (Sequence::new(10), Timestamp::new(10));
        let anew = (Token::default(), Some(Timestamp::new(2)));
        assert_eq!(positions.advance(now, a, anew, next), None, "nobody has claimed it for this stream");
        let other = Some(read.next());
        assert_eq!(positions.write_beside(now, a, other, of(2, 1), false), Outcome::Conflict, "it was not read");
        assert!(matches!(positions.write_beside(now, a, Some(read), of(2, 1), false), Outcome::Committed(_)));
        let stored = positions.read(a.0, a.1, now).expect("it is there");
        assert_eq!((stored.record.created, stored.record.seq), (Timestamp::new(2), Sequence::new(1)));
        assert!(positions.advance(now, a, anew, next).is_some());
    }

    #[test]
    fn who_knows_only_what_was_lost_is_blind_where_its_revision_is_given_again() {
        let mut bucket = Bucket::default();
        bucket.write(0, A, None);
        bucket.write(0, A, Some(1));
        assert!(!bucket.is_blind(0, 2), "it has written it");
        bucket.positions.roll_back(1);
        assert!(!bucket.is_blind(0, 2), "it does not fit");
        assert!(!bucket.is_blind(0, 1), "it is what it was");
        assert_eq!(bucket.read(1), Some(1));
        bucket.write(1, A, Some(1));
        assert_eq!((bucket.is_blind(0, 2), bucket.is_blind(1, 2)), (true, false));
        assert_eq!(bucket.read(0), Some(2));
        assert!(!bucket.is_blind(0, 2));
    }
}
