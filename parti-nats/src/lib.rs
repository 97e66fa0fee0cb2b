//! placeholder

mod application;
mod bucket;
mod builder;
mod clock;
mod connection;
mod driver;
mod error;
mod guard;
mod handle;
mod kv;
mod notice;
mod probe;
mod publisher;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod watch;

pub use bucket::Mismatch;
pub use builder::Builder;
pub use error::{Error, ErrorKind};
pub use guard::Guard;
pub use handle::{Assignment, Change, Handle};
pub use parti_core::{
    Config, ConfigError, Generation, GroupName, Incarnation, Instance, Mode, Partition, PartitionError, PartitionId,
    PartitionList, PlannerPhase, ReleaseReason, Revision, Slot, Status, SuspendReason, Tenure, Term, Token, Weight,
    WorkerState,
};
