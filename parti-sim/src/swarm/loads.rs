//! Worlds whose lists measure how heavy partitions are.

use super::Plan;
use super::deed::{Act, Deed, ToAll};
use crate::rng::Rng;
use crate::setting::loads::LoadOptions;
use crate::setting::mix::Mix;

/// How many worlds have lists that measure, in parts per million.
const SOME_PPM: u32 = 150_000;
/// How many of those have partitions that become heavier and lighter.
const SHIFTING_PPM: u32 = 400_000;
/// How many reports there are in an eighth of a half-life.
const REPORTS_AT_A_TIME: u64 = 5;
/// How far reports are from the truth at most: so little that a few of them never look like a gain.
const NOISE_PERCENT: u32 = 10;

impl Plan {
    /// Lets the list measure partitions in some worlds, and lets some become heavier and lighter in some of those. Some
    /// workers report nothing, as those of an older version do, and some partitions are not measured.
    pub(super) fn measure_loads(&mut self, length_ms: u64) {
        let mut rng = Rng::for_purpose(self.options.seed, "loads");
        // A limit of load is in units of the list, which what is measured is not.
        if !rng.chance(SOME_PPM) || self.options.mix.max_load > 0 {
            return;
        }
        let half_life_ms = rng.between(1, 4) * 1_000;
        self.options.worker.load_half_life_ms = half_life_ms;
        self.options.loads = LoadOptions {
            report_every_ms: half_life_ms / 8 / REPORTS_AT_A_TIME,
            noise_percent: NOISE_PERCENT,
            silent_every: [0, 0, 2, 3][rng.index(4)],
            unmeasured_every: [0, 0, 2, 5][rng.index(4)],
        };
        if rng.chance(SHIFTING_PPM) {
            for _ in 0..rng.between(1, 3) {
                let shift = ToAll::ShiftLoad { times: rng.between(1, 10), every: [2, 3, 10][rng.index(3)] };
                self.acts.push(Act { at_ms: rng.below(length_ms), deed: Deed::All(shift) });
            }
            self.acts.sort_by_key(|act| act.at_ms);
        }
    }

    /// Makes it a world in which nothing happens but that reports of loads are noisy, and few partitions are hard to divide.
    pub(super) fn provoke_noise(&mut self) {
        let worker = &mut self.options.worker;
        worker.load_half_life_ms = 1_000;
        worker.rebalance_interval_ms = 1_000;
        worker.slots = worker.slots.max(4);
        self.options.loads = LoadOptions { report_every_ms: 25, noise_percent: 20, ..LoadOptions::default() };
        (self.options.mix, self.options.zones) = (Mix::default(), 0);
        (self.options.workers, self.options.partitions) = (3, 10);
        self.acts.clear();
        self.lingers_ms = 60_000;
    }

    /// Makes it a world in which workers have different lists, which measure different partitions.
    pub(super) fn provoke_lists_of_loads(&mut self) {
        let worker = &mut self.options.worker;
        worker.load_half_life_ms = 1_000;
        worker.rebalance_interval_ms = 5_000;
        worker.slots = worker.slots.max(8);
        self.options.loads = LoadOptions { report_every_ms: 25, noise_percent: 10, ..LoadOptions::default() };
        (self.options.mix, self.options.zones) = (Mix { lists: 2, ..Mix::default() }, 0);
        (self.options.workers, self.options.partitions) = (8, 17);
        self.acts = vec![Act { at_ms: 5_000, deed: Deed::All(ToAll::ShiftLoad { times: 9, every: 2 }) }];
    }
}
