//! What goes wrong in a world, and what is done to it: by faults, by operators, by time; and deliberate bugs.

pub(crate) mod around;
mod disturb;
#[cfg(feature = "planted-bugs")]
pub(crate) mod plant;
mod trouble;
