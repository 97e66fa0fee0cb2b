//! The application's side: which partitions it holds guards for, and what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parti_core::{
    Event, HandlerEnd, Instant, Partition, PartitionId, Permission, ReleaseReason, SuspendReason, Token, Weight,
};
use tokio::sync::mpsc;

use crate::abandoned::Abandoned;
use crate::changes;
use crate::changes::Change;
use crate::clock;
use crate::guard::{Guard, Lease, Permit};
use crate::handle::Assignment;
use crate::input::Input;
use crate::metrics::Metrics;

/// The warning that all work is suspended.
const SUSPENDED: &str = "suspended";

/// Turns what the core decides into guards and changes, and the end of guards into news for the core.
#[derive(Debug)]
pub(crate) struct Application {
    held: BTreeMap<PartitionId, Held>,
    /// Since when all work has been suspended, if it is.
    suspended: Option<Instant>,
    /// Whether this worker is about to stop: that handlers end is no trouble then.
    stopping: bool,
    abandoned: Abandoned,
    lease: Arc<Lease>,
    inputs: mpsc::UnboundedSender<Input>,
    /// What the application has not been told yet.
    batch: Vec<Change>,
    changes: changes::Sender,
    assignment: Arc<ArcSwap<Assignment>>,
    /// What was announced and has not come, and since when.
    announced: BTreeMap<PartitionId, Instant>,
    metrics: Arc<Metrics>,
}

/// One hold of one partition, from its acquisition until its release is reported.
#[derive(Debug)]
struct Held {
    token: Token,
    weight: Weight,
    permit: Permit,
    /// When it was asked to.
    releasing_since: Option<Instant>,
}

impl Application {
    pub(crate) fn new(
        lease: Arc<Lease>,
        inputs: mpsc::UnboundedSender<Input>,
        changes: changes::Sender,
        assignment: Arc<ArcSwap<Assignment>>,
        abandoned: Abandoned,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            held: BTreeMap::new(),
            suspended: None,
            stopping: false,
            abandoned,
            lease,
            inputs,
            batch: Vec::new(),
            changes,
            assignment,
            announced: BTreeMap::new(),
            metrics,
        }
    }

    /// The worker is about to stop, or is not.
    pub(crate) fn observe_stopping(&mut self, stopping: bool) {
        self.stopping = stopping;
    }

    /// Since when the application has not read a change, and how many there are that it has not read.
    pub(crate) fn unread(&mut self) -> Option<(Instant, usize)> {
        self.changes.unread()
    }

    /// When a partition on which nobody works is to be offered again; not while nobody may work anyway.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.abandoned.deadline().filter(|_| !self.stopping && self.suspended.is_none())
    }

    /// Offers again what is due: a new guard for the same hold.
    pub(crate) fn offer_again(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        for id in self.abandoned.due(now) {
            let Some(held) = self.held.get(&id) else { continue };
            let partition = Partition::new(id).with_weight(held.weight);
            let lease = Arc::clone(&self.lease);
            self.batch.push(Change::Acquired(Guard::new(
                partition,
                held.token,
                &held.permit,
                lease,
                self.inputs.clone(),
            )));
        }
    }

    pub(crate) fn acquire(&mut self, partition: Partition, token: Token) {
        let permit = Permit::new(Permission::new(self.suspended.is_some()));
        let (id, weight) = (partition.id.clone(), partition.weight);
        let guard = Guard::new(partition, token, &permit, Arc::clone(&self.lease), self.inputs.clone());
        self.metrics.acquired(self.announced.remove(&id).map(|since| clock::now().since(since)));
        self.held.insert(id, Held { token, weight, permit, releasing_since: None });
        self.batch.push(Change::Acquired(guard));
    }

    pub(crate) fn prepare(&mut self, partition: PartitionId) {
        self.announced.insert(partition.clone(), clock::now());
        self.batch.push(Change::Prepare { partition });
    }

    pub(crate) fn release(&mut self, partition: &PartitionId, token: Token, reason: ReleaseReason) {
        let held = self.held.get_mut(partition).filter(|held| held.token == token);
        let at_once = match (&held, reason) {
            (None, _) | (_, ReleaseReason::Evicted) => true,
            (Some(_), ReleaseReason::Moved | ReleaseReason::Leaving | ReleaseReason::Restarting) => {
                self.abandoned.is_idle(partition)
            }
        };
        if let Some(held) = held {
            self.metrics.told_to_release(reason);
            held.releasing_since = Some(clock::now());
            let suspended = self.suspended.is_some();
            self.abandoned.gone(partition);
            held.permit.set(Permission::releasing(reason, suspended));
            self.batch.push(Change::Releasing { partition: partition.clone(), token, reason });
        }
        if at_once {
            self.end(partition, token);
        }
    }

    pub(crate) fn cancel(&mut self, partition: PartitionId, token: Token) {
        // Where it has been released in the meantime there is nothing to cancel, and nothing more to report.
        if self.held.get(&partition).is_some_and(|held| held.token == token) {
            self.end(&partition, token);
            self.batch.push(Change::Cancelled { partition, token });
        }
    }

    /// Ends all work at once. What was being released is released with that: its work does not go on afterwards.
    pub(crate) fn suspend(&mut self, reason: SuspendReason) {
        self.suspended.get_or_insert_with(clock::now);
        tracing::warn!(event = "suspended", partitions = self.held.len(), %reason, "all work is suspended");
        self.abandoned.signs().warnings.set(SUSPENDED, format!("all work is suspended: {reason}"));
        let mut over = Vec::new();
        for (partition, held) in &self.held {
            let permission = held.permit.permission().suspended();
            if permission == Permission::Ended {
                over.push((partition.clone(), held.token));
            } else {
                held.permit.set(permission);
            }
        }
        self.metrics.suspended(reason);
        self.batch.push(Change::Suspended { reason });
        for (partition, token) in over {
            self.cancel(partition, token);
        }
    }

    pub(crate) fn resume(&mut self) {
        let seconds = self.suspended.take().map_or(0.0, |since| clock::now().since(since).as_secs_f64());
        tracing::info!(event = "resumed", partitions = self.held.len(), seconds, "work goes on");
        self.abandoned.signs().warnings.clear(SUSPENDED);
        for held in self.held.values() {
            held.permit.set(held.permit.permission().resumed());
        }
        self.batch.push(Change::Resumed);
    }

    /// The application has dropped a guard.
    pub(crate) fn finished(&mut self, partition: &PartitionId, token: Token, end: HandlerEnd) {
        let Some(held) = self.held.get_mut(partition).filter(|held| held.token == token) else {
            return;
        };
        if !held.permit.permission().is_kept() {
            return self.end(partition, token);
        }
        let hands_over = if self.stopping {
            self.abandoned.stopped_in_time(partition);
            false
        } else {
            self.abandoned.stopped(clock::now(), partition, end)
        };
        if hands_over {
            let given_up = Event::GivenUp { partition: partition.clone(), token };
            // An error means that the driver is gone, and the core with it.
            let _ = self.inputs.send(Input::Event(given_up));
        }
    }

    /// The application wants another worker to have a partition, and works on it until it is told to release it.
    pub(crate) fn give_back(&self, partition: &PartitionId) {
        if let Some(held) = self.held.get(partition) {
            let given_up = Event::GivenUp { partition: partition.clone(), token: held.token };
            // An error means that the driver is gone, and the core with it.
            let _ = self.inputs.send(Input::Event(given_up));
        }
    }

    /// Tells the application everything that has happened since the last time, in one piece.
    pub(crate) fn tell(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let kept = self.held.iter().filter(|(_, held)| held.permit.permission().is_kept());
        let assignment = kept.map(|(partition, held)| (partition.clone(), held.token)).collect();
        self.assignment.store(Arc::new(Assignment::new(assignment)));
        self.changes.send(std::mem::take(&mut self.batch));
    }

    /// Ends a hold, and reports that to the core. The application may still have the guard, but no right by it.
    fn end(&mut self, partition: &PartitionId, token: Token) {
        self.abandoned.gone(partition);
        if let Some(held) = self.held.remove(partition) {
            held.permit.set(Permission::Ended);
            if let Some(since) = held.releasing_since {
                self.metrics.released(clock::now().since(since));
            }
        }
        let released = Event::Released { partition: partition.clone(), token };
        // An error means that the driver is gone, and the core with it.
        let _ = self.inputs.send(Input::Event(released));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        application: Application,
        inputs: mpsc::UnboundedReceiver<Input>,
        changes: changes::Receiver,
    }

    fn world() -> World {
        let (input_sender, inputs) = mpsc::unbounded_channel();
        let (change_sender, changes) = changes::queue();
        let lease = Arc::new(Lease::default());
        lease.set(Some(crate::clock::now() + std::time::Duration::from_secs(600)));
        let metrics = Arc::new(Metrics::new("orders"));
        let signs = Arc::new(crate::health::Signs::new("orders"));
        let abandoned = Abandoned::new(Some(crate::RetryPolicy::default()), signs, Arc::clone(&metrics));
        let application = Application::new(lease, input_sender, change_sender, Arc::default(), abandoned, metrics);
        World { application, inputs, changes }
    }

    impl World {
        fn acquire(&mut self, id: &str, epoch: u64) -> Guard {
            let token = Token { epoch: parti_core::Generation::new(epoch), ..Token::default() };
            self.application.acquire(Partition::new(partition(id)), token);
            self.application.tell();
            match self.changes.try_recv().expect("told").pop() {
                Some(Change::Acquired(guard)) => guard,
                other => panic!("expected a guard, got {other:?}"),
            }
        }

        /// Plays the driver: hands ends of guards to the application, and returns what is reported to the core.
        fn released(&mut self) -> Vec<(PartitionId, Token)> {
            let mut released = Vec::new();
            while let Ok(input) = self.inputs.try_recv() {
                match input {
                    Input::Finished { partition, token, end } => self.application.finished(&partition, token, end),
                    Input::GiveBack { partition } => self.application.give_back(&partition),
                    Input::Event(Event::Released { partition, token }) => released.push((partition, token)),
                    Input::Event(other) => panic!("unexpected {other:?}"),
                }
            }
            released
        }
    }

    fn partition(id: &str) -> PartitionId {
        PartitionId::new(id).expect("a valid id")
    }

    #[test]
    fn a_release_is_reported_once_when_the_guard_is_dropped() {
        let mut world = world();
        let guard = world.acquire("a", 1);
        let token = guard.token();
        world.application.release(&partition("a"), token, ReleaseReason::Moved);
        assert_eq!(world.released(), []);
        assert!(guard.is_valid());
        drop(guard);
        assert_eq!(world.released(), [(partition("a"), token)]);
    }

    #[test]
    fn a_guard_dropped_too_early_is_reported_only_when_asked_for() {
        let mut world = world();
        let guard = world.acquire("a", 1);
        let token = guard.token();
        drop(guard);
        assert_eq!(world.released(), []);
        world.application.release(&partition("a"), token, ReleaseReason::Moved);
        assert_eq!(world.released(), [(partition("a"), token)]);
    }

    #[test]
    fn an_eviction_and_a_cancellation_do_not_wait_for_the_application() {
        let mut world = world();
        let [evicted, cancelled] = ["a", "b"].map(|id| world.acquire(id, 1));
        let token = evicted.token();
        world.application.release(&partition("a"), token, ReleaseReason::Evicted);
        world.application.release(&partition("b"), token, ReleaseReason::Moved);
        world.application.cancel(partition("b"), token);
        assert_eq!(world.released(), [(partition("a"), token), (partition("b"), token)]);
        assert!(!evicted.is_valid() && !cancelled.is_valid());
        // A second cancellation, and the guards' own ends, find nothing left to report.
        world.application.cancel(partition("b"), token);
        drop((evicted, cancelled));
        assert_eq!(world.released(), []);
    }

    #[test]
    fn a_suspension_ends_what_was_being_released_and_keeps_the_rest() {
        let mut world = world();
        let [kept, released] = ["a", "b"].map(|id| world.acquire(id, 1));
        let token = kept.token();
        world.application.release(&partition("b"), token, ReleaseReason::Moved);
        world.application.suspend(SuspendReason::ConnectionLost);
        assert_eq!(world.released(), [(partition("b"), token)]);
        assert!(!kept.is_valid() && !released.is_valid());
        world.application.resume();
        assert!(kept.is_valid() && !released.is_valid());
    }

    #[test]
    fn a_release_during_a_suspension_gives_no_right_and_its_guard_may_finish_afterwards() {
        let mut world = world();
        let [first, second] = ["a", "b"].map(|id| world.acquire(id, 1));
        let token = first.token();
        world.application.suspend(SuspendReason::LeaseRanOut);
        for id in ["a", "b"] {
            world.application.release(&partition(id), token, ReleaseReason::Leaving);
        }
        // The lease is long, and yet nothing may be done.
        assert!(!first.is_valid() && !second.is_valid());
        drop(second);
        assert_eq!(world.released(), [(partition("b"), token)]);
        world.application.resume();
        assert!(first.is_valid());
        drop(first);
        assert_eq!(world.released(), [(partition("a"), token)]);
    }

    #[test]
    fn what_nobody_works_on_is_offered_again_with_the_same_token() {
        let mut world = world();
        let guard = world.acquire("a", 1);
        let (token, weight) = (guard.token(), guard.weight());
        guard.fail("a bug");
        assert_eq!(world.released(), []);
        let due = world.application.deadline().expect("it is offered again");
        world.application.offer_again(due);
        world.application.tell();
        let Some(Change::Acquired(again)) = world.changes.try_recv().expect("told").pop() else {
            panic!("expected a guard");
        };
        assert_eq!((again.token(), again.weight(), again.is_valid()), (token, weight, true));
        world.application.release(&partition("a"), token, ReleaseReason::Moved);
        assert_eq!(world.released(), [], "its new handler works");
        drop(again);
        assert_eq!(world.released(), [(partition("a"), token)]);
        assert_eq!(world.application.deadline(), None);
    }

    #[test]
    fn who_is_about_to_stop_is_offered_nothing() {
        let mut world = world();
        let guard = world.acquire("a", 1);
        let token = guard.token();
        world.application.observe_stopping(true);
        drop(guard);
        assert_eq!(world.released(), []);
        assert_eq!(world.application.deadline(), None);
        world.application.release(&partition("a"), token, ReleaseReason::Leaving);
        assert_eq!(world.released(), [(partition("a"), token)]);
    }

    #[test]
    fn a_guard_ends_with_the_worker() {
        let mut world = world();
        let guard = world.acquire("a", 1);
        drop(world);
        assert!(!guard.is_valid());
    }

    #[test]
    fn the_end_of_an_older_guard_says_nothing_about_a_newer_one() {
        let mut world = world();
        let old = world.acquire("a", 1);
        world.application.release(&partition("a"), old.token(), ReleaseReason::Evicted);
        assert_eq!(world.released().len(), 1);
        let new = world.acquire("a", 2);
        world.application.release(&partition("a"), new.token(), ReleaseReason::Moved);
        drop(old);
        assert_eq!(world.released(), []);
        assert!(new.is_valid());
    }
}
