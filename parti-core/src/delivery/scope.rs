//! What every part is told of the moment.

use super::event::StreamState;
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence};
use crate::planted::{Planted, PlantedBug};
use crate::time::Instant;

/// How many messages a stream's limits may remove between two looks, if that is not half of them.
const NEAR: u64 = 1_000;

/// How far an engine has come in reading the stream itself. One that leaves that to consumers has nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// The tail that is open, and up to where it has come.
    pub(super) tail: Option<(CallId, Sequence)>,
    /// Whether the server can be asked for the last messages of partitions.
    pub(super) can_ask: bool,
}

/// The time, the settings, and how far the tail that serves this worker has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a DeliveryConfig,
    /// The tail that is open, and up to where it has come.
    pub(super) tail: Option<(CallId, Sequence)>,
    /// What the stream has told of itself last, if that is not too long ago.
    pub(super) stream: Option<StreamState>,
    /// Whether the server can be asked for the last messages of partitions.
    pub(super) can_ask: bool,
    /// The rule that is broken on purpose, if any.
    pub(super) planted: Planted,
}

impl Scope<'_> {
    /// Whether the stream's limits may have come to this number since it was last asked: it was in the older half then, or
    /// not far from the first.
    pub(super) fn may_be_removed(&self, sequence: Sequence) -> bool {
        self.stream.is_none_or(|StreamState { first, last, .. }| {
            let older_half = last.value().saturating_sub(first.value()) / 2;
            sequence.value() < first.value().saturating_add(older_half.max(NEAR))
        })
    }

    /// Whether the rule that this bug breaks is broken on purpose.
    pub(super) fn has(&self, bug: PlantedBug) -> bool {
        self.planted.has(bug)
    }
}
