//! The simulated handler: it takes messages, works on them for a while, and finishes them, or fails, or dies of one.

use std::time::Duration;

use parti_core::Revision;
use parti_core::delivery::{Event, Handed, Message, PositionRecord, Request, Sequence, Timestamp};

use super::Delivering;
use super::errand::Errand;
use super::member::Hand;
use crate::fault::around::Around;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::told::message::MessageFact;
use crate::world::event::What;

/// How soon somebody who may not work looks again.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// How often a handler wants stored at once what it has finished.
const COMMITS_PPM: u32 = 100_000;

/// How often a handler that stores positions is interrupted before it can say that it has finished a message.
const SLIPS_PPM: u32 = 20_000;

impl Delivering<'_> {
    /// The handler asks for the next messages.
    pub(super) fn want(&mut self, process: ProcessId, partition: PartitionIndex) {
        let most = self.options().batch;
        let partition = self.id_of(partition);
        self.deliver(process, Event::Application(Request::Want { partition, most }));
    }

    /// The handler is handed messages.
    pub(super) fn take(&mut self, process: ProcessId, partition: PartitionIndex, messages: &[Handed<u64>]) {
        let app = &self.ground.process(process).app;
        // Who was told to stop and is handed something nevertheless takes that for a word to go on.
        let begins = app.works() || app.is_suspended();
        let Some(hand) = self.hand(process, partition) else { return };
        hand.attempt += 1;
        let (attempt, post) = (hand.attempt, hand.post);
        let tries = messages.first().map_or(0, |handed| handed.tries);
        hand.created = messages.first().map_or(hand.created, |handed| handed.created);
        hand.queue.extend(messages.iter().map(|handed| handed.message));
        if let (Some(post), Some(mail)) = (post, &self.messages.mail) {
            return mail.hand(post, messages);
        }
        if begins {
            self.begin_with(process, partition, attempt, tries);
        } else {
            let errand = Errand::Begin { process, partition, attempt };
            self.ground.after(LOOKS_AGAIN_AFTER, What::Delivery(errand));
        }
    }

    /// A handler that was handed messages while its process could not work begins with them.
    pub(super) fn begin(&mut self, process: ProcessId, partition: PartitionIndex, attempt: u64) {
        if self.hand(process, partition).is_none_or(|hand| hand.attempt != attempt) {
            return;
        }
        if self.ground.process(process).app.works() {
            self.begin_with(process, partition, attempt, 0);
        } else {
            let errand = Errand::Begin { process, partition, attempt };
            self.ground.after(LOOKS_AGAIN_AFTER, What::Delivery(errand));
        }
    }

    fn begin_with(&mut self, process: ProcessId, partition: PartitionIndex, attempt: u64, tries: u32) {
        let most = self.options().batch;
        let queue = self.queue(process, partition);
        let mut takes = 0;
        for (place, Message { sequence, body: number, .. }) in queue.into_iter().enumerate() {
            let tries = if place == 0 { tries } else { 0 };
            self.tell(Some(process), Some(partition), &MessageFact::Begun { sequence, number, tries, most });
            takes += self.work_ms(partition);
        }
        let errand = Errand::Worked { process, partition, attempt };
        self.ground.after(Duration::from_millis(takes), What::Delivery(errand));
    }

    pub(super) fn queue(&mut self, process: ProcessId, partition: PartitionIndex) -> Vec<Message<u64>> {
        self.hand(process, partition).map(|hand| hand.queue.iter().copied().collect()).unwrap_or_default()
    }

    fn work_ms(&mut self, partition: PartitionIndex) -> u64 {
        let options = self.options();
        let (least, most) = options.work_ms;
        let is_slow = u32::try_from(partition.index()).unwrap_or(0).checked_rem(options.slow_every) == Some(0);
        self.messages.rng.between(least, most) * if is_slow { 10 } else { 1 }
    }

    /// A handler is done with what it has, in one way or another. Returns the process that a message has ended.
    pub(super) fn worked(&mut self, process: ProcessId, partition: PartitionIndex, attempt: u64) -> Option<ProcessId> {
        if self.hand(process, partition).is_none_or(|hand| hand.attempt != attempt) {
            return None;
        }
        let app = &self.ground.process(process).app;
        if !app.works() && !app.is_suspended() {
            let errand = Errand::Worked { process, partition, attempt };
            self.ground.after(LOOKS_AGAIN_AFTER, What::Delivery(errand));
            return None;
        }
        let mut through = None;
        for Message { sequence, timestamp, body: number, .. } in self.queue(process, partition) {
            if self.options().is_poison(number) {
                self.tell(Some(process), Some(partition), &MessageFact::Kills { number });
                return Some(process);
            }
            let fails_ppm = self.options().fails_ppm;
            if self.messages.rng.chance(fails_ppm) {
                self.finish(process, partition, through);
                self.hand_back(process, partition, Some("it failed".into()));
                return None;
            }
            if self.options().delivery.own_positions {
                let Some((record, revision)) = self.store_effect(process, partition, (sequence, timestamp)) else {
                    self.finish(process, partition, through);
                    self.hand_back(process, partition, Some("its effect was refused".into()));
                    return None;
                };
                self.tell(Some(process), Some(partition), &MessageFact::Finished { sequence, number });
                self.tell(Some(process), Some(partition), &MessageFact::PositionStored { record, revision });
            } else {
                self.tell(Some(process), Some(partition), &MessageFact::Finished { sequence, number });
            }
            if self.options().delivery.own_positions && self.messages.rng.chance(SLIPS_PPM) {
                self.finish(process, partition, through);
                self.hand_back(process, partition, None);
                return None;
            }
            through = Some(sequence);
        }
        self.finish(process, partition, through);
        self.go_on(process, partition);
        None
    }

    /// The handler stores the effect of a message and its position in one transaction of its own database. None if that is refused.
    fn store_effect(
        &mut self,
        process: ProcessId,
        partition: PartitionIndex,
        message: (Sequence, Timestamp),
    ) -> Option<(PositionRecord, Revision)> {
        let Hand { token, created, .. } = *self.hand(process, partition)?;
        let created = (!self.ground.options.has(Around::PositionOfAnyStream)).then_some(created);
        let now = self.ground.now;
        let stored = self.messages.positions.advance(now, (process, partition), (token, created), message);
        if stored.is_none() {
            self.tell(Some(process), Some(partition), &MessageFact::PositionRefused { token });
        }
        stored
    }

    /// The handler tells what it has finished.
    pub(super) fn finish(&mut self, process: ProcessId, partition: PartitionIndex, through: Option<Sequence>) {
        let Some(through) = through else { return };
        let Some(hand) = self.hand(process, partition) else { return };
        hand.queue.retain(|message| message.sequence > through);
        let is_simulated = hand.post.is_none();
        let id = self.id_of(partition);
        self.deliver(process, Event::Application(Request::Finish { partition: id.clone(), through }));
        if is_simulated && self.messages.rng.chance(COMMITS_PPM) {
            self.deliver(process, Event::Application(Request::Commit { partition: id }));
        }
    }

    /// The handler hands back what it has not finished.
    pub(super) fn hand_back(&mut self, process: ProcessId, partition: PartitionIndex, failed: Option<String>) {
        let messages = self.queue(process, partition);
        if let Some(hand) = self.hand(process, partition) {
            hand.drop_all();
        }
        if let Some(first) = messages.first() {
            let returned = MessageFact::Returned { from: first.sequence, failed: failed.is_some() };
            self.tell(Some(process), Some(partition), &returned);
            let id = self.id_of(partition);
            self.deliver(process, Event::Application(Request::Return { partition: id, messages, failed }));
        }
        self.go_on(process, partition);
    }

    /// The handler asks for more, or leaves if it is to.
    fn go_on(&mut self, process: ProcessId, partition: PartitionIndex) {
        match self.hand(process, partition) {
            Some(hand) if hand.leaving => self.leave(process, partition),
            Some(hand) if !hand.left => self.want(process, partition),
            Some(_) | None => {}
        }
    }
}
