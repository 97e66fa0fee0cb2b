//! How a process comes into the world.

use parti_core::assign::Labels;
use parti_core::{Config, Mode, Slot, StrategyChoice};

/// How a process comes into the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Birth {
    /// The slot that it asks for.
    pub(crate) preferred_slot: Option<Slot>,
    /// Whether an earlier holder of that slot is certainly dead.
    pub(crate) predecessor_is_dead: bool,
    /// The version of the user's software.
    pub(crate) software: String,
    /// How much load it takes compared with others; 0 stands for 1.
    pub(crate) capacity: u32,
    /// What partitions can ask for.
    pub(crate) labels: Labels,
    /// The number of the worker whose process it is, where somebody numbers them.
    pub(crate) number: u32,
    /// How it divides the partitions where it leads, if not as the group's settings say.
    pub(crate) strategy: Option<StrategyChoice>,
    /// What it does when its lease runs out, if not what the group's settings say.
    pub(crate) mode: Option<Mode>,
    /// Which list of partitions it has; 0 for all that are listed.
    pub(crate) list: u32,
}

impl Birth {
    /// The config of a process born like this into a group with these settings.
    pub(crate) fn config(&self, group: &Config) -> Config {
        Config {
            preferred_slot: self.preferred_slot,
            predecessor_is_dead: self.predecessor_is_dead,
            software: self.software.clone(),
            capacity: self.capacity.max(1),
            labels: self.labels.clone(),
            strategy: self.strategy.unwrap_or(group.strategy),
            mode: self.mode.unwrap_or(group.mode),
            ..group.clone()
        }
    }
}
