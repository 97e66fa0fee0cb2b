//! Tails: what shows a process the messages of its partitions as they are stored.

use std::collections::BTreeSet;
use std::time::Duration;

use parti_core::delivery::{CallId, Event, Sequence, TailNews};

use super::Delivering;
use super::errand::Errand;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::world::clock::Moment;
use crate::world::event::What;
use crate::world::network::delay;

/// How often a tail says that it is there.
const BEAT: Duration = Duration::from_secs(1);
/// How much a tail looks at in one go.
const BATCH: usize = 64;
/// Between two goes of a tail that has more to show.
const NEXT_BATCH: Duration = Duration::from_millis(1);

/// A tail at the server.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) id: CallId,
    partitions: BTreeSet<PartitionIndex>,
    /// The number that it looks at next.
    next: u64,
    /// Whether its process knows that it is open.
    pub(super) is_open: bool,
    pub(super) health: Health,
    /// When it shows something, or says that it is there.
    due: Moment,
}

/// How a tail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// It says that it is there, and shows nothing.
    Starved {
        until: Moment,
    },
    /// It is gone, and nobody says so.
    Silent,
    /// It is gone, and says so.
    Ended,
}

impl Tail {
    pub(super) fn new(id: CallId, from: Sequence, partitions: BTreeSet<PartitionIndex>) -> Self {
        let (next, health) = (from.value(), Health::Good);
        Self { id, partitions, next, is_open: false, health, due: Moment::NEVER }
    }
}

impl Delivering<'_> {
    fn tail(&mut self, process: ProcessId, id: CallId) -> Option<&mut Tail> {
        self.member(process)?.tails.iter_mut().find(|tail| tail.id == id)
    }

    /// A process knows that its tail is open: it shows what there is.
    pub(super) fn tail_opened(&mut self, process: ProcessId, id: CallId) {
        if let Some(tail) = self.tail(process, id) {
            tail.is_open = true;
        }
        self.show_at(process, id, self.ground.now + NEXT_BATCH);
    }

    fn show_at(&mut self, process: ProcessId, id: CallId, at: Moment) {
        if let Some(tail) = self.tail(process, id) {
            tail.due = at;
            self.ground.schedule.push(at, What::Delivery(Errand::Show { process, tail: id }));
        }
    }

    /// A process has not heard its tails for a while: they show now what they have.
    pub(super) fn show_late(&mut self, process: ProcessId) {
        let Some(member) = self.member(process) else { return };
        let open = member.tails.iter().filter(|tail| tail.is_open).map(|tail| tail.id).collect::<Vec<_>>();
        for id in open {
            self.show_at(process, id, self.ground.now + NEXT_BATCH);
        }
    }

    /// Something was stored: tails show it soon.
    pub(super) fn wake_tails(&mut self) {
        let now = self.ground.now;
        let waiting = |tail: &&Tail| tail.is_open && tail.due > now;
        let tails = self.messages.members.iter().flat_map(|(process, member)| {
            member.tails.iter().filter(waiting).map(|tail| (*process, tail.id, tail.due)).collect::<Vec<_>>()
        });
        for (process, id, due) in tails.collect::<Vec<_>>() {
            let options = &self.ground.options;
            let at = now + delay(&mut self.messages.rng, options, options.network.notify_us);
            if at < due {
                self.show_at(process, id, at);
            }
        }
    }

    /// A tail shows something, if it still is to at this moment.
    pub(super) fn show(&mut self, process: ProcessId, id: CallId) {
        let now = self.ground.now;
        let Some(tail) = self.tail(process, id).filter(|tail| tail.due == now) else { return };
        let health = tail.health;
        let link = &self.ground.process(process).link;
        if !link.is_up() {
            // What waits in a connection comes if that is mended before the client notices; else that tells of it.
            return self.show_at(process, id, now + BEAT / 10);
        }
        let away_until = link.store_away_until.max(self.network.store_down_until);
        if now < away_until {
            return self.show_at(process, id, away_until + BEAT / 100);
        }
        match health {
            Health::Silent => {}
            Health::Ended => self.end_tail(process, id, "it was deleted"),
            Health::Starved { until } if now < until => {
                self.show_at(process, id, now + BEAT);
                self.tell_tail(process, id, TailNews::Alive);
            }
            Health::Good | Health::Starved { .. } => self.show_what_there_is(process, id),
        }
    }

    fn show_what_there_is(&mut self, process: ProcessId, id: CallId) {
        let sees_all = self.options().tails_see_all;
        let Some(mut tail) = self.tail(process, id).cloned() else { return };
        let mut news = Vec::new();
        for _ in 0..BATCH {
            let Some((partition, message)) = self.messages.stream.next(tail.next) else { break };
            tail.next = message.sequence.value() + 1;
            if tail.partitions.contains(&partition) {
                news.push(TailNews::Message { partition: self.id_of(partition), message });
            } else if sees_all {
                news.pop_if(|last| matches!(last, TailNews::Passed { .. }));
                news.push(TailNews::Passed { sequence: message.sequence });
            }
        }
        if news.is_empty() {
            news.push(TailNews::Alive);
        }
        let has_more = self.messages.stream.next(tail.next).is_some();
        if let Some(stored) = self.tail(process, id) {
            stored.next = tail.next;
        }
        self.show_at(process, id, self.ground.now + if has_more { NEXT_BATCH } else { BEAT });
        for news in news {
            self.tell_tail(process, id, news);
        }
    }

    fn tell_tail(&mut self, process: ProcessId, tail: CallId, news: TailNews<u64>) {
        self.deliver(process, Event::Tail { tail, news });
    }

    fn end_tail(&mut self, process: ProcessId, id: CallId, reason: &str) {
        self.close_tail(process, id);
        self.tell_tail(process, id, TailNews::Lost { reason: reason.into() });
    }

    /// A tail is closed at the server.
    pub(super) fn close_tail(&mut self, process: ProcessId, id: CallId) {
        if let Some(member) = self.member(process) {
            member.tails.retain(|tail| tail.id != id);
        }
    }

    /// A client is connected again: what it was shown until then does not go on.
    pub(crate) fn connected_again(&mut self, process: ProcessId) {
        let Some(member) = self.member(process) else { return };
        member.connection += 1;
        let unsent = std::mem::take(&mut member.unsent);
        for id in member.tails.iter().filter(|tail| tail.is_open).map(|tail| tail.id).collect::<Vec<_>>() {
            self.end_tail(process, id, "the connection was lost");
        }
        for order in unsent {
            self.send_off(process, order);
        }
    }

    /// A client has connected again without a word, and is shown nothing any more.
    pub(crate) fn reconnected_unheard(&mut self, process: ProcessId) {
        if let Some(member) = self.member(process) {
            member.connection += 1;
            member.tails.iter_mut().for_each(|tail| tail.health = Health::Silent);
        }
    }

    /// Changes how all tails are.
    pub(super) fn change_tails(&mut self, health: Health) {
        let now = self.ground.now;
        let mut told = Vec::new();
        for (process, member) in &mut self.messages.members {
            for tail in &mut member.tails {
                tail.health = health;
                if health == Health::Ended && tail.is_open {
                    told.push((*process, tail.id));
                }
            }
        }
        for (process, id) in told {
            self.show_at(process, id, now + NEXT_BATCH);
        }
    }
}
