//! What a run derives from: its options, how its workers differ, and how a process comes into the world.

pub(crate) mod birth;
pub(crate) mod loads;
pub(crate) mod messages;
pub(crate) mod mix;
pub(crate) mod options;
