//! One conditional-write lease: renew it, count it, lose it.

use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::Write;
use crate::context::Context;
use crate::event::Outcome;
use crate::ids::{Instance, OperationId, Revision, Slot, Tenure};
use crate::member::doubt::Doubt;
use crate::member::presence::Evidence;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::key::Key;
use crate::stored::record::{MemberRecord, Record};
use crate::time::{Duration, Instant, earliest};

/// The hold of a slot: a chain of conditional updates of its member record, each on the revision that this worker wrote
/// last.
///
/// A renewal sent at *s* and committed gives the right to act until *s + lease* by this worker's clock. Counting from
/// the sending is what makes it safe: whoever watches the record sees the renewal later than *s*, and waits longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) slot: Slot,
    pub(crate) tenure: Tenure,
    /// The revision at which this process took the slot.
    pub(crate) claim: Revision,
    /// The last revision of the record that is known to be this process's own.
    revision: Revision,
    /// Until when this worker may act; none before the first committed write.
    until: Option<Instant>,
    /// When the last write that is known to be committed was sent.
    renewed_at: Option<Instant>,
    in_flight: Option<InFlight>,
    /// From one renewal to the next, see [`keep_pace`](Self::keep_pace).
    pace: Duration,
    next_renewal: Instant,
    /// After a write without an answer, nothing is sent before this instant.
    not_before: Instant,
    /// Since when the record has been known to differ from what this worker wrote last, without knowing how.
    contested_since: Option<Instant>,
    /// Whether the store has refused the last write.
    refused: bool,
    lost: bool,
    forgotten: bool,
    /// Whether listings show less of the record than is known to be committed.
    doubt: Doubt,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InFlight {
    operation: OperationId,
    sent_at: Instant,
    expected: Revision,
    kind: WriteKind,
    evidence: Option<Evidence>,
    /// Whether another one is to follow at once.
    another: bool,
}

/// The purpose of a write of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WriteKind {
    /// To renew the lease and to say what has been applied.
    Renewal,
    /// To begin another tenure in the same slot.
    Anew,
    /// To leave the slot for the successor: the last write of this process.
    Restarting,
    /// To end the tenure: the last write of this process.
    Deletion,
}

/// The outcome of a write of the record, as far as other parts care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseNews {
    /// Nothing that others need to know.
    None,
    /// The lease goes on, on this evidence of the worker's presence. With `after_gap`, it had not been renewed for longer
    /// than a renewal should take.
    Renewed { after_gap: bool, evidence: Option<Evidence> },
    /// The write that begins another tenure is committed.
    BegunAnew { revision: Revision, sent_at: Instant, evidence: Option<Evidence> },
    /// The last write of this process is committed.
    Finished,
}

impl Lease {
    /// The lease of a slot that a committed write has won. `sent_at` is when that write was sent; none where it is not
    /// known which of several writes it was, and then only the first renewal gives the right to act.
    pub(crate) fn won(
        slot: Slot,
        tenure: Tenure,
        claim: Revision,
        sent_at: Option<Instant>,
        context: &Context,
    ) -> Self {
        Self {
            slot,
            tenure,
            claim,
            revision: claim,
            until: sent_at.map(|sent_at| sent_at + context.timing.lease),
            renewed_at: sent_at,
            in_flight: None,
            pace: context.timing.renewal,
            next_renewal: sent_at.map_or(context.now, |sent_at| sent_at + context.timing.renewal),
            not_before: context.now,
            contested_since: None,
            refused: false,
            lost: false,
            forgotten: false,
            doubt: Doubt::default(),
        }
    }

    /// Until when this worker may act.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        !self.lost && self.until.is_some_and(|until| now < until)
    }

    /// The revision of a write that is known to be committed and was sent at `since` or later, if there is one.
    pub(crate) fn written_since(&self, since: Instant) -> Option<Revision> {
        self.renewed_at.filter(|sent_at| *sent_at >= since).map(|_| self.revision)
    }

    /// Whether another process has the record, or nobody.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether the store has refused the last write, and not because of what it holds.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Renews as often as those whom this worker judges, where they have a shorter lease: whether writes get through at
    /// all it must know before their silence means anything.
    pub(crate) fn keep_pace(&mut self, context: &Context, shortest_observed_lease: Duration) {
        if shortest_observed_lease >= context.timing.observed_lease() {
            self.pace = context.timing.renewal;
            return;
        }
        self.pace = shortest_observed_lease * 2 / 9; // a quarter of the lease, without the margin
        if let Some(renewed_at) = self.renewed_at {
            self.next_renewal = self.next_renewal.min(renewed_at + self.pace);
        }
    }

    /// Whether renewals are being committed: a worker whose own writes fail judges nobody.
    pub(crate) fn is_fresh(&self, context: &Context) -> bool {
        let anyway = context.has(PlantedBug::JudgeUnheard);
        anyway || self.fresh_until().is_some_and(|until| context.now < until)
    }

    /// Until when renewals count as being committed if no other one is.
    pub(crate) fn fresh_until(&self) -> Option<Instant> {
        self.renewed_at.map(|at| at + self.pace * 2)
    }

    /// When, without another renewal, there is nothing more that the last write of this process could tell anybody: the
    /// lease is over, and one more try had its time.
    pub(crate) fn over_at(&self, context: &Context) -> Option<Instant> {
        self.until.map(|until| until + context.timing.retry)
    }

    /// Whether the record has been in doubt for so long that it should be read anew. Asking counts as reading.
    pub(crate) fn take_reading(&mut self, context: &Context) -> bool {
        let due = self.contested_since.is_some_and(|since| context.now >= since + context.timing.retry);
        if due {
            self.contested_since = Some(context.now);
        }
        due
    }

    /// The slot's record was seen. One that bears this process's instance is its own earlier write come late. True if
    /// there is something to do because of it.
    pub(crate) fn observe_record(
        &mut self,
        now: Instant,
        revision: Revision,
        record: Option<&MemberRecord>,
        own: Instance,
    ) -> bool {
        let is_own = record.is_some_and(|record| record.instance == own);
        if revision < self.claim || revision <= self.revision && is_own {
            return false;
        }
        if !is_own {
            self.lost = true;
            // Nobody else can have written between the claim and the last renewal: the store has lost that.
            self.forgotten |= revision <= self.revision;
            return true;
        }
        self.revision = revision;
        let settled = self.contested_since.take().is_some();
        if settled {
            self.next_renewal = now;
        }
        settled
    }

    /// A complete listing of the bucket has shown this revision of the record, or no record at all. If that happens again
    /// and again, and a write on the revision that is known to be committed has failed as well, then the store has lost
    /// that revision.
    pub(crate) fn observe_listing(&mut self, context: &Context, shown: Option<Revision>) {
        let shows_less = self.contested_since.is_some() && shown.is_none_or(|shown| shown < self.revision);
        self.doubt.observe_listing(shows_less);
        if self.doubt.is_certain(context) {
            self.lost = true;
            self.forgotten = true;
        }
    }

    /// Whether the record was lost because the store has lost writes.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Takes in the outcome of a write; none if the operation is not this lease's.
    pub(crate) fn observe_done(
        &mut self,
        context: &Context,
        operation: OperationId,
        outcome: Outcome,
    ) -> Option<LeaseNews> {
        let sent = self.in_flight.take_if(|sent| sent.operation == operation)?;
        self.refused = outcome == Outcome::Refused;
        Some(match outcome {
            Outcome::Committed(revision) => {
                let after_gap = self.renewed_at.is_none_or(|at| sent.sent_at >= at + self.pace * 2);
                self.revision = self.revision.max(revision);
                let counted_from = if context.has(PlantedBug::LeaseFromReply) { context.now } else { sent.sent_at };
                self.until = Some(counted_from + context.timing.lease);
                self.renewed_at = Some(sent.sent_at);
                self.next_renewal = if sent.another { context.now } else { sent.sent_at + self.pace };
                self.contested_since = None;
                match sent.kind {
                    WriteKind::Renewal => LeaseNews::Renewed { after_gap, evidence: sent.evidence },
                    WriteKind::Anew => {
                        LeaseNews::BegunAnew { revision, sent_at: sent.sent_at, evidence: sent.evidence }
                    }
                    WriteKind::Restarting | WriteKind::Deletion => LeaseNews::Finished,
                }
            }
            Outcome::Conflict if sent.expected < self.revision => {
                // The watch has shown this worker's own later revision meanwhile: go on from there.
                self.next_renewal = context.now;
                LeaseNews::None
            }
            Outcome::Conflict => {
                self.contested_since = Some(context.now);
                LeaseNews::None
            }
            Outcome::Refused | Outcome::Unknown => {
                self.not_before = context.now + context.timing.retry;
                self.next_renewal = self.not_before;
                LeaseNews::None
            }
        })
    }

    /// Whether a write may be sent now. `urgent` is for one that says something new.
    pub(crate) fn may_write(&self, now: Instant, urgent: bool) -> bool {
        let due = now >= self.not_before && (urgent || now >= self.next_renewal);
        due && !self.lost && self.in_flight.is_none() && self.contested_since.is_none()
    }

    /// Sends a write on the revision that this worker wrote last.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        kind: WriteKind,
        record: MemberRecord,
        evidence: Option<Evidence>,
        outbox: &mut Outbox,
    ) {
        let (key, expected) = (Key::Slot(self.slot), self.revision);
        let write = match kind {
            WriteKind::Renewal | WriteKind::Anew | WriteKind::Restarting => {
                Write::Update { key, record: Record::Member(Arc::new(record)), expected }
            }
            WriteKind::Deletion => Write::Delete { key, expected },
        };
        let operation = outbox.request(write);
        self.in_flight = Some(InFlight { operation, sent_at: now, expected, kind, evidence, another: false });
    }

    /// It matters whether a renewal is committed: try at once.
    pub(crate) fn renew_at_once(&mut self, now: Instant) {
        self.next_renewal = self.next_renewal.min(now);
        self.not_before = now;
        if let Some(sent) = &mut self.in_flight {
            sent.another = true;
        }
    }

    /// When something is due: the end of the right to act, the next renewal, or another reading.
    pub(crate) fn deadline(&self, context: &Context, may_write: bool) -> Option<Instant> {
        let end = self.until.filter(|until| *until > context.now);
        let idle = may_write && self.in_flight.is_none() && self.contested_since.is_none() && !self.lost;
        let renewal = idle.then(|| self.next_renewal.max(self.not_before));
        let reading = self.contested_since.map(|since| since + context.timing.retry);
        earliest([end, renewal, reading])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::ids::{Incarnation, Instance, Position};

    #[test]
    fn a_renewal_that_is_wanted_while_another_is_on_its_way_follows_it_at_once() {
        let context = Context::at(Instant::ORIGIN);
        let begun = Position { incarnation: Incarnation::new(1), revision: Revision::new(7) };
        let start = Instant::ORIGIN;
        let mut lease = Lease::won(Slot::new(0), Tenure::new(begun), begun.revision, Some(start), &context);
        let mut outbox = Outbox::default();
        for (wanted, due) in [(false, start + context.timing.renewal), (true, start)] {
            lease.write(start, WriteKind::Renewal, MemberRecord::new(Instance::new(1)), None, &mut outbox);
            if wanted {
                lease.renew_at_once(start);
            }
            let Some(Action::Kv(request)) = outbox.pop() else { panic!("a write was asked for") };
            let committed = Outcome::Committed(Revision::new(8));
            lease.observe_done(&context, request.operation, committed);
            assert_eq!(lease.next_renewal, due);
            assert_eq!(lease.may_write(start, false), wanted);
        }
    }

    fn held(context: &Context) -> Lease {
        let begun = Position { incarnation: Incarnation::new(1), revision: Revision::new(7) };
        Lease::won(Slot::new(0), Tenure::new(begun), begun.revision, Some(context.now), context)
    }

    fn renewed(lease: &mut Lease, context: &Context, outcome: Outcome) -> Option<LeaseNews> {
        let mut outbox = Outbox::default();
        lease.write(context.now, WriteKind::Renewal, MemberRecord::new(Instance::new(1)), None, &mut outbox);
        let Some(Action::Kv(request)) = outbox.pop() else { panic!("a write was asked for") };
        lease.observe_done(context, request.operation, outcome)
    }

    #[test]
    fn after_a_conflict_nothing_is_written_before_the_record_was_seen_and_it_is_read_if_it_is_not() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut lease = held(&context);
        renewed(&mut lease, &context, Outcome::Conflict);
        assert!(!lease.may_write(context.now, true) && !lease.take_reading(&context));
        context.now = context.now + context.timing.retry;
        assert!(lease.take_reading(&context));
        let own = MemberRecord::new(Instance::new(1));
        assert!(lease.observe_record(context.now, Revision::new(8), Some(&own), Instance::new(1)));
        assert!(lease.may_write(context.now, false), "it was its own write, come late");
    }

    #[test]
    fn a_record_of_another_process_ends_the_lease_at_once() {
        let context = Context::at(Instant::ORIGIN);
        let mut lease = held(&context);
        let others = MemberRecord::new(Instance::new(2));
        assert!(lease.is_valid(context.now));
        lease.observe_record(context.now, Revision::new(9), Some(&others), Instance::new(1));
        assert!(lease.is_lost() && !lease.is_valid(context.now) && !lease.is_forgotten());
    }

    #[test]
    fn a_committed_renewal_that_three_listings_do_not_show_is_lost_only_if_a_write_has_failed_as_well() {
        let context = Context::at(Instant::ORIGIN);
        for (outcome, lost) in [(Outcome::Committed(Revision::new(8)), false), (Outcome::Conflict, true)] {
            let mut lease = held(&context);
            renewed(&mut lease, &context, outcome);
            (0..3).for_each(|_| lease.observe_listing(&context, None));
            assert_eq!((lease.is_lost(), lease.is_forgotten()), (lost, lost), "{outcome:?}");
        }
    }
}
