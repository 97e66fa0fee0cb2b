//! What an operator should hear, as log events.

use parti_core::{GroupName, Notice};

/// Logs a notice, louder if somebody should look.
pub(crate) fn log(group: &GroupName, notice: &Notice) {
    match notice {
        Notice::SlotLost { .. }
        | Notice::Evicted { .. }
        | Notice::Unplaced { .. }
        | Notice::ReleaseTimedOut { .. }
        | Notice::Undecodable { .. }
        | Notice::StoreRegressed { .. } => tracing::warn!(%group, ?notice, "notice"),
        // What is not known here yet is at least said.
        _ => tracing::info!(%group, ?notice, "notice"),
    }
}
