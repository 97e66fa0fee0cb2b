//! The right to work on one partition, as a handler holds it under virtual time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parti_core::{
    HandlerEnd, Instant, Partition, PartitionGuard, PartitionId, Permission, ReleaseReason, Token, Weight,
};

use super::seen::Life;
use crate::world::clock::Moment;

/// How often a guard whose lease has run out looks whether it was renewed.
const RENEWAL_CHECK: Duration = Duration::from_millis(20);

/// The right to work on one partition in a simulated cluster: the same as `parti_nats::Guard`, under virtual time. See
/// [`PartitionGuard`].
pub struct Guard {
    task: TaskId,
    life: Life,
    partition: Partition,
    token: Token,
    desk: Arc<Desk>,
    /// What is said when it is dropped.
    end: HandlerEnd,
}

/// One run of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(super) u64);

/// Where guards look for what they may do and what time it is, and leave word when they are dropped. Never locked while
/// a handler runs.
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    now: Moment,
    rights: BTreeMap<TaskId, Right>,
    alarms: BTreeMap<(Moment, u64), Waker>,
    /// How many alarms were ever set.
    alarms_set: u64,
    ended: Vec<(TaskId, HandlerEnd)>,
    /// What was reported of loads.
    loads: Vec<(TaskId, u64)>,
}

/// What the holder of one guard may do.
#[derive(Debug)]
struct Right {
    permission: Permission,
    /// When the lease ends, by the newest that its process knows.
    until: Moment,
    waiting: Vec<Waker>,
}

impl Guard {
    pub(super) fn new(task: TaskId, life: Life, partition: Partition, token: Token, desk: Arc<Desk>) -> Self {
        Self { task, life, partition, token, desk, end: HandlerEnd::Dropped }
    }

    /// Which run of a handler it is for.
    pub(super) const fn task(&self) -> TaskId {
        self.task
    }

    /// In which process of the cluster it is.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// What may be done now, and whether the lease lasts.
    fn right(&self) -> (Permission, bool) {
        let books = self.desk.books();
        books
            .rights
            .get(&self.task)
            .map_or((Permission::Ended, false), |right| (right.permission, books.now < right.until))
    }

    /// Waits until what may be done is as `wanted`.
    async fn until(&self, wanted: impl Fn(Permission, bool) -> bool) -> Permission {
        poll_fn(|context| {
            let (permission, lasts) = self.right();
            if wanted(permission, lasts) {
                return Poll::Ready(permission);
            }
            self.desk.wait(self.task, context.waker());
            Poll::Pending
        })
        .await
    }
}

impl PartitionGuard for Guard {
    fn partition(&self) -> &PartitionId {
        &self.partition.id
    }

    fn weight(&self) -> Weight {
        self.partition.weight
    }

    fn token(&self) -> Token {
        self.token
    }

    fn is_valid(&self) -> bool {
        let (permission, lasts) = self.right();
        permission.may_act() && lasts
    }

    async fn may_work(&self) -> bool {
        loop {
            let permission = self.until(|permission, _| permission != Permission::Suspended).await;
            if !permission.is_kept() {
                return false;
            }
            if self.is_valid() {
                return true;
            }
            // A lease that ran out can be renewed before anybody has noticed that it had.
            self.sleep(RENEWAL_CHECK).await;
        }
    }

    async fn interrupted(&self) {
        self.until(|permission, lasts| !(permission.may_act() && lasts)).await;
    }

    async fn released(&self) -> Option<ReleaseReason> {
        self.until(|permission, _| !permission.is_kept()).await.release_reason()
    }

    async fn sleep(&self, time: Duration) {
        let until = self.desk.books().now + time;
        Sleep { desk: &self.desk, until, alarm: None }.await;
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.desk.books().now.as_nanos())
    }

    fn report_load(&self, units: u64) {
        self.desk.books().loads.push((self.task, units));
    }

    fn fail(mut self, reason: impl Into<String>) {
        self.end = HandlerEnd::Failed(reason.into());
    }

    fn give_back(mut self) {
        self.end = HandlerEnd::GivenBack;
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("partition", &self.partition.id)
            .field("token", &format_args!("{}", self.token))
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, HandlerEnd::Dropped);
        self.desk.books().ended.push((self.task, end));
    }
}

/// Waits until a moment has come.
struct Sleep<'a> {
    desk: &'a Desk,
    until: Moment,
    alarm: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut books = self.desk.books();
        if books.now >= self.until {
            return Poll::Ready(());
        }
        let alarm = self.alarm.unwrap_or(books.alarms_set);
        books.alarms_set = books.alarms_set.max(alarm + 1);
        books.alarms.insert((self.until, alarm), context.waker().clone());
        drop(books);
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm {
            self.desk.books().alarms.remove(&(self.until, alarm));
        }
    }
}

impl Desk {
    /// Nobody panics while they have it.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler begins.
    pub(super) fn begin(&self, task: TaskId, permission: Permission) {
        let right = Right { permission, until: Moment::START, waiting: Vec::new() };
        self.books().rights.insert(task, right);
    }

    /// What a guard may do has changed.
    pub(super) fn permit(&self, task: TaskId, permission: Permission) {
        let mut books = self.books();
        let Some(right) = books.rights.get_mut(&task) else { return };
        right.permission = permission;
        let waiting = std::mem::take(&mut right.waiting);
        drop(books); // who is woken may look at it
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A handler is about to run: what time it is, and when its lease ends.
    pub(super) fn look(&self, now: Moment, task: TaskId, until: Moment) {
        let mut books = self.books();
        books.now = now;
        if let Some(right) = books.rights.get_mut(&task) {
            right.until = until;
        }
    }

    /// The guard of a handler is of no use any more.
    pub(super) fn forget(&self, task: TaskId) {
        self.books().rights.remove(&task);
    }

    fn wait(&self, task: TaskId, waker: &Waker) {
        if let Some(right) = self.books().rights.get_mut(&task)
            && !right.waiting.iter().any(|waiting| waiting.will_wake(waker))
        {
            right.waiting.push(waker.clone());
        }
    }

    /// When the next alarm is due.
    pub(super) fn next_alarm(&self) -> Option<Moment> {
        self.books().alarms.first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes all whose time has come.
    pub(super) fn ring(&self, now: Moment) {
        let mut books = self.books();
        books.now = now;
        let later = books.alarms.split_off(&(now + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut books.alarms, later);
        drop(books); // who is woken may look at it
        due.into_values().for_each(Waker::wake);
    }

    /// What was reported of loads since the last time.
    pub(super) fn take_loads(&self) -> Vec<(TaskId, u64)> {
        std::mem::take(&mut self.books().loads)
    }

    /// The guards that were dropped since the last time.
    pub(super) fn take_ended(&self) -> Vec<(TaskId, HandlerEnd)> {
        std::mem::take(&mut self.books().ended)
    }
}
