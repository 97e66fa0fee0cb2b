//! Everything that a run derives from: printed with every failure, stored in every trace, enough to repeat it.

use std::time::Duration;

use parti_core::{Config, Mode, Partition, PartitionId, PartitionList, Slot, Weight};
use serde::{Deserialize, Serialize};

use crate::fault::around::Around;
#[cfg(feature = "planted-bugs")]
use crate::fault::plant::Plant;
use crate::setting::loads::LoadOptions;
use crate::setting::messages::MessageOptions;
use crate::setting::mix::Mix;

/// What a record has besides its partitions, at most, and what each of those takes.
pub(crate) const RECORD_BYTES: u32 = 512;
pub(crate) const GRANT_BYTES: u32 = 24;

/// The setting of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// How many workers start with.
    pub workers: u32,
    /// How many partitions there are.
    pub partitions: u32,
    /// How many more there can be, which are not in the list at the start.
    pub spare_partitions: u32,
    /// How heavy they are.
    pub weights: Weights,
    /// How many zones there are: each partition asks for one of them, in turn; 0 if none does.
    pub zones: u32,
    /// How many servers there are for workers to connect to; they all reach the store.
    pub servers: u32,
    /// The settings of the workers.
    pub worker: WorkerOptions,
    /// How the workers differ.
    pub mix: Mix,
    /// The connection to the store, when nothing worse happens.
    pub network: NetworkOptions,
    /// The application that works on the partitions.
    pub application: ApplicationOptions,
    /// How much each worker's clock may run fast or slow, in parts per million.
    pub clock_ppm: u32,
    /// Whether every record goes through its encoding on its way into the store, so that what that loses is lost.
    pub encoded: bool,
    /// How many bytes a record may have, where records are encoded; 0 for as many as it has.
    pub record_limit: u32,
    /// What applications report of how heavy their partitions are.
    #[serde(skip_serializing_if = "is_default")]
    pub loads: LoadOptions,
    /// The stream whose messages follow the assignment, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageOptions>,
    /// A deliberate bug.
    #[cfg(feature = "planted-bugs")]
    pub plant: Option<Plant>,
}

fn is_default(loads: &LoadOptions) -> bool {
    *loads == LoadOptions::default()
}

/// How heavy the partitions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// All 1.
    #[default]
    Equal,
    /// Every tenth one 5, the others 1.
    Skewed,
}

/// What [`Config`] says, in whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerOptions {
    /// See [`Config::lease`].
    pub lease_ms: u64,
    /// The lease of every other process, as while a rolling update changes it; 0 if all have the same.
    pub other_lease_ms: u64,
    /// Whether the mode is [`Mode::Available`].
    pub available: bool,
    /// How many slots there are.
    pub slots: u32,
    /// See [`Config::expected_workers`].
    pub expected_workers: Option<u32>,
    /// See [`Config::settle_window`].
    pub settle_window_ms: u64,
    /// See [`Config::cold_start_window`].
    pub cold_start_window_ms: u64,
    /// See [`Config::planned_scale_window`].
    pub planned_scale_window_ms: u64,
    /// See [`Config::rebalance_interval`].
    pub rebalance_interval_ms: u64,
    /// See [`Config::restart_hold`].
    pub restart_hold_ms: u64,
    /// See [`Config::surge_wait`].
    pub surge_wait_ms: u64,
    /// See [`Config::release_timeout`].
    pub release_timeout_ms: u64,
    /// See [`Config::probe_interval`].
    pub probe_interval_ms: u64,
    /// See [`Config::probe_confirm`]; 0 turns probes off.
    pub probe_confirm_ms: u64,
    /// See [`Config::load_half_life`].
    pub load_half_life_ms: u64,
    /// See [`Config::move_budget_percent`].
    pub move_budget_percent: u32,
}

/// Delays and losses between a worker and the store. Each pair is the least and the most; times in microseconds unless
/// the name says milliseconds; frequencies in parts per million.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkOptions {
    /// From a worker to the store, and from the store back.
    pub one_way_us: (u64, u64),
    /// From a committed write to a watcher.
    pub notify_us: (u64, u64),
    /// How many messages take longer.
    pub slow_ppm: u32,
    /// How long those take.
    pub slow_us: (u64, u64),
    /// How many requests get lost.
    pub request_lost_ppm: u32,
    /// How many replies get lost although the write landed.
    pub reply_lost_ppm: u32,
    /// How many writes the store refuses for a reason of its own.
    pub refused_ppm: u32,
    /// How many committed writes are answered as if their condition had not held: a repetition that the network made
    /// meets what the first one wrote.
    pub false_conflict_ppm: u32,
    /// How many probes get lost.
    pub probe_lost_ppm: u32,
    /// How many changes are shown twice.
    pub shown_twice_ppm: u32,
    /// Whether a watch may show changes of different keys in another order than that of the writes.
    pub reorder: bool,
    /// How many snapshots come from a replica that is behind.
    pub stale_read_ppm: u32,
    /// How many snapshots of the members lack some keys.
    pub partial_members_ppm: u32,
    /// How many snapshots of the plan lack some keys.
    pub partial_plan_ppm: u32,
    /// How many snapshots have some of their keys from a replica that is behind.
    pub mixed_listing_ppm: u32,
    /// How many changes a watch does not show, and says nothing about that.
    pub missed_ppm: u32,
    /// How many times the end of a snapshot waits in the worker's queue, for up to a second and
    /// whatever becomes of the connection meanwhile.
    pub waits_in_queue_ppm: u32,
    /// How much of what a process sends to its own subject, or hears there, takes longer, for up to
    /// 0.7 s.
    #[serde(default)]
    pub listens_late_ppm: u32,
    /// When a worker gives up on a request.
    pub request_timeout_ms: u64,
    /// When a worker's client notices that the path is dead.
    pub notice_ms: u64,
    /// How many clients notice only late that their connection was closed.
    pub notice_late_ppm: u32,
    /// How long a client takes to connect again.
    pub reconnect_ms: (u64, u64),
    /// How often a watch is read again for safety.
    pub reread_ms: (u64, u64),
}

/// What the application does with its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApplicationOptions {
    /// How long it takes to finish the work on a partition, least and most.
    pub drain_ms: (u64, u64),
    /// How often it writes something to the fenced store for one of its partitions; 0 turns that off.
    pub write_every_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            workers: 30,
            partitions: 2400,
            spare_partitions: 0,
            weights: Weights::Equal,
            zones: 0,
            servers: 1,
            worker: WorkerOptions::default(),
            mix: Mix::default(),
            network: NetworkOptions::default(),
            application: ApplicationOptions::default(),
            clock_ppm: 100,
            encoded: false,
            record_limit: 0,
            loads: LoadOptions::default(),
            messages: None,
            #[cfg(feature = "planted-bugs")]
            plant: None,
        }
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

impl From<&Config> for WorkerOptions {
    /// What `config` says, in whole milliseconds.
    fn from(config: &Config) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            lease_ms: ms(config.lease),
            other_lease_ms: 0,
            available: config.mode == Mode::Available,
            slots: config.slots.1.value() - config.slots.0.value() + 1,
            expected_workers: config.expected_workers,
            settle_window_ms: ms(config.settle_window),
            cold_start_window_ms: ms(config.cold_start_window),
            planned_scale_window_ms: ms(config.planned_scale_window),
            rebalance_interval_ms: ms(config.rebalance_interval),
            restart_hold_ms: ms(config.restart_hold),
            surge_wait_ms: ms(config.surge_wait),
            release_timeout_ms: ms(config.release_timeout),
            probe_interval_ms: ms(config.probe_interval),
            probe_confirm_ms: config.probe_confirm.map_or(0, ms),
            load_half_life_ms: ms(config.load_half_life),
            move_budget_percent: config.move_budget_percent,
        }
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            one_way_us: (250, 900),
            notify_us: (250, 1_000),
            slow_ppm: 0,
            slow_us: (5_000, 300_000),
            request_lost_ppm: 0,
            reply_lost_ppm: 0,
            refused_ppm: 0,
            false_conflict_ppm: 0,
            probe_lost_ppm: 0,
            shown_twice_ppm: 0,
            reorder: false,
            stale_read_ppm: 0,
            partial_members_ppm: 0,
            partial_plan_ppm: 0,
            mixed_listing_ppm: 0,
            missed_ppm: 0,
            waits_in_queue_ppm: 0,
            listens_late_ppm: 0,
            request_timeout_ms: 1_000,
            notice_ms: 560,
            notice_late_ppm: 0,
            reconnect_ms: (20, 250),
            reread_ms: (10_000, 15_000),
        }
    }
}

impl NetworkOptions {
    /// How long news may wait in a worker's queue.
    pub(crate) const WAITS_MS: u64 = 1_000;
    /// How much longer something may take on its way to or from a process's own subject.
    pub(crate) const LISTENS_LATE_MS: u64 = 700;

    /// The same times, and nothing goes wrong.
    pub(crate) fn quiet(timed: &Self) -> Self {
        Self {
            one_way_us: timed.one_way_us,
            notify_us: timed.notify_us,
            slow_us: timed.slow_us,
            reorder: timed.reorder,
            request_timeout_ms: timed.request_timeout_ms,
            notice_ms: timed.notice_ms,
            reconnect_ms: timed.reconnect_ms,
            reread_ms: timed.reread_ms,
            ..Self::default()
        }
    }

    /// Nothing goes wrong any more; who notices late goes on to notice late.
    pub(crate) fn end_faults(&mut self) {
        for rate in [
            &mut self.slow_ppm,
            &mut self.request_lost_ppm,
            &mut self.reply_lost_ppm,
            &mut self.refused_ppm,
            &mut self.false_conflict_ppm,
            &mut self.probe_lost_ppm,
            &mut self.shown_twice_ppm,
            &mut self.stale_read_ppm,
            &mut self.partial_members_ppm,
            &mut self.partial_plan_ppm,
            &mut self.mixed_listing_ppm,
            &mut self.missed_ppm,
            &mut self.waits_in_queue_ppm,
            &mut self.listens_late_ppm,
        ] {
            *rate = 0;
        }
    }

    /// Whether messages get lost or are slow enough for a worker to seem gone, clients take longer than a lease to notice
    /// that an outage is over, or reads are not what is stored.
    pub(crate) fn is_unreliable(&self) -> bool {
        let rates = [
            self.slow_ppm,
            self.request_lost_ppm,
            self.reply_lost_ppm,
            self.refused_ppm,
            self.false_conflict_ppm,
            self.stale_read_ppm,
            self.partial_members_ppm,
            self.partial_plan_ppm,
            self.mixed_listing_ppm,
            self.missed_ppm,
            self.waits_in_queue_ppm,
            self.listens_late_ppm,
            self.notice_late_ppm,
        ];
        rates.iter().any(|rate| *rate > 0)
    }
}

impl Default for ApplicationOptions {
    fn default() -> Self {
        Self { drain_ms: (5, 100), write_every_ms: 1_000 }
    }
}

impl Options {
    /// Whether what surrounds the core has this bug.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(&self, bug: Around) -> bool {
        self.plant == Some(Plant::Around(bug))
    }

    /// Nothing has a bug that nobody can plant.
    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "where bugs can be planted, it looks")]
    pub(crate) const fn has(&self, _: Around) -> bool {
        false
    }

    /// The config of a worker in this setting.
    pub fn config(&self) -> Config {
        let worker = &self.worker;
        let ms = Duration::from_millis;
        Config {
            lease: ms(worker.lease_ms),
            mode: if worker.available { Mode::Available } else { Mode::Strict },
            slots: (Slot::new(0), Slot::new(worker.slots.max(1) - 1)),
            expected_workers: worker.expected_workers,
            settle_window: ms(worker.settle_window_ms),
            cold_start_window: ms(worker.cold_start_window_ms),
            planned_scale_window: ms(worker.planned_scale_window_ms),
            rebalance_interval: ms(worker.rebalance_interval_ms),
            restart_hold: ms(worker.restart_hold_ms),
            surge_wait: ms(worker.surge_wait_ms),
            release_timeout: ms(worker.release_timeout_ms),
            probe_interval: ms(worker.probe_interval_ms),
            probe_confirm: (worker.probe_confirm_ms > 0).then(|| ms(worker.probe_confirm_ms)),
            load_half_life: ms(worker.load_half_life_ms),
            move_budget_percent: worker.move_budget_percent,
            max_load: (self.mix.max_load > 0).then(|| self.mix.max_load.into()),
            max_partitions: (self.mix.max_partitions > 0).then_some(self.mix.max_partitions),
            ..Config::default()
        }
    }

    /// All partitions `p00000`, `p00001`, … that a run in this setting ever has; the spare ones come last.
    ///
    /// # Panics
    ///
    /// If there are more partitions than a list may have.
    pub fn all_partitions(&self) -> PartitionList {
        let partition = |number: u32| {
            let id = PartitionId::new(format!("p{number:05}")).expect("a valid id");
            let weight = match self.weights {
                Weights::Skewed if number.is_multiple_of(10) => 5,
                Weights::Equal | Weights::Skewed => 1,
            };
            let partition = Partition::new(id).with_weight(Weight::new(weight).expect("not zero"));
            let partition = match number.checked_rem(self.zones) {
                Some(zone) => partition.requiring("zone", zone.to_string()),
                None => partition,
            };
            let partition = match self.mix.preferred_zone(number) {
                Some(zone) => partition.preferring("zone", zone.to_string()),
                None => partition,
            };
            let partition = match self.mix.key(number) {
                Some(key) => partition.apart(key),
                None => partition,
            };
            let partition = if self.loads.measures(number) { partition.measured() } else { partition };
            let partition = match self.mix.priority(number) {
                0 => partition,
                priority => partition.priority(priority),
            };
            match self.mix.pin(number) {
                Some(slot) => partition.pinned_to(slot),
                None => partition,
            }
        };
        PartitionList::new((0..self.partitions + self.spare_partitions).map(partition).collect()).expect("each id once")
    }

    /// Whether one worker that is left alone could not be given everything, since its record would be too large.
    pub(crate) const fn records_are_too_small(&self) -> bool {
        let most = RECORD_BYTES + (self.partitions + self.spare_partitions) * GRANT_BYTES;
        self.record_limit > 0 && self.record_limit < most
    }

    /// How long after its last renewal a worker is taken for dead at the latest: the longest lease and the margin.
    pub fn observed_lease(&self) -> Duration {
        let lease = Duration::from_millis(self.worker.lease_ms.max(self.worker.other_lease_ms));
        lease + lease / 8
    }

    /// How soon after a crash everything must be owned again.
    pub fn crash_bound(&self) -> Duration {
        self.observed_lease() + Duration::from_millis(500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_setting_gives_the_default_config() {
        assert_eq!(Options::default().config(), Config::default());
    }

    #[test]
    fn options_read_back_from_their_text_and_unknown_ones_are_refused() {
        let options = Options { seed: 77, clock_ppm: 5, ..Options::default() };
        let text = serde_json::to_string(&options).expect("plain data");
        assert_eq!(serde_json::from_str::<Options>(&text).expect("its own text"), options);
        assert!(serde_json::from_str::<Options>(r#"{"sede":1}"#).is_err());
    }
}
