//! How small worlds are made: their settings, and how they begin.

use std::time::Duration;

use parti_core::Revision;

use super::fingerprint::PLAN_BEGINS_AT;
use super::scope::{Beginning, Bounds, Fault};
use super::state::State;
use crate::setting::birth::Birth;
use crate::setting::options::{ApplicationOptions, NetworkOptions, Options, WorkerOptions};
use crate::world::World;
use crate::world::clock::{Moment, nanos};
use crate::world::store::Store;

/// The invariants that say what must never happen. The others are about bounds in time and about large groups.
const INVARIANTS: [&str; 10] = [
    "no-duplicate",
    "ended-means-stopped",
    "tokens-increase",
    "one-writer",
    "one-tenure",
    "monotone",
    "state-table",
    "contract",
    "bounded",
    "row-of-probes",
];
/// How long a beginning may take to come about.
const PATIENCE: Moment = Moment::from_millis(600_000);

/// The world as it is at first.
pub(super) fn beginning(bounds: &Bounds) -> State {
    let joining = u32::from(bounds.beginning == Beginning::Joining);
    let options = options(bounds, bounds.workers - joining);
    let mut world = World::new(&options);
    let most_lost = if bounds.faults > 0 && bounds.kinds.contains(&Fault::Loss) { bounds.lost } else { 0 };
    world.kept.store = Store::losing_at_most(most_lost as usize, Revision::new(PLAN_BEGINS_AT));
    world
        .ground
        .observers
        .keep_invariants(&INVARIANTS[..if bounds.probes { INVARIANTS.len() } else { INVARIANTS.len() - 1 }]);
    for server in (0..bounds.workers - joining).map(|number| number % bounds.servers.max(1)) {
        let process = world.start(Birth::default());
        if server > 0 {
            world.connect_to(process, server);
        }
    }
    if bounds.beginning != Beginning::Fresh {
        settle(&mut world);
    }
    for _ in 0..joining {
        world.start(Birth::default());
    }
    let longest = options.worker.release_timeout_ms.max(options.worker.cold_start_window_ms);
    let horizon = nanos(options.observed_lease() + Duration::from_millis(longest));
    State::new(world, bounds, horizon)
}

/// Waits until everything has had an owner for two leases, and nothing is under way.
fn settle(world: &mut World) {
    let quiet = world.ground.options.observed_lease() * 2;
    loop {
        let ownership = &world.ground.observers.ownership;
        let rests = world.ground.schedule.next_at().is_some_and(|at| at > world.ground.now);
        if ownership.is_even() && world.ground.now.since(ownership.last_change()) > quiet && rests {
            return;
        }
        assert!(
            world.step(PATIENCE) && world.ground.observers.violation.is_none(),
            "a small group without faults settles"
        );
    }
}

/// A setting in which few timers have much to tell: messages take no time, and windows are as long as a renewal.
fn options(bounds: &Bounds, expected: u32) -> Options {
    let lease_ms = 4_000;
    let renewal_ms = lease_ms / 4;
    Options {
        seed: 1,
        workers: bounds.workers,
        partitions: bounds.partitions,
        worker: WorkerOptions {
            lease_ms,
            slots: bounds.workers + 1,
            expected_workers: Some(expected),
            settle_window_ms: renewal_ms,
            cold_start_window_ms: renewal_ms,
            planned_scale_window_ms: renewal_ms,
            rebalance_interval_ms: renewal_ms,
            restart_hold_ms: renewal_ms,
            surge_wait_ms: 0,
            release_timeout_ms: lease_ms,
            probe_interval_ms: renewal_ms / 2,
            probe_confirm_ms: if bounds.probes { renewal_ms } else { 0 },
            ..WorkerOptions::default()
        },
        network: NetworkOptions {
            one_way_us: (0, 0),
            notify_us: (0, 0),
            request_timeout_ms: renewal_ms,
            notice_ms: renewal_ms,
            reconnect_ms: (0, 0),
            reread_ms: (1_000_000_000, 1_000_000_000),
            ..NetworkOptions::default()
        },
        application: ApplicationOptions { drain_ms: (0, 0), write_every_ms: 0 },
        clock_ppm: 0,
        plant: bounds.plant,
        ..Options::default()
    }
}
