//! What an operator should hear, as log events with stable names.

use parti_core::{GroupName, Notice};

/// Logs a notice, louder if somebody should look. The field `event` is the name of what happened, and does not change
/// from one version to the next; the field `notice` has the details, and the message says the same in words.
pub(crate) fn log(group: &GroupName, notice: &Notice) {
    let event = name(notice);
    match notice {
        Notice::NotPresent { .. }
        | Notice::SlotLost { .. }
        | Notice::Evicted { .. }
        | Notice::Resting { .. }
        | Notice::Unplaced { .. }
        | Notice::WithoutRoom { .. }
        | Notice::PlanRefused { .. }
        | Notice::ReleaseTimedOut { .. }
        | Notice::SettingDiffers { .. }
        | Notice::Undecodable { .. }
        | Notice::UnreadableReplaced { .. }
        | Notice::StoreRegressed { .. } => tracing::warn!(%group, event, ?notice, "{notice}"),
        // What is not known here yet is at least said.
        _ => tracing::info!(%group, event, ?notice, "{notice}"),
    }
}

/// The name of a notice in the log.
fn name(notice: &Notice) -> &'static str {
    match notice {
        Notice::SlotClaimed { .. } => "slot_claimed",
        Notice::Standby { .. } => "standby",
        Notice::NotPresent { .. } => "not_present",
        Notice::PresentAgain => "present_again",
        Notice::SlotLost { .. } => "slot_lost",
        Notice::LeadershipGained { .. } => "leadership_gained",
        Notice::LeadershipLost { .. } => "leadership_lost",
        Notice::Evicted { .. } => "evicted",
        Notice::Waiting { .. } => "waiting",
        Notice::Planned { .. } => "planned",
        Notice::Resting { .. } => "resting",
        Notice::Unplaced { .. } => "unplaced",
        Notice::WithoutRoom { .. } => "without_room",
        Notice::RoomForAll => "room_for_all",
        Notice::PlanRefused { .. } => "plan_refused",
        Notice::ReleaseTimedOut { .. } => "release_timed_out",
        Notice::SettingDiffers { .. } => "settings_differ",
        Notice::Undecodable { .. } => "undecodable",
        Notice::UnreadableReplaced { .. } => "unreadable_replaced",
        Notice::StoreRegressed { .. } => "store_regressed",
        _ => "other",
    }
}
