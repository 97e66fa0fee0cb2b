//! Whether processes are there: what they prove of themselves, and what others may conclude from silence.

use std::time::Duration;

use parti_core::{Command, Config, Event, Instance, Instant, Key, MemberRecord, ProbeOutcome, Record, ServerId, Slot};

use super::{assert_owned_once, fleet};
use crate::lab::{Lab, Reach};

/// Workers at several servers: so many at each, in order.
fn fleet_at(servers: &[usize], partitions: usize) -> Lab {
    let mut lab = Lab::new(partitions);
    let mut names = 0..;
    for (server, workers) in (0..).zip(servers) {
        lab.connect_to(server);
        for name in names.by_ref().take(*workers) {
            lab.start(&format!("w{name}"), Config::default());
        }
    }
    lab.run(30_000);
    assert_owned_once(&lab);
    assert!(lab.workers[0].worker.status().leader, "{}", lab.transcript);
    lab.transcript.clear();
    lab
}

fn assert_exclusive(lab: &mut Lab, millis: u64) {
    for _ in 0..millis / 10 {
        lab.run(10);
        let twice = lab.owners().into_iter().find(|(_, owners)| owners.len() > 1);
        assert_eq!(twice, None, "{}", lab.transcript);
    }
}

#[test]
fn a_route_that_breaks_between_two_servers_moves_nothing() {
    for workers in [[3, 1], [2, 2]] {
        let mut lab = fleet_at(&workers, 8);
        let owners = lab.owners();
        lab.cut_route(0, 1, true);
        assert_exclusive(&mut lab, 8_000);
        lab.cut_route(0, 1, false);
        assert_exclusive(&mut lab, 30_000);
        assert_eq!((lab.owners(), lab.transcript.lines().count()), (owners, 2), "{}", lab.transcript);
    }
}

/// Nobody is known to listen where the leader is, and its writes go nowhere either; but it runs, and has a valid lease.
#[test]
fn a_worker_behind_a_server_that_is_cut_off_is_waited_out_by_its_lease() {
    let mut lab = fleet_at(&[3, 1], 8);
    lab.cut_route(0, 1, true);
    lab.set_reach(3, Reach::Mute);
    assert_exclusive(&mut lab, 20_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_killed_worker_at_another_server_is_found_out_through_another_one_there() {
    let mut lab = fleet_at(&[2, 2], 8);
    lab.crash(3);
    lab.run(1_500);
    assert!(lab.transcript.contains("Evicted { slot: Slot(3), reason: NobodyListens }"), "{}", lab.transcript);
    assert_owned_once(&lab);
}

#[test]
fn a_killed_worker_at_a_server_where_nobody_else_is_is_waited_out_by_its_lease() {
    let mut lab = fleet_at(&[2, 1], 6);
    lab.crash(2);
    lab.run(9_000);
    assert_eq!(lab.transcript.lines().count(), 1, "{}", lab.transcript);
    lab.run(3_000);
    assert!(lab.transcript.contains("Evicted { slot: Slot(2), reason: LeaseRanOut }"), "{}", lab.transcript);
}

/// The leader names the workers that are to see whether it is there, and those at its own server come first.
#[test]
fn a_killed_leader_is_found_out_by_a_deputy_at_its_own_server() {
    let mut lab = fleet_at(&[1, 3, 1], 10);
    lab.connect_to(0);
    lab.start("w5", Config::default());
    lab.run(30_000);
    lab.transcript.clear();
    lab.crash(0);
    lab.run(1_500);
    assert!(lab.workers[5].worker.status().leader, "{}", lab.transcript);
    assert_owned_once(&lab);
}

/// Before its next round of probes: a deputy that leaves is replaced, and a newcomer becomes one, at once.
#[test]
fn a_leader_that_is_killed_as_soon_as_its_only_deputy_has_left_is_found_out() {
    let mut lab = fleet_at(&[2], 6);
    lab.start("w2", Config::default());
    lab.command(1, Command::Leave);
    lab.run(50);
    assert_eq!(lab.stored(Key::Slot(Slot::new(1))), None, "{}", lab.transcript);
    lab.crash(0);
    lab.run(2_000);
    assert!(lab.workers[2].worker.status().leader, "{}", lab.transcript);
    assert_owned_once(&lab);
}

/// The server takes a worker's subscription away, and its connection stands.
#[test]
fn a_subscription_that_is_taken_away_is_made_again() {
    let mut lab = fleet(3, 6);
    let owners = lab.owners();
    lab.take_subscription(2);
    assert_exclusive(&mut lab, 20_000);
    assert_eq!(lab.owners(), owners, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_that_may_not_listen_any_more_stops_is_replaced_and_comes_back_when_it_may() {
    let mut lab = fleet(3, 6);
    lab.let_listen(2, false);
    lab.take_subscription(2);
    assert_exclusive(&mut lab, 20_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1 && owners[0] != "w2"), "{}", lab.transcript);
    assert_eq!(lab.workers[2].worker.status().lease_until, None);
    lab.let_listen(2, true);
    assert_exclusive(&mut lab, 60_000);
    assert_owned_once(&lab);
    assert!(!lab.workers[2].working.is_empty(), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_client_that_connects_to_another_server_by_itself_disturbs_nobody() {
    let mut lab = fleet_at(&[2, 2], 8);
    let owners = lab.owners();
    for at in [3, 0, 1] {
        lab.reconnect(at, 2);
        assert_exclusive(&mut lab, 5_000);
    }
    assert_eq!((lab.owners(), lab.transcript.lines().count()), (owners, 3), "{}", lab.transcript);
    let record = lab.stored(Key::Slot(Slot::new(3))).expect("it is there");
    assert!(String::from_utf8_lossy(record).contains(r#""server":"server-2""#));
}

/// Twice within the time of a row nobody listens; what comes between says whether that is a row.
fn blink(between: impl Fn(&mut Lab)) -> String {
    let mut lab = fleet(4, 8);
    lab.run(100);
    lab.slander(Some(3));
    lab.run(500);
    between(&mut lab);
    lab.slander(Some(3));
    lab.run(500);
    lab.transcript
}

#[test]
fn an_answer_a_probe_that_timed_out_and_a_renewal_each_end_a_row() {
    let goes_on = blink(|lab| {
        lab.crash(3);
        lab.run(240);
    });
    assert!(goes_on.contains("Evicted"), "{goes_on}");
    let answered = blink(|lab| {
        lab.slander(None);
        lab.run(240);
    });
    assert!(!answered.contains("Evicted"), "{answered}");
    let timed_out = blink(|lab| {
        lab.slander(None);
        lab.freeze(3, true);
        lab.run(240);
    });
    assert!(!timed_out.contains("Evicted"), "{timed_out}");
    let renewed = blink(|lab| {
        lab.command(3, parti_core::Command::Drain);
        lab.run(240);
    });
    assert!(!renewed.contains("Evicted"), "{renewed}");
    let elsewhere = blink(|lab| {
        lab.reconnect(0, 1);
        lab.run(240);
        lab.reconnect(0, 0);
    });
    assert!(!elsewhere.contains("Evicted"), "{elsewhere}");
}

#[test]
fn a_newcomer_alone_with_a_dead_predecessors_record_works_within_two_seconds() {
    for newcomers in [1, 3] {
        let mut lab = Lab::new(6);
        lab.start("old", Config { expected_workers: Some(1), ..Config::default() });
        lab.run(5_000);
        assert_owned_once(&lab);
        lab.crash(0);
        lab.run(100);
        (0..newcomers).for_each(|at| {
            lab.start(&format!("new{at}"), Config::default());
        });
        lab.run(2_000);
        assert_owned_once(&lab);
        let says = "LearningWhoIsAlive { silent: 1 }, at_most: Some(11.25s) }";
        assert!(lab.transcript.contains(says), "{}", lab.transcript);
    }
}

/// In quiet a worker sends its checks, and a few messages for its lease and its leader, however many others there are.
#[test]
fn an_idle_fleet_sends_few_messages_whatever_its_size() {
    for workers in [1, 3, 30] {
        let mut lab = fleet(workers, 30);
        let asked = |lab: &Lab| lab.workers.iter().map(|bench| bench.asked).sum::<usize>();
        let before = asked(&lab);
        lab.run(60_000);
        // Checks come back by themselves; each probe is answered by another message.
        let (checks, sent) = (workers * 320, asked(&lab) - before);
        let messages = sent + (sent - checks.min(sent));
        assert!(messages <= workers * 60 * 13, "{workers} workers: {messages}");
    }
}

/// That nobody listens for some of many members is no reason to look at all of them, or at anything.
#[test]
fn what_one_absent_member_costs_does_not_grow_with_the_fleet() {
    const MEMBERS: u32 = 2_000;
    let mut lab = Lab::new(64);
    let slots = (Slot::new(0), Slot::new(9_999));
    lab.start("w0", Config { slots, probe_confirm: Some(Duration::from_secs(9)), ..Config::default() });
    lab.run(10_000);
    assert!(lab.workers[0].worker.status().leader);
    for slot in 1..MEMBERS {
        let server = Some(ServerId::new("server-0"));
        let record = MemberRecord { server, ..MemberRecord::new(Instance::new(u64::from(slot))) };
        lab.put(Key::Slot(Slot::new(slot)), &Record::Member(record.into()).encode());
    }
    let worker = &mut lab.workers[0].worker;
    let decided = worker.decisions();
    let (first, last) = (worker.poll_timeout().expect("it probes"), MEMBERS);
    worker.handle(first, Event::Timeout);
    let probes: Vec<_> = std::iter::from_fn(|| worker.poll_action())
        .filter_map(|action| match action {
            parti_core::Action::Probe { probe, .. } => Some(probe),
            _ => None,
        })
        .collect();
    let server = Some(ServerId::new("server-0"));
    for probe in probes {
        let event = Event::Probed { probe, outcome: ProbeOutcome::NobodyListens, server: server.clone() };
        worker.handle(Instant::ORIGIN, event);
        assert_eq!(worker.poll_action(), None);
    }
    assert!(worker.decisions() <= decided + 1, "{last} members");
}
