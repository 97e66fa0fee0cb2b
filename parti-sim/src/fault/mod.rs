//! What goes wrong in a world, and what is done to it: by faults, by operators, by time; and deliberate bugs.

mod disturb;
pub(crate) mod plant;
mod trouble;
