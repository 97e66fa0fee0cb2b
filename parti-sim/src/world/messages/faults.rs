//! What is published, and what goes wrong with the stream and the positions.

use std::time::Duration;

use super::Delivering;
use super::errand::Errand;
use super::tails::Health;
use crate::told::fact::PartitionIndex;
use crate::told::message::MessageFact;
use crate::world::event::What;

impl Delivering<'_> {
    /// The next messages are published; more follow.
    pub(super) fn publish(&mut self) {
        let now = self.ground.now;
        if now >= self.messages.closes_at {
            return;
        }
        let options = self.options();
        let ((least, most), burst, kept_ms) = (options.every_ms, u64::from(options.burst.max(1)), options.kept_ms);
        let count = self.messages.rng.between(1, burst);
        for _ in 0..count {
            self.publish_one();
        }
        let kept = Duration::from_millis(kept_ms);
        if kept_ms > 0 && self.messages.stream.remove_before((now - kept).as_nanos()) {
            let before = self.messages.stream.state().first;
            self.tell(None, None, &MessageFact::Removed { before });
        }
        self.wake_tails();
        let pause = self.messages.rng.between(least.max(1), most);
        self.ground.after(Duration::from_millis(pause), What::Delivery(Errand::Publish));
    }

    /// The lower a partition's number, the more messages it has.
    fn publish_one(&mut self) {
        let count = self.ground.observers.partitions().as_slice().len() as u64;
        let rng = &mut self.messages.rng;
        let place = rng.below(count).min(rng.below(count));
        let partition = PartitionIndex::new(usize::try_from(place).unwrap_or(0));
        if self.options().interest && self.messages.durables.names(partition).next().is_none() {
            return self.messages.stream.pass_over();
        }
        let (sequence, number) = self.messages.stream.publish(partition, self.ground.now.as_nanos());
        self.tell(None, Some(partition), &MessageFact::Stored { sequence, number });
        self.serve(partition);
    }

    /// Publishes nothing more after a while.
    pub(crate) fn close_after(&mut self, time: Duration) {
        self.messages.closes_at = self.ground.now + time;
    }

    /// The server of the stream restarts without its newest messages; tails are gone with it.
    pub(crate) fn lose_suffix(&mut self, count: u64) {
        self.messages.stream.lose(count);
        let last = self.messages.stream.state().last;
        self.messages.suffix_lost_at = Some(self.ground.now);
        self.messages.durables.fall_back(last.value());
        self.tell(None, None, &MessageFact::SuffixLost { last });
        self.change_tails(Health::Silent);
    }

    /// The stream is deleted and made anew.
    pub(crate) fn make_anew(&mut self) {
        self.messages.stream.make_anew(self.ground.now.as_nanos());
        let created = self.messages.stream.state().created;
        let waited = self.messages.durables.delete_all();
        self.tell_deleted(waited);
        self.tell(None, None, &MessageFact::MadeAnew { created });
        self.change_tails(Health::Ended);
    }

    /// Every tail ends, and may say so.
    pub(crate) fn kill_tails(&mut self, told: bool) {
        self.change_tails(if told { Health::Ended } else { Health::Silent });
    }

    /// Every tail says that it is there, and shows nothing for a while; or, without a time, never again.
    pub(crate) fn starve_tails(&mut self, time: Option<Duration>) {
        let until = time.map_or(crate::world::clock::Moment::NEVER, |time| self.ground.now + time);
        self.change_tails(Health::Starved { until });
    }

    /// The server restarts without what it knew last of consumers.
    pub(crate) fn lose_consumers(&mut self) {
        self.messages.durables.lose();
        self.tell(None, None, &MessageFact::ConsumersLost);
    }

    /// Somebody deletes the consumer of a partition. One that has interest is left alone: its messages would go with it.
    pub(crate) fn remove_consumer(&mut self, which: usize) {
        let partition = PartitionIndex::new(which % self.ground.observers.partitions().as_slice().len());
        let first = self.messages.durables.names(partition).next();
        if let Some(name) = first.filter(|_| !self.options().interest) {
            self.tell(None, Some(partition), &MessageFact::ConsumerDeleted);
            self.delete_consumer(name);
        }
    }

    /// The bucket of positions loses its last writes.
    pub(crate) fn roll_back_positions(&mut self, writes: u32) {
        self.messages.positions.roll_back(writes);
        self.tell(None, None, &MessageFact::PositionsLost);
    }

    /// An operator purges the bucket of positions.
    pub(crate) fn purge_positions(&mut self) {
        self.messages.positions.purge();
        self.tell(None, None, &MessageFact::PositionsLost);
    }
}
