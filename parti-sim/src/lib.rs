//! Runs whole fleets of [`parti_core::Worker`] in one thread, against a model of the store and under a virtual clock,
//! and checks every guarantee after every event.
//!
//! As a command it plays [scenarios](Scenario) and [random worlds](swarm); `parti-sim help` says how. As
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

#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unreachable_pub, reason = "what the command alone plays, counts and prints")
)]

mod check;
mod fault;
pub mod kit;
mod rng;
mod scenario;
mod setting;
#[cfg(feature = "cli")]
pub mod swarm;
mod told;
mod world;

#[cfg(feature = "cli")]
pub use check::exhaustive;
pub use check::invariant::{Kind, Violation};
#[cfg(feature = "cli")]
pub use check::{mark::Mark, reached::Marks};
#[cfg(feature = "planted-bugs")]
pub use fault::{around::Around, plant::Plant};
#[cfg(feature = "cli")]
pub use rng::Rng;
#[cfg(feature = "cli")]
pub use scenario::{Expectation, Keep, Outcome, Scenario};
#[cfg(feature = "cli")]
pub use setting::loads::LoadOptions;
pub use setting::options::NetworkOptions;
pub use setting::options::{ApplicationOptions, Options, Weights, WorkerOptions};
pub use told::fact::{PartitionIndex, ProcessId};
pub use told::trace::TraceLine;
#[cfg(feature = "cli")]
pub use told::{figures::Figures, file::Repeatable, text::Plain, trace::Trace};
pub use world::clock::Moment;
#[cfg(feature = "cli")]
pub use world::store;
