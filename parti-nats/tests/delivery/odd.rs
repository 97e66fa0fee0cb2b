//! What users do wrong, and what nobody expects: each message is delivered, or it is said why not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use parti_nats::{Builder, Consumer, Delivered, Delivery, DeliveryError, Engine, PartitionId, Policy};

use crate::PATIENCE;
use crate::support::{Server, quick};

/// A server with a stream of this configuration, and a client.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    server: Server,
}

/// What a handler was given: the partition, the payload and the tries.
pub(crate) type Seen = Arc<Mutex<Vec<(String, String, u32)>>>;

pub(crate) fn orders() -> stream::Config {
    stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.>".into()],
        allow_direct: true,
        ..stream::Config::default()
    }
}

impl World {
    pub(crate) async fn new(config: stream::Config) -> Self {
        let server = Server::start();
        let client = async_nats::connect(server.url()).await.expect("it listens");
        let jetstream = jetstream::new(client.clone());
        jetstream.create_stream(config).await.expect("a new stream");
        Self { client, jetstream, server }
    }

    pub(crate) async fn publish(&self, subject: &str, payload: &str) -> u64 {
        let sent = self.jetstream.publish(subject.to_owned(), payload.to_owned().into()).await.expect("sent");
        sent.await.expect("stored").sequence
    }

    pub(crate) async fn start(&self, delivery: Delivery, partitions: &[&str]) -> Result<Consumer, DeliveryError> {
        let config = parti_nats::Config { expected_workers: Some(1), ..quick() };
        let builder = Builder::new("orders").server(self.server.url()).config(config).partition_ids(partitions);
        let retry = parti_nats::RetryPolicy { first: Duration::from_millis(200), ..parti_nats::RetryPolicy::default() };
        delivery.start(builder.retry(retry).start().expect("valid settings"), self.client.clone()).await
    }

    /// Delivers with a handler that keeps what it is given, and fails where the payload says so.
    pub(crate) async fn consume(&self, delivery: Delivery, partitions: &[&str]) -> Seen {
        run(self.start(delivery, partitions).await.expect("the stream fits"))
    }
}

/// Keeps what a consumer that was started is given, and fails where the payload says so.
pub(crate) fn run(consumer: Consumer) -> Seen {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(consumer.run(move |message: Delivered| {
        let payload = String::from_utf8_lossy(message.payload()).into_owned();
        let fails = payload.starts_with("fail");
        assert!(payload != "panic", "a bug");
        kept.lock().expect("no panic").push((message.partition().to_string(), payload, message.tries()));
        async move { if fails { Err("it must fail") } else { Ok(()) } }
    }));
    seen
}

/// Waits until so many messages were seen.
pub(crate) async fn see(seen: &Seen, count: usize) -> Vec<(String, String, u32)> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let now = seen.lock().expect("no panic").clone();
        if now.len() >= count {
            return now;
        }
        assert!(std::time::Instant::now() < deadline, "expected {count} messages, but saw {now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn payloads(seen: &[(String, String, u32)]) -> Vec<&str> {
    seen.iter().map(|(_, payload, _)| payload.as_str()).collect()
}

pub(crate) fn delivery() -> Delivery {
    Delivery::new("ORDERS", "orders.{partition}").back_off(Duration::from_millis(20), Duration::from_millis(100))
}

#[tokio::test]
async fn a_message_that_fails_goes_to_the_dead_letters_and_says_why() {
    let world = World::new(orders()).await;
    let dead = stream::Config { name: "DEAD".into(), subjects: vec!["dead.*".into()], ..stream::Config::default() };
    let dead = world.jetstream.create_stream(dead).await.expect("a new stream");
    for payload in ["first", "fail", "panic", "last"] {
        world.publish("orders.eu", payload).await;
    }
    let seen = world.consume(delivery().dead_letters("dead.{partition}", 3), &["eu"]).await;
    let seen = see(&seen, 5).await;
    assert_eq!(payloads(&seen), ["first", "fail", "fail", "fail", "last"]);
    assert_eq!(seen.iter().map(|(_, _, tries)| *tries).collect::<Vec<_>>(), [0, 0, 1, 2, 0]);
    for (number, sequence, error) in [(1, "2", "it must fail"), (2, "3", "the handler has panicked: a bug")] {
        let letter = dead.get_raw_message(number).await.expect("it is there");
        let header = |name: &str| letter.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
        let headers = ["Parti-Partition", "Parti-Stream", "Parti-Sequence", "Parti-Tries", "Parti-Error"].map(header);
        assert_eq!(headers, ["eu", "ORDERS", sequence, "3", error]);
        assert_eq!(letter.subject.as_str(), "dead.eu");
    }
}

#[tokio::test]
async fn messages_of_every_size_and_kind_are_delivered_as_they_are() {
    let world = World::new(orders()).await;
    let largest = "x".repeat(world.client.server_info().max_payload - 100);
    world.publish("orders.eu", "").await;
    world.publish("orders.eu", &largest).await;
    let mut headers = HeaderMap::new();
    // About as many as the server takes: 64 KiB.
    for number in 0..6_000 {
        headers.insert(format!("{number:x}"), "");
    }
    headers.insert("Nats-Sequence", "77");
    let sent = world.jetstream.publish_with_headers("orders.eu", headers, "headers".into()).await.expect("sent");
    sent.await.expect("stored");
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let consumer = world.start(delivery(), &["eu"]).await.expect("the stream fits");
    tokio::spawn(consumer.run(move |message: Delivered| {
        let _ = sender.send(message);
        async { Ok::<_, std::convert::Infallible>(()) }
    }));
    // Some are read directly, and the last is shown by a tail.
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("it runs");
        sizes.push((message.payload().len(), message.headers().map_or(0, HeaderMap::len)));
    }
    assert_eq!(sizes, [(0, 0), (largest.len(), 0), (7, 6_001)]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Sequence", "77");
    let sent = world.jetstream.publish_with_headers("orders.eu", headers, "tailed".into()).await.expect("sent");
    sent.await.expect("stored");
    let message = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("it runs");
    assert_eq!((message.sequence().value(), message.headers().map_or(0, HeaderMap::len)), (4, 1));
}

#[tokio::test]
async fn partitions_with_odd_names_have_subjects_of_their_own() {
    let world = World::new(orders()).await;
    let names = ["a.b", "a*", "a>", "a b", "ä", "a%2Eb"];
    for name in names {
        let subject = delivery().subject_of(&PartitionId::new(name).expect("a valid id")).expect("a template");
        world.publish(&subject, name).await;
    }
    let seen = see(&world.consume(delivery(), &names).await, names.len()).await;
    assert!(seen.iter().all(|(partition, payload, _)| partition == payload), "{seen:?}");
}

#[tokio::test]
async fn a_position_that_cannot_be_read_stops_its_partition_and_no_other() {
    let world = World::new(orders()).await;
    world.publish("orders.eu", "1").await;
    world.publish("orders.us", "2").await;
    let first = world.start(delivery(), &["none"]).await.expect("the stream fits");
    first.stop();
    first.finished().await.expect("it was told to stop");
    let positions = world.jetstream.get_key_value("parti_orders_positions").await.expect("it was founded");
    positions.put("pos.eu", "garbage".into()).await.expect("stored");
    let consumer = world.start(delivery(), &["eu", "us"]).await.expect("the stream fits");
    let health = consumer.health_check();
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(consumer.run(move |message: Delivered| {
        kept.lock().expect("no panic").push((message.partition().to_string(), String::new(), 0));
        async { Ok::<_, std::convert::Infallible>(()) }
    }));
    let deadline = std::time::Instant::now() + PATIENCE;
    while !health.check().warnings.iter().any(|warning| warning.name == "delivery_stopped") {
        assert!(std::time::Instant::now() < deadline, "nothing is said of it: {:?}", health.check());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(see(&seen, 1).await[0].0, "us");
    // Once it is mended the partition is delivered.
    positions.delete("pos.eu").await.expect("deleted");
    assert_eq!(see(&seen, 2).await[1].0, "eu");
}

#[tokio::test]
async fn a_stream_that_is_purged_goes_on_and_says_how_much_is_gone() {
    let world = World::new(orders()).await;
    let seen = world.consume(delivery().on_misfit(Policy::Stop, Policy::Stop, Policy::Earliest), &["eu"]).await;
    world.publish("orders.eu", "1").await;
    see(&seen, 1).await;
    let stream = world.jetstream.get_stream("ORDERS").await.expect("it is there");
    stream.purge().await.expect("purged");
    world.publish("orders.eu", "2").await;
    assert_eq!(payloads(&see(&seen, 2).await), ["1", "2"]);
}

#[tokio::test]
async fn a_stream_that_does_not_fit_is_refused_with_the_fix() {
    let world = World::new(orders()).await;
    let create = async |config| world.jetstream.create_stream(config).await.expect("a new stream");
    let named = |name: &str| stream::Config { name: name.into(), subjects: vec![format!("{name}.*")], ..orders() };
    create(stream::Config { allow_direct: false, ..named("CLOSED") }).await;
    let refused = async |stream: &str, template: &str| {
        let started = world.start(Delivery::new(stream, template), &["eu"]).await;
        started.expect_err("it does not fit").to_string()
    };
    for (stream, template, says) in [
        ("NONE", "none.{partition}", "the stream NONE must be there"),
        ("CLOSED", "CLOSED.{partition}", "set allow_direct"),
        ("ORDERS", "others.{partition}", "must have every subject others.*, but has orders.>"),
        ("ORDERS", "orders", "must have {partition} as one of its parts"),
        ("", "orders.{partition}", "stream must name"),
    ] {
        let error = refused(stream, template).await;
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_client_with_the_permissions_of_delivery_delivers() {
    deliver_with_permissions(delivery(), orders()).await;
    deliver_with_permissions(delivery().engine(Engine::Log), orders()).await;
    let work_queue = stream::Config { retention: stream::RetentionPolicy::WorkQueue, ..orders() };
    deliver_with_permissions(delivery(), work_queue.clone()).await;
    deliver_with_permissions(delivery().engine(Engine::Queue), work_queue).await;
}

/// The name of the consumer that a partition has on the stream as it is.
pub(crate) async fn consumer_name(jetstream: &jetstream::Context, partition: &str) -> String {
    let stream = jetstream.get_stream("ORDERS").await.expect("it is there");
    format!("parti_orders={:x}={partition}", stream.cached_info().created.unix_timestamp_nanos())
}

/// Takes the first message of a partition's consumer, as a worker that dies with it.
async fn take_first(jetstream: &jetstream::Context) {
    let config = pull::Config {
        durable_name: Some(consumer_name(jetstream, "eu").await),
        ack_policy: AckPolicy::Explicit,
        filter_subject: "orders.eu".into(),
        ..pull::Config::default()
    };
    let consumer = jetstream.create_consumer_on_stream(config, "ORDERS").await.expect("a new consumer");
    let mut taken = consumer.fetch().max_messages(1).messages().await.expect("it is there");
    taken.next().await.expect("there are some").expect("a message");
}

async fn deliver_with_permissions(delivery: Delivery, stream: stream::Config) {
    let is_queue = stream.retention == stream::RetentionPolicy::WorkQueue;
    let delivery = delivery.dead_letters("dead.{partition}", 1);
    let group = parti_nats::GroupName::new("orders").expect("a valid name");
    let allowed = delivery.permissions(&group).expect("a template");
    let user = |name: &str, rest: &str| format!("{{ user: {name}, password: {name}{rest} }}");
    let users = [user("all", ""), user("reader", &format!(", permissions: {allowed}"))].join(", ");
    let server = Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {users} ] }}\n"));
    let connect = async |name: &str| {
        let options = async_nats::ConnectOptions::with_user_and_password(name.into(), name.into());
        options.connect(server.url()).await.expect("it is let in")
    };
    let all = connect("all").await;
    let jetstream = jetstream::new(all.clone());
    jetstream.create_stream(stream).await.expect("a new stream");
    let dead = stream::Config { name: "DEAD".into(), subjects: vec!["dead.*".into()], ..stream::Config::default() };
    jetstream.create_stream(dead).await.expect("a new stream");
    let world = World { client: connect("reader").await, jetstream, server };
    for payload in ["first", "fail", "last"] {
        world.publish("orders.eu", payload).await;
    }
    if is_queue {
        take_first(&world.jetstream).await;
    }
    let config = parti_nats::Config { expected_workers: Some(1), ..quick() };
    let worker =
        Builder::new("orders").client(all).config(config).partition_ids(["eu"]).start().expect("valid settings");
    let consumer = delivery.start(worker, world.client.clone()).await.expect("the stream fits");
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(consumer.run(move |message: Delivered| {
        let payload = String::from_utf8_lossy(message.payload()).into_owned();
        let fails = payload == "fail";
        let _ = sender.send(payload);
        async move { if fails { Err("it must fail") } else { Ok(()) } }
    }));
    for expected in ["first", "fail", "last"] {
        let payload = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("it runs");
        assert_eq!(payload, expected);
    }
    // By now a tail shows what comes.
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.publish("orders.eu", "new").await;
    let payload = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("it runs");
    assert_eq!(payload, "new");
}
