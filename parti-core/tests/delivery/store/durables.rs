//! Durable consumers of a work queue, one for each partition, as a server keeps them.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::delivery::{Answer, CallId, ConsumerState, Event, Order, Place, PullEnd, Pulled, Sequence, Timestamp};
use parti_core::{Duration, PartitionId};

use super::{Stored, World, id, message};

/// The consumers, and how they behave.
#[derive(Default)]
pub(crate) struct Durables {
    pub(crate) of: BTreeMap<String, Durable>,
    /// Why none can be created.
    pub(crate) refused: Option<String>,
    /// Acknowledgements are done, but the answers are lost.
    pub(crate) lose_answers: bool,
    /// Answers to acknowledgements are held back.
    pub(crate) hold_answers: bool,
    /// How often one was created, and how often one was brought back to its floor.
    pub(crate) created: u32,
    pub(crate) restored: u32,
    /// What work was said to go on with.
    pub(crate) extended: Vec<(String, Vec<u64>)>,
}

/// One consumer.
#[derive(Clone, Default)]
pub(crate) struct Durable {
    /// The stream that its name says.
    named: Timestamp,
    place: u64,
    delivered_through: u64,
    unacknowledged: BTreeSet<u64>,
    /// What is to be delivered again, the lowest first.
    again: BTreeSet<u64>,
    /// Who waits for messages.
    waiting: Vec<Waiting>,
}

/// A member with its pull, or somebody else; and for how many messages it waits.
type Waiting = (Option<(usize, CallId)>, u32);

impl Durables {
    /// A process is gone with its connection.
    pub(crate) fn drop_pulls_of(&mut self, member: usize) {
        for durable in self.of.values_mut() {
            durable.waiting.retain(|(who, _)| who.is_none_or(|(of, _)| of != member));
        }
    }

    /// The requests of a frozen process stay, and are served before any other.
    pub(crate) fn freeze_pulls_of(&mut self, member: usize) {
        for waiting in self.of.values_mut().flat_map(|durable| &mut durable.waiting) {
            waiting.0 = waiting.0.filter(|(of, _)| *of != member);
        }
    }

    /// The consumer of a partition, if that has this name.
    fn named(&mut self, partition: &PartitionId, created: Timestamp) -> Option<&mut Durable> {
        self.of.get_mut(partition.as_str()).filter(|durable| durable.named == created)
    }

    /// How many requests wait for messages of a partition.
    pub(crate) fn waiting(&self, name: &str) -> usize {
        self.of[name].waiting.len()
    }
}

impl World {
    /// Somebody else asks for messages of a partition.
    pub(crate) fn take_elsewhere(&mut self, name: &str, count: u32) {
        self.durables.of.get_mut(name).expect("it is there").waiting.insert(0, (None, count));
        self.settle();
    }

    /// Somebody deletes a consumer: who waits is told.
    pub(crate) fn delete_consumer(&mut self, name: &str) {
        let durable = self.durables.of.remove(name).expect("it is there");
        for (who, _) in durable.waiting {
            if let Some((member, call)) = who {
                self.end_pull(member, call, PullEnd::Lost { reason: "consumer deleted".into() });
            }
        }
        self.settle();
    }

    /// The stream is deleted with its consumers and made anew, with so many other messages of a partition. Nobody has heard of it.
    pub(crate) fn make_stream_anew(&mut self, name: &str, count: u64) {
        self.created += 1;
        self.durables.of.clear();
        self.stream =
            (1..=count).map(|sequence| Stored { sequence, partition: id(name), at: 9_000 + sequence }).collect();
        self.last = count;
    }

    /// The server loses what it knew of a consumer; requests are gone with it.
    pub(crate) fn forget_consumer(&mut self, name: &str) {
        let durable = self.durables.of.get_mut(name).expect("it is there");
        let named = Durable { named: durable.named, ..Durable::default() };
        let durable = std::mem::replace(durable, named);
        for (who, _) in durable.waiting {
            if let Some((member, call)) = who {
                self.end_pull(member, call, PullEnd::Lost { reason: "no answer".into() });
            }
        }
        self.settle();
    }

    /// What the stream has of a partition.
    pub(crate) fn left(&self, name: &str) -> Vec<u64> {
        self.stream.iter().filter(|stored| stored.partition == id(name)).map(|stored| stored.sequence).collect()
    }

    fn end_pull(&mut self, member: usize, call: CallId, end: PullEnd) {
        let answer = Answer::PullOver(end);
        self.members[member].delivery.handle(self.now, Event::Answer { call, answer });
    }

    pub(super) fn carry_out_for_durable(&mut self, member: usize, order: Order<u64>) -> Option<(CallId, Answer<u64>)> {
        match order {
            Order::FindConsumer { call, partition, created } => Some((call, self.state(&partition, created))),
            Order::CreateConsumer { call, partition, created, replaces } => {
                if let Some(reason) = self.durables.refused.clone() {
                    return Some((call, Answer::Unfit { reason }));
                }
                self.durables
                    .of
                    .retain(|name, durable| *name != partition.as_str() || durable.named == created || !replaces);
                self.durables.created += 1;
                let named = Durable { named: created, ..Durable::default() };
                if self.durables.of.entry(partition.to_string()).or_insert(named).named != created {
                    let reason = "another consumer has its messages".into();
                    return Some((call, Answer::Unfit { reason }));
                }
                Some((call, self.state(&partition, created)))
            }
            Order::RestoreConsumer { call, partition, created } => {
                self.durables.restored += 1;
                if let Some(durable) = self.durables.named(&partition, created) {
                    let waiting = std::mem::take(&mut durable.waiting);
                    *durable = Durable { named: created, waiting, ..Durable::default() };
                }
                // Whoever waits is served before anybody is told.
                while self.serve_others(&partition) {}
                Some((call, self.state(&partition, created)))
            }
            Order::Pull { call, partition, created, most, .. } => {
                let Some(durable) = self.durables.named(&partition, created) else {
                    let end = PullEnd::Lost { reason: "no responders".into() };
                    return Some((call, Answer::PullOver(end)));
                };
                durable.waiting.push((Some((member, call)), most));
                None
            }
            Order::EndPull { pull } => {
                for durable in self.durables.of.values_mut() {
                    durable.waiting.retain(|(who, _)| *who != Some((member, pull)));
                }
                Some((pull, Answer::PullOver(PullEnd::Done)))
            }
            Order::Acknowledge { call, partition, created, messages } => {
                let answer = self.acknowledge(&partition, created, &messages);
                self.answer_acknowledgement(member, call, answer)
            }
            Order::Extend { partition, messages, .. } => {
                let messages = messages.into_iter().map(Sequence::value).collect();
                self.durables.extended.push((partition.to_string(), messages));
                None
            }
            _ => unreachable!("these are for consumers"),
        }
    }

    /// A message is acknowledged by a delivery of the consumer of this name: whatever has its number is gone.
    pub(crate) fn acknowledge(
        &mut self,
        partition: &PartitionId,
        created: Timestamp,
        messages: &[Sequence],
    ) -> Answer<u64> {
        let failed = |reason: &str| Answer::Failed { reason: reason.into() };
        let Some(durable) = self.durables.named(partition, created) else { return failed("no responders") };
        for message in messages {
            durable.unacknowledged.remove(&message.value());
            durable.again.remove(&message.value());
        }
        self.stream.retain(|stored| !messages.contains(&Sequence::new(stored.sequence)));
        if self.durables.lose_answers { failed("no answer") } else { Answer::Acknowledged }
    }

    fn answer_acknowledgement(
        &mut self,
        member: usize,
        call: CallId,
        answer: Answer<u64>,
    ) -> Option<(CallId, Answer<u64>)> {
        if self.durables.hold_answers {
            self.members[member].delayed.push((call, answer));
            return None;
        }
        Some((call, answer))
    }

    /// The answers to acknowledgements that were held back come now.
    pub(crate) fn answer_acknowledgements(&mut self, member: usize) {
        self.durables.hold_answers = false;
        self.answer_delayed(member);
    }

    fn state(&mut self, partition: &PartitionId, created: Timestamp) -> Answer<u64> {
        let Some(durable) = self.durables.named(partition, created).cloned() else { return Answer::NoConsumer };
        let of_it = self.stream.iter().filter(|stored| stored.partition == *partition).map(|stored| stored.sequence);
        let lowest = durable.unacknowledged.first().copied().unwrap_or(durable.delivered_through + 1);
        Answer::Consumer(ConsumerState {
            delivered: Place::new(durable.place),
            through: Sequence::new(durable.delivered_through),
            floor: Sequence::new(lowest - 1),
            unacknowledged: durable.unacknowledged.len() as u64,
            pending: of_it.filter(|sequence| *sequence > durable.delivered_through).count() as u64,
            ack_wait: Duration::from_secs(30),
        })
    }

    /// The next message of a consumer goes to the first who waits. Returns that one.
    fn deliver_next(&mut self, name: &PartitionId) -> Option<(Waiting, Pulled<u64>)> {
        let durable = self.durables.of.get_mut(name.as_str())?;
        let (who, left) = *durable.waiting.first()?;
        let is_next = |sequence: u64| {
            durable.again.first().map_or(sequence > durable.delivered_through, |again| *again == sequence)
        };
        let stored = self.stream.iter().find(|stored| stored.partition == *name && is_next(stored.sequence))?;
        durable.place += 1;
        durable.again.remove(&stored.sequence);
        durable.unacknowledged.insert(stored.sequence);
        durable.delivered_through = durable.delivered_through.max(stored.sequence);
        if left == 1 {
            durable.waiting.remove(0);
        } else {
            durable.waiting[0].1 -= 1;
        }
        Some(((who, left - 1), Pulled { message: message(stored), place: Place::new(durable.place), pending: 0 }))
    }

    /// Somebody else is served, if one waits in front of all others.
    fn serve_others(&mut self, name: &PartitionId) -> bool {
        let is_elsewhere = |durable: &Durable| durable.waiting.first().is_some_and(|(who, _)| who.is_none());
        self.durables.of.get(name.as_str()).is_some_and(is_elsewhere) && self.deliver_next(name).is_some()
    }

    /// The server delivers again what was not acknowledged in time.
    pub(crate) fn let_acks_expire(&mut self, name: &str) {
        let durable = self.durables.of.get_mut(name).expect("it is there");
        durable.again.clone_from(&durable.unacknowledged);
        self.settle();
    }

    pub(super) fn show_pulled(&mut self, member: usize) -> bool {
        for name in self.durables.of.keys().cloned().collect::<Vec<_>>() {
            let partition = id(&name);
            while self.serve_others(&partition) {}
            let first = self.durables.of[&name].waiting.first().and_then(|(who, _)| *who);
            if first.is_none_or(|(of, _)| of != member) {
                continue;
            }
            let Some(((Some((_, pull)), left), pulled)) = self.deliver_next(&partition) else { continue };
            let event = Event::Pulled { partition, pull, pulled };
            self.members[member].delivery.handle(self.now, event);
            if left == 0 {
                self.end_pull(member, pull, PullEnd::Done);
            }
            return true;
        }
        false
    }
}
