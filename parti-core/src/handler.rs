//! What a handler of one partition may use and say, whoever runs it: a worker of a service, or a simulated one in a test.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use crate::action::ReleaseReason;
use crate::ids::Token;
use crate::partition::{PartitionId, PartitionList, Weight};
use crate::time::{Duration, Instant};

/// The right to work on one partition, as a handler uses it: `parti_nats::Guard` in a service, `parti_sim::kit::Guard` in
/// a test. A handler that is written for any of them runs in both.
///
/// ```
/// use std::time::Duration;
/// use parti_core::PartitionGuard;
///
/// async fn work(guard: impl PartitionGuard) {
///     while guard.may_work().await {
///         // One unit of work on guard.partition(); send guard.token() along with what it writes.
///         guard.sleep(Duration::from_secs(1)).await;
///     }
/// } // Dropping the guard says that the work has stopped, so that the partition may go on to its next owner.
/// ```
///
/// Time goes through the guard ([`sleep`](Self::sleep), [`now`](Self::now)), so that a test can let it pass at once.
pub trait PartitionGuard: fmt::Debug + Send + Sync + Sized + 'static {
    /// Which partition.
    fn partition(&self) -> &PartitionId;

    /// The partition's weight when it was granted.
    fn weight(&self) -> Weight;

    /// The fencing token to send along with each write that is made on the partition's behalf.
    fn token(&self) -> Token;

    /// Whether work is allowed at this moment: not suspended, not over, and the lease has not run out by the clock. True
    /// while the partition is to be released but its work may still be finished.
    fn is_valid(&self) -> bool;

    /// Waits until another unit of work may begin, and returns true; or returns false when it is time to drop the guard.
    /// Waits out suspensions. Cancel-safe.
    fn may_work(&self) -> impl Future<Output = bool> + Send;

    /// Returns as soon as the work must stop at once, finished or not: see [`is_valid`](Self::is_valid). Cancel-safe.
    fn interrupted(&self) -> impl Future<Output = ()> + Send;

    /// Returns as soon as the partition is to be given up: finish what was begun, then drop the guard. Says why, or `None`
    /// if there is no time to finish anything. Cancel-safe.
    fn released(&self) -> impl Future<Output = Option<ReleaseReason>> + Send;

    /// Waits for so long. Cancel-safe.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// The time by the clock that [`sleep`](Self::sleep) goes by.
    fn now(&self) -> Instant;

    /// Says how heavy the partition is at present, from 1 to [`MAX_LOAD`](crate::MAX_LOAD), in units that are the same for
    /// all workers, such as messages a minute. Where the list [measures](crate::Partition::measured) it, that takes the
    /// place of its weight, smoothed over [`Config::load_half_life`](crate::Config::load_half_life); elsewhere it changes
    /// nothing. Units of which a partition has about a hundred are fine enough.
    ///
    /// Report at least eight times in a half-life. Cheap: at most one report of a second is taken in. 0, and what is more
    /// than the most, changes nothing, and is counted.
    fn report_load(&self, units: u64);

    /// Says that the work cannot go on, and why, for people. Unless the partition is to be given up anyway, it is offered
    /// again or handed over, see [`RetryPolicy`](crate::RetryPolicy). To return an error from the handler does the same.
    fn fail(self, reason: impl Into<String>);

    /// Says that the work has stopped, and that another worker should have the partition.
    fn give_back(self);

    /// Does `work`, which takes longer than a moment, and drops it unfinished where the work must stop at once: then
    /// there is no outcome, [`may_work`](Self::may_work) tells whether to try again later, and the work may have been
    /// done in part. Cancel-safe if `work` is.
    fn unless_interrupted<W>(&self, work: W) -> impl Future<Output = Option<W::Output>> + Send
    where
        W: Future + Send,
        W::Output: Send,
    {
        unless(self.interrupted(), work)
    }
}

/// Does `work`, and drops it unfinished when `over` ends first.
pub(crate) async fn unless<W: Future>(over: impl Future<Output = ()>, work: W) -> Option<W::Output> {
    let (mut over, mut work) = (pin!(over), pin!(work));
    poll_fn(|context| {
        if over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// What a handler returns: nothing, or a result whose error says why the work cannot go on.
pub trait HandlerResult {
    /// Why the work cannot go on, if that is so.
    fn failure(self) -> Option<String>;
}

impl HandlerResult for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> HandlerResult for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// How the work on a partition has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerEnd {
    /// The guard was dropped.
    Dropped,
    /// The handler could not go on, and why.
    Failed(String),
    /// The handler wants another worker to have the partition.
    GivenBack,
}

/// What the holder of a guard may do. Whoever runs workers keeps one for each hold, and tells it what the core asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Work.
    Active,
    /// Wait.
    Suspended,
    /// Finish what was begun.
    Releasing(ReleaseReason),
    /// Finish nothing now: the partition is to be given up, and all work is suspended.
    ReleasingSuspended(ReleaseReason),
    /// Nothing more.
    Ended,
}

impl Permission {
    /// That of a new hold.
    pub const fn new(suspended: bool) -> Self {
        if suspended { Self::Suspended } else { Self::Active }
    }

    /// When the partition is to be released.
    pub const fn releasing(reason: ReleaseReason, suspended: bool) -> Self {
        if suspended { Self::ReleasingSuspended(reason) } else { Self::Releasing(reason) }
    }

    /// After [`Action::Suspend`](crate::Action::Suspend): what was being released is over with that.
    #[must_use]
    pub const fn suspended(self) -> Self {
        match self {
            Self::Active | Self::Suspended => Self::Suspended,
            Self::Releasing(_) | Self::Ended => Self::Ended,
            Self::ReleasingSuspended(reason) => Self::ReleasingSuspended(reason),
        }
    }

    /// After [`Action::Resume`](crate::Action::Resume).
    #[must_use]
    pub const fn resumed(self) -> Self {
        match self {
            Self::Active | Self::Suspended => Self::Active,
            Self::Releasing(reason) | Self::ReleasingSuspended(reason) => Self::Releasing(reason),
            Self::Ended => Self::Ended,
        }
    }

    /// Whether work is allowed, as long as the lease lasts.
    pub const fn may_act(self) -> bool {
        match self {
            Self::Active | Self::Releasing(_) => true,
            Self::Suspended | Self::ReleasingSuspended(_) | Self::Ended => false,
        }
    }

    /// Whether the partition is to stay here.
    pub const fn is_kept(self) -> bool {
        match self {
            Self::Active | Self::Suspended => true,
            Self::Releasing(_) | Self::ReleasingSuspended(_) | Self::Ended => false,
        }
    }

    /// Why it is to be released, if it is and something may still be finished.
    pub const fn release_reason(self) -> Option<ReleaseReason> {
        match self {
            Self::Releasing(reason) | Self::ReleasingSuspended(reason) => Some(reason),
            Self::Active | Self::Suspended | Self::Ended => None,
        }
    }
}

/// What a source says when it fails. Any error turns into it with `?`.
pub type SourceError = Box<dyn core::error::Error + Send + Sync>;

/// A place that has the list of partitions, such as a database or a configuration service.
///
/// Every worker of a group reads it, and whichever leads divides what it has read last. An error changes nothing: it is
/// said, the last good list stays, and the source is read again after a while; so it is after a panic. An empty list is no
/// error: it takes all partitions from everyone.
///
/// ```
/// use std::time::Duration;
/// use parti_core::{Partition, PartitionId, PartitionList, Source, SourceError};
///
/// /// One partition for each line of a file.
/// struct Lines(std::path::PathBuf);
///
/// impl Source for Lines {
///     async fn read(&mut self) -> Result<PartitionList, SourceError> {
///         let text = std::fs::read_to_string(&self.0)?;
///         let partitions = text.lines().map(|line| PartitionId::new(line).map(Partition::new));
///         Ok(PartitionList::new(partitions.collect::<Result<_, _>>()?)?)
///     }
/// }
/// ```
pub trait Source: Send + 'static {
    /// The list as it is now. Asked for at the start, whenever [`changed`](Self::changed) returns, and when the service
    /// wants it read again. It must end by itself.
    ///
    /// # Errors
    ///
    /// Whatever stands between the source and its list.
    fn read(&mut self) -> impl Future<Output = Result<PartitionList, SourceError>> + Send;

    /// Returns when the list may have changed, be it only because time has passed; never by default. It must be
    /// cancel-safe: it is dropped and called anew when somebody asks for a refresh. The test kit does not ask it: there
    /// time passes at once, and the source is read from time to time.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        core::future::pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_ends_what_was_being_released_and_nothing_else() {
        let moved = ReleaseReason::Moved;
        assert_eq!(Permission::new(false).suspended(), Permission::Suspended);
        assert_eq!(Permission::Suspended.resumed(), Permission::Active);
        assert_eq!(Permission::Releasing(moved).suspended(), Permission::Ended);
        assert_eq!(Permission::releasing(moved, true).suspended(), Permission::ReleasingSuspended(moved));
        assert_eq!(Permission::releasing(moved, true).resumed(), Permission::Releasing(moved));
        assert_eq!(Permission::Ended.resumed(), Permission::Ended);
    }

    #[test]
    fn an_error_says_why_a_handler_has_failed() {
        assert_eq!(().failure(), None);
        assert_eq!(Ok::<_, &str>(()).failure(), None);
        assert_eq!(Err::<(), _>("the database is away").failure(), Some("the database is away".into()));
    }
}
