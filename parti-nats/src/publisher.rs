//! What the core says of itself, made known to guards, handles and metrics.

use std::sync::Arc;

use parti_core::{Instant, Mode, Notice, Status};
use tokio::sync::watch;

use crate::clock;
use crate::guard::Lease;
use crate::health::{NOT_PRESENT, Signs};
use crate::metrics::Metrics;

/// The warning that the last plan was refused.
const PLAN_REFUSED: &str = "plan_refused";

/// The warning that some partitions have no owner, since no worker has room for them.
const WITHOUT_ROOM: &str = "without_room";

/// Publishes the status of a worker, and until when its guards are valid.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) mode: Mode,
    pub(crate) lease: Arc<Lease>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) signs: Arc<Signs>,
    pub(crate) metrics: Arc<Metrics>,
    /// When the status was published last.
    pub(crate) last: Instant,
}

impl Publisher {
    /// Ends the right to act where it is to end sooner than was published. To be called before anything else is done.
    pub(crate) fn end(&self, status: &Status) {
        self.lease.end_by(self.right(status));
    }

    /// Until when the status gives the right to act; `None` if it gives none now.
    fn right(&self, status: &Status) -> Option<Instant> {
        match self.mode {
            Mode::Strict => status.lease_until.filter(|_| !status.suspended),
            // Only the end of the tenure ends the right, and that the guards are told.
            Mode::Available => status.slot.map(|_| Instant::from_nanos(u64::MAX)),
        }
    }

    /// Publishes the status, and the right to act that it gives. To be called when all else is done.
    pub(crate) fn publish(&mut self, status: Status) {
        self.lease.set(self.right(&status));
        let now = clock::now();
        let passed = now.since(std::mem::replace(&mut self.last, now));
        self.metrics.observe(&self.status.borrow(), &status, now, passed);
        if status.fleet.is_some_and(|fleet| !fleet.refused) {
            self.signs.warnings.clear(PLAN_REFUSED);
        }
        if status.fleet.is_none_or(|fleet| fleet.without_room == 0) {
            self.signs.warnings.clear(WITHOUT_ROOM);
        }
        self.status.send_if_modified(|known| {
            let Status { lease_until, lease_end, presence_end, .. } = status;
            let only_renewed = Status { lease_until, lease_end, presence_end, ..known.clone() } == status;
            *known = status;
            !only_renewed
        });
    }

    pub(crate) fn notice(&self, notice: &Notice) {
        self.metrics.noticed(notice);
        match notice {
            Notice::PlanRefused { reason } => {
                self.signs.warnings.set(PLAN_REFUSED, format!("the last plan was refused: {reason}"));
            }
            Notice::WithoutRoom { partitions } => {
                self.signs.warnings.set(WITHOUT_ROOM, without_room(partitions));
            }
            Notice::LeadershipLost { .. } => {
                self.signs.warnings.clear(PLAN_REFUSED);
            }
            Notice::NotPresent { late } => {
                self.signs.warnings.set(NOT_PRESENT, not_present(*late));
            }
            Notice::PresentAgain => {
                self.signs.warnings.clear(NOT_PRESENT);
            }
            // The others are for the log.
            _ => {}
        }
    }
}

fn without_room(partitions: &[(u8, usize)]) -> String {
    let all: usize = partitions.iter().map(|(_, count)| count).sum();
    let of_each = partitions.iter().map(|(priority, count)| format!("{count} of priority {priority}"));
    format!(
        "{all} partitions have no owner, since no worker has room for them within its limit ({}): add workers, or raise \
         max_load or max_partitions",
        of_each.collect::<Vec<_>>().join(", ")
    )
}

fn not_present(late: bool) -> String {
    let why = if late {
        "hears itself too late: the server or this process is overloaded, or stalls; a longer probe_confirm bears that"
    } else {
        "does not hear itself on its probe subject, so that others would take it for gone: let its user publish and \
         subscribe to the subjects of parti_nats::permissions, and have as many subscriptions as it needs"
    };
    format!("this worker {why}")
}
