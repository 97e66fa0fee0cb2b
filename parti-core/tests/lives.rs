//! Stories of the lives of a bucket: made anew by somebody who knows nothing of its life before, brought back from an
//! older disk, purged.

mod lab;

use std::time::Duration;

use lab::Lab;
use parti_core::{Bucket, Config, Control, Key, Token};

fn fleet(workers: usize, partitions: usize, config: &Config) -> Lab {
    let mut lab = Lab::new(partitions);
    // There were lives before this one.
    for bucket in [Bucket::Members, Bucket::Plan, Bucket::Members, Bucket::Plan, Bucket::Members, Bucket::Plan] {
        lab.make_anew(bucket);
    }
    for at in 0..workers {
        lab.start(&format!("w{at}"), config.clone());
    }
    lab.run(20_000);
    assert_settled(&lab);
    lab.transcript.clear();
    lab
}

fn assert_settled(lab: &Lab) {
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{:?}\n{}", lab.owners(), lab.transcript);
}

fn owned_by(lab: &Lab, name: &str) -> usize {
    lab.owners().values().filter(|owners| owners.iter().any(|owner| owner == name)).count()
}

/// The highest token that anybody works with.
fn highest(lab: &Lab) -> Token {
    lab.workers.iter().flat_map(|bench| bench.worker.held().map(|(_, token)| token)).max().expect("somebody works")
}

// The laboratory's fence has checked every acquisition of all these stories.

#[test]
fn tokens_grow_though_buckets_are_made_anew_with_a_lower_number() {
    for buckets in [&Bucket::ALL[..], &[Bucket::Members], &[Bucket::Plan]] {
        let mut lab = fleet(3, 4, &Config::default());
        let before = highest(&lab);
        for bucket in buckets {
            lab.make_anew_with_a_clock_behind(*bucket);
        }
        lab.run(60_000);
        assert_settled(&lab);
        assert!(highest(&lab) > before, "{before}\n{}", lab.transcript);
        let evicted = lab.transcript.matches("evicts").count();
        lab.run(60_000);
        assert_eq!(lab.transcript.matches("evicts").count(), evicted, "it settles:\n{}", lab.transcript);
    }
}

#[test]
fn tokens_grow_though_an_earlier_life_comes_back() {
    for buckets in [&Bucket::ALL[..], &[Bucket::Members], &[Bucket::Plan]] {
        let mut lab = fleet(4, 12, &Config::default());
        let backup = lab.backup();
        for bucket in buckets {
            lab.make_anew(*bucket);
        }
        lab.run(60_000);
        assert_settled(&lab);
        let before = highest(&lab);
        for bucket in buckets {
            lab.bring_back(*bucket, &backup);
        }
        lab.run(60_000);
        assert_settled(&lab);
        assert!(highest(&lab) > before, "{before}\n{}", lab.transcript);
        // And so they do when each worker is replaced in its slot.
        let before = highest(&lab);
        lab.crash(1);
        lab.start("w1b", Config::default());
        lab.run(30_000);
        assert_settled(&lab);
        assert!(highest(&lab) >= before);
    }
}

#[test]
fn a_plan_that_was_purged_is_made_again() {
    let mut lab = fleet(4, 8, &Config::default());
    lab.purge(Bucket::Plan);
    lab.run(10_000);
    assert_settled(&lab); // nobody has read it again
    lab.crash(0);
    lab.run(5_000);
    lab.reread_purged(Bucket::Plan);
    lab.run(40_000);
    assert_settled(&lab);
}

#[test]
fn a_plan_that_was_purged_is_made_again_under_the_same_leader() {
    let mut lab = fleet(4, 8, &Config::default());
    lab.purge(Bucket::Plan);
    lab.reread_purged(Bucket::Plan);
    lab.run(40_000);
    assert_settled(&lab);
}

#[test]
fn a_wish_for_a_plan_counts_after_the_members_were_made_anew() {
    let config = Config { rebalance_interval: Duration::from_secs(3_600), ..Config::default() };
    let mut lab = fleet(3, 24, &config);
    lab.run(300_000);
    lab.start("w3", config.clone());
    lab.run(30_000);
    lab.start("w4", config.clone());
    lab.run(30_000);
    assert_eq!(owned_by(&lab, "w4"), 0);
    lab.put(Key::Control(Control::Rebalance), br#"{"v":1}"#);
    lab.run(30_000);
    assert!(owned_by(&lab, "w4") > 0);
    lab.make_anew(Bucket::Members);
    lab.run(60_000);
    assert_settled(&lab);
    lab.start("w5", config.clone());
    lab.run(30_000);
    lab.start("w6", config.clone());
    lab.run(15_000);
    assert_eq!(owned_by(&lab, "w6"), 0);
    lab.put(Key::Control(Control::Rebalance), br#"{"v":1}"#);
    lab.run(30_000);
    assert!(owned_by(&lab, "w6") > 0, "{}", lab.transcript);
}
