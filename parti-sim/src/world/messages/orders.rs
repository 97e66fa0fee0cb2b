//! Requests on their way to the stream and to the bucket of positions, and their answers.

use std::time::Duration;

use parti_core::delivery::{Answer, CallId, Ends, Event, Order, PositionRecord, PullEnd, StoredPosition};
use parti_core::{Outcome, Revision};

use super::Delivering;
use super::errand::{Errand, Sent};
use super::member::Waits;
use super::pulls::GRACE;
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
        let gives_up = self.gives_up(&order, self.ground.now);
        let is_connected = !self.ground.process(process).link.noticed;
        let Some(member) = self.member(process) else { return };
        let is_pull = matches!(waits, Waits::Pull);
        member.waits.insert(call, waits);
        if is_pull {
            self.give_up_at(process, call, gives_up);
        } else if !is_connected {
            return self.ground.after(REFUSED_AFTER, What::Delivery(Errand::GiveUp { process, call }));
        }
        if self.messages.rng.chance(self.ground.options.network.request_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::RequestLost });
            return self.give_up_at(process, call, gives_up);
        }
        self.send_off(process, order);
    }

    /// A request is under way. A client that knows that it is disconnected sends it later.
    pub(super) fn send_off(&mut self, process: ProcessId, order: Order<u64>) {
        let now = self.ground.now;
        if self.ground.process(process).link.noticed {
            if let Some(member) = self.member(process) {
                member.unsent.push(order);
            }
            return;
        }
        let at = now + self.delay();
        let known_at = self.known_at(process, &order);
        let Some(member) = self.member(process) else { return };
        member.front = member.front.max(at);
        let (at, order, sent) = (member.front, Box::new(order), Sent { at: now, known_at });
        self.ground.schedule.push(at, What::Delivery(Errand::Arrive { process, order, sent }));
    }

    /// Until when the answer to a request is waited for that was sent then.
    fn gives_up(&self, order: &Order<u64>, sent: Moment) -> Moment {
        let time = match order {
            Order::Pull { time, .. } => *time + GRACE,
            _ => self.ground.request_timeout(),
        };
        self.ground.now.max(sent + time)
    }

    fn give_up_at(&mut self, process: ProcessId, call: CallId, at: Moment) {
        self.ground.schedule.push(at, What::Delivery(Errand::GiveUp { process, call }));
    }

    /// A request reaches the store.
    pub(super) fn arrive(&mut self, process: ProcessId, order: Box<Order<u64>>, sent: Sent) {
        let call = waits(&order).map(|(call, _)| call).unwrap_or_default();
        let now = self.ground.now;
        let gives_up = self.gives_up(&order, sent.at);
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
        if is_away || self.is_blind(&order, sent.known_at) || self.is_of_what_was_lost(process, &order, sent.at) {
            return self.give_up_at(process, call, gives_up);
        }
        let Some(answer) = self.carry_out(process, *order) else { return };
        if self.messages.rng.chance(self.ground.options.network.reply_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::ReplyLost });
            return self.give_up_at(process, call, gives_up);
        }
        let replies = now + self.delay();
        if replies > gives_up {
            self.give_up_at(process, call, gives_up);
        }
        let answer = Errand::Answer { process, call, answer: Box::new(answer), sent: sent.at };
        self.ground.schedule.push(replies, What::Delivery(answer));
    }

    /// When a process last read or wrote the position that it writes by this.
    fn known_at(&self, process: ProcessId, order: &Order<u64>) -> Option<Moment> {
        let Order::WritePosition { partition, .. } = order else { return None };
        self.messages.positions.known_at(process, self.index_of(partition))
    }

    /// Whether this is a write that no condition can tell from one that knows what it is about to replace.
    fn is_blind(&self, order: &Order<u64>, known_at: Option<Moment>) -> bool {
        let Order::WritePosition { partition, expected, .. } = order else { return false };
        self.messages.positions.is_blind(self.index_of(partition), *expected, known_at)
    }

    /// Whether this acknowledges a message that its stream may have lost since, while nobody waits for the answer any longer:
    /// its number may be another's by now.
    fn is_of_what_was_lost(&mut self, process: ProcessId, order: &Order<u64>, sent: Moment) -> bool {
        let Order::Acknowledge { call, .. } = order else { return false };
        let in_time = self.ground.now <= sent + self.ground.request_timeout();
        let waits = in_time && self.member(process).is_some_and(|member| member.waits.contains_key(call));
        !waits && self.messages.suffix_lost_at.is_some_and(|at| sent <= at)
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
            Some(Waits::Pull) => {
                Answer::PullOver(PullEnd::Lost { reason: "the server has not said that its time is over".into() })
            }
            Some(Waits::Ending) => Answer::PullOver(PullEnd::Done),
        };
        self.close_tail(process, call);
        self.deliver(process, Event::Answer { call, answer });
    }

    /// A request is carried out. None if it is answered later, or never.
    fn carry_out(&mut self, process: ProcessId, order: Order<u64>) -> Option<Answer<u64>> {
        Some(match order {
            Order::ReadPosition { partition, .. } => {
                let up_to = self.replica(process);
                let (index, now) = (self.index_of(&partition), self.ground.now);
                let stored = self.messages.positions.read(process, index, now);
                Answer::Position(stored.map_or(StoredPosition::Missing, |stored| {
                    let at = self.messages.stream.stored_at(stored.record.seq, up_to);
                    StoredPosition::Found { record: stored.record.clone(), revision: stored.revision, at }
                }))
            }
            Order::WritePosition { partition, expected, record, claims, .. } => {
                let partition = self.index_of(&partition);
                Answer::Written(self.write_position((process, partition), expected, record, claims))
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
                    return Some(Answer::NotBuried(message));
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
            | Order::Extend { .. } => return self.carry_out_for_durable(process, order),
            Order::CloseTail { .. }
            | Order::Hand { .. }
            | Order::LetGo { .. }
            | Order::Stop { .. }
            | Order::Notice(_) => unreachable!("none of these is sent"),
        })
    }

    fn write_position(
        &mut self,
        writer: (ProcessId, PartitionIndex),
        expected: Option<Revision>,
        record: PositionRecord,
        claims: bool,
    ) -> Outcome {
        let (process, partition) = writer;
        if self.refuses(process) {
            return Outcome::Refused;
        }
        let is_beside = self.options().delivery.own_positions && !claims;
        let (now, positions) = (self.ground.now, &mut self.messages.positions);
        let goes_over = self.ground.options.has(Around::ClaimOverProgress)
            && positions.token(partition).is_none_or(|stored| stored <= record.token);
        let is_conditional = !self.ground.options.has(Around::PositionWithoutCondition) && !goes_over;
        let outcome = if is_beside {
            let is_of_any = self.ground.options.has(Around::PositionOfAnyStream);
            positions.write_beside(now, writer, expected, record.clone(), is_of_any)
        } else {
            positions.write(now, writer, expected, record.clone(), is_conditional)
        };
        let told = match outcome {
            Outcome::Committed(revision) => {
                let stored = self.messages.positions.read(process, partition, now);
                let record = stored.map_or(record, |stored| stored.record.clone());
                MessageFact::PositionStored { record, revision }
            }
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
    pub(super) fn refuses(&mut self, process: ProcessId) -> bool {
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
        | Order::OpenTail { call, .. }
        | Order::FindConsumer { call, .. }
        | Order::CreateConsumer { call, .. }
        | Order::RestoreConsumer { call, .. }
        | Order::Acknowledge { call, .. } => Some((*call, Waits::Read)),
        Order::Pull { call, .. } => Some((*call, Waits::Pull)),
        Order::EndPull { pull } => Some((*pull, Waits::Ending)),
        Order::WritePosition { call, .. } => Some((*call, Waits::Write)),
        Order::DeadLetter { call, message, .. } => Some((*call, Waits::DeadLetter(*message))),
        Order::Extend { .. }
        | Order::CloseTail { .. }
        | Order::Hand { .. }
        | Order::LetGo { .. }
        | Order::Stop { .. }
        | Order::Notice(_) => None,
    }
}
