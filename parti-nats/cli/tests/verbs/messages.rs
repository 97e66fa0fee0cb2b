//! Positions, seeks and dead letters, of messages that a real consumer has worked on.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parti_nats::async_nats::jetstream::{self, stream};
use parti_nats::{Builder, Config, Delivered, Delivery, Stopper};
use snapbox::str;
use tokio::task::JoinHandle;

use crate::fleet::{DEADLINE, Fleet};
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
