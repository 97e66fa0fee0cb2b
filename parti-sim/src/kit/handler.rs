//! What a user's application does with its partitions, in the simulated processes.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use parti_core::{Partition, PartitionId, ReleaseReason, SuspendReason, Token};

use crate::told::fact::ProcessId;
use crate::world::clock::Moment;

/// Longer than this, no drain takes: it is cancelled long before.
const ENDLESS: Duration = Duration::from_secs(24 * 3600);

/// Your application in one simulated process: told what a real worker would tell it, at the same moments.
///
/// Each process has a handler of its own. A process that crashes is never heard of again, and its handler is dropped
/// without a call, as memory is; what is to outlive it, such as a database, is shared between handlers by `Rc`. A
/// process that is frozen or has ended is not called. Every method has a default, which does nothing.
///
/// ```
/// use std::cell::RefCell;
/// use std::collections::BTreeMap;
/// use std::rc::Rc;
/// use parti_core::{PartitionId, Token};
/// use parti_sim::kit::{Cluster, Failure, Handler};
///
/// /// A database that outlives every process, and refuses tokens that are not the newest.
/// type Database = Rc<RefCell<BTreeMap<PartitionId, Token>>>;
///
/// struct Service(Database);
///
/// impl Handler for Service {
///     fn work(&mut self, partition: &PartitionId, token: Token) {
///         let mut database = self.0.borrow_mut();
///         let newest = database.entry(partition.clone()).or_default();
///         *newest = token.max(*newest);
///     }
/// }
///
/// # fn main() -> Result<(), Failure> {
/// let database = Database::default();
/// let shared = Rc::clone(&database);
/// let mut cluster = Cluster::of(2).partition_ids(["eu", "us"]).handler(move |_| Service(Rc::clone(&shared))).start()?;
/// cluster.settle()?;
/// cluster.finish()?;
/// assert_eq!(database.borrow().len(), 2, "both were worked on");
/// # Ok(())
/// # }
/// ```
pub trait Handler {
    /// This process may work on a partition from now on, and sends `token` along with all that it does for it.
    fn acquired(&mut self, partition: &Partition, token: Token) {
        let _ = (partition, token);
    }

    /// A partition will probably come: time to warm up, not to work.
    fn prepare(&mut self, partition: &PartitionId) {
        let _ = partition;
    }

    /// This process is to finish its work on a partition. Says how long that takes; until then it works on, and
    /// nobody else does. Longer than `release_timeout`, and [`cancelled`](Self::cancelled) follows.
    fn release(&mut self, partition: &PartitionId, token: Token, reason: ReleaseReason) -> Duration {
        let _ = (partition, token, reason);
        Duration::ZERO
    }

    /// A release took too long: what is left of the work is dropped now.
    fn cancelled(&mut self, partition: &PartitionId) {
        let _ = partition;
    }

    /// A release is over: the work on this partition has stopped.
    fn released(&mut self, partition: &PartitionId) {
        let _ = partition;
    }

    /// All work stops at once, and every partition stays here, to be gone on with or taken away. Releases that were
    /// under way end now.
    fn suspended(&mut self, reason: SuspendReason) {
        let _ = reason;
    }

    /// The work goes on, with the same tokens.
    fn resumed(&mut self) {}

    /// One unit of work for one partition, at about every [`work_every`](super::Setup::work_every).
    ///
    /// A process that was frozen between the check of its lease and its write does the write when it wakes, and its
    /// token may be overtaken by then: here is where a store behind `parti` must refuse it.
    fn work(&mut self, partition: &PartitionId, token: Token) {
        let _ = (partition, token);
    }

    /// The worker has left or restarts, having released everything; the process ends.
    fn stopped(&mut self) {}
}

/// Which process of the cluster a handler is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The number of the worker, counted from 0 in order of the first starts.
    pub worker: u32,
    /// How many processes this worker had before this one.
    pub restarts: u32,
}

/// What a handler was told, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How long after the start of the cluster.
    pub at: Duration,
    /// Which worker's process was told.
    pub life: Life,
    /// What.
    pub call: Call,
}

/// What a handler was told; each is a method of [`Handler`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Handler::acquired`].
    Acquired {
        /// Which partition.
        partition: PartitionId,
        /// The token of this hold.
        token: Token,
    },
    /// [`Handler::prepare`].
    Prepare {
        /// Which partition.
        partition: PartitionId,
    },
    /// [`Handler::release`].
    Release {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        reason: ReleaseReason,
        /// How long the handler said that it takes.
        takes: Duration,
    },
    /// [`Handler::cancelled`].
    Cancelled {
        /// Which partition.
        partition: PartitionId,
    },
    /// [`Handler::released`].
    Released {
        /// Which partition.
        partition: PartitionId,
    },
    /// [`Handler::suspended`].
    Suspended {
        /// Why.
        reason: SuspendReason,
    },
    /// [`Handler::resumed`].
    Resumed,
    /// [`Handler::stopped`].
    Stopped,
}

/// Makes the handler of a process.
pub(super) type MakeHandler = Rc<dyn Fn(Life) -> Box<dyn Handler>>;

/// The handlers of all processes, and what they were told. In a world without them, nobody is told anything.
#[derive(Default)]
pub(crate) struct Handlers {
    make: Option<MakeHandler>,
    /// By process, in order of the starts.
    lives: Vec<Life>,
    /// None for a process that has ended.
    running: Vec<Option<Box<dyn Handler>>>,
    seen: Vec<Seen>,
}

impl Clone for Handlers {
    /// Users' handlers have no copies: only worlds without them are ever copied.
    ///
    /// # Panics
    ///
    /// If there are any.
    fn clone(&self) -> Self {
        assert!(self.make.is_none(), "a world with users' handlers is not copied");
        Self::default()
    }
}

impl Handlers {
    /// Handlers that `make` makes.
    pub(super) fn made_by(make: MakeHandler) -> Self {
        Self { make: Some(make), ..Self::default() }
    }

    /// What all handlers were told, in order.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The process that came last of those that the worker with this number has had.
    pub(super) fn latest_of(&self, worker: u32) -> Option<ProcessId> {
        self.lives.iter().rposition(|life| life.worker == worker).map(ProcessId::new)
    }

    /// A process begins, for the worker with this number.
    pub(crate) fn started(&mut self, worker: u32) {
        let Some(make) = &self.make else { return };
        let earlier = self.lives.iter().filter(|life| life.worker == worker).count();
        let life = Life { worker, restarts: u32::try_from(earlier).unwrap_or(u32::MAX) };
        self.running.push(Some(make(life)));
        self.lives.push(life);
    }

    /// A process has ended without a word.
    pub(crate) fn crashed(&mut self, process: ProcessId) {
        if let Some(handler) = self.running.get_mut(process.index()) {
            *handler = None;
        }
    }

    pub(crate) fn acquired(&mut self, now: Moment, process: ProcessId, partition: &Partition, token: Token) {
        self.call(now, process, |handler| {
            handler.acquired(partition, token);
            Call::Acquired { partition: partition.id.clone(), token }
        });
    }

    pub(crate) fn prepare(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.call(now, process, |handler| {
            handler.prepare(partition);
            Call::Prepare { partition: partition.clone() }
        });
    }

    /// How long the handler says that a release takes; none where there is no handler.
    pub(crate) fn release(
        &mut self,
        now: Moment,
        process: ProcessId,
        (partition, token): (&PartitionId, Token),
        reason: ReleaseReason,
    ) -> Option<Duration> {
        let mut takes = None;
        self.call(now, process, |handler| {
            let answer = handler.release(partition, token, reason).min(ENDLESS);
            takes = Some(answer);
            Call::Release { partition: partition.clone(), reason, takes: answer }
        });
        takes
    }

    pub(crate) fn cancelled(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.call(now, process, |handler| {
            handler.cancelled(partition);
            Call::Cancelled { partition: partition.clone() }
        });
    }

    pub(crate) fn released(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.call(now, process, |handler| {
            handler.released(partition);
            Call::Released { partition: partition.clone() }
        });
    }

    pub(crate) fn suspended(&mut self, now: Moment, process: ProcessId, reason: SuspendReason) {
        self.call(now, process, |handler| {
            handler.suspended(reason);
            Call::Suspended { reason }
        });
    }

    pub(crate) fn resumed(&mut self, now: Moment, process: ProcessId) {
        self.call(now, process, |handler| {
            handler.resumed();
            Call::Resumed
        });
    }

    /// Not kept among what was seen: it comes all the time.
    pub(crate) fn work(&mut self, process: ProcessId, partition: &PartitionId, token: Token) {
        if let Some(Some(handler)) = self.running.get_mut(process.index()) {
            handler.work(partition, token);
        }
    }

    pub(crate) fn stopped(&mut self, now: Moment, process: ProcessId) {
        self.call(now, process, |handler| {
            handler.stopped();
            Call::Stopped
        });
        self.crashed(process);
    }

    fn call(&mut self, now: Moment, process: ProcessId, call: impl FnOnce(&mut dyn Handler) -> Call) {
        if let Some(Some(handler)) = self.running.get_mut(process.index()) {
            let call = call(handler.as_mut());
            self.seen.push(Seen { at: now.since(Moment::START), life: self.lives[process.index()], call });
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("lives", &self.lives).field("seen", &self.seen).finish_non_exhaustive()
    }
}
