//! The settings of a worker, checked as a whole at construction.

mod rules;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::assign::{Balanced, ConsistentHash, RoundRobin, Strategy};
use crate::duration;
use crate::ids::Slot;

pub use rules::ConfigError;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(500);
/// The longest lease, window or timeout.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two planned rebalances: rounds without time between them would be one round, and the move
/// budget would limit nothing.
pub const MIN_REBALANCE_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest time to release a partition: the application needs some to answer at all.
pub const MIN_RELEASE_TIMEOUT: Duration = Duration::from_millis(100);
/// The shortest half-life of reports of load: shorter, and what is reported is a burst and not a load.
pub const MIN_LOAD_HALF_LIFE: Duration = Duration::from_secs(1);
/// What a stop waits for at the end, at most, when all time to release is over: for the application to drop what it has
/// been told to cancel, and for the last write. Half of the lease where that is less.
pub const LAST_WAIT: Duration = Duration::from_secs(5);
/// The shortest time between two probes.
pub const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// The largest number of slots in a group.
pub const MAX_SLOTS: u32 = 65_536;
/// The largest number of points that a worker has on the ring of [`StrategyChoice::ConsistentHash`].
pub const MAX_VIRTUAL_NODES: u32 = 10_000;
/// The largest number of labels of a worker, or that a partition asks for.
pub const MAX_LABELS: usize = 32;
/// The longest label name, label value, or software version, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// The settings of a worker.
///
/// Start from the default and change what you must; the lease is the one setting that most groups ever change. All
/// workers of a group should have the same settings but for those that speak of one worker: `preferred_slot`,
/// `predecessor_is_dead`, `capacity`, `max_load`, `max_partitions`, `labels` and `software`.
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
/// [`HumanDuration`](crate::HumanDuration)), `probe_confirm` may be `"off"`, and `slots` is `{"first": 0, "last": 1023}`, both included. A key
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
    ///
    /// Each worker says in its record by which lease it acts, and is judged by that one: to change it, roll the change out
    /// like any other. Nobody is evicted for it, whether the lease becomes longer or shorter.
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
    /// How long the application may take to release a partition before it is told to drop the rest; 10 s by default,
    /// from 100 ms.
    ///
    /// Choose more than the slowest unit of work takes to finish, and so little that twice this and
    /// [`LAST_WAIT`] is less than the platform gives a stopping process (30 s in Kubernetes): a worker that leaves gives
    /// others this long to take over, then its application this long to finish. Too short, and work is cut off and done
    /// again; too long, and a stuck partition waits that long for its next owner.
    #[serde(with = "duration")]
    pub release_timeout: Duration,
    /// How often a leader asks for a process for which nobody has listened; 250 ms by default, from 10 ms up to
    /// `probe_confirm`. In quiet it asks for every member half as often.
    ///
    /// Choose a third of `probe_confirm`. Shorter costs messages and finds a killed process hardly sooner; longer rests the
    /// verdict on fewer probes, and finds it later by twice the difference.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// Over how long a worker's own server must have said, again and again, that *nobody listens* where its process was,
    /// before its tenure may be ended early; 750 ms by default, at most `lease`. Probes that time out do not count.
    /// `None`, written `"off"`, turns probes off, and only the lease decides.
    ///
    /// This is the dial between killed workers that are found soon and servers that may be slow: a worker asks itself four
    /// times in this time whether it is still there, and works on nothing while that has not come back for three quarters
    /// of it. Choose more than the longest stall of a server that is to go unnoticed. Shorter, and such a stall suspends
    /// the workers at that server; longer, and killed processes are found later; off, and they are found when their leases
    /// run out. Workers that differ in it, as in a rolling change, do no harm: each is judged by its own, which its record
    /// says.
    #[serde(with = "duration::or_off")]
    pub probe_confirm: Option<Duration>,
    /// How soon reports of the load of [measured](crate::Partition::measured) partitions count: after this time a change
    /// counts half, after twice this time three quarters, and so on; 1 min by default, from 1 s.
    ///
    /// Nothing moves because of a measured load before that has been uneven for twice this long, nor more often, and a
    /// partition that has moved because of it rests for four times as long. Choose how long a load must last to be
    /// worth a move. Too short, and a burst of traffic moves partitions; too long, and a worker is overloaded for that long.
    #[serde(with = "duration")]
    pub load_half_life: Duration,
    /// How much load this worker takes compared with others; 1 by default.
    ///
    /// Choose the number of its cores, or 1 where all workers are alike. Too high overloads this worker, too low the
    /// others.
    pub capacity: u32,
    /// The most load that this worker takes, in units of the partitions' weights; no limit by default, at least 1. Where the
    /// list [measures](crate::Partition::measured) loads, it is in the units that are reported, as soon as there are reports:
    /// let the weights in the list be in the same units.
    ///
    /// Choose what it can bear, such as what its memory holds. A limit is hard: what finds no room in the whole group has no
    /// owner, the least important first (see [`Partition::priority`](crate::Partition::priority)), where else all workers
    /// would get more than they bear, and die one after the other. Too low, and partitions wait though there is room;
    /// too high, and it protects nobody. One that is lowered takes effect with the worker's next start, within a
    /// `rebalance_interval`. Only [`StrategyChoice::Balanced`] keeps limits.
    ///
    /// ```
    /// use parti_core::{Config, ConfigError};
    ///
    /// let config = Config { max_load: Some(400), max_partitions: Some(1_000), ..Config::default() };
    /// assert_eq!(config.validate(), Ok(()));
    /// let nothing = Config { max_load: Some(0), ..Config::default() };
    /// assert_eq!(nothing.validate(), Err(ConfigError::Limit { field: "max_load" }));
    /// ```
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_load: Option<u64>,
    /// The most partitions that this worker takes; no limit by default, at least 1.
    ///
    /// Choose what it can bear of what each partition costs, however light it is, such as connections or open files. It is
    /// as hard as `max_load`, and both hold where both are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_partitions: Option<u32>,
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
    /// How partitions are divided among the workers; [`StrategyChoice::Balanced`] by default.
    ///
    /// Choose another one only where others compute the same assignment without asking, as with a hash ring. All workers
    /// of a group must agree on it, or each leader moves what the one before has placed. For one of your own see
    /// [`Worker::with_strategy`](crate::Worker::with_strategy).
    pub strategy: StrategyChoice,
    /// One planned round moves less than this share of the partitions whose owner stays, but may always move one; in
    /// percent, 20 by default, from 1 to 100, which is no limit.
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

/// The ways to divide partitions that come with the library; in a file `"balanced"`, `"round-robin"` or
/// `{"consistent-hash": {"virtual_nodes": 150}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StrategyChoice {
    /// Keeps every partition where it is unless balance or capacity says otherwise: see [`Balanced`].
    #[default]
    Balanced,
    /// A ring of hashes with bounded loads: see [`ConsistentHash`].
    ConsistentHash {
        /// How many points on the ring a worker of average capacity has, from 1 to [`MAX_VIRTUAL_NODES`]; 150 where it is
        /// not given.
        #[serde(default = "default_virtual_nodes")]
        virtual_nodes: u32,
    },
    /// Sorted partitions are dealt to sorted workers: see [`RoundRobin`].
    RoundRobin,
}

fn default_virtual_nodes() -> u32 {
    ConsistentHash::default().virtual_nodes
}

impl StrategyChoice {
    /// What carries it out.
    pub(crate) fn strategy(self) -> Arc<dyn Strategy> {
        match self {
            Self::Balanced => Arc::new(Balanced),
            Self::ConsistentHash { virtual_nodes } => Arc::new(ConsistentHash { virtual_nodes }),
            Self::RoundRobin => Arc::new(RoundRobin),
        }
    }
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
            release_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_millis(250),
            probe_confirm: Some(Duration::from_millis(750)),
            load_half_life: Duration::from_secs(60),
            capacity: 1,
            max_load: None,
            max_partitions: None,
            labels: BTreeMap::new(),
            software: String::new(),
            strategy: StrategyChoice::Balanced,
            move_budget_percent: 20,
            restart_detection_percent: 50,
        }
    }
}

/// The durations that the rest of the core works with, derived from a valid [`Config`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// See [`Config::lease`].
    pub(crate) lease: Duration,
    /// From one renewal to the next: a quarter of the lease.
    pub(crate) renewal: Duration,
    /// From a failed write to the next try: at most 250 ms.
    pub(crate) retry: Duration,
    /// The lease, and what an observer waits for beyond it against clocks of different rates: an eighth of the lease.
    observed_lease: Duration,
    /// See [`Config::probe_confirm`].
    pub(crate) confirm: Option<Duration>,
    /// Whether a worker may act only while it is present: where others may end its tenure early, and nothing but their
    /// waiting keeps two from working at once.
    pub(crate) needs_presence: bool,
    /// What a stop waits for at the end, at most.
    pub(crate) last_wait: Duration,
}

/// A lease, and what an observer waits for beyond it against clocks of different rates: an eighth of it.
pub(crate) fn observed_lease(lease: Duration) -> Duration {
    lease + lease / 8
}

impl Timing {
    pub(crate) fn new(config: &Config) -> Self {
        let lease = config.lease;
        let retry = (lease / 16).min(Duration::from_millis(250));
        let strict = config.mode == Mode::Strict;
        Self {
            lease,
            renewal: lease / 4,
            retry,
            observed_lease: observed_lease(lease),
            confirm: config.probe_confirm,
            needs_presence: strict && config.probe_confirm.is_some(),
            last_wait: LAST_WAIT.min(lease / 2),
        }
    }

    /// [`Config::probe_confirm`] as a record says it, rounded up.
    pub(crate) fn confirm_ms(&self) -> Option<u64> {
        let rounded_up = |confirm: Duration| u64::try_from(confirm.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.confirm.map(rounded_up)
    }

    /// How long an observer waits after a revision arrived before it may take its holder for stopped, where the holder
    /// acts by the same lease as this worker.
    pub(crate) fn observed_lease(&self) -> Duration {
        self.observed_lease
    }
}
