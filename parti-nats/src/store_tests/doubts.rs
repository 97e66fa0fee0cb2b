//! What a watch makes of news and listings that do not fit what it knows.

use async_nats::HeaderMap;

use super::*;
use crate::snapshot::is_of_leader;

/// Rings the doorbell of a watch as the bucket's stream does.
async fn ring(world: &World, bucket: Bucket, key: Key, revision: u64, previous: u64) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Sequence", revision.to_string());
    headers.insert("Nats-Last-Sequence", previous.to_string());
    let subject = format!("{}{key}", Names::new(&world.group, bucket).repeated);
    let client = &world.connection.client;
    client.publish_with_headers(subject, headers, record(key, 9).encode().into()).await.expect("sent");
}

/// A watch that has read twice, as it does after a new subscription: what it shows from then on has another cause.
async fn settled_watch(world: &World, bucket: Bucket, interest: Interest) -> Watched {
    let mut watched = world.watch(bucket, interest);
    watched.until_caught_up().await;
    watched.until_caught_up().await;
    watched
}

#[tokio::test]
async fn a_change_that_follows_on_nothing_is_not_shown_but_looked_for() {
    let world = World::new(Servers::single()).await;
    let one = world.commit(create(slot(1), 1)).await;
    let two = world.commit(update(slot(1), 1, one)).await;
    let (watched_key, one, two) = (slot(1), one.value(), two.value());
    let mut watched = settled_watch(&world, Bucket::Members, Interest::Keys([watched_key].into())).await;
    // It says that it follows on what came before that which was shown.
    ring(&world, Bucket::Members, watched_key, two + 5, one).await;
    assert_eq!(watched.next().await, Shown::CaughtUp, "it was looked for, and is not there");
    // What follows on something that was not shown is shown, and what was missed is looked for.
    ring(&world, Bucket::Members, watched_key, two + 9, two + 7).await;
    assert_eq!(watched.next().await, Shown::Entry(watched_key, Revision::new(two + 9)));
    assert_eq!(watched.next().await, Shown::Lost, "the bucket does not have what was shown");
    assert_eq!(watched.next().await, Shown::Entry(watched_key, Revision::new(two)));
}

#[tokio::test]
async fn of_all_keys_nothing_is_shown_before_what_precedes_it() {
    let world = World::new(Servers::single()).await;
    let one = world.commit(append(1, 1, 0)).await.value();
    let mut watched = settled_watch(&world, Bucket::Plan, Interest::All).await;
    let key = Key::Assign(Slot::new(2));
    ring(&world, Bucket::Plan, key, one + 4, 0).await;
    assert_eq!(watched.next().await, Shown::CaughtUp, "it was looked for, and is not there");
    // A change of the revision that another one had: the bucket has lost that.
    ring(&world, Bucket::Plan, key, one, 0).await;
    assert_eq!(watched.next().await, Shown::CaughtUp, "it was looked for, and is not there");
    let two = world.commit(append(2, 1, one)).await;
    assert_eq!(watched.next_change().await, Shown::Entry(key, two));
}

#[tokio::test]
async fn a_listing_by_a_copy_of_another_life_is_seen_through_by_its_newest_message() {
    let world = World::new(Servers::single()).await;
    world.commit(create(slot(1), 1)).await;
    let names = Names::new(&world.group, Bucket::Members);
    let stream = world.connection.jetstream.get_stream_no_info(&names.stream).await.expect("a valid name");
    let newest = async || {
        let last = last_message(&stream, &format!("{}slot.1", names.stored)).await;
        last.expect("readable").expect("there")
    };
    let before = newest().await;
    assert!(is_of_leader(&stream, &before).await);
    world.recreate(Bucket::Members).await;
    assert!(!is_of_leader(&stream, &before).await, "there is none");
    world.commit(create(slot(1), 1)).await;
    let after = newest().await;
    assert_eq!((before.sequence, &before.payload), (after.sequence, &after.payload));
    assert!(is_of_leader(&stream, &after).await && !is_of_leader(&stream, &before).await, "stored at another time");
}
