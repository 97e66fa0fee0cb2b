//! Runs whole fleets of [`parti_core::Worker`] in one thread, against a model of the store and under a virtual clock,
//! and checks every guarantee after every event.
//!
//! As a command it plays [scenarios](Scenario), [random worlds](swarm) and [plans](plan); `parti-sim help` says how. As
//! a library it is a [test kit](kit): your handler and your settings against crashes, rolling updates and outages, in
//! `cargo test`, with no server.
//!
//! ```
//! use std::time::Duration;
//! use parti_sim::kit::{Cluster, Failure};
//!
//! fn main() -> Result<(), Failure> {
//!     let orders = (0..100).map(|n| format!("orders-{n}"));
//!     let mut cluster = Cluster::of(5)
//!         .partition_ids(orders)
//!         .drain_time(|_| Duration::from_millis(300))
//!         .seed(7)
//!         .start()?;
//!     cluster.settle()?;
//!     let owner = cluster.owner("orders-42")?.expect("everything has an owner");
//!
//!     cluster.measure();
//!     cluster.crash(owner)?;
//!     cluster.settle()?;
//!     assert_ne!(cluster.owner("orders-42")?, Some(owner));
//!     assert!(cluster.measured().longest_orphan < Duration::from_secs(2));
//!     cluster.finish()?;
//!     Ok(())
//! }
//! ```

mod app;
mod clock;
pub mod conformance;
mod disturb;
mod ear;
pub mod exhaustive;
mod fact;
mod figures;
mod file;
mod invariant;
pub mod kit;
mod mark;
mod mix;
mod network;
mod observers;
mod options;
mod ownership;
pub mod plan;
mod plant;
mod process;
mod recording;
mod report;
mod rng;
mod scenario;
mod schedule;
pub mod store;
pub mod swarm;
mod text;
mod trace;
mod trouble;
mod watch;
mod world;

pub use clock::Moment;
pub use fact::{PartitionIndex, ProcessId};
pub use figures::Figures;
pub use file::Repeatable;
pub use invariant::{Kind, Violation};
pub use mark::{Mark, Marks};
pub use options::{ApplicationOptions, NetworkOptions, Options, Weights, WorkerOptions};
pub use plant::{Around, Plant};
pub use process::Birth;
pub use rng::Rng;
pub use scenario::{Expectation, Keep, Outcome, Scenario};
pub use text::Plain;
pub use trace::{Trace, TraceLine};
