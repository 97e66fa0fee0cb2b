//! A test kit: your handler, your settings and your partitions in a simulated cluster, inside `cargo test`.
//!
//! A [`Cluster`] runs real workers under a virtual clock, in one thread, with no server. A test starts one, does things
//! to it, and looks at what came of them: who owns what, what the handlers were told, how long anything was without an
//! owner. Minutes of a fleet's life take milliseconds. All that `parti` guarantees is checked after every event; when it
//! does not hold, the next call returns a [`Failure`] that tells what, when, after which events, and how to repeat it.
//!
//! ```
//! use std::time::Duration;
//! use parti_sim::kit::{Cluster, Failure, PartitionGuard};
//!
//! /// The handler under test: in the service, `worker.run(work)` runs it over NATS.
//! async fn work(guard: impl PartitionGuard) {
//!     while guard.may_work().await {
//!         // One unit of work on guard.partition(); send guard.token() along with what it writes.
//!         guard.sleep(Duration::from_millis(300)).await;
//!     }
//! }
//!
//! fn main() -> Result<(), Failure> {
//!     for seed in 0..10 {
//!         let orders = (0..40).map(|n| format!("orders-{n}"));
//!         let mut cluster = Cluster::of(4).partition_ids(orders).handler(work).seed(seed).start()?;
//!         cluster.settle()?;
//!         cluster.random_faults(Duration::from_secs(60))?;
//!         cluster.finish()?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! - **Your handler** is an async function of a guard ([`PartitionGuard`]), which runs for each partition of each process,
//!   as `parti_nats` runs it. It waits by [`sleep`](PartitionGuard::sleep) and by the guard's other futures; so time
//!   passes at once, and the same for the same seed. It must not need a runtime: what does IO in the service is something
//!   in memory here, given by a closure. Where nothing matters but how long a release takes, [`Setup::drain_time`] is
//!   enough.
//! - **Your handler of messages**, if your service delivers those of a stream, is one by [`Setup::on_message`] or
//!   [`Setup::on_messages`]; the test publishes by [`Cluster::publish`].
//! - **Time** passes in [`run_for`](Cluster::run_for), [`run_until`](Cluster::run_until), [`settle`](Cluster::settle)
//!   and in what waits for the workers, such as [`rolling_update`](Cluster::rolling_update). All else is instant.
//! - **Chance** comes from the seed alone: the same test does the same every time. A loop over seeds tries other delays,
//!   other clocks, and with [`random_faults`](Cluster::random_faults) other faults.
//! - **Asserting** with `assert!` is fine: a test that panics while it has a cluster also prints its story.

mod births;
mod cluster;
mod deeds;
mod failure;
mod guard;
mod handlers;
mod lists;
mod mail;
mod seen;
mod setup;
mod stream;

pub(crate) use guard::TaskId;
pub(crate) use handlers::{Deed, Handlers, Takes};
pub(crate) use lists::Lists;
pub(crate) use mail::{Mail, Say};

pub use births::MAX_WORKERS;
pub use cluster::{Cluster, Measured};
pub use failure::{Failure, Story};
pub use guard::Guard;
pub use mail::{DeadLetter, Message, Messages};
pub use parti_core::delivery::{Lost, PartitionMessage, PartitionMessages};
pub use parti_core::{HandlerResult, PartitionGuard};
pub use seen::{Call, Life, Seen};
pub use setup::Setup;
