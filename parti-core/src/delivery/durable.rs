//! The durable consumer of one partition: found or created, brought back to its floor, and pulled from.

use alloc::string::String;

use super::acks::Known;
use super::consumer::{ConsumerState, PullEnd, Pulled};
use super::order::{Notice, Order, Orders};
use super::scope::Scope;
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Place, Sequence, Timestamp};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Duration, Instant, earliest};

/// How many times the server is told that work goes on before it would deliver again.
const EXTENSIONS: u32 = 3;

/// What is known of a partition's consumer, and what of it is served.
///
/// It is pulled from only where it delivers the lowest message first that is not acknowledged: what it had delivered to
/// somebody else would come behind. So it is found first, and brought back to its floor if anything was delivered and not
/// acknowledged. Nobody but the owner pulls from then on, but one who was frozen or cut off may have a request there that
/// has not run out. Whatever is delivered to it takes a [`Place`], which is then missed here: the consumer is brought back
/// to its floor again. A look at a quiet consumer shows the same where nothing follows.
///
/// A stream that is made anew gives the numbers of its messages again, and a server removes whatever has the number that is
/// acknowledged. So the name of the consumer says which stream it is of, and an acknowledgement that comes late finds nobody.
/// That takes that no consumer of this name is ever created in another stream and used: the stream is looked at before one is
/// created, and again before anything is pulled from it.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    /// When the stream was made whose consumer it is.
    created: Timestamp,
    /// Whether the partition may have had a consumer of another name, which may be there still: what a stream says of when it
    /// was made can change without a loss, and what was to create one can arrive when the stream is another.
    replaces: bool,
    /// Since when it is to be seen again that the stream is this one.
    unsure: Option<Instant>,
    phase: Phase,
    not_before: Instant,
    /// The place of the last delivery that has come here; none before it is known where to begin.
    place: Option<Place>,
    /// What was delivered here and is not acknowledged, since the consumer was last brought back to its floor.
    served: Known,
    pull: Option<Pull>,
    /// Whether the next message is to be pulled alone, whatever its size.
    is_large: bool,
    /// A place that a look has shown and that has not come here.
    ahead: Option<Place>,
    /// The greatest number that is known to have been delivered.
    through: Sequence,
    heard: Instant,
    extended: Instant,
    ack_wait: Duration,
    pending: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of it, or what was known counts no more.
    Unknown,
    Finding(CallId),
    /// There is none.
    Missing,
    Creating(CallId),
    /// It would not deliver the lowest message first.
    Astray,
    Restoring(CallId),
    Ready,
    /// It is looked at, and the last place was this one when it was asked.
    Looking(CallId, Place),
}

#[derive(Clone, Copy, Debug)]
struct Pull {
    call: CallId,
    is_ending: bool,
}

/// What an answer or a decision has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DurableNews {
    Nothing,
    /// What was delivered counts no more: all of it that is not acknowledged is delivered again.
    Forgotten,
    /// Nothing that was delivered is on its way.
    State(ConsumerState),
    /// It can never be used.
    Unfit {
        reason: String,
    },
    /// A request has failed, and is sent again.
    Retrying {
        what: &'static str,
        reason: String,
    },
}

/// What the partition wants of its consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// How many messages and bytes there is room for.
    pub(super) room: Option<(u32, usize)>,
    /// Whether nothing is being acknowledged.
    pub(super) is_quiet: bool,
    /// Whether the stream is known to be the one whose consumer this is.
    pub(super) is_sure: bool,
}

impl Durable {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            created: Timestamp::default(),
            replaces: false,
            unsure: None,
            phase: Phase::Unknown,
            not_before: now,
            place: None,
            served: Known::new(),
            pull: None,
            is_large: false,
            ahead: None,
            through: Sequence::default(),
            heard: now,
            extended: now,
            ack_wait: Duration::MAX,
            pending: 0,
        }
    }

    /// The stream was `created` then; the position, if there is one, was `stored` for the stream that was made at that time.
    pub(super) fn observe_stream(&mut self, scope: Scope<'_>, created: Timestamp, stored: Option<Timestamp>) {
        (self.created, self.replaces) = (created, stored.is_some());
        if stored.is_some_and(|stored| stored != created) {
            // One that is there already is found by the attempt to create it.
            self.miss(scope);
        }
    }

    /// When the stream was made whose consumer it is.
    pub(super) fn created(&self) -> Timestamp {
        self.created
    }

    /// Since when it is to be seen again that the stream is this one, if it is.
    pub(super) fn unsure(&self) -> Option<Instant> {
        self.unsure
    }

    /// What was delivered here and is not acknowledged.
    pub(super) fn served(&self) -> &Known {
        &self.served
    }

    /// How many messages were never delivered.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether it delivers what comes.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Looking(..))
    }

    /// A pull shows a message. Returns whether it is the delivery that follows.
    pub(super) fn observe_pulled<M>(&mut self, scope: Scope<'_>, call: CallId, pulled: &Pulled<M>) -> bool {
        let is_ours = self.is_ready() && self.pull.is_some_and(|pull| pull.call == call);
        let Some(place) = self.place.filter(|_| is_ours) else { return false };
        if pulled.place != place.next() && !scope.has(PlantedBug::IgnorePlaces) {
            // Somebody else was served in between.
            self.go_astray();
            return false;
        }
        self.heard = scope.now;
        self.place = Some(pulled.place);
        self.through = self.through.max(pulled.message.sequence);
        self.pending = pulled.pending;
        self.is_large = false;
        if self.served.is_empty() {
            self.extended = scope.now;
        }
        self.served.insert(pulled.message.sequence, pulled.message.timestamp);
        true
    }

    /// It has delivered what should have come earlier, or somebody else was served.
    pub(super) fn go_astray(&mut self) {
        self.phase = Phase::Astray;
    }

    /// The greatest number that is known to have been delivered.
    pub(super) fn through(&self) -> Sequence {
        self.through
    }

    /// The stream has lost its newest messages, and ends here. Some servers leave the consumer as it is, which then passes
    /// over what gets their numbers.
    pub(super) fn observe_lost_suffix(&mut self, last: Sequence) {
        if self.is_ready() && last < self.through {
            self.go_astray();
        }
    }

    /// These messages are acknowledged.
    pub(super) fn observe_acknowledged(&mut self, messages: &[(Sequence, Timestamp)]) {
        for (sequence, _) in messages {
            self.served.remove(sequence);
        }
    }

    /// An acknowledgement has failed: it is to be looked at.
    pub(super) fn doubt(&mut self, scope: Scope<'_>) {
        if self.phase == Phase::Ready {
            self.not_before = scope.now + scope.config.retry;
            self.ahead = self.place;
        }
    }

    pub(super) fn observe_state(&mut self, scope: Scope<'_>, call: CallId, state: ConsumerState) -> DurableNews {
        let is_at_floor = state.unacknowledged == 0;
        match self.phase {
            Phase::Finding(finding) if finding == call => {
                self.begin(scope, state);
                let is_ahead = scope.stream.is_some_and(|stream| stream.last < state.through);
                let is_anew = || !is_at_floor && !scope.has(PlantedBug::PullBeforeRestored) || is_ahead;
                // A server that has lost what it knew gives places again, and may have given the last one to somebody else.
                let is_served_here = state.unacknowledged <= self.served.len() as u64;
                let has_missed = self.place.map_or_else(is_anew, |place| place != state.delivered || !is_served_here);
                if has_missed {
                    self.phase = Phase::Astray;
                    return DurableNews::Nothing;
                }
            }
            Phase::Creating(asked) | Phase::Restoring(asked) if asked == call => {
                self.begin(scope, state);
                if !is_at_floor {
                    // A request of somebody else is served first.
                    self.phase = Phase::Astray;
                    self.not_before = scope.now + scope.config.retry;
                    return DurableNews::Nothing;
                }
            }
            Phase::Looking(looking, asked_at) if looking == call => return self.observe_look(scope, asked_at, state),
            _ => return DurableNews::Nothing,
        }
        self.place = Some(state.delivered);
        self.phase = Phase::Ready;
        DurableNews::State(state)
    }

    fn begin(&mut self, scope: Scope<'_>, state: ConsumerState) {
        (self.heard, self.unsure, self.replaces) = (scope.now, Some(scope.now), true);
        self.ahead = None;
        self.through = state.through;
        (self.ack_wait, self.pending) = (state.ack_wait, state.pending);
    }

    /// What a look has shown. What is on its way from the consumer may come after it.
    fn observe_look(&mut self, scope: Scope<'_>, asked_at: Place, state: ConsumerState) -> DurableNews {
        self.heard = scope.now;
        self.phase = Phase::Ready;
        let place = self.place.unwrap_or_default();
        // It has gone back, or was seen twice to be where it has not come here.
        if state.delivered < asked_at || self.ahead.is_some_and(|ahead| place < ahead) {
            self.go_astray();
        } else if state.delivered > place {
            self.ahead = Some(state.delivered);
            self.not_before = scope.now + scope.config.retry;
        } else {
            self.ahead = None;
            self.pending = state.pending;
        }
        DurableNews::Nothing
    }

    pub(super) fn observe_none(&mut self, scope: Scope<'_>, call: CallId) -> DurableNews {
        match self.phase {
            Phase::Finding(asked) | Phase::Restoring(asked) | Phase::Looking(asked, _) if asked == call => {
                self.miss(scope);
                self.forget()
            }
            _ => DurableNews::Nothing,
        }
    }

    /// There is none, be it that the stream is another one.
    fn miss(&mut self, scope: Scope<'_>) {
        (self.phase, self.unsure) = (Phase::Missing, Some(scope.now));
    }

    pub(super) fn observe_unfit(&mut self, call: CallId, reason: String) -> DurableNews {
        if self.asked() == Some(call) { DurableNews::Unfit { reason } } else { DurableNews::Nothing }
    }

    pub(super) fn observe_failed(&mut self, scope: Scope<'_>, call: CallId, reason: String) -> DurableNews {
        if self.asked() != Some(call) {
            return DurableNews::Nothing;
        }
        match self.phase {
            Phase::Creating(_) => self.miss(scope),
            Phase::Looking(..) => self.phase = Phase::Ready,
            // It may have been done, or there may be none any more.
            Phase::Restoring(_)
            | Phase::Finding(_)
            | Phase::Unknown
            | Phase::Missing
            | Phase::Astray
            | Phase::Ready => self.phase = Phase::Unknown,
        }
        if self.phase == Phase::Unknown && self.served.is_empty() {
            self.place = None;
        }
        self.heard = scope.now;
        self.not_before = scope.now + scope.config.retry;
        DurableNews::Retrying { what: "consumer", reason }
    }

    pub(super) fn observe_over(&mut self, scope: Scope<'_>, call: CallId, end: PullEnd) -> DurableNews {
        if self.pull.take_if(|pull| pull.call == call).is_none() {
            return DurableNews::Nothing;
        }
        match end {
            PullEnd::Done => DurableNews::Nothing,
            PullEnd::TooLarge => {
                self.is_large = true;
                DurableNews::Nothing
            }
            PullEnd::Lost { reason } => {
                if self.is_ready() {
                    self.phase = Phase::Unknown;
                }
                self.not_before = scope.now + scope.config.retry;
                DurableNews::Retrying { what: "pull", reason }
            }
        }
    }

    /// Asks for what is due.
    pub(super) fn decide<M>(
        &mut self,
        scope: Scope<'_>,
        partition: &PartitionId,
        wanted: Wanted,
        orders: &mut Orders<M>,
    ) -> DurableNews {
        self.extend(scope, partition, orders);
        self.unsure = self.unsure.filter(|_| !wanted.is_sure);
        if scope.now < self.not_before && !self.is_ready() {
            return DurableNews::Nothing;
        }
        match self.phase {
            Phase::Unknown => {
                if self.is_free(orders) {
                    self.phase = Phase::Finding(self.find(partition, orders));
                }
            }
            Phase::Missing => {
                if self.is_free(orders) && wanted.is_quiet && wanted.is_sure {
                    let (created, replaces) = (self.created, self.replaces);
                    let order = |call, partition| Order::CreateConsumer { call, partition, created, replaces };
                    self.phase = Phase::Creating(orders.call_for(partition, order));
                }
            }
            Phase::Astray => {
                if self.is_free(orders) && wanted.is_quiet {
                    if self.place.is_some() {
                        orders.notice(Notice::Restored { partition: partition.clone() });
                    }
                    let created = self.created;
                    let order = |call, partition| Order::RestoreConsumer { call, partition, created };
                    self.phase = Phase::Restoring(orders.call_for(partition, order));
                    return self.forget();
                }
            }
            Phase::Ready => {
                if self.look_at(scope.config) <= scope.now && !scope.has(PlantedBug::NeverLook) {
                    self.phase = Phase::Looking(self.find(partition, orders), self.place.unwrap_or_default());
                }
                self.pull(scope, partition, wanted, orders);
            }
            Phase::Looking(..) => self.pull(scope, partition, wanted, orders),
            Phase::Finding(_) | Phase::Creating(_) | Phase::Restoring(_) => {}
        }
        DurableNews::Nothing
    }

    fn find<M>(&self, partition: &PartitionId, orders: &mut Orders<M>) -> CallId {
        let created = self.created;
        orders.call_for(partition, |call, partition| Order::FindConsumer { call, partition, created })
    }

    /// Ends the pull, if there is one. Returns whether there is none.
    pub(super) fn is_free<M>(&mut self, orders: &mut Orders<M>) -> bool {
        if let Some(pull) = self.pull.as_mut().filter(|pull| !pull.is_ending) {
            pull.is_ending = true;
            orders.push(Order::EndPull { pull: pull.call });
        }
        self.pull.is_none()
    }

    fn pull<M>(&mut self, scope: Scope<'_>, partition: &PartitionId, wanted: Wanted, orders: &mut Orders<M>) {
        let may_pull = self.pull.is_none() && wanted.is_sure;
        let Some((most, bytes)) = wanted.room.filter(|_| may_pull) else { return };
        let (most, bytes) = if self.is_large { (1, None) } else { (most, Some(bytes)) };
        let (created, time) = (self.created, scope.config.pull_time);
        let order = |call, partition| Order::Pull { call, partition, created, most, bytes, time };
        let call = orders.call_for(partition, order);
        self.pull = Some(Pull { call, is_ending: false });
    }

    /// Tells the server that work goes on, before it would deliver again.
    fn extend<M>(&mut self, scope: Scope<'_>, partition: &PartitionId, orders: &mut Orders<M>) {
        if self.extend_at().is_some_and(|at| at <= scope.now) {
            self.extended = scope.now;
            let messages = self.served.keys().copied().collect();
            orders.push(Order::Extend { partition: partition.clone(), created: self.created, messages });
        }
    }

    fn extend_at(&self) -> Option<Instant> {
        (!self.served.is_empty()).then(|| self.extended + self.ack_wait / EXTENSIONS)
    }

    /// When it is looked at: a while after it was heard of, or soon if it may have gone astray.
    fn look_at(&self, config: &DeliveryConfig) -> Instant {
        if self.ahead.is_some() { self.not_before } else { self.heard + config.check_interval }
    }

    /// What is on its way, apart from a pull.
    fn asked(&self) -> Option<CallId> {
        match self.phase {
            Phase::Finding(call) | Phase::Creating(call) | Phase::Restoring(call) | Phase::Looking(call, _) => {
                Some(call)
            }
            Phase::Unknown | Phase::Missing | Phase::Astray | Phase::Ready => None,
        }
    }

    fn forget(&mut self) -> DurableNews {
        self.served.clear();
        DurableNews::Forgotten
    }

    /// When something is due, if nothing more happens.
    pub(super) fn deadline(&self, now: Instant, config: &DeliveryConfig) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Unknown | Phase::Missing | Phase::Astray => Some(self.not_before),
            Phase::Ready => Some(self.look_at(config)),
            Phase::Finding(_) | Phase::Creating(_) | Phase::Restoring(_) | Phase::Looking(..) => None,
        };
        // What is due already waits for the end of a pull, for an acknowledgement or for the last write, and goes on with that.
        earliest([phase.filter(|at| *at > now), self.extend_at().filter(|at| *at > now)])
    }
}
