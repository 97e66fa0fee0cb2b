//! What applications report of how heavy their partitions are.

use serde::{Deserialize, Serialize};

/// What applications report of how heavy their partitions are; by default nothing, and the list measures nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// From one report of each partition to the next; 0 if nothing is measured.
    pub report_every_ms: u64,
    /// By how much a report is off, at most, in percent.
    pub noise_percent: u32,
    /// Every so-manieth worker reports nothing, as one of an older version does; 0 for none.
    pub silent_every: u32,
    /// Every so-manieth partition is not measured; 0 for none.
    pub unmeasured_every: u32,
}

impl LoadOptions {
    /// Whether anything is measured.
    pub(crate) const fn are_measured(&self) -> bool {
        self.report_every_ms > 0
    }

    /// Whether the `number`th partition is measured.
    pub(crate) fn measures(&self, number: u32) -> bool {
        self.are_measured() && number.checked_rem(self.unmeasured_every) != Some(0)
    }

    /// Whether the `number`th process reports anything.
    pub(crate) fn reports(&self, number: usize) -> bool {
        self.are_measured() && number.checked_rem(self.silent_every as usize) != Some(0)
    }
}
