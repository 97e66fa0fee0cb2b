//! The settings of a worker, checked as a whole at construction.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::{self, HumanDuration};
use crate::ids::Slot;
use crate::planted::Planted;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(500);
/// The longest lease, window or timeout.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two planned rebalances: rounds without time between them would be one round, and the move
/// budget would limit nothing.
pub const MIN_REBALANCE_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest time to release a partition: the application needs some to answer at all.
pub const MIN_RELEASE_TIMEOUT: Duration = Duration::from_millis(100);
/// The shortest time between two probes.
pub const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// The largest number of slots in a group.
pub const MAX_SLOTS: u32 = 65_536;
/// The largest number of labels of a worker.
pub const MAX_LABELS: usize = 32;
/// The longest label name, label value, or software version, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// The settings of a worker.
///
/// Start from the default and change what you must; the lease is the one setting that most groups ever change. All
/// workers of a group should have the same settings but for those that speak of one worker: `preferred_slot`,
/// `predecessor_is_dead`, `capacity`, `labels` and `software`.
///
/// ```
/// use std::time::Duration;
/// use parti_core::Config;
///
/// let config = Config { lease: Duration::from_secs(20), expected_workers: Some(3), ..Config::default() };
/// assert_eq!(config.validate(), Ok(()));
/// ```
///
/// It is read from any format that serde knows. Durations are text such as `"10s"` or `"1m30s"` (see
/// [`HumanDuration`]), `probe_confirm` may be `"off"`, and `slots` is `{"first": 0, "last": 1023}`, both included. A key
/// that is missing has its default; one that is unknown is an error that lists the known ones. Reading checks the shape
/// only: [`validate`](Self::validate) checks the rules.
///
/// ```
/// use std::time::Duration;
/// use parti_core::{Config, Slot};
///
/// let text = r#"{"lease": "20s", "slots": {"first": 0, "last": 63}, "probe_confirm": "off"}"#;
/// let config: Config = serde_json::from_str(text)?;
/// assert_eq!(config.lease, Duration::from_secs(20));
/// assert_eq!(config.slots, (Slot::new(0), Slot::new(63)));
/// assert_eq!(config.probe_confirm, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a worker may act after its last committed renewal; 10 s by default, from 500 ms to 24 h.
    ///
    /// Choose it longer than the longest failover of the store that is to go unnoticed (up to 8.4 s for a three-node
    /// NATS cluster). Too short, and the fleet suspends its work whenever the store fails over; too long, and the
    /// partitions of a frozen or isolated worker are without an owner for that long. Renewals are sent every quarter of
    /// it, so half of it also means twice the writes; others wait an eighth more than it before they act.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// What a worker does when its lease runs out; [`Mode::Strict`] by default.
    ///
    /// Choose [`Mode::Available`] only where whatever the work writes to refuses stale fencing tokens, or where working
    /// twice does no harm.
    pub mode: Mode,
    /// The lowest and the highest slot of the group, both included; 0 to 1023 by default, at most 65536 of them.
    ///
    /// Choose several times the number of workers, so that newcomers at once find different slots. Too few, and workers
    /// stand by without work; more than enough costs nothing. All workers of a group must agree on it.
    #[serde(with = "slots")]
    pub slots: (Slot, Slot),
    /// The one slot to hold; none by default, and then any will do.
    ///
    /// Choose the ordinal of the pod in a `StatefulSet`, and nothing elsewhere: a worker whose slot is held by another
    /// waits for it, however many are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_slot: Option<Slot>,
    /// Whether an earlier holder of the preferred slot is certainly dead; false by default.
    ///
    /// Choose true where the platform starts a pod only after the one of the same name has ended, as a `StatefulSet`
    /// does: its slot is then taken over at once. Otherwise a crashed predecessor's slot is free when its lease has run
    /// out. True where it is not certain lets two processes work on the same partitions for up to a lease.
    pub predecessor_is_dead: bool,
    /// How many workers make a cold start complete, so that it goes on at once; none by default, and then it goes on
    /// when nobody has joined for `settle_window`.
    ///
    /// Choose the number of replicas. Too high, and a cold start waits for `settle_window` as if nothing were expected;
    /// too low, and it plans for the first few and moves partitions when the rest joins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_workers: Option<u32>,
    /// How long nobody must have joined before the leader plans for those who did; 2 s by default, at most
    /// `cold_start_window` and `planned_scale_window`.
    ///
    /// Choose a little more than the time between the starts of two workers of one rollout. Too short, and each of them
    /// causes a rebalance of its own; too long, and new workers idle.
    #[serde(with = "duration")]
    pub settle_window: Duration,
    /// The longest wait of a cold start, or for the return of workers most of which went at once; 30 s by default.
    ///
    /// Choose the time in which the platform brings up the whole fleet. Too short, and the first workers are given
    /// everything; too long, and a fleet whose workers keep coming one by one does not begin to work.
    #[serde(with = "duration")]
    pub cold_start_window: Duration,
    /// The longest wait after workers join a running group; 10 s by default.
    ///
    /// Choose the time in which one step of scaling up is done. Too short, and such a step takes several rebalances;
    /// too long, and a steady trickle of newcomers gets its first work late.
    #[serde(with = "duration")]
    pub planned_scale_window: Duration,
    /// The least time between two planned rebalances; 10 s by default, from 100 ms. Emergencies and leaving workers do
    /// not wait for it.
    ///
    /// Choose more than a usual handoff takes, so that a round is over before the next begins. Too short, and
    /// `move_budget_percent` hardly limits how much is in motion; too long, and it takes many minutes to reach balance.
    #[serde(with = "duration")]
    pub rebalance_interval: Duration,
    /// How long the partitions of a restarting worker are held for it; 60 s by default, and with 0 not at all.
    ///
    /// Choose more than a restart takes, from the end of the old process to the first write of the new one. Too short,
    /// and every restart is a crash whose partitions move; too long, and they are without an owner when the worker does
    /// not come back.
    #[serde(with = "duration")]
    pub restart_hold: Duration,
    /// How long a worker of another software version stands by for the slot of a departing one before it takes a fresh
    /// one; 60 s by default, and with 0 not at all.
    ///
    /// Choose more than a pod takes from ready to the end of the one it replaces, `release_timeout` included. Too
    /// short, and a rolling update with surge moves partitions twice; too long, and new workers idle where the old ones
    /// are to stay.
    #[serde(with = "duration")]
    pub surge_wait: Duration,
    /// How long the application may take to release a partition before it is told to drop the rest; 30 s by default,
    /// from 100 ms.
    ///
    /// Choose more than the slowest unit of work takes to finish, and less than the platform gives a stopping process.
    /// Too short, and work is cut off and done again; too long, and a stuck partition waits that long for its next
    /// owner.
    #[serde(with = "duration")]
    pub release_timeout: Duration,
    /// How often a leader asks whether a member's process is there; 250 ms by default, from 10 ms up to
    /// `probe_confirm`.
    ///
    /// Choose a third of `probe_confirm`. Shorter costs a message per worker each time and finds nothing sooner; longer
    /// rests the verdict on fewer probes.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// How long nobody must have answered before a leader may end a tenure early; 750 ms by default, at most `lease`.
    /// `None`, written `"off"`, turns probes off.
    ///
    /// Choose more than a worker's client takes to notice a closed connection: shorter than that, and a partition can
    /// have two owners for the difference. Longer finds killed processes later, and off only when the lease runs out.
    #[serde(with = "duration::or_off")]
    pub probe_confirm: Option<Duration>,
    /// How much load this worker takes compared with others; 1 by default.
    ///
    /// Choose the number of its cores, or 1 where all workers are alike. Too high overloads this worker, too low the
    /// others.
    pub capacity: u32,
    /// Labels of this worker, for placement; none by default, at most 32.
    ///
    /// Choose what partitions may ask for, such as a zone. A label that a partition asks for and no worker has leaves
    /// that partition without an owner.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The version of the user's software; empty by default.
    ///
    /// Choose what a rolling update changes, such as the image tag: a worker whose version differs from the others'
    /// waits for a departing one's slot (see `surge_wait`). Left empty, an update with surge moves partitions; changed
    /// at every start, each new worker waits in vain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub software: String,
    /// The largest share of the partitions whose owner stays that one planned round moves, in percent; 20 by default,
    /// from 1 to 100.
    ///
    /// Choose how much of the work may pause at once. Low reaches balance in many rounds, a `rebalance_interval` apart;
    /// 100 does it in one, in which nearly everything may be on the move.
    pub move_budget_percent: u32,
    /// More than this share of the workers gone at once counts as a restart of the fleet, for which `cold_start_window`
    /// is waited, in percent; 50 by default, from 1 to 100.
    ///
    /// Choose more than the largest failure that the rest is to take over at once, such as one zone of three. Low makes
    /// a few crashes look like a restart, and their partitions wait; at 100 nothing ever does, and the first worker to
    /// come back is given everything.
    pub restart_detection_percent: u32,
}

/// What a worker does when its lease runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It suspends all work at once: no partition ever has two owners.
    #[default]
    Strict,
    /// It goes on until it hears that it was replaced: no outage of the store stops the work, but a partition can have
    /// two owners while one of them is isolated, and only fencing tokens keep them apart.
    Available,
}

/// The shape of [`Config::slots`] in a file: names say what a pair would leave open, that the last one is included.
mod slots {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::ids::Slot;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "{\"first\": 0, \"last\": 1023} or the like")]
    struct Range {
        first: Slot,
        last: Slot,
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // The signature that serde asks for.
    pub(super) fn serialize<S: Serializer>((first, last): &(Slot, Slot), serializer: S) -> Result<S::Ok, S::Error> {
        Range { first: *first, last: *last }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(Slot, Slot), D::Error> {
        Range::deserialize(deserializer).map(|range| (range.first, range.last))
    }
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
        for (field, value, least) in [
            ("lease", self.lease, MIN_LEASE),
            ("settle_window", self.settle_window, Duration::ZERO),
            ("cold_start_window", self.cold_start_window, Duration::ZERO),
            ("planned_scale_window", self.planned_scale_window, Duration::ZERO),
            ("rebalance_interval", self.rebalance_interval, MIN_REBALANCE_INTERVAL),
            ("restart_hold", self.restart_hold, Duration::ZERO),
            ("surge_wait", self.surge_wait, Duration::ZERO),
            ("release_timeout", self.release_timeout, MIN_RELEASE_TIMEOUT),
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
    /// The deliberate bug of this worker.
    pub(crate) planted: Planted,
}

impl Timing {
    pub(crate) fn new(config: &Config) -> Self {
        let lease = config.lease;
        let retry = (lease / 16).min(Duration::from_millis(250));
        Self { lease, renewal: lease / 4, retry, margin: lease / 8, planted: Planted::default() }
    }

    /// How long an observer waits after a revision arrived before it may take its holder for stopped.
    pub(crate) fn observed_lease(&self) -> Duration {
        self.lease + self.margin
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    fn errors(broken: impl IntoIterator<Item = Config>) -> String {
        let errors = broken.into_iter().map(|config| config.validate().expect_err("a broken rule").to_string());
        errors.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_range_of_durations_names_itself_the_values_and_the_fix() {
        let (default, long) = (Config::default, MAX_DURATION + Duration::from_nanos(1));
        insta::assert_snapshot!(errors([
            Config { lease: Duration::ZERO, ..default() },
            Config { lease: long, ..default() },
            Config { settle_window: long, ..default() },
            Config { cold_start_window: long, ..default() },
            Config { planned_scale_window: long, ..default() },
            Config { rebalance_interval: Duration::ZERO, ..default() },
            Config { rebalance_interval: long, ..default() },
            Config { restart_hold: long, ..default() },
            Config { surge_wait: long, ..default() },
            Config { release_timeout: Duration::ZERO, ..default() },
            Config { release_timeout: long, ..default() },
            Config { probe_interval: Duration::ZERO, ..default() },
        ]));
    }

    #[test]
    fn each_contradiction_of_durations_names_itself_the_values_and_the_fix() {
        let default = Config::default;
        insta::assert_snapshot!(errors([
            Config { settle_window: Duration::from_secs(31), planned_scale_window: MAX_DURATION, ..default() },
            Config { settle_window: Duration::from_secs(11), ..default() },
            Config { probe_confirm: Some(Duration::from_millis(100)), ..default() },
            Config { probe_confirm: Some(Duration::from_secs(11)), ..default() },
            Config { expected_workers: Some(2), settle_window: Duration::ZERO, ..default() },
        ]));
    }

    #[test]
    fn each_other_rule_names_itself_the_values_and_the_fix() {
        let (default, slot) = (Config::default, Slot::new);
        let label = |name: &str, value: &str| BTreeMap::from([(name.into(), value.into())]);
        insta::assert_snapshot!(errors([
            Config { slots: (slot(4), slot(3)), ..default() },
            Config { slots: (slot(u32::MAX), slot(0)), ..default() },
            Config { slots: (slot(0), slot(u32::MAX)), ..default() },
            Config { slots: (slot(0), slot(65_536)), ..default() },
            Config { preferred_slot: Some(slot(1024)), ..default() },
            Config { predecessor_is_dead: true, ..default() },
            Config { expected_workers: Some(0), ..default() },
            Config { expected_workers: Some(1025), ..default() },
            Config { capacity: 0, ..default() },
            Config { move_budget_percent: 0, ..default() },
            Config { move_budget_percent: 101, ..default() },
            Config { restart_detection_percent: 0, ..default() },
            Config { restart_detection_percent: 101, ..default() },
            Config { labels: (0..33).map(|n| (n.to_string(), String::new())).collect(), ..default() },
            Config { labels: label(&"n".repeat(129), ""), ..default() },
            Config { labels: label("zone", "a\nb"), ..default() },
            Config { software: "x".repeat(129), ..default() },
        ]));
    }

    #[test]
    fn the_extremes_of_each_range_are_valid() {
        let slot = Slot::new;
        let least = Config {
            lease: MIN_LEASE,
            slots: (slot(7), slot(7)),
            preferred_slot: Some(slot(7)),
            predecessor_is_dead: true,
            expected_workers: Some(1),
            settle_window: Duration::ZERO,
            cold_start_window: Duration::ZERO,
            planned_scale_window: Duration::ZERO,
            rebalance_interval: MIN_REBALANCE_INTERVAL,
            restart_hold: Duration::ZERO,
            surge_wait: Duration::ZERO,
            release_timeout: MIN_RELEASE_TIMEOUT,
            probe_interval: MIN_PROBE_INTERVAL,
            probe_confirm: Some(MIN_PROBE_INTERVAL),
            move_budget_percent: 1,
            restart_detection_percent: 1,
            ..Config::default()
        };
        assert_eq!(least.validate(), Ok(()));
        let most = Config {
            lease: MAX_DURATION,
            slots: (slot(u32::MAX - MAX_SLOTS + 1), slot(u32::MAX)),
            preferred_slot: Some(slot(u32::MAX)),
            expected_workers: Some(MAX_SLOTS),
            settle_window: MAX_DURATION,
            cold_start_window: MAX_DURATION,
            planned_scale_window: MAX_DURATION,
            rebalance_interval: MAX_DURATION,
            restart_hold: MAX_DURATION,
            surge_wait: MAX_DURATION,
            release_timeout: MAX_DURATION,
            probe_interval: MAX_DURATION,
            probe_confirm: Some(MAX_DURATION),
            capacity: u32::MAX,
            labels: (0..MAX_LABELS).map(|n| (n.to_string(), "v".repeat(MAX_TEXT_BYTES))).collect(),
            software: "x".repeat(MAX_TEXT_BYTES),
            move_budget_percent: 100,
            restart_detection_percent: 100,
            ..Config::default()
        };
        assert_eq!(most.validate(), Ok(()));
    }

    fn read(text: &str) -> Result<Config, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_config_reads_back_from_json() {
        let config = Config {
            mode: Mode::Available,
            slots: (Slot::new(3), Slot::new(9)),
            preferred_slot: Some(Slot::new(5)),
            predecessor_is_dead: true,
            expected_workers: Some(4),
            settle_window: Duration::from_millis(1_500),
            surge_wait: Duration::from_secs(5_400),
            probe_confirm: None,
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            software: "1.2".into(),
            ..Config::default()
        };
        let text = serde_json::to_string_pretty(&config).expect("a config has no map keys but text");
        insta::assert_snapshot!(text);
        assert_eq!(read(&text), Ok(config));
        let default = serde_json::to_string(&Config::default()).expect("a config has no map keys but text");
        assert_eq!(read(&default), Ok(Config::default()));
    }

    #[test]
    fn a_missing_key_has_its_default() {
        assert_eq!(read("{}"), Ok(Config::default()));
        assert_eq!(read(r#"{"lease": "1m30s"}"#), Ok(Config { lease: Duration::from_secs(90), ..Config::default() }));
    }

    #[test]
    fn what_has_the_wrong_shape_is_refused_with_what_would_fit() {
        let texts = [
            r#"{"leese": "10s"}"#,
            r#"{"lease": 10}"#,
            r#"{"lease": "10"}"#,
            r#"{"probe_confirm": null}"#,
            r#"{"probe_confirm": "of"}"#,
            r#"{"slots": 7}"#,
            r#"{"slots": {"first": 0}}"#,
            r#"{"slots": {"first": 0, "last": 7, "step": 2}}"#,
            r#"{"mode": "lenient"}"#,
            r#"{"capacity": -1}"#,
            r#"{"lease": "10s", "lease": "20s"}"#,
        ];
        let errors = texts.map(|text| format!("{text}\n    {}", read(text).expect_err(text)));
        insta::assert_snapshot!(errors.join("\n"));
    }
}
