//! The delivery of one partition's messages from its own consumer, from its acquisition until it may be let go.

use super::acks::Acks;
use super::consumer::Pulled;
use super::durable::{Durable, DurableNews, Wanted};
use super::event::{Answer, Request, StreamState};
use super::fit::GoOn;
use super::held::Held;
use super::hold::HoldNews;
use super::inbox::Inbox;
use super::lanes::{Fate, Lane};
use super::order::{Misfit, Notice, Orders, StopReason};
use super::position::{Failed, PositionRecord};
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use super::status::LaneStatus;
use super::stream::StreamView;
use crate::ids::{CallId, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Instant, earliest};

/// Delivers the messages of one partition under one hold.
///
/// Beside the parts that each lane has [`Held`], the [`Durable`] shows messages, lowest first, and [`Acks`] acknowledges what
/// is finished. What is stored as the position is how far that has come, for people, and which message was tried how often,
/// for the next owner.
#[derive(Clone, Debug)]
pub(super) struct QueueLane<M> {
    held: Held<M>,
    stage: Stage,
    durable: Durable,
    acks: Acks,
    /// The last message that is known to be acknowledged.
    acknowledged: (Sequence, Timestamp),
    /// The last message that became a dead letter, and how often it had been tried.
    buried: Option<(Sequence, Timestamp, u32)>,
    /// Since when what is in hand may be of a stream that is no more: its consumer was brought back, or made anew.
    unsure: Option<Instant>,
}

/// Before everything there is.
const NOWHERE: GoOn = GoOn { seq: Sequence::new(0), at: Timestamp::new(0), next: Sequence::new(1) };

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

impl<M> Lane<M> for QueueLane<M> {
    fn new(partition: PartitionId, token: Token, now: Instant) -> Self {
        Self {
            held: Held::new(partition, token, now),
            stage: Stage::Reading { read: None },
            durable: Durable::new(now),
            acks: Acks::new(now),
            acknowledged: (NOWHERE.seq, NOWHERE.at),
            buried: None,
            unsure: None,
        }
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
            stored: self.acknowledged.0,
            ready: inbox.len(),
            unfinished: work.unfinished(),
            pending: self.durable.pending(),
            oldest: self.held.oldest(),
            is_on_tail: self.durable.is_ready() && self.durable.pending() == 0,
            stream_last: None,
        }
    }

    fn observe_request(&mut self, scope: Scope<'_>, request: Request<M>, orders: &mut Orders<M>) {
        let Held { work, progress, .. } = &mut self.held;
        match request {
            Request::Want { most, .. } => work.observe_want(most),
            Request::Finish { through, .. } => {
                self.acks.observe_finished(work.handed_through(through), self.durable.served());
                work.observe_finished(scope.now, through, progress);
            }
            Request::Return { messages, failed, .. } => self.held.observe_returned(scope, messages, failed, orders),
            // What is finished is acknowledged without delay.
            Request::Commit { .. } => {}
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
            Stage::Reading { read } => {
                let Some(read) = read.filter(|_| self.held.hold.is_settled()) else { return Fate::GoesOn };
                match stream.as_of(read) {
                    Some(state) => self.claim(scope, state, orders),
                    None => stream.want(read),
                }
                return Fate::GoesOn;
            }
            Stage::Claiming if self.held.hold.is_claimed() => self.stage = Stage::Working,
            Stage::Claiming => return Fate::GoesOn,
            Stage::Working => {}
        }
        self.go_on_in_new_stream(stream, orders);
        if self.may_hand_out(stream) {
            self.held.hand_out(scope, solitude, orders);
        }
        if scope.has(PlantedBug::AcknowledgeWhenHanded) {
            let handed = self.held.work.handed_through(Sequence::new(u64::MAX));
            self.acks.observe_finished(handed, self.durable.served());
        }
        let consumer = (&self.held.partition, self.durable.created());
        self.acks.decide(scope.now, consumer, self.durable.served(), orders);
        if self.held.has_left() && (self.acks.is_empty() || scope.has(PlantedBug::LetGoUnacknowledged)) {
            return self.finish(scope, orders);
        }
        if self.serve(scope, stream, orders) == Fate::Over {
            return Fate::Over;
        }
        if self.held.is_store_due(scope) {
            self.store(scope, true, orders);
        }
        Fate::GoesOn
    }

    fn deadline(&self, config: &DeliveryConfig, now: Instant) -> Option<Instant> {
        let is_working = matches!(self.stage, Stage::Working);
        let acks = self.acks.deadline(now).filter(|_| is_working);
        let durable = self.durable.deadline(now, config).filter(|_| is_working);
        earliest([self.held.deadline(config, now, is_working), acks, durable])
    }

    /// Whoever has the partition no more pulls nothing more.
    fn end(&mut self, orders: &mut Orders<M>) {
        self.durable.is_free(orders);
    }
}

impl<M> QueueLane<M> {
    /// A pull shows a message.
    pub(super) fn observe_pulled(&mut self, scope: Scope<'_>, pull: CallId, pulled: Pulled<M>) {
        if !self.durable.observe_pulled(scope, pull, &pulled) {
            return;
        }
        let message = pulled.message;
        let (sequence, timestamp) = (message.sequence, message.timestamp);
        self.acks.observe_delivered(sequence, self.durable.served());
        let is_known = self.acks.has(sequence, timestamp)
            || self.held.work.has(sequence, timestamp)
            || self.held.inbox.has(sequence, timestamp);
        let is_here = is_known && !scope.has(PlantedBug::HandAgain);
        if !is_here && !self.held.inbox.receive(message) {
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
                let news = self.held.hold.observe_read(scope, call, position);
                return self.observe_hold(now, news, orders);
            }
            Answer::Written(outcome) => {
                let news = self.held.hold.observe_written(now, call, &outcome, config.retry);
                return self.observe_hold(now, news, orders);
            }
            Answer::Consumer(state) => self.durable.observe_state(scope, call, state),
            Answer::NoConsumer => self.durable.observe_none(scope, call),
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
                let buried = self.held.work.burying(call);
                let with_tries = |(sequence, at)| (sequence, at, self.held.progress.times(sequence));
                self.buried = buried.map(with_tries);
                self.acks.observe_finished(buried.into_iter(), self.durable.served());
                self.held.work.observe_buried(now, call, &mut self.held.progress);
                DurableNews::Nothing
            }
            Answer::NotBuried(message) => {
                self.held.work.observe_not_buried(now, call, message, &mut self.held.inbox, config);
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
        let news = self.held.hold.observe_failed(now, call, config.retry);
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
                if self.held.hold.stored().and_then(|stored| stored.failed) != self.failed() {
                    self.held.progress.store_at_once();
                }
            }
            HoldNews::Retrying => {
                let reason = "it was not written, or not known to be".into();
                orders.notice(Notice::Retrying { what: "position", reason });
            }
            HoldNews::Over(reason) => return self.held.stop(reason, orders),
        }
        Fate::GoesOn
    }

    fn observe_durable(&mut self, now: Instant, news: DurableNews, orders: &mut Orders<M>) -> Fate {
        match news {
            DurableNews::Nothing => {}
            DurableNews::Forgotten => {
                let has_something = self.held.work.unfinished() > 0 || !self.acks.is_empty();
                self.unsure = Some(now).filter(|_| has_something).or(self.unsure);
                self.acks.observe_forgotten();
                self.held.inbox = Inbox::new(now);
            }
            DurableNews::State(state) => self.acks.observe_state(state, self.durable.served()),
            DurableNews::Unfit { reason } => return self.held.stop(StopReason::Unfit { reason }, orders),
            DurableNews::Retrying { what, reason } => orders.notice(Notice::Retrying { what, reason }),
        }
        Fate::GoesOn
    }

    /// The greatest number that the consumer is known to have delivered.
    pub(super) fn delivered_through(&self) -> Sequence {
        self.durable.through()
    }

    /// The stream has lost its newest messages, and ends here.
    pub(super) fn observe_lost_suffix(&mut self, last: Sequence) {
        self.durable.observe_lost_suffix(last);
    }

    /// What the stream says of itself, while it is read.
    pub(super) fn observe_stream(&mut self, stream: StreamState, orders: &mut Orders<M>) -> Fate {
        if matches!(self.stage, Stage::Working) && self.durable.created() != stream.created {
            return self.held.stop(StopReason::StreamChanged, orders);
        }
        Fate::GoesOn
    }

    /// Claims the partition: whoever has had it before stores nothing any more.
    ///
    /// What is stored of another stream stays stored until its consumer is gone for sure.
    fn claim(&mut self, scope: Scope<'_>, stream: StreamState, orders: &mut Orders<M>) {
        let stored = self.held.hold.stored().filter(|record| record.stream == scope.config.stream);
        let of_stream = stored.map(|record| record.created);
        let former = of_stream.filter(|created| *created != stream.created);
        if stored.is_none() && self.held.hold.stored().is_some() {
            self.tell_made_anew(stream.first, orders);
        }
        let stored = stored.filter(|_| !scope.has(PlantedBug::BeginAnew));
        let (seq, at) = stored.map_or((NOWHERE.seq, NOWHERE.at), |record| (record.seq, record.at));
        let failed = stored.and_then(|record| record.failed);
        let was_open = former.is_none() && stored.is_some_and(|record| record.open);
        let failed = self.held.take_over(scope, failed, was_open);
        let created = former.unwrap_or(stream.created);
        self.held.progress = Progress::new(created, GoOn { seq, at, next: seq.next() }, failed, false);
        self.acknowledged = (seq, at);
        self.durable.observe_stream(scope, stream.created, of_stream);
        self.stage = Stage::Claiming;
        let record = self.record(scope, true);
        self.held.hold.write(scope.now, &self.held.partition, record, orders);
    }

    /// The former consumer is gone for sure: nothing is finished of a stream that was made anew.
    fn go_on_in_new_stream(&mut self, stream: &StreamView, orders: &mut Orders<M>) {
        let created = self.durable.created();
        if !self.durable.is_ready() || self.held.progress.created() == created {
            return;
        }
        self.held.progress = Progress::new(created, NOWHERE, None, false);
        self.held.progress.store_at_once();
        self.acknowledged = (NOWHERE.seq, NOWHERE.at);
        self.tell_made_anew(stream.last_told().map_or(NOWHERE.next, |state| state.first), orders);
    }

    fn tell_made_anew(&self, next: Sequence, orders: &mut Orders<M>) {
        let partition = self.held.partition.clone();
        orders.notice(Notice::WentOn { partition, misfit: Misfit::MadeAnew, next });
    }

    /// Whether what is held ready may be handed out.
    fn may_hand_out(&mut self, stream: &mut StreamView) -> bool {
        if let Some(since) = self.unsure {
            // Should it be another stream, this lane has heard so before it is asked again.
            if !stream.is_seen(since) {
                return false;
            }
            self.unsure = None;
        }
        // Until a dead letter is acknowledged it would come again, and how often it was tried is stored no more once one
        // behind it is counted. One before it, or in its place, is of a stream that has lost it since.
        let is_behind = |sequence| self.held.inbox.front().is_some_and(|front| front.sequence > sequence);
        self.unacknowledged_letter().is_none_or(|letter| !is_behind(letter.seq))
    }

    /// The last dead letter, as long as it is not known to be acknowledged.
    fn unacknowledged_letter(&self) -> Option<Failed> {
        let (seq, _, times) = self.buried.filter(|(sequence, timestamp, _)| self.acks.has(*sequence, *timestamp))?;
        Some(Failed { seq, times })
    }

    /// What the next owner has to know: a dead letter comes again unless it is acknowledged, and is not to be tried again then.
    fn failed(&self) -> Option<Failed> {
        self.held.progress.failed().or_else(|| self.unacknowledged_letter())
    }

    /// Keeps the consumer at work as long as something is wanted of it.
    fn serve(&mut self, scope: Scope<'_>, stream: &mut StreamView, orders: &mut Orders<M>) -> Fate {
        // What is finished and was forgotten has to come again before it can be acknowledged.
        let is_wanted = self.held.goes_on() || self.acks.waits_for_delivery();
        let room = self.held.inbox.room(scope.config).filter(|_| is_wanted);
        // Should it be another stream, this lane has heard so before it is asked again.
        let is_sure = self.durable.unsure().is_none_or(|since| stream.is_seen(since));
        let wanted = Wanted { room, is_quiet: !self.acks.is_sending(), is_sure };
        let news = self.durable.decide(scope, &self.held.partition, wanted, orders);
        self.observe_durable(scope.now, news, orders)
    }

    /// Stores how far messages are acknowledged, and what has failed.
    fn store(&mut self, scope: Scope<'_>, open: bool, orders: &mut Orders<M>) {
        let record = self.record(scope, open);
        self.held.store(scope.now, record, orders);
    }

    fn record(&self, scope: Scope<'_>, open: bool) -> PositionRecord {
        let (seq, at) = self.acknowledged;
        PositionRecord {
            seq,
            at,
            through: seq,
            failed: self.failed(),
            ..self.held.progress.record(scope.config, self.held.hold.token(), seq, open)
        }
    }

    /// Everything finished is acknowledged: the pull ends, and after the last write the partition may go.
    fn finish(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Fate {
        if !self.durable.is_free(orders) || !self.held.is_at_rest() {
            return Fate::GoesOn;
        }
        if self.held.is_closed() {
            return self.held.let_go(orders);
        }
        self.store(scope, false, orders);
        Fate::GoesOn
    }
}
