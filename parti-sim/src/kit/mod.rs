//! A test kit: your handler, your settings and your partitions in a simulated cluster, inside `cargo test`.
//!
//! A [`Cluster`] runs real workers under a virtual clock, in one thread, with no server. A test starts one, does things
//! to it, and looks at what came of them: who owns what, what the handlers were told, how long anything was without an
//! owner. Minutes of a fleet's life take milliseconds. All that `parti` guarantees is checked after every event; when it
//! does not hold, the next call returns a [`Failure`] that tells what, when, after which events, and how to repeat it.
//!
//! ```
//! use std::time::Duration;
//! use parti_core::{Partition, PartitionId, ReleaseReason, Token};
//! use parti_sim::kit::{Cluster, Failure, Handler};
//!
//! /// The service under test, or what of it deals with partitions.
//! #[derive(Default)]
//! struct Service {
//!     open: Vec<PartitionId>,
//! }
//!
//! impl Handler for Service {
//!     fn acquired(&mut self, partition: &Partition, _token: Token) {
//!         self.open.push(partition.id.clone());
//!     }
//!
//!     fn release(&mut self, partition: &PartitionId, _token: Token, _reason: ReleaseReason) -> Duration {
//!         self.open.retain(|open| open != partition);
//!         Duration::from_millis(300) // until what was begun is finished
//!     }
//! }
//!
//! fn main() -> Result<(), Failure> {
//!     for seed in 0..10 {
//!         let orders = (0..40).map(|n| format!("orders-{n}"));
//!         let mut cluster =
//!             Cluster::of(4).partition_ids(orders).handler(|_life| Service::default()).seed(seed).start()?;
//!         cluster.settle()?;
//!         cluster.random_faults(Duration::from_secs(60))?;
//!         cluster.finish()?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! - **Your application** is a [`Handler`]: told what it may work on, what to prepare and to release, when to suspend.
//!   It answers how long a release takes. Where nothing else matters, [`Setup::drain_time`] is enough.
//! - **Time** passes in [`run_for`](Cluster::run_for), [`run_until`](Cluster::run_until), [`settle`](Cluster::settle)
//!   and in what waits for the workers, such as [`rolling_update`](Cluster::rolling_update). All else is instant.
//! - **Chance** comes from the seed alone: the same test does the same every time. A loop over seeds tries other delays,
//!   other clocks, and with [`random_faults`](Cluster::random_faults) other faults.
//! - **Asserting** with `assert!` is fine: a test that panics while it has a cluster also prints its story.

mod births;
mod cluster;
mod deeds;
mod failure;
mod handler;
mod setup;

pub(crate) use handler::Handlers;

pub use births::MAX_WORKERS;
pub use cluster::{Cluster, Measured};
pub use failure::{Failure, Story};
pub use handler::{Call, Handler, Life, Seen};
pub use setup::Setup;
