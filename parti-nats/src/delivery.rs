//! Messages of a stream, delivered to whoever owns their partition.

pub(crate) mod consumer;
mod direct;
mod engine;
pub(crate) mod error;
pub(crate) mod message;
pub(crate) mod messages;
mod metrics;
pub(crate) mod settings;
mod store;
mod tail;
mod template;
