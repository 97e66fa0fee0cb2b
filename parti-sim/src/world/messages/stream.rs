//! The model of a stream: numbered messages, each of one partition, of which the oldest are removed in time.

use std::collections::{BTreeMap, VecDeque};

use parti_core::delivery::{Fetched, Message, Sequence, StreamState, Timestamp};

use crate::told::fact::PartitionIndex;

/// How many bytes a message takes.
const BYTES: usize = 100;

/// A stream. The body of a message is its number in the order of all publications, which no other message ever has.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    created: Timestamp,
    /// The last number that was given.
    last: u64,
    /// Up to where its limits have removed everything.
    removed: u64,
    /// What it has, by number.
    stored: BTreeMap<u64, Stored>,
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
            last: 0,
            removed: 0,
            stored: BTreeMap::new(),
            of: vec![VecDeque::new(); partitions],
            newest: 1,
            published: 0,
        }
    }

    /// The last number that was given.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The number of the first message, or of the next one where there is none.
    fn first(&self) -> u64 {
        self.stored.first_key_value().map_or(self.last + 1, |(first, _)| *first)
    }

    pub(super) fn state(&self) -> StreamState {
        StreamState { created: self.created, first: Sequence::new(self.first()), last: Sequence::new(self.last) }
    }

    /// Stores a message. Returns its number in the stream and its number in the order of all publications.
    pub(super) fn publish(&mut self, partition: PartitionIndex, nanos: u64) -> (Sequence, u64) {
        self.published += 1;
        let at = self.tick(nanos);
        self.last += 1;
        self.stored.insert(self.last, Stored { partition, at, number: self.published });
        self.of[partition.index()].push_back(self.last);
        (Sequence::new(self.last), self.published)
    }

    /// Gives a number to a message that nobody waits for, and removes it at once.
    pub(super) const fn pass_over(&mut self) {
        self.last += 1;
    }

    /// Removes one message. Returns its number in the order of all publications, if it was there.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<u64> {
        let stored = self.stored.remove(&sequence.value())?;
        let numbers = &mut self.of[stored.partition.index()];
        if let Ok(place) = numbers.binary_search(&sequence.value()) {
            numbers.remove(place);
        }
        Some(stored.number)
    }

    /// Removes what was stored before this time. Returns whether that is anything.
    pub(super) fn remove_before(&mut self, nanos: u64) -> bool {
        let before = self.removed;
        while let Some(oldest) = self.stored.first_entry().filter(|oldest| oldest.get().at.value() < nanos) {
            let (number, stored) = oldest.remove_entry();
            self.of[stored.partition.index()].pop_front();
            self.removed = number;
        }
        self.removed > before
    }

    /// Loses its newest messages, and gives their numbers again.
    pub(super) fn lose(&mut self, count: u64) {
        self.last = self.last.saturating_sub(count).max(self.removed);
        for stored in self.stored.split_off(&(self.last + 1)).into_values() {
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
        self.stored.get(&sequence.value()).filter(|_| sequence.value() <= up_to).map(|stored| stored.at)
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
        let (number, stored) = self.stored.range(from..).next()?;
        Some((stored.partition, self.message(*number)?))
    }

    /// How many messages of a partition have a number greater than the first one, and not greater than the last one.
    pub(super) fn count_between(&self, partition: PartitionIndex, number: u64, last: u64) -> u64 {
        let numbers = &self.of[partition.index()];
        let through = |number| numbers.partition_point(|of_it| *of_it <= number);
        through(last).saturating_sub(through(number)) as u64
    }

    /// The number of the last message that was stored by this time; 0 where there is none.
    pub(super) fn last_before(&self, nanos: u64) -> u64 {
        let by_then = |(_, stored): &(&u64, &Stored)| stored.at <= Timestamp::new(nanos);
        self.stored.iter().rev().find(by_then).map_or(0, |(number, _)| *number)
    }

    /// The first message of a partition with a greater number than this.
    pub(super) fn next_of(&self, partition: PartitionIndex, number: u64) -> Option<Message<u64>> {
        let numbers = &self.of[partition.index()];
        self.message(*numbers.get(numbers.partition_point(|of_it| *of_it <= number))?)
    }

    /// The message with this number, if it is of this partition.
    pub(super) fn message_of(&self, partition: PartitionIndex, number: u64) -> Option<Message<u64>> {
        self.message(number).filter(|_| self.stored[&number].partition == partition)
    }

    fn message(&self, number: u64) -> Option<Message<u64>> {
        let Stored { at, number: body, .. } = *self.stored.get(&number)?;
        Some(Message { sequence: Sequence::new(number), timestamp: at, bytes: BYTES, body })
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
    fn what_is_removed_is_gone_and_leaves_its_number() {
        let mut stream = of(&[A, B, A, A]);
        assert_eq!((stream.remove(Sequence::new(3)), stream.remove(Sequence::new(3))), (Some(3), None));
        let next = |from| stream.next_of(PartitionIndex::new(A), from).map(|message| message.sequence.value());
        assert_eq!((next(0), next(1), next(4)), (Some(1), Some(4), None));
        assert_eq!(stream.count_between(PartitionIndex::new(A), 1, stream.last()), 1);
        for number in [1, 2, 4] {
            stream.remove(Sequence::new(number));
        }
        assert_eq!((stream.state().first.value(), stream.last()), (5, 4));
        stream.lose(3);
        assert_eq!((stream.state().first.value(), stream.last()), (2, 1), "numbers are lost as well");
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
