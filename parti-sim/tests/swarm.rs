//! Random worlds hold; with a planted bug they do not, and the right invariant says so.

use parti_sim::swarm::{self, Act, Plan, ToAll, ToOne, Trouble};
use parti_sim::{Around, Mark, Options, Plant};

/// Within how many seeds each planted bug must be found.
const SEEDS_PER_PLANT: u64 = 2_000;

/// What three hundred random worlds must reach.
const REQUIRED: &[Mark] = &[
    Mark::ClaimedFresh,
    Mark::ClaimedInherited,
    Mark::ClaimedTakenOver,
    Mark::StoodBy,
    Mark::SlotLost,
    Mark::Led,
    Mark::SteppedDown,
    Mark::EvictedByLease,
    Mark::EvictedByProbe,
    Mark::PlannedEmergency,
    Mark::PlannedColdStart,
    Mark::PlannedList,
    Mark::PlannedLeave,
    Mark::PlannedJoin,
    Mark::PlannedNextRound,
    Mark::PlannedGivenUp,
    Mark::PlannedLoad,
    Mark::LoadShifted,
    Mark::LoadTold,
    Mark::Drained,
    Mark::ReleaseTimedOut,
    Mark::Suspended,
    Mark::Resumed,
    Mark::Conflict,
    Mark::OutcomeUnknown,
    Mark::WriteRefused,
    Mark::FalseConflict,
    Mark::LateWrite,
    Mark::WatchLost,
    Mark::ConnectionLost,
    Mark::StaleTokenRefused,
    Mark::StoreRegressed,
    Mark::Undecodable,
    Mark::NotPresent,
    Mark::AskedThrough,
    Mark::ListenedAgain,
    Mark::AnotherSession,
    Mark::Wished,
    Mark::AwaitedOtherVersion,
    Mark::RequestLost,
    Mark::ReplyLost,
    Mark::StaleRead,
    Mark::PartialListing,
    Mark::Unheard,
    Mark::FalselyGone,
    Mark::ReplacedWatch,
    Mark::OldNews,
    Mark::StoreAwayForOne,
    Mark::ReadOnlyForOne,
    Mark::MixedListing,
    Mark::MissedChange,
    Mark::Encoded,
    Mark::PlanRefused,
    Mark::Slept,
    Mark::ClockStepped,
    Mark::GarbageUnderLeader,
    Mark::GarbageUnderControl,
    Mark::GarbageStays,
    Mark::OtherStrategy,
    Mark::OtherList,
    Mark::OtherLease,
    Mark::AvailableWorker,
    Mark::AvailableDuplicate,
    Mark::OtherCapacity,
    Mark::WithoutRoom,
    Mark::RoomForAll,
    Mark::Labelled,
    Mark::Pinned,
    Mark::KnownDead,
    Mark::MessageFinished,
    Mark::MessageFailed,
    Mark::MessageInterrupted,
    Mark::MessageKilled,
    Mark::DeadLetter,
    Mark::MessagesRemoved,
    Mark::SuffixLost,
    Mark::StreamMadeAnew,
    Mark::PositionStored,
    Mark::PositionRefused,
    Mark::PositionsLost,
    Mark::MisfitTold,
    Mark::DeliveryStopped,
    Mark::LetGo,
    Mark::Acknowledged,
    Mark::ConsumerRestored,
    Mark::ConsumerDeleted,
    Mark::ConsumersLost,
    Mark::TailLost,
    Mark::ReplicaLagged,
];

#[test]
fn random_worlds_hold() {
    for seed in 0..300 {
        let run = swarm::run(&Plan::random(seed, None, false), false);
        assert!(run.violation.is_none(), "swarm --start {seed} --seeds 1: {}", run.violation.expect("one"));
    }
}

#[test]
fn random_worlds_reach_the_mechanisms_that_they_are_to_try() {
    let mut marks = parti_sim::Marks::default();
    for seed in 0..300 {
        marks.add(&swarm::run(&Plan::random(seed, None, false), false).marks);
    }
    assert_eq!(marks.missed(REQUIRED), []);
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in 0..20 {
        let trace = || swarm::run(&Plan::random(seed, None, false), true).trace.expect("it was asked for");
        assert!(trace() == trace(), "swarm --start {seed} --seeds 1 --twice");
    }
}

#[test]
fn who_wakes_within_its_lease_without_a_connection_works_no_longer_than_that() {
    let options = Options { workers: 2, partitions: 8, ..Options::default() };
    let lease_ms = options.worker.lease_ms;
    for (who, eighths) in (0..2).flat_map(|who| (1..8).map(move |eighths| (who, eighths))) {
        let cut_off = ToOne::Isolate { who, for_ms: 4 * lease_ms, closed: true };
        let sleep = ToOne::Trouble(Trouble::Sleep { who, for_ms: lease_ms * eighths / 8 });
        let plan = Plan {
            options: options.clone(),
            ordinals: false,
            start_gap_ms: 0,
            begins_ms: 60_000,
            acts: vec![Act { at_ms: 0, deed: cut_off.into() }, Act { at_ms: 10, deed: sleep.into() }],
            lingers_ms: 4 * lease_ms,
        };
        let run = swarm::run(&plan, false);
        assert!(run.violation.is_none(), "w{who}, {eighths}/8: {}", run.violation.expect("one"));
    }
}

/// The plan knows of the tenure, but a claim that follows a purge looks like one that follows its end.
#[test]
fn who_was_in_a_slot_under_garbage_is_forgotten_when_that_is_purged() {
    let mut options = Options { workers: 1, partitions: 4, ..Options::default() };
    (options.worker.expected_workers, options.worker.probe_confirm_ms) = (Some(1), 0);
    let act = |at_ms, deed| Act { at_ms, deed };
    let plan = Plan {
        options,
        ordinals: false,
        start_gap_ms: 0,
        begins_ms: 60_000,
        acts: vec![
            act(0, ToOne::Freeze { who: 0, for_ms: 5_000 }.into()),
            act(3_000, ToAll::Garbage { slot: 0, plan: false }.into()),
            act(4_000, ToAll::Purge { plan: false }.into()),
            act(4_900, ToAll::Join { ordinal: None }.into()),
        ],
        lingers_ms: 60_000,
    };
    let run = swarm::run(&plan, true);
    assert!(run.violation.is_none(), "{}", run.violation.expect("one"));
    let lines: Vec<String> = run.trace.expect("it was asked for").lines().iter().map(ToString::to_string).collect();
    let works = |who: &str| lines.iter().any(|line| line.contains(&format!("{who} works on p00000")));
    assert!(works("w0") && works("w1"), "{}", lines.join("\n"));
}

#[test]
fn every_planted_bug_is_caught_by_its_invariant() {
    let is_missed = |plant: &Plant| {
        !(0..SEEDS_PER_PLANT).any(|seed| {
            let run = swarm::run(&Plan::random(seed, Some(*plant), plant.needs_loss()), false);
            run.violation.is_some_and(|violation| plant.caught_by().contains(&violation.invariant))
        })
    };
    let escaped: Vec<String> = Plant::all().iter().copied().filter(is_missed).map(|plant| plant.to_string()).collect();
    assert!(escaped.is_empty(), "not caught in {SEEDS_PER_PLANT} seeds: {escaped:?}");
}

/// Else it would be these worlds that show, and not the bug.
#[test]
fn worlds_made_for_a_planted_bug_hold_without_it() {
    for plant in Plant::all() {
        for seed in 0..10 {
            let plan = Plan::random(seed, Some(*plant), plant.needs_loss()).without_bug();
            let violation = swarm::run(&plan, false).violation;
            let violation = violation.filter(|violation| plant.caught_by().contains(&violation.invariant));
            let lossy = if plant.needs_loss() { " --lossy" } else { "" };
            let repeat = format!("swarm --start {seed} --seeds 1 --plant {plant} --without-bug{lossy}");
            assert!(violation.is_none(), "{repeat}: {}", violation.expect("one"));
        }
    }
}

#[test]
fn a_failure_is_shrunk_to_what_it_needs() {
    let plan = Plan::random(1, Some(Plant::Around(Around::EndlessTimer)), false);
    let violation = swarm::run(&plan, false).violation.expect("it is caught at once");
    let shrunk = swarm::shrink(&plan, &violation);
    assert_eq!(shrunk.violation.invariant, "bounded");
    assert_eq!((shrunk.plan.acts.len(), shrunk.plan.options.workers), (0, 1));
}
