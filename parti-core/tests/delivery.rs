//! How messages follow the assignment, told as stories of workers with one stream.
#![allow(missing_docs)]

#[path = "delivery/store.rs"]
mod store;

use parti_core::Duration;
use parti_core::delivery::{
    DeliveryConfig, Event, Misfit, Notice, Ownership, Policy, PositionRecord, Sequence, StartAt, StopReason,
};

use store::{World, id, token};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> DeliveryConfig {
    DeliveryConfig::new("ORDERS")
}

/// One worker that owns `a`, of which five messages are stored, and works on the first of them.
fn at_work(config: &DeliveryConfig) -> World {
    let mut world = World::new(2, config);
    world.members[0].is_quick = false;
    world.publish(&["a", "b", "a", "a", "b", "a", "a"]);
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    world
}

#[test]
fn every_message_is_handed_out_once_and_in_order() {
    let mut world = World::new(1, &config());
    world.publish(&["a", "b", "a", "c", "b"]);
    world.acquire(0, "a", 1);
    world.acquire(0, "b", 1);
    world.publish(&["b", "a"]);
    world.pass(SECOND);
    world.publish(&["a", "c", "b"]);
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![1, 3, 7, 8], vec![2, 5, 6, 10]));
    world.pass(SECOND);
    assert_eq!((world.stored("a"), world.stored("b")), (8, 10));
}

#[test]
fn one_message_is_out_at_a_time_unless_more_are_asked_for() {
    let mut world = at_work(&config());
    world.pass(SECOND);
    world.want(0, "a", 2);
    assert_eq!(world.handed(0, "a"), [1, 3, 4]);
    world.want(0, "a", 9);
    assert_eq!(world.handed(0, "a"), [1, 3, 4, 6, 7]);
}

#[test]
fn a_planned_move_repeats_nothing_and_waits_for_the_last_write() {
    let mut world = at_work(&config());
    world.release(0, "a", 1);
    assert!(world.members[0].let_go.is_empty());
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    // Nothing new is begun, and what was finished is stored before the partition goes.
    assert_eq!(world.handed(0, "a"), [1]);
    world.hold_writes = true;
    world.leave(0, "a");
    assert!(world.members[0].let_go.is_empty());
    world.answer_delayed(0);
    assert_eq!(world.members[0].let_go, ["a"]);
    assert_eq!(world.stored("a"), 1);
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3, 4, 6, 7]);
    assert!(world.members[1].handed.iter().all(|(_, _, tries)| *tries == 0));
}

#[test]
fn after_a_crash_the_lowest_unfinished_message_comes_first() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.want(0, "a", 4);
    world.pass(SECOND);
    world.finish(0, "a", 3);
    // It is not stored yet that 3 is finished: that is repeated, and 4, 6 and 7 were only prefetched.
    world.kill(0, &config());
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3, 4, 6, 7]);
}

#[test]
fn a_former_owner_can_not_store_anything() {
    let mut world = at_work(&config());
    world.acquire(1, "a", 2);
    world.pass(2 * SECOND);
    assert_eq!(world.stored("a"), 7);
    world.finish(0, "a", 1);
    world.pass(2 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Fenced { by: token(2) })]);
    assert_eq!((world.stored("a"), world.handed(0, "a")), (7, vec![1]));
    // Nor can it begin again.
    world.acquire(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1]);
    assert_eq!(world.members[0].stopped.len(), 2);
}

/// After a loss of the group's own records two holds can have one token.
#[test]
fn of_two_holds_with_one_token_the_last_one_to_begin_stores_the_position() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.pass(2 * SECOND);
    // The other one begins where the first has stored that it is.
    world.members[1].is_quick = false;
    world.acquire(1, "a", 1);
    assert_eq!((world.handed(0, "a"), world.handed(1, "a")), (vec![1, 3], vec![3]));
    world.finish(0, "a", 3);
    world.pass(2 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Edited)]);
    assert_eq!(world.stored("a"), 1);
    world.finish(1, "a", 3);
    world.pass(2 * SECOND);
    assert_eq!((world.stored("a"), &world.members[1].stopped[..]), (3, &[][..]));
}

#[test]
fn a_write_whose_answer_is_lost_is_found_again() {
    let mut world = World::new(1, &config());
    world.publish(&["a", "a"]);
    world.lose_answers = true;
    world.acquire(0, "a", 1);
    assert!(world.handed(0, "a").is_empty());
    world.pass(SECOND);
    assert_eq!(world.handed(0, "a"), [1, 2]);
    world.lose_answers = true;
    world.pass(2 * SECOND);
    world.publish(&["a"]);
    world.pass(2 * SECOND);
    assert_eq!((world.stored("a"), world.handed(0, "a")), (3, vec![1, 2, 3]));
}

#[test]
fn nothing_is_done_while_work_is_suspended() {
    let mut world = at_work(&config());
    world.tell(0, Event::Ownership(Ownership::Suspended));
    world.give_back(0, "a", None);
    world.want(0, "a", 1);
    let before = world.positions.clone();
    world.publish(&["a"]);
    world.pass(5 * SECOND);
    assert_eq!((world.handed(0, "a"), &world.positions), (vec![1], &before));
    world.tell(0, Event::Ownership(Ownership::Resumed));
    assert_eq!(world.handed(0, "a"), [1, 1]);
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.pass(SECOND);
    assert_eq!(world.handed(0, "a"), [1, 1, 3, 4, 6, 7, 8]);
}

#[test]
fn what_a_replica_does_not_have_yet_is_not_skipped() {
    let mut world = World::new(1, &config());
    world.publish(&["b", "a", "a", "b", "a"]);
    // Every reading ends at 3, though the stream has 5.
    world.replica_lag = 2;
    world.acquire(0, "b", 1);
    world.acquire(0, "a", 1);
    world.pass(SECOND);
    world.publish(&["a"]);
    world.pass(SECOND);
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![2, 3, 5, 6], vec![1, 4]));
}

#[test]
fn a_slow_partition_holds_up_nobody_and_is_caught_up() {
    let config = DeliveryConfig { buffer_messages: 2, ..config() };
    let mut world = at_work(&config);
    world.acquire(0, "b", 1);
    world.pass(SECOND);
    for _ in 0..20 {
        world.publish(&["a", "b"]);
    }
    for _ in 0..40 {
        let last = *world.handed(0, "b").last().expect("handed");
        world.finish(0, "b", last);
        world.want(0, "b", 1);
    }
    assert_eq!((world.handed(0, "a").len(), world.handed(0, "b").len()), (1, 22));
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.pass(SECOND);
    let mut expected = vec![1, 3, 4, 6, 7];
    expected.extend((0..20).map(|n| 8 + 2 * n));
    assert_eq!(world.handed(0, "a"), expected);
}

#[test]
fn a_partition_that_comes_right_after_another_does_not_wait_for_the_interval_between_tails() {
    let mut world = World::new(1, &config());
    for name in ["a", "b", "c"] {
        world.acquire(0, name, 1);
        world.publish(&[name]);
        assert_eq!(world.handed(0, name).len(), 1, "{name} is on a tail at once");
    }
}

#[test]
fn a_partition_that_has_left_its_tail_waits_for_the_interval_between_tails() {
    let config = DeliveryConfig { buffer_messages: 2, ..config() };
    let mut world = World::new(1, &config);
    world.members[0].is_quick = false;
    world.acquire(0, "a", 1);
    world.publish(&["a"; 5]);
    assert_eq!(world.handed(0, "a"), [1], "there is no room for the last ones");
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    assert_eq!(world.handed(0, "a"), [1, 2, 3, 4, 5]);
    world.publish(&["a"]);
    assert_eq!(world.handed(0, "a").len(), 5, "the next tail is opened later");
    world.pass(config.tail_interval);
    assert_eq!(world.handed(0, "a").len(), 6);
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
    assert_eq!(world.members[0].handed[..3], [("a".into(), 1, 0), ("a".into(), 1, 1), ("a".into(), 1, 2)]);
    assert_eq!(world.dead, [("a".into(), 1, Some("a bug".into()))]);
    assert_eq!(world.handed(0, "a"), [1, 1, 1, 3]);
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
    assert_eq!(world.positions["a"].1.failed.map(|failed| (failed.seq.value(), failed.times)), Some((1, 3)));
    world.kill(0, &config);
    world.acquire(0, "a", 5);
    assert_eq!((world.handed(0, "a"), world.dead), (vec![3, 4, 6, 7], vec![("a".into(), 1, None)]));
}

#[test]
fn a_try_that_a_planned_move_ends_is_not_counted() {
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..config() };
    let mut world = at_work(&config);
    let tried = |world: &World| world.positions["a"].1.failed.map_or(0, |failed| failed.times);
    for epoch in (2..20).step_by(2) {
        world.kill(0, &config);
        world.members[0].is_quick = false;
        world.acquire(0, "a", epoch);
        assert_eq!((world.handed(0, "a"), tried(&world)), (vec![1], 1));
        world.release(0, "a", epoch);
        world.leave(0, "a");
        assert_eq!(tried(&world), 0);
        world.acquire(0, "a", epoch + 1);
    }
    assert!(world.dead.is_empty());
}

#[test]
fn before_a_message_is_given_up_it_is_tried_with_nothing_else_in_hand() {
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..config() };
    let mut world = World::new(1, &config);
    world.publish(&["a", "b", "a", "b"]);
    for epoch in 1..=4 {
        world.kill(0, &config);
        world.members[0].is_quick = false;
        world.acquire(0, "a", epoch);
        world.acquire(0, "b", epoch);
        // Both may have ended the process, until it is known which of them does.
        let together = epoch < 4;
        assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![1], if together { vec![2] } else { vec![] }));
    }
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![1], vec![2]));
    // This one does: the other is innocent, and goes on.
    world.kill(0, &config);
    world.acquire(0, "a", 5);
    world.acquire(0, "b", 5);
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![3], vec![4]));
    assert_eq!(world.dead, [("b".into(), 2, None)]);
}

#[test]
fn crashes_while_a_partition_is_quiet_are_counted_for_nobody() {
    let config = DeliveryConfig { max_tries: 2, dead_letters: true, ..config() };
    let mut world = World::new(1, &config);
    for epoch in 1..=9 {
        world.kill(0, &config);
        world.acquire(0, "a", epoch);
        world.pass(SECOND);
    }
    world.publish(&["a"]);
    assert_eq!((world.handed(0, "a"), world.dead.len()), (vec![1], 0));
}

#[test]
fn a_stream_that_is_made_anew_between_two_looks_is_not_taken_for_the_one_before() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.pass(SECOND);
    assert_eq!(world.stored("a"), 1);
    world.kill(0, &config());
    world.is_to_be_made_anew = true;
    world.acquire(0, "a", 2);
    world.pass(10 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Misfit(Misfit::MadeAnew))]);
}

#[test]
fn a_server_that_says_another_time_for_the_same_stream_is_believed_what_it_has() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.pass(SECOND);
    world.kill(0, &config());
    world.created += 1;
    world.acquire(0, "a", 2);
    assert_eq!(world.handed(0, "a"), [3, 4, 6, 7]);
}

/// While its claim is on its way, the worker reads what was there before, and looks at it twice.
#[test]
fn a_claim_that_lands_while_the_position_is_looked_at_anew_is_seen() {
    let mut world = at_work(&config());
    world.finish(0, "a", 1);
    world.pass(SECOND);
    world.kill(0, &config());
    world.delay_next_write = Some(1);
    world.acquire(0, "a", 2);
    // Another server says another time for the same stream.
    world.created += 1;
    world.pass(10 * SECOND);
    assert_eq!(world.handed(0, "a"), [3, 4, 6, 7]);
}

#[test]
fn a_position_that_does_not_fit_stops_the_partition_and_no_other() {
    let mut world = at_work(&config());
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.pass(SECOND);
    world.kill(0, &config());
    world.lose_after(3);
    world.acquire(1, "a", 2);
    world.acquire(1, "b", 2);
    world.pass(3 * SECOND);
    assert_eq!(world.members[1].stopped, [("a".into(), StopReason::Misfit(Misfit::LostSuffix))]);
    assert_eq!((world.handed(1, "a"), world.handed(1, "b")), (Vec::new(), vec![2]));
}

#[test]
fn what_the_limits_remove_unread_is_said_and_the_policy_decides() {
    let config = DeliveryConfig { gap: Policy::Earliest, buffer_messages: 2, ..config() };
    let mut world = at_work(&config);
    world.publish(&["a", "a"]);
    world.pass(SECOND);
    world.remove_before(8);
    world.pass(6 * SECOND);
    world.members[0].is_quick = true;
    world.finish(0, "a", 1);
    world.want(0, "a", 1);
    world.pass(SECOND);
    // 3 was read before it was removed.
    assert_eq!(world.handed(0, "a"), [1, 3, 8, 9]);
    let told = Notice::WentOn { partition: id("a"), misfit: Misfit::Gap { at_most: 4 }, next: Sequence::new(8) };
    assert!(world.members[0].notices.contains(&told), "{:?}", world.members[0].notices);
}

#[test]
fn a_last_try_waits_for_who_was_counted_and_is_about_to_be_tried() {
    let config = DeliveryConfig { max_tries: 2, dead_letters: true, ..config() };
    let mut world = World::new(1, &config);
    world.members[0].is_quick = false;
    world.publish(&["a", "b"]);
    world.acquire(0, "a", 1);
    world.acquire(0, "b", 1);
    world.kill(0, &config);
    world.members[0].is_quick = false;
    world.acquire(0, "a", 2);
    world.kill(0, &config);
    world.members[0].is_quick = false;
    // Of b it is being stored that it is tried.
    world.hold_writes = true;
    world.acquire(0, "b", 2);
    let (call, answer) = world.members[0].delayed.remove(0);
    world.tell(0, Event::Answer { call, answer });
    world.acquire(0, "a", 3);
    let (call, answer) = world.members[0].delayed.remove(1);
    world.tell(0, Event::Answer { call, answer });
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![], vec![]));
    world.answer_delayed(0);
    // Should its process end in the last try of a, it would be blamed for that.
    assert_eq!((world.handed(0, "a"), world.handed(0, "b")), (vec![], vec![2]));
    world.finish(0, "b", 2);
    assert_eq!(world.handed(0, "a"), [1]);
}

#[test]
fn what_the_limits_remove_while_work_is_suspended_is_said() {
    let config = DeliveryConfig { gap: Policy::Earliest, buffer_messages: 2, ..config() };
    let mut world = World::new(1, &config);
    // So many that the limits are far from what comes next, as far as the stream has told.
    world.publish(&vec!["a"; 1_200]);
    world.acquire(0, "a", 1);
    world.pass(6 * SECOND);
    world.tell(0, Event::Ownership(Ownership::Suspended));
    world.publish(&["a"; 10]);
    world.pass(60 * SECOND);
    world.remove_before(1_208);
    world.hold_looks = true;
    world.tell(0, Event::Ownership(Ownership::Resumed));
    assert!(
        world.handed(0, "a").iter().all(|handed| *handed < 1_208),
        "it is read, and nobody knows what was passed over"
    );
    world.answer_delayed(0);
    world.pass(SECOND);
    let told = world.members[0].notices.iter().find(|notice| matches!(notice, Notice::WentOn { .. }));
    let next = Sequence::new(1_208);
    let at_most =
        1_208 - 1 - *world.handed(0, "a").iter().rfind(|handed| **handed < 1_208).expect("some are read before");
    assert_eq!(told, Some(&Notice::WentOn { partition: id("a"), misfit: Misfit::Gap { at_most }, next }));
}

#[test]
fn limits_that_remove_what_is_finished_are_no_gap_for_a_quiet_partition() {
    let mut world = World::new(2, &config());
    world.publish(&["a"]);
    world.acquire(0, "a", 1);
    world.pass(SECOND);
    for round in 1..=20 {
        world.publish(&["b"; 10]);
        world.remove_before(1 + 10 * round);
        world.pass(6 * SECOND);
    }
    world.kill(0, &config());
    world.acquire(1, "a", 2);
    world.publish(&["a"]);
    world.pass(SECOND);
    assert_eq!((world.handed(1, "a"), world.members[1].stopped.len()), (vec![202], 0));
}

#[test]
fn a_tail_that_says_nothing_is_made_anew_and_what_it_starves_is_read_otherwise() {
    let mut world = World::new(1, &config());
    world.acquire(0, "a", 1);
    world.pass(SECOND);
    world.tails_are_deaf = true;
    world.publish(&["a"]);
    assert!(world.handed(0, "a").is_empty());
    world.tails_are_deaf = false;
    // The one that was deaf is dropped by then; so the next one has to show it.
    world.pass(4 * SECOND);
    assert_eq!(world.handed(0, "a"), [1]);
}

#[test]
fn a_partition_without_a_position_begins_where_it_is_told_to() {
    let config = DeliveryConfig { start: StartAt::Latest, ..config() };
    let mut world = World::new(2, &config);
    world.publish(&["a", "a"]);
    world.acquire(0, "a", 1);
    world.pass(SECOND);
    world.kill(0, &config);
    // It began at the end as it was when it was first owned, not as it is when it is read again.
    world.publish(&["a"]);
    world.acquire(1, "a", 2);
    assert_eq!(world.handed(1, "a"), [3]);
}

#[test]
fn a_position_that_somebody_else_moves_ends_the_hold() {
    let mut world = at_work(&config());
    let (revision, record) = world.positions["a"].clone();
    let moved = PositionRecord { seq: Sequence::new(6), token: token(0), ..record };
    world.positions.insert("a".into(), (revision + 70, moved));
    world.finish(0, "a", 1);
    world.pass(2 * SECOND);
    assert_eq!(world.members[0].stopped, [("a".into(), StopReason::Edited)]);
    assert_eq!(world.stored("a"), 6);
}

#[test]
fn what_the_limits_remove_while_a_tail_is_silent_is_said() {
    let mut world = World::new(1, &DeliveryConfig { gap: Policy::Earliest, ..config() });
    world.publish(&["a"]);
    world.acquire(0, "a", 1);
    world.pass(SECOND);
    world.tails_are_deaf = true;
    world.publish(&["b", "a", "b", "a"]);
    world.remove_before(4);
    world.tails_are_deaf = false;
    world.pass(4 * SECOND);
    // The next tail begins at 2, and shows nothing before 4: that nothing was there, or that it was removed.
    let told = Notice::WentOn { partition: id("a"), misfit: Misfit::Gap { at_most: 2 }, next: Sequence::new(4) };
    assert!(world.members[0].notices.contains(&told), "{:?}", world.members[0].notices);
    assert_eq!(world.handed(0, "a"), [1, 5]);
}

#[test]
fn a_message_that_ends_its_process_is_found_behind_one_that_was_finished_and_not_stored() {
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..config() };
    let mut world = at_work(&config);
    for epoch in 2..12 {
        // The first one is finished each time. The second one, 3, ends the process before that is stored.
        if world.handed(0, "a") == [1] {
            world.hold_writes = true;
            world.finish(0, "a", 1);
            world.want(0, "a", 1);
            world.hold_writes = false;
        }
        world.kill(0, &config);
        world.members[0].is_quick = false;
        world.acquire(0, "a", epoch);
        if world.handed(0, "a").first() == Some(&4) {
            break;
        }
    }
    assert_eq!(world.dead, [("a".into(), 3, None)]);
    assert_eq!(world.handed(0, "a"), [4]);
}
