//! What is finished and not yet stored.

use super::fit::GoOn;
use super::position::{Failed, PositionRecord};
use super::settings::DeliveryConfig;
use crate::ids::{Sequence, Timestamp, Token};
use crate::time::Instant;

/// How far the messages of one partition are finished, and since when that differs from what is stored.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    created: Timestamp,
    seq: Sequence,
    at: Timestamp,
    failed: Option<Failed>,
    /// How many messages were finished since the last write, and when the first of them was.
    unstored: u32,
    since: Option<Instant>,
    /// Whether it is to be stored without waiting for more.
    at_once: bool,
    /// The application stores by itself what it has finished.
    by_application: bool,
}

impl Progress {
    pub(super) fn new(created: Timestamp, position: GoOn, failed: Option<Failed>, by_application: bool) -> Self {
        let GoOn { seq, at, .. } = position;
        Self { created, seq, at, failed, unstored: 0, since: None, at_once: false, by_application }
    }

    /// The last message that is finished.
    pub(super) fn seq(&self) -> Sequence {
        self.seq
    }

    /// When the stream was made, as far as the position goes.
    pub(super) fn created(&self) -> Timestamp {
        self.created
    }

    pub(super) fn position(&self, next: Sequence) -> GoOn {
        GoOn { seq: self.seq, at: self.at, next }
    }

    /// The last message that is known to be stored as finished, where `stored` is.
    pub(super) fn stored(&self, stored: Option<&PositionRecord>) -> Sequence {
        if self.by_application { self.seq } else { stored.map_or(Sequence::default(), |stored| stored.seq) }
    }

    /// How often this message has failed.
    pub(super) fn times(&self, sequence: Sequence) -> u32 {
        self.failed.filter(|failed| failed.seq == sequence).map_or(0, |failed| failed.times)
    }

    pub(super) fn failed(&self) -> Option<Failed> {
        self.failed
    }

    /// `count` messages are finished, the last of them this one.
    pub(super) fn observe_finished(&mut self, now: Instant, sequence: Sequence, timestamp: Timestamp, count: u32) {
        self.seq = sequence;
        self.at = timestamp;
        self.failed = self.failed.filter(|failed| failed.seq > sequence);
        if !self.by_application {
            self.unstored = self.unstored.saturating_add(count);
            self.since.get_or_insert(now);
        }
    }

    /// A message is finished without the application, which has stored nothing of it.
    pub(super) fn observe_buried(&mut self, now: Instant, sequence: Sequence, timestamp: Timestamp) {
        self.observe_finished(now, sequence, timestamp, 1);
        self.at_once |= self.by_application;
    }

    /// A message was counted as failed once more, and has not failed.
    pub(super) fn take_back(&mut self, sequence: Sequence) {
        let times = self.times(sequence).saturating_sub(1);
        let others = self.failed.filter(|failed| failed.seq != sequence);
        self.failed = others.or((times > 0).then_some(Failed { seq: sequence, times }));
    }

    /// A message has failed once more. Returns how often by now.
    pub(super) fn observe_failed(&mut self, now: Instant, sequence: Sequence) -> u32 {
        let times = self.times(sequence).saturating_add(1);
        self.failed = Some(Failed { seq: sequence, times });
        self.since.get_or_insert(now);
        times
    }

    /// It is to be stored without waiting for more.
    pub(super) fn store_at_once(&mut self) {
        self.at_once = true;
    }

    /// What to store, where every message up to `through` is finished.
    pub(super) fn record(
        &self,
        config: &DeliveryConfig,
        token: Token,
        through: Sequence,
        open: bool,
    ) -> PositionRecord {
        PositionRecord {
            stream: config.stream.clone(),
            created: self.created,
            seq: self.seq,
            at: self.at,
            through: through.max(self.seq),
            token,
            open,
            failed: self.failed,
        }
    }

    /// Whether a write of it is due.
    pub(super) fn is_due(&self, now: Instant, config: &DeliveryConfig) -> bool {
        self.at_once || self.unstored >= config.commit_after || self.deadline(config).is_some_and(|at| at <= now)
    }

    /// When a write of it is due, if nothing more happens.
    pub(super) fn deadline(&self, config: &DeliveryConfig) -> Option<Instant> {
        self.since.map(|since| since + config.commit_interval)
    }

    /// A write of it was sent: what is finished from now on is not in it. If it fails, what is stored still differs.
    pub(super) fn observe_sent(&mut self) {
        (self.unstored, self.since, self.at_once) = (0, None, false);
    }

    /// What is stored was read again, after a write without a known outcome: what differs from it is due.
    pub(super) fn observe_stored(&mut self, token: Token, stored: Option<&PositionRecord>) {
        let is_claim = |stored: &PositionRecord| !self.by_application || self.is_claim_of(token, stored);
        let is_same = |stored: &PositionRecord| stored.seq >= self.seq && stored.failed == self.failed;
        self.at_once |= !stored.is_some_and(|stored| is_claim(stored) && is_same(stored));
    }

    /// Whether what is stored was claimed under this token for the stream as it is: only then the application can move it.
    pub(super) fn is_claim_of(&self, token: Token, stored: &PositionRecord) -> bool {
        stored.token == token && stored.created == self.created
    }
}
