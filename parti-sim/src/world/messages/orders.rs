//! Requests on their way to the stream and to the bucket of positions, and their answers.

use std::time::Duration;

use parti_core::Outcome;
use parti_core::delivery::{Answer, CallId, Ends, Event, Order, PositionRecord, StoredPosition};

use super::Delivering;
use super::errand::Errand;
use super::member::Waits;
use super::tails::Tail;
use crate::fault::around::Around;
use crate::told::fact::{Fact, Mishap, PartitionIndex, ProcessId};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;
use crate::world::event::What;

/// How soon a client that knows that it is disconnected refuses a request.
const REFUSED_AFTER: Duration = Duration::from_micros(50);
/// How often a request that reaches a store that is down is carried out when the store is up again.
const CARRIED_OUT_LATE_PPM: u32 = 200_000;

impl Delivering<'_> {
    /// A process sends a request.
    pub(super) fn send(&mut self, process: ProcessId, order: Order<u64>) {
        let Some((call, waits)) = waits(&order) else { return };
        let now = self.ground.now;
        let Some(member) = self.member(process) else { return };
        member.waits.insert(call, waits);
        if self.ground.process(process).link.noticed {
            return self.ground.after(REFUSED_AFTER, What::Delivery(Errand::GiveUp { process, call }));
        }
        if self.messages.rng.chance(self.ground.options.network.request_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::RequestLost });
            return self.give_up_at(process, call, now + self.ground.request_timeout());
        }
        let at = now + self.delay();
        let Some(member) = self.member(process) else { return };
        member.front = member.front.max(at);
        let (at, order) = (member.front, Box::new(order));
        self.ground.schedule.push(at, What::Delivery(Errand::Arrive { process, order, sent: now }));
    }

    fn give_up_at(&mut self, process: ProcessId, call: CallId, at: Moment) {
        self.ground.schedule.push(at, What::Delivery(Errand::GiveUp { process, call }));
    }

    /// A request reaches the store.
    pub(super) fn arrive(&mut self, process: ProcessId, order: Box<Order<u64>>, sent: Moment) {
        let Some((call, _)) = waits(&order) else { return };
        let now = self.ground.now;
        let gives_up = now.max(sent + self.ground.request_timeout());
        let link = &mut self.ground.process_mut(process).link;
        if link.broken {
            link.held.push(What::Delivery(Errand::Arrive { process, order, sent }));
            return self.give_up_at(process, call, gives_up);
        }
        let is_away = link.closed || now < link.store_away_until;
        if now < self.network.store_down_until {
            self.give_up_at(process, call, gives_up);
            if self.messages.rng.chance(CARRIED_OUT_LATE_PPM) {
                let later = self.network.store_down_until + self.delay();
                self.ground.schedule.push(later, What::Delivery(Errand::Arrive { process, order, sent }));
            }
            return;
        }
        if is_away || self.is_of_a_former_life(process, call, sent) {
            return self.give_up_at(process, call, gives_up);
        }
        let answer = self.carry_out(process, *order);
        if self.messages.rng.chance(self.ground.options.network.reply_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::ReplyLost });
            return self.give_up_at(process, call, gives_up);
        }
        let replies = now + self.delay();
        if replies > gives_up {
            self.give_up_at(process, call, gives_up);
        }
        let answer = Errand::Answer { process, call, answer: Box::new(answer), sent };
        self.ground.schedule.push(replies, What::Delivery(answer));
    }

    /// Whether positions were lost since a request was sent that nobody waits for any longer: revisions are given again
    /// then, and no condition can tell.
    fn is_of_a_former_life(&mut self, process: ProcessId, call: CallId, sent: Moment) -> bool {
        let in_time = self.ground.now <= sent + self.ground.request_timeout();
        let waits = in_time && self.member(process).is_some_and(|member| member.waits.contains_key(&call));
        !waits && self.messages.positions.lost_at.is_some_and(|at| sent <= at)
    }

    /// The answer reaches a process, if it still waits for it.
    pub(super) fn answer(&mut self, process: ProcessId, call: CallId, answer: Box<Answer<u64>>, sent: Moment) {
        if !self.ground.process(process).link.is_up() {
            let gives_up = self.ground.now.max(sent + self.ground.request_timeout());
            self.give_up_at(process, call, gives_up);
            let held = What::Delivery(Errand::Answer { process, call, answer, sent });
            return self.ground.process_mut(process).link.held.push(held);
        }
        if self.member(process).and_then(|member| member.waits.remove(&call)).is_none() {
            return;
        }
        let is_tail = matches!(*answer, Answer::TailOpened);
        self.deliver(process, Event::Answer { call, answer: *answer });
        if is_tail {
            self.tail_opened(process, call);
        }
    }

    /// A process waits no longer for an answer.
    pub(super) fn give_up(&mut self, process: ProcessId, call: CallId) {
        let waits = self.member(process).and_then(|member| member.waits.remove(&call));
        let answer = match waits {
            None => return,
            Some(Waits::Read) => Answer::Failed { reason: "no answer".into() },
            Some(Waits::Write) => Answer::Written(Outcome::Unknown),
            Some(Waits::DeadLetter(message)) => Answer::NotBuried(message),
        };
        self.close_tail(process, call);
        self.deliver(process, Event::Answer { call, answer });
    }

    fn carry_out(&mut self, process: ProcessId, order: Order<u64>) -> Answer<u64> {
        match order {
            Order::ReadPosition { partition, .. } => {
                let up_to = self.replica(process);
                let stored = self.messages.positions.get(self.index_of(&partition));
                Answer::Position(stored.map_or(StoredPosition::Missing, |(revision, record)| {
                    let at = self.messages.stream.stored_at(record.seq, up_to);
                    StoredPosition::Found { record: record.clone(), revision: *revision, at }
                }))
            }
            Order::WritePosition { partition, expected, record, .. } => {
                let partition = self.index_of(&partition);
                let write = |this: &mut Self, is_conditional| {
                    this.messages.positions.write(partition, expected, record.clone(), is_conditional)
                };
                Answer::Written(self.write_position(process, partition, &record, write))
            }
            Order::Inspect { .. } => Answer::Stream(self.messages.stream.state()),
            Order::Ask { partitions, .. } => {
                let up_to = self.replica(process);
                let stream = &self.messages.stream;
                let last = partitions.into_iter().filter_map(|partition| {
                    let last = stream.last_of(self.index_of(&partition), up_to)?;
                    Some((partition, last))
                });
                let through = parti_core::delivery::Sequence::new(up_to);
                Answer::Ends(Ends { last: last.collect(), through })
            }
            Order::Fetch { partition, from, most, bytes, .. } => {
                let up_to = self.replica(process);
                Answer::Fetched(self.messages.stream.read(self.index_of(&partition), from, up_to, (most, bytes)))
            }
            Order::OpenTail { call, from, partitions } => {
                let partitions = partitions.iter().map(|partition| self.index_of(partition)).collect();
                if let Some(member) = self.member(process) {
                    member.tails.push(Tail::new(call, from, partitions));
                }
                Answer::TailOpened
            }
            Order::DeadLetter { partition, message, tries, reason, .. } => {
                if self.refuses(process) {
                    return Answer::NotBuried(message);
                }
                if let Some(mail) = &self.messages.mail {
                    mail.bury(partition.clone(), (message.sequence, message.body), tries, reason);
                }
                let partition = self.index_of(&partition);
                let buried = MessageFact::Buried { sequence: message.sequence, number: message.body };
                self.tell(Some(process), Some(partition), &buried);
                Answer::Buried
            }
            Order::FindConsumer { .. }
            | Order::CreateConsumer { .. }
            | Order::RestoreConsumer { .. }
            | Order::Pull { .. }
            | Order::EndPull { .. }
            | Order::Acknowledge { .. }
            | Order::Extend { .. } => unreachable!("no stream has a consumer for each partition"),
            Order::CloseTail { .. }
            | Order::Hand { .. }
            | Order::LetGo { .. }
            | Order::Stop { .. }
            | Order::Notice(_) => unreachable!("none of these is sent"),
        }
    }

    fn write_position(
        &mut self,
        process: ProcessId,
        partition: PartitionIndex,
        record: &PositionRecord,
        write: impl FnOnce(&mut Self, bool) -> Outcome,
    ) -> Outcome {
        if self.refuses(process) {
            return Outcome::Refused;
        }
        let is_conditional = !self.ground.options.has(Around::PositionWithoutCondition);
        let outcome = write(self, is_conditional);
        let told = match outcome {
            Outcome::Committed(revision) => MessageFact::PositionStored { record: record.clone(), revision },
            Outcome::Conflict | Outcome::Refused | Outcome::Unknown => {
                MessageFact::PositionRefused { token: record.token }
            }
        };
        self.tell(Some(process), Some(partition), &told);
        if matches!(outcome, Outcome::Committed(_))
            && self.messages.rng.chance(self.ground.options.network.false_conflict_ppm)
        {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::FalseConflict });
            return Outcome::Conflict;
        }
        outcome
    }

    /// Whether the store takes no write of a process now, for a reason of its own.
    fn refuses(&mut self, process: ProcessId) -> bool {
        let now = self.ground.now;
        now < self.ground.process(process).link.read_only_until
            || now < self.network.store_full_until
            || self.messages.rng.chance(self.ground.options.network.refused_ppm)
    }

    /// Up to where the replica knows the stream that answers a reading.
    fn replica(&mut self, process: ProcessId) -> u64 {
        let (lagging_ppm, lag) = (self.options().lagging_ppm, self.options().lag);
        let last = self.messages.stream.last();
        if !self.messages.rng.chance(lagging_ppm) {
            return last;
        }
        self.tell(Some(process), None, &MessageFact::Lagged);
        last.saturating_sub(self.messages.rng.between(1, lag.max(1)))
    }
}

/// What a process waits for that sends this; none for what is not sent.
fn waits(order: &Order<u64>) -> Option<(CallId, Waits)> {
    match order {
        Order::ReadPosition { call, .. }
        | Order::Inspect { call }
        | Order::Ask { call, .. }
        | Order::Fetch { call, .. }
        | Order::OpenTail { call, .. } => Some((*call, Waits::Read)),
        Order::WritePosition { call, .. } => Some((*call, Waits::Write)),
        Order::DeadLetter { call, message, .. } => Some((*call, Waits::DeadLetter(*message))),
        Order::FindConsumer { .. }
        | Order::CreateConsumer { .. }
        | Order::RestoreConsumer { .. }
        | Order::Pull { .. }
        | Order::EndPull { .. }
        | Order::Acknowledge { .. }
        | Order::Extend { .. }
        | Order::CloseTail { .. }
        | Order::Hand { .. }
        | Order::LetGo { .. }
        | Order::Stop { .. }
        | Order::Notice(_) => None,
    }
}
