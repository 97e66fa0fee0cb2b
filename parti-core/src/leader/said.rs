//! Leader: what it has said of its plans, so that nothing is said twice.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::Notice;
use crate::outbox::Outbox;

/// What still holds of what was said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Why there is no plan, if there is none.
    refused: Option<String>,
    /// How many partitions of which priority no worker has room for, the highest first.
    without_room: Vec<(u8, usize)>,
}

impl Said {
    pub(crate) fn tell_refusal(&mut self, reason: String, outbox: &mut Outbox) {
        if self.refused.as_ref() != Some(&reason) {
            outbox.notice(Notice::PlanRefused { reason: reason.clone() });
            self.refused = Some(reason);
        }
    }

    /// There is a plan.
    pub(crate) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    pub(crate) fn tell_room(&mut self, without_room: &[(u8, usize)], outbox: &mut Outbox) {
        if self.without_room == without_room {
            return;
        }
        self.without_room = without_room.to_vec();
        outbox.notice(match without_room {
            [] => Notice::RoomForAll,
            without_room => Notice::WithoutRoom { partitions: without_room.to_vec() },
        });
    }

    /// How many partitions no worker has room for.
    pub(crate) fn without_room(&self) -> usize {
        self.without_room.iter().map(|(_, count)| count).sum()
    }
}
