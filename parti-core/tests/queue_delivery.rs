//! How the messages of a work queue follow the assignment, told as stories of workers with one stream.
#![allow(missing_docs)]

#[path = "delivery/store.rs"]
mod store;

use parti_core::Duration;
use parti_core::delivery::{DeliveryConfig, Engine, Event, Notice, Ownership, StopReason, Timestamp};

use store::{World, id, token};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> DeliveryConfig {
    DeliveryConfig { engine: Engine::Queue, ..DeliveryConfig::new("ORDERS") }
}

/// One worker that owns `a`, of which five messages are stored, and works on the first of them; the others are read in advance.
fn at_work(config: &DeliveryConfig) -> World {
    let mut world = World::new(2, config);
    world.members[0].is_quick = false;
    world.publish(&["a", "b", "a", "a", "b", "a", "a"]);
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    world
}

#[test]
fn every_message_is_handed_out_once_and_in_order_and_is_gone_then() {
    let mut world = World::new(1, &config());
    world.publish(&["a", "b", "a", "c", "b"]);
    world.acquire(0, "a", 1);
    world.acquire(0, "b", 1);
    world.publish(&["b", "a"]);
    world.pass(20 * SECOND);
    world.publish(&["a", "c", "b"]);
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![1, 3, 7, 8], vec![2, 5, 6, 10]));
    assert_eq!((world.left("a"), world.left("b"), world.left("c")), (vec![], vec![], vec![4, 9]));
    assert_eq!((world.durables.created, world.durables.restored), (2, 0));
}

#[test]
fn what_is_finished_is_acknowledged_and_nothing_else() {
    let mut world = at_work(&config());
    world.want(0, "a", 2);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 3, 4], vec![1, 3, 4, 6, 7]));
    world.finish(0, "a", 3);
    assert_eq!(world.left("a"), [4, 6, 7]);
}

#[test]
fn a_planned_move_repeats_nothing_and_waits_for_the_last_acknowledgement() {
    let mut world = at_work(&config());
    world.release(0, "a", 1);
    world.durables.hold_answers = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    world.leave(0, "a");
    assert!(world.members[0].let_go.is_empty());
    world.answer_acknowledgements(0);
    assert_eq!(world.members[0].let_go, ["a"]);
    // It pulls nothing more: what comes now is for the next owner.
    assert_eq!(world.durables.waiting("a"), 0);
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3, 4, 6, 7]);
    assert!(world.members[1].handed.iter().all(|(_, _, tries)| *tries == 0));
}

#[test]
fn after_a_crash_with_messages_read_in_advance_the_lowest_unfinished_comes_first() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.want(0, "a", 4);
    world.kill(0, &config());
    world.publish(&["a"]);
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3, 4, 6, 7, 8]);
    assert_eq!((world.durables.created, world.durables.restored), (1, 1));
}

#[test]
fn a_frozen_owner_that_is_served_first_delays_the_next_and_changes_no_order() {
    let mut world = at_work(&config());
    world.durables.freeze_pulls_of(0);
    world.acquire(1, "a", 2);
    // Its request is as large as its buffer; each time that the consumer is brought back it takes what there is.
    assert!(world.handed(1, "a").is_empty());
    world.pass(60 * SECOND);
    assert_eq!(world.handed(1, "a"), [1, 3, 4, 6, 7]);
    assert!(world.durables.restored > 2);
}

#[test]
fn what_another_is_served_in_between_is_missed_by_its_place() {
    let mut world = at_work(&config());
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.take_elsewhere("a", 2);
    world.publish(&["a", "a", "a"]);
    assert_eq!(world.handed(0, "a"), [1, 3, 4, 6, 7, 8, 9, 10]);
    let told = Notice::Restored { partition: id("a") };
    assert!(world.members[0].notices.contains(&told), "{:?}", world.members[0].notices);
}

#[test]
fn what_another_is_served_last_is_found_by_a_look() {
    let mut world = at_work(&config());
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.take_elsewhere("a", 1);
    world.publish(&["a"]);
    assert_eq!(world.handed(0, "a"), [1, 3, 4, 6, 7]);
    world.pass(10 * SECOND);
    assert_eq!(world.handed(0, "a"), [1, 3, 4, 6, 7, 8]);
}

#[test]
fn what_is_delivered_again_is_not_handed_out_again() {
    let mut world = at_work(&config());
    world.want(0, "a", 2);
    world.let_acks_expire("a");
    world.finish(0, "a", 4);
    world.want(0, "a", 9);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 3, 4, 6, 7], vec![6, 7]));
}

#[test]
fn the_server_is_told_that_long_work_goes_on() {
    let mut world = at_work(&config());
    world.pass(25 * SECOND);
    assert_eq!(world.durables.extended, vec![("a".to_owned(), vec![1, 3, 4, 6, 7]); 2]);
    world.finish(0, "a", 1);
    world.pass(10 * SECOND);
    assert_eq!(world.durables.extended[2].1, [3, 4, 6, 7]);
}

#[test]
fn an_acknowledgement_whose_answer_is_lost_is_sent_again() {
    let mut world = at_work(&config());
    world.durables.lose_answers = true;
    world.finish(0, "a", 1);
    world.release(0, "a", 1);
    world.leave(0, "a");
    assert!(world.members[0].let_go.is_empty());
    world.durables.lose_answers = false;
    world.pass(SECOND);
    assert_eq!(world.members[0].let_go, ["a"]);
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3, 4, 6, 7]);
}

#[test]
fn nothing_is_done_while_work_is_suspended() {
    let mut world = at_work(&config());
    world.tell(0, Event::Ownership(Ownership::Suspended));
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.publish(&["a"]);
    world.pass(60 * SECOND);
    assert_eq!((world.handed(0, "a"), world.left("a").len()), (vec![1], 6));
    assert!(world.durables.extended.is_empty());
    world.tell(0, Event::Ownership(Ownership::Resumed));
    assert_eq!((world.handed(0, "a"), world.left("a").len()), (vec![1, 3], 5));
}

#[test]
fn a_consumer_that_is_deleted_is_made_anew_and_nothing_is_lost_or_repeated() {
    let mut world = at_work(&config());
    world.want(0, "a", 2);
    world.delete_consumer("a");
    world.finish(0, "a", 3);
    world.pass(SECOND);
    assert_eq!(world.durables.created, 2);
    // 1 and 3 come again, are recognised, and acknowledged.
    assert_eq!(world.left("a"), [4, 6, 7]);
    world.members[0].is_quick = true;
    world.finish(0, "a", 4);
    world.want(0, "a", 1);
    world.publish(&["a"]);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 3, 4, 6, 7, 8], vec![]));
}

/// Servers before 2.14 leave the consumer as it is: what gets the lost numbers again would never be delivered.
#[test]
fn a_consumer_that_is_ahead_of_its_stream_is_brought_back_to_its_floor() {
    let mut world = World::new(1, &config());
    world.publish(&["a", "a", "a", "a"]);
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1, 2, 3, 4]);
    world.lose_after(1);
    world.pass(20 * SECOND);
    assert_eq!(world.durables.restored, 1);
    world.publish(&["a"]);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 2, 3, 4, 2], vec![]));
}

#[test]
fn a_new_owner_finds_a_consumer_that_is_ahead_of_its_stream() {
    let mut world = World::new(2, &config());
    world.publish(&["a", "a", "a", "a"]);
    world.acquire(0, "a", 1);
    world.release(0, "a", 1);
    world.leave(0, "a");
    world.lose_after(1);
    world.acquire(1, "a", 2);
    world.publish(&["a"]);
    assert_eq!((world.handed(1, "a"), world.left("a"), world.durables.restored), (vec![2], vec![], 1));
}

#[test]
fn a_place_that_is_given_again_to_another_is_not_taken_for_ones_own() {
    let mut world = World::new(1, &config());
    world.publish(&["a"]);
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    world.forget_consumer("a");
    world.take_elsewhere("a", 1);
    world.publish(&["a"]);
    world.pass(SECOND);
    world.publish(&["a"]);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_former_owner_creates_and_restores_nothing() {
    let mut world = at_work(&config());
    world.acquire(1, "a", 2);
    let before = (world.durables.created, world.durables.restored);
    // It was told late, and begins under a lower token than the one that is stored.
    world.acquire(0, "a", 1);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Fenced { by: token(2) })]);
    assert_eq!((world.durables.created, world.durables.restored), before);
}

#[test]
fn a_consumer_that_cannot_be_created_stops_its_partition_and_no_other() {
    let mut world = World::new(1, &config());
    world.publish(&["a", "b"]);
    world.acquire(0, "a", 1);
    world.durables.refused = Some("maximum consumers limit reached".into());
    world.acquire(0, "b", 1);
    let unfit = StopReason::Unfit { reason: "maximum consumers limit reached".into() };
    assert_eq!(world.members[0].stopped, [("b".into(), unfit)]);
    assert_eq!(world.handed(0, "a"), [1]);
}

#[test]
fn a_message_that_fails_waits_and_then_goes_to_the_dead_letters() {
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..config() };
    let mut world = at_work(&config);
    for tries in 1..=3 {
        world.give_back(0, "a", Some("a bug"));
        world.want(0, "a", 1);
        assert_eq!(world.handed(0, "a").len(), tries);
        world.pass(SECOND);
    }
    assert_eq!(world.dead, [("a".into(), 1, Some("a bug".into()))]);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 1, 1, 3], vec![3, 4, 6, 7]));
}

#[test]
fn a_message_that_ends_its_process_is_counted_before_it_is_tried() {
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..config() };
    let mut world = at_work(&config);
    for epoch in 2..=4 {
        world.kill(0, &config);
        world.members[0].is_quick = false;
        world.acquire(0, "a", epoch);
        assert_eq!(world.handed(0, "a"), [1]);
    }
    world.kill(0, &config);
    world.acquire(0, "a", 5);
    assert_eq!((world.handed(0, "a"), world.dead.clone()), (vec![3, 4, 6, 7], vec![("a".into(), 1, None)]));
    assert!(world.left("a").is_empty());
}

#[test]
fn a_dead_letter_is_acknowledged_before_anything_behind_it_is_tried() {
    let config = DeliveryConfig { max_tries: 2, dead_letters: true, ..config() };
    let mut world = at_work(&config);
    for epoch in 2..=3 {
        world.kill(0, &config);
        world.members[0].is_quick = false;
        world.acquire(0, "a", epoch);
        assert_eq!(world.handed(0, "a"), [1]);
    }
    world.kill(0, &config);
    world.durables.hold_answers = true;
    world.acquire(0, "a", 4);
    // Else it would come again after a crash, and how often it was tried would be forgotten.
    assert_eq!((world.handed(0, "a"), world.dead.len()), (vec![], 1));
    world.pass(5 * SECOND);
    let failed = |world: &World| world.positions["a"].1.failed.map(|failed| (failed.seq.value(), failed.times));
    assert_eq!(failed(&world), Some((1, 2)));
    world.durables.hold_answers = false;
    world.answer_acknowledgements(0);
    assert_eq!(world.handed(0, "a"), [3, 4, 6, 7]);
    world.pass(5 * SECOND);
    assert_eq!(failed(&world), None);
}

#[test]
fn a_dead_letter_that_the_stream_has_lost_holds_up_nobody() {
    let config = DeliveryConfig { max_tries: 1, dead_letters: true, buffer_messages: 1, ..config() };
    let mut world = World::new(1, &config);
    world.members[0].is_quick = false;
    world.publish(&["a", "a", "a"]);
    world.acquire(0, "a", 1);
    for number in 1..=2 {
        world.finish(0, "a", number);
        world.want(0, "a", 1);
    }
    world.durables.lose_answers = true;
    world.give_back(0, "a", Some("it is broken"));
    world.pass(SECOND);
    assert_eq!((world.handed(0, "a"), world.dead.len()), (vec![1, 2, 3], 1));
    world.lose_after(1);
    world.publish(&["a"]);
    world.members[0].is_quick = true;
    world.want(0, "a", 1);
    world.pass(20 * SECOND);
    world.durables.lose_answers = false;
    world.pass(20 * SECOND);
    world.publish(&["b", "a"]);
    world.pass(20 * SECOND);
    assert_eq!((world.handed(0, "a"), world.left("a")), (vec![1, 2, 3, 2, 4], vec![]));
}

#[test]
fn where_a_consumer_is_gone_the_stream_is_looked_at_before_more_is_handed_out() {
    let mut world = at_work(&config());
    world.created += 1;
    world.delete_consumer("a");
    world.pass(SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::StreamChanged)]);
    assert_eq!(world.handed(0, "a"), [1]);
}

/// A stream that is made anew gives the same numbers again, and a server removes whatever has the number.
#[test]
fn an_acknowledgement_that_is_sent_again_removes_nothing_of_a_stream_that_was_made_anew() {
    let mut world = at_work(&config());
    world.durables.lose_answers = true;
    world.finish(0, "a", 1);
    world.make_stream_anew("a", 3);
    world.members[1].is_quick = false;
    world.acquire(1, "a", 2);
    world.durables.lose_answers = false;
    world.tell(0, Event::Timeout);
    world.pass(SECOND);
    assert_eq!((world.handed(1, "a"), world.left("a")), (vec![1], vec![1, 2, 3]));
}

#[test]
fn where_the_same_stream_says_another_time_nothing_is_lost_and_its_former_consumer_goes() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.created += 1;
    world.pass(20 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::StreamChanged)]);
    world.acquire(1, "a", 2);
    assert_eq!((world.handed(1, "a"), world.left("a")), (vec![3, 4, 6, 7], vec![]));
    assert_eq!((world.durables.of.len(), world.positions["a"].1.created), (1, Timestamp::new(6)));
}

/// The consumer of the former stream is found by what is stored, which therefore stays until that consumer is gone.
#[test]
fn who_is_killed_before_the_former_consumer_is_gone_leaves_it_to_the_next() {
    let mut world = at_work(&config());
    world.created += 1;
    world.durables.refused = Some("not now".into());
    world.acquire(1, "a", 2);
    assert_eq!((world.handed(1, "a"), world.positions["a"].1.created), (vec![], Timestamp::new(5)));
    world.durables.refused = None;
    world.kill(1, &config());
    world.acquire(1, "a", 3);
    assert_eq!((world.handed(1, "a"), world.positions["a"].1.created), (vec![1, 3, 4, 6, 7], Timestamp::new(6)));
}

/// A request to create a consumer may arrive only when the stream is another one.
#[test]
fn nothing_is_pulled_from_a_consumer_before_the_stream_is_seen_again() {
    let mut world = World::new(1, &config());
    world.publish(&["a"]);
    world.acquire(0, "b", 1);
    world.hold_looks = true;
    world.pass(20 * SECOND);
    world.delete_consumer("b");
    world.publish(&["b"]);
    world.pass(SECOND);
    assert_eq!((world.handed(0, "b"), world.durables.created), (vec![], 1));
    world.hold_looks = false;
    world.answer_delayed(0);
    world.pass(SECOND);
    assert_eq!((world.handed(0, "b"), world.durables.created), (vec![2], 2));
}

#[test]
fn a_release_that_waits_for_its_last_write_sets_no_timer_that_is_over() {
    let mut world = at_work(&config());
    world.hold_writes = true;
    world.finish(0, "a", 1);
    world.release(0, "a", 1);
    world.leave(0, "a");
    // By then the consumer would have been looked at, and the server told that work goes on.
    world.pass(40 * SECOND);
    assert!(world.members[0].let_go.is_empty());
    let timer = world.members[0].delivery.poll_timeout();
    assert!(timer.is_none_or(|at| at > world.now), "{timer:?} is over");
    world.answer_delayed(0);
    assert_eq!(world.members[0].let_go, ["a"]);
}
