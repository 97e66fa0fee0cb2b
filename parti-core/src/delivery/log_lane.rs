//! The delivery of one partition's messages, from its acquisition until it may be let go.

use super::event::{Answer, Request, StreamState};
use super::fit;
use super::fit::GoOn;
use super::held::Held;
use super::hold::HoldNews;
use super::inbox::{FetchNews, Inbox, Unproven, Want};
use super::lanes::{Fate, Lane};
use super::order::{Misfit, Notice, Orders, StopReason};
use super::position::Failed;
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use super::status::LaneStatus;
use super::stream::StreamView;
use crate::ids::{CallId, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Duration, Instant, earliest};

/// How much later a misfit must be seen again to be believed: one server may have answered that does not know yet.
const CONFIRM: Duration = Duration::from_secs(1);

/// Delivers the messages of one partition under one hold.
///
/// It routes between the four parts that it has [`Held`].
#[derive(Clone, Debug)]
pub(super) struct LogLane<M> {
    held: Held<M>,
    stage: Stage,
}

/// How far the hold has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// What is stored is to be read, and compared with the stream.
    Judging {
        /// When it was read, and what the stream has there.
        read: Option<(Instant, Option<Timestamp>)>,
        /// What was seen before, and is to be seen again.
        doubt: Option<Doubt>,
    },
    /// The first write is on its way. The messages from this one on are unfinished.
    Claiming { next: Sequence },
    /// Messages may be handed out.
    Working,
}

/// What is believed only once it was seen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The position does not fit the stream.
    Misfit(Misfit),
    /// It fits a stream that says that it was made at this other time. What is at the position may have been read before that
    /// one was made.
    MadeAt(Timestamp),
}

impl<M> Lane<M> for LogLane<M> {
    fn new(partition: PartitionId, token: Token, now: Instant) -> Self {
        Self { held: Held::new(partition, token, now), stage: Stage::Judging { read: None, doubt: None } }
    }

    fn held(&self) -> &Held<M> {
        &self.held
    }

    fn held_mut(&mut self) -> &mut Held<M> {
        &mut self.held
    }

    fn status<'a>(&self, partition: &'a PartitionId) -> LaneStatus<'a> {
        let Held { hold, inbox, work, progress, .. } = &self.held;
        LaneStatus {
            partition,
            token: hold.token(),
            finished: progress.seq(),
            stored: progress.stored(hold.stored()),
            ready: inbox.len(),
            unfinished: work.unfinished(),
            pending: inbox.pending(),
            oldest: self.held.oldest(),
            is_on_tail: inbox.is_on_tail(),
            stream_last: None,
        }
    }

    fn observe_request(&mut self, scope: Scope<'_>, request: Request<M>, orders: &mut Orders<M>) {
        let Held { work, progress, .. } = &mut self.held;
        match request {
            Request::Want { most, .. } => work.observe_want(most),
            Request::Finish { through, .. } => work.observe_finished(scope.now, through, progress),
            Request::Return { messages, failed, .. } => {
                if scope.config.own_positions {
                    // The application may have stored the effect and not come to say so; or it was refused, since another
                    // owner is stored, or its position was lost.
                    self.held.hold.doubt(scope.now);
                }
                self.held.observe_returned(scope, messages, failed, orders);
            }
            Request::Commit { .. } if scope.config.own_positions => {}
            Request::Commit { .. } => progress.store_at_once(),
            Request::Leave { .. } => self.held.observe_left(),
        }
    }

    fn decide(
        &mut self,
        scope: Scope<'_>,
        stream: &mut StreamView,
        solitude: (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) -> Fate {
        if self.held.has_left() && !self.held.hold.is_claimed() {
            return self.held.let_go(orders);
        }
        self.held.hold.read(scope.now, &self.held.partition, orders);
        match self.stage {
            Stage::Judging { read, doubt } => {
                let Some((read, at)) = read.filter(|_| self.held.hold.is_settled()) else { return Fate::GoesOn };
                let Some(state) = stream.as_of(read) else {
                    stream.want(read);
                    return Fate::GoesOn;
                };
                return self.judge(scope, at, doubt, state, orders);
            }
            Stage::Claiming { next } if self.held.hold.is_claimed() => {
                self.stage = Stage::Working;
                self.held.inbox.open(scope.now, next, scope.can_ask);
            }
            Stage::Claiming { .. } => return Fate::GoesOn,
            Stage::Working => {}
        }
        if self.held.has_left() {
            return self.finish(scope, orders);
        }
        match self.prove(scope, stream, orders) {
            Some(Fate::Over) => return Fate::Over,
            // Its effect would be refused.
            Some(Fate::GoesOn) if scope.config.own_positions && !self.held.is_claim_stored() => {}
            Some(Fate::GoesOn) => self.held.hand_out(scope, solitude, orders),
            None => {}
        }
        if self.held.is_store_due(scope) {
            self.store(scope, true, orders);
        }
        Fate::GoesOn
    }

    fn deadline(&self, config: &DeliveryConfig, now: Instant) -> Option<Instant> {
        // What is due is known to those who read: it waits for its turn.
        let look = self.held.inbox.look_at(config).filter(|at| self.reads() && *at > now);
        earliest([self.held.deadline(config, now, matches!(self.stage, Stage::Working)), look])
    }

    /// Nothing goes on outside for one partition alone but reads, which end by themselves.
    fn end(&mut self, _: &mut Orders<M>) {}
}

impl<M> LogLane<M> {
    pub(super) fn inbox(&self) -> &Inbox<M> {
        &self.held.inbox
    }

    pub(super) fn inbox_mut(&mut self) -> &mut Inbox<M> {
        &mut self.held.inbox
    }

    /// What the partition wants to be read.
    pub(super) fn want(&self, scope: Scope<'_>) -> Want {
        match if self.reads() { self.held.inbox.want(scope) } else { Want::Nothing } {
            Want::Look if scope.has(PlantedBug::NeverLook) => Want::Nothing,
            want => want,
        }
    }

    /// Whether the next tail is to serve it.
    pub(super) fn wants_tail(&self, scope: Scope<'_>) -> bool {
        self.reads() && (self.held.inbox.is_on_tail() || matches!(self.want(scope), Want::Tail { .. }))
    }

    /// Whether messages are read for it.
    fn reads(&self) -> bool {
        matches!(self.stage, Stage::Working) && self.held.goes_on()
    }

    /// The answer to an order that was given for this lane. Returns what it shows of the tail.
    pub(super) fn observe_answer(
        &mut self,
        scope: Scope<'_>,
        call: CallId,
        answer: Answer<M>,
        orders: &mut Orders<M>,
    ) -> (Fate, FetchNews) {
        let Scope { now, config, tail, .. } = scope;
        let news = match answer {
            Answer::Position(position) => self.held.hold.observe_read(scope, call, position),
            Answer::Written(outcome) => self.held.hold.observe_written(now, call, &outcome, config.retry),
            Answer::Fetched(fetched) => {
                let news = self.held.inbox.observe_fetched(scope, call, fetched);
                if let Some((tail, _)) = tail.filter(|_| scope.has(PlantedBug::JoinRunningTail)) {
                    self.held.inbox.join_running(tail);
                }
                return (Fate::GoesOn, news);
            }
            Answer::Buried => {
                self.held.work.observe_buried(now, call, &mut self.held.progress);
                HoldNews::None
            }
            Answer::NotBuried(message) => {
                self.held.work.observe_not_buried(now, call, message, &mut self.held.inbox, config);
                orders.notice(Notice::Retrying { what: "dead letter", reason: "it was not stored".into() });
                HoldNews::None
            }
            Answer::Failed { reason } => {
                self.held.inbox.observe_unfetched(now, call);
                orders.notice(Notice::Retrying { what: "read", reason });
                self.held.hold.observe_failed(now, call, config.retry)
            }
            Answer::Stream(_)
            | Answer::NoStream
            | Answer::Ends(_)
            | Answer::CannotTell
            | Answer::TailOpened
            | Answer::Consumer(_)
            | Answer::NoConsumer
            | Answer::Unfit { .. }
            | Answer::PullOver(_)
            | Answer::Acknowledged => HoldNews::None,
        };
        (self.observe_hold(now, news, orders), FetchNews::Nothing)
    }

    fn observe_hold(&mut self, now: Instant, news: HoldNews, orders: &mut Orders<M>) -> Fate {
        match news {
            HoldNews::None => {}
            HoldNews::Read { at } => {
                let doubt = match self.stage {
                    Stage::Judging { doubt, .. } => doubt,
                    Stage::Claiming { .. } | Stage::Working => None,
                };
                self.stage = Stage::Judging { read: Some((now, at)), doubt };
            }
            HoldNews::Committed => self.held.observe_stored(),
            HoldNews::Found { at } => match self.stage {
                // A write that was given up has landed while the position was looked at anew.
                Stage::Judging { doubt, .. } => self.stage = Stage::Judging { read: Some((now, at)), doubt },
                Stage::Claiming { .. } | Stage::Working => {
                    self.held.observe_stored_by_application(now);
                    self.held.observe_stored();
                }
            },
            HoldNews::Retrying => {
                orders.notice(Notice::Retrying {
                    what: "position",
                    reason: "it was not written, or not known to be".into(),
                });
            }
            HoldNews::Over(reason) => return self.held.stop(reason, orders),
        }
        Fate::GoesOn
    }

    /// What the stream says of itself, while it is read.
    pub(super) fn observe_stream(&mut self, scope: Scope<'_>, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if !matches!(self.stage, Stage::Working) {
            return Fate::GoesOn;
        }
        if self.held.progress.created() != stream.created {
            return self.held.stop(StopReason::StreamChanged, orders);
        }
        // Who waits for a tail or is served by one has missed nothing: what was removed was none of its messages.
        if self.held.inbox.is_behind() && self.miss(scope, self.held.inbox.next(), stream, orders) == Fate::Over {
            return Fate::Over;
        }
        self.keep_inside(scope, stream);
        Fate::GoesOn
    }

    /// The messages from `from` on were not read yet, or nothing of them was there: some may have been removed unread.
    fn miss(&mut self, scope: Scope<'_>, from: Sequence, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if let Err(misfit) = fit::gap(from, stream) {
            let Some(go_on) = fit::go_on(misfit, self.held.progress.position(from), stream, scope.config) else {
                return self.held.stop(StopReason::Misfit(misfit), orders);
            };
            self.went_on(misfit, go_on.next, orders);
            self.held.inbox.skip_to(go_on.next);
        }
        Fate::GoesOn
    }

    /// Looks whether what was passed over may have been removed unread. Returns none as long as that is not known.
    fn prove(&mut self, scope: Scope<'_>, stream: &mut StreamView, orders: &mut Orders<M>) -> Option<Fate> {
        let Some(Unproven { since, from }) = self.held.inbox.unproven() else { return Some(Fate::GoesOn) };
        let Some(state) = stream.as_of(since) else {
            stream.want(since);
            return None;
        };
        self.held.inbox.observe_proven();
        Some(self.miss(scope, from, state, orders))
    }

    /// The stream has lost its newest messages, up to `last`.
    pub(super) fn observe_lost_suffix(&mut self, scope: Scope<'_>, last: Sequence, orders: &mut Orders<M>) -> Fate {
        let has_read_more = matches!(self.stage, Stage::Working) && self.held.inbox.reached(scope.tail) > last.next();
        if has_read_more { self.held.stop(StopReason::StreamChanged, orders) } else { Fate::GoesOn }
    }

    /// A quiet partition's position stays where it is while the stream's limits remove what is before it. Before they
    /// reach it, it is stored how far nothing of it was found: else the next owner could not tell this from a gap.
    fn keep_inside(&mut self, scope: Scope<'_>, stream: StreamState) {
        let quarter = stream.last.value().saturating_sub(stream.first.value()) / 4;
        let is_near = |stored: Sequence| stored.value() < stream.first.value().saturating_add(quarter);
        let through = self.through(scope.tail);
        let progress = &self.held.progress;
        let stored = self.held.hold.stored().map(|stored| stored.through.max(progress.stored(Some(stored))));
        if stored.is_some_and(|stored| is_near(stored) && stored < through) {
            self.held.progress.store_at_once();
        }
    }

    /// Compares what is stored with the stream, and claims the position.
    fn judge(
        &mut self,
        scope: Scope<'_>,
        at: Option<Timestamp>,
        doubt: Option<Doubt>,
        stream: StreamState,
        orders: &mut Orders<M>,
    ) -> Fate {
        let stored = self.held.hold.stored().filter(|_| !scope.has(PlantedBug::BeginAnew));
        let (go_on, failed, was_open) = match stored {
            None => (fit::begin(scope.config.start, stream), None, false),
            Some(record) => match fit::judge(record, at, stream, scope.config) {
                Ok(go_on) if record.created == stream.created || doubt == Some(Doubt::MadeAt(stream.created)) => {
                    (go_on, record.failed, record.open)
                }
                Ok(_) => {
                    self.stage = Stage::Judging { read: None, doubt: Some(Doubt::MadeAt(stream.created)) };
                    self.held.hold.doubt(scope.now);
                    return Fate::GoesOn;
                }
                Err(misfit) => {
                    let position = GoOn { seq: record.seq, at: record.at, next: record.through.next() };
                    if doubt != Some(Doubt::Misfit(misfit)) && !matches!(misfit, Misfit::Gap { .. }) {
                        self.stage = Stage::Judging { read: None, doubt: Some(Doubt::Misfit(misfit)) };
                        self.held.hold.doubt(scope.now + CONFIRM);
                        return Fate::GoesOn;
                    }
                    let Some(go_on) = fit::go_on(misfit, position, stream, scope.config) else {
                        return self.held.stop(StopReason::Misfit(misfit), orders);
                    };
                    let failed = record.failed.filter(|_| matches!(misfit, Misfit::Gap { .. }));
                    let was_open = record.open;
                    self.went_on(misfit, go_on.next, orders);
                    (go_on, failed, was_open)
                }
            },
        };
        let failed = self.held.take_over(scope, failed, was_open);
        self.claim(scope, go_on, failed, stream.created, orders);
        Fate::GoesOn
    }

    fn claim(
        &mut self,
        scope: Scope<'_>,
        go_on: GoOn,
        failed: Option<Failed>,
        created: Timestamp,
        orders: &mut Orders<M>,
    ) {
        self.held.progress = Progress::new(created, go_on, failed, scope.config.own_positions);
        self.stage = Stage::Claiming { next: go_on.next };
        let record = self.held.progress.record(scope.config, self.held.hold.token(), go_on.next.previous(), true);
        self.held.hold.write(scope.now, &self.held.partition, record, orders);
    }

    /// Stores what is finished.
    fn store(&mut self, scope: Scope<'_>, open: bool, orders: &mut Orders<M>) {
        let through = if scope.has(PlantedBug::CommitWhatWasRead) {
            self.held.inbox.reached(scope.tail).previous()
        } else {
            self.through(scope.tail)
        };
        let record = self.held.progress.record(scope.config, self.held.hold.token(), through, open);
        self.held.store(scope.now, record, orders);
    }

    /// The last write, then the partition may go.
    fn finish(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Fate {
        if !self.held.is_at_rest() {
            return Fate::GoesOn;
        }
        if self.held.is_closed() || scope.has(PlantedBug::LetGoUnstored) {
            return self.held.let_go(orders);
        }
        self.store(scope, false, orders);
        Fate::GoesOn
    }

    fn went_on(&self, misfit: Misfit, next: Sequence, orders: &mut Orders<M>) {
        orders.notice(Notice::WentOn { partition: self.held.partition.clone(), misfit, next });
    }

    /// Every message of the partition up to here is finished.
    fn through(&self, tail: Option<(CallId, Sequence)>) -> Sequence {
        let held = self.held.inbox.front().map(|message| message.sequence);
        let left = self.held.left_unfinished();
        let first =
            left.or(self.held.work.first_unfinished()).or(held).unwrap_or_else(|| self.held.inbox.reached(tail));
        self.held.inbox.unproven().map_or(first, |unproven| first.min(unproven.from)).previous()
    }
}
