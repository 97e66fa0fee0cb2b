//! Divides weighted partitions among a changing set of workers, over NATS `JetStream` KV.
//!
//! A service starts one worker per process. The workers of a group share a list of partitions: each learns at every
//! instant which of them are its own, and with which fencing token. No two workers hold a partition at the same time,
//! a restart moves nothing, and a crash moves only what the crashed worker had.
//!
//! # The first worker
//!
//! With `nats-server -js` running, this is a whole service:
//!
//! ```no_run
//! use std::time::Duration;
//! use parti_nats::{Builder, PartitionGuard};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), parti_nats::Error> {
//!     let partitions = (0..64).map(|number| format!("orders-{number}"));
//!     let mut worker = Builder::new("orders").server("nats://localhost:4222").partition_ids(partitions).start()?;
//!     worker.run(work).await
//! }
//!
//! async fn work(guard: impl PartitionGuard) {
//!     while guard.may_work().await {
//!         // One unit of work on guard.partition(); send guard.token() along with what it writes.
//!         guard.sleep(Duration::from_secs(1)).await;
//!     }
//! } // The guard is dropped here: the work has stopped, and the partition may go on to its next owner.
//! ```
//!
//! Start it several times, and the partitions are divided. The buckets are created by whoever comes first.
//!
//! # What a handler has to know
//!
//! - A handler is an async function of a guard. [`Handle::run`] runs it for each partition, in a task of its own, and the
//!   test kit runs the same function under virtual time, if it takes an [`impl PartitionGuard`](PartitionGuard). Who wants
//!   more than that, such as to warm up before a partition comes, reads [`Handle::next_change`] instead.
//! - A [`Guard`] is the right to work on one partition. It says whether work is allowed at this very moment
//!   ([`Guard::is_valid`]), before the next unit of work ([`Guard::may_work`]), and as soon as it is no longer
//!   ([`Guard::interrupted`]).
//! - When a partition moves, its handler finishes what it has begun and drops the guard; only then does the next owner
//!   get it. A handler that takes longer than [`Config::release_timeout`] is cancelled.
//! - When the store is out of reach, all work is suspended, since somebody else might be given it. The same guards are
//!   valid again when the store is back.
//! - The [`Token`] orders the owners of a partition. A store that refuses writes with a token lower than the highest
//!   that it has seen for that partition is safe even from a process that was frozen in the middle of a write.
//!
//! # Where the partitions come from
//!
//! - A fixed list: [`Builder::partition_ids`], or [`Builder::partitions`] with weights.
//! - A list in the store, which applications and operators edit while workers follow: [`Builder::partition_bucket`] and
//!   [`PartitionBucket`].
//! - Anywhere else, such as a database: a [`Source`] of one's own.
//!
//! # Looking at it
//!
//! [`Handle::assignment`] says what this worker owns, without a lock; [`Handle::status`] what it is doing;
//! [`Handle::health`] whether it is live and ready. An [`Observer`] shows the whole group to who takes no part in it. Metrics, logs, permissions and the settings of a connection are in
//! [`operations`].
//!
//! # Stopping
//!
//! [`Handle::stop`] hands everything over and leaves: for scaling down. [`Handle::restart`] stops too, but keeps the slot
//! and all partitions for the successor, for at most [`Config::restart_hold`]: for deploys. After either,
//! [`Handle::run`] returns when all is released; who reads changes goes on until [`Handle::next_change`] returns `None`,
//! and then [`Handle::finished`] returns as well. Dropping the handle is the same as to stop, without waiting for it.
//! [`Handle::drain`] hands everything over and stays.
//!
//! A platform says by a signal that a process is to end, and kills it some time later. By default a stop is over after 25 s
//! whatever happens, which fits the 30 s that Kubernetes gives; with another [`Config::release_timeout`] give the process
//! twice that and more than 5 s. While the server is away a worker stops as soon as its lease is over and its handlers are
//! gone.
//!
//! ```no_run
//! # #[cfg(unix)]
//! # mod service {
//! use parti_nats::{Builder, Guard};
//! use tokio::signal::unix::{SignalKind, signal}; // tokio's feature "signal"
//!
//! # pub
//! async fn serve(builder: Builder) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut terminate = signal(SignalKind::terminate())?;
//!     let mut worker = builder.start()?;
//!     let stopper = worker.stopper();
//!     tokio::spawn(async move {
//!         terminate.recv().await;
//!         stopper.restart(); // or stop(), if nobody comes after it
//!     });
//!     Ok(worker.run(work).await?)
//! }
//! # async fn work(_: Guard) {}
//! # }
//! ```
//!
//! # What comes with it
//!
//! | Feature | On by default | What it is for |
//! | --- | --- | --- |
//! | `ring` | yes | *ring* does the cryptography of TLS |
//! | `aws-lc-rs` | no | AWS-LC does; take `default-features = false` with it. It needs a C compiler |
//!
//! With neither, a service that connects by TLS installs a provider of `rustls` by itself, before the first worker
//! starts. Logs go through [`tracing`](https://docs.rs/tracing) and metrics through
//! [`metrics`](https://docs.rs/metrics), which do nothing without a subscriber and a recorder.
//!
//! Direct dependencies, each for one thing: `async-nats` and `nkeys` (the protocol and its logins), `tokio` and
//! `futures-util` (the runtime and streams), `parti-core` (every decision), `bytes` (payloads), `serde` and `serde_json`
//! (records), `arc-swap` (the assignment without a lock), `rustix` (a clock that goes on while the machine sleeps),
//! `thiserror`, `tracing`, `metrics`. `cargo tree -e normal -p parti-nats` shows what they bring along.
//!
//! **Semantic versions.** [`async_nats`] is part of this crate's interface: [`Builder::client`],
//! [`Builder::connect_options`], [`connect_options`], [`create_buckets`], [`PartitionBucket`] and [`Fence`] take its
//! types, and some errors have its errors as sources. A new major version of it is a new major version of this crate.

mod abandoned;
mod application;
mod attention;
mod bucket;
mod builder;
mod changes;
mod clock;
mod connection;
mod delivery;
mod driver;
mod error;
mod fence;
mod guard;
mod handle;
mod health;
mod input;
mod kv;
mod login;
mod lookout;
mod metrics;
mod mismatch;
mod notice;
mod observer;
mod operator;
mod orders;
mod panics;
mod permissions;
mod positions;
mod probe;
mod publisher;
mod recorder;
mod refusal;
mod said;
mod server;
mod service;
mod snapshot;
mod software;
mod source;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod transport;
mod upkeep;
mod warnings;
mod watch;

#[doc = include_str!("../OPERATIONS.md")]
pub mod operations {}

/// The examples of the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}

pub use async_nats;
pub use bucket::create_buckets;
pub use builder::Builder;
pub use changes::Change;
pub use connection::connect_options;
pub use delivery::consumer::Consumer;
pub use delivery::error::DeliveryError;
pub use delivery::kept::{KeptPosition, PositionStore, PositionStoreError};
pub use delivery::message::Delivered;
pub use delivery::messages::Messages;
pub use delivery::settings::Delivery;
pub use error::{Error, ErrorKind};
pub use fence::{Fence, FenceError, TOKEN_HEADER};
pub use guard::Guard;
pub use handle::{Assignment, AssignmentIter, AssignmentReader, Handle, Stopper};
pub use health::{Health, HealthCheck, Verdict};
pub use login::credentials_file;
pub use metrics::{DELIVERY_METRICS, METRICS, Metric, MetricKind, SECONDS_BUCKETS, describe_metrics};
pub use mismatch::Mismatch;
pub use observer::{
    AssignmentPicture, BucketPicture, Forecast, ForecastError, ForecastMove, ListPicture, Observed, ObservedChanges,
    Observer, Ownership, PartitionPicture, Picture, Presence, Round, ServerAnswer, Unreadable, Waiting, WhatIf, Wish,
    WorkerPicture, harmless,
};
pub use operator::{Eviction, Operator};
pub use parti_core::assign::{self, Labels};
pub use parti_core::delivery::{
    DeliveryConfig, DeliveryConfigError, Engine, Failed, Lost, PartitionMessage, PartitionMessages, Policy,
    PositionRecord, Sequence, StartAt, Timestamp,
};
pub use parti_core::recording;
pub use parti_core::{
    AssignmentRecord, Bucket, CausedMoves, ClusterRecord, Config, ConfigError, Control, ControlRecord, Fleet,
    Generation, Grant, GroupName, GroupNameError, HandlerResult, HumanDuration, Incarnation, Instance, Instant, Key,
    LeaderRecord, LoadStatus, MAX_LOAD, MeasuredLoad, MemberPhase, MemberRecord, Mode, MoveCause, MovedPartition,
    Partition, PartitionError, PartitionGuard, PartitionId, PartitionList, Placement, PlanHistory, PlanMoves,
    PlannerPhase, Position, ReleaseReason, RetryPolicy, Revision, SharedSettings, Slot, Source, SourceError, Status,
    StrategyChoice, SuspendReason, Tenure, Term, Token, TokenError, Weight, WorkerState,
};
pub use permissions::{Permissions, Role, permissions};
pub use positions::{PositionPicture, StreamEnds};
pub use recorder::RecordLimits;
pub use source::{Listed, PartitionBucket};
pub use warnings::Warning;
