//! Stories of what nobody expects of a store or of a machine: writes that were acknowledged and are gone, names that
//! come again, a process that did not run.

mod lab;

use lab::{Lab, Reach};
use parti_core::{
    Bucket, Command, Config, Control, ControlRecord, Generation, Key, MemberRecord, Mode, Partition, PartitionId,
    Record, Slot,
};

fn fleet(workers: usize, partitions: usize) -> Lab {
    let mut lab = Lab::new(partitions);
    for at in 0..workers {
        lab.start(&format!("w{at}"), Config::default());
    }
    lab.run(20_000);
    assert_settled(&lab);
    lab.transcript.clear();
    lab
}

/// Without probes, a worker whose connection is gone works until its lease runs out.
fn without_probes() -> Config {
    Config { probe_confirm: None, ..Config::default() }
}

fn partitions(count: usize) -> Vec<Partition> {
    (0..count).map(|n| Partition::new(PartitionId::new(format!("p{n}")).expect("a valid id"))).collect()
}

fn assert_settled(lab: &Lab) {
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{:?}\n{}", lab.owners(), lab.transcript);
}

/// What a story says of one worker.
fn told(lab: &Lab, name: &str) -> Vec<String> {
    let of_it = |line: &&str| line.contains(&format!("  {name} "));
    lab.transcript
        .lines()
        .filter(of_it)
        .map(|line| line.trim_start_matches(|c: char| !c.is_alphabetic()).to_owned())
        .collect()
}

#[test]
fn a_slot_that_is_claimed_again_at_the_same_revision_is_another_tenure() {
    let mut lab = Lab::new(2);
    let before = lab.backup();
    lab.start("first", Config { expected_workers: Some(1), ..Config::default() });
    lab.run(1_000);
    let first = lab.workers[0].worker.status().tenure.expect("it has a slot");
    assert_settled(&lab);
    lab.crash(0);
    lab.restore_members(&before);
    lab.start("second", Config { expected_workers: Some(1), ..Config::default() });
    let second = lab.workers[1].worker.status().tenure.expect("it has a slot");
    assert_eq!(first.begun(), second.begun(), "the store gives the revision again");
    assert_ne!(first, second);
    assert!(lab.workers[1].working.is_empty(), "what the first one had is not for it to take:\n{}", lab.transcript);
    lab.run(30_000);
    assert_settled(&lab);
}

#[test]
fn an_eviction_that_the_store_has_forgotten_gives_nothing_back() {
    let mut lab = fleet(3, 6);
    lab.set_reach(2, Reach::Cut);
    let before = lab.backup();
    lab.run(30_000);
    assert_settled(&lab); // the others have what the third one had
    lab.restore_members(&before);
    lab.transcript.clear();
    lab.set_reach(2, Reach::Full); // and its record is there, as it left it
    lab.run(60_000);
    assert_settled(&lab); // the laboratory has checked every acquisition
}

#[test]
fn a_process_that_did_not_run_does_not_work_before_it_knows_that_it_may() {
    let mut lab = fleet(2, 4);
    lab.oversleep(1, 600);
    let told = told(&lab, "w1");
    assert_eq!(told[..2], ["w1 suspends (NotPresent)", "w1 resumes"], "{}", lab.transcript);
    assert_eq!(lab.workers[1].worker.status().degraded, None);
    lab.transcript.clear();
    lab.oversleep(1, 400);
    assert_eq!(lab.transcript.matches("suspends").count(), 0, "that is not long:\n{}", lab.transcript);
}

#[test]
fn what_a_leader_knows_to_have_been_in_the_plan_is_waited_for() {
    let mut lab = Lab::new(2);
    lab.start("w0", without_probes());
    lab.start("w1", Config { capacity: 1_000, ..without_probes() });
    lab.run(20_000);
    assert_settled(&lab);
    let before = lab.backup();
    lab.set_reach(1, Reach::Refused);
    lab.set_list(partitions(4)); // it is given two more, and cannot say that it has them
    assert_settled(&lab);
    lab.set_reach(1, Reach::Cut);
    lab.restore_plan(&before);
    lab.want(Control::Drain(Slot::new(1)), Some(ControlRecord::default()));
    lab.run(60_000); // the laboratory looks at every acquisition
    lab.set_reach(1, Reach::Full);
    lab.run(60_000);
    assert_settled(&lab);
}

#[test]
fn who_waits_for_a_loss_to_be_noticed_goes_on_waiting_when_the_plan_is_lost_as_well() {
    let mut lab = Lab::new(2);
    let empty = lab.backup();
    lab.start("w0", without_probes());
    lab.run(40_000);
    assert_settled(&lab);
    lab.set_reach(0, Reach::Cut);
    lab.make_anew(Bucket::Members);
    lab.start("new", without_probes()); // it reads in the plan that somebody works
    lab.run(2_000);
    lab.restore_plan(&empty);
    lab.run(60_000); // the laboratory looks at every acquisition
    assert_settled(&lab);
}

/// The settings of a worker that has a slot to itself.
fn alone(slot: u32) -> Config {
    Config { expected_workers: Some(1), slots: (Slot::new(slot), Slot::new(slot)), ..without_probes() }
}

/// A group whose members' bucket has forgotten its only worker, which works until its lease runs out.
fn members_without_one_that_works() -> Lab {
    let mut lab = Lab::new(2);
    lab.start("first", alone(0));
    lab.run(20_000);
    lab.command(0, Command::Leave);
    let before = lab.backup();
    lab.start("second", alone(0));
    lab.run(20_000);
    assert_settled(&lab);
    lab.set_reach(1, Reach::Mute);
    lab.restore_members(&before);
    lab
}

#[test]
fn that_a_record_is_gone_is_waited_out_also_where_the_news_come_before_the_reply() {
    let mut lab = members_without_one_that_works();
    lab.show_news_first();
    lab.start("new", alone(1)); // it knows of no loss, and finds that the plan names who has no record
    lab.run(60_000); // the laboratory looks at every acquisition
    lab.set_reach(1, Reach::Full);
    lab.run(60_000);
    assert_settled(&lab);
}

#[test]
fn a_marker_that_a_former_leader_left_where_it_found_no_record_is_waited_out_too() {
    let mut lab = members_without_one_that_works();
    lab.start("third", alone(1)); // it finds that the plan names who has no record
    assert_eq!(lab.deleted.last(), Some(&Key::Slot(Slot::new(0))));
    lab.start("fourth", alone(2));
    lab.command(2, Command::Leave);
    assert!(lab.workers[3].worker.status().leader, "{}", lab.transcript);
    lab.run(60_000); // the laboratory looks at every acquisition
    lab.set_reach(1, Reach::Full);
    lab.run(60_000);
    assert_settled(&lab);
}

/// A worker is gone while the members lose its last renewals and give their revisions to another one, until
/// the slot has the very revision of its last one again.
fn until_a_revision_is_given_again(config: Config, gone: impl Fn(&mut Lab)) -> Lab {
    let slot = Key::Slot(Slot::new(0));
    let mut lab = Lab::new(1);
    lab.start("first", Config { expected_workers: Some(1), ..config.clone() });
    lab.run(1_000);
    let before = lab.backup();
    lab.run(60_000);
    let last = lab.revision(slot);
    gone(&mut lab);
    lab.restore_members(&before);
    lab.start("second", Config { preferred_slot: Some(Slot::new(0)), ..config });
    lab.run(11_500);
    for _ in 0..1_000 {
        if lab.revision(slot) == last {
            break;
        }
        lab.run(100);
    }
    assert_eq!(lab.revision(slot), last, "the store has given the revision again:\n{}", lab.transcript);
    lab
}

#[test]
fn a_renewal_is_not_written_over_what_another_process_wrote_at_its_revision() {
    let mut lab = until_a_revision_is_given_again(Config::default(), |lab| lab.set_reach(0, Reach::Cut));
    lab.set_reach(0, Reach::Full);
    assert_settled(&lab);
    lab.run(60_000);
    assert_settled(&lab);
}

#[test]
fn who_wakes_after_its_lease_looks_before_it_renews() {
    for mode in [Mode::Strict, Mode::Available] {
        let config = Config { mode, ..without_probes() };
        let mut lab = until_a_revision_is_given_again(config, |lab| lab.freeze(0, true));
        lab.wake_late(0);
        assert_eq!(lab.workers[1].worker.status().slot, Some(Slot::new(0)), "{mode:?}:\n{}", lab.transcript);
        assert_settled(&lab);
        lab.run(60_000);
        assert_settled(&lab);
    }
}

#[test]
fn a_slot_is_not_taken_over_by_a_revision_that_was_lost_and_is_given_again() {
    let in_order = || Config { preferred_slot: Some(Slot::new(0)), expected_workers: Some(1), ..without_probes() };
    for forgotten in 1..16 {
        let mut lab = Lab::new(1);
        lab.start("first", in_order());
        lab.start("second", in_order()); // it waits for the slot
        lab.run(40_000);
        let before = lab.backup();
        lab.run(forgotten * 2_500);
        assert_settled(&lab);
        lab.restore_members(&before);
        lab.set_reach(1, Reach::Deaf); // so much it has seen
        lab.run(20_000); // the laboratory looks at every acquisition
        lab.set_reach(1, Reach::Full);
        lab.run(60_000);
        assert!(lab.workers[1].working.is_empty(), "{forgotten}: it was alive:\n{}", lab.transcript);
        assert_settled(&lab);
    }
}

#[test]
fn who_waits_for_a_slot_and_did_not_run_looks_before_it_takes_it_over() {
    let slot = Slot::new(0);
    let in_order = || Config { preferred_slot: Some(slot), expected_workers: Some(1), ..without_probes() };
    let mut lab = Lab::new(1);
    lab.start("first", in_order());
    lab.start("second", in_order()); // it waits for the slot
    lab.run(40_000);
    let before = lab.backup();
    lab.run(20_000);
    let seen = lab.revision(Key::Slot(slot));
    lab.freeze(1, true);
    lab.restore_members(&before);
    lab.run(12_500);
    for _ in 0..1_000 {
        if lab.revision(Key::Slot(slot)) == seen {
            break;
        }
        lab.run(100);
    }
    assert_eq!(lab.revision(Key::Slot(slot)), seen, "the store has given the revision again:\n{}", lab.transcript);
    lab.wake_late(1); // the laboratory looks at every acquisition
    lab.run(60_000);
    assert!(lab.workers[1].working.is_empty(), "it was alive:\n{}", lab.transcript);
    assert_settled(&lab);
}

#[test]
fn a_leader_that_did_not_run_reads_the_plan_again_before_it_writes() {
    let mut lab = fleet(2, 4);
    assert!(lab.workers[0].worker.status().leader);
    let term = lab.workers[0].worker.status().term;
    lab.oversleep(0, 600);
    assert!(lab.workers[0].worker.status().term > term, "it has taken over anew:\n{}", lab.transcript);
    assert_eq!(lab.workers[0].worker.status().generation, Generation::new(1), "and has moved nothing");
}

#[test]
fn an_older_plan_at_a_later_revision_is_not_followed() {
    let assign = Key::Assign(Slot::new(1));
    let mut lab = fleet(2, 2);
    let older = lab.stored(assign).expect("it has an assignment").to_vec();
    lab.set_list(partitions(8));
    lab.run(20_000);
    let before = lab.workers[1].worker.status();
    lab.crash(0);
    lab.put(assign, &older);
    let after = lab.workers[1].worker.status();
    assert!(after.tenure != before.tenure || after.generation >= before.generation, "{after:?}");
    lab.run(60_000);
    assert_settled(&lab);
}

#[test]
fn who_starts_over_keeps_its_slot_and_is_never_forgotten() {
    let mut lab = fleet(2, 4);
    let before: Vec<_> = lab.workers.iter().map(|bench| bench.worker.status().tenure).collect();
    lab.make_anew(Bucket::Plan);
    lab.run(30_000);
    assert_settled(&lab);
    for (bench, before) in lab.workers.iter().zip(before) {
        assert!(bench.worker.status().tenure > before);
    }
    let slots: Vec<_> = lab.deleted.iter().filter(|key| matches!(key, Key::Slot(_))).collect();
    assert!(slots.is_empty(), "{slots:?}");
}

#[test]
fn a_claim_that_comes_long_after_it_was_given_up_is_no_worker() {
    let mut lab = fleet(2, 6);
    let before = lab.workers[0].worker.status().generation;
    let instance = lab.workers[1].worker.status().instance;
    let late = Record::Member(MemberRecord::new(instance).into());
    lab.put(Key::Slot(Slot::new(5)), &late.encode());
    lab.run(60_000);
    assert_eq!(lab.workers[0].worker.status().generation, before, "nothing was planned:\n{}", lab.transcript);
    assert_settled(&lab);
}

#[test]
fn what_a_listing_shows_before_it_breaks_off_is_not_taken_for_what_the_next_one_shows() {
    let mut lab = Lab::new(4);
    let before = lab.backup();
    for name in ["w0", "w1"] {
        lab.start(name, Config { expected_workers: Some(2), ..Config::default() });
    }
    lab.run(5_000);
    assert_settled(&lab);
    assert_eq!(lab.workers[1].working.len(), 2);
    lab.break_off_listing(1);
    lab.restore_plan(&before);
    lab.run(1_000);
    let notices = told(&lab, "w1").join("\n");
    assert!(notices.contains("StoreRegressed"), "{}", lab.transcript);
    lab.run(60_000);
    assert_settled(&lab);
}

#[test]
fn candidates_whose_records_are_purged_do_not_claim_from_each_other() {
    let mut lab = fleet(3, 6);
    lab.purge(Bucket::Members);
    lab.reread_purged(Bucket::Members);
    lab.run(10_000);
    assert_eq!(lab.transcript.matches("Replaced").count(), 1, "only the former leader:\n{}", lab.transcript);
    lab.run(60_000);
    assert_settled(&lab);
}
