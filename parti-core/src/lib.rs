//! placeholder crate doc
#![no_std]

extern crate alloc;

mod action;
pub mod assign;
mod config;
mod event;
mod ids;
mod key;
mod partition;
mod record;
mod rng;
mod state;
mod time;
mod worker;

pub use action::{
    Action, ClaimKind, EvictReason, Notice, PlanReason, ReleaseReason, Request, StandbyReason, StepDownReason,
    SuspendReason, WaitReason, Write,
};
pub use config::{Config, ConfigError, Mode};
pub use event::{Command, Event, KvEvent, Outcome, ProbeOutcome};
pub use ids::{Generation, Incarnation, Instance, OperationId, Revision, Slot, Tenure, Term, Token, WatchId};
pub use key::{Bucket, GroupName, GroupNameError, Interest, Key};
pub use partition::{Partition, PartitionError, PartitionId, PartitionList, Weight};
pub use record::{
    AssignmentRecord, ClusterRecord, FORMAT_VERSION, Grant, LeaderRecord, MemberPhase, MemberRecord, Record,
    RecordError,
};
pub use state::{PlannerPhase, WorkerState};
pub use time::{Duration, Instant};
pub use worker::{Status, Worker};
