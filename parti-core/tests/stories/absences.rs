//! Workers that are away, die again and again, or stop while the store is away; and records that nobody can read.

use std::time::Duration;

use parti_core::{Command, Config, Key, Mode, Partition, PartitionId, Slot};

use super::{assert_owned_once, fleet};
use crate::lab::{Lab, Reach};

fn orphans(lab: &Lab) -> usize {
    lab.owners().values().filter(|owners| owners.is_empty()).count()
}

fn leaders(lab: &Lab) -> usize {
    lab.workers.iter().filter(|bench| bench.worker.status().leader).count()
}

/// Runs until nothing is without an owner, and tells how many milliseconds that took.
fn until_owned(lab: &mut Lab, at_most: u64) -> u64 {
    for waited in (0..at_most).step_by(50) {
        if orphans(lab) == 0 {
            return waited;
        }
        lab.run(50);
    }
    panic!("still {} orphans:\n{}", orphans(lab), lab.transcript);
}

#[test]
fn orphans_are_not_given_to_a_worker_that_is_away_for_a_restart() {
    let mut lab = fleet(3, 9);
    lab.command(2, Command::Restart);
    lab.run(1_000);
    lab.crash(1);
    lab.run(3_000);
    assert_eq!(orphans(&lab), 3, "only what is held for the one that restarts:\n{}", lab.transcript);
    lab.start("w2 again", Config::default());
    lab.run(40_000);
    assert_owned_once(&lab);
    let owned: Vec<usize> = [0, 3].map(|at| lab.workers[at].working.len()).into();
    assert!(owned.iter().all(|owned| (4..=5).contains(owned)), "it takes part again: {owned:?}\n{}", lab.transcript);
}

/// What was about to come to it goes to somebody else.
#[test]
fn what_a_worker_was_about_to_get_when_it_went_away_goes_to_another() {
    let mut lab = fleet(2, 8);
    lab.slow_down(0);
    lab.slow_down(1);
    let new = lab.start("new", Config::default());
    lab.run(4_000);
    assert_eq!(orphans(&lab), 0);
    lab.command(new, Command::Restart);
    lab.run(100);
    lab.finish(0);
    lab.finish(1);
    lab.run(3_000);
    assert_eq!(orphans(&lab), 0, "{}", lab.transcript);
}

#[test]
fn a_planned_round_leaves_out_who_is_away_until_it_is_back() {
    let mut lab = fleet(3, 12);
    lab.command(2, Command::Restart);
    lab.run(100);
    let new = lab.start("new", Config { slots: (Slot::new(9), Slot::new(9)), ..Config::default() });
    lab.run(40_000);
    assert_eq!(orphans(&lab), 4, "{}", lab.transcript);
    assert_eq!(lab.workers[new].working.len(), 2, "{}", lab.transcript);
    let back = lab.start("w2 again", Config { preferred_slot: Some(Slot::new(2)), ..Config::default() });
    lab.run(40_000);
    assert_owned_once(&lab);
    assert_eq!(lab.workers[back].working.len(), 3, "{}", lab.transcript);
}

/// Of 23, 23, 21 and 21, as even as it has to be, those of the one that is away must not be taken out: the rest would look
/// uneven.
#[test]
fn nothing_moves_while_the_leader_restarts_though_the_load_is_only_nearly_even() {
    let mut lab = Lab::new(88);
    lab.start("w0", Config { move_budget_percent: 50, ..Config::default() });
    lab.run(40_000);
    for name in ["w1", "w2", "w3"] {
        lab.start(name, Config { move_budget_percent: 50, ..Config::default() });
        lab.run(3_000);
    }
    lab.run(60_000);
    let owners = lab.owners();
    let most = lab.workers.iter().map(|worker| worker.working.len()).max();
    assert_eq!(most, Some(23), "it is uneven:\n{}", lab.transcript);
    for leader in 0..4 {
        lab.transcript.clear();
        let preferred_slot = lab.workers[leader].worker.status().slot;
        lab.command(leader, Command::Restart);
        lab.run(15_000);
        lab.start("again", Config { preferred_slot, ..Config::default() });
        lab.run(15_000);
        assert!(!lab.transcript.contains("Planned"), "{}", lab.transcript);
    }
    assert_eq!(owners.keys().collect::<Vec<_>>(), lab.owners().keys().collect::<Vec<_>>());
}

/// One slot record that is not a record, in the leader's slot: it is judged by its silence like any other.
#[test]
fn garbage_in_the_leaders_slot_does_not_end_leadership() {
    let mut lab = fleet(3, 6);
    lab.put(Key::Slot(Slot::new(0)), b"not a record");
    lab.run(11_500);
    assert_eq!(leaders(&lab), 1, "{}", lab.transcript);
    // The new leader has not watched everybody; a lease and the margin later it knows that the holder has stopped.
    lab.run(11_500);
    assert_owned_once(&lab);
    assert_eq!(lab.stored(Key::Slot(Slot::new(0))), Some(&b"not a record"[..]), "it is left alone");
    lab.crash(2);
    lab.run(3_000);
    assert_eq!((leaders(&lab), orphans(&lab)), (1, 0), "{}", lab.transcript);
}

#[test]
fn garbage_under_leader_does_not_end_leadership() {
    let mut lab = fleet(3, 6);
    lab.put(Key::Leader, b"not a record");
    assert_eq!(leaders(&lab), 0);
    lab.run(11_500);
    assert_eq!(leaders(&lab), 1, "{}", lab.transcript);
    assert!(lab.transcript.contains("UnreadableReplaced"), "{}", lab.transcript);
    lab.crash(2);
    lab.run(3_000);
    assert_eq!(orphans(&lab), 0, "{}", lab.transcript);
}

/// Three of the four have no partitions, and yet they are workers: one of four is not most of them.
#[test]
fn the_crash_of_the_only_owner_is_no_restart_of_the_fleet() {
    let config = Config { probe_confirm: None, ..Config::default() };
    let mut lab = Lab::new(1);
    for at in 0..4 {
        lab.start(&format!("w{at}"), config.clone());
    }
    lab.run(20_000);
    let owner: usize = lab.owners()["p0"][0][1..].parse().expect("a number");
    lab.crash(owner);
    // If it was the leader, others have to find that out first.
    assert!(until_owned(&mut lab, 60_000) <= 11_500, "{}", lab.transcript);
}

fn halts_within(lab: &mut Lab, at: usize, at_most: u64) -> u64 {
    for waited in (0..=at_most).step_by(50) {
        if lab.workers[at].worker.status().halted {
            return waited;
        }
        lab.run(50);
    }
    panic!("it has not halted after {at_most} ms:\n{}", lab.transcript);
}

#[test]
fn who_is_told_to_stop_while_the_store_is_away_goes_when_its_lease_is_over() {
    for command in [Command::Leave, Command::Restart] {
        for reach in [Reach::Cut, Reach::Mute] {
            let mut lab = fleet(3, 6);
            lab.set_reach(1, reach);
            lab.run(300);
            lab.command(1, command);
            assert!(halts_within(&mut lab, 1, 40_000) <= 10_500, "{}", lab.transcript);
        }
    }
}

/// The application is told to cancel when the lease is over, and is waited for.
#[test]
fn a_slow_application_is_told_to_cancel_when_the_lease_is_over() {
    for command in [Command::Leave, Command::Restart] {
        let mut lab = Lab::new(6);
        for at in 0..3 {
            // So long that nothing but the end of the lease tells it to cancel.
            let config = Config { release_timeout: Duration::from_secs(3_600), ..Config::default() };
            lab.start(&format!("w{at}"), config);
        }
        lab.run(20_000);
        lab.transcript.clear();
        lab.slow_down(1);
        lab.set_reach(1, Reach::Cut);
        lab.command(1, command);
        lab.run(10_500);
        assert!(lab.transcript.contains("drops what is left"), "{}", lab.transcript);
        assert!(halts_within(&mut lab, 1, 20_000) <= 1_000, "{}", lab.transcript);
    }
}

/// It hears that it is to release only when all the time for that is over.
#[test]
fn an_application_that_was_frozen_with_its_worker_is_told_to_cancel_before_the_halt() {
    for command in [Command::Leave, Command::Restart] {
        let mut lab = Lab::new(6);
        for at in 0..3 {
            lab.start(&format!("w{at}"), Config { mode: Mode::Available, ..Config::default() });
        }
        lab.run(20_000);
        lab.transcript.clear();
        lab.slow_down(1);
        lab.set_reach(1, Reach::Mute);
        lab.command(1, command);
        lab.freeze(1, true);
        lab.run(25_000);
        lab.wake_late(1);
        assert!(halts_within(&mut lab, 1, 20_000) <= 5_000, "{}", lab.transcript);
        let dropped = lab.transcript.matches("drops what is left").count();
        assert_eq!(dropped, 2, "{}", lab.transcript);
    }
}

/// By default a stop is over within what Kubernetes gives a pod, whatever the application and the others do.
#[test]
fn a_stop_is_over_within_the_time_that_is_stated() {
    let config = Config::default();
    let bound = config.release_timeout * 2 + parti_core::LAST_WAIT;
    assert!(bound < Duration::from_secs(30));
    for command in [Command::Leave, Command::Restart] {
        let mut lab = fleet(3, 6);
        for at in 0..3 {
            lab.slow_down(at);
        }
        lab.command(1, command);
        lab.set_reach(0, Reach::Mute);
        let millis = u64::try_from(bound.as_millis()).expect("seconds");
        assert!(halts_within(&mut lab, 1, 60_000) <= millis, "{}", lab.transcript);
    }
}

/// A pod that dies soon after each start has work in its first life only, until its pauses are over; the others keep
/// theirs.
#[test]
fn who_dies_again_and_again_gets_work_later_each_time() {
    for news_first in [false, true] {
        die_again_and_again(news_first);
    }
}

fn die_again_and_again(news_first: bool) {
    let config = || Config {
        settle_window: Duration::from_secs(1),
        rebalance_interval: Duration::from_secs(2),
        probe_confirm: None,
        lease: Duration::from_secs(1),
        ..Config::default()
    };
    let mut lab = Lab::new(30);
    for at in 0..4 {
        lab.start(&format!("w{at}"), config());
    }
    lab.run(80_000);
    assert_owned_once(&lab);
    if news_first {
        lab.show_news_first();
    }
    let mut had_work = 0;
    for life in 0..10 {
        let looper = lab.start(&format!("life{life}"), config());
        let mut had = false;
        for _ in 0..25 {
            lab.run(100);
            had |= !lab.workers[looper].working.is_empty();
        }
        had_work += u32::from(had);
        lab.crash(looper);
        lab.run(2_000);
    }
    assert!(had_work <= 2, "{had_work} lives had work:\n{}", lab.transcript);
    assert!(lab.transcript.contains("Resting"), "{}", lab.transcript);
    let resting = |lab: &Lab| lab.workers.iter().map(|bench| bench.worker.status().resting.len()).sum::<usize>();
    assert_eq!(resting(&lab), 1, "its leader says which slot, also while nobody is in it");
    let last = lab.start("healthy", config());
    lab.run(330_000);
    assert_eq!(resting(&lab), 0);
    assert!(!lab.workers[last].working.is_empty(), "it gets work in the end:\n{}", lab.transcript);
    assert_owned_once(&lab);
}

/// A pod of a stateful set that crashes in a loop inherits its slot: its first successor keeps the partitions, later ones
/// give them to others.
#[test]
fn who_inherits_a_slot_whose_holders_die_again_and_again_keeps_nothing() {
    let config = || Config { probe_confirm: None, lease: Duration::from_secs(1), ..Config::default() };
    let dead = || Config { predecessor_is_dead: true, preferred_slot: Some(Slot::new(2)), ..config() };
    let mut lab = Lab::new(9);
    for _ in 0..2 {
        let name = format!("w{}", lab.workers.len());
        lab.start(&name, config());
    }
    let mut pod = lab.start("pod", dead());
    lab.run(20_000);
    assert_owned_once(&lab);
    for (life, expected) in [(1, 3), (2, 0), (3, 0)] {
        lab.crash(pod);
        lab.run(300);
        pod = lab.start(&format!("life{life}"), dead());
        lab.run(3_000);
        assert_owned_once(&lab);
        assert_eq!(lab.workers[pod].working.len(), expected, "life {life}:\n{}", lab.transcript);
    }
}

/// A worker that has run for long and crashes once is given work again as soon as it is back.
#[test]
fn who_crashes_once_after_a_long_life_is_not_slowed_down() {
    let mut lab = fleet(3, 9);
    lab.run(120_000);
    lab.crash(2);
    lab.run(3_000);
    lab.start("again", Config::default());
    lab.run(15_000);
    assert!(!lab.workers[3].working.is_empty(), "{}", lab.transcript);
    assert!(!lab.transcript.contains("Resting"), "{}", lab.transcript);
}

/// Nobody else can have what its zone asks for: a rest would leave that without an owner for nothing.
#[test]
fn who_dies_again_and_again_does_not_rest_where_nobody_else_has_its_labels() {
    let in_zone = |zone: &str| Config {
        labels: [("zone".into(), zone.into())].into(),
        probe_confirm: None,
        lease: Duration::from_secs(1),
        settle_window: Duration::from_secs(1),
        rebalance_interval: Duration::from_secs(2),
        ..Config::default()
    };
    let partition = |id: &str| Partition::new(PartitionId::new(id).expect("a valid id"));
    let mut lab = Lab::new(0);
    let list = ["p0", "p1"].map(|id| partition(id).requiring("zone", "b")).into_iter();
    lab.set_list(list.chain(["p2", "p3"].map(partition)).collect());
    for at in 0..2 {
        lab.start(&format!("a{at}"), in_zone("a"));
    }
    lab.run(10_000);
    for life in 0..4 {
        let alone = lab.start(&format!("b{life}"), in_zone("b"));
        until_owned(&mut lab, 8_000);
        lab.crash(alone);
        lab.run(3_000);
        assert_eq!(orphans(&lab), 2, "{}", lab.transcript);
    }
    // Where there is another one in the zone, it rests.
    lab.start("b4", in_zone("b"));
    lab.run(1_000);
    lab.start("b5", in_zone("b"));
    lab.run(8_000);
    assert_owned_once(&lab);
    assert!(lab.transcript.contains("Resting"), "{}", lab.transcript);
}
