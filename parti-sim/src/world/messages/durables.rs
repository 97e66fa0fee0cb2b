//! The model of durable consumers, one for each partition of a stream that removes what is acknowledged, as a server keeps
//! them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parti_core::delivery::{CallId, ConsumerState, Message, Place, PullEnd, Pulled, Sequence, Timestamp};

use super::stream::Stream;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// How often a server stores what it knows of a consumer: what is newer can be lost.
const STORED_EVERY: Duration = Duration::from_secs(1);
/// How much later than it is stored a consumer counts a message, as it hears of it, in nanoseconds.
const COUNTED_AFTER: u64 = 20_000_000;

/// The consumers of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Durables {
    /// Whether the server brings a consumer back to its floor, as those from 2.14 on can. Before, it is deleted and created.
    resets: bool,
    ack_wait: Duration,
    of: BTreeMap<Name, Durable>,
}

/// The name of a consumer: of which partition it is, and of the stream that was made when.
pub(crate) type Name = (PartitionIndex, Timestamp);

/// Who pulls.
pub(crate) type Puller = (ProcessId, CallId);

/// A request for messages that waits at a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(super) by: Puller,
    /// How many messages it still takes, and how many bytes.
    pub(super) left: u32,
    pub(super) bytes: Option<usize>,
    pub(super) ends: Moment,
}

/// What a consumer sends.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// A message, with which the request may be over.
    Message(Pulled<u64>, bool),
    Over(PullEnd),
}

/// What came of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    /// The message is gone. With it, its number in the order of all publications.
    Removed(u64),
    /// It was gone already.
    Again,
    /// There is no consumer, or none that has delivered it: nobody answers.
    Unheard,
}

/// One consumer.
#[derive(Clone, Debug, Default)]
struct Durable {
    knows: Known,
    /// What of that was stored last, and when.
    stored: (Moment, Known),
    /// Who waits for messages. Each is served one message in turn.
    waiting: VecDeque<Request>,
}

/// What a consumer knows.
#[derive(Clone, Debug, Default)]
struct Known {
    place: u64,
    /// The greatest number that it has delivered.
    delivered: u64,
    floor: u64,
    /// The last number of the stream when it began: up to there it has counted what there is.
    counted: u64,
    /// What it has delivered, and until when it waits for the acknowledgement.
    unacknowledged: BTreeMap<u64, Moment>,
    /// What of that is to be delivered again.
    again: BTreeSet<u64>,
}

impl Durables {
    pub(super) const fn new(resets: bool, ack_wait: Duration) -> Self {
        Self { resets, ack_wait, of: BTreeMap::new() }
    }

    /// The consumers of a partition.
    pub(super) fn names(&self, partition: PartitionIndex) -> impl Iterator<Item = Name> + '_ {
        self.of.keys().copied().filter(move |(of, _)| *of == partition)
    }

    /// What the server says of a consumer, if there is one. What was stored a moment ago may not be counted yet.
    pub(super) fn state(&self, now: Moment, stream: &Stream, name: Name) -> Option<ConsumerState> {
        let (partition, _) = name;
        let Known { place, delivered, floor, counted, unacknowledged, .. } = &self.of.get(&name)?.knows;
        let counted = stream.last_before(now.as_nanos().saturating_sub(COUNTED_AFTER)).max(*counted);
        Some(ConsumerState {
            delivered: Place::new(*place),
            through: Sequence::new(*delivered),
            floor: Sequence::new(*floor),
            unacknowledged: unacknowledged.len() as u64,
            pending: stream.count_between(partition, *delivered, counted),
            ack_wait: self.ack_wait,
        })
    }

    /// Creates a consumer, unless there is one.
    pub(super) fn create(&mut self, stream: &Stream, name: Name) {
        let knows = Known { counted: stream.last(), ..Known::default() };
        self.of.entry(name).or_insert_with(|| Durable { knows, ..Durable::default() });
    }

    /// Deletes a consumer. Returns those whose requests end with it.
    pub(super) fn delete(&mut self, name: Name) -> Vec<Puller> {
        let durable = self.of.remove(&name).unwrap_or_default();
        durable.waiting.iter().map(|request| request.by).collect()
    }

    /// Deletes all of them.
    pub(super) fn delete_all(&mut self) -> Vec<Puller> {
        let names: Vec<_> = self.of.keys().copied().collect();
        names.into_iter().flat_map(|name| self.delete(name)).collect()
    }

    /// Whether a consumer of the partition still has this message to deliver, or waits for its acknowledgement.
    fn waits_for(&self, partition: PartitionIndex, sequence: Sequence) -> bool {
        self.of.iter().any(|((of, _), durable)| {
            let Known { delivered, unacknowledged, .. } = &durable.knows;
            *of == partition && (sequence.value() > *delivered || unacknowledged.contains_key(&sequence.value()))
        })
    }

    /// Whether this server deletes a consumer to bring it back to its floor.
    pub(super) const fn deletes(&self) -> bool {
        !self.resets
    }

    /// Brings a consumer back to its floor. Requests that wait go on to wait.
    pub(super) fn reset(&mut self, stream: &Stream, name: Name) {
        if let Some(durable) = self.of.get_mut(&name) {
            let floor = durable.knows.floor;
            durable.knows = Known { delivered: floor, floor, counted: stream.last(), ..Known::default() };
            durable.stored.1 = durable.knows.clone();
        }
    }

    /// Takes a request. Returns whether there is a consumer that does.
    pub(super) fn pull(&mut self, name: Name, request: Request) -> bool {
        let durable = self.of.get_mut(&name);
        durable.map(|durable| durable.waiting.push_back(request)).is_some()
    }

    /// Takes a request back. Returns whether it waited.
    pub(super) fn end_pull(&mut self, by: Puller) -> bool {
        self.of.values_mut().any(|durable| {
            let place = durable.waiting.iter().position(|request| request.by == by);
            place.is_some_and(|place| durable.waiting.remove(place).is_some())
        })
    }

    /// Whether a request waits.
    #[cfg(test)]
    fn waits(&self, by: Puller) -> bool {
        self.of.values().flat_map(|durable| &durable.waiting).any(|request| request.by == by)
    }

    /// Takes all requests of a process back: its connection is gone.
    pub(super) fn end_pulls_of(&mut self, process: ProcessId) {
        for durable in self.of.values_mut() {
            durable.waiting.retain(|request| request.by.0 != process);
        }
    }

    /// The next thing that a consumer sends, and to whom; none as long as it has nothing to send, or nobody waits.
    pub(super) fn send(
        &mut self,
        now: Moment,
        stream: &Stream,
        name: Name,
        listens: impl Fn(ProcessId) -> bool,
    ) -> Option<(Puller, Sent)> {
        let (ack_wait, (partition, _)) = (self.ack_wait, name);
        let durable = self.of.get_mut(&name)?;
        durable.waiting.retain(|request| now < request.ends);
        let message = durable.knows.next(stream, partition)?;
        durable.waiting.retain(|request| listens(request.by.0));
        let mut request = durable.waiting.pop_front()?;
        if request.bytes.is_some_and(|bytes| bytes < message.bytes) {
            return Some((request.by, Sent::Over(PullEnd::TooLarge)));
        }
        request.bytes = request.bytes.map(|bytes| bytes - message.bytes);
        request.left -= 1;
        let is_over = request.left == 0 || request.bytes == Some(0);
        if !is_over {
            durable.waiting.push_back(request);
        }
        durable.store(now);
        let place = durable.knows.deliver(message.sequence, now + ack_wait);
        let pending = stream.count_between(partition, durable.knows.delivered, stream.last());
        Some((request.by, Sent::Message(Pulled { message, place, pending }, is_over)))
    }

    /// A message is acknowledged: it is gone, once no other consumer waits for it. Which delivery of it says so does not
    /// matter.
    pub(super) fn acknowledge(&mut self, now: Moment, stream: &mut Stream, name: Name, sequence: Sequence) -> Acked {
        let heard = |durable: &&mut Durable| sequence.value() <= durable.knows.delivered;
        let Some(durable) = self.of.get_mut(&name).filter(heard) else { return Acked::Unheard };
        durable.store(now);
        durable.knows.acknowledge(sequence.value());
        if self.waits_for(name.0, sequence) {
            return Acked::Again;
        }
        stream.remove(sequence).map_or(Acked::Again, Acked::Removed)
    }

    /// Work on messages goes on: it is waited for their acknowledgement anew.
    pub(super) fn extend(&mut self, now: Moment, name: Name, messages: &[Sequence]) {
        let until = now + self.ack_wait;
        let Some(durable) = self.of.get_mut(&name) else { return };
        for message in messages {
            durable.knows.unacknowledged.entry(message.value()).and_modify(|ends| *ends = until);
        }
    }

    /// What was not acknowledged in time is to be delivered again. Returns when that is to be looked at again.
    pub(super) fn expire(&mut self, now: Moment, partition: PartitionIndex) -> Option<Moment> {
        let of_it = self.of.iter_mut().filter(|((of, _), _)| *of == partition);
        let due = of_it.filter_map(|(_, durable)| {
            let Known { unacknowledged, again, .. } = &mut durable.knows;
            again.extend(unacknowledged.iter().filter(|(_, ends)| **ends <= now).map(|(number, _)| *number));
            unacknowledged.values().filter(|ends| **ends > now).min().copied()
        });
        due.min()
    }

    /// The server restarts without what it knew of consumers and had not stored; requests are gone with it.
    pub(super) fn lose(&mut self) {
        for durable in self.of.values_mut() {
            durable.knows = durable.stored.1.clone();
            durable.waiting.clear();
        }
    }

    /// The server restarts with a stream that ends here. One that brings consumers back to their floor also sees where
    /// they are ahead of their stream; others leave that as it is, and pass over the numbers that are given again.
    pub(super) fn fall_back(&mut self, last: u64) {
        for durable in self.of.values_mut() {
            durable.waiting.clear();
            let knows = &mut durable.knows;
            if self.resets && knows.delivered > last {
                knows.place = knows.place.saturating_sub(knows.delivered - last);
                (knows.delivered, knows.floor) = (last, knows.floor.min(last));
                knows.unacknowledged.split_off(&(last + 1));
                knows.again.split_off(&(last + 1));
            }
        }
    }
}

impl Durable {
    /// Stores what it knows, if it is time.
    fn store(&mut self, now: Moment) {
        if now.since(self.stored.0) >= STORED_EVERY {
            self.stored = (now, self.knows.clone());
        }
    }
}

impl Known {
    /// What is to be delivered next: what is delivered again before what never was, the lowest first.
    fn next(&mut self, stream: &Stream, partition: PartitionIndex) -> Option<Message<u64>> {
        while let Some(number) = self.again.first() {
            match stream.message_of(partition, *number) {
                Some(message) => return Some(message),
                // It was removed otherwise.
                None => _ = self.again.pop_first().map(|number| self.unacknowledged.remove(&number)),
            }
        }
        stream.next_of(partition, self.delivered)
    }

    fn deliver(&mut self, sequence: Sequence, waits_until: Moment) -> Place {
        let number = sequence.value();
        self.place += 1;
        self.delivered = self.delivered.max(number);
        self.again.remove(&number);
        self.unacknowledged.insert(number, waits_until);
        Place::new(self.place)
    }

    fn acknowledge(&mut self, number: u64) {
        self.unacknowledged.remove(&number);
        self.again.remove(&number);
        let floor = self.unacknowledged.first_key_value().map_or(self.delivered, |(lowest, _)| lowest - 1);
        self.floor = self.floor.max(floor);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use parti_core::conformance::{INTEREST_BEHAVIOURS, PullName, PullShows, QUEUE_BEHAVIOURS, QueueUnderTest};

    /// The model, with messages that take no time.
    struct Model {
        durables: Durables,
        stream: Stream,
        interest: bool,
        name: Name,
        /// By which consumer each message was delivered first.
        first: BTreeMap<Sequence, Name>,
        now: Moment,
        /// What each pull shows next, and how many messages it takes still.
        pulls: Vec<(VecDeque<PullShows>, u32)>,
    }

    impl Model {
        fn new(resets: bool, interest: bool) -> Self {
            let durables = Durables::new(resets, Duration::from_secs(60));
            let stream = Stream::new(2);
            let name = (partition(), stream.state().created);
            let first = BTreeMap::new();
            Self { durables, stream, interest, name, first, now: Moment::START, pulls: Vec::new() }
        }

        fn store(&mut self, partition: PartitionIndex) -> Sequence {
            if self.interest && self.durables.names(partition).next().is_none() {
                self.stream.pass_over();
            } else {
                self.stream.publish(partition, self.now.as_nanos());
            }
            self.serve();
            Sequence::new(self.stream.last())
        }

        fn serve(&mut self) {
            self.durables.expire(self.now, partition());
            while let Some(((_, pull), sent)) = self.durables.send(self.now, &self.stream, self.name, |_| true) {
                match sent {
                    Sent::Message(Pulled { message, place, pending }, _) => {
                        let sequence = message.sequence;
                        self.first.entry(sequence).or_insert(self.name);
                        self.show(pull, PullShows::Message { sequence, place, pending });
                    }
                    Sent::Over(end) => self.show(pull, PullShows::Over(end)),
                }
            }
        }

        fn show(&mut self, pull: CallId, shows: PullShows) {
            let place = usize::try_from(pull.value()).expect("a small number");
            self.pulls[place].0.push_back(shows);
        }

        fn lost(&mut self, pullers: Vec<Puller>) {
            for (_, pull) in pullers {
                self.show(pull, PullShows::Over(PullEnd::Lost { reason: "deleted".into() }));
            }
        }
    }

    impl QueueUnderTest for Model {
        fn publish(&mut self) -> Sequence {
            self.store(partition())
        }

        fn publish_elsewhere(&mut self) -> Sequence {
            self.store(PartitionIndex::new(1))
        }

        fn has(&mut self, sequence: Sequence) -> bool {
            self.stream.stored_at(sequence, self.stream.last()).is_some()
        }

        fn recreate(&mut self) {
            self.stream.make_anew(self.now.as_nanos());
            let waited = self.durables.delete_all();
            self.lost(waited);
        }

        fn find(&mut self) -> Option<ConsumerState> {
            self.durables.state(self.now, &self.stream, self.name)
        }

        fn create(&mut self) -> ConsumerState {
            self.durables.create(&self.stream, self.name);
            self.find().expect("it is there")
        }

        fn rename(&mut self, created: Timestamp) -> Timestamp {
            std::mem::replace(&mut self.name.1, created)
        }

        fn replace(&mut self) -> ConsumerState {
            let others: Vec<Name> = self.durables.names(partition()).filter(|name| *name != self.name).collect();
            for other in others {
                let waited = self.durables.delete(other);
                self.lost(waited);
            }
            self.create()
        }

        fn restore(&mut self) -> ConsumerState {
            if self.durables.deletes() {
                self.delete();
                return self.create();
            }
            self.durables.reset(&self.stream, self.name);
            self.serve();
            self.find().expect("it is there")
        }

        fn delete(&mut self) {
            let waited = self.durables.delete(self.name);
            self.lost(waited);
        }

        fn pull(&mut self, most: u32, bytes: Option<usize>, time: Duration) -> PullName {
            let name = PullName(self.pulls.len());
            self.pulls.push((VecDeque::new(), most));
            let by = (client(), CallId::new(name.0 as u64));
            if self.durables.pull(self.name, Request { by, left: most, bytes, ends: self.now + time }) {
                self.serve();
            } else {
                self.lost(vec![by]);
            }
            name
        }

        fn end_pull(&mut self, pull: PullName) {
            self.durables.end_pull((client(), CallId::new(pull.0 as u64)));
        }

        fn next(&mut self, pull: PullName, patience: Duration) -> Option<PullShows> {
            if self.pulls[pull.0].0.is_empty() {
                self.pass(patience);
                if self.pulls[pull.0].0.is_empty() && !self.durables.waits((client(), CallId::new(pull.0 as u64))) {
                    return Some(PullShows::Over(PullEnd::Done));
                }
            }
            self.pulls[pull.0].0.pop_front()
        }

        fn acknowledge(&mut self, sequence: Sequence) -> bool {
            let name = self.first[&sequence];
            self.durables.acknowledge(self.now, &mut self.stream, name, sequence) != Acked::Unheard
        }

        fn extend(&mut self, sequence: Sequence) {
            self.durables.extend(self.now, self.name, &[sequence]);
        }

        fn shorten_ack_wait(&mut self, to: Duration) {
            self.durables.ack_wait = to;
        }

        fn pass(&mut self, time: Duration) {
            self.now = self.now + time;
            self.serve();
        }

        fn resets(&self) -> bool {
            !self.durables.deletes()
        }
    }

    fn partition() -> PartitionIndex {
        PartitionIndex::new(0)
    }

    fn client() -> ProcessId {
        ProcessId::new(0)
    }

    #[test]
    fn the_model_behaves_as_the_core_relies_on() {
        for (resets, interest) in [(false, false), (true, false), (true, true)] {
            for behaviour in if interest { INTEREST_BEHAVIOURS } else { QUEUE_BEHAVIOURS } {
                let check = AssertUnwindSafe(|| (behaviour.check)(&mut Model::new(resets, interest)));
                assert!(catch_unwind(check).is_ok(), "{}, resets: {resets}", behaviour.what);
            }
        }
    }
}
