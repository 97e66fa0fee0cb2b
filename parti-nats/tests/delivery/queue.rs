//! Streams that remove what is acknowledged, or what nobody waits for: each message is delivered, or it is said why not.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy};
use parti_nats::{Delivery, Engine, PartitionId, StartAt};

use crate::PATIENCE;
use crate::odd::{World, consumer_name, delivery, orders, payloads, run, see};

fn work_queue() -> stream::Config {
    stream::Config { retention: RetentionPolicy::WorkQueue, allow_direct: false, ..orders() }
}

impl World {
    /// Waits until the stream has so many messages.
    async fn left(&self, count: u64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let mut stream = self.jetstream.get_stream("ORDERS").await.expect("it is there");
            let left = stream.info().await.expect("it answers").state.messages;
            if left == count {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{left} messages are left, not {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_is_finished_leaves_a_work_queue_and_what_fails_goes_to_the_dead_letters() {
    let world = World::new(work_queue()).await;
    let dead = stream::Config { name: "DEAD".into(), subjects: vec!["dead.*".into()], ..stream::Config::default() };
    let dead = world.jetstream.create_stream(dead).await.expect("a new stream");
    for payload in ["first", "fail", "last"] {
        world.publish("orders.eu", payload).await;
    }
    let seen = world.consume(delivery().dead_letters("dead.{partition}", 3), &["eu"]).await;
    assert_eq!(payloads(&see(&seen, 5).await), ["first", "fail", "fail", "fail", "last"]);
    world.left(0).await;
    let letter = dead.get_raw_message(1).await.expect("it is there");
    assert_eq!(letter.headers.get("Parti-Sequence").map(async_nats::HeaderValue::as_str), Some("2"));
}

#[tokio::test]
async fn a_consumer_that_is_deleted_by_hand_is_made_anew() {
    let world = World::new(work_queue()).await;
    let seen = world.consume(delivery(), &["eu"]).await;
    world.publish("orders.eu", "1").await;
    see(&seen, 1).await;
    world.left(0).await;
    let stream = world.jetstream.get_stream("ORDERS").await.expect("it is there");
    stream.delete_consumer(&consumer_name(&world.jetstream, "eu").await).await.expect("deleted");
    for payload in ["2", "3"] {
        world.publish("orders.eu", payload).await;
    }
    assert_eq!(payloads(&see(&seen, 3).await), ["1", "2", "3"]);
    world.left(0).await;
}

#[tokio::test]
async fn a_work_queue_that_is_purged_goes_on() {
    let world = World::new(work_queue()).await;
    for payload in ["1", "gone"] {
        world.publish("orders.eu", payload).await;
    }
    let mut consumer = world.start(delivery(), &["eu"]).await.expect("the stream fits");
    let mut messages = consumer.next_partition().await.expect("it runs");
    let first = messages.next().await.expect("it is owned");
    messages.commit(&first).expect("it is owned");
    messages.stored(&first).await.expect("it is acknowledged");
    world.left(1).await;
    let second = messages.next().await.expect("it is owned");
    let stream = world.jetstream.get_stream("ORDERS").await.expect("it is there");
    stream.purge().await.expect("purged");
    // What is gone is acknowledged as well as what is not.
    messages.commit(&second).expect("it is owned");
    consumer.stop();
    messages.finish().await.expect("everything is acknowledged");
    consumer.finished().await.expect("it was told to stop");
    world.publish("orders.eu", "2").await;
    let seen = world.consume(delivery(), &["eu"]).await;
    assert_eq!(payloads(&see(&seen, 1).await), ["2"]);
    world.left(0).await;
}

#[tokio::test]
async fn messages_of_every_size_are_delivered_from_a_work_queue() {
    let world = World::new(work_queue()).await;
    let largest = "x".repeat(world.client.server_info().max_payload - 100);
    for payload in ["", &largest, "small", &largest] {
        world.publish("orders.eu", payload).await;
    }
    // A buffer that is smaller than a message takes one.
    let seen = world.consume(delivery().buffer(4, 1_000), &["eu"]).await;
    let sizes: Vec<_> = see(&seen, 4).await.iter().map(|(_, payload, _)| payload.len()).collect();
    assert_eq!(sizes, [0, largest.len(), 5, largest.len()]);
    world.left(0).await;
}

#[tokio::test]
async fn partitions_with_odd_names_have_consumers_of_their_own() {
    let world = World::new(work_queue()).await;
    let names = ["a.b", "a*", "a>", "a b", "ä", "a%2Eb", "a/b", "a\\b", "a=2Eb"];
    for name in names {
        let subject = delivery().subject_of(&PartitionId::new(name).expect("a valid id")).expect("a template");
        world.publish(&subject, name).await;
    }
    let seen = see(&world.consume(delivery(), &names).await, names.len()).await;
    assert!(seen.iter().all(|(partition, payload, _)| partition == payload), "{seen:?}");
    world.left(0).await;
}

#[tokio::test]
async fn a_stream_that_takes_too_few_consumers_or_has_too_few_copies_is_refused_at_the_start() {
    let world = World::new(stream::Config { max_consumers: 2, ..work_queue() }).await;
    let error = world.start(delivery(), &["eu", "us", "zz"]).await.expect_err("one is too many").to_string();
    assert!(error.contains("for each of 3 partitions, but takes 2") && error.contains("max_consumers"), "{error}");
    assert!(error.contains("64 to 512 lanes"), "{error}");
    let error = world.start(delivery().replicas(3), &["eu", "us"]).await.expect_err("it has one copy").to_string();
    assert!(error.contains("at least 3 copies") && error.contains("but has 1"), "{error}");
    let mut consumer = world.start(delivery(), &["eu", "us"]).await.expect("both have room");
    assert!(consumer.next_partition().await.is_some());
}

/// What is logged, as text.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("nobody panics while writing").clone();
        String::from_utf8(bytes).expect("log lines are UTF-8")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics while writing").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes in what this thread logs, as long as the guard is there.
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }
}

#[tokio::test]
async fn limits_that_remove_what_nobody_has_worked_on_are_warned_of() {
    let day = std::time::Duration::from_secs(86_400);
    for (config, warned) in [
        (work_queue(), None),
        (stream::Config { max_messages: 9, discard: DiscardPolicy::New, ..work_queue() }, None),
        (stream::Config { max_messages: 9, max_age: day, ..work_queue() }, Some("max_age, max_msgs")),
        (stream::Config { max_messages_per_subject: 9, ..work_queue() }, Some("max_msgs_per_subject")),
    ] {
        let world = World::new(config).await;
        let (log, _guard) = Log::begin();
        world.start(delivery(), &["eu"]).await.expect("the stream fits");
        let text = log.text();
        assert_eq!(text.contains("limits_remove_unread"), warned.is_some(), "{text}");
        assert!(warned.is_none_or(|limits| text.contains(limits)), "{text}");
    }
}

#[tokio::test]
async fn more_than_512_partitions_of_a_work_queue_are_warned_of() {
    let world = World::new(work_queue()).await;
    let ids: Vec<String> = (0..513).map(|number| format!("p{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (log, _guard) = Log::begin();
    world.start(delivery(), &ids[..512]).await.expect("the stream fits");
    assert!(!log.text().contains("many_consumers"), "{}", log.text());
    world.start(delivery(), &ids).await.expect("the stream fits");
    let text = log.text();
    assert!(text.contains("many_consumers") && text.contains("partitions=513"), "{text}");
}

/// Servers from 2.15 on take 1 000 consumers where the stream says nothing.
#[tokio::test]
async fn a_stream_without_a_limit_takes_as_many_consumers_as_its_server_allows() {
    let world = World::new(work_queue()).await;
    let ids: Vec<String> = (0..1_001).map(|number| format!("p{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let version = world.client.server_info().version;
    let is_capped = version.split('.').take(2).map(|part| part.parse().unwrap_or(0)).ge([2_u32, 15]);
    match world.start(delivery(), &ids).await {
        Ok(_) => assert!(!is_capped, "{version}"),
        Err(error) => {
            assert!(is_capped && error.to_string().contains("1001 partitions, but takes 1000"), "{version}: {error}");
        }
    }
}

#[tokio::test]
async fn a_consumer_that_does_not_fit_or_cannot_be_stops_its_partition_and_no_other() {
    let world = World::new(stream::Config { max_consumers: 3, ..work_queue() }).await;
    for partition in ["eu", "us", "zz"] {
        world.publish(&format!("orders.{partition}"), partition).await;
    }
    let stream = world.jetstream.get_stream("ORDERS").await.expect("it is there");
    let of_eu = consumer_name(&world.jetstream, "eu").await;
    for (name, filter) in [(of_eu, "orders.other"), ("somebody".into(), "orders.else")] {
        let other = pull::Config {
            durable_name: Some(name),
            ack_policy: AckPolicy::Explicit,
            filter_subject: filter.into(),
            ..pull::Config::default()
        };
        stream.create_consumer(other).await.expect("a new consumer");
    }
    let consumer = world.start(delivery(), &["eu", "us", "zz"]).await.expect("the stream fits");
    let (health, seen) = (consumer.health_check(), run(consumer));
    // There is room for one of the two that are left.
    let first = see(&seen, 1).await[0].0.clone();
    assert!(["us", "zz"].contains(&first.as_str()), "{first}");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let warnings = health.check().warnings;
        let text =
            warnings.iter().find(|warning| warning.name == "delivery_stopped").map(|warning| warning.text.clone());
        let says = |what: &str| text.as_ref().is_some_and(|text| text.contains(what));
        if says("it must filter by orders.eu, but does by orders.other") && says("raise max_consumers") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nothing is said of it: {warnings:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Once there is one consumer less, and that the wrong one, somebody takes its place.
    stream.delete_consumer(&consumer_name(&world.jetstream, "eu").await).await.expect("deleted");
    let next = see(&seen, 2).await[1].0.clone();
    assert!(["eu", "us", "zz"].contains(&next.as_str()) && next != first, "{next} after {first}");
}

#[tokio::test]
async fn a_stream_with_interest_is_delivered_by_servers_that_can_and_refused_by_others() {
    let world = World::new(stream::Config { retention: RetentionPolicy::Interest, ..work_queue() }).await;
    let version = world.client.server_info().version;
    let number = |at: usize| version.split('.').nth(at).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    if (number(0), number(1)) < (2, 14) {
        let refused = world.start(delivery(), &["eu"]).await.expect_err("it does not fit").to_string();
        assert!(refused.contains("run nats-server 2.14.6 or newer") && refused.contains(&version), "{refused}");
        return;
    }
    let consumer = world.start(delivery(), &["eu"]).await.expect("the stream fits");
    let assignment = consumer.assignment_reader();
    let seen = run(consumer);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !assignment.read().contains("eu") {
        assert!(std::time::Instant::now() < deadline, "the partition is not owned");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What comes before somebody waits for it is gone.
    while seen.lock().expect("no panic").is_empty() {
        assert!(std::time::Instant::now() < deadline, "nothing is delivered");
        world.publish("orders.eu", "early").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.left(0).await;
    let count = seen.lock().expect("no panic").len();
    world.publish("orders.eu", "late").await;
    assert_eq!(payloads(&see(&seen, count + 1).await)[count], "late");
}

#[tokio::test]
async fn lanes_of_a_subject_transform_are_partitions() {
    let transform = stream::SubjectTransform {
        source: "orders.*".into(),
        destination: "lanes.{{partition(4,1)}}.{{wildcard(1)}}".into(),
    };
    let subjects = vec!["orders.*".into()];
    let world = World::new(stream::Config { subjects, subject_transform: Some(transform), ..work_queue() }).await;
    for customer in 0..40 {
        world.publish(&format!("orders.{customer}"), &customer.to_string()).await;
    }
    let delivery = Delivery::new("ORDERS", "lanes.{partition}.*");
    let seen = see(&world.consume(delivery, &["0", "1", "2", "3"]).await, 40).await;
    let mut lanes: Vec<_> = seen.iter().map(|(lane, _, _)| lane.as_str()).collect();
    lanes.sort_unstable();
    lanes.dedup();
    assert_eq!(lanes, ["0", "1", "2", "3"]);
    world.left(0).await;
}

#[tokio::test]
async fn an_engine_that_the_retention_is_not_for_is_refused_with_the_fix() {
    let world = World::new(work_queue()).await;
    let refused =
        async |delivery: Delivery| world.start(delivery, &["eu"]).await.expect_err("it does not fit").to_string();
    let error = refused(delivery().engine(Engine::Log)).await;
    assert!(
        error.contains("its retention is workqueue") && error.contains("use a stream with retention limits"),
        "{error}"
    );
    let error = refused(delivery().start_at(StartAt::Latest)).await;
    assert!(error.contains("leave out start_at"), "{error}");
    let limits = stream::Config {
        name: "LOG".into(),
        subjects: vec!["log.*".into()],
        allow_direct: true,
        ..stream::Config::default()
    };
    world.jetstream.create_stream(limits).await.expect("a new stream");
    let error = refused(Delivery::new("LOG", "log.{partition}").engine(Engine::Queue)).await;
    assert!(error.contains("its retention is limits") && error.contains("workqueue or interest"), "{error}");
}
