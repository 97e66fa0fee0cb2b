//! Fleets of worker processes on a real server, and a journal of who worked on what, when: told by the workers' own
//! guards, in the time of one clock that all processes of the machine share.
//!
//! A program that includes this runs itself again as a worker: see [`agent::Spec::from_environment`].
#![allow(dead_code)] // every user needs another part of it

pub(crate) mod agent;
pub(crate) mod fleet;
pub(crate) mod journal;
pub(crate) mod proxy;
