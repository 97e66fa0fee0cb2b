//! Whether a worker has the settings of the one that leads.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::Notice;
use crate::ids::Slot;
use crate::outbox::Outbox;
use crate::stored::settings::{Difference, SharedSettings};
use crate::time::{Duration, Instant};

/// Whether a worker agrees with its leader.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agreement {
    differences: Vec<Difference>,
    since: Instant,
    told: bool,
}

impl Agreement {
    /// Compares with what the leader, if another worker leads, has said last. A difference counts once it has lasted for
    /// `patience`: lists that change are not read by all at the same time.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        patience: Duration,
        own: &SharedSettings,
        leader: Option<(Slot, &SharedSettings)>,
        outbox: &mut Outbox,
    ) {
        let Some((slot, leaders)) = leader.filter(|(_, leaders)| *leaders != own) else {
            return *self = Self::default();
        };
        let differences = own.differences(leaders);
        if differences != self.differences {
            *self = Self { differences, since: now, told: false };
        }
        if !self.told && !self.differences.is_empty() && now >= self.since + patience {
            self.told = true;
            for difference in &self.differences {
                outbox.notice(Notice::SettingDiffers { leader: slot, difference: difference.clone() });
            }
        }
    }

    /// When a difference will have lasted long enough to be told.
    pub(crate) fn deadline(&self, patience: Duration) -> Option<Instant> {
        (!self.told && !self.differences.is_empty()).then(|| self.since + patience)
    }

    /// The differences that were told and hold.
    pub(crate) fn differences(&self) -> &[Difference] {
        if self.told { &self.differences } else { &[] }
    }
}
