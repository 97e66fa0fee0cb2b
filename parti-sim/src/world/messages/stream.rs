//! The model of a stream: numbered messages, each of one partition, of which the oldest are removed in time.

use std::collections::VecDeque;

use parti_core::delivery::{Fetched, Message, Sequence, StreamState, Timestamp};

use crate::told::fact::PartitionIndex;

/// How many bytes a message takes.
const BYTES: usize = 100;

/// A stream. The body of a message is its number in the order of all publications, which no other message ever has.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    created: Timestamp,
    /// The number of the first message, or of the next one where there is none.
    first: u64,
    stored: VecDeque<Stored>,
    /// The messages of each partition.
    of: Vec<VecDeque<u64>>,
    /// The time of the last message: no two have the same.
    newest: u64,
    published: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    partition: PartitionIndex,
    at: Timestamp,
    number: u64,
}

impl Stream {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            created: Timestamp::new(1),
            first: 1,
            stored: VecDeque::new(),
            of: vec![VecDeque::new(); partitions],
            newest: 1,
            published: 0,
        }
    }

    /// The last number that was given.
    pub(super) fn last(&self) -> u64 {
        self.first + self.stored.len() as u64 - 1
    }

    pub(super) fn state(&self) -> StreamState {
        StreamState { created: self.created, first: Sequence::new(self.first), last: Sequence::new(self.last()) }
    }

    /// Stores a message. Returns its number in the stream and its number in the order of all publications.
    pub(super) fn publish(&mut self, partition: PartitionIndex, nanos: u64) -> (Sequence, u64) {
        self.published += 1;
        let at = self.tick(nanos);
        self.stored.push_back(Stored { partition, at, number: self.published });
        let last = self.last();
        self.of[partition.index()].push_back(last);
        (Sequence::new(last), self.published)
    }

    /// Removes what was stored before this time. Returns whether that is anything.
    pub(super) fn remove_before(&mut self, nanos: u64) -> bool {
        let first = self.first;
        while self.stored.front().is_some_and(|stored| stored.at.value() < nanos) {
            let stored = self.stored.pop_front().expect("there is one");
            self.of[stored.partition.index()].pop_front();
            self.first += 1;
        }
        self.first > first
    }

    /// Loses its newest messages, and gives their numbers again.
    pub(super) fn lose(&mut self, count: u64) {
        for _ in 0..count {
            let Some(stored) = self.stored.pop_back() else { return };
            self.of[stored.partition.index()].pop_back();
        }
    }

    /// Is deleted and made anew.
    pub(super) fn make_anew(&mut self, nanos: u64) {
        let created = self.tick(nanos);
        let (newest, published) = (self.newest, self.published);
        *self = Self { created, newest, published, ..Self::new(self.of.len()) };
    }

    /// When the message with this number was stored, as a replica knows it that has come `up_to`.
    pub(super) fn stored_at(&self, sequence: Sequence, up_to: u64) -> Option<Timestamp> {
        self.get(sequence.value()).filter(|_| sequence.value() <= up_to).map(|stored| stored.at)
    }

    /// The last message of a partition, as a replica knows it that has come `up_to`.
    pub(super) fn last_of(&self, partition: PartitionIndex, up_to: u64) -> Option<Sequence> {
        let numbers = &self.of[partition.index()];
        let known = numbers.partition_point(|number| *number <= up_to);
        numbers.get(known.checked_sub(1)?).copied().map(Sequence::new)
    }

    /// Messages of a partition, as a replica knows them that has come `up_to`.
    pub(super) fn read(
        &self,
        partition: PartitionIndex,
        from: Sequence,
        up_to: u64,
        (most, bytes): (u32, usize),
    ) -> Fetched<u64> {
        let numbers = &self.of[partition.index()];
        let begin = numbers.partition_point(|number| *number < from.value());
        let end = numbers.partition_point(|number| *number <= up_to).max(begin);
        let count = (most as usize).min((bytes / BYTES).max(1)).min(end - begin);
        let messages = numbers.range(begin..begin + count).filter_map(|number| self.message(*number)).collect();
        Fetched { messages, pending: (end - begin - count) as u64 }
    }

    /// The first message from this number on, and its partition.
    pub(super) fn next(&self, from: u64) -> Option<(PartitionIndex, Message<u64>)> {
        let number = from.max(self.first);
        Some((self.get(number)?.partition, self.message(number)?))
    }

    fn message(&self, number: u64) -> Option<Message<u64>> {
        let Stored { at, number: body, .. } = *self.get(number)?;
        Some(Message { sequence: Sequence::new(number), timestamp: at, bytes: BYTES, body })
    }

    fn get(&self, number: u64) -> Option<&Stored> {
        self.stored.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn tick(&mut self, nanos: u64) -> Timestamp {
        self.newest = nanos.max(self.newest + 1);
        Timestamp::new(self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: usize = 0;
    const B: usize = 1;

    fn of(partitions: &[usize]) -> Stream {
        let mut stream = Stream::new(2);
        for (at, partition) in partitions.iter().enumerate() {
            stream.publish(PartitionIndex::new(*partition), 1_000 + at as u64);
        }
        stream
    }

    fn read(stream: &Stream, from: u64, up_to: u64) -> (Vec<u64>, u64) {
        let fetched = stream.read(PartitionIndex::new(A), Sequence::new(from), up_to, (2, 1_000));
        (fetched.messages.iter().map(|message| message.sequence.value()).collect(), fetched.pending)
    }

    #[test]
    fn a_reading_shows_all_that_a_replica_has_of_one_partition() {
        let stream = of(&[A, B, A, A, B, A]);
        assert_eq!(read(&stream, 1, 6), (vec![1, 3], 2));
        assert_eq!(read(&stream, 2, 4), (vec![3, 4], 0));
        assert_eq!(read(&stream, 7, 6), (vec![], 0));
        let last = |partition, up_to| stream.last_of(PartitionIndex::new(partition), up_to).map(Sequence::value);
        assert_eq!((last(A, 6), last(A, 5), last(B, 1)), (Some(6), Some(4), None));
    }

    #[test]
    fn limits_remove_the_oldest_and_numbers_go_on() {
        let mut stream = of(&[A, B, A]);
        assert!(stream.remove_before(1_002) && !stream.remove_before(1_002));
        assert_eq!((stream.state().first.value(), stream.last()), (3, 3));
        assert_eq!(read(&stream, 1, 3), (vec![3], 0));
        stream.remove_before(5_000);
        assert_eq!((stream.state().first.value(), stream.last()), (4, 3));
        assert_eq!(stream.publish(PartitionIndex::new(B), 6_000).0.value(), 4);
    }

    #[test]
    fn lost_numbers_are_given_again_to_other_messages() {
        let mut stream = of(&[A, B, A]);
        let before = stream.stored_at(Sequence::new(3), 3);
        stream.lose(2);
        assert_eq!((stream.last(), read(&stream, 1, 3)), (1, (vec![1], 0)));
        stream.publish(PartitionIndex::new(A), 1_000);
        stream.publish(PartitionIndex::new(A), 1_000);
        assert_ne!(stream.stored_at(Sequence::new(3), 3), before);
        let created = stream.state().created;
        stream.make_anew(9_000);
        assert_eq!((stream.last(), stream.state().first.value()), (0, 1));
        assert_ne!(stream.state().created, created);
    }
}
