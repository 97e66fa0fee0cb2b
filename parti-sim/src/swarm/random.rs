//! What happens in a random world: all of it derived from the seed, printed, and enough to repeat it.

use serde::{Deserialize, Serialize};

use super::trouble::Trouble;
use crate::fault::plant::Plant;
use crate::rng::Rng;
use crate::setting::mix::Mix;
use crate::setting::options::{ApplicationOptions, NetworkOptions, Options, Weights, WorkerOptions};
use parti_core::{Control, Slot};

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

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, after the plan's beginning.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What can be done to the world. `who` counts those that live at the time, around and around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum Deed {
    /// A process ends without a word.
    Crash { who: u32 },
    /// A process ends without a word, and another one like it starts.
    CrashAndReplace { who: u32, after_ms: u64 },
    /// A worker restarts.
    Restart { who: u32, gap_ms: u64 },
    /// A worker leaves.
    Leave { who: u32 },
    /// A worker joins, with a slot that it asks for or without.
    Join { ordinal: Option<u32> },
    /// An operator asks for another plan.
    RebalanceNow { who: u32 },
    /// A worker gives up everything, and stays; or takes part again.
    Drain { who: u32, drains: bool },
    /// A worker's application cannot work on one of its partitions, and wants it to be elsewhere.
    GiveUp { who: u32, which: u32 },
    /// A worker is replaced by one of another software version, which starts first and waits for its slot.
    Upgrade { who: u32, software: u32 },
    /// An operator wants something, or no longer wants it.
    Wish { wish: Wish, wanted: bool },
    /// A process stops for a while.
    Pause { who: u32, for_ms: u64 },
    /// A process stops for a while, in which its connection is closed.
    Freeze { who: u32, for_ms: u64 },
    /// A process is cut off: silently, or with its connection closed.
    Isolate { who: u32, for_ms: u64, closed: bool },
    /// All processes are cut off.
    IsolateAll { for_ms: u64, closed: bool },
    /// The store answers nobody.
    StoreDown { for_ms: u64 },
    /// The store refuses every write, and says so.
    StoreFull { for_ms: u64 },
    /// The store's server is gone.
    ServerDown { for_ms: u64 },
    /// A watch shows nothing for a while.
    SilenceWatch { who: u32, for_ms: u64, plan: bool },
    /// A watch breaks.
    BreakWatch { who: u32, plan: bool },
    /// Probes of a process are told that nobody listens.
    FalselyGone { who: u32, for_ms: u64 },
    /// A client connects again, and only a counter tells.
    Reconnect { who: u32 },
    /// A server takes a process's subscription away, and takes no other one for a while; it may say so.
    TakeSubscription { who: u32, for_ms: u64, told: bool },
    /// The route between two servers breaks.
    CutRoute { one: u32, other: u32, for_ms: u64 },
    /// A server is slow to answer.
    StallServer { server: u32, for_ms: u64 },
    /// A worker's application takes longer to drain.
    SlowApplication { who: u32, percent: u32 },
    /// The store restarts without its last writes.
    RollBack { plan: bool, writes: u32, for_ms: u64 },
    /// A bucket is made anew, by somebody who knows of its lives before, or does not.
    Recreate { plan: bool, unknowing: bool },
    /// The store restarts with an older disk: a former life of a bucket, without its last writes.
    BringBack { plan: bool, writes: u32, for_ms: u64 },
    /// An operator purges a bucket.
    Purge { plan: bool },
    /// The list of partitions changes.
    ChangeList { seed: u64, keep_percent: u32 },
    /// Somebody writes something that is not a record.
    Garbage { slot: u32, plan: bool },
    /// What troubles one worker alone, or is left in the store.
    Trouble(Trouble),
}

/// What an operator can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see parti_core::Control")]
pub enum Wish {
    Drain(u32),
    Pause,
    Maintenance,
    Rebalance,
}

impl Wish {
    /// The key under which it is made.
    pub(super) const fn control(self) -> Control {
        match self {
            Self::Drain(slot) => Control::Drain(Slot::new(slot)),
            Self::Pause => Control::Pause,
            Self::Maintenance => Control::Maintenance,
            Self::Rebalance => Control::Rebalance,
        }
    }
}

impl Deed {
    /// To whom it is done, if to one.
    pub const fn who(&self) -> Option<u32> {
        match self {
            Self::Crash { who }
            | Self::CrashAndReplace { who, .. }
            | Self::Restart { who, .. }
            | Self::Leave { who }
            | Self::RebalanceNow { who }
            | Self::Drain { who, .. }
            | Self::GiveUp { who, .. }
            | Self::Upgrade { who, .. }
            | Self::Pause { who, .. }
            | Self::Freeze { who, .. }
            | Self::Isolate { who, .. }
            | Self::SilenceWatch { who, .. }
            | Self::BreakWatch { who, .. }
            | Self::FalselyGone { who, .. }
            | Self::Reconnect { who }
            | Self::TakeSubscription { who, .. }
            | Self::SlowApplication { who, .. } => Some(*who),
            Self::Trouble(trouble) => trouble.who(),
            Self::Join { .. }
            | Self::Wish { .. }
            | Self::CutRoute { .. }
            | Self::StallServer { .. }
            | Self::IsolateAll { .. }
            | Self::StoreDown { .. }
            | Self::StoreFull { .. }
            | Self::ServerDown { .. }
            | Self::RollBack { .. }
            | Self::Recreate { .. }
            | Self::BringBack { .. }
            | Self::Purge { .. }
            | Self::ChangeList { .. }
            | Self::Garbage { .. } => None,
        }
    }

    /// Whether partitions may move because of it.
    pub const fn may_move(&self) -> bool {
        match self {
            Self::Restart { .. }
            | Self::IsolateAll { .. }
            | Self::StoreDown { .. }
            | Self::StoreFull { .. }
            | Self::ServerDown { .. }
            | Self::BreakWatch { .. }
            | Self::StallServer { .. }
            | Self::SlowApplication { .. } => false,
            Self::Crash { .. }
            | Self::CrashAndReplace { .. }
            | Self::Leave { .. }
            | Self::Join { .. }
            | Self::RebalanceNow { .. }
            | Self::Drain { .. }
            | Self::GiveUp { .. }
            | Self::Upgrade { .. }
            | Self::Wish { .. }
            | Self::Pause { .. }
            | Self::Freeze { .. }
            | Self::Isolate { .. }
            | Self::SilenceWatch { .. }
            | Self::FalselyGone { .. }
            | Self::Reconnect { .. }
            | Self::TakeSubscription { .. }
            | Self::CutRoute { .. }
            | Self::RollBack { .. }
            | Self::Recreate { .. }
            | Self::BringBack { .. }
            | Self::Purge { .. }
            | Self::ChangeList { .. }
            | Self::Garbage { .. }
            | Self::Trouble(_) => true,
        }
    }

    /// Its name as traces have it, with the bucket if it happens to one.
    fn kind(&self) -> String {
        let deed = serde_json::to_value(self).expect("plain data has no value that JSON lacks");
        let Some((name, fields)) = deed.as_object().and_then(|deed| deed.iter().next()) else { return String::new() };
        match fields["plan"].as_bool() {
            Some(plan) => format!("{name} {}", if plan { "plan" } else { "members" }),
            None => name.clone(),
        }
    }

    /// Whether something goes wrong, rather than somebody wants it.
    pub const fn is_fault(&self) -> bool {
        match self {
            Self::Restart { .. }
            | Self::Leave { .. }
            | Self::Join { .. }
            | Self::RebalanceNow { .. }
            | Self::Drain { .. }
            | Self::GiveUp { .. }
            | Self::Upgrade { .. }
            | Self::Wish { .. }
            | Self::ChangeList { .. } => false,
            Self::Crash { .. }
            | Self::CrashAndReplace { .. }
            | Self::Pause { .. }
            | Self::Freeze { .. }
            | Self::Isolate { .. }
            | Self::IsolateAll { .. }
            | Self::StoreDown { .. }
            | Self::StoreFull { .. }
            | Self::ServerDown { .. }
            | Self::SilenceWatch { .. }
            | Self::BreakWatch { .. }
            | Self::FalselyGone { .. }
            | Self::Reconnect { .. }
            | Self::TakeSubscription { .. }
            | Self::CutRoute { .. }
            | Self::StallServer { .. }
            | Self::SlowApplication { .. }
            | Self::RollBack { .. }
            | Self::Recreate { .. }
            | Self::BringBack { .. }
            | Self::Purge { .. }
            | Self::Garbage { .. }
            | Self::Trouble(_) => true,
        }
    }
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
        let faults = self.acts.iter().filter(is_before).filter(|act| act.deed.is_fault());
        faults.map(|act| act.deed.kind()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The world of this seed. In some worlds, and in all if they are to be `lossy`, the store loses what it had
    /// acknowledged, is made anew, or holds what is not a record.
    pub fn random(seed: u64, plant: Option<Plant>, lossy: bool) -> Self {
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
        encoded: false,
        record_limit: 0,
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
        Deed::Restart { who, gap_ms: rng.below(3_000) },
        Deed::ServerDown { for_ms },
        Deed::ServerDown { for_ms: rng.between(4_000, 9_000) },
        Deed::StoreDown { for_ms: if closed { lease_ms * 8 } else { for_ms } },
        Deed::StoreFull { for_ms: if plan { lease_ms * 8 } else { for_ms } },
        Deed::IsolateAll { for_ms, closed },
        Deed::BreakWatch { who, plan },
        // For longer than a lease, and those who do not hear themselves hold nothing up any more.
        Deed::StallServer { server: who % options.servers, for_ms: rng.between(50, 3_000).min(lease_ms / 3) },
    ];
    let rough = [
        Deed::Crash { who },
        Deed::CrashAndReplace { who, after_ms: rng.below(10_000) },
        Deed::Leave { who },
        Deed::Join { ordinal: rng.chance(200_000).then(|| who % options.worker.slots.min(8)) },
        Deed::Join { ordinal: None },
        Deed::RebalanceNow { who },
        Deed::Drain { who, drains: closed },
        Deed::GiveUp { who, which: who / 8 },
        Deed::Upgrade { who, software: who % 3 },
        Deed::Wish { wish, wanted: !plan || !closed },
        Deed::Freeze { who, for_ms },
        Deed::Pause { who, for_ms },
        Deed::Pause { who, for_ms: lease_ms * 5 / 4 },
        Deed::Isolate { who, for_ms, closed },
        Deed::Isolate { who: who + 1, for_ms: lease_ms * 3 / 2, closed },
        Deed::SilenceWatch { who, for_ms, plan },
        Deed::FalselyGone { who, for_ms: options.worker.probe_interval_ms },
        Deed::Reconnect { who },
        Deed::Reconnect { who: who + 1 },
        // Who comes back at a server that its own former one does not reach looks gone there until it has renewed.
        Deed::CutRoute { one: who % 3, other: (who + 1) % 3, for_ms },
        Deed::TakeSubscription { who, for_ms: if plan { 1 } else { for_ms }, told: closed },
        Deed::SlowApplication { who, percent: [100, 1_000, 100_000][rng.index(3)] },
        Deed::ChangeList { seed: rng.next_u64(), keep_percent: [50, 90, 100][rng.index(3)] },
    ];
    let lossy = [
        Deed::RollBack { plan, writes: u32::try_from(rng.between(1, 20)).unwrap_or(1), for_ms: 500 },
        Deed::Recreate { plan, unknowing: closed },
        Deed::BringBack { plan, writes: u32::try_from(rng.below(20)).unwrap_or(0), for_ms: 500 },
        Deed::Purge { plan },
        // In the plan it stops all grants until somebody deletes it, so that nothing could be expected of such a world.
        Deed::Garbage { slot: who % 8, plan: false },
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
    use super::*;

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
}
