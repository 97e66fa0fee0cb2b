//! Runs whole fleets of [`parti_core::Worker`] in one thread, against a model of the store and under a virtual clock,
//! and checks every guarantee after every event.

mod app;
mod clock;
mod disturb;
mod fact;
mod figures;
mod invariant;
mod mark;
mod network;
mod observers;
mod options;
mod ownership;
mod plant;
mod process;
mod recording;
mod rng;
mod schedule;
pub mod store;
mod trace;
mod watch;
mod world;
