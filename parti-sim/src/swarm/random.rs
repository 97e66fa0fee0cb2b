//! What happens in a random world: all of it derived from the seed, printed, and enough to repeat it.

use serde::{Deserialize, Serialize};

use super::deed::{Act, Deed, ToAll, ToOne, Wish};
use super::messages::WithMessages;
use crate::fault::plant::Plant;
use crate::rng::Rng;
use crate::setting::loads::LoadOptions;
use crate::setting::mix::Mix;
use crate::setting::options::{ApplicationOptions, NetworkOptions, Options, Weights, WorkerOptions};

/// A random world: its setting, and what is done to it when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The setting.
    pub options: Options,
    /// Whether each of the first workers asks for a slot of its own.
    pub ordinals: bool,
    /// From the start of one worker to that of the next.
    pub start_gap_ms: u64,
    /// When the first act can happen.
    pub begins_ms: u64,
    /// What is done, in order of time.
    pub acts: Vec<Act>,
    /// How long the faults last after the last act.
    pub lingers_ms: u64,
}

/// What kind of trouble a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    /// Only restarts and outages that all see: nothing may move.
    Gentle,
    /// Workers come, go and fail; the store keeps what it has.
    Rough,
    /// The store loses writes, too.
    Lossy,
}

impl Plan {
    /// The kinds of everything that went wrong until `at`, each once, in order of their names.
    pub fn faults_before(&self, at: crate::world::clock::Moment) -> Vec<String> {
        let is_before = |act: &&Act| crate::world::clock::Moment::from_millis(self.begins_ms + act.at_ms) <= at;
        let faults = self.acts.iter().filter(is_before).filter(|act| act.deed.nature().is_fault);
        faults.map(|act| act.deed.kind()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The world of this seed, [with messages](Self::with_messages) where [some](WithMessages::Some) have them.
    pub fn random(seed: u64, plant: Option<Plant>, lossy: bool) -> Self {
        Self::with_messages(seed, plant, lossy, WithMessages::default())
    }

    /// The world of this seed. In some worlds, and in all if they are to be `lossy`, the store loses what it had
    /// acknowledged, is made anew, or holds what is not a record.
    pub fn with_messages(seed: u64, plant: Option<Plant>, lossy: bool, with: WithMessages) -> Self {
        let mut rng = Rng::for_purpose(seed, "swarm");
        let temper = match rng.below(10) {
            _ if lossy => Temper::Lossy,
            0 | 1 => Temper::Gentle,
            2 => Temper::Lossy,
            _ => Temper::Rough,
        };
        let options = options(seed, plant, temper, &mut rng);
        let count = rng.between(1, if temper == Temper::Gentle { 6 } else { 16 });
        let length_ms = rng.between(5, 90) * 1_000;
        let mut times: Vec<u64> = (0..count).map(|_| rng.below(length_ms)).collect();
        times.sort_unstable();
        let acts = times.into_iter().map(|at_ms| Act { at_ms, deed: deed(temper, &options, &mut rng) }).collect();
        let begins_ms = rng.below(settles_ms(&options).min(60_000));
        let mut plan = Self {
            ordinals: rng.chance(300_000) && options.worker.slots >= options.workers,
            start_gap_ms: rng.below(300),
            begins_ms,
            acts,
            lingers_ms: rng.below(options.worker.lease_ms * 2),
            options,
        };
        if temper != Temper::Gentle {
            plan.add_trouble(temper == Temper::Lossy, length_ms);
        }
        plan.mix_leases();
        if temper == Temper::Gentle {
            plan.begins_ms = settles_ms(&plan.options);
        }
        let must_have_messages = plant.is_some_and(Plant::needs_messages);
        if plant.is_none() || must_have_messages {
            plan.add_messages(with, must_have_messages, temper != Temper::Gentle, length_ms);
        }
        if plant.is_none() {
            plan.measure_loads(length_ms);
        }
        if let Some(plant) = plant {
            plan.provoke(plant);
            plan.provoke_loss(plant);
        }
        plan
    }

    /// The same world, in which the bug that it was made for is not there.
    #[must_use]
    pub fn without_bug(mut self) -> Self {
        self.options.plant = None;
        self
    }
}

/// How long after the start no plan can be explained by the start any more.
pub(super) fn settles_ms(options: &Options) -> u64 {
    let worker = &options.worker;
    let windows = worker.cold_start_window_ms
        + worker.planned_scale_window_ms
        + worker.rebalance_interval_ms
        + worker.restart_hold_ms
        + worker.surge_wait_ms
        + worker.release_timeout_ms;
    2 * (windows + worker.lease_ms.max(worker.other_lease_ms) * 4) + 10_000
}

fn options(seed: u64, plant: Option<Plant>, temper: Temper, rng: &mut Rng) -> Options {
    let workers = rng.between(1, 8);
    let large = rng.chance(50_000);
    let partitions = if large { rng.between(100, 400) } else { rng.between(1, 40) };
    let number = |value: u64| u32::try_from(value).expect("a small number");
    let worker = worker_options(number(workers), temper, rng);
    let mut options = Options {
        seed,
        workers: number(workers),
        partitions: number(partitions),
        spare_partitions: number(rng.below(8)),
        weights: if rng.chance(200_000) { Weights::Skewed } else { Weights::Equal },
        zones: 0,
        servers: if rng.chance(500_000) { number(rng.between(2, 3)) } else { 1 },
        network: network_options(worker.lease_ms, temper, rng),
        worker,
        application: ApplicationOptions {
            drain_ms: if rng.chance(300_000) { (0, 4_000) } else { (0, 100) },
            write_every_ms: 500,
        },
        mix: Mix::default(),
        loads: LoadOptions::default(),
        encoded: false,
        record_limit: 0,
        messages: None,
        clock_ppm: if rng.chance(500_000) { 50_000 } else { 200 },
        plant,
    };
    if temper == Temper::Lossy {
        // What keeps a loss from harm is what others have acknowledged: who has that from before the loss as well knows
        // nothing of it. One of the two at a time.
        options.network.stale_read_ppm = 0;
    }
    options
}

fn worker_options(workers: u32, temper: Temper, rng: &mut Rng) -> WorkerOptions {
    let lease_ms = [1_000, 2_000, 4_000, 10_000][rng.index(4)];
    let settle_window_ms = rng.between(50, 2_000);
    let probes = rng.chance(600_000);
    let confirm_ms = 750.min(lease_ms);
    WorkerOptions {
        lease_ms,
        other_lease_ms: 0,
        available: false,
        slots: if rng.chance(200_000) { workers.max(2) } else { 1024 },
        expected_workers: rng.chance(300_000).then_some(workers),
        settle_window_ms,
        cold_start_window_ms: settle_window_ms + rng.below(8_000),
        planned_scale_window_ms: settle_window_ms + rng.below(4_000),
        rebalance_interval_ms: rng.between(500, 5_000),
        restart_hold_ms: if temper == Temper::Gentle { 30_000 } else { rng.between(1_000, 20_000) },
        surge_wait_ms: rng.between(0, 5_000),
        release_timeout_ms: rng.between(500, 10_000),
        probe_interval_ms: 250,
        probe_confirm_ms: if probes { confirm_ms } else { 0 },
        load_half_life_ms: 60_000,
        move_budget_percent: [10, 20, 20, 50][rng.index(4)],
    }
}

fn network_options(lease_ms: u64, temper: Temper, rng: &mut Rng) -> NetworkOptions {
    let mut rate = |most: u64| {
        let on = temper != Temper::Gentle && rng.chance(400_000);
        if on { u32::try_from(rng.below(most)).unwrap_or(0) } else { 0 }
    };
    NetworkOptions {
        slow_ppm: rate(30_000),
        request_lost_ppm: rate(50_000),
        reply_lost_ppm: rate(50_000),
        refused_ppm: rate(50_000),
        false_conflict_ppm: rate(50_000),
        probe_lost_ppm: rate(100_000),
        notice_late_ppm: rate(800_000),
        shown_twice_ppm: rate(100_000),
        stale_read_ppm: rate(300_000),
        partial_members_ppm: rate(300_000),
        partial_plan_ppm: rate(300_000),
        waits_in_queue_ppm: rate(100_000),
        reorder: rng.chance(500_000),
        // As clients have it: a request that is given up after the next renewal is due would keep that one waiting.
        request_timeout_ms: rng.between(100, (lease_ms / 4).min(1_000)),
        slow_us: (5_000, rng.between(10, 1_500) * 1_000),
        reread_ms: (3_000, 6_000),
        ..NetworkOptions::default()
    }
}

fn deed(temper: Temper, options: &Options, rng: &mut Rng) -> Deed {
    let who = u32::try_from(rng.below(1_000)).unwrap_or(0);
    let lease_ms = options.worker.lease_ms;
    let for_ms = rng.between(50, lease_ms * 5 / 2);
    let closed = rng.chance(400_000);
    let plan = rng.chance(500_000);
    let wish = [Wish::Drain(who % 4), Wish::Pause, Wish::Maintenance, Wish::Rebalance][rng.index(4)];
    let gentle = [
        Deed::One(ToOne::Restart { who, gap_ms: rng.below(3_000) }),
        Deed::All(ToAll::ServerDown { for_ms }),
        Deed::All(ToAll::ServerDown { for_ms: rng.between(4_000, 9_000) }),
        Deed::All(ToAll::StoreDown { for_ms: if closed { lease_ms * 8 } else { for_ms } }),
        Deed::All(ToAll::StoreFull { for_ms: if plan { lease_ms * 8 } else { for_ms } }),
        Deed::All(ToAll::IsolateAll { for_ms, closed }),
        Deed::One(ToOne::BreakWatch { who, plan }),
        // For longer than a lease, and those who do not hear themselves hold nothing up any more.
        Deed::All(ToAll::StallServer {
            server: who % options.servers,
            for_ms: rng.between(50, 3_000).min(lease_ms / 3),
        }),
    ];
    let rough = [
        Deed::One(ToOne::Crash { who }),
        Deed::One(ToOne::CrashAndReplace { who, after_ms: rng.below(10_000) }),
        Deed::One(ToOne::Leave { who }),
        Deed::All(ToAll::Join { ordinal: rng.chance(200_000).then(|| who % options.worker.slots.min(8)) }),
        Deed::All(ToAll::Join { ordinal: None }),
        Deed::One(ToOne::RebalanceNow { who }),
        Deed::One(ToOne::Drain { who, drains: closed }),
        Deed::One(ToOne::GiveUp { who, which: who / 8 }),
        Deed::One(ToOne::Upgrade { who, software: who % 3 }),
        Deed::All(ToAll::Wish { wish, wanted: !plan || !closed }),
        Deed::One(ToOne::Freeze { who, for_ms }),
        Deed::One(ToOne::Pause { who, for_ms }),
        Deed::One(ToOne::Pause { who, for_ms: lease_ms * 5 / 4 }),
        Deed::One(ToOne::Isolate { who, for_ms, closed }),
        Deed::One(ToOne::Isolate { who: who + 1, for_ms: lease_ms * 3 / 2, closed }),
        Deed::One(ToOne::SilenceWatch { who, for_ms, plan }),
        Deed::One(ToOne::FalselyGone { who, for_ms: options.worker.probe_interval_ms }),
        Deed::One(ToOne::Reconnect { who }),
        Deed::One(ToOne::Reconnect { who: who + 1 }),
        // Who comes back at a server that its own former one does not reach looks gone there until it has renewed.
        Deed::All(ToAll::CutRoute { one: who % 3, other: (who + 1) % 3, for_ms }),
        Deed::One(ToOne::TakeSubscription { who, for_ms: if plan { 1 } else { for_ms }, told: closed }),
        Deed::One(ToOne::SlowApplication { who, percent: [100, 1_000, 100_000][rng.index(3)] }),
        Deed::All(ToAll::ChangeList { seed: rng.next_u64(), keep_percent: [50, 90, 100][rng.index(3)] }),
    ];
    let lossy = [
        Deed::All(ToAll::RollBack { plan, writes: u32::try_from(rng.between(1, 20)).unwrap_or(1), for_ms: 500 }),
        Deed::All(ToAll::Recreate { plan, unknowing: closed }),
        Deed::All(ToAll::BringBack { plan, writes: u32::try_from(rng.below(20)).unwrap_or(0), for_ms: 500 }),
        Deed::All(ToAll::Purge { plan }),
        // In the plan it stops all grants until somebody deletes it, so that nothing could be expected of such a world.
        Deed::All(ToAll::Garbage { slot: who % 8, plan: false }),
    ];
    match temper {
        Temper::Gentle => gentle[rng.index(gentle.len())].clone(),
        Temper::Rough if rng.chance(300_000) => gentle[rng.index(gentle.len())].clone(),
        Temper::Lossy if rng.chance(300_000) => lossy[rng.index(lossy.len())].clone(),
        Temper::Rough | Temper::Lossy => rough[rng.index(rough.len())].clone(),
    }
}

#[cfg(test)]
mod tests {
    use parti_core::PlantedBug;

    use super::*;
    use crate::fault::around::Around;

    #[test]
    fn every_seed_gives_a_valid_config_and_the_same_plan_twice() {
        for seed in 0..500 {
            let plan = Plan::random(seed, None, true);
            plan.options.config().validate().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(plan, Plan::random(seed, None, true));
            let text = serde_json::to_string(&plan).expect("plain data");
            assert_eq!(serde_json::from_str::<Plan>(&text).expect("its own text"), plan);
        }
    }

    #[test]
    fn none_some_or_all_worlds_have_messages_and_are_the_same_otherwise() {
        let count = |with| {
            let worlds = (0..200).map(|seed| Plan::with_messages(seed, None, false, with));
            worlds.filter(|plan| plan.options.messages.is_some()).count()
        };
        let some = count(WithMessages::Some);
        assert!((20..100).contains(&some), "{some}");
        assert_eq!((count(WithMessages::None), count(WithMessages::All)), (0, 200));
        for seed in 0..200 {
            let of = |with| Plan::with_messages(seed, None, false, with);
            let [none, some, mut all] = [WithMessages::None, WithMessages::Some, WithMessages::All].map(of);
            assert_eq!(&some, if some.options.messages.is_some() { &all } else { &none });
            all.options.messages = None;
            all.acts.retain(|act| !matches!(act.deed, Deed::All(ToAll::Messages(_))));
            assert_eq!(none, all);
        }
    }

    #[test]
    fn a_bug_of_messages_has_messages_and_no_other_one_has() {
        let has = |plant, with| Plan::with_messages(7, Some(plant), false, with).options.messages.is_some();
        let (of_messages, other) = (Plant::Core(PlantedBug::BeginAnew), Plant::Around(Around::WorkThroughSuspension));
        assert!(has(of_messages, WithMessages::None) && !has(other, WithMessages::All));
    }
}
