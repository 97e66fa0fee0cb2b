//! The durable consumer of each partition: what processes ask of it, and what it sends them.

use std::time::Duration;

use parti_core::PartitionId;
use parti_core::delivery::{Answer, CallId, Event, Order, PullEnd, Pulled, Sequence, Timestamp};

use super::Delivering;
use super::Messages;
use super::durables::{Acked, Name, Puller, Request, Sent};
use super::errand::Errand;
use super::member::Waits;
use crate::fault::around::Around;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;
use crate::world::event::What;

/// How much later than its time is over a client waits for the end of a pull.
pub(super) const GRACE: Duration = Duration::from_secs(2);

impl Delivering<'_> {
    /// A request about a consumer is carried out at the server. None if it is answered later, or never.
    pub(super) fn carry_out_for_durable(&mut self, process: ProcessId, order: Order<u64>) -> Option<Answer<u64>> {
        match order {
            Order::FindConsumer { partition, created, .. } => Some(self.consumer(self.name_of(&partition, created))),
            Order::CreateConsumer { partition, created, replaces, .. } => {
                if self.refuses(process) {
                    return Some(failed("refused"));
                }
                Some(self.create(self.name_of(&partition, created), replaces))
            }
            Order::RestoreConsumer { partition, created, .. } => {
                Some(self.restore(process, self.name_of(&partition, created)))
            }
            Order::Pull { call, partition, created, most, bytes, time } => {
                let name = self.name_of(&partition, created);
                let partition = name.0;
                let ends = self.ground.now + time;
                let by = (process, call);
                if !self.messages.durables.pull(name, Request { by, left: most, bytes, ends }) {
                    return Some(Answer::PullOver(PullEnd::Lost { reason: "nobody answers for the consumer".into() }));
                }
                self.ground.schedule.push(ends, What::Delivery(Errand::PullEnds { by }));
                self.serve(partition);
                None
            }
            Order::EndPull { pull } => {
                self.messages.durables.end_pull((process, pull));
                Some(Answer::PullOver(PullEnd::Done))
            }
            Order::Acknowledge { partition, created, messages, .. } => {
                Some(self.acknowledge(process, self.name_of(&partition, created), &messages))
            }
            Order::Extend { partition, created, messages } => {
                let (now, name) = (self.ground.now, self.name_of(&partition, created));
                self.messages.durables.extend(now, name, &messages);
                self.expire(name.0);
                None
            }
            _ => unreachable!("these are for consumers"),
        }
    }

    fn name_of(&self, partition: &PartitionId, created: Timestamp) -> Name {
        let created = if self.ground.options.has(Around::OneConsumerName) { Timestamp::default() } else { created };
        (self.index_of(partition), created)
    }

    fn consumer(&self, name: Name) -> Answer<u64> {
        let state = self.messages.durables.state(self.ground.now, &self.messages.stream, name);
        state.map_or(Answer::NoConsumer, Answer::Consumer)
    }

    /// A work queue takes one consumer of a subject, so that others go first; a stream with interest takes many, and keeps what
    /// one of them waits for, so that others go last.
    fn create(&mut self, name: Name, replaces: bool) -> Answer<u64> {
        let is_queue = !self.options().interest;
        if is_queue {
            self.delete_others(name);
        }
        self.messages.durables.create(&self.messages.stream, name);
        if replaces {
            self.delete_others(name);
        }
        self.consumer(name)
    }

    fn delete_others(&mut self, name: Name) {
        let others: Vec<Name> = self.messages.durables.names(name.0).filter(|other| *other != name).collect();
        for other in others {
            self.delete_consumer(other);
        }
    }

    /// Whoever waits is served before anybody is told how the consumer is then.
    fn restore(&mut self, process: ProcessId, name: Name) -> Answer<u64> {
        if self.refuses(process) {
            return failed("refused");
        }
        self.tell(Some(process), Some(name.0), &MessageFact::Restored);
        if self.messages.durables.deletes() {
            self.delete_consumer(name);
            if self.messages.rng.chance(self.ground.options.network.reply_lost_ppm) {
                return failed("no answer to the deletion");
            }
            return self.create(name, false);
        }
        self.messages.durables.reset(&self.messages.stream, name);
        self.serve(name.0);
        self.consumer(name)
    }

    /// A consumer is deleted: whoever waits at it is told.
    pub(super) fn delete_consumer(&mut self, name: Name) {
        let waited = self.messages.durables.delete(name);
        self.tell_deleted(waited);
    }

    pub(super) fn tell_deleted(&mut self, waited: Vec<Puller>) {
        for (process, pull) in waited {
            self.end_pull(process, pull, PullEnd::Lost { reason: "the consumer was deleted".into() });
        }
    }

    fn acknowledge(&mut self, process: ProcessId, name: Name, messages: &[Sequence]) -> Answer<u64> {
        let now = self.ground.now;
        let mut answer = Answer::Acknowledged;
        for sequence in messages {
            if self.refuses(process) {
                return failed("refused");
            }
            let Messages { durables, stream, .. } = &mut *self.messages;
            match durables.acknowledge(now, stream, name, *sequence) {
                Acked::Removed(number) => {
                    let told = MessageFact::Acknowledged { sequence: *sequence, number };
                    self.tell(Some(process), Some(name.0), &told);
                }
                Acked::Again => {}
                Acked::Unheard => answer = failed("no answer"),
            }
        }
        answer
    }

    /// A consumer sends what it has to those who wait.
    pub(super) fn serve(&mut self, partition: PartitionIndex) {
        let now = self.ground.now;
        if now < self.network.store_down_until {
            let later = What::Delivery(Errand::Serve { partition });
            return self.ground.schedule.push(self.network.store_down_until, later);
        }
        let names: Vec<Name> = self.messages.durables.names(partition).collect();
        for name in names {
            while self.send_next(name) {}
        }
        self.expire(partition);
    }

    /// A consumer sends the next thing. Returns whether it had something to send, to somebody.
    fn send_next(&mut self, name: Name) -> bool {
        let Self { ground, messages, .. } = self;
        let listens = |process: ProcessId| !ground.process(process).link.closed;
        let sent = messages.durables.send(ground.now, &messages.stream, name, listens);
        let Some(((process, pull), sent)) = sent else { return false };
        match sent {
            Sent::Over(end) => self.end_pull(process, pull, end),
            Sent::Message(pulled, is_over) => {
                self.send_back(process, |connection| {
                    let (partition, pulled) = (name.0, Box::new(pulled));
                    Errand::Pulled { process, pull, partition, pulled, connection }
                });
                if is_over {
                    self.end_pull(process, pull, PullEnd::Done);
                }
            }
        }
        true
    }

    /// Looks when something is to be delivered again.
    fn expire(&mut self, partition: PartitionIndex) {
        let Some(due) = self.messages.durables.expire(self.ground.now, partition) else { return };
        let armed = self.messages.expiries.entry(partition).or_insert(Moment::NEVER);
        if due < *armed {
            *armed = due;
            self.ground.schedule.push(due, What::Delivery(Errand::Expire { partition }));
        }
    }

    /// What was not acknowledged in time is delivered again.
    pub(super) fn deliver_again(&mut self, partition: PartitionIndex) {
        self.messages.expiries.remove(&partition);
        self.messages.durables.expire(self.ground.now, partition);
        self.serve(partition);
    }

    /// The time of a request is over.
    pub(super) fn pull_ends(&mut self, by: Puller) {
        if self.messages.durables.end_pull(by) {
            self.end_pull(by.0, by.1, PullEnd::Done);
        }
    }

    fn end_pull(&mut self, process: ProcessId, pull: CallId, end: PullEnd) {
        self.send_back(process, |connection| Errand::PullOver { process, pull, end: Box::new(end), connection });
    }

    /// Something goes to a process, behind all that went before.
    fn send_back(&mut self, process: ProcessId, errand: impl FnOnce(u64) -> Errand) {
        let at = self.ground.now + self.delay();
        let Some(member) = self.member(process) else { return };
        member.back = member.back.max(at);
        let (at, errand) = (member.back, errand(member.connection));
        self.ground.schedule.push(at, What::Delivery(errand));
    }

    /// Whether something reaches a process; what waits in a broken connection comes once that is mended.
    fn reaches(&mut self, process: ProcessId, connection: u64, errand: impl FnOnce() -> Errand) -> bool {
        if self.member(process).is_none_or(|member| member.connection != connection) {
            return false;
        }
        let now = self.ground.now;
        let link = &mut self.ground.process_mut(process).link;
        if !link.is_up() {
            link.held.push(What::Delivery(errand()));
            return false;
        }
        let away_until = link.store_away_until;
        if now < away_until {
            self.ground.schedule.push(away_until, What::Delivery(errand()));
            return false;
        }
        true
    }

    /// A message reaches the process that has pulled it.
    pub(super) fn pulled(
        &mut self,
        (process, pull): Puller,
        partition: PartitionIndex,
        pulled: Box<Pulled<u64>>,
        connection: u64,
    ) {
        let again = pulled.clone();
        if !self.reaches(process, connection, || Errand::Pulled { process, pull, partition, pulled: again, connection })
        {
            return;
        }
        let is_open = self.member(process).is_some_and(|member| matches!(member.waits.get(&pull), Some(Waits::Pull)));
        if is_open {
            let partition = self.id_of(partition);
            self.deliver(process, Event::Pulled { partition, pull, pulled: *pulled });
        }
    }

    /// A process learns that its pull is over.
    pub(super) fn pull_over(&mut self, (process, pull): Puller, end: Box<PullEnd>, connection: u64) {
        let again = end.clone();
        if !self.reaches(process, connection, || Errand::PullOver { process, pull, end: again, connection }) {
            return;
        }
        let was_open = self.member(process).is_some_and(|member| {
            let is_open = matches!(member.waits.get(&pull), Some(Waits::Pull));
            is_open && member.waits.remove(&pull).is_some()
        });
        if was_open {
            self.deliver(process, Event::Answer { call: pull, answer: Answer::PullOver(*end) });
        }
    }
}

fn failed(reason: &str) -> Answer<u64> {
    Answer::Failed { reason: reason.into() }
}
