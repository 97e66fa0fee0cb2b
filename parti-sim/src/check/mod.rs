//! What is checked: what must always hold, what must be reached, who really works on what, every state of small worlds,
//! and what the core relies on in a store.

pub mod conformance;
#[cfg(feature = "cli")]
pub mod exhaustive;
pub(crate) mod invariant;
pub(crate) mod mark;
pub(crate) mod messages;
pub(crate) mod ownership;
pub(crate) mod reached;
