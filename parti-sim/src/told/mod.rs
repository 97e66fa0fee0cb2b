//! What is told of a run: the facts, and what those who look on keep, measure, print and draw.

pub(crate) mod fact;
pub(crate) mod figures;
#[cfg(feature = "cli")]
pub(crate) mod file;
pub(crate) mod flights;
pub(crate) mod message;
pub(crate) mod observers;
pub(crate) mod recording;
pub(crate) mod report;
pub(crate) mod text;
pub(crate) mod trace;
