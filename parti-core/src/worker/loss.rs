//! What a worker does when the store has lost writes.

use super::mind::Mind;
use crate::action::Notice;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::key::Bucket;

impl Mind {
    /// The store has lost writes: what is known of it is forgotten, and nothing new is granted until all have noticed.
    pub(super) fn notice_regression(&mut self, bucket: Bucket, detail: &str, outbox: &mut Outbox) {
        self.say_regressed(bucket, detail, outbox);
        if bucket == Bucket::Plan && self.context.has(PlantedBug::GoOnAfterLoss) {
            return;
        }
        match bucket {
            Bucket::Members => {
                self.membership.forget_all(&self.context);
            }
            Bucket::Plan => self.loss.starting_over = true,
        }
        self.leadership.lose_slot(&mut self.plan, outbox);
        self.leader = None;
        self.ownership.cut_off(&self.context, outbox);
    }

    /// From now on, whoever holds what the store has lost is waited for.
    pub(super) fn say_regressed(&mut self, bucket: Bucket, detail: &str, outbox: &mut Outbox) {
        outbox.notice(Notice::StoreRegressed { bucket, detail: detail.into() });
        self.loss.noticed_at = Some(self.context.now);
    }

    /// The listing on which a leader's takeover was committed was not stale: what it lacked is gone.
    pub(super) fn believe_takeover(&mut self, outbox: &mut Outbox) {
        if self.leadership.term().is_some() && self.ownership.is_doubtful() && !self.loss.starting_over {
            self.notice_regression(Bucket::Plan, "an assignment that was applied is gone", outbox);
        }
    }
}
