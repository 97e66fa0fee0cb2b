//! Small worlds hold in every order of what can happen, within bounds; with a planted bug they do not.

use std::time::Duration;

use parti_core::PlantedBug;
use parti_sim::exhaustive::{self, Beginning, Bounds, Fault, Found, Orders};
use parti_sim::{Around, Plant};

/// How many states a search looks at in which a planted bug must be found.
const STATES_PER_PLANT: u64 = 30_000;
/// A lease as others see it, in the worlds that are searched.
const A_LEASE: Duration = Duration::from_millis(4_500);
/// A little longer than nobody must have listened for a process that is to be taken for gone.
const A_ROW_OF_PROBES: Duration = Duration::from_secs(1);

fn bounds(beginning: Beginning, faults: u32, kinds: &[Fault]) -> Bounds {
    let kinds = kinds.to_vec();
    let (workers, partitions, orders, depth, plant) = (2, 1, Orders::Requests, 10_000, None);
    let (probes, servers, lost) = (false, 1, 1);
    Bounds { workers, partitions, beginning, probes, servers, orders, faults, kinds, lost, depth, plant }
}

fn probing(beginning: Beginning, kinds: &[Fault]) -> Bounds {
    Bounds { probes: true, ..bounds(beginning, u32::from(!kinds.is_empty()), kinds) }
}

/// Searches until nothing is left or `most` different states were found.
fn search(bounds: &Bounds, most: u64) -> Found {
    exhaustive::search(bounds, |progress| progress.distinct < most)
}

fn must_hold(bounds: &Bounds, most: u64) -> Found {
    let found = search(bounds, most);
    if let Some(failure) = &found.failure {
        panic!("{bounds:?}\n{}\n{}", failure.violation, failure.path.join("\n"));
    }
    found
}

fn must_hold_everywhere(bounds: &Bounds) {
    let found = must_hold(bounds, 100_000);
    assert!(found.levels.iter().all(|level| level.complete), "not all of {bounds:?}: {:?}", found.levels);
}

/// Looks at everything that can happen in this time after the fault.
fn must_hold_within(bounds: &Bounds, time: Duration) {
    let found = exhaustive::search(bounds, |progress| progress.faults < bounds.faults || progress.after <= time);
    if let Some(failure) = &found.failure {
        panic!("{bounds:?}\n{}\n{}", failure.violation, failure.path.join("\n"));
    }
    assert!(found.levels.iter().all(|level| level.has_all_within(time)), "{bounds:?}: {:?}", found.levels);
}

#[test]
fn two_workers_hold_in_every_order_of_requests_from_every_beginning() {
    for beginning in Beginning::ALL {
        must_hold_everywhere(&bounds(beginning, 0, &[]));
    }
}

#[test]
fn a_settled_group_holds_in_every_order_of_all_messages() {
    must_hold_everywhere(&Bounds { orders: Orders::All, ..bounds(Beginning::Settled, 0, &[]) });
}

#[test]
fn a_leave_and_a_restart_hold_in_every_order_and_at_every_moment() {
    must_hold_everywhere(&bounds(Beginning::Settled, 1, &[Fault::Leave]));
    must_hold_everywhere(&bounds(Beginning::Settled, 1, &[Fault::Restart]));
}

#[test]
fn a_crash_at_any_moment_breaks_nothing() {
    must_hold_at_any_moment(Fault::Crash);
}

#[test]
fn a_pause_at_any_moment_breaks_nothing() {
    must_hold_at_any_moment(Fault::Pause);
}

#[test]
fn a_cut_at_any_moment_breaks_nothing() {
    must_hold_at_any_moment(Fault::Cut);
}

#[test]
fn a_message_that_is_late_or_lost_breaks_nothing() {
    must_hold_at_any_moment(Fault::Late);
}

/// Of a fault while one joins there is more than a test has time for, but for a late message, and of any in a fresh
/// group: the command looks at it.
fn must_hold_at_any_moment(fault: Fault) {
    must_hold_everywhere(&bounds(Beginning::Settled, 1, &[fault]));
    let joining = bounds(Beginning::Joining, 1, &[fault]);
    if fault == Fault::Late {
        must_hold_everywhere(&joining);
    } else {
        must_hold_within(&joining, A_LEASE / 2);
    }
    must_hold(&bounds(Beginning::Fresh, 1, &[fault]), 4_000);
}

#[test]
fn a_worker_that_starts_alone_holds_whatever_goes_wrong_once() {
    let kinds = [Fault::Crash, Fault::Pause, Fault::Cut, Fault::Late, Fault::Leave, Fault::Restart, Fault::Loss];
    must_hold_everywhere(&Bounds { workers: 1, ..bounds(Beginning::Fresh, 1, &kinds) });
}

#[test]
fn probes_hold_in_every_order_where_nothing_goes_wrong() {
    for (beginning, servers) in [(Beginning::Settled, 1), (Beginning::Settled, 2), (Beginning::Joining, 1)] {
        must_hold_everywhere(&Bounds { servers, ..probing(beginning, &[]) });
    }
}

#[test]
fn another_connection_and_a_route_that_is_cut_break_nothing_where_there_are_probes() {
    must_hold_everywhere(&probing(Beginning::Settled, &[Fault::Reconnect]));
    must_hold_everywhere(&Bounds { servers: 2, ..probing(Beginning::Settled, &[Fault::Route]) });
}

#[test]
fn who_is_gone_or_not_heard_breaks_nothing_until_probes_have_judged_it() {
    must_hold_within(&probing(Beginning::Settled, &[Fault::Close]), A_ROW_OF_PROBES);
    for fault in [Fault::Crash, Fault::Deafen] {
        must_hold_within(&probing(Beginning::Settled, &[fault]), A_ROW_OF_PROBES / 2);
    }
}

#[test]
fn a_store_that_loses_its_last_write_breaks_nothing() {
    must_hold_within(&bounds(Beginning::Settled, 1, &[Fault::Loss]), A_LEASE / 2);
    must_hold(&bounds(Beginning::Joining, 1, &[Fault::Loss]), 2_000);
}

#[test]
fn two_workers_may_leave_at_any_moment() {
    must_hold_everywhere(&bounds(Beginning::Settled, 2, &[Fault::Leave]));
}

#[test]
fn two_faults_and_three_workers_break_nothing_as_far_as_the_search_goes() {
    must_hold(&bounds(Beginning::Settled, 2, &Fault::ALL), 10_000);
    must_hold(&Bounds { workers: 3, partitions: 2, ..bounds(Beginning::Joining, 1, &Fault::ALL) }, 10_000);
}

#[test]
fn planted_bugs_are_found_and_the_path_is_told() {
    use Beginning::{Fresh, Joining, Settled};
    for (plant, beginning, faults) in [
        (Plant::Around(Around::WorkThroughSuspension), Settled, &[Fault::Cut][..]),
        (Plant::Around(Around::ReleaseBeforeDrained), Joining, &[Fault::Late]),
        (Plant::Around(Around::TokenWithoutClaim), Settled, &[Fault::Restart]),
        (Plant::Around(Around::Resurrection), Settled, &[Fault::Leave]),
        (Plant::Around(Around::AcquireTwice), Fresh, &[]),
        (Plant::Around(Around::RenewWithoutCondition), Settled, &[Fault::Late]),
        (Plant::Around(Around::EvictWithoutCondition), Settled, &[Fault::Pause]),
        (Plant::Core(PlantedBug::OutliveLease), Settled, &[Fault::Cut]),
        (Plant::Core(PlantedBug::ForgetApplied), Settled, &[Fault::Restart]),
        (Plant::Core(PlantedBug::GrantUnreleased), Joining, &[]),
        (Plant::Core(PlantedBug::ReleaseUnconfirmed), Joining, &[Fault::Late]),
        (Plant::Core(PlantedBug::OlderAssignment), Joining, &[Fault::Loss]),
    ] {
        let most = u32::from(!faults.is_empty());
        must_be_found(plant, &Bounds { partitions: 2, ..bounds(beginning, most, faults) });
    }
}

#[test]
fn planted_bugs_of_the_probes_are_found() {
    for (bug, fault) in [
        (PlantedBug::EvictUnconfirmed, Fault::Deafen),
        (PlantedBug::RowOverRevisions, Fault::Deafen),
        (PlantedBug::OutlivePresence, Fault::Close),
    ] {
        must_be_found(Plant::Core(bug), &Bounds { partitions: 2, ..probing(Beginning::Settled, &[fault]) });
    }
}

fn must_be_found(plant: Plant, bounds: &Bounds) {
    let found = search(&Bounds { plant: Some(plant), ..bounds.clone() }, STATES_PER_PLANT);
    let failure = found.failure.unwrap_or_else(|| panic!("{plant} was not found: {:?}", found.levels));
    let caught_by = failure.violation.invariant;
    assert!(plant.caught_by().contains(&caught_by), "{plant} was caught by {caught_by}");
    assert!(!failure.path.is_empty());
}

#[test]
fn two_searches_within_the_same_bounds_see_the_same() {
    let bounds = bounds(Beginning::Settled, 1, &[Fault::Pause]);
    let (first, second) = (search(&bounds, 2_000), search(&bounds, 2_000));
    assert_eq!((first.progress, first.levels), (second.progress, second.levels));
}
