//! Leader: the parts of the worker from which it decides, lent to it.

use crate::assign::Strategy;
use crate::context::Context;
use crate::ids::{Heard, Instance, Slot};
use crate::member::lease::Lease;
use crate::member::probing::Probing;
use crate::time::Instant;

/// The parts of the worker from which a leader decides.
pub(crate) struct Office<'a> {
    pub(crate) context: &'a Context,
    /// How partitions are divided.
    pub(crate) strategy: &'a dyn Strategy,
    pub(crate) own_slot: Slot,
    pub(crate) own: Instance,
    pub(crate) lease: &'a Lease,
    /// How many bytes a record may have.
    pub(crate) record_limit: usize,
    /// When this process noticed that a bucket was made anew or has lost writes, if it has.
    pub(crate) store_regressed: Option<Instant>,
    /// How far plans have come, as far as this process has heard.
    pub(crate) heard_of: Heard,
    /// Whether this worker's own writes are being committed: else it judges nobody.
    pub(crate) heard: bool,
    pub(crate) probing: &'a Probing,
}
