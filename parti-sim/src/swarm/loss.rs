//! Worlds in which a store that loses writes shows a planted bug soon.

use parti_core::PlantedBug as Bug;

use super::Plan;
use super::deed::{Act, Deed, ToAll, ToOne, Trouble, Wish};
use crate::fault::plant::Plant;
use crate::setting::mix::Mix;

impl Plan {
    /// Makes it a world in which a bug shows that takes a store which loses writes.
    pub(super) fn provoke_loss(&mut self, plant: Plant) {
        match plant {
            // Somebody works on unheard while the members are made anew, and nothing but the wait lets it stop first.
            Plant::Core(Bug::GrantInQuarantine) => {
                self.level(5, 10_000, 0);
                self.repeat(6, 25_000, |nth| {
                    let cut_off = Deed::One(ToOne::Isolate { who: nth * 7, for_ms: 9_000, closed: false });
                    vec![(0, cut_off), (20, Deed::All(ToAll::Recreate { plan: false, unknowing: false }))]
                });
            }
            // Somebody notices late that the plan is lost.
            Plant::Core(Bug::GrantUnsound) => {
                let is_purged = self.options.seed % 2 == 1;
                self.level(4, 4_000, if is_purged { 750 } else { 0 });
                self.repeat(6, 24_000, |nth| {
                    let lost = if is_purged {
                        Deed::All(ToAll::Purge { plan: true })
                    } else {
                        Deed::All(ToAll::Recreate { plan: true, unknowing: false })
                    };
                    vec![(0, Deed::One(ToOne::SilenceWatch { who: nth * 7, for_ms: 16_000, plan: true })), (30, lost)]
                });
            }
            // An eviction is undone, and who was evicted comes back.
            Plant::Core(Bug::ResumeUnread | Bug::KeepUnnamed) => {
                let (seed, nth_seed) = (self.options.seed, u32::try_from(self.options.seed).unwrap_or(0));
                let lease_ms = [2_000, 4_000, 10_000][nth_seed as usize % 3];
                self.level(4, lease_ms, if seed % 2 == 1 { 750 } else { 0 });
                self.repeat(8, lease_ms * 3, |nth| {
                    let for_ms = lease_ms * 5 / 4 + u64::from(nth * 37 % 10) * lease_ms / 8;
                    let lost =
                        Deed::All(ToAll::RollBack { plan: false, writes: 1 + (nth * 5 + nth_seed) % 14, for_ms: 500 });
                    vec![
                        (0, Deed::One(ToOne::Isolate { who: nth * 7, for_ms, closed: nth % 2 == 0 })),
                        (lease_ms * 5 / 4 + lease_ms / 8 * (seed % 4), lost),
                    ]
                });
            }
            // Nobody finds anybody, and many would lead.
            Plant::Core(Bug::ClaimUnshown) => {
                self.level(4, 10_000, 0);
                self.options.network = crate::setting::options::NetworkOptions::quiet(&self.options.network);
                self.repeat(3, 40_000, |_| vec![(0, Deed::All(ToAll::Purge { plan: false }))]);
            }
            Plant::Core(Bug::LeadUnlisted) => self.lose_all_but_who_is_not_listed(),
            Plant::Core(Bug::CommitTellsNothing) => self.lose_what_was_just_granted(),
            Plant::Core(Bug::RenewUnlisted) => self.give_revisions_again(),
            Plant::Core(Bug::WriteOnUnshown) => self.give_again_while_another_stands_by(),
            Plant::Core(Bug::OwnByToken) => self.give_tokens_again(),
            _ => {}
        }
    }

    /// The plan forgets what a worker was granted that could not say so, and that is cut off and not to have it.
    fn lose_what_was_just_granted(&mut self) {
        self.level(3, 10_000, 0);
        self.options.network = crate::setting::options::NetworkOptions::quiet(&self.options.network);
        (self.options.spare_partitions, self.ordinals) = (20, true);
        (self.start_gap_ms, self.begins_ms) = (300, 20_000);
        let seed = self.options.seed;
        let later_ms = 16_500 + seed % 5 * 200;
        self.repeat(6, 30_000, |nth| {
            let who = 1 + nth % 2;
            let list = |keep_percent| Deed::All(ToAll::ChangeList { seed: seed * 7 + u64::from(nth), keep_percent });
            let drain = |slot, wanted| Deed::All(ToAll::Wish { wish: Wish::Drain(slot), wanted });
            let writes = 1 + u32::try_from(seed % 8).unwrap_or(0).wrapping_add(nth) % 8;
            vec![
                (0, drain(1, false)),
                (1, drain(2, false)),
                (2, list(50)),
                (15_000, Deed::One(ToOne::Trouble(Trouble::ReadOnly { who, for_ms: 4_000 }))),
                (15_100, list(100)),
                (later_ms, Deed::One(ToOne::Isolate { who, for_ms: 9_000, closed: false })),
                (later_ms + 10, Deed::All(ToAll::RollBack { plan: true, writes, for_ms: 50 })),
                (later_ms + 100, drain(who, true)),
            ]
        });
    }

    /// The plan is purged while the one who has everything is cut off, and who leads next has just come, and lists only some
    /// of the members.
    fn lose_all_but_who_is_not_listed(&mut self) {
        self.level(2, 4_000, 0);
        self.options.network = crate::setting::options::NetworkOptions {
            partial_members_ppm: 1_000_000,
            ..crate::setting::options::NetworkOptions::quiet(&self.options.network)
        };
        (self.start_gap_ms, self.begins_ms) = (300, 20_000);
        let leaves_ms = 11_300 + self.options.seed % 8 * 40;
        let wish = |wish, wanted| Deed::All(ToAll::Wish { wish, wanted });
        self.repeat(1, 30_000, |_| {
            vec![
                (0, wish(Wish::Drain(0), true)),
                (5_000, wish(Wish::Pause, true)),
                (10_000, Deed::One(ToOne::Isolate { who: 1, for_ms: 3_900, closed: false })),
                (10_010, Deed::All(ToAll::Join { ordinal: None })),
                (leaves_ms - 1, Deed::All(ToAll::Purge { plan: true })),
                (leaves_ms, Deed::One(ToOne::Leave { who: 0 })),
                (18_000, wish(Wish::Pause, false)),
            ]
        });
    }

    /// The members forget the last renewals of a worker that is cut off, and few write, so that their revisions are given
    /// to who takes its slot.
    fn give_revisions_again(&mut self) {
        let (seed, nth_seed) = (self.options.seed, u32::try_from(self.options.seed).unwrap_or(0));
        let lease_ms = if seed % 2 == 1 { 4_000 } else { 2_000 };
        self.level(2 + nth_seed % 2, lease_ms, 0);
        self.options.network = crate::setting::options::NetworkOptions::quiet(&self.options.network);
        self.repeat(14, lease_ms * 4, |nth| {
            let for_ms = lease_ms * 9 / 8 + (seed * 7 + u64::from(nth) * 3) % 10 * lease_ms / 8;
            let lost = Deed::All(ToAll::RollBack { plan: false, writes: 2 + (nth * 5 + nth_seed) % 9, for_ms: 20 });
            vec![
                (0, Deed::One(ToOne::Isolate { who: nth, for_ms, closed: true })),
                (lease_ms / 2, lost),
                (lease_ms / 2 + 30, Deed::All(ToAll::Join { ordinal: None })),
                (lease_ms / 2 + 500, Deed::One(ToOne::Leave { who: nth + 1 })),
            ]
        });
    }

    /// The members forget the last renewals of a worker for whose slot another waits, which sleeps until it could take it.
    fn give_again_while_another_stands_by(&mut self) {
        self.level(1, 4_000, 0);
        self.options.network = crate::setting::options::NetworkOptions::quiet(&self.options.network);
        self.ordinals = true;
        let seed = self.options.seed;
        let nth_seed = u32::try_from(seed % 100).unwrap_or(0);
        self.repeat(8, 15_000, |nth| {
            let join = (nth == 0).then_some((0, Deed::All(ToAll::Join { ordinal: Some(0) })));
            let lost = Deed::All(ToAll::RollBack { plan: false, writes: 5 + (nth_seed + nth) % 9, for_ms: 20 });
            let sleeps = Deed::One(ToOne::Trouble(Trouble::Sleep { who: 1, for_ms: 3_000 + seed % 7 * 200 }));
            let at_ms = 5_000 + seed % 16 * 60;
            join.into_iter().chain([(at_ms, lost), (at_ms + 3_000, sleeps)]).collect()
        });
    }

    /// Both buckets forget what was granted to a worker that is cut off and goes on, and another one gets the same tokens.
    fn give_tokens_again(&mut self) {
        let seed = self.options.seed;
        self.level(1, 4_000, 0);
        self.options.network = crate::setting::options::NetworkOptions::quiet(&self.options.network);
        (self.options.mix.available_every, self.begins_ms, self.lingers_ms) = (1, 20_000, 10_000);
        // What was granted has to be written to before its worker hears that it is not in its slot any more.
        (self.options.network.slow_ppm, self.options.network.slow_us) = (500_000, (5_000, 500_000));
        self.repeat(1, 30_000, |_| {
            let for_ms = 2_000 + seed % 8 * 300;
            vec![
                (0, Deed::All(ToAll::Recreate { plan: false, unknowing: true })),
                (10, Deed::One(ToOne::Isolate { who: 0, for_ms, closed: seed.is_multiple_of(2) })),
                (500, Deed::All(ToAll::Purge { plan: true })),
                (510, Deed::All(ToAll::Join { ordinal: None })),
            ]
        });
    }

    /// So many workers that are alike, and plan as soon as they may.
    fn level(&mut self, workers: u32, lease_ms: u64, probe_confirm_ms: u64) {
        let worker = &mut self.options.worker;
        (worker.lease_ms, worker.probe_confirm_ms, worker.slots) = (lease_ms, probe_confirm_ms, worker.slots.max(64));
        (worker.settle_window_ms, worker.cold_start_window_ms, worker.planned_scale_window_ms) = (50, 200, 200);
        (worker.rebalance_interval_ms, worker.restart_hold_ms, worker.surge_wait_ms) = (500, 1_000, 0);
        (self.options.workers, self.options.partitions) = (workers, 20);
        self.options.mix = Mix::default();
    }

    /// The same deeds again and again, each with how long after the beginning of its turn.
    fn repeat(&mut self, turns: u32, every_ms: u64, deeds: impl Fn(u32) -> Vec<(u64, Deed)>) {
        let turn = |nth: u32| {
            let begins_ms = u64::from(nth) * every_ms;
            deeds(nth).into_iter().map(move |(after_ms, deed)| Act { at_ms: begins_ms + after_ms, deed })
        };
        self.acts = (0..turns).flat_map(turn).collect();
    }
}
