//! What the core relies on in the durable consumer of a partition, on a stream that removes what is acknowledged.
//!
//! Each check gets a stream of its own, which is empty, and on which the partition has no consumer.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::delivery::{ConsumerState, Place, PullEnd, Sequence, Timestamp};

/// A stream with one partition that is looked at, and another one. Nobody else has anything to do with it.
pub trait QueueUnderTest {
    /// Stores a message of the partition.
    fn publish(&mut self) -> Sequence;

    /// Stores a message of the other partition.
    fn publish_elsewhere(&mut self) -> Sequence;

    /// Whether the stream has this message.
    fn has(&mut self, sequence: Sequence) -> bool;

    /// Deletes the stream with all that is in it, and makes it anew.
    fn recreate(&mut self);

    /// Asks for the partition's consumer.
    fn find(&mut self) -> Option<ConsumerState>;

    /// Creates the partition's consumer, unless it is there.
    fn create(&mut self) -> ConsumerState;

    /// From now on the consumer of another name is meant, that of a stream which was made then. Returns the name before.
    fn rename(&mut self, created: Timestamp) -> Timestamp;

    /// Creates the partition's consumer, and deletes those of other names.
    fn replace(&mut self) -> ConsumerState;

    /// Brings the partition's consumer back to its floor.
    fn restore(&mut self) -> ConsumerState;

    /// Deletes the partition's consumer.
    fn delete(&mut self);

    /// Asks for so many messages, with so many bytes at most, for this time. Each pull has a connection of its own.
    fn pull(&mut self, most: u32, bytes: Option<usize>, time: Duration) -> PullName;

    /// Takes no more of a pull.
    fn end_pull(&mut self, pull: PullName);

    /// The next thing that a pull shows; none if nothing comes for `patience`.
    fn next(&mut self, pull: PullName, patience: Duration) -> Option<PullShows>;

    /// Acknowledges a message by its first delivery. Returns whether that was answered.
    fn acknowledge(&mut self, sequence: Sequence) -> bool;

    /// Tells the consumer that work on a message goes on, by its first delivery.
    fn extend(&mut self, sequence: Sequence);

    /// Lets the consumer that is there wait for acknowledgements no longer than this.
    fn shorten_ack_wait(&mut self, to: Duration);

    /// Lets time pass.
    fn pass(&mut self, time: Duration);

    /// Whether the server brings a consumer back to its floor without deleting it.
    fn resets(&self) -> bool;
}

/// Which pull it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullName(pub usize);

/// What a pull shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what a delivery tells")]
pub enum PullShows {
    /// A message.
    Message { sequence: Sequence, place: Place, pending: u64 },
    /// That it is over.
    Over(PullEnd),
}

/// One behaviour that the core relies on.
#[derive(Clone, Copy, Debug)]
pub struct QueueBehaviour {
    /// What it is, in one sentence.
    pub what: &'static str,
    /// Panics, with what was seen, if the consumer behaves otherwise.
    pub check: fn(&mut dyn QueueUnderTest),
}

/// How long something may take to come, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing must come for silence to be believed.
const SILENCE: Duration = Duration::from_millis(300);
/// When what is not as expected yet is looked at again.
const AGAIN: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(600);
/// How long a pull waits whose end is waited for.
const SHORT: Duration = Duration::from_millis(700);
/// How long the consumer waits for acknowledgements where that is tried.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// Another name than the one that consumers have.
const OTHER: Timestamp = Timestamp::new(1_000);

/// Every behaviour of a work queue that the core relies on.
pub const QUEUE_BEHAVIOURS: &[QueueBehaviour] = &[
    QueueBehaviour {
        what: "there is a consumer once it is created, and no other is created then",
        check: created_once,
    },
    QueueBehaviour {
        what: "all of a partition is delivered in order, each message under the next place",
        check: in_order,
    },
    QueueBehaviour {
        what: "what is acknowledged is gone, in whichever order, and again without harm",
        check: acknowledged,
    },
    QueueBehaviour { what: "what is not acknowledged in time comes again, before what is new", check: comes_again },
    QueueBehaviour { what: "work that goes on puts that off", check: put_off },
    QueueBehaviour {
        what: "brought back to its floor, it delivers all that is unfinished from place 1 on",
        check: brought_back,
    },
    QueueBehaviour {
        what: "an acknowledgement from before that counts once the message is there again",
        check: late_acks,
    },
    QueueBehaviour { what: "those who wait are served one message each in turn, the first one first", check: in_turn },
    QueueBehaviour { what: "who waits while it is brought back is served first, or told", check: served_first },
    QueueBehaviour { what: "a pull is over when its time is, and takes nothing then", check: time_is_over },
    QueueBehaviour { what: "a pull that is ended takes nothing", check: ended },
    QueueBehaviour { what: "a pull shows no more bytes than were asked for", check: too_large },
    QueueBehaviour { what: "who waits at a consumer is told when that is deleted", check: deleted },
    QueueBehaviour { what: "a stream made anew has no consumers", check: made_anew },
    QueueBehaviour {
        what: "of a stream made anew nothing is gone by an acknowledgement of the one before",
        check: acknowledged_before,
    },
    QueueBehaviour { what: "a consumer of another name takes over what is unfinished", check: replaced },
];

/// What the core relies on in a stream that keeps what somebody waits for, beside the above.
pub const INTEREST_BEHAVIOURS: &[QueueBehaviour] = &[
    QueueBehaviour { what: "what no consumer waits for is gone at once", check: nobody_waits },
    QueueBehaviour { what: "brought back to its floor, a consumer keeps what is unfinished", check: keeps_unfinished },
    QueueBehaviour { what: "a consumer of another name takes over what is unfinished", check: replaced },
];

fn created_once(queue: &mut dyn QueueUnderTest) {
    assert_eq!(queue.find(), None);
    let created = queue.create();
    assert_eq!((created.delivered, created.unacknowledged, created.pending), (Place::new(0), 0, 0));
    let [one, _] = publish(queue);
    assert_eq!(pulled(queue, 1), [(one, 1)]);
    let there = counted(queue, 1);
    assert_eq!((there.delivered, there.unacknowledged), (Place::new(1), 1));
    assert_eq!(queue.create(), there);
}

fn in_order(queue: &mut dyn QueueUnderTest) {
    let one = queue.publish();
    queue.publish_elsewhere();
    let two = queue.publish();
    assert_eq!(queue.create().pending, 2);
    let pull = queue.pull(3, None, LONG);
    assert_eq!(message(queue, pull), (one, 1, 1));
    assert_eq!(message(queue, pull), (two, 2, 0));
    queue.publish_elsewhere();
    assert_eq!(queue.next(pull, SILENCE), None);
    let three = queue.publish();
    assert_eq!(message(queue, pull), (three, 3, 0));
    assert!(one < two && two < three);
}

fn acknowledged(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two, three, four] = publish(queue);
    pulled(queue, 3);
    assert!(queue.acknowledge(two) && !queue.has(two));
    let state = counted(queue, 1);
    assert!(state.floor < one && state.unacknowledged == 2, "{state:?}");
    assert!(queue.acknowledge(one) && !queue.has(one));
    let state = queue.find().expect("it is there");
    assert_eq!((state.floor, state.unacknowledged, state.delivered), (two, 1, Place::new(3)));
    assert!(queue.acknowledge(one), "it is answered again");
    assert_eq!(queue.find(), Some(state));
    assert!(queue.acknowledge(three) && queue.has(four));
    let state = queue.find().expect("it is there");
    assert_eq!((state.floor, state.unacknowledged, state.pending), (three, 0, 1));
}

fn comes_again(queue: &mut dyn QueueUnderTest) {
    queue.create();
    queue.shorten_ack_wait(ACK_WAIT);
    let [one, two, three, four] = publish(queue);
    assert_eq!(pulled(queue, 3), [(one, 1), (two, 2), (three, 3)]);
    assert!(queue.acknowledge(two));
    queue.pass(ACK_WAIT * 3 / 2);
    assert_eq!(pulled(queue, 3), [(one, 4), (three, 5), (four, 6)]);
    assert!(queue.acknowledge(one) && queue.acknowledge(three) && !queue.has(one));
}

fn put_off(queue: &mut dyn QueueUnderTest) {
    queue.create();
    queue.shorten_ack_wait(ACK_WAIT);
    let [one, _two] = publish(queue);
    pulled(queue, 1);
    let pull = queue.pull(2, None, LONG);
    message(queue, pull);
    for _ in 0..4 {
        queue.pass(ACK_WAIT / 2);
        queue.extend(one);
    }
    // The other one has come again meanwhile.
    let (sequence, place, _) = message(queue, pull);
    assert!(sequence != one && place == 3, "{sequence} {place}");
    let state = queue.find().expect("it is there");
    assert_eq!((state.unacknowledged, state.delivered), (2, Place::new(3)));
}

fn brought_back(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two, three, four] = publish(queue);
    pulled(queue, 3);
    assert!(queue.acknowledge(two));
    let state = queue.restore();
    assert_eq!((state.delivered, state.unacknowledged, state.pending), (Place::new(0), 0, 3));
    assert_eq!(pulled(queue, 3), [(one, 1), (three, 2), (four, 3)]);
    assert!(queue.acknowledge(one) && queue.acknowledge(three) && queue.acknowledge(four));
    let state = queue.restore();
    assert_eq!((state.delivered, state.unacknowledged, state.pending), (Place::new(0), 0, 0));
    let five = queue.publish();
    assert_eq!(pulled(queue, 1), [(five, 1)]);
}

fn late_acks(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two, three] = publish(queue);
    pulled(queue, 3);
    queue.restore();
    assert!(!queue.acknowledge(three) && queue.has(three), "it was not delivered since");
    assert_eq!(pulled(queue, 2), [(one, 1), (two, 2)]);
    assert!(queue.acknowledge(two) && !queue.has(two));
    assert!(!queue.acknowledge(three) && queue.has(three));
    assert_eq!(pulled(queue, 1), [(three, 3)]);
    assert!(queue.acknowledge(three) && !queue.has(three));
}

fn in_turn(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let (first, second) = (queue.pull(3, None, LONG), queue.pull(3, None, LONG));
    let [one, two, three, four, five] = publish(queue);
    assert_eq!([message(queue, first).0, message(queue, first).0, message(queue, first).0], [one, three, five]);
    assert_eq!([message(queue, second).0, message(queue, second).0], [two, four]);
}

fn served_first(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two] = publish(queue);
    pulled(queue, 2);
    let waits = queue.pull(1, None, LONG);
    assert_eq!(queue.next(waits, SILENCE), None);
    let state = queue.restore();
    if queue.resets() {
        assert_eq!(message(queue, waits), (one, 1, 1));
        assert_eq!(pulled(queue, 1), [(two, 2)]);
    } else {
        assert_eq!((state.unacknowledged, state.pending), (0, 2));
        until_lost(queue, waits);
        assert_eq!(pulled(queue, 2), [(one, 1), (two, 2)]);
    }
}

fn time_is_over(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let pull = queue.pull(2, None, SHORT);
    assert_eq!(queue.next(pull, PATIENCE), Some(PullShows::Over(PullEnd::Done)));
    let one = queue.publish();
    assert_eq!(counted(queue, 1).delivered, Place::new(0));
    assert_eq!(pulled(queue, 1), [(one, 1)]);
}

fn ended(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let pull = queue.pull(2, None, LONG);
    queue.end_pull(pull);
    let one = queue.publish();
    assert_eq!(counted(queue, 1).delivered, Place::new(0));
    assert_eq!(pulled(queue, 1), [(one, 1)]);
}

fn too_large(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two] = publish(queue);
    let pull = queue.pull(2, Some(1), LONG);
    assert_eq!(queue.next(pull, PATIENCE), Some(PullShows::Over(PullEnd::TooLarge)));
    assert_eq!(counted(queue, 2).delivered, Place::new(0));
    assert_eq!(pulled(queue, 2), [(one, 1), (two, 2)]);
}

fn deleted(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two] = publish(queue);
    assert_eq!(pulled(queue, 2), [(one, 1), (two, 2)]);
    assert!(queue.acknowledge(one));
    let pull = queue.pull(1, None, LONG);
    assert_eq!(queue.next(pull, SILENCE), None);
    queue.delete();
    until_lost(queue, pull);
    assert_eq!(queue.find(), None);
    let pull = queue.pull(1, None, LONG);
    until_lost(queue, pull);
    assert!(!queue.acknowledge(two) && queue.has(two));
    assert_eq!(queue.create().pending, 1);
    assert_eq!(pulled(queue, 1), [(two, 1)]);
}

fn made_anew(queue: &mut dyn QueueUnderTest) {
    queue.create();
    publish::<2>(queue);
    pulled(queue, 1);
    let pull = queue.pull(2, None, LONG);
    message(queue, pull);
    queue.recreate();
    until_lost(queue, pull);
    assert_eq!(queue.find(), None);
    queue.create();
    let one = queue.publish();
    assert_eq!((pulled(queue, 1), one), (vec![(one, 1)], Sequence::new(1)));
}

fn acknowledged_before(queue: &mut dyn QueueUnderTest) {
    queue.create();
    publish::<2>(queue);
    pulled(queue, 2);
    queue.recreate();
    queue.rename(OTHER);
    queue.create();
    let [one, two] = publish(queue);
    assert_eq!(pulled(queue, 2), [(one, 1), (two, 2)]);
    assert!(!queue.acknowledge(one) && queue.has(one));
}

fn replaced(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two, three] = publish(queue);
    pulled(queue, 2);
    assert!(queue.acknowledge(one));
    let former = queue.rename(OTHER);
    let state = queue.replace();
    assert_eq!((state.delivered, state.unacknowledged, state.pending), (Place::new(0), 0, 2));
    assert_eq!(pulled(queue, 2), [(two, 1), (three, 2)]);
    assert_eq!(queue.replace().unacknowledged, 2);
    queue.rename(former);
    assert_eq!(queue.find(), None);
    assert!(queue.has(two) && queue.has(three));
}

fn nobody_waits(queue: &mut dyn QueueUnderTest) {
    let before = queue.publish();
    assert!(!queue.has(before));
    assert_eq!(queue.create().pending, 0);
    let (one, elsewhere) = (queue.publish(), queue.publish_elsewhere());
    assert!(queue.has(one) && !queue.has(elsewhere));
    assert_eq!(pulled(queue, 1), [(one, 1)]);
    assert!(queue.acknowledge(one) && !queue.has(one));
}

fn keeps_unfinished(queue: &mut dyn QueueUnderTest) {
    queue.create();
    let [one, two, three] = publish(queue);
    pulled(queue, 2);
    assert!(queue.acknowledge(two));
    assert_eq!(queue.restore().pending, 2);
    assert_eq!(pulled(queue, 2), [(one, 1), (three, 2)]);
}

fn publish<const COUNT: usize>(queue: &mut dyn QueueUnderTest) -> [Sequence; COUNT] {
    core::array::from_fn(|_| queue.publish())
}

/// The consumer, once it has counted so many messages that it has not delivered: what is stored it counts when it hears of
/// it, which may be after the publisher was told.
fn counted(queue: &mut dyn QueueUnderTest, pending: u64) -> ConsumerState {
    let mut waited = Duration::ZERO;
    loop {
        let state = queue.find().expect("it is there");
        if state.pending == pending {
            return state;
        }
        assert!(waited < PATIENCE, "it does not count {pending}: {state:?}");
        queue.pass(AGAIN);
        waited += AGAIN;
    }
}

/// So many messages that one pull shows, each with its place.
fn pulled(queue: &mut dyn QueueUnderTest, count: u32) -> Vec<(Sequence, u64)> {
    let pull = queue.pull(count, None, LONG);
    (0..count).map(|_| message(queue, pull)).map(|(sequence, place, _)| (sequence, place)).collect()
}

/// The next message that a pull shows: its number, its place, and how many follow.
fn message(queue: &mut dyn QueueUnderTest, pull: PullName) -> (Sequence, u64, u64) {
    match queue.next(pull, PATIENCE) {
        Some(PullShows::Message { sequence, place, pending }) => (sequence, place.value(), pending),
        other => panic!("not a message: {other:?}"),
    }
}

fn until_lost(queue: &mut dyn QueueUnderTest, pull: PullName) {
    match queue.next(pull, PATIENCE) {
        Some(PullShows::Over(PullEnd::Lost { .. })) => {}
        other => panic!("not told that it is lost: {other:?}"),
    }
}
