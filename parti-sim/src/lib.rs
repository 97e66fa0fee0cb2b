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

mod check;
mod fault;
pub mod kit;
mod rng;
mod scenario;
mod setting;
pub mod swarm;
mod told;
mod world;

pub use check::invariant::{Kind, Violation};
pub use check::mark::Mark;
pub use check::reached::Marks;
pub use check::{conformance, exhaustive};
pub use fault::plant::{Around, Plant};
pub use rng::Rng;
pub use scenario::{Expectation, Keep, Outcome, Scenario};
pub use setting::birth::Birth;
pub use setting::options::{ApplicationOptions, NetworkOptions, Options, Weights, WorkerOptions};
pub use told::fact::{PartitionIndex, ProcessId};
pub use told::figures::Figures;
pub use told::file::Repeatable;
pub use told::text::Plain;
pub use told::trace::{Trace, TraceLine};
pub use world::clock::Moment;
pub use world::store;
