//! Runs whole fleets of [`parti_core::Worker`] in one thread, against a model of the store and under a virtual clock,
//! and checks every guarantee after every event.

mod app;
mod clock;
pub mod conformance;
mod disturb;
pub mod exhaustive;
mod fact;
mod figures;
mod file;
mod invariant;
mod mark;
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
mod watch;
mod world;

pub use clock::Moment;
pub use fact::{PartitionIndex, ProcessId};
pub use figures::Figures;
pub use file::Repeatable;
pub use invariant::{Kind, Violation};
pub use mark::{Mark, Marks};
pub use options::{ApplicationOptions, NetworkOptions, Options, Weights, WorkerOptions};
pub use plant::Plant;
pub use process::Birth;
pub use rng::Rng;
pub use scenario::{Expectation, Keep, Outcome, Scenario};
pub use text::Plain;
pub use trace::{Trace, TraceLine};
