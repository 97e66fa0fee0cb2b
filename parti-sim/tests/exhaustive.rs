//! Small worlds hold in every order of what can happen, within bounds; with a planted bug they do not.

use std::time::Duration;

use parti_core::PlantedBug;
use parti_sim::exhaustive::{self, Beginning, Bounds, Fault, Found, Orders};
use parti_sim::{Around, Plant};

/// How many states a search looks at in which a planted bug must be found.
const STATES_PER_PLANT: u64 = 30_000;
/// A lease as others see it, in the worlds that are searched.
const A_LEASE: Duration = Duration::from_millis(4_500);

fn bounds(beginning: Beginning, faults: u32, kinds: &[Fault]) -> Bounds {
    let kinds = kinds.to_vec();
    let (workers, partitions, orders, depth, plant) = (2, 1, Orders::Requests, 10_000, None);
    Bounds { workers, partitions, beginning, orders, faults, kinds, depth, plant }
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

/// Of a cut while one joins there is more than a test has time for, and of any fault in a fresh group.
fn must_hold_at_any_moment(fault: Fault) {
    must_hold_everywhere(&bounds(Beginning::Settled, 1, &[fault]));
    let joining = bounds(Beginning::Joining, 1, &[fault]);
    if fault == Fault::Cut {
        must_hold_within(&joining, A_LEASE);
    } else {
        must_hold_everywhere(&joining);
    }
    must_hold(&bounds(Beginning::Fresh, 1, &[fault]), 6_000);
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
    ] {
        let most = u32::from(!faults.is_empty());
        let bounds = Bounds { plant: Some(plant), partitions: 2, ..bounds(beginning, most, faults) };
        let found = search(&bounds, STATES_PER_PLANT);
        let failure = found.failure.unwrap_or_else(|| panic!("{plant} was not found: {:?}", found.levels));
        let caught_by = failure.violation.invariant;
        assert!(plant.caught_by().contains(&caught_by), "{plant} was caught by {caught_by}");
        assert!(!failure.path.is_empty());
    }
}

#[test]
fn two_searches_within_the_same_bounds_see_the_same() {
    let bounds = bounds(Beginning::Settled, 1, &[Fault::Pause]);
    let (first, second) = (search(&bounds, 2_000), search(&bounds, 2_000));
    assert_eq!((first.progress, first.levels), (second.progress, second.levels));
}
