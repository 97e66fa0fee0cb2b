//! What can trouble one worker alone, and what somebody who is no worker can leave in the store.

use std::time::Duration;

use parti_core::{Key, Slot, StrategyChoice};
use serde::{Deserialize, Serialize};

use super::random::{Act, Deed, Wish};
use super::{Happening, Plan};
use crate::rng::Rng;
use crate::setting::options::{GRANT_BYTES, Options, RECORD_BYTES};
use crate::told::fact::ProcessId;

/// How many worlds have workers that differ, or a network and a store with more that can go wrong, in parts per million.
const SOME_PPM: u32 = 300_000;
/// How many of those have each of it.
const EACH_PPM: u32 = 250_000;
/// How many worlds have workers with another lease than the rest, in parts per million.
const OTHER_LEASE_PPM: u32 = 150_000;
/// The least that a record may have where its size is limited: what any record has besides its partitions, and some of
/// those. A plan for few workers can be too large for that.
const LEAST_RECORD_BYTES: u32 = 1_000;

/// What can trouble one worker alone, and what can be left in the store. `who` counts those that live at the time, around
/// and around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum Trouble {
    /// The store is out of reach for one worker, whose connection stands.
    StoreAway { who: u32, for_ms: u64 },
    /// The store takes no write of one worker, which can read and watch.
    ReadOnly { who: u32, for_ms: u64 },
    /// A machine sleeps; the clock goes on, the timer does not.
    Sleep { who: u32, for_ms: u64 },
    /// A clock jumps forward.
    StepClock { who: u32, forward_ms: u64 },
    /// Somebody writes something that is not a record, and nobody deletes it before all faults are over; or never, if it
    /// stays.
    Garbage { under: Under, stays: bool },
    /// A worker with a slot of its own dies, and two are after the slot, one of which is cut off for a while.
    RaceForTheDead { who: u32, apart_ms: u64, for_ms: u64 },
}

/// Where something can be that is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see parti_core::Key")]
pub enum Under {
    Slot(u32),
    Leader,
    Control(Wish),
    Assign(u32),
    Cluster,
}

impl Under {
    const fn key(self) -> Key {
        match self {
            Self::Slot(slot) => Key::Slot(Slot::new(slot)),
            Self::Leader => Key::Leader,
            Self::Control(wish) => Key::Control(wish.control()),
            Self::Assign(slot) => Key::Assign(Slot::new(slot)),
            Self::Cluster => Key::Cluster,
        }
    }
}

impl Trouble {
    /// To whom it is done, if to one.
    pub const fn who(&self) -> Option<u32> {
        match self {
            Self::StoreAway { who, .. }
            | Self::ReadOnly { who, .. }
            | Self::Sleep { who, .. }
            | Self::StepClock { who, .. }
            | Self::RaceForTheDead { who, .. } => Some(*who),
            Self::Garbage { .. } => None,
        }
    }
}

impl Happening {
    pub(super) fn trouble_one(&mut self, process: ProcessId, trouble: &Trouble) {
        let (ms, now) = (Duration::from_millis, self.world.ground.now);
        match *trouble {
            Trouble::StoreAway { for_ms, .. } => {
                self.world.ground.process_mut(process).link.take_store_away(now + ms(for_ms))
            }
            Trouble::ReadOnly { for_ms, .. } => {
                self.world.ground.process_mut(process).link.make_read_only(now + ms(for_ms))
            }
            Trouble::Sleep { for_ms, .. } => self.world.sleep(process, ms(for_ms)),
            Trouble::StepClock { forward_ms, .. } => self.world.step_clock(process, ms(forward_ms)),
            Trouble::RaceForTheDead { apart_ms, for_ms, .. } => {
                self.world.race_for_the_dead(process, ms(apart_ms), ms(for_ms));
            }
            Trouble::Garbage { .. } => {}
        }
    }

    pub(super) fn trouble_all(&mut self, trouble: &Trouble) {
        if let Trouble::Garbage { under, stays } = trouble {
            self.world.at_store().leave_garbage(under.key(), *stays);
        }
    }
}

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
                if let Some(trouble) = trouble(&self.options, lossy, &mut rng) {
                    self.acts.push(Act { at_ms, deed: Deed::Trouble(trouble) });
                }
            }
            self.acts.sort_by_key(|act| act.at_ms);
        }
        if rng.chance(SOME_PPM) {
            self.options.network.listens_late_ppm = u32::try_from(rng.below(20_000)).unwrap_or(0);
        }
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
fn trouble(options: &Options, lossy: bool, rng: &mut Rng) -> Option<Trouble> {
    let who = u32::try_from(rng.below(1_000)).unwrap_or(0);
    let lease_ms = options.worker.lease_ms;
    let for_ms = rng.between(50, lease_ms * 5 / 2);
    let wish = [Wish::Drain(who % 4), Wish::Pause, Wish::Maintenance, Wish::Rebalance][rng.index(4)];
    let stays = rng.chance(300_000);
    Some(match rng.below(8) {
        0 => Trouble::StoreAway { who, for_ms },
        1 => Trouble::ReadOnly { who, for_ms },
        2 => Trouble::Sleep { who, for_ms },
        3 => Trouble::StepClock { who, forward_ms: step_ms(options)? },
        4 => Trouble::Garbage { under: Under::Leader, stays: false },
        5 => Trouble::Garbage { under: Under::Control(wish), stays },
        6 if lossy => {
            let under = [Under::Cluster, Under::Slot(who % 8)][rng.index(2)];
            Trouble::Garbage { under, stays: false }
        }
        6 => return None,
        _ if options.mix.dead_predecessors => Trouble::RaceForTheDead { who, apart_ms: rng.between(1, 300), for_ms },
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
