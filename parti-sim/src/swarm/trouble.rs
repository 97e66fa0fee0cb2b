//! What can trouble one worker alone, and what somebody who is no worker can leave in the store.

use parti_core::StrategyChoice;

use super::Plan;
use super::deed::{Act, Deed, Left, ToAll, ToOne, Trouble, Under, Wish};
use crate::rng::Rng;
use crate::setting::options::{GRANT_BYTES, Options, RECORD_BYTES};

/// How many worlds have workers that differ, or a network and a store with more that can go wrong, in parts per million.
const SOME_PPM: u32 = 300_000;
/// How many of those have each of it.
const EACH_PPM: u32 = 250_000;
/// How many worlds have workers with limits, in parts per million.
const LIMITS_PPM: u32 = 80_000;
/// How many worlds have workers with another lease than the rest, in parts per million.
const OTHER_LEASE_PPM: u32 = 150_000;
/// The least that a record may have where its size is limited: what any record has besides its partitions, and some of
/// those. A plan for few workers can be too large for that.
const LEAST_RECORD_BYTES: u32 = 1_000;

impl Plan {
    /// Lets more go wrong in some worlds, and lets workers differ in some. What else happens stays as it is.
    pub(super) fn add_trouble(&mut self, lossy: bool, length_ms: u64) {
        let mut rng = Rng::for_purpose(self.options.seed, "trouble");
        if rng.chance(SOME_PPM) {
            self.let_workers_differ(&mut rng);
        }
        if rng.chance(SOME_PPM) {
            self.loosen_network(&mut rng);
        }
        if rng.chance(SOME_PPM) {
            let count = rng.between(1, 4);
            for _ in 0..count {
                let at_ms = rng.below(length_ms);
                if let Some(deed) = trouble(&self.options, lossy, &mut rng) {
                    self.acts.push(Act { at_ms, deed });
                }
            }
            self.acts.sort_by_key(|act| act.at_ms);
        }
        if rng.chance(SOME_PPM) {
            self.options.network.listens_late_ppm = u32::try_from(rng.below(20_000)).unwrap_or(0);
        }
        self.limit_workers();
    }

    /// Gives workers limits in some worlds: so that all fits if all are there, or not even then.
    fn limit_workers(&mut self) {
        let options = &mut self.options;
        let mut rng = Rng::for_purpose(options.seed, "limits");
        let mix = &options.mix;
        // Where lists or zones differ, or records are too small, other things than room leave partitions without a worker.
        let is_plain = mix.strategies.is_empty() && mix.lists == 0 && options.zones == 0 && options.record_limit == 0;
        if !rng.chance(LIMITS_PPM) || !is_plain {
            return;
        }
        let all = options.all_partitions();
        let share = |sum: u64| u32::try_from(sum.div_ceil(u64::from(options.workers.max(1)))).unwrap_or(u32::MAX);
        let percent = [80, 110, 150][rng.index(3)];
        let limit = |sum: u64| (share(sum) * percent / 100).max(1);
        let load = all.iter().map(|partition| u64::from(partition.weight.get())).sum();
        let (max_load, max_partitions) = (limit(load), limit(all.len() as u64));
        let mix = &mut options.mix;
        match rng.below(3) {
            0 => mix.max_load = max_load,
            1 => mix.max_partitions = max_partitions,
            _ => (mix.max_load, mix.max_partitions) = (max_load, max_partitions),
        }
        mix.priorities = [1, 2, 5][rng.index(3)];
        // Who has given something up may be the only one that has room for it.
        self.acts.retain(|act| !matches!(act.deed, Deed::One(ToOne::GiveUp { .. })));
    }

    /// Lets every other process have a longer lease than the rest in some worlds, or a shorter one: all else that happens
    /// was drawn for the shorter one, and stays as it is.
    pub(super) fn mix_leases(&mut self) {
        let mut rng = Rng::for_purpose(self.options.seed, "leases");
        let worker = &mut self.options.worker;
        if rng.chance(OTHER_LEASE_PPM) {
            worker.other_lease_ms = worker.lease_ms * rng.between(2, 4);
            if rng.chance(500_000) {
                std::mem::swap(&mut worker.lease_ms, &mut worker.other_lease_ms);
            }
        }
    }

    fn let_workers_differ(&mut self, rng: &mut Rng) {
        let options = &mut self.options;
        let mix = &mut options.mix;
        if rng.chance(EACH_PPM) {
            let others = [StrategyChoice::ConsistentHash { virtual_nodes: 20 }, StrategyChoice::RoundRobin];
            let other = others[rng.index(2)];
            mix.strategies = if rng.chance(500_000) { vec![StrategyChoice::Balanced, other] } else { vec![other] };
        }
        if rng.chance(EACH_PPM) {
            mix.available_every = [1, 2, 3][rng.index(3)];
        }
        if rng.chance(EACH_PPM) {
            mix.capacities = [2, 3][rng.index(2)];
        }
        if rng.chance(EACH_PPM) {
            mix.lists = 2;
        }
        match rng.below(6) {
            // Within a zone the load is not yet even where capacities differ.
            0 if mix.capacities == 0 => options.zones = [2, 3][rng.index(2)],
            1 => mix.pins_every = [2, 5][rng.index(2)],
            _ => {}
        }
        if rng.chance(EACH_PPM) && options.worker.slots > 64 {
            mix.dead_predecessors = true;
            self.ordinals = true;
        }
        // Of its own, so that what else is drawn does not depend on it.
        let mut rng = Rng::for_purpose(options.seed, "placement");
        if rng.chance(EACH_PPM) && options.zones == 0 {
            options.mix.preferred_zones = [2, 3][rng.index(2)];
        }
        if rng.chance(EACH_PPM) {
            options.mix.keyed = [2, 3][rng.index(2)];
        }
    }

    fn loosen_network(&mut self, rng: &mut Rng) {
        let options = &mut self.options;
        if rng.chance(EACH_PPM * 2) {
            options.encoded = true;
            if rng.chance(EACH_PPM * 2) {
                let enough = RECORD_BYTES + (options.partitions + options.spare_partitions) * GRANT_BYTES;
                options.record_limit =
                    if rng.chance(500_000) { LEAST_RECORD_BYTES } else { enough.max(LEAST_RECORD_BYTES) };
            }
        }
        if rng.chance(EACH_PPM) {
            options.network.mixed_listing_ppm = u32::try_from(rng.below(300_000)).unwrap_or(0);
        }
        if rng.chance(EACH_PPM) {
            options.network.missed_ppm = u32::try_from(rng.below(200_000)).unwrap_or(0);
        }
    }
}

/// One that fits the world.
fn trouble(options: &Options, lossy: bool, rng: &mut Rng) -> Option<Deed> {
    let who = u32::try_from(rng.below(1_000)).unwrap_or(0);
    let lease_ms = options.worker.lease_ms;
    let for_ms = rng.between(50, lease_ms * 5 / 2);
    let wish = [Wish::Drain(who % 4), Wish::Pause, Wish::Maintenance, Wish::Rebalance][rng.index(4)];
    let stays = rng.chance(300_000);
    let one = |trouble| Deed::One(ToOne::Trouble(trouble));
    let garbage = |under, stays| Deed::All(ToAll::Trouble(Left::Garbage { under, stays }));
    Some(match rng.below(8) {
        0 => one(Trouble::StoreAway { who, for_ms }),
        1 => one(Trouble::ReadOnly { who, for_ms }),
        2 => one(Trouble::Sleep { who, for_ms }),
        3 => one(Trouble::StepClock { who, forward_ms: step_ms(options)? }),
        4 => garbage(Under::Leader, false),
        5 => garbage(Under::Control(wish), stays),
        6 if lossy => garbage([Under::Cluster, Under::Slot(who % 8)][rng.index(2)], false),
        6 => return None,
        _ if options.mix.dead_predecessors => {
            one(Trouble::RaceForTheDead { who, apart_ms: rng.between(1, 300), for_ms })
        }
        _ => return None,
    })
}

/// A jump that the margin has room for, also with the clocks' rates: of the lease an eighth, and of what a probe's verdict
/// waits for beyond what it judges; not where the rates may take all of it.
fn step_ms(options: &Options) -> Option<u64> {
    let worker = &options.worker;
    let rates_leave_room = options.clock_ppm < 10_000;
    let margin_ms = worker.lease_ms / 8;
    let row_ms = if worker.probe_confirm_ms > 0 { worker.probe_confirm_ms / 8 } else { margin_ms };
    // Several steps, of two workers, within one lease.
    rates_leave_room.then(|| (margin_ms / 10).min(row_ms / 5).max(1))
}
