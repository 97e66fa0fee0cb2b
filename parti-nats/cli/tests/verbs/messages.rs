//! Positions, seeks and dead letters, of messages that a real consumer has worked on.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parti_core::delivery::{PositionRecord, Sequence};
use parti_nats::async_nats::jetstream::{self, stream};
use parti_nats::{Builder, Config, Delivered, Delivery, Stopper};
use snapbox::str;
use tokio::task::JoinHandle;

use crate::fleet::{DEADLINE, Fleet, list};
use crate::support::quick;

/// The numbers of the messages that were handed out, in order.
type Seen = Arc<Mutex<Vec<u64>>>;

#[test]
fn positions_are_shown_moved_when_nobody_has_them_open_and_dead_letters_are_tried_again() {
    let fleet = Fleet::new();
    fleet
        .parti(&["positions"])
        .assert()
        .code(4)
        .stderr_eq("parti: orders has no positions: no messages follow its partitions\n");
    fleet.run(async |client| {
        let jetstream = jetstream::new(client);
        for (name, subject) in [("ORDERS", "orders.*"), ("DEAD", "dead.*")] {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subject.to_owned()],
                allow_direct: true,
                ..stream::Config::default()
            };
            jetstream.create_stream(config).await.expect("created");
        }
        for payload in ["1", "2", "poison", "4", "5"] {
            jetstream.publish("orders.eu", payload.into()).await.expect("sent").await.expect("stored");
        }
    });
    let (seen, stopper, task) = consume(&fleet);
    until(|| position(&fleet)["through"] == 5);
    assert_eq!(position(&fleet)["behind_at_most"], 0);
    assert_eq!(fleet.json(&["status", "--lag"])["lag"]["furthest_behind_at_most"], 0);
    fleet.parti(&["seek", "eu", "--to", "first", "--execute", "--force"]).assert().code(1).stderr_eq(
        "parti: tried to seek \"eu\" of orders: its owner has it open, and would go on where it is: stop the workers, or wait until they have let it go\n",
    );
    stop(&fleet, &stopper, task);
    assert_eq!(*seen.lock().expect("no panic"), [1, 2, 3, 3, 4, 5]);

    fleet.parti(&["positions"]).assert().success().stdout_eq(str![[r"
PARTITION  STREAM  FINISHED  BEHIND AT MOST  WRITTEN[..]STATE
eu         ORDERS  5         0               [..] ago  let go

"]]);
    let dry = "eu would go on with message 4 instead of 6; --execute does it\n";
    fleet.parti(&["seek", "eu", "--to", "4"]).assert().code(1).stdout_eq(dry);
    fleet.parti(&["seek", "eu", "--to", "9", "--execute", "--force"]).assert().code(2);
    fleet.parti(&["seek", "us", "--to", "4"]).assert().code(4);
    let done = "eu goes on with message 4 instead of 6\n";
    fleet.parti(&["seek", "eu", "--to", "4", "--execute", "--force"]).assert().success().stdout_eq(done);

    fleet.parti(&["dead-letters", "ls", "DEAD"]).assert().success().stdout_eq(str![[r"
LETTER  AT[..]PARTITION  STREAM  SEQUENCE  TRIES  ERROR
1       [..]Z  eu         ORDERS  3         2      it is poison

"]]);
    let dry = "letter 1 would be published to orders.eu again; --execute does it\n";
    fleet.parti(&["dead-letters", "replay", "DEAD", "1"]).assert().code(1).stdout_eq(dry);
    for _ in 0..2 {
        fleet.parti(&["dead-letters", "replay", "DEAD", "1", "--execute", "-f"]).assert().success();
    }
    fleet.parti(&["dead-letters", "replay", "DEAD", "7"]).assert().code(4);

    let (seen, stopper, task) = consume(&fleet);
    until(|| position(&fleet)["through"] == 6);
    stop(&fleet, &stopper, task);
    assert_eq!(*seen.lock().expect("no panic"), [4, 5, 6, 6], "from where it was sought, with one letter once");
}

#[test]
fn status_tells_how_far_messages_are_behind_if_it_is_asked_to_and_what_cannot_be_read() {
    let fleet = Fleet::settled(&list(5), &[(0, 1)]);
    let lag = |fleet: &Fleet| {
        let (text, code) = fleet.answer(&["status", "--lag"]);
        assert!(code == 0 && text.contains("\nworker-0  working"), "{code}: {text}");
        let lines = text.lines().filter(|line| line.starts_with("  Lag ") || line.starts_with("  Unreadable "));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let none = "Lag         no positions: no messages follow, or they are kept elsewhere";
    assert_eq!(lag(&fleet), [none]);
    assert_eq!(fleet.json(&["status", "--lag"])["lag"]["has_positions"], false);
    let position = |partition: &str, stream: &str, through: u64| {
        let through = Sequence::new(through);
        let record = PositionRecord { stream: stream.to_owned(), through, ..PositionRecord::default() };
        fleet.write("positions", &format!("pos.{partition}"), &record.encode());
    };
    streams(&fleet);
    position("p-00", "ORDERS", 5);
    position("p-01", "ORDERS", 5);
    // It is in no list any more, so that nobody will ever finish what comes for it.
    position("q", "ORDERS", 0);
    assert_eq!(lag(&fleet), ["Lag         nothing behind in 2 partitions; 3 without a position"]);

    position("p-01", "ORDERS", 1);
    position("p-02", "ORDERS", 3);
    position("p-03", "PARCELS", 0);
    let all = "Lag         at most 6 messages behind in 4 partitions; furthest behind is p-01, by at most 4";
    assert_eq!(lag(&fleet), [format!("{all}; 1 without a position")], "one stream's messages count once");

    fleet.write("positions", "pos.p-04", b"nonsense");
    position("p-00", "GONE", 5);
    let told = fleet.json(&["status", "--lag"]);
    let unreadable = told["lag"]["unreadable"].as_array().expect("a list");
    assert!(unreadable[0]["why"].as_str().is_some_and(|why| why.starts_with("the position of p-04: ")), "{told}");
    assert_eq!(unreadable[1], serde_json::json!({ "why": "there is no stream GONE", "partitions": 1 }));
    let lag = &told["lag"];
    assert_eq!((&lag["partitions"], &lag["without_position"]), (&3.into(), &0.into()), "{lag}");
    assert_eq!((&lag["behind_at_most"], &lag["furthest_behind_at_most"]), (&6.into(), &4.into()), "{lag}");
    assert_eq!((&lag["furthest"], &lag["error"]), (&"p-01".into(), &serde_json::Value::Null), "{lag}");
    assert!(fleet.json(&["status"]).get("lag").is_none(), "it was not asked for");
}

/// A bucket for positions, and two streams with 5 and 2 messages.
fn streams(fleet: &Fleet) {
    fleet.run(async |client| {
        let jetstream = jetstream::new(client);
        let streams = [
            ("KV_parti_orders_positions", "$KV.parti_orders_positions.>", 0),
            ("ORDERS", "orders", 5),
            ("PARCELS", "parcels", 2),
        ];
        for (name, subject, messages) in streams {
            let (name, subjects) = (name.to_owned(), vec![subject.to_owned()]);
            let config = stream::Config { name, subjects, allow_direct: true, ..stream::Config::default() };
            jetstream.create_stream(config).await.expect("created");
            for _ in 0..messages {
                jetstream.publish(subject, "x".into()).await.expect("sent").await.expect("stored");
            }
        }
    });
}

/// A consumer whose handler fails for one message.
fn consume(fleet: &Fleet) -> (Seen, Stopper, JoinHandle<()>) {
    let (seen, url) = (Seen::default(), fleet.server.url());
    let told = Arc::clone(&seen);
    let (stopper, task) = fleet.run(async |client| {
        let config = Config { expected_workers: Some(1), ..quick() };
        let worker = Builder::new("orders").server(url).config(config).partition_ids(["eu"]).start();
        let delivery = Delivery::new("ORDERS", "orders.{partition}").dead_letters("dead.{partition}", 2);
        let delivery = delivery.back_off(Duration::from_millis(20), Duration::from_millis(20));
        let delivery = delivery.commit_every(1, Duration::from_millis(100));
        let consumer = delivery.start(worker.expect("valid settings"), client).await.expect("started");
        let handler = move |message: Delivered| {
            told.lock().expect("no panic").push(message.sequence().value());
            let is_poison = message.payload().as_ref() == b"poison";
            std::future::ready(if is_poison { Err(io::Error::other("it is poison")) } else { Ok(()) })
        };
        (consumer.stopper(), tokio::spawn(async move { consumer.run(handler).await.expect("it works") }))
    });
    (seen, stopper, task)
}

fn stop(fleet: &Fleet, stopper: &Stopper, task: JoinHandle<()>) {
    stopper.stop();
    fleet.run(async |_| task.await.expect("no panic"));
}

fn position(fleet: &Fleet) -> serde_json::Value {
    let (text, code) = fleet.answer(&["positions", "--json"]);
    if code != 0 {
        return serde_json::Value::Null;
    }
    let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
    document["positions"][0].clone()
}

fn until(enough: impl Fn() -> bool) {
    let begun = Instant::now();
    while !enough() {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
