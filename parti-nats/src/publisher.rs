//! What the core says of itself, made known to guards and handles.

use std::sync::Arc;

use parti_core::{Instant, Mode, Status};
use tokio::sync::watch;

use crate::guard::Lease;

/// Publishes the status of a worker, and until when its guards are valid.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) mode: Mode,
    pub(crate) lease: Arc<Lease>,
    pub(crate) status: watch::Sender<Status>,
}

impl Publisher {
    pub(crate) fn publish(&self, status: Status) {
        self.lease.set(match self.mode {
            Mode::Strict => status.lease_until.filter(|_| !status.suspended),
            // Only the end of the tenure ends the right, and that the guards are told.
            Mode::Available => status.slot.map(|_| Instant::from_nanos(u64::MAX)),
        });
        self.status.send_if_modified(|known| {
            let only_renewed = Status { lease_until: status.lease_until, ..known.clone() } == status;
            *known = status;
            !only_renewed
        });
    }
}
