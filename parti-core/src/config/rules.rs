//! The rules that settings must follow, each with its error.

use alloc::string::String;
use core::time::Duration;

use super::{
    Config, MAX_DURATION, MAX_LABELS, MAX_SLOTS, MAX_TEXT_BYTES, MAX_VIRTUAL_NODES, MIN_LEASE, MIN_LOAD_HALF_LIFE,
    MIN_PROBE_INTERVAL, MIN_REBALANCE_INTERVAL, MIN_RELEASE_TIMEOUT, StrategyChoice,
};
use crate::duration::HumanDuration;
use crate::ids::Slot;

impl Config {
    /// Checks every rule. Called by [`Worker::new`](crate::Worker::new).
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with the rule, the values and the fix, for the first rule that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_durations()?;
        self.validate_slots()?;
        self.validate_shares()?;
        self.validate_texts()
    }

    fn validate_durations(&self) -> Result<(), ConfigError> {
        for (field, value, least) in [
            ("lease", self.lease, MIN_LEASE),
            ("settle_window", self.settle_window, Duration::ZERO),
            ("cold_start_window", self.cold_start_window, Duration::ZERO),
            ("planned_scale_window", self.planned_scale_window, Duration::ZERO),
            ("rebalance_interval", self.rebalance_interval, MIN_REBALANCE_INTERVAL),
            ("restart_hold", self.restart_hold, Duration::ZERO),
            ("surge_wait", self.surge_wait, Duration::ZERO),
            ("release_timeout", self.release_timeout, MIN_RELEASE_TIMEOUT),
            ("load_half_life", self.load_half_life, MIN_LOAD_HALF_LIFE),
        ] {
            in_range(field, value, least)?;
        }
        let settle = ("settle_window", self.settle_window);
        let maximum = "which is the longest that it may grow to";
        not_longer(settle, ("cold_start_window", self.cold_start_window), maximum)?;
        not_longer(settle, ("planned_scale_window", self.planned_scale_window), maximum)?;
        if let Some(confirm) = self.probe_confirm {
            in_range("probe_interval", self.probe_interval, MIN_PROBE_INTERVAL)?;
            let (interval, confirm) = (("probe_interval", self.probe_interval), ("probe_confirm", confirm));
            not_longer(interval, confirm, "within which it takes at least two probes")?;
            not_longer(confirm, ("lease", self.lease), "after which no probe is needed")?;
        }
        Ok(())
    }

    fn validate_slots(&self) -> Result<(), ConfigError> {
        let (first, last) = self.slots;
        let count = u64::from(last.value()) + 1 - u64::from(first.value()).min(u64::from(last.value()) + 1);
        if count == 0 || count > u64::from(MAX_SLOTS) {
            return Err(ConfigError::SlotRange { first, last });
        }
        match self.preferred_slot {
            Some(slot) if !(first..=last).contains(&slot) => {
                return Err(ConfigError::PreferredSlot { slot, first, last });
            }
            None if self.predecessor_is_dead => return Err(ConfigError::PredecessorWithoutSlot),
            Some(_) | None => {}
        }
        match self.expected_workers {
            Some(expected) if expected == 0 || u64::from(expected) > count => {
                Err(ConfigError::ExpectedWorkers { expected, slots: count })
            }
            Some(expected) if expected > 1 && self.settle_window.is_zero() => {
                Err(ConfigError::ExpectedWithoutWait { expected })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn validate_shares(&self) -> Result<(), ConfigError> {
        if self.capacity == 0 {
            return Err(ConfigError::Capacity);
        }
        for (field, percent) in [
            ("move_budget_percent", self.move_budget_percent),
            ("restart_detection_percent", self.restart_detection_percent),
        ] {
            if !(1..=100).contains(&percent) {
                return Err(ConfigError::Percent { field, percent });
            }
        }
        for (field, limit) in [("max_load", self.max_load), ("max_partitions", self.max_partitions.map(u64::from))] {
            match limit {
                Some(0) => return Err(ConfigError::Limit { field }),
                Some(_) if self.strategy != StrategyChoice::Balanced => {
                    return Err(ConfigError::LimitWithoutBalance { field });
                }
                Some(_) | None => {}
            }
        }
        match self.strategy {
            StrategyChoice::ConsistentHash { virtual_nodes } if !(1..=MAX_VIRTUAL_NODES).contains(&virtual_nodes) => {
                Err(ConfigError::VirtualNodes { virtual_nodes })
            }
            StrategyChoice::ConsistentHash { .. } | StrategyChoice::Balanced | StrategyChoice::RoundRobin => Ok(()),
        }
    }

    fn validate_texts(&self) -> Result<(), ConfigError> {
        if self.labels.len() > MAX_LABELS {
            return Err(ConfigError::TooManyLabels { count: self.labels.len() });
        }
        let labels = self.labels.iter().flat_map(|(name, value)| [("labels", name), ("labels", value)]);
        for (field, text) in labels.chain([("software", &self.software)]) {
            if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
                return Err(ConfigError::Text { field, text: text.escape_debug().take(64).collect() });
            }
        }
        Ok(())
    }
}

fn in_range(field: &'static str, value: Duration, least: Duration) -> Result<(), ConfigError> {
    if (least..=MAX_DURATION).contains(&value) { Ok(()) } else { Err(ConfigError::Duration { field, value, least }) }
}

fn not_longer(
    (shorter, short): (&'static str, Duration),
    (longer, long): (&'static str, Duration),
    because: &'static str,
) -> Result<(), ConfigError> {
    if short <= long { Ok(()) } else { Err(ConfigError::Order { shorter, short, longer, long, because }) }
}

/// A setting, or two that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration is out of range.
    #[error(
        "{field} must be from {} to {}, but is {}: choose one in that range",
        HumanDuration(*least), HumanDuration(MAX_DURATION), HumanDuration(*value)
    )]
    Duration {
        /// Which setting.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The least that is allowed.
        least: Duration,
    },
    /// One duration must not be longer than another.
    #[error(
        "{shorter} must not be longer than {longer}, {because}, but {} > {}: shorten the one or lengthen the other",
        HumanDuration(*short), HumanDuration(*long)
    )]
    Order {
        /// The one that should be shorter.
        shorter: &'static str,
        /// Its value.
        short: Duration,
        /// The one that should be longer.
        longer: &'static str,
        /// Its value.
        long: Duration,
        /// Why.
        because: &'static str,
    },
    /// The range of slots is empty or too large.
    #[error(
        "slots must be a range of 1 to {MAX_SLOTS} slots, but is {first} to {last}: give the lowest slot first, and for \
         more workers use several groups"
    )]
    SlotRange {
        /// The lowest slot.
        first: Slot,
        /// The highest slot.
        last: Slot,
    },
    /// The preferred slot is not in the range.
    #[error("preferred_slot must be in slots, but {slot} is not in {first} to {last}: widen slots or choose another")]
    PreferredSlot {
        /// The preferred slot.
        slot: Slot,
        /// The lowest slot.
        first: Slot,
        /// The highest slot.
        last: Slot,
    },
    /// The predecessor is said to be dead, but nothing says which predecessor.
    #[error("predecessor_is_dead needs preferred_slot, which is not set: set preferred_slot to the pod's ordinal")]
    PredecessorWithoutSlot,
    /// More workers are expected than there are slots, or none.
    #[error(
        "expected_workers must be from 1 to the number of slots, but {expected} are expected and there are {slots} \
         slots: expect fewer or widen slots"
    )]
    ExpectedWorkers {
        /// How many are expected.
        expected: u32,
        /// How many slots there are.
        slots: u64,
    },
    /// More workers are expected than the first, but none is waited for.
    #[error(
        "expected_workers needs a settle_window to wait for them, but {expected} are expected and settle_window is 0s: \
         lengthen settle_window, or expect none"
    )]
    ExpectedWithoutWait {
        /// How many are expected.
        expected: u32,
    },
    /// The capacity is zero.
    #[error("capacity must be at least 1, but is 0: use 1 where all workers are alike")]
    Capacity,
    /// A limit leaves no room for anything.
    #[error("{field} must be at least 1, but is 0: raise it, or drain a worker that is to have nothing")]
    Limit {
        /// Which setting.
        field: &'static str,
    },
    /// A limit is given for a strategy that keeps none.
    #[error(
        "{field} needs the strategy \"balanced\", as the others know no limits: use that strategy, or remove {field}"
    )]
    LimitWithoutBalance {
        /// Which setting.
        field: &'static str,
    },
    /// A share is out of range.
    #[error("{field} must be from 1 to 100, but is {percent}: choose one in that range")]
    Percent {
        /// Which setting.
        field: &'static str,
        /// Its value.
        percent: u32,
    },
    /// The number of points on the ring is out of range.
    #[error(
        "virtual_nodes must be from 1 to {MAX_VIRTUAL_NODES}, but is {virtual_nodes}: choose one in that range, such as 150"
    )]
    VirtualNodes {
        /// The number of points.
        virtual_nodes: u32,
    },
    /// There are too many labels.
    #[error("a worker must have at most {MAX_LABELS} labels, but has {count}: remove some")]
    TooManyLabels {
        /// How many there are.
        count: usize,
    },
    /// A text is too long or has control characters.
    #[error(
        "{field} must have at most {MAX_TEXT_BYTES} bytes and no control characters, but one is \"{text}\": shorten it \
         or remove them"
    )]
    Text {
        /// Which setting.
        field: &'static str,
        /// Its start, escaped.
        text: String,
    },
}
