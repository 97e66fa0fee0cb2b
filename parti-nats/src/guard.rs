//! The right to work on one partition, as the application holds it.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use parti_core::{
    Event, HandlerEnd, Instant, Partition, PartitionGuard, PartitionId, Permission, ReleaseReason, Token, Weight,
};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::input::Input;

/// How often a guard whose lease has run out looks whether it was renewed.
const RENEWAL_CHECK: Duration = Duration::from_millis(20);

/// How often a report of load is taken in.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// The right to work on one partition, from its acquisition until it is dropped.
///
/// The simplest handler asks before each unit of work, and drops the guard when the answer is no:
///
/// ```
/// # async fn one_unit_of_work(_: &str, _: parti_nats::Token) {}
/// async fn handle(guard: parti_nats::Guard) {
///     while guard.may_work().await {
///         one_unit_of_work(guard.partition().as_str(), guard.token()).await;
///     }
/// } // Dropping the guard says that the work has stopped, so that the partition may go on to its next owner.
/// ```
///
/// A unit of work that takes longer than a moment goes into
/// [`unless_interrupted`](PartitionGuard::unless_interrupted), or is raced against [`interrupted`](Self::interrupted). A
/// handler that takes an `impl PartitionGuard` runs in the test kit as well, see [`PartitionGuard`].
///
/// # Messages of a stream
///
/// Exactly one worker at a time works on the messages of a partition, in order, none is skipped, and after a crash only
/// what was not committed comes again:
///
/// ```no_run
/// use futures_util::StreamExt;
/// use parti_nats::async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
/// use parti_nats::async_nats::Error;
/// use parti_nats::async_nats::jetstream::{self, kv};
/// use parti_nats::{Fence, FenceError, Guard, Token};
///
/// async fn consume(guard: Guard, jetstream: jetstream::Context, positions: kv::Store) -> Result<(), Error> {
///     let id = guard.partition().as_str();
///     let fence = Fence::new(jetstream.clone(), guard.token());
///     // Before the first message: from here on what a former owner still commits is refused.
///     let claimed = fence.claim(&positions, id).await?;
///     let mut done: u64 = if claimed.is_empty() { 0 } else { std::str::from_utf8(&claimed)?.parse()? };
///     let orders = jetstream.get_stream("ORDERS").await?;
///     while guard.may_work().await {
///         // Anew after each suspension: what an old consumer has fetched may be another's by now.
///         let from = DeliverPolicy::ByStartSequence { start_sequence: done + 1 };
///         let filter_subject = format!("orders.{id}");
///         let config = OrderedConfig { deliver_policy: from, filter_subject, ..OrderedConfig::default() };
///         let mut messages = orders.create_consumer(config).await?.messages().await?;
///         loop {
///             let message = tokio::select! {
///                 () = guard.interrupted() => break, // suspended, or over
///                 _ = guard.released() => break,     // nothing new is begun
///                 message = messages.next() => message.ok_or("the consumer has ended")??,
///             };
///             tokio::select! {
///                 () = guard.interrupted() => break, // not committed: it comes again, here or elsewhere
///                 worked = work(&message.payload, guard.token()) => worked?,
///             }
///             let sequence = message.info()?.stream_sequence;
///             match fence.put(&positions, id, sequence.to_string()).await {
///                 Ok(_) => done = sequence,
///                 Err(FenceError::Fenced { .. }) => return Ok(()), // another has the partition
///                 Err(error) => return Err(error.into()),
///             }
///         }
///     }
///     Ok(())
/// } // The guard is dropped: the partition goes on, or after an error is offered again.
/// # async fn work(_: &[u8], _: Token) -> Result<(), Error> { Ok(()) }
/// # fn can_be_spawned(guard: Guard, jetstream: jetstream::Context, positions: kv::Store) {
/// #     tokio::spawn(consume(guard, jetstream, positions));
/// # }
/// ```
///
/// # When it is dropped
///
/// A guard that is dropped although nobody asked for it, be it by a panic, leaves its partition with this worker, without
/// anyone working on it. That is said, and after a while the partition is offered again, see
/// [`RetryPolicy`](crate::RetryPolicy).
pub struct Guard {
    partition: Partition,
    token: Token,
    permission: watch::Receiver<Permission>,
    /// What the permission says, without its lock.
    may_act: Arc<AtomicBool>,
    lease: Arc<Lease>,
    farewell: Arc<Farewell>,
    /// When the next report of load is taken in, in nanoseconds by the clock.
    load_at: AtomicU64,
}

/// What is said when the work of a guard has stopped: as soon as nobody has this any more.
#[derive(Debug)]
pub(crate) struct Farewell {
    partition: PartitionId,
    token: Token,
    inputs: mpsc::UnboundedSender<Input>,
    end: Mutex<HandlerEnd>,
}

/// The worker's side of a guard: what its owner may do.
#[derive(Debug)]
pub(crate) struct Permit {
    permission: watch::Sender<Permission>,
    /// What the permission says, for who asks often.
    may_act: Arc<AtomicBool>,
}

/// Until when this worker may act, by its own clock; shared with every guard.
#[derive(Debug, Default)]
pub(crate) struct Lease(AtomicU64);

impl Guard {
    pub(crate) fn new(
        partition: Partition,
        token: Token,
        permit: &Permit,
        lease: Arc<Lease>,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let (permission, may_act) = (permit.permission.subscribe(), Arc::clone(&permit.may_act));
        let end = Mutex::new(HandlerEnd::Dropped);
        let farewell = Arc::new(Farewell { partition: partition.id.clone(), token, inputs, end });
        Self { partition, token, permission, may_act, lease, farewell, load_at: AtomicU64::new(0) }
    }

    /// Keeps what is said until whoever runs the handler knows how it has ended.
    pub(crate) fn farewell(&self) -> Arc<Farewell> {
        Arc::clone(&self.farewell)
    }

    /// Which partition.
    pub fn partition(&self) -> &PartitionId {
        &self.partition.id
    }

    /// The partition's weight when it was granted.
    pub fn weight(&self) -> Weight {
        self.partition.weight
    }

    /// The fencing token to send along with each write that is made on the partition's behalf.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether work is allowed at this moment: not suspended, not over, and the lease has not run out by the clock.
    ///
    /// True while the partition is to be released but its work may still be finished. Cheap, without a lock, and right
    /// even if nothing else in the process gets to run.
    pub fn is_valid(&self) -> bool {
        self.may_act.load(Ordering::Acquire) && self.lease.is_valid()
    }

    /// Waits until another unit of work may begin, and returns true; or returns false when it is time to drop the
    /// guard. Waits out suspensions. Cancel-safe.
    pub async fn may_work(&self) -> bool {
        let mut permission = self.permission.clone();
        loop {
            let seen = *permission.borrow_and_update();
            match seen {
                Permission::Active if self.lease.is_valid() => return true,
                Permission::Active | Permission::Suspended => {}
                Permission::Releasing(_) | Permission::ReleasingSuspended(_) | Permission::Ended => return false,
            }
            tokio::select! {
                changed = permission.changed() => if changed.is_err() { return false },
                // A lease that ran out can be renewed before anybody has noticed that it had.
                () = tokio::time::sleep(RENEWAL_CHECK), if seen == Permission::Active => {}
            }
        }
    }

    /// Returns as soon as the work must stop at once, finished or not: see [`is_valid`](Self::is_valid). Cancel-safe.
    ///
    /// Afterwards [`may_work`](Self::may_work) tells whether the guard is to be dropped or the work goes on later.
    pub async fn interrupted(&self) {
        let mut told = pin!(self.told());
        // A timer fires once the runtime has looked at its clock, and a process that was frozen first polls what was ready
        // before: the lease is looked at whenever this is polled, or work would end after another worker has begun it.
        poll_fn(|context| if self.lease.is_valid() { told.as_mut().poll(context) } else { Poll::Ready(()) }).await;
    }

    /// Returns once the work must stop, as far as somebody has said so or a timer has fired.
    async fn told(&self) {
        let mut permission = self.permission.clone();
        while self.lease.is_valid() {
            tokio::select! {
                // An error means that the worker is gone.
                _ = permission.wait_for(|permission| !permission.may_act()) => return,
                // The driver wakes sooner after a sleep of the machine, and says so.
                () = clock::sleep_until(Some(self.lease.until()), clock::LONGEST_WAIT) => {}
            }
        }
    }

    /// Returns as soon as the partition is to be given up: finish what was begun, then drop the guard. Says why, or
    /// `None` if there is no time to finish anything. Cancel-safe.
    pub async fn released(&self) -> Option<ReleaseReason> {
        let mut permission = self.permission.clone();
        let over = permission.wait_for(|permission| !permission.is_kept()).await;
        // An error means that the worker is gone.
        over.ok().and_then(|permission| permission.release_reason())
    }

    /// Says how heavy the partition is at present, from 1 to [`MAX_LOAD`](crate::MAX_LOAD), in units that are the same for
    /// all workers, such as messages a minute: see [`PartitionGuard::report_load`]. Cheap: at most one report of a second
    /// is taken in, whoever makes it.
    ///
    /// ```
    /// # async fn requests_of_a_minute(_: &str) -> u64 { 7 }
    /// async fn handle(guard: parti_nats::Guard) {
    ///     while guard.may_work().await {
    ///         guard.report_load(requests_of_a_minute(guard.partition().as_str()).await);
    ///     }
    /// }
    /// ```
    pub fn report_load(&self, units: u64) {
        let now = clock::now();
        let due = self.load_at.load(Ordering::Relaxed);
        let next = (now + LOAD_EVERY).as_nanos();
        let is_first = || self.load_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now.as_nanos() >= due && is_first() {
            let (partition, token) = (self.partition.id.clone(), self.token);
            // An error means that the worker is gone, and nobody divides by it.
            let _ = self.farewell.inputs.send(Input::Event(Event::Load { partition, token, units }));
        }
    }

    /// Says that the work has stopped; the same as dropping the guard.
    pub fn finish(self) {}

    /// Says that the work cannot go on, and why, for people. Unless the partition is to be given up anyway, it is offered
    /// again or handed over, as [`Builder::retry`](crate::Builder::retry) says. A guard that is dropped by a panic does
    /// the same.
    pub fn fail(self, reason: impl Into<String>) {
        self.farewell.say(HandlerEnd::Failed(reason.into()));
    }

    /// Says that the work has stopped, and that another worker should have the partition. Where there is none that may
    /// have it and has not given it back itself, it stays, and is offered again here after a while. It does not come
    /// back for a minute.
    pub fn give_back(self) {
        self.farewell.say(HandlerEnd::GivenBack);
    }
}

/// So that one handler runs over NATS and in the test kit.
impl PartitionGuard for Guard {
    fn partition(&self) -> &PartitionId {
        self.partition()
    }

    fn weight(&self) -> Weight {
        self.weight()
    }

    fn token(&self) -> Token {
        self.token()
    }

    fn is_valid(&self) -> bool {
        self.is_valid()
    }

    async fn may_work(&self) -> bool {
        self.may_work().await
    }

    async fn interrupted(&self) {
        self.interrupted().await;
    }

    async fn released(&self) -> Option<ReleaseReason> {
        self.released().await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Instant {
        clock::now()
    }

    fn report_load(&self, units: u64) {
        self.report_load(units);
    }

    fn fail(self, reason: impl Into<String>) {
        self.fail(reason);
    }

    fn give_back(self) {
        self.give_back();
    }
}

/// For people: which partition, under which token, and what may be done with it.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = match *self.permission.borrow() {
            Permission::Active if self.lease.is_valid() => "work",
            Permission::Active | Permission::Suspended | Permission::ReleasingSuspended(_) => "wait",
            Permission::Releasing(_) => "finish what was begun",
            Permission::Ended => "nothing more",
        };
        f.debug_struct("Guard")
            .field("partition", &self.partition.id)
            .field("token", &format_args!("{}", self.token))
            .field("may", &format_args!("{may}"))
            .finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.farewell.say(HandlerEnd::Failed("its handler has panicked".into()));
        }
    }
}

impl Farewell {
    /// How the work has ended, unless that was said before.
    pub(crate) fn say(&self, end: HandlerEnd) {
        let mut said = self.end();
        if *said == HandlerEnd::Dropped {
            *said = end;
        }
    }

    /// Nobody panics while they have it.
    fn end(&self) -> MutexGuard<'_, HandlerEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let end = self.end().clone();
        let (partition, token) = (self.partition.clone(), self.token);
        // An error means that the worker is gone, and nobody waits for this.
        let _ = self.inputs.send(Input::Finished { partition, token, end });
    }
}

impl Permit {
    pub(crate) fn new(permission: Permission) -> Self {
        let may_act = Arc::new(AtomicBool::new(permission.may_act()));
        Self { permission: watch::Sender::new(permission), may_act }
    }

    pub(crate) fn permission(&self) -> Permission {
        *self.permission.borrow()
    }

    pub(crate) fn set(&self, permission: Permission) {
        self.may_act.store(permission.may_act(), Ordering::Release);
        self.permission.send_if_modified(|before| std::mem::replace(before, permission) != permission);
    }
}

/// Without the worker's side there is no right, whatever the lease says: the worker's loop has ended, be it by a panic.
impl Drop for Permit {
    fn drop(&mut self) {
        self.set(Permission::Ended);
    }
}

impl Lease {
    /// Sets the time at which the right to act ends; `None` if there is none now.
    pub(crate) fn set(&self, until: Option<Instant>) {
        self.0.store(until.map_or(0, Instant::as_nanos), Ordering::Release);
    }

    /// Ends the right to act at `until`, if it does not end before; `None` is now.
    pub(crate) fn end_by(&self, until: Option<Instant>) {
        self.0.fetch_min(until.map_or(0, Instant::as_nanos), Ordering::AcqRel);
    }

    fn until(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn is_valid(&self) -> bool {
        clock::now() < self.until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Change;
    use crate::clock::soon;

    fn guard(lease: &Arc<Lease>) -> (Guard, Permit, mpsc::UnboundedReceiver<Input>) {
        let permit = Permit::new(Permission::Active);
        let (inputs, finished) = mpsc::unbounded_channel();
        let partition = Partition::new(PartitionId::new("p").expect("a valid id"));
        (Guard::new(partition, Token::default(), &permit, Arc::clone(lease), inputs), permit, finished)
    }

    fn lease(length: Duration) -> Arc<Lease> {
        let lease = Arc::new(Lease::default());
        lease.set(Some(clock::now() + length));
        lease
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn the_lease_ends_the_right_though_nobody_says_so() {
        let lease = lease(LONG);
        let (guard, _permit, _inputs) = guard(&lease);
        assert!(guard.is_valid());
        lease.set(Some(clock::now() + Duration::from_millis(100)));
        soon(guard.interrupted()).await;
        assert!(!guard.is_valid());
    }

    #[tokio::test]
    async fn a_lease_that_ran_out_while_the_process_was_frozen_interrupts_before_any_timer_has_fired() {
        let lease = lease(LONG);
        let (guard, _permit, _inputs) = guard(&lease);
        let mut interrupted = pin!(guard.interrupted());
        let polled = poll_fn(|context| Poll::Ready(interrupted.as_mut().poll(context).is_ready()));
        assert!(!polled.await);
        // Nothing in between lets the runtime look at its clock, and nobody has said anything.
        lease.set(Some(clock::now()));
        let polled = poll_fn(|context| Poll::Ready(interrupted.as_mut().poll(context).is_ready()));
        assert!(polled.await);
    }

    #[tokio::test]
    async fn a_suspended_guard_waits_and_goes_on_with_the_same_token() {
        let (guard, permit, _inputs) = guard(&lease(LONG));
        assert!(soon(guard.may_work()).await);
        permit.set(Permission::Suspended);
        // The lease is long, and yet the right is gone.
        assert!(!guard.is_valid());
        soon(guard.interrupted()).await;
        let waiting = tokio::spawn(async move { soon(guard.may_work()).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        permit.set(Permission::Active);
        assert!(soon(waiting).await.expect("no panic"));
    }

    #[tokio::test]
    async fn a_guard_to_be_released_is_valid_until_it_ends_and_dropping_it_says_so() {
        let (guard, permit, mut inputs) = guard(&lease(LONG));
        permit.set(Permission::Releasing(ReleaseReason::Moved));
        assert_eq!(soon(guard.released()).await, Some(ReleaseReason::Moved));
        assert!(guard.is_valid());
        assert!(!soon(guard.may_work()).await);
        permit.set(Permission::Ended);
        soon(guard.interrupted()).await;
        assert_eq!(soon(guard.released()).await, None);
        assert!(inputs.try_recv().is_err());
        guard.finish();
        assert!(matches!(inputs.try_recv(), Ok(Input::Finished { .. })));
    }

    #[tokio::test]
    async fn a_guard_of_a_worker_that_is_gone_ends() {
        // As in `Available` mode, where no lease ends the right.
        let lease = Arc::new(Lease::default());
        lease.set(Some(Instant::from_nanos(u64::MAX)));
        let (guard, permit, inputs) = guard(&lease);
        assert!(guard.is_valid());
        drop((permit, inputs));
        assert!(!guard.is_valid());
        assert!(!soon(guard.may_work()).await);
        soon(guard.interrupted()).await;
        assert_eq!(soon(guard.released()).await, None);
    }

    #[tokio::test]
    async fn a_guard_to_be_released_while_work_is_suspended_is_not_valid_before_work_goes_on() {
        let (guard, permit, _inputs) = guard(&lease(LONG));
        permit.set(Permission::ReleasingSuspended(ReleaseReason::Moved));
        // The lease is long, and yet there is no right.
        assert!(!guard.is_valid() && !soon(guard.may_work()).await);
        soon(guard.interrupted()).await;
        assert_eq!(soon(guard.released()).await, Some(ReleaseReason::Moved));
        permit.set(Permission::Releasing(ReleaseReason::Moved));
        assert!(guard.is_valid());
    }

    #[tokio::test]
    async fn a_guard_shows_people_what_it_is_for_and_what_it_allows() {
        let (guard, permit, _inputs) = guard(&lease(LONG));
        let token = "0000000000000000-0000000000000000-0000000000000000";
        assert_eq!(format!("{guard:?}"), format!(r#"Guard {{ partition: "p", token: {token}, may: work, .. }}"#));
        permit.set(Permission::Releasing(ReleaseReason::Moved));
        assert!(format!("{:?}", Change::Acquired(guard)).contains("may: finish what was begun"));
    }

    #[test]
    fn of_the_reports_of_a_second_one_is_taken_in() {
        let (guard, _permit, mut inputs) = guard(&lease(LONG));
        for units in 5..100 {
            guard.report_load(units);
        }
        let first = inputs.try_recv().expect("a report");
        assert!(matches!(first, Input::Event(Event::Load { units: 5, token, .. }) if token == guard.token()));
        assert!(inputs.try_recv().is_err(), "one is enough");
    }

    #[test]
    fn a_guard_says_how_it_came_to_its_end() {
        let end = |ends: &dyn Fn(Guard)| {
            let (guard, _permit, mut inputs) = guard(&lease(LONG));
            ends(guard);
            match inputs.try_recv() {
                Ok(Input::Finished { end, .. }) => end,
                other => panic!("expected an end, got {other:?}"),
            }
        };
        assert_eq!(end(&|guard| drop(guard)), HandlerEnd::Dropped);
        assert_eq!(end(&|guard| guard.fail("a bug")), HandlerEnd::Failed("a bug".into()));
        assert_eq!(end(&Guard::give_back), HandlerEnd::GivenBack);
        let panics = |guard: Guard| {
            let handler = std::thread::spawn(move || {
                let _guard = guard;
                panic!("a bug");
            });
            assert!(handler.join().is_err());
        };
        assert_eq!(end(&panics), HandlerEnd::Failed("its handler has panicked".into()));
    }

    #[test]
    fn the_end_of_a_lease_is_only_ever_brought_forward() {
        let lease = Lease::default();
        lease.end_by(Some(Instant::from_millis(7)));
        assert_eq!(lease.until(), Instant::ORIGIN);
        lease.set(Some(Instant::from_millis(7)));
        lease.end_by(Some(Instant::from_millis(9)));
        assert_eq!(lease.until(), Instant::from_millis(7));
        lease.end_by(None);
        assert_eq!(lease.until(), Instant::ORIGIN);
    }
}
