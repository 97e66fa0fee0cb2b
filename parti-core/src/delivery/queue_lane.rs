//! The delivery of one partition's messages from its own consumer, from its acquisition until it may be let go.

use super::acks::Acks;
use super::consumer::Pulled;
use super::durable::{Durable, DurableNews, Wanted};
use super::event::{Answer, Request, StreamState};
use super::fit::GoOn;
use super::hold::{Hold, HoldNews};
use super::inbox::Inbox;
use super::lane::{Ending, Fate, LEAST_SUSPECTS};
use super::order::{Misfit, Notice, Order, Orders, StopReason};
use super::position::PositionRecord;
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use super::stream::StreamView;
use super::work::{At, Work};
use crate::ids::{CallId, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Instant, earliest};

/// Delivers the messages of one partition under one hold.
///
/// The [`Durable`] shows messages, lowest first; what was shown waits in the [`Inbox`], is with the application as
/// [`Work`] says, and is acknowledged by [`Acks`] once it is finished. What the [`Hold`] stores is how far that has come,
/// for people, and which message was tried how often, for the next owner.
#[derive(Clone, Debug)]
pub(super) struct QueueLane<M> {
    partition: PartitionId,
    hold: Hold,
    stage: Stage,
    durable: Durable,
    inbox: Inbox<M>,
    work: Work,
    progress: Progress,
    acks: Acks,
    /// The last message that is known to be acknowledged.
    acknowledged: (Sequence, Timestamp),
    ending: Ending,
}

/// How far the hold has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// What is stored is to be read. With it, when it was.
    Reading { read: Option<Instant> },
    /// The first write is on its way.
    Claiming,
    /// Messages may be handed out.
    Working,
}

impl<M> QueueLane<M> {
    pub(super) fn new(partition: PartitionId, token: Token, now: Instant) -> Self {
        let nowhere = GoOn { seq: Sequence::default(), at: Timestamp::default(), next: Sequence::default() };
        Self {
            partition,
            hold: Hold::new(token, now),
            stage: Stage::Reading { read: None },
            durable: Durable::new(now),
            inbox: Inbox::new(now),
            work: Work::new(now),
            progress: Progress::new(Timestamp::default(), nowhere, None),
            acks: Acks::new(now),
            acknowledged: (nowhere.seq, nowhere.at),
            ending: Ending::NotYet,
        }
    }

    pub(super) fn token(&self) -> Token {
        self.hold.token()
    }

    /// How many messages are held ready, and how many the application has.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.inbox.len(), self.work.unfinished())
    }

    /// The last message that is finished and the last one that is acknowledged.
    pub(super) fn finished(&self) -> (Sequence, Sequence) {
        (self.progress.seq(), self.acknowledged.0)
    }

    /// When the first message was stored that is not finished, if one is known.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.work.oldest().or_else(|| self.inbox.front().map(|message| message.timestamp))
    }

    /// How many messages were not delivered yet.
    pub(super) fn pending(&self) -> u64 {
        self.durable.pending()
    }

    /// Whether all that there is was delivered, as far as is known.
    pub(super) fn is_at_end(&self) -> bool {
        self.durable.is_ready() && self.durable.pending() == 0
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
            Request::Finish { through, .. } => {
                self.acks.observe_finished(self.work.handed_through(through), self.durable.served());
                self.work.observe_finished(scope.now, through, &mut self.progress);
            }
            Request::Return { messages, failed, .. } => {
                let (inbox, progress) = (&mut self.inbox, &mut self.progress);
                let told = self.work.observe_returned(scope, &self.partition, messages, failed, inbox, progress);
                if let Some(notice) = told {
                    orders.notice(notice);
                }
            }
            // What is finished is acknowledged without delay.
            Request::Commit { .. } => {}
            Request::Leave { .. } => {
                if !self.has_left() {
                    self.ending = Ending::Left { unfinished: self.work.first_handed() };
                    self.work.leave(&mut self.progress);
                }
            }
        }
    }

    /// A pull shows a message.
    pub(super) fn observe_pulled(&mut self, scope: Scope<'_>, pull: CallId, pulled: Pulled<M>) {
        if !self.durable.observe_pulled(scope, pull, &pulled) {
            return;
        }
        let message = pulled.message;
        let (sequence, timestamp) = (message.sequence, message.timestamp);
        self.acks.observe_delivered(sequence, self.durable.served());
        let is_here = self.acks.has(sequence, timestamp)
            || self.work.has(sequence, timestamp)
            || self.inbox.has(sequence, timestamp);
        if !is_here && !self.inbox.receive(message) {
            // It should have come before what has come.
            self.durable.go_astray();
        }
    }

    /// The answer to an order that was given for this lane.
    pub(super) fn observe_answer(
        &mut self,
        scope: Scope<'_>,
        call: CallId,
        answer: Answer<M>,
        orders: &mut Orders<M>,
    ) -> Fate {
        let Scope { now, config, .. } = scope;
        let news = match answer {
            Answer::Position(position) => {
                let news = self.hold.observe_read(scope, call, position);
                return self.observe_hold(now, news, orders);
            }
            Answer::Written(outcome) => {
                let news = self.hold.observe_written(now, call, &outcome, config.retry);
                return self.observe_hold(now, news, orders);
            }
            Answer::Consumer(state) => self.durable.observe_state(scope, call, state),
            Answer::NoConsumer => self.durable.observe_none(call),
            Answer::Unfit { reason } => self.durable.observe_unfit(call, reason),
            Answer::PullOver(end) => self.durable.observe_over(scope, call, end),
            Answer::Acknowledged => {
                let messages = self.acks.observe_acknowledged(call);
                self.durable.observe_acknowledged(&messages);
                // Lower numbers are of a stream that was made anew, which is about to be noticed.
                let last = messages.last().copied().filter(|(sequence, _)| *sequence > self.acknowledged.0);
                self.acknowledged = last.unwrap_or(self.acknowledged);
                DurableNews::Nothing
            }
            Answer::Buried => {
                self.acks.observe_finished(self.work.burying(call).into_iter(), self.durable.served());
                self.work.observe_buried(now, call, &mut self.progress);
                DurableNews::Nothing
            }
            Answer::NotBuried(message) => {
                self.work.observe_not_buried(now, call, message, &mut self.inbox, config);
                DurableNews::Retrying { what: "dead letter", reason: "it was not stored".into() }
            }
            Answer::Failed { reason } => return self.observe_failed(scope, call, reason, orders),
            Answer::Stream(_)
            | Answer::NoStream
            | Answer::Ends(_)
            | Answer::CannotTell
            | Answer::Fetched(_)
            | Answer::TailOpened => DurableNews::Nothing,
        };
        self.observe_durable(now, news, orders)
    }

    fn observe_failed(
        &mut self,
        scope: Scope<'_>,
        call: CallId,
        reason: alloc::string::String,
        orders: &mut Orders<M>,
    ) -> Fate {
        let Scope { now, config, .. } = scope;
        if self.acks.observe_failed(now, call, config.retry) {
            self.durable.doubt(scope);
            let news = DurableNews::Retrying { what: "acknowledgement", reason };
            return self.observe_durable(now, news, orders);
        }
        let news = self.durable.observe_failed(scope, call, reason);
        if news != DurableNews::Nothing {
            return self.observe_durable(now, news, orders);
        }
        let news = self.hold.observe_failed(now, call, config.retry);
        self.observe_hold(now, news, orders)
    }

    fn observe_hold(&mut self, now: Instant, news: HoldNews, orders: &mut Orders<M>) -> Fate {
        match news {
            HoldNews::None => {}
            HoldNews::Read { .. } => self.stage = Stage::Reading { read: Some(now) },
            // A write that was given up has landed while the position was looked at anew.
            HoldNews::Found { .. } if matches!(self.stage, Stage::Reading { .. }) => {
                self.stage = Stage::Reading { read: Some(now) };
            }
            HoldNews::Committed | HoldNews::Found { .. } => {
                // What is finished later is stored with the next write. A try must not be lost.
                if self.hold.stored().and_then(|stored| stored.failed) != self.progress.failed() {
                    self.progress.store_at_once();
                }
            }
            HoldNews::Retrying => {
                let reason = "it was not written, or not known to be".into();
                orders.notice(Notice::Retrying { what: "position", reason });
            }
            HoldNews::Over(reason) => return self.stop(reason, orders),
        }
        Fate::GoesOn
    }

    fn observe_durable(&mut self, now: Instant, news: DurableNews, orders: &mut Orders<M>) -> Fate {
        match news {
            DurableNews::Nothing => {}
            DurableNews::Forgotten => {
                self.acks.observe_forgotten();
                self.inbox = Inbox::new(now);
            }
            DurableNews::State(state) => self.acks.observe_state(state, self.durable.served()),
            DurableNews::Unfit { reason } => return self.stop(StopReason::Unfit { reason }, orders),
            DurableNews::Retrying { what, reason } => orders.notice(Notice::Retrying { what, reason }),
        }
        Fate::GoesOn
    }

    /// What the stream says of itself, while it is read.
    pub(super) fn observe_stream(&mut self, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if matches!(self.stage, Stage::Working) && self.progress.created() != stream.created {
            return self.stop(StopReason::StreamChanged, orders);
        }
        Fate::GoesOn
    }

    /// Whether its first message has its last try, or waits for it.
    pub(super) fn is_last_try(&self) -> bool {
        let stored = self.hold.stored().and_then(|stored| stored.failed);
        self.work.is_clearing(stored)
            || self.work.is_last_try() && (self.ending == Ending::NotYet || self.counts().1 > 0)
    }

    /// Asks for what is due for this partition.
    pub(super) fn decide(
        &mut self,
        scope: Scope<'_>,
        stream: &mut StreamView,
        solitude: (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) -> Fate {
        if self.has_left() && !self.hold.is_claimed() {
            return self.let_go(orders);
        }
        self.hold.read(scope.now, &self.partition, orders);
        match self.stage {
            Stage::Reading { read } => {
                let Some(read) = read.filter(|_| self.hold.is_settled()) else { return Fate::GoesOn };
                match stream.as_of(read) {
                    Some(state) => self.claim(scope, state, orders),
                    None => stream.want(read),
                }
                return Fate::GoesOn;
            }
            Stage::Claiming if self.hold.is_claimed() => self.stage = Stage::Working,
            Stage::Claiming => return Fate::GoesOn,
            Stage::Working => {}
        }
        self.hand_out(scope, solitude, orders);
        self.acks.decide(scope.now, &self.partition, self.durable.served(), orders);
        if self.has_left() && self.acks.is_empty() {
            return self.finish(scope, orders);
        }
        if self.serve(scope, orders) == Fate::Over {
            return Fate::Over;
        }
        if self.progress.is_due(scope.now, scope.config) && self.hold.is_settled() {
            self.store(scope, true, orders);
        }
        Fate::GoesOn
    }

    /// Claims the partition: whoever has had it before stores nothing any more.
    fn claim(&mut self, scope: Scope<'_>, stream: StreamState, orders: &mut Orders<M>) {
        let is_same =
            |record: &&PositionRecord| record.stream == scope.config.stream && record.created == stream.created;
        if self.hold.stored().is_some_and(|record| !is_same(&record)) {
            let (partition, misfit) = (self.partition.clone(), Misfit::MadeAnew);
            orders.notice(Notice::WentOn { partition, misfit, next: stream.first });
        }
        let stored = self.hold.stored().filter(is_same).filter(|_| !scope.has(PlantedBug::BeginAnew));
        let (seq, at) = stored.map_or_else(Default::default, |record| (record.seq, record.at));
        let failed = stored.and_then(|record| record.failed);
        if stored.is_some_and(|record| record.open) {
            self.work.take_care(failed.map_or(0, |_| scope.config.commit_after.max(LEAST_SUSPECTS)));
        }
        let failed = failed.filter(|_| !scope.has(PlantedBug::ForgetTries));
        self.progress = Progress::new(stream.created, GoOn { seq, at, next: seq.next() }, failed);
        self.acknowledged = (seq, at);
        self.stage = Stage::Claiming;
        let record = self.record(scope, true);
        self.hold.write(scope.now, &self.partition, record, orders);
    }

    fn hand_out(
        &mut self,
        scope: Scope<'_>,
        (solitude, in_hand_elsewhere): (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) {
        if self.ending != Ending::NotYet {
            return;
        }
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

    /// Keeps the consumer at work as long as something is wanted of it.
    fn serve(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Fate {
        // What is finished and was forgotten has to come again before it can be acknowledged.
        let is_wanted = self.ending == Ending::NotYet || self.acks.waits_for_delivery();
        let room = self.inbox.room(scope.config).filter(|_| is_wanted);
        let wanted = Wanted { room, is_quiet: !self.acks.is_sending() };
        let news = self.durable.decide(scope, &self.partition, wanted, orders);
        self.observe_durable(scope.now, news, orders)
    }

    /// Stores how far messages are acknowledged, and what has failed.
    fn store(&mut self, scope: Scope<'_>, open: bool, orders: &mut Orders<M>) {
        let record = self.record(scope, open);
        self.progress.observe_sent();
        if self.hold.stored() != Some(&record) {
            self.hold.write(scope.now, &self.partition, record, orders);
        }
    }

    fn record(&self, scope: Scope<'_>, open: bool) -> PositionRecord {
        let (seq, at) = self.acknowledged;
        PositionRecord { seq, at, through: seq, ..self.progress.record(scope.config, self.hold.token(), seq, open) }
    }

    /// Everything finished is acknowledged: the pull ends, and after the last write the partition may go.
    fn finish(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Fate {
        if !self.durable.is_free(orders) || self.work.is_burying() || !self.hold.is_settled() {
            return Fate::GoesOn;
        }
        if self.hold.stored().is_some_and(|stored| stored.token == self.hold.token() && !stored.open) {
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

    /// Whoever has the partition no more pulls nothing more.
    pub(super) fn end(&mut self, orders: &mut Orders<M>) {
        self.durable.is_free(orders);
    }

    fn has_left(&self) -> bool {
        matches!(self.ending, Ending::Left { .. })
    }

    /// When something is due for this partition, if nothing more happens.
    pub(super) fn deadline(&self, config: &DeliveryConfig, now: Instant) -> Option<Instant> {
        let is_working = matches!(self.stage, Stage::Working);
        let work = self.work.deadline(now, &self.inbox).filter(|_| is_working && self.ending == Ending::NotYet);
        let store = self.progress.deadline(config).filter(|_| is_working && !self.has_left() && self.hold.is_settled());
        let acks = self.acks.deadline(now).filter(|_| is_working);
        let durable = self.durable.deadline(now, config).filter(|_| is_working);
        earliest([self.hold.deadline(), work, store, acks, durable])
    }
}
