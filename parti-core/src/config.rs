//! The settings of a worker, checked as a whole at construction.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use crate::ids::Slot;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(500);
/// The longest lease, window or timeout.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// The largest number of slots in a group.
pub const MAX_SLOTS: u32 = 65_536;
/// The largest number of labels of a worker.
pub const MAX_LABELS: usize = 32;
/// The longest label name, label value, or software version, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// The settings of a worker. All workers of a group should have the same lease, windows and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a worker may act after its last committed renewal; 10 s by default.
    ///
    /// It must outlast a failover of the store (up to 8.4 s for a three-node NATS cluster): a shorter lease suspends
    /// the fleet whenever the store fails over, a longer one leaves the partitions of a frozen worker without an owner
    /// for longer. Renewals are sent every quarter of it, and others wait an eighth more than it before they act.
    pub lease: Duration,
    /// What a worker does when its lease runs out.
    pub mode: Mode,
    /// The lowest and the highest slot of the group; 0 to 1023 by default.
    ///
    /// Its size is the largest number of workers; further ones stand by.
    pub slots: (Slot, Slot),
    /// The one slot to hold, such as the ordinal of a `StatefulSet` pod; none by default.
    pub preferred_slot: Option<Slot>,
    /// Whether an earlier holder of the preferred slot is certainly dead, as it is where the platform starts a pod
    /// only after the one of the same name has ended. Its slot is then taken over at once. If it is not certain, two
    /// processes can work on the same partitions until the earlier one's lease runs out. False by default.
    pub predecessor_is_dead: bool,
    /// How many workers a cold start waits for; when so many are there, it goes on at once. None by default: it goes
    /// on when nobody has joined for `settle_window`.
    pub expected_workers: Option<u32>,
    /// How long nobody must have joined before the leader plans; 2 s by default. Shorter spreads load sooner, longer
    /// gathers more joins into one plan.
    pub settle_window: Duration,
    /// The longest wait of a cold start or a restart of most workers; 30 s by default.
    pub cold_start_window: Duration,
    /// The longest wait after workers join a running group; 10 s by default.
    pub planned_scale_window: Duration,
    /// The least time between two planned rebalances; 10 s by default.
    pub rebalance_interval: Duration,
    /// How long the partitions of a restarting worker are held for it; 60 s by default. Shorter than a restart takes
    /// makes every restart a crash; longer leaves partitions without an owner when the worker does not come back.
    pub restart_hold: Duration,
    /// How long a worker of another software version stands by for the slot of a departing one before it takes a
    /// fresh one; 60 s by default.
    pub surge_wait: Duration,
    /// How long the application may take to release a partition before it is cancelled; 30 s by default.
    pub release_timeout: Duration,
    /// How often a leader asks whether a member's process is there; 250 ms by default.
    pub probe_interval: Duration,
    /// How long nobody must have answered before a leader may end a tenure early; 750 ms by default, `None` turns
    /// probes off. A worker's client must notice a closed connection within this time.
    pub probe_confirm: Option<Duration>,
    /// How much load this worker takes compared with others; 1 by default.
    pub capacity: u32,
    /// Labels of this worker, for placement; none by default.
    pub labels: BTreeMap<String, String>,
    /// The version of the user's software; empty by default.
    pub software: String,
    /// The largest share of the partitions whose owner stays that one planned round moves, in percent; 20 by default.
    pub move_budget_percent: u32,
    /// More than this share of the workers gone at once counts as a restart of the fleet, in percent; 50 by default.
    pub restart_detection_percent: u32,
}

/// What a worker does when its lease runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It suspends all work at once: no partition ever has two owners.
    #[default]
    Strict,
    /// It goes on until it hears that it was replaced: no outage of the store stops the work, but a partition can have
    /// two owners while one of them is isolated, and only fencing tokens keep them apart.
    Available,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            mode: Mode::Strict,
            slots: (Slot::new(0), Slot::new(1023)),
            preferred_slot: None,
            predecessor_is_dead: false,
            expected_workers: None,
            settle_window: Duration::from_secs(2),
            cold_start_window: Duration::from_secs(30),
            planned_scale_window: Duration::from_secs(10),
            rebalance_interval: Duration::from_secs(10),
            restart_hold: Duration::from_secs(60),
            surge_wait: Duration::from_secs(60),
            release_timeout: Duration::from_secs(30),
            probe_interval: Duration::from_millis(250),
            probe_confirm: Some(Duration::from_millis(750)),
            capacity: 1,
            labels: BTreeMap::new(),
            software: String::new(),
            move_budget_percent: 20,
            restart_detection_percent: 50,
        }
    }
}

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
        in_range("lease", self.lease, MIN_LEASE)?;
        for (field, value) in [
            ("settle_window", self.settle_window),
            ("cold_start_window", self.cold_start_window),
            ("planned_scale_window", self.planned_scale_window),
            ("rebalance_interval", self.rebalance_interval),
            ("restart_hold", self.restart_hold),
            ("surge_wait", self.surge_wait),
            ("release_timeout", self.release_timeout),
        ] {
            in_range(field, value, Duration::ZERO)?;
        }
        not_longer(("settle_window", self.settle_window), ("cold_start_window", self.cold_start_window))?;
        not_longer(("settle_window", self.settle_window), ("planned_scale_window", self.planned_scale_window))?;
        if let Some(confirm) = self.probe_confirm {
            in_range("probe_interval", self.probe_interval, Duration::from_millis(10))?;
            not_longer(("probe_interval", self.probe_interval), ("probe_confirm", confirm))?;
            not_longer(("probe_confirm", confirm), ("lease", self.lease))?;
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
        Ok(())
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
) -> Result<(), ConfigError> {
    if short <= long { Ok(()) } else { Err(ConfigError::Order { shorter, short, longer, long }) }
}

/// A setting, or two that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration is out of range.
    #[error("{field} must be from {least:?} to {MAX_DURATION:?}, but is {value:?}: choose one in that range")]
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
        "{shorter} must not be longer than {longer}, but {short:?} > {long:?}: shorten the one or lengthen the other"
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
    },
    /// The range of slots is empty or too large.
    #[error("slots must be a range of 1 to {MAX_SLOTS} slots, but is {first} to {last}: give the lowest slot first")]
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
        "expected_workers must be from 1 to the number of slots, but {expected} are expected and there are {slots} slots: widen slots"
    )]
    ExpectedWorkers {
        /// How many are expected.
        expected: u32,
        /// How many slots there are.
        slots: u64,
    },
    /// The capacity is zero.
    #[error("capacity must be at least 1, but is 0: use 1 where all workers are alike")]
    Capacity,
    /// A share is out of range.
    #[error("{field} must be from 1 to 100, but is {percent}: choose one in that range")]
    Percent {
        /// Which setting.
        field: &'static str,
        /// Its value.
        percent: u32,
    },
    /// There are too many labels.
    #[error("a worker must have at most {MAX_LABELS} labels, but has {count}: remove some")]
    TooManyLabels {
        /// How many there are.
        count: usize,
    },
    /// A text is too long or has control characters.
    #[error(
        "{field} must have at most {MAX_TEXT_BYTES} bytes and no control characters, but one is \"{text}\": shorten it"
    )]
    Text {
        /// Which setting.
        field: &'static str,
        /// Its start, escaped.
        text: String,
    },
}

/// The durations that the rest of the core works with, derived from a valid [`Config`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// See [`Config::lease`].
    pub(crate) lease: Duration,
    /// From one renewal to the next: a quarter of the lease.
    pub(crate) renewal: Duration,
    /// From a failed write to the next try: at most 250 ms.
    pub(crate) retry: Duration,
    /// What an observer waits for beyond the lease, against clocks of different rates: an eighth of the lease.
    pub(crate) margin: Duration,
}

impl Timing {
    pub(crate) fn new(config: &Config) -> Self {
        let lease = config.lease;
        let retry = (lease / 16).min(Duration::from_millis(250));
        Self { lease, renewal: lease / 4, retry, margin: lease / 8 }
    }

    /// How long an observer waits after a revision arrived before it may take its holder for stopped.
    pub(crate) fn observed_lease(&self) -> Duration {
        self.lease + self.margin
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn each_rule_names_itself_the_values_and_the_fix() {
        let default = Config::default;
        let slot = Slot::new;
        let broken = [
            Config { lease: Duration::ZERO, ..default() },
            Config { settle_window: Duration::from_secs(11), ..default() },
            Config { probe_confirm: Some(Duration::from_millis(100)), ..default() },
            Config { probe_confirm: Some(Duration::from_secs(11)), ..default() },
            Config { slots: (slot(4), slot(3)), ..default() },
            Config { slots: (slot(0), slot(u32::MAX)), ..default() },
            Config { preferred_slot: Some(slot(1024)), ..default() },
            Config { predecessor_is_dead: true, ..default() },
            Config { expected_workers: Some(1025), ..default() },
            Config { capacity: 0, ..default() },
            Config { move_budget_percent: 101, ..default() },
            Config { software: "x".repeat(129), ..default() },
        ];
        let errors: Vec<_> =
            broken.iter().map(|config| config.validate().expect_err("a broken rule").to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
