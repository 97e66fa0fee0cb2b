//! Why a test of a cluster fails.

use std::fmt;
use std::time::Duration;

use parti_core::delivery::DeliveryConfigError;
use parti_core::{ConfigError, PartitionError, PartitionId};

use super::births::MAX_WORKERS;
use crate::check::invariant::Violation;
use crate::told::trace::TraceLine;

/// How many lines of the trace are told.
const TRACE_LINES: usize = 40;

/// Why a test of a cluster fails. Shown for debugging, as a test that returns it is, it reads like any text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Something that `parti` guarantees did not hold.
    #[error("{violation}\n{story}")]
    Broken {
        /// What, and when.
        violation: Box<Violation>,
        /// What led to it.
        story: Box<Story>,
    },
    /// Something still moves, or has no owner, long after everything was done.
    #[error(
        "{unowned} partitions have no worker at {at:?}, or some still move, or messages are not finished, {patience:?} after the last thing that was done\n{story}"
    )]
    Unsettled {
        /// How many partitions have no worker.
        unowned: usize,
        /// How long after the start.
        at: Duration,
        /// How long was waited.
        patience: Duration,
        /// What led to it.
        story: Box<Story>,
    },
    /// A setting of the workers breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A partition, or the list of them, breaks a rule.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// There are no workers, or too many.
    #[error("a cluster must have from 1 to {MAX_WORKERS} workers, but is to have {workers}: start with fewer or more")]
    Workers {
        /// How many there are to be.
        workers: u32,
    },
    /// There is nothing to divide.
    #[error("a cluster needs partitions, but has none: give it some with `partition_ids`")]
    NoPartitions,
    /// There is a message and nobody to handle it.
    #[error("messages need a handler, but there is none: give the cluster one with `on_message`")]
    NoHandler,
    /// A setting of the delivery breaks a rule.
    #[error(transparent)]
    Delivery(#[from] DeliveryConfigError),
    /// The source of the list could not be read at the start.
    #[error("the source must have a list at the start, but says: {error}")]
    Source {
        /// What it says.
        error: String,
    },
    /// There never was such a worker.
    #[error("worker {worker} must be one that was started, 0 to {last}: choose one of them, or add workers first")]
    UnknownWorker {
        /// Its number.
        worker: u32,
        /// The highest number that there is.
        last: u32,
    },
    /// No process of this worker runs.
    #[error("worker {worker} must have a process that runs, but has none at {at:?}: start it again first")]
    NotRunning {
        /// Its number.
        worker: u32,
        /// How long after the start.
        at: Duration,
    },
    /// The worker runs already.
    #[error("worker {worker} must not run when it is started, but does at {at:?}: crash it or let it leave first")]
    AlreadyRuns {
        /// Its number.
        worker: u32,
        /// How long after the start.
        at: Duration,
    },
    /// Nobody leads just now.
    #[error("there must be a leader, but nobody leads at {at:?}: wait with `settle` first")]
    NobodyLeads {
        /// How long after the start.
        at: Duration,
    },
    /// The cluster does not know such a partition.
    #[error("partition {partition:?} must be known from the start: add it with `spare_partition_ids`")]
    UnknownPartition {
        /// Its id.
        partition: PartitionId,
    },
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What led to a failure: what the test did, the last lines of the trace, and how to repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// What the test did, with times.
    pub deeds: Vec<String>,
    /// The last lines of the trace that touch what the failure is about.
    pub trace: Vec<String>,
    /// What decides everything that chance decides.
    pub seed: u64,
    /// The name of the test, where the thread that runs it has one.
    pub test: Option<String>,
}

impl Story {
    pub(super) fn tell(deeds: &[String], lines: &[TraceLine], seed: u64, violation: Option<&Violation>) -> Self {
        let concerns = |line: &&TraceLine| violation.is_none_or(|violation| violation.concerns(line));
        let mut trace: Vec<_> =
            lines.iter().rev().filter(concerns).take(TRACE_LINES).map(ToString::to_string).collect();
        trace.reverse();
        let test = std::thread::current().name().filter(|name| *name != "main").map(Into::into);
        Self { deeds: deeds.to_vec(), trace, seed, test }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "what the test did:")?;
        for deed in &self.deeds {
            writeln!(f, "  {deed}")?;
        }
        writeln!(f, "the last lines of the trace that touch it:")?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        let test = self.test.as_deref().map(|name| format!(": cargo test {name}")).unwrap_or_default();
        write!(f, "the same happens in every run with .seed({}){test}", self.seed)
    }
}
