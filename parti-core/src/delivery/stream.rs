//! What is known of the stream.

use super::event::StreamState;
use super::order::{Notice, Order, Orders};
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence};
use crate::time::{Duration, Instant};

/// How much later the end of a stream must be seen again before what was read: one server may have answered that does not know yet.
const CONFIRM: Duration = Duration::from_secs(1);

/// The state of the stream as its leader has told it, and when it was asked for it.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamView {
    state: Option<(StreamState, Instant)>,
    asking: Option<Question>,
    /// Who waits for an answer to a question that was put at this instant or later.
    wanted: Option<Instant>,
    not_before: Instant,
    told_missing: bool,
    /// Whether the last answer has shown less of the stream than was read of it.
    showed_less: Option<Instant>,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
struct Question {
    call: CallId,
    asked: Instant,
    /// The first number that nobody had read when it was put.
    reached: Sequence,
}

impl StreamView {
    /// The state, from an answer to a question that was put at `since` or later.
    pub(super) fn as_of(&self, since: Instant) -> Option<StreamState> {
        self.state.filter(|(_, asked)| *asked >= since).map(|(state, _)| state)
    }

    /// Whether that is there; it is asked for otherwise.
    pub(super) fn is_seen(&mut self, since: Instant) -> bool {
        let is_seen = self.as_of(since).is_some();
        if !is_seen {
            self.want(since);
        }
        is_seen
    }

    /// The state as it was told last.
    pub(super) fn last_told(&self) -> Option<StreamState> {
        self.state.map(|(state, _)| state)
    }

    /// The state as it was told last, unless that is too long ago to say what its limits may have removed since: looks have
    /// failed, or none was allowed.
    pub(super) fn recent(&self, now: Instant, config: &DeliveryConfig) -> Option<StreamState> {
        self.state.filter(|(_, asked)| now <= *asked + 2 * config.check_interval).map(|(state, _)| state)
    }

    /// Somebody waits for an answer to a question that is put at `since` or later.
    pub(super) fn want(&mut self, since: Instant) {
        self.wanted = self.wanted.max(Some(since));
    }

    /// The leader has answered the last question. Returns whether the stream has lost its newest messages: it was seen twice
    /// to end before what had been read of it when it was asked.
    pub(super) fn observe_state(&mut self, call: CallId, state: StreamState) -> Option<bool> {
        let Question { asked, reached, .. } = self.asking.take_if(|question| question.call == call)?;
        self.state = Some((state, asked));
        self.wanted = self.wanted.filter(|wanted| asked < *wanted);
        self.told_missing = false;
        let shows_less = reached > state.last.next();
        let since = self.showed_less.filter(|_| shows_less).unwrap_or(asked);
        self.showed_less = shows_less.then_some(since);
        if shows_less && asked < since + CONFIRM {
            self.want(since + CONFIRM);
        }
        Some(shows_less && asked >= since + CONFIRM)
    }

    /// There is no stream, or no answer.
    pub(super) fn observe_none(&mut self, now: Instant, call: CallId, config: &DeliveryConfig) -> bool {
        let was_asked = self.asking.take_if(|question| question.call == call).is_some();
        if was_asked {
            self.not_before = now + config.retry;
        }
        was_asked
    }

    /// There is no such stream: said once until there is one.
    pub(super) fn tell_missing<M>(&mut self, orders: &mut Orders<M>) {
        if !self.told_missing {
            self.told_missing = true;
            orders.notice(Notice::NoStream);
        }
    }

    /// Whether it is to be asked now: somebody waits for it, or it is time.
    pub(super) fn is_due(&self, now: Instant, config: &DeliveryConfig) -> bool {
        self.deadline(config).is_some_and(|at| at <= now)
    }

    /// Asks. `reached` is the first number that nobody has read.
    pub(super) fn ask<M>(&mut self, now: Instant, reached: Sequence, orders: &mut Orders<M>) {
        let call = orders.call(|call| Order::Inspect { call });
        self.asking = Some(Question { call, asked: now, reached });
    }

    pub(super) fn deadline(&self, config: &DeliveryConfig) -> Option<Instant> {
        if self.asking.is_some() { None } else { self.due(config) }
    }

    fn due(&self, config: &DeliveryConfig) -> Option<Instant> {
        let in_time = self.state.map(|(_, asked)| asked + config.check_interval);
        let due = match (self.wanted, in_time) {
            (Some(wanted), Some(in_time)) => wanted.min(in_time),
            (wanted, in_time) => wanted.or(in_time)?,
        };
        Some(due.max(self.not_before))
    }
}
