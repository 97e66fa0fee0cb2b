//! Messages of a stream, delivered to whoever owns their partition.

mod allowed;
pub(crate) mod consumer;
mod direct;
mod durable;
mod engine;
pub(crate) mod error;
pub(crate) mod kept;
pub(crate) mod message;
pub(crate) mod messages;
mod metrics;
mod pull;
mod pulls;
#[cfg(test)]
mod queue_tests;
pub(crate) mod settings;
mod store;
mod tail;
pub(crate) mod template;
