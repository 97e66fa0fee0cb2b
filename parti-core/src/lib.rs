//! placeholder crate doc
#![no_std]

extern crate alloc;

mod action;
pub mod assign;
mod config;
mod duration;
mod event;
mod eviction;
mod handoff;
mod ids;
mod key;
mod leader;
mod leadership;
mod lease;
mod membership;
mod outbox;
mod ownership;
mod partition;
mod plan_log;
mod planner;
mod probing;
mod rebalance;
mod record;
mod rng;
mod slot;
mod state;
mod time;
mod worker;

pub use action::{
    Action, ClaimKind, EvictReason, Notice, PlanReason, ReleaseReason, Request, StandbyReason, StepDownReason,
    SuspendReason, WaitReason, Write,
};
pub use config::{
    Config, ConfigError, MAX_DURATION, MAX_LABELS, MAX_SLOTS, MAX_TEXT_BYTES, MIN_LEASE, MIN_PROBE_INTERVAL,
    MIN_REBALANCE_INTERVAL, MIN_RELEASE_TIMEOUT, Mode,
};
pub use duration::{DurationError, HumanDuration};
pub use event::{Command, Event, KvEvent, Outcome, ProbeOutcome};
pub use ids::{Generation, Incarnation, Instance, OperationId, Revision, Slot, Tenure, Term, Token, WatchId};
pub use key::{Bucket, GroupName, GroupNameError, Interest, Key, MAX_GROUP_NAME_BYTES};
pub use partition::{
    MAX_PARTITION_ID_BYTES, MAX_PARTITIONS, Partition, PartitionError, PartitionId, PartitionList, Weight,
};
pub use record::{
    AssignmentRecord, ClusterRecord, FORMAT_VERSION, Grant, LeaderRecord, MAX_RECORD_BYTES, MemberPhase, MemberRecord,
    Record, RecordError,
};
pub use state::{PlannerPhase, WorkerState};
pub use time::{Duration, Instant};
pub use worker::{Status, Worker};
