//! The loop that delivers: what happens goes to the core, and what it asks for is done.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parti_core::delivery::{
    Answer, CallId, Delivery, DeliveryConfig, Event, Handed, Misfit, Notice, Order, Ownership, Request, Sequence,
    StopReason,
};
use parti_core::{Instant, Outcome, PartitionId, ReleaseReason, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::changes::Change;
use crate::clock;
use crate::delivery::message::Body;
use crate::delivery::messages::{Call, End, Messages, News};
use crate::delivery::metrics::Metrics;
use crate::delivery::pull;
use crate::delivery::pulls::Pulls;
use crate::delivery::store::Store;
use crate::delivery::tail;
use crate::guard::Guard;
use crate::handle::Handle;

/// How many pieces of a tail wait to be taken in.
const TAIL_QUEUE: usize = 16;
/// The most calls of the application that are taken in at once.
const CALLS_AT_ONCE: usize = 256;
/// How often it is measured how far behind this worker is.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// What a partition weighs whose messages are measured: so much, and as much again for each message of a second.
const LOAD_OF_MESSAGE: u64 = 100;
/// The warning that nothing is delivered to some partitions.
const DELIVERY_STOPPED: &str = "delivery_stopped";
/// How often the same trouble is said.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Delivers to the partitions of one worker.
pub(crate) struct Engine {
    worker: Handle,
    store: Store,
    delivery: Delivery<Body>,
    held: BTreeMap<PartitionId, Held>,
    partitions: mpsc::UnboundedSender<Messages>,
    calls: mpsc::UnboundedReceiver<Call>,
    caller: mpsc::UnboundedSender<Call>,
    /// Each tail is closed when its sender is dropped.
    tails: BTreeMap<CallId, oneshot::Sender<Infallible>>,
    news: mpsc::Receiver<tail::News>,
    newsroom: mpsc::Sender<tail::News>,
    pulls: Pulls,
    answers: JoinSet<Option<(CallId, Answer<Body>)>>,
    metrics: Metrics,
    /// Why nothing is delivered to a partition of this worker.
    stopped: BTreeMap<PartitionId, String>,
    /// Who waits until something is stored: few, so that it costs nothing to ask after each write.
    waiting: BTreeMap<PartitionId, Vec<(Sequence, oneshot::Sender<()>)>>,
    /// When each kind of trouble was said.
    said: BTreeMap<&'static str, Instant>,
}

/// One hold of one partition.
struct Held {
    guard: Arc<Guard>,
    token: Token,
    news: mpsc::UnboundedSender<News>,
    over: Arc<OnceLock<String>>,
    end: End,
    /// How many messages it was handed since the last measurement.
    handed: u64,
    /// Who waits for the last write.
    leaving: Option<oneshot::Sender<()>>,
}

impl Engine {
    pub(crate) fn new(
        worker: Handle,
        store: Store,
        config: DeliveryConfig,
        partitions: mpsc::UnboundedSender<Messages>,
    ) -> Self {
        let (caller, calls) = mpsc::unbounded_channel();
        let (newsroom, news) = mpsc::channel(TAIL_QUEUE);
        let delivery = Delivery::new(config, clock::now()).expect("the settings were checked");
        let metrics = Metrics::new(worker.group().as_str());
        Self {
            metrics,
            stopped: BTreeMap::new(),
            waiting: BTreeMap::new(),
            worker,
            store,
            delivery,
            held: BTreeMap::new(),
            partitions,
            calls,
            caller,
            tails: BTreeMap::new(),
            news,
            newsroom,
            pulls: Pulls::new(),
            answers: JoinSet::new(),
            said: BTreeMap::new(),
        }
    }

    /// Delivers until the worker has stopped.
    pub(crate) async fn run(mut self) {
        let mut calls = Vec::new();
        let mut measures = tokio::time::interval(MEASURED_EVERY);
        measures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.carry_out();
            tokio::select! {
                biased;
                changes = self.worker.next_changes() => match changes {
                    Some(changes) => changes.into_iter().for_each(|change| self.observe_change(change)),
                    None => return,
                },
                count = self.calls.recv_many(&mut calls, CALLS_AT_ONCE) => {
                    debug_assert!(count > 0, "this side has a sender too");
                    calls.drain(..).for_each(|call| self.observe_call(call));
                }
                Some(answered) = self.answers.join_next() => self.observe_answer(answered),
                Some((tail, piece)) = self.news.recv() => {
                    for news in piece {
                        self.handle(Event::Tail { tail, news });
                    }
                }
                Some(news) = self.pulls.next() => self.observe_pull(news),
                _ = measures.tick() => {
                    self.metrics.observe(self.delivery.lanes());
                    self.report_loads();
                }
                () = clock::sleep_until(self.delivery.poll_timeout(), clock::LONGEST_WAIT) => self.handle(Event::Timeout),
            }
        }
    }

    /// Where the list measures partitions, the messages of the last second are how heavy they are.
    fn report_loads(&mut self) {
        let is_measured = self.worker.status().load.measured > 0;
        for held in self.held.values_mut() {
            let handed = std::mem::take(&mut held.handed);
            if is_measured {
                held.guard.report_load((handed + 1).saturating_mul(LOAD_OF_MESSAGE));
            }
        }
    }

    fn handle(&mut self, event: Event<Body>) {
        self.delivery.handle(clock::now(), event);
    }

    fn observe_pull(&mut self, news: pull::News) {
        match news {
            // What comes for a hold that has ended is delivered again, to whoever has the partition then.
            pull::News::Pulled(partition, _, _) if !self.held.contains_key(&partition) => {}
            pull::News::Pulled(partition, pull, shown) => {
                for pulled in self.pulls.keep(&partition, shown) {
                    self.handle(Event::Pulled { partition: partition.clone(), pull, pulled });
                }
            }
            pull::News::Over(call, end) => {
                self.pulls.forget(call);
                self.handle(Event::Answer { call, answer: Answer::PullOver(end) });
            }
        }
    }

    fn observe_change(&mut self, change: Change) {
        match change {
            Change::Acquired(guard) => self.acquire(guard),
            Change::Releasing { partition, token, reason } => {
                self.goes_on(&partition);
                let ownership = match reason {
                    ReleaseReason::Evicted => return self.end(&partition, token, "the worker was evicted"),
                    ReleaseReason::Moved | ReleaseReason::Leaving | ReleaseReason::Restarting => {
                        Ownership::Releasing { partition, token }
                    }
                };
                self.handle(Event::Ownership(ownership));
            }
            Change::Cancelled { partition, token } => self.end(&partition, token, "there was no more time to finish"),
            Change::Suspended { .. } => self.handle(Event::Ownership(Ownership::Suspended)),
            Change::Resumed => self.handle(Event::Ownership(Ownership::Resumed)),
            Change::Prepare { .. } => {}
        }
    }

    fn acquire(&mut self, guard: Guard) {
        let (partition, token) = (guard.partition().clone(), guard.token());
        let (guard, over) = (Arc::new(guard), Arc::new(OnceLock::new()));
        let (sender, news) = mpsc::unbounded_channel();
        let messages = Messages::new(Arc::clone(&guard), self.caller.clone(), news, Arc::clone(&over));
        let held = Held { guard, token, news: sender, over, end: End::Finished, handed: 0, leaving: None };
        self.waiting.remove(&partition);
        self.held.insert(partition.clone(), held);
        self.handle(Event::Ownership(Ownership::Acquired { partition, token }));
        // An error means that nobody takes partitions any more: what is dropped with it ends the work on this one.
        let _ = self.partitions.send(messages);
    }

    /// A hold is over, without time for anything.
    fn end(&mut self, partition: &PartitionId, token: Token, reason: &str) {
        if let Some(held) = self.take(partition, token) {
            let _ = held.over.set(reason.to_owned());
            self.handle(Event::Ownership(Ownership::Ended { partition: partition.clone(), token }));
        }
    }

    fn observe_call(&mut self, call: Call) {
        match call {
            Call::Request(request) => self.handle(Event::Application(request)),
            Call::Settle(partition) => {
                self.handle(Event::Application(Request::Want { partition: partition.clone(), most: 0 }));
                self.carry_out();
                if let Some(held) = self.held.get(&partition) {
                    let _ = held.news.send(News::Settled);
                }
            }
            Call::Stored(partition, sequence, told) => {
                if self.held.contains_key(&partition) {
                    self.waiting.entry(partition).or_default().push((sequence, told));
                    self.tell_stored();
                }
            }
            Call::Leave(partition, token, end, told) => {
                if let Some(held) = self.held(&partition, token) {
                    (held.end, held.leaving) = (end, told);
                    self.handle(Event::Application(Request::Leave { partition }));
                }
            }
        }
    }

    fn observe_answer(&mut self, answered: Result<Option<(CallId, Answer<Body>)>, tokio::task::JoinError>) {
        match answered {
            Ok(Some((call, answer))) => {
                match &answer {
                    Answer::Written(Outcome::Committed(_)) => self.metrics.stored.increment(1),
                    Answer::Buried => self.metrics.dead_letters.increment(1),
                    Answer::Written(_)
                    | Answer::Position(_)
                    | Answer::Stream(_)
                    | Answer::NoStream
                    | Answer::Ends(_)
                    | Answer::CannotTell
                    | Answer::Fetched(_)
                    | Answer::TailOpened
                    | Answer::Consumer(_)
                    | Answer::NoConsumer
                    | Answer::Unfit { .. }
                    | Answer::PullOver(_)
                    | Answer::Acknowledged
                    | Answer::NotBuried(_)
                    | Answer::Failed { .. } => {}
                }
                self.pulls.observe_answer(call, &answer);
                let is_written = matches!(answer, Answer::Written(_) | Answer::Acknowledged);
                self.handle(Event::Answer { call, answer });
                if is_written {
                    self.tell_stored();
                }
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Ok(None) | Err(_) => {}
        }
    }

    /// Does everything that the core asks for.
    fn carry_out(&mut self) {
        while let Some(order) = self.delivery.poll_order() {
            match order {
                Order::Hand { partition, token, messages } => self.hand(&partition, token, messages),
                Order::OpenTail { call, from, partitions } => self.open_tail(call, from, partitions),
                Order::CloseTail { tail } => self.close_tail(tail),
                Order::Pull { call, partition, created, most, bytes, time } => {
                    let wanted = self.store.durables().wanted(call, (partition, created), most, bytes, time);
                    self.pulls.begin(wanted);
                }
                Order::EndPull { pull } => self.pulls.end(pull),
                // The subject of a reply names the consumer whose delivery it was.
                Order::Acknowledge { call, partition, messages, .. } => self.acknowledge(call, &partition, messages),
                Order::Extend { partition, messages, .. } => {
                    let (store, replies) = (self.store.clone(), self.pulls.replies(&partition, &messages));
                    tokio::spawn(async move { store.durables().extend(replies).await });
                }
                Order::LetGo { partition, token } => self.let_go(&partition, token),
                Order::Stop { partition, token, reason } => self.stop(&partition, token, &reason),
                Order::Notice(notice) => self.notice(&notice),
                order @ (Order::ReadPosition { .. }
                | Order::WritePosition { .. }
                | Order::Inspect { .. }
                | Order::Ask { .. }
                | Order::Fetch { .. }
                | Order::FindConsumer { .. }
                | Order::CreateConsumer { .. }
                | Order::RestoreConsumer { .. }
                | Order::DeadLetter { .. }) => {
                    let store = self.store.clone();
                    self.answers.spawn(async move { store.answer(order).await });
                }
            }
        }
    }

    fn hand(&mut self, partition: &PartitionId, token: Token, messages: Vec<Handed<Body>>) {
        let again = messages.iter().filter(|handed| handed.tries > 0).count();
        self.metrics.delivered.increment(messages.len() as u64);
        self.metrics.repeated.increment(again as u64);
        self.goes_on(partition);
        if let Some(held) = self.held(partition, token) {
            held.handed += messages.len() as u64;
            // An error means that the application has just left: it has not seen them.
            let _ = held.news.send(News::Handed(messages));
        }
    }

    fn open_tail(&mut self, tail: CallId, from: Sequence, partitions: Vec<PartitionId>) {
        let (store, newsroom) = (self.store.clone(), self.newsroom.clone());
        let (opened, is_open) = oneshot::channel();
        let (open, closed) = oneshot::channel();
        self.tails.insert(tail, open);
        tokio::spawn(async move {
            match store.open_tail(tail, from, &partitions).await {
                Ok(open) => {
                    let _ = opened.send(Ok(()));
                    open.run(newsroom, closed).await;
                }
                Err(reason) => _ = opened.send(Err(reason)),
            }
        });
        self.answers.spawn(async move {
            Some((
                tail,
                match is_open.await {
                    Ok(Ok(())) => Answer::TailOpened,
                    Ok(Err(reason)) => Answer::Failed { reason },
                    Err(_) => Answer::Failed { reason: "its task has ended".into() },
                },
            ))
        });
    }

    fn acknowledge(&mut self, call: CallId, partition: &PartitionId, messages: Vec<Sequence>) {
        let (store, count) = (self.store.clone(), messages.len());
        let replies = self.pulls.acknowledging(call, partition, messages);
        debug_assert_eq!(replies.len(), count, "only what was shown is acknowledged");
        self.answers.spawn(async move {
            Some(match store.connected() {
                Ok(()) => store.durables().acknowledge(call, replies).await,
                Err(reason) => (call, Answer::Failed { reason }),
            })
        });
    }

    fn close_tail(&mut self, tail: CallId) {
        self.tails.remove(&tail);
    }

    fn let_go(&mut self, partition: &PartitionId, token: Token) {
        let Some(held) = self.take(partition, token) else { return };
        if let Some(told) = held.leaving {
            let _ = told.send(());
        }
        drop_guard(held.guard, held.end);
    }

    fn stop(&mut self, partition: &PartitionId, token: Token, reason: &StopReason) {
        tracing::warn!(event = "delivery_stopped", %partition, %token, %reason, "nothing more is delivered of a partition");
        let Some(held) = self.take(partition, token) else { return };
        let _ = held.over.set(reason.to_string());
        let end = match reason {
            // Another has it: nothing failed here.
            StopReason::Fenced { .. } => {
                self.metrics.fenced.increment(1);
                End::Finished
            }
            StopReason::Edited
            | StopReason::StreamChanged
            | StopReason::Misfit(_)
            | StopReason::Unfit { .. }
            | StopReason::Unreadable { .. } => {
                self.metrics.stopped.increment(1);
                self.stopped.insert(partition.clone(), reason.to_string());
                self.warn_of_stopped();
                End::Failed(reason.to_string())
            }
        };
        drop_guard(held.guard, end);
    }

    /// A partition is delivered, or is no longer this worker's.
    fn goes_on(&mut self, partition: &PartitionId) {
        if !self.stopped.is_empty() && self.stopped.remove(partition).is_some() {
            self.warn_of_stopped();
        }
    }

    /// Says in health what nothing is delivered to, and why: the first ones, and how many.
    fn warn_of_stopped(&self) {
        let warnings = &self.worker.health.signs.warnings;
        if self.stopped.is_empty() {
            warnings.clear(DELIVERY_STOPPED);
            return;
        }
        let shown: Vec<_> = self.stopped.iter().take(3).map(|(id, reason)| format!("{id}: {reason}")).collect();
        let text = format!("nothing is delivered to {} partitions ({})", self.stopped.len(), shown.join("; "));
        warnings.set(DELIVERY_STOPPED, text);
    }

    /// Tells those who wait that something is stored.
    fn tell_stored(&mut self) {
        let delivery = &self.delivery;
        self.waiting.retain(|partition, waiting| {
            let stored = delivery.lane(partition).map_or(Sequence::default(), |lane| lane.stored);
            for (_, told) in waiting.extract_if(.., |(sequence, _)| *sequence <= stored) {
                let _ = told.send(());
            }
            !waiting.is_empty()
        });
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::WentOn { partition, misfit, next } => {
                if let Misfit::Gap { at_most } = misfit {
                    self.metrics.removed.increment(*at_most);
                }
                tracing::warn!(event = "position_misfit", %partition, %misfit, next = next.value(), "a partition goes on elsewhere, as its policy says");
            }
            Notice::TooManyUnfinished { partition, count } => {
                tracing::warn!(event = "nothing_committed", %partition, count, "the application was handed many messages and has committed none: commit what is finished");
            }
            Notice::Failed { partition, sequence, times, reason } => {
                self.metrics.failed.increment(1);
                tracing::warn!(event = "message_failed", %partition, sequence = sequence.value(), times, reason, "a message failed");
            }
            Notice::TailSkipped { partition, sequence } => {
                tracing::warn!(event = "tail_skipped", %partition, sequence = sequence.value(), "the server's consumer has passed over a message, which was read otherwise");
            }
            Notice::TailLost { reason } => {
                self.metrics.tails_lost.increment(1);
                self.say("tail_lost", || {
                    tracing::info!(event = "tail_lost", reason, "the consumer that shows new messages is made anew");
                });
            }
            Notice::Restored { partition } => {
                self.metrics.restored.increment(1);
                self.say("consumer_restored", || {
                    tracing::info!(event = "consumer_restored", %partition, "a partition's consumer has delivered to somebody else, or was changed, and is brought back to its floor");
                });
            }
            Notice::NoStream => {
                tracing::warn!(event = "stream_missing", "the stream is not there: create it, or correct its name");
            }
            Notice::Retrying { what, reason } => self.say(what, || {
                tracing::warn!(event = "delivery_retrying", what, reason, "a request got no answer, and is sent again");
            }),
        }
    }

    /// Says something that comes again and again, but not each time.
    fn say(&mut self, what: &'static str, say: impl FnOnce()) {
        let now = clock::now();
        if self.said.get(what).is_none_or(|said| now >= *said + SAID_EVERY) {
            self.said.insert(what, now);
            say();
        }
    }

    /// The hold under this token ends, and whoever waits for it in vain is told so.
    fn take(&mut self, partition: &PartitionId, token: Token) -> Option<Held> {
        self.held(partition, token)?;
        self.waiting.remove(partition);
        self.pulls.drop_replies(partition);
        self.held.remove(partition)
    }

    fn held(&mut self, partition: &PartitionId, token: Token) -> Option<&mut Held> {
        self.held.get_mut(partition).filter(|held| held.token == token)
    }
}

/// The partition may go. Where the application still has the guard in its hands, it goes when that is dropped.
fn drop_guard(guard: Arc<Guard>, end: End) {
    if let (Some(guard), End::Failed(reason)) = (Arc::into_inner(guard), end) {
        guard.fail(reason);
    }
}
