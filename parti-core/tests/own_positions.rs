//! How an application stores positions by itself, each in one transaction with the effect of a message, told as stories.
#![allow(missing_docs)]

#[path = "delivery/store.rs"]
mod store;

use parti_core::Duration;
use parti_core::delivery::{DeliveryConfig, Policy, Sequence, StopReason};

use store::{World, token};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> DeliveryConfig {
    DeliveryConfig { own_positions: true, ..DeliveryConfig::new("ORDERS") }
}

/// One worker that owns `a`, of which five messages are stored, and works on the first of them.
fn at_work(config: &DeliveryConfig) -> World {
    let mut world = World::new(2, config);
    world.members.iter_mut().for_each(|member| member.is_quick = false);
    world.publish(&["a", "b", "a", "a", "b", "a", "a"]);
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    world
}

fn finish(world: &mut World, member: usize, epoch: u64, sequence: u64) {
    assert!(world.store_effect("a", epoch, sequence));
    world.finish(member, "a", sequence);
    world.want(member, "a", 1);
}

#[test]
fn what_the_application_stores_is_not_stored_once_more_and_counts_after_a_crash() {
    let mut world = at_work(&config());
    assert_eq!(world.writes, 1, "the claim");
    for sequence in [1, 3, 4] {
        finish(&mut world, 0, 1, sequence);
        world.pass(2 * SECOND);
    }
    assert_eq!(world.writes, 1);
    // The effect of the next one is stored, and then the process ends.
    assert!(world.store_effect("a", 1, 6));
    world.kill(0, &config());
    world.acquire(1, "a", 2);
    assert_eq!(world.members[1].in_hand["a"][0].message.sequence, Sequence::new(7));
}

#[test]
fn a_former_owner_stores_no_effect_and_a_planned_move_repeats_nothing() {
    let mut world = at_work(&config());
    finish(&mut world, 0, 1, 1);
    world.release(0, "a", 1);
    finish(&mut world, 0, 1, 3);
    world.leave(0, "a");
    assert_eq!((world.members[0].let_go.len(), world.stored("a")), (1, 3));
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [4]);
    assert!(!world.store_effect("a", 1, 4), "its token is lower");
    assert!(world.store_effect("a", 2, 4) && !world.store_effect("a", 2, 4), "no effect is stored twice");
}

/// The owner before, which is frozen and goes on, finishes a message between the reading and the claim.
#[test]
fn a_claim_depends_on_what_the_owner_before_has_stored_since_it_was_read() {
    let mut world = at_work(&config());
    world.hold_looks = true;
    world.acquire(1, "a", 2);
    assert!(world.store_effect("a", 1, 1), "nobody has claimed it since");
    world.answer_delayed(1);
    world.pass(SECOND);
    assert_eq!(world.handed(1, "a"), [3]);
    assert!(!world.store_effect("a", 1, 3));
    world.finish(0, "a", 1);
    world.release(0, "a", 1);
    world.leave(0, "a");
    world.pass(SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Fenced { by: token(2) })]);
}

#[test]
fn what_fails_or_is_given_up_is_remembered_beside_it() {
    let mut world = at_work(&DeliveryConfig { dead_letters: true, max_tries: 2, ..config() });
    finish(&mut world, 0, 1, 1);
    world.give_back(0, "a", Some("it failed"));
    world.pass(2 * SECOND);
    world.kill(0, &config());
    world.acquire(1, "a", 2);
    let failed = world.positions["a"].1.failed.expect("it is remembered");
    assert_eq!((failed.seq, world.stored("a")), (Sequence::new(3), 1));
    world.pass(SECOND);
    assert_eq!(world.members[1].handed, [("a".into(), 3, 1)]);
    world.give_back(1, "a", Some("it failed"));
    world.want(1, "a", 1);
    world.pass(2 * SECOND);
    assert_eq!((world.dead.len(), world.stored("a")), (1, 3), "nobody else has stored that it is over");
    assert_eq!(world.handed(1, "a").last(), Some(&4));
}

/// A handler is interrupted, or panics, after its transaction.
#[test]
fn a_message_that_comes_back_and_is_stored_is_finished_and_not_tried_again() {
    for failed in [None, Some("it panicked")] {
        let mut world = at_work(&config());
        assert!(world.store_effect("a", 1, 1));
        world.give_back(0, "a", failed);
        world.want(0, "a", 1);
        world.pass(SECOND);
        assert_eq!(world.handed(0, "a"), [1, 3]);
        // One that was not stored is.
        world.give_back(0, "a", failed);
        world.want(0, "a", 1);
        world.pass(SECOND);
        assert_eq!(world.handed(0, "a"), [1, 3, 3]);
    }
}

/// Whoever is refused gives the message back as failed: then it is looked at, and not after a while.
#[test]
fn who_is_refused_learns_of_a_new_owner_at_once_and_brings_back_a_position_that_was_lost() {
    let mut world = at_work(&config());
    finish(&mut world, 0, 1, 1);
    world.positions.clear();
    assert!(!world.store_effect("a", 1, 3));
    world.give_back(0, "a", Some("refused"));
    assert_eq!(world.stored("a"), 1, "it is what this worker knows");
    world.want(0, "a", 1);
    world.pass(SECOND);
    finish(&mut world, 0, 1, 3);
    world.acquire(1, "a", 2);
    assert!(!world.store_effect("a", 1, 4));
    world.give_back(0, "a", Some("refused"));
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Fenced { by: token(2) })]);
}

/// A claim that a policy takes elsewhere, under the token that is stored.
#[test]
fn where_the_stream_was_made_anew_a_claim_goes_back() {
    let mut world = at_work(&DeliveryConfig { made_anew: Policy::Earliest, ..config() });
    for sequence in [1, 3, 4] {
        finish(&mut world, 0, 1, sequence);
    }
    world.is_to_be_made_anew = true;
    world.pass(10 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::StreamChanged)]);
    world.acquire(0, "a", 1);
    world.pass(2 * SECOND);
    assert_eq!((world.stored("a"), world.handed(0, "a").last()), (0, Some(&1)));
}

/// A handler that has not heard of it enters a message whose number is high, under the token that goes on.
#[test]
fn what_was_handed_out_of_a_former_life_of_the_stream_moves_nothing() {
    let mut world = at_work(&DeliveryConfig { made_anew: Policy::Earliest, ..config() });
    let former = world.created;
    world.is_to_be_made_anew = true;
    world.pass(10 * SECOND);
    world.acquire(0, "a", 1);
    world.pass(2 * SECOND);
    assert!(world.created > former && world.stored("a") == 0);
    assert!(!world.store_effect_of("a", 1, former, 7), "its numbers are those of another stream");
    assert!(world.store_effect("a", 1, 1), "the position is where it was");
}

/// The database goes back to before the stream was made anew, while a worker goes on under the same token.
#[test]
fn a_position_of_a_former_life_of_the_stream_counts_for_nothing_that_is_worked_on() {
    let mut world = at_work(&DeliveryConfig { made_anew: Policy::Earliest, ..config() });
    for sequence in [1, 3, 4] {
        finish(&mut world, 0, 1, sequence);
    }
    let former = world.positions["a"].clone();
    world.is_to_be_made_anew = true;
    world.pass(10 * SECOND);
    world.members[0].in_hand.clear();
    world.acquire(0, "a", 1);
    world.pass(2 * SECOND);
    world.positions.insert("a".into(), former.clone());
    let created = world.created;
    assert!(!world.store_effect("a", 1, 6), "nobody has claimed it for this stream");
    world.give_back(0, "a", Some("refused"));
    world.want(0, "a", 1);
    world.pass(2 * SECOND);
    let stored = &world.positions["a"].1;
    assert_eq!((stored.created.value(), stored.seq.value()), (created, 0), "it is claimed anew");
    assert_eq!(world.handed(0, "a").last(), Some(&1), "none of the messages that have these numbers now is finished");
    // Delivery notes beside a position of the other life that a message has failed.
    world.positions.insert("a".into(), former);
    world.give_back(0, "a", Some("it failed"));
    world.pass(2 * SECOND);
    assert_eq!((world.positions["a"].1.created.value(), world.stored("a")), (created, 0));
}
