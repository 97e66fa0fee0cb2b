//! Worlds made for planted bugs: what they break must matter there, and soon.

use parti_core::PlantedBug;

use super::Plan;
use super::deed::{Act, Deed, Left, ToAll, ToOne, Trouble, Under};
use super::random::settles_ms;
use crate::fault::around::Around;
use crate::fault::plant::Plant;
use crate::setting::mix::Mix;
use crate::setting::options::{NetworkOptions, Weights};

impl Plan {
    /// Makes it a world in which a planted bug shows soon.
    pub(super) fn provoke(&mut self, plant: Plant) {
        let (worker, network) = (&mut self.options.worker, &mut self.options.network);
        match plant {
            // Between the sending of a renewal and its reply more than the margin has to pass, and nothing but the lease
            // may end the work.
            Plant::Core(PlantedBug::LeaseFromReply) => {
                (worker.lease_ms, worker.probe_confirm_ms) = (1_000, 0);
                (network.slow_ppm, network.slow_us) = (500_000, (5_000, network.request_timeout_ms * 1_000));
            }
            // It takes workers that go on without a lease.
            Plant::Core(PlantedBug::TakeWithoutLease) => self.options.mix.available_every = 1,
            // Who is evicted by mistake must not hear of it before others are told.
            Plant::Core(PlantedBug::EvictRenewed) => network.notify_us = (250, 1_500_000),
            // What is given up has to be worked on until somebody asks for it.
            Plant::Core(PlantedBug::GiveUpUnasked) => {
                for (act, who) in self.acts.iter_mut().zip(0..).step_by(2) {
                    act.deed = Deed::One(ToOne::GiveUp { who, which: who });
                }
            }
            // The connection has to break while what was listed waits.
            Plant::Core(PlantedBug::WatchOutlivesBreak) => {
                network.waits_in_queue_ppm = 700_000;
                for act in self.acts.iter_mut().step_by(2) {
                    act.deed = Deed::All(ToAll::IsolateAll { for_ms: 100, closed: true });
                }
            }
            // A claim has to be undone, and its revision to be given to another one.
            Plant::Core(PlantedBug::TenureByRevision) => {
                for (act, writes) in self.acts.iter_mut().zip(1..).step_by(2) {
                    act.deed = Deed::All(ToAll::RollBack { plan: false, writes, for_ms: 500 });
                }
            }
            // Capacities have to differ, and partitions to be many and alike.
            Plant::Core(PlantedBug::CapacityIgnored) => {
                (self.options.mix, self.options.zones) = (Mix { capacities: 3, ..Mix::default() }, 0);
                (self.options.workers, self.options.partitions) = (4, 40);
            }
            // Nothing but noise must be there to be a reason.
            Plant::Core(PlantedBug::MoveForNoise) => self.provoke_noise(),
            Plant::Core(PlantedBug::LoadByAnyList) => self.provoke_lists_of_loads(),
            // There has to be too little room as soon as one worker is gone.
            Plant::Core(PlantedBug::LimitIgnored | PlantedBug::GrantWithoutRoom) => {
                let mix = Mix { max_load: 6, priorities: 5, ..Mix::default() };
                (self.options.mix, self.options.zones, self.options.record_limit) = (mix, 0, 0);
                self.options.weights = Weights::Equal;
                (self.options.workers, self.options.partitions) = (4, 20);
            }
            _ if plant.needs_messages() => self.provoke_delivery(plant),
            _ => {
                self.provoke_judgement(plant);
                self.provoke_presence(plant);
            }
        }
    }

    /// Makes it a world in which workers judge each other while some are cut off, and little else happens.
    fn provoke_judgement(&mut self, plant: Plant) {
        use PlantedBug as Bug;
        let isolate = |who| Deed::One(ToOne::Isolate { who, for_ms: 6_000, closed: false });
        let join = Deed::All(ToAll::Join { ordinal: None });
        let garbage = |slot| Deed::All(ToAll::Trouble(Left::Garbage { under: Under::Slot(slot), stays: false }));
        let acts: Vec<(u64, Deed)> = match plant {
            // Some are waited for that come back after another one has taken the slot over.
            Plant::Core(Bug::DeadWhoeverIsThere) => {
                let race = |nth: u64| Trouble::RaceForTheDead { who: 1, apart_ms: 5 + nth % 7 * 20, for_ms: 4_000 };
                (0..12).map(|nth| (nth * 8_000, Deed::One(ToOne::Trouble(race(nth))))).collect()
            }
            // Who is in the slot must be unable to hear what becomes of it.
            Plant::Core(Bug::UnreadableIsFree | Bug::GarbageEndsTenure) => {
                vec![(0, isolate(1)), (50, garbage(1)), (100, join)]
            }
            // Who judges has a longer lease than others, and writes go nowhere for longer than the shorter one.
            Plant::Core(Bug::JudgeUnheard) => {
                let down = |nth: u64| Deed::All(ToAll::StoreDown { for_ms: 1_500 + nth * 100 });
                (0..20).map(|nth| (nth * 10_000, down(nth))).collect()
            }
            // Others lead again and again, and what they list is long in coming, and lacks those who renew meanwhile.
            Plant::Core(Bug::AbsenceIsEnd) => (0..8).map(|nth| (u64::from(nth) * 9_000, isolate(nth))).collect(),
            _ => return,
        };
        let (worker, network) = (&mut self.options.worker, &mut self.options.network);
        (worker.lease_ms, worker.other_lease_ms, worker.probe_confirm_ms) = (2_000, 0, 0);
        (self.options.workers, self.options.partitions, worker.slots) = (7, 21, 1024);
        (self.options.mix, self.options.zones, self.options.record_limit) = (Mix::default(), 0, 0);
        self.ordinals = true;
        match plant {
            Plant::Core(Bug::DeadWhoeverIsThere) => {
                self.options.mix.dead_predecessors = true;
                (network.slow_ppm, network.slow_us) = (500_000, (5_000, 200_000));
            }
            Plant::Core(Bug::AbsenceIsEnd) => network.partial_members_ppm = 1_000_000,
            Plant::Core(Bug::JudgeUnheard) => {
                (worker.lease_ms, worker.other_lease_ms) = (4_000, 1_000);
                *network = NetworkOptions { request_timeout_ms: 250, ..NetworkOptions::default() };
                self.begins_ms = settles_ms(&self.options);
            }
            _ => {}
        }
        self.acts = acts.into_iter().map(|(at_ms, deed)| Act { at_ms, deed }).collect();
    }

    /// Makes it a world in which many workers are not where they were, or seem not to be. Renewals are rarer than rows of
    /// probes are long: a row about one revision has to have the time.
    fn provoke_presence(&mut self, plant: Plant) {
        use PlantedBug as Bug;
        /// The deed of the n-th act.
        type DeedOf<'a> = &'a dyn Fn(u32) -> Deed;
        let who = |nth: u32| nth * 7;
        let lasts = |nth: u32| 1_000 + u64::from(nth % 4) * 1_000;
        let take = |nth| Deed::One(ToOne::TakeSubscription { who: who(nth), for_ms: lasts(nth), told: false });
        let reconnect = |nth| Deed::One(ToOne::Reconnect { who: who(nth) });
        let reconnect_prober = |nth: u32| Deed::One(ToOne::Reconnect { who: nth / 2 % 2 });
        let take_leader = |_| Deed::One(ToOne::TakeSubscription { who: 0, for_ms: 1_100, told: false });
        let away = |nth: u32| Deed::One(ToOne::Isolate { who: nth % 4, for_ms: 400, closed: true });
        let cut = |nth: u32| Deed::All(ToAll::CutRoute { one: nth % 3, other: (nth + 1) % 3, for_ms: lasts(nth) });
        let blink = |nth: u32| Deed::One(ToOne::FalselyGone { who: who(nth - nth % 2), for_ms: 150 });
        let take_briefly =
            |nth| Deed::One(ToOne::TakeSubscription { who: who(nth), for_ms: 800 + lasts(nth) / 10, told: false });
        let list = |nth: u32| Deed::All(ToAll::ChangeList { seed: u64::from(nth), keep_percent: 50 });
        // Which deeds, how far apart, how many servers, and how much is late.
        let (deeds, gap_ms, servers, late_ppm): (&[DeedOf], u64, u32, u32) = match plant {
            Plant::Core(Bug::PresenceTooLong) => (&[&take], 4_000, 1, 0),
            Plant::Core(Bug::ResumeUnrenewed) => (&[&take_briefly], 4_000, 1, 0),
            Plant::Core(Bug::PresenceFromReceipt) | Plant::Around(Around::ProbeHeardCounts) => {
                (&[&take], 4_000, 1, 300_000)
            }
            Plant::Core(Bug::TakeAbsent) => (&[&take, &list], 800, 1, 0),
            Plant::Core(Bug::ProberElsewhere) => (&[&cut], 3_000, 3, 0),
            Plant::Core(Bug::StaleServer) | Plant::Around(Around::UnnoticedReconnect) => {
                (&[&reconnect, &cut, &cut, &cut], 400, 3, 0)
            }
            Plant::Core(Bug::RowThroughAnswer) => (&[&blink], 1_000, 1, 0),
            Plant::Core(Bug::RowOverRevisions | Bug::RowThroughTimeout) => (&[&take, &reconnect], 2_500, 3, 0),
            Plant::Core(Bug::RowThroughElsewhere) => (&[&take, &reconnect_prober], 400, 3, 0),
            Plant::Core(Bug::RowThroughBreak) => (&[&take_leader, &away, &away, &away], 300, 1, 0),
            _ => return,
        };
        let (worker, network) = (&mut self.options.worker, &mut self.options.network);
        (worker.lease_ms, worker.probe_confirm_ms, worker.probe_interval_ms) = (10_000, 750, 150);
        network.listens_late_ppm = late_ppm;
        match plant {
            // The eviction has to be on its way still when the worker is heard again.
            Plant::Core(Bug::ResumeUnrenewed) => (network.slow_ppm, network.slow_us) = (300_000, (5_000, 700_000)),
            // What it is given has to come when it is another's already.
            Plant::Core(Bug::TakeAbsent) => network.notify_us = (250, 2_000_000),
            _ => {}
        }
        worker.slots = worker.slots.max(8);
        (self.options.workers, self.options.partitions, self.options.servers) = (5, 20, servers);
        let available_every = u32::from(plant == Plant::Core(Bug::TakeAbsent));
        self.options.mix = Mix { available_every, ..Mix::default() };
        let act = |nth: u32| Act { at_ms: u64::from(nth) * gap_ms, deed: deeds[nth as usize % deeds.len()](nth) };
        self.acts = (0..24).map(act).collect();
    }
}
