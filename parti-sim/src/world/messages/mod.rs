//! A stream whose messages follow the assignment: its model, the delivery of each process, and handlers.
//!
//! Each process has a [`Delivery`] beside its worker. It is told what the worker decides about partitions, as a real
//! adapter tells it; and the worker is told that a partition was released when delivery lets it go, or has ended anyway.

pub(crate) mod durables;
mod errand;
mod faults;
mod handler;
mod member;
mod orders;
mod positions;
mod pulls;
pub(crate) mod stream;
mod tails;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parti_core::delivery::{Delivery, Event, Notice, Order, Ownership, Request, StopReason};
use parti_core::{PartitionId, ReleaseReason, Token};

use self::durables::Durables;
pub(crate) use self::errand::Errand;
use self::member::{Hand, Member};
use self::positions::Positions;
use self::stream::Stream;
use super::clock::Moment;
use super::event::What;
use super::ground::Ground;
use super::network::{Network, delay};
#[cfg(feature = "planted-bugs")]
use crate::fault::plant::Plant;
use crate::kit::{Mail, Say, TaskId};
use crate::rng::Rng;
use crate::setting::messages::MessageOptions;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::told::message::MessageFact;

/// How long the adapter waits until it delivers a partition anew that was stopped for a reason that may be over.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How long a release that took too long waits for its last write.
const LAST_WRITE: Duration = Duration::from_millis(10);

/// The stream, the positions, and the delivery of each process.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    rng: Rng,
    stream: Stream,
    positions: Positions,
    durables: Durables,
    /// When the consumer of a partition looks at what it is to deliver again.
    expiries: BTreeMap<PartitionIndex, Moment>,
    /// When the stream last lost its newest messages.
    suffix_lost_at: Option<Moment>,
    members: BTreeMap<ProcessId, Member>,
    /// Nothing is published from then on.
    closes_at: Moment,
    /// Where users' handlers get their messages, if there are any.
    mail: Option<Arc<Mail>>,
    /// Which of them has which partition.
    posts: BTreeMap<TaskId, (ProcessId, PartitionIndex)>,
    /// What they have finished while they might not work.
    late: Vec<(TaskId, Say)>,
}

impl Messages {
    /// What there is in a world with these options, if it has messages at all.
    pub(super) fn in_world(options: &Options, partitions: usize) -> Option<Box<Self>> {
        options.messages.as_ref().map(|messages| {
            Box::new(Self {
                rng: Rng::for_purpose(options.seed, "messages"),
                stream: Stream::new(partitions),
                positions: Positions::default(),
                durables: Durables::new(messages.resets, Duration::from_millis(messages.ack_wait_ms)),
                expiries: BTreeMap::new(),
                suffix_lost_at: None,
                members: BTreeMap::new(),
                closes_at: Moment::NEVER,
                mail: None,
                posts: BTreeMap::new(),
                late: Vec::new(),
            })
        })
    }
}

/// The messages, with what may be touched when something happens to them.
pub(crate) struct Delivering<'a> {
    pub(super) ground: &'a mut Ground,
    pub(super) network: &'a Network,
    pub(super) messages: &'a mut Messages,
}

impl Delivering<'_> {
    /// The settings. Only a world that has them has messages.
    fn options(&self) -> &MessageOptions {
        self.ground.options.messages.as_ref().expect("a world with messages has settings for them")
    }

    fn tell(&mut self, process: Option<ProcessId>, partition: Option<PartitionIndex>, what: &MessageFact) {
        self.ground.tell(&Fact::Message { process, partition, what });
    }

    fn delay(&mut self) -> Duration {
        delay(&mut self.messages.rng, &self.ground.options, self.ground.options.network.one_way_us)
    }

    fn member(&mut self, process: ProcessId) -> Option<&mut Member> {
        self.messages.members.get_mut(&process)
    }

    fn hand(&mut self, process: ProcessId, partition: PartitionIndex) -> Option<&mut Hand> {
        self.member(process)?.hands.get_mut(&partition)
    }

    fn id_of(&self, partition: PartitionIndex) -> PartitionId {
        self.ground.observers.partition(partition).id.clone()
    }

    fn index_of(&self, partition: &PartitionId) -> PartitionIndex {
        self.ground.observers.index_of(partition).expect("delivery names only what it was given")
    }

    /// A process begins; the first one with the stream.
    pub(super) fn started(&mut self, process: ProcessId) {
        let local = self.ground.process(process).clock.at(self.ground.now);
        let delivery = Delivery::new(self.options().delivery.clone(), local).expect("the settings were checked");
        #[cfg(feature = "planted-bugs")]
        let delivery = match self.ground.options.plant {
            Some(Plant::Core(bug)) => delivery.with_planted_bug(bug),
            Some(Plant::Around(_)) | None => delivery,
        };
        if process.index() == 0 {
            self.ground.after(Duration::ZERO, What::Delivery(Errand::Publish));
        }
        self.messages.members.insert(process, Member::new(delivery));
    }

    /// A process has ended, with all that its delivery knew.
    pub(crate) fn ended(&mut self, process: ProcessId) {
        self.messages.members.remove(&process);
        let link = &self.ground.process(process).link;
        if link.closed || !link.broken {
            self.messages.durables.end_pulls_of(process);
        }
    }

    /// An application is given a partition, and a user's handler works on it, if there is one.
    pub(super) fn acquired(&mut self, process: ProcessId, partition: &PartitionId, token: Token, post: Option<TaskId>) {
        if let Some(partition) = self.ground.observers.index_of(partition) {
            self.hold(process, partition, token, post);
        }
    }

    fn hold(&mut self, process: ProcessId, partition: PartitionIndex, token: Token, post: Option<TaskId>) {
        let id = self.id_of(partition);
        let post = post.filter(|_| self.messages.mail.is_some());
        let Some(member) = self.member(process) else { return };
        member.hands.insert(partition, Hand::new(token, post));
        if let (Some(post), Some(mail)) = (post, &self.messages.mail) {
            mail.open(post);
            self.messages.posts.insert(post, (process, partition));
        }
        self.deliver(process, Event::Ownership(Ownership::Acquired { partition: id, token }));
        if post.is_none() {
            self.want(process, partition);
        }
    }

    /// An application is told to finish with a partition: what it has it may finish, unless the hold has ended.
    pub(super) fn released(
        &mut self,
        process: ProcessId,
        partition: &PartitionId,
        token: Token,
        reason: ReleaseReason,
    ) {
        let id = partition.clone();
        let ownership = match reason {
            ReleaseReason::Evicted => {
                let index = self.index_of(partition);
                self.drop_hand(process, index);
                Ownership::Ended { partition: id, token }
            }
            _ => Ownership::Releasing { partition: id, token },
        };
        self.deliver(process, Event::Ownership(ownership));
    }

    /// A release takes too long: the handler drops what it has, and what it has finished is stored if that takes no time.
    pub(super) fn cancelled(&mut self, process: ProcessId, partition: &PartitionId) {
        let index = self.index_of(partition);
        let Some(hand) = self.hand(process, index) else { return };
        let post = hand.post;
        let was_busy = hand.drop_all();
        let leaves = !std::mem::replace(&mut hand.left, true);
        self.close(post, "there was no more time to finish");
        if was_busy {
            self.tell(Some(process), Some(index), &MessageFact::Dropped);
        }
        if leaves {
            self.deliver(process, Event::Application(Request::Leave { partition: partition.clone() }));
        }
        if let Some(Hand { token, .. }) = self.hand(process, index) {
            let token = *token;
            self.ground.after(LAST_WRITE, What::Delivery(Errand::End { process, partition: index, token }));
        }
    }

    /// A release that takes too long waits no longer: the hold ends with it.
    fn end(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        if self.hand(process, partition).is_some_and(|hand| hand.token == token) {
            self.drop_hand(process, partition);
            let id = self.id_of(partition);
            self.deliver(process, Event::Ownership(Ownership::Ended { partition: id, token }));
            self.ground.after(Duration::ZERO, What::Drained { process, partition, token });
        }
    }

    /// An application is done with a partition, apart from the message that it works on.
    fn drained(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        let Some(hand) = self.hand(process, partition).filter(|hand| hand.token == token) else {
            self.ground.after(Duration::ZERO, What::Drained { process, partition, token });
            return;
        };
        (hand.leaving, hand.stays) = (true, false);
        if hand.queue.is_empty() {
            self.leave(process, partition);
        }
    }

    fn leave(&mut self, process: ProcessId, partition: PartitionIndex) {
        let is_news = self.hand(process, partition).is_some_and(|hand| !std::mem::replace(&mut hand.left, true));
        if is_news {
            let partition = self.id_of(partition);
            self.deliver(process, Event::Application(Request::Leave { partition }));
        }
    }

    /// All work stops at once: handlers hand back what they have.
    pub(super) fn suspended(&mut self, process: ProcessId) {
        self.deliver(process, Event::Ownership(Ownership::Suspended));
        let Some(member) = self.member(process) else { return };
        // A user's handler hands back by itself what it has.
        let is_busy = |hand: &Hand| hand.post.is_none() && !hand.queue.is_empty();
        let busy: Vec<_> = member.hands.iter().filter(|(_, hand)| is_busy(hand)).map(|(at, _)| *at).collect();
        for partition in busy {
            self.hand_back(process, partition, None);
        }
    }

    /// The work goes on.
    pub(super) fn resumed(&mut self, process: ProcessId) {
        self.deliver(process, Event::Ownership(Ownership::Resumed));
    }

    /// A process runs again: what was due meanwhile is due now.
    pub(crate) fn woke(&mut self, process: ProcessId) {
        let Some(member) = self.member(process) else { return };
        member.armed = Moment::NEVER;
        self.deliver(process, Event::Timeout);
        self.show_late(process);
    }

    /// Gives the delivery of a process an event, and does what it asks for.
    fn deliver(&mut self, process: ProcessId, event: Event<u64>) {
        let local = self.ground.process(process).clock.at(self.ground.now);
        let Some(member) = self.member(process) else { return };
        member.delivery.handle(local, event);
        while self.ground.observers.violation.is_none() {
            let Some(order) = self.member(process).and_then(|member| member.delivery.poll_order()) else { break };
            self.obey(process, order);
        }
        self.tell_stored(process);
        self.rearm(process);
    }

    fn rearm(&mut self, process: ProcessId) {
        let (clock, now) = (self.ground.process(process).clock, self.ground.now);
        let Some(member) = self.member(process) else { return };
        let at = member.delivery.poll_timeout().map_or(Moment::NEVER, |instant| clock.when(instant).max(now));
        if std::mem::replace(&mut member.armed, at) != at && at != Moment::NEVER {
            self.ground.schedule.push(at, What::Delivery(Errand::Timer { process }));
        }
    }

    fn fire(&mut self, process: ProcessId) {
        let now = self.ground.now;
        let Some(member) = self.member(process).filter(|member| member.armed == now) else { return };
        member.armed = Moment::NEVER;
        self.deliver(process, Event::Timeout);
    }

    fn obey(&mut self, process: ProcessId, order: Order<u64>) {
        match order {
            Order::ReadPosition { .. }
            | Order::WritePosition { .. }
            | Order::Inspect { .. }
            | Order::Ask { .. }
            | Order::Fetch { .. }
            | Order::OpenTail { .. }
            | Order::FindConsumer { .. }
            | Order::CreateConsumer { .. }
            | Order::RestoreConsumer { .. }
            | Order::Pull { .. }
            | Order::EndPull { .. }
            | Order::Acknowledge { .. }
            | Order::DeadLetter { .. } => self.send(process, order),
            Order::Extend { .. } => self.send_off(process, order),
            Order::CloseTail { tail } => {
                let delay = self.delay();
                self.ground.after(delay, What::Delivery(Errand::CloseTail { process, tail }));
            }
            Order::Hand { partition, messages, .. } => {
                let partition = self.index_of(&partition);
                self.take(process, partition, &messages);
            }
            Order::LetGo { partition, token } => {
                let partition = self.index_of(&partition);
                self.tell(Some(process), Some(partition), &MessageFact::LetGo);
                let hand = self.member(process).and_then(|member| member.hands.remove(&partition));
                self.let_go(hand.as_ref().and_then(|hand| hand.post));
                if hand.is_none_or(|hand| !hand.stays) {
                    self.ground.after(Duration::ZERO, What::Drained { process, partition, token });
                }
            }
            Order::Stop { partition, token, reason } => {
                let partition = self.index_of(&partition);
                self.stopped(process, partition, token, reason);
            }
            Order::Notice(notice) => {
                let partition = partition_of(&notice).map(|partition| self.index_of(partition));
                self.tell(Some(process), partition, &MessageFact::Told(notice));
            }
        }
    }

    /// Nothing more is delivered of a partition. Where the reason may be over, it is tried again under the same token.
    fn stopped(&mut self, process: ProcessId, partition: PartitionIndex, token: Token, reason: StopReason) {
        let comes_again = matches!(reason, StopReason::StreamChanged | StopReason::Edited);
        let post = self.hand(process, partition).and_then(|hand| hand.post);
        self.close(post, &reason.to_string());
        self.tell(Some(process), Some(partition), &MessageFact::Stopped(reason));
        let is_leaving = self.hand(process, partition).is_some_and(|hand| (hand.leaving || hand.left) && !hand.stays);
        self.drop_hand(process, partition);
        if is_leaving {
            self.ground.after(Duration::ZERO, What::Drained { process, partition, token });
        } else if comes_again && post.is_none() {
            self.ground.after(AGAIN_AFTER, What::Delivery(Errand::Again { process, partition, token }));
        }
    }

    /// A partition that was stopped is delivered anew, if it is still held.
    fn again(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        let app = &self.ground.process(process).app;
        let is_held = app.holds().any(|(held, hold)| held == partition && hold.token == token && !hold.draining);
        if is_held && self.hand(process, partition).is_none() {
            self.hold(process, partition, token, None);
        }
    }

    fn drop_hand(&mut self, process: ProcessId, partition: PartitionIndex) {
        if let Some(hand) = self.member(process).and_then(|member| member.hands.remove(&partition)) {
            self.close(hand.post, "the hold of the partition has ended");
            self.tell(Some(process), Some(partition), &MessageFact::HoldEnded);
        }
    }
}

/// The partition that a notice is about.
const fn partition_of(notice: &Notice) -> Option<&PartitionId> {
    match notice {
        Notice::WentOn { partition, .. }
        | Notice::TooManyUnfinished { partition, .. }
        | Notice::Failed { partition, .. }
        | Notice::TailSkipped { partition, .. }
        | Notice::Restored { partition } => Some(partition),
        Notice::TailLost { .. } | Notice::NoStream | Notice::Retrying { .. } => None,
    }
}
