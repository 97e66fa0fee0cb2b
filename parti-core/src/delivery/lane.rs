//! The delivery of one partition's messages, from its acquisition until it may be let go.

use super::event::{Answer, Request, StreamState};
use super::fit;
use super::fit::GoOn;
use super::hold::{Hold, HoldNews};
use super::inbox::{FetchNews, Inbox, Unproven, Want};
use super::order::{Misfit, Notice, Order, Orders, StopReason};
use super::position::Failed;
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use super::stream::StreamView;
use super::work::{At, Work};
use crate::ids::{CallId, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Duration, Instant, earliest};

/// How much later a misfit must be seen again to be believed: one server may have answered that does not know yet.
const CONFIRM: Duration = Duration::from_secs(1);

/// How many messages behind the first one are suspects at least, where a position is found twice as it was left: a write
/// of it takes time, in which more than [`commit_after`](DeliveryConfig::commit_after) can be finished.
pub(super) const LEAST_SUSPECTS: u32 = 256;

/// Delivers the messages of one partition under one hold.
///
/// It routes between four parts: the [`Hold`] stores the position, the [`Inbox`] holds what was read, [`Work`] is what
/// the application has, and [`Progress`] is what it has finished.
#[derive(Clone, Debug)]
pub(super) struct Lane<M> {
    partition: PartitionId,
    hold: Hold,
    stage: Stage,
    inbox: Inbox<M>,
    work: Work,
    progress: Progress,
    ending: Ending,
}

/// How far the partition is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is not.
    NotYet,
    /// Nothing more is handed out.
    Releasing,
    /// The application is done. With it, the first message that it was handed and has not finished.
    Left { unfinished: Option<Sequence> },
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

/// Whether there is still something to do for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GoesOn,
    Over,
}

impl<M> Lane<M> {
    pub(super) fn new(partition: PartitionId, token: Token, now: Instant) -> Self {
        let nowhere = GoOn { seq: Sequence::default(), at: Timestamp::default(), next: Sequence::default() };
        Self {
            partition,
            hold: Hold::new(token, now),
            stage: Stage::Judging { read: None, doubt: None },
            inbox: Inbox::new(now),
            work: Work::new(now),
            progress: Progress::new(Timestamp::default(), nowhere, None),
            ending: Ending::NotYet,
        }
    }

    pub(super) fn token(&self) -> Token {
        self.hold.token()
    }

    pub(super) fn inbox(&self) -> &Inbox<M> {
        &self.inbox
    }

    pub(super) fn inbox_mut(&mut self) -> &mut Inbox<M> {
        &mut self.inbox
    }

    /// The last message that is finished and the last one that is stored as finished.
    pub(super) fn finished(&self) -> (Sequence, Sequence) {
        (self.progress.seq(), self.hold.stored().map_or(Sequence::default(), |stored| stored.seq))
    }

    /// When the first message was stored that is not finished, if one is known.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.work.oldest().or_else(|| self.inbox.front().map(|message| message.timestamp))
    }

    /// How many messages the application has that are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.work.unfinished()
    }

    /// Whether its first message has its last try, or waits for it.
    pub(super) fn is_last_try(&self) -> bool {
        let stored = self.hold.stored().and_then(|stored| stored.failed);
        self.work.is_clearing(stored)
            || self.work.is_last_try() && (self.ending == Ending::NotYet || self.unfinished() > 0)
    }

    /// What the partition wants to be read.
    pub(super) fn want(&self, scope: Scope<'_>) -> Want {
        let reads = matches!(self.stage, Stage::Working) && self.ending == Ending::NotYet;
        match if reads { self.inbox.want(scope) } else { Want::Nothing } {
            Want::Look if scope.has(PlantedBug::NeverLook) => Want::Nothing,
            want => want,
        }
    }

    /// Whether the next tail is to serve it.
    pub(super) fn wants_tail(&self, scope: Scope<'_>) -> bool {
        let reads = matches!(self.stage, Stage::Working) && self.ending == Ending::NotYet;
        reads && (self.inbox.is_on_tail() || self.want(scope) == Want::Tail)
    }

    /// The partition is to be given up.
    pub(super) fn observe_releasing(&mut self) {
        if self.ending == Ending::NotYet {
            self.ending = Ending::Releasing;
        }
    }

    pub(super) fn observe_request(&mut self, scope: Scope<'_>, request: Request<M>, orders: &mut Orders<M>) {
        match request {
            Request::Want { most, .. } => self.work.observe_want(most),
            Request::Finish { through, .. } => self.work.observe_finished(scope.now, through, &mut self.progress),
            Request::Return { messages, failed, .. } => {
                let (inbox, progress) = (&mut self.inbox, &mut self.progress);
                let partition = &self.partition;
                let told = self.work.observe_returned(scope, partition, messages, failed, inbox, progress);
                if let Some(notice) = told {
                    orders.notice(notice);
                }
            }
            Request::Commit { .. } => self.progress.store_at_once(),
            Request::Leave { .. } => {
                if !self.has_left() {
                    self.ending = Ending::Left { unfinished: self.work.first_handed() };
                    self.work.leave(&mut self.progress);
                }
            }
        }
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
            Answer::Position(position) => self.hold.observe_read(scope, call, position),
            Answer::Written(outcome) => self.hold.observe_written(now, call, &outcome, config.retry),
            Answer::Fetched(fetched) => {
                let news = self.inbox.observe_fetched(scope, call, fetched);
                if let Some((tail, _)) = tail.filter(|_| scope.has(PlantedBug::JoinRunningTail)) {
                    self.inbox.join_running(tail);
                }
                return (Fate::GoesOn, news);
            }
            Answer::Buried => {
                self.work.observe_buried(now, call, &mut self.progress);
                HoldNews::None
            }
            Answer::NotBuried(message) => {
                self.work.observe_not_buried(now, call, message, &mut self.inbox, config);
                orders.notice(Notice::Retrying { what: "dead letter", reason: "it was not stored".into() });
                HoldNews::None
            }
            Answer::Failed { reason } => {
                self.inbox.observe_unfetched(now, call);
                orders.notice(Notice::Retrying { what: "read", reason });
                self.hold.observe_failed(now, call, config.retry)
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
            HoldNews::Committed => self.progress.observe_stored(self.hold.stored()),
            HoldNews::Found { at } => match self.stage {
                // A write that was given up has landed while the position was looked at anew.
                Stage::Judging { doubt, .. } => self.stage = Stage::Judging { read: Some((now, at)), doubt },
                Stage::Claiming { .. } | Stage::Working => self.progress.observe_stored(self.hold.stored()),
            },
            HoldNews::Retrying => {
                orders.notice(Notice::Retrying {
                    what: "position",
                    reason: "it was not written, or not known to be".into(),
                });
            }
            HoldNews::Over(reason) => return self.stop(reason, orders),
        }
        Fate::GoesOn
    }

    /// What the stream says of itself, while it is read.
    pub(super) fn observe_stream(&mut self, scope: Scope<'_>, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if !matches!(self.stage, Stage::Working) {
            return Fate::GoesOn;
        }
        if self.progress.created() != stream.created {
            return self.stop(StopReason::StreamChanged, orders);
        }
        // Who waits for a tail or is served by one has missed nothing: what was removed was none of its messages.
        if self.inbox.is_behind() && self.miss(scope, self.inbox.next(), stream, orders) == Fate::Over {
            return Fate::Over;
        }
        self.keep_inside(scope, stream);
        Fate::GoesOn
    }

    /// The messages from `from` on were not read yet, or nothing of them was there: some may have been removed unread.
    fn miss(&mut self, scope: Scope<'_>, from: Sequence, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if let Err(misfit) = fit::gap(from, stream) {
            let Some(go_on) = fit::go_on(misfit, self.progress.position(from), stream, scope.config) else {
                return self.stop(StopReason::Misfit(misfit), orders);
            };
            self.went_on(misfit, go_on.next, orders);
            self.inbox.skip_to(go_on.next);
        }
        Fate::GoesOn
    }

    /// Looks whether what was passed over may have been removed unread. Returns none as long as that is not known.
    fn prove(&mut self, scope: Scope<'_>, stream: &mut StreamView, orders: &mut Orders<M>) -> Option<Fate> {
        let Some(Unproven { since, from }) = self.inbox.unproven() else { return Some(Fate::GoesOn) };
        let Some(state) = stream.as_of(since) else {
            stream.want(since);
            return None;
        };
        self.inbox.observe_proven();
        Some(self.miss(scope, from, state, orders))
    }

    /// The stream has lost its newest messages, up to `last`.
    pub(super) fn observe_lost_suffix(&mut self, scope: Scope<'_>, last: Sequence, orders: &mut Orders<M>) -> Fate {
        let has_read_more = matches!(self.stage, Stage::Working) && self.inbox.reached(scope.tail) > last.next();
        if has_read_more { self.stop(StopReason::StreamChanged, orders) } else { Fate::GoesOn }
    }

    /// A quiet partition's position stays where it is while the stream's limits remove what is before it. Before they
    /// reach it, it is stored how far nothing of it was found: else the next owner could not tell this from a gap.
    fn keep_inside(&mut self, scope: Scope<'_>, stream: StreamState) {
        let quarter = stream.last.value().saturating_sub(stream.first.value()) / 4;
        let is_near = |stored: Sequence| stored.value() < stream.first.value().saturating_add(quarter);
        let through = self.through(scope.tail);
        if self.hold.stored().is_some_and(|stored| is_near(stored.through) && stored.through < through) {
            self.progress.store_at_once();
        }
    }

    /// Asks for what is due for this partition.
    pub(super) fn decide(
        &mut self,
        scope: Scope<'_>,
        stream: &mut StreamView,
        (solitude, in_hand_elsewhere): (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) -> Fate {
        if self.has_left() && !self.hold.is_claimed() {
            return self.let_go(orders);
        }
        self.hold.read(scope.now, &self.partition, orders);
        match self.stage {
            Stage::Judging { read, doubt } => {
                let Some((read, at)) = read.filter(|_| self.hold.is_settled()) else { return Fate::GoesOn };
                let Some(state) = stream.as_of(read) else {
                    stream.want(read);
                    return Fate::GoesOn;
                };
                return self.judge(scope, at, doubt, state, orders);
            }
            Stage::Claiming { next } if self.hold.is_claimed() => {
                self.stage = Stage::Working;
                self.inbox.open(scope.now, next, scope.can_ask);
            }
            Stage::Claiming { .. } => return Fate::GoesOn,
            Stage::Working => {}
        }
        if self.has_left() {
            return self.finish(scope, orders);
        }
        let is_proven = match self.prove(scope, stream, orders) {
            Some(Fate::Over) => return Fate::Over,
            fate => fate.is_some(),
        };
        if self.ending == Ending::NotYet && is_proven {
            let at = At {
                now: scope.now,
                partition: &self.partition,
                token: self.hold.token(),
                config: scope.config,
                planted: scope.planted,
                in_hand_elsewhere,
                stored_failed: self.hold.stored().and_then(|stored| stored.failed),
            };
            self.work.decide(&at, solitude, &mut self.inbox, &mut self.progress, orders);
        }
        if self.progress.is_due(scope.now, scope.config) && self.hold.is_settled() {
            self.store(scope, true, orders);
        }
        Fate::GoesOn
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
        let stored = self.hold.stored().filter(|_| !scope.has(PlantedBug::BeginAnew));
        let (go_on, failed, was_open) = match stored {
            None => (fit::begin(scope.config.start, stream), None, false),
            Some(record) => match fit::judge(record, at, stream, scope.config) {
                Ok(go_on) if record.created == stream.created || doubt == Some(Doubt::MadeAt(stream.created)) => {
                    (go_on, record.failed, record.open)
                }
                Ok(_) => {
                    self.stage = Stage::Judging { read: None, doubt: Some(Doubt::MadeAt(stream.created)) };
                    self.hold.doubt(scope.now);
                    return Fate::GoesOn;
                }
                Err(misfit) => {
                    let position = GoOn { seq: record.seq, at: record.at, next: record.through.next() };
                    if doubt != Some(Doubt::Misfit(misfit)) && !matches!(misfit, Misfit::Gap { .. }) {
                        self.stage = Stage::Judging { read: None, doubt: Some(Doubt::Misfit(misfit)) };
                        self.hold.doubt(scope.now + CONFIRM);
                        return Fate::GoesOn;
                    }
                    let Some(go_on) = fit::go_on(misfit, position, stream, scope.config) else {
                        return self.stop(StopReason::Misfit(misfit), orders);
                    };
                    let failed = record.failed.filter(|_| matches!(misfit, Misfit::Gap { .. }));
                    let was_open = record.open;
                    self.went_on(misfit, go_on.next, orders);
                    (go_on, failed, was_open)
                }
            },
        };
        if was_open {
            let suspects = failed.map_or(0, |_| scope.config.commit_after.max(LEAST_SUSPECTS));
            self.work.take_care(suspects);
        }
        let failed = failed.filter(|_| !scope.has(PlantedBug::ForgetTries));
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
        self.progress = Progress::new(created, go_on, failed);
        self.stage = Stage::Claiming { next: go_on.next };
        let record = self.progress.record(scope.config, self.hold.token(), go_on.next.previous(), true);
        self.hold.write(scope.now, &self.partition, record, orders);
    }

    /// Stores what is finished.
    fn store(&mut self, scope: Scope<'_>, open: bool, orders: &mut Orders<M>) {
        let through = if scope.has(PlantedBug::CommitWhatWasRead) {
            self.inbox.reached(scope.tail).previous()
        } else {
            self.through(scope.tail)
        };
        let record = self.progress.record(scope.config, self.hold.token(), through, open);
        self.progress.observe_sent();
        if self.hold.stored() != Some(&record) {
            self.hold.write(scope.now, &self.partition, record, orders);
        }
    }

    /// The last write, then the partition may go.
    fn finish(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Fate {
        if self.work.is_burying() || !self.hold.is_settled() {
            return Fate::GoesOn;
        }
        let is_stored = self.hold.stored().is_some_and(|stored| stored.token == self.hold.token() && !stored.open);
        if is_stored || scope.has(PlantedBug::LetGoUnstored) {
            return self.let_go(orders);
        }
        self.store(scope, false, orders);
        Fate::GoesOn
    }

    fn let_go(&mut self, orders: &mut Orders<M>) -> Fate {
        orders.push(Order::LetGo { partition: self.partition.clone(), token: self.hold.token() });
        Fate::Over
    }

    fn stop(&mut self, reason: StopReason, orders: &mut Orders<M>) -> Fate {
        orders.push(Order::Stop { partition: self.partition.clone(), token: self.hold.token(), reason });
        Fate::Over
    }

    fn went_on(&self, misfit: Misfit, next: Sequence, orders: &mut Orders<M>) {
        orders.notice(Notice::WentOn { partition: self.partition.clone(), misfit, next });
    }

    fn has_left(&self) -> bool {
        matches!(self.ending, Ending::Left { .. })
    }

    /// Every message of the partition up to here is finished.
    fn through(&self, tail: Option<(CallId, Sequence)>) -> Sequence {
        let held = self.inbox.front().map(|message| message.sequence);
        let left = match self.ending {
            Ending::NotYet | Ending::Releasing => None,
            Ending::Left { unfinished } => unfinished,
        };
        let first = left.or(self.work.first_unfinished()).or(held).unwrap_or_else(|| self.inbox.reached(tail));
        self.inbox.unproven().map_or(first, |unproven| first.min(unproven.from)).previous()
    }

    /// When something is due for this partition, if nothing more happens.
    pub(super) fn deadline(&self, config: &DeliveryConfig, now: Instant) -> Option<Instant> {
        let is_working = matches!(self.stage, Stage::Working);
        let goes_on = is_working && self.ending == Ending::NotYet;
        let work = self.work.deadline(now, &self.inbox).filter(|_| goes_on);
        let store = self.progress.deadline(config).filter(|_| is_working && !self.has_left() && self.hold.is_settled());
        // What is due is known to those who read: it waits for its turn.
        let look = self.inbox.look_at(config).filter(|at| goes_on && *at > now);
        earliest([self.hold.deadline(), work, store, look])
    }
}
