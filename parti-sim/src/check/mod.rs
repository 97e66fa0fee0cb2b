//! What is checked: what must always hold, what must be reached, who really works on what, and every state of small
//! worlds.

#[cfg(test)]
mod conformance;
#[cfg(feature = "cli")]
pub mod exhaustive;
pub(crate) mod invariant;
pub(crate) mod mark;
pub(crate) mod messages;
pub(crate) mod ownership;
pub(crate) mod reached;
