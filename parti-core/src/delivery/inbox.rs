//! What was read of one partition and not handed out, and from where the next message comes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::event::Fetched;
use super::message::Message;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence, Timestamp};
use crate::time::Instant;

/// How many messages a look at a quiet partition reads at most.
pub(super) const LOOK: u32 = 16;

/// The messages of one partition that are held ready.
///
/// A message is taken if its number is at least `next`, and `next` is then the number after it. So to be shown a message
/// twice does no harm. What must not happen is that one is never shown: whoever shows messages shows *all* that the
/// stream has from `next` on. A tail does so if it was opened at or below `next`, from its opening on. A reading that
/// came to the end of what *one replica* had is not that: the end of a replica that lags is not the end of the stream,
/// and a tail that runs is already past what lies between.
#[derive(Clone, Debug)]
pub(super) struct Inbox<M> {
    reading: Reading,
    /// Whether no tail has served it yet.
    is_new: bool,
    next: Sequence,
    messages: VecDeque<Message<M>>,
    bytes: usize,
    /// A look at a partition that a tail serves or is to serve.
    look: Option<CallId>,
    /// How many messages were behind the last one that was fetched.
    pending: u64,
    /// A look has shown that there is something which the tail has not shown.
    lacks: bool,
    /// When a message came, or something else told that there is none.
    heard: Instant,
    /// What was passed over because nothing of it was there, as long as it may have been removed before that.
    unproven: Option<Unproven>,
}

/// Numbers that were passed over: the stream had nothing of the partition there when it was read. If it still had the
/// first of these numbers later, nothing was removed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    /// What the stream says of itself counts if it was asked at this instant or later.
    pub(super) since: Instant,
    pub(super) from: Sequence,
}

/// From where the next message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// From nowhere, for now.
    Closed,
    /// It is to be asked whether there are any.
    Unknown,
    Asking(CallId),
    /// There are some: they are to be fetched as soon as there is room.
    Behind,
    Fetching(CallId),
    /// One replica had no more: the next tail is to serve it.
    AtEnd,
    OnTail(CallId),
}

/// What a partition wants to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    /// To be asked for in one question with others.
    Ask,
    /// To be fetched: so many messages and bytes.
    Fetch {
        most: u32,
        bytes: usize,
    },
    /// To be served by the next tail: its first one, or the next after one that it has left.
    Tail {
        first: bool,
    },
    /// To be looked at, though a tail serves it.
    Look,
}

/// What a fetch has shown beside its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchNews {
    Nothing,
    /// The tail that serves the partition has passed over this message.
    Skipped(Sequence),
}

impl<M> Inbox<M> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reading: Reading::Closed,
            is_new: true,
            next: Sequence::default(),
            messages: VecDeque::new(),
            bytes: 0,
            look: None,
            pending: 0,
            lacks: false,
            heard: now,
            unproven: None,
        }
    }

    /// Begins to read at this number, and forgets what is held.
    pub(super) fn open(&mut self, now: Instant, next: Sequence, can_ask: bool) {
        let reading = if can_ask { Reading::Unknown } else { Reading::Behind };
        *self = Self { reading, next, is_new: self.is_new, ..Self::new(now) };
    }

    /// The first number that was not shown, where the tail that serves the partition has come to `scanned`.
    pub(super) fn reached(&self, tail: Option<(CallId, Sequence)>) -> Sequence {
        match (self.reading, tail) {
            (Reading::OnTail(id), Some((tail, scanned))) if id == tail => self.next.max(scanned.next()),
            _ => self.next,
        }
    }

    /// The first message that is held.
    pub(super) fn front(&self) -> Option<&Message<M>> {
        self.messages.front()
    }

    /// How many messages are known to be in the stream that were not read.
    pub(super) fn pending(&self) -> u64 {
        if self.is_behind() { self.pending.max(1) } else { 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether messages are known to be there that are not held.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.reading, Reading::Behind | Reading::Fetching(_))
    }

    /// Whether a tail serves it.
    pub(super) fn is_on_tail(&self) -> bool {
        matches!(self.reading, Reading::OnTail(_))
    }

    pub(super) fn want(&self, scope: Scope<'_>) -> Want {
        let Scope { now, config, can_ask, .. } = scope;
        match self.reading {
            Reading::Unknown => Want::Ask,
            Reading::Behind => self.room(config).map_or(Want::Nothing, |(most, bytes)| Want::Fetch { most, bytes }),
            Reading::AtEnd => Want::Tail { first: self.is_new },
            Reading::OnTail(_) if self.lacks && self.look.is_none() => Want::Look,
            Reading::OnTail(_) if self.look_at(config).is_some_and(|at| at <= now) => {
                if can_ask {
                    Want::Ask
                } else {
                    Want::Look
                }
            }
            Reading::OnTail(_) | Reading::Closed | Reading::Asking(_) | Reading::Fetching(_) => Want::Nothing,
        }
    }

    /// How many messages and bytes are worth a request: not each that leaves, a request each half buffer is cheaper.
    pub(super) fn room(&self, config: &DeliveryConfig) -> Option<(u32, usize)> {
        let held = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let most = config.buffer_messages.saturating_sub(held);
        let bytes = config.buffer_bytes.saturating_sub(self.bytes);
        let is_worth_it =
            self.messages.is_empty() || (most > config.buffer_messages / 2 && bytes > config.buffer_bytes / 2);
        is_worth_it.then_some((most.max(1), bytes.max(1)))
    }

    /// When it wants to be looked at.
    pub(super) fn look_at(&self, config: &DeliveryConfig) -> Option<Instant> {
        match self.reading {
            Reading::OnTail(_) if self.look.is_none() => Some(self.heard + config.check_interval),
            Reading::OnTail(_)
            | Reading::AtEnd
            | Reading::Closed
            | Reading::Unknown
            | Reading::Asking(_)
            | Reading::Behind
            | Reading::Fetching(_) => None,
        }
    }

    pub(super) fn next(&self) -> Sequence {
        self.next
    }

    pub(super) fn asked(&mut self, call: CallId) {
        match self.reading {
            Reading::OnTail(_) => self.look = Some(call),
            Reading::Closed
            | Reading::Unknown
            | Reading::Asking(_)
            | Reading::Behind
            | Reading::Fetching(_)
            | Reading::AtEnd => self.reading = Reading::Asking(call),
        }
    }

    pub(super) fn fetching(&mut self, call: CallId) {
        self.reading = Reading::Fetching(call);
    }

    pub(super) fn looking(&mut self, call: CallId) {
        self.look = Some(call);
    }

    /// The answer to a question: as of one moment of one replica, `last` is the partition's last message and `through` the stream's.
    pub(super) fn observe_end(&mut self, scope: Scope<'_>, call: CallId, last: Option<Sequence>, through: Sequence) {
        let has_more = last.is_some_and(|last| last >= self.next);
        if self.look == Some(call) {
            self.look = None;
            self.lacks = has_more;
        } else if self.reading == Reading::Asking(call) {
            self.reading = if has_more { Reading::Behind } else { Reading::AtEnd };
        } else {
            return;
        }
        self.heard = scope.now;
        let reached = self.reached(scope.tail);
        if !has_more && through >= reached {
            // The replica has every message up to `through`, and none of the partition that was not shown yet.
            self.pass_over(scope, reached);
            self.next = through.next();
        }
    }

    /// Nothing is there of the partition from this number on, up to some other one.
    fn pass_over(&mut self, scope: Scope<'_>, from: Sequence) {
        if scope.may_be_removed(from) {
            self.doubt(scope.now, from);
        }
    }

    fn doubt(&mut self, now: Instant, from: Sequence) {
        let from = self.unproven.map_or(from, |before| before.from.min(from));
        self.unproven = Some(Unproven { since: now, from });
    }

    /// What may have been removed unread.
    pub(super) fn unproven(&self) -> Option<Unproven> {
        self.unproven
    }

    /// It is known what was removed.
    pub(super) fn observe_proven(&mut self) {
        self.unproven = None;
    }

    /// The question cannot be answered, or was not: the partition is read.
    pub(super) fn observe_no_end(&mut self, call: CallId) {
        if self.reading == Reading::Asking(call) {
            self.reading = Reading::Behind;
        }
        if self.look == Some(call) {
            self.look = None;
            self.lacks = true;
        }
    }

    /// What was fetched, in order, from `next` on as it was when the order was given.
    pub(super) fn observe_fetched(&mut self, scope: Scope<'_>, call: CallId, fetched: Fetched<M>) -> FetchNews {
        let Scope { now, config, tail, .. } = scope;
        if self.reading == Reading::Fetching(call) || self.look == Some(call) {
            // The limits remove the oldest first: what may be missing comes before the first message.
            let reached = self.reached(tail);
            let first = fetched.messages.iter().find(|message| message.sequence >= self.next);
            if first.is_some_and(|first| first.sequence > reached) {
                self.pass_over(scope, reached);
            }
        }
        if self.reading == Reading::Fetching(call) {
            self.heard = now;
            for message in fetched.messages {
                self.push(message);
            }
            self.pending = fetched.pending;
            self.reading = if fetched.pending > 0 { Reading::Behind } else { Reading::AtEnd };
            return FetchNews::Nothing;
        }
        if self.look != Some(call) {
            return FetchNews::Nothing;
        }
        (self.look, self.lacks) = (None, false);
        self.heard = now;
        let reached = self.reached(tail);
        let mut news = FetchNews::Nothing;
        for message in fetched.messages {
            if message.sequence < self.next {
                continue;
            }
            // What a tail has not come to yet it will show. It has shown everything below `reached`, or says so.
            if message.sequence < reached && news == FetchNews::Nothing {
                news = FetchNews::Skipped(message.sequence);
            }
            if !self.has_room(message.bytes, config) {
                self.reading = Reading::Behind;
                break;
            }
            self.push(message);
        }
        if fetched.pending > 0 {
            // A look shows the first ones only: a tail that lacks so much may show nothing for long.
            (self.reading, self.pending) = (Reading::Behind, fetched.pending);
        }
        news
    }

    /// A fetch or a look got no answer.
    pub(super) fn observe_unfetched(&mut self, now: Instant, call: CallId) {
        if self.reading == Reading::Fetching(call) {
            self.reading = Reading::Behind;
        }
        if self.look == Some(call) {
            (self.look, self.lacks) = (None, false);
            self.heard = now;
        }
    }

    /// A tail shows a message.
    pub(super) fn observe_tailed(&mut self, now: Instant, tail: CallId, message: Message<M>, config: &DeliveryConfig) {
        if self.reading != Reading::OnTail(tail) || message.sequence < self.next {
            return;
        }
        self.heard = now;
        if self.has_room(message.bytes, config) {
            self.push(message);
        } else {
            // It misses this message, so it misses what the tail shows later as well, and is read on its own from here.
            self.next = message.sequence;
            self.reading = Reading::Behind;
        }
    }

    /// A tail is open that begins at `from`. Whoever waits for one, or is on the one before, is served by it, if it begins where
    /// this partition is or before: it shows everything from there.
    pub(super) fn join(&mut self, now: Instant, tail: CallId, from: Sequence, before: Option<(CallId, Sequence)>) {
        let reached = self.reached(before);
        let is_waiting = match self.reading {
            Reading::AtEnd => true,
            Reading::OnTail(id) => before.is_some_and(|(before, _)| before == id),
            Reading::Closed | Reading::Unknown | Reading::Asking(_) | Reading::Behind | Reading::Fetching(_) => false,
        };
        if is_waiting && from <= reached {
            // It shows what is there: the limits may have removed something since the partition was read.
            self.doubt(now, reached);
            self.next = reached;
            self.reading = Reading::OnTail(tail);
            self.is_new = false;
        }
    }

    /// Whoever waits for a tail is served by one that runs, which a planted bug does.
    pub(super) fn join_running(&mut self, tail: CallId) {
        if self.reading == Reading::AtEnd {
            self.reading = Reading::OnTail(tail);
        }
    }

    /// The tail is no more: the next one is to serve it.
    pub(super) fn leave(&mut self, tail: (CallId, Sequence)) {
        if self.reading == Reading::OnTail(tail.0) {
            self.next = self.reached(Some(tail));
            self.reading = Reading::AtEnd;
        }
    }

    /// A consumer of this partition alone shows a message. Returns whether it was taken: it follows what was shown before.
    pub(super) fn receive(&mut self, message: Message<M>) -> bool {
        let follows = message.sequence >= self.next;
        self.push(message);
        follows
    }

    /// Whether this message is held.
    pub(super) fn has(&self, sequence: Sequence, timestamp: Timestamp) -> bool {
        let found = self.messages.binary_search_by_key(&sequence, |message| message.sequence);
        found.is_ok_and(|at| self.messages[at].timestamp == timestamp)
    }

    /// Goes on at this number, where the stream has nothing between.
    pub(super) fn skip_to(&mut self, next: Sequence) {
        self.next = self.next.max(next);
    }

    /// Takes out the first messages, at most so many.
    pub(super) fn take(&mut self, most: usize) -> impl Iterator<Item = Message<M>> + '_ {
        let count = most.min(self.messages.len());
        let bytes = &mut self.bytes;
        self.messages.drain(..count).inspect(|message| *bytes = bytes.saturating_sub(message.bytes))
    }

    /// Puts messages back that were taken out.
    pub(super) fn put_back(&mut self, messages: Vec<Message<M>>) {
        for message in messages.into_iter().rev() {
            self.bytes = self.bytes.saturating_add(message.bytes);
            self.messages.push_front(message);
        }
    }

    fn has_room(&self, bytes: usize, config: &DeliveryConfig) -> bool {
        let count_fits = self.messages.len() < config.buffer_messages as usize;
        self.messages.is_empty() || (count_fits && self.bytes.saturating_add(bytes) <= config.buffer_bytes)
    }

    fn push(&mut self, message: Message<M>) {
        if message.sequence >= self.next {
            self.next = message.sequence.next();
            self.bytes = self.bytes.saturating_add(message.bytes);
            self.messages.push_back(message);
        }
    }
}
