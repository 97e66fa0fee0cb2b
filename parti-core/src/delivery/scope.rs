//! What every part is told of the moment.

use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence};
use crate::time::Instant;

/// The time, the settings, and how far the tail that serves this worker has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a DeliveryConfig,
    /// The tail that is open, and up to where it has come.
    pub(super) tail: Option<(CallId, Sequence)>,
    /// Whether the server can be asked for the last messages of partitions.
    pub(super) can_ask: bool,
}
