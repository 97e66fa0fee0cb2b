//! What a client may not do is said when delivery begins, with the subject and what to do.

use std::time::Instant;

use async_nats::jetstream::{self, stream};
use parti_nats::{Builder, Delivery, DeliveryError, GroupName, Permissions};

use crate::PATIENCE;
use crate::odd::orders;
use crate::support::{Server, quick};

fn delivery() -> Delivery {
    Delivery::new("ORDERS", "orders.{partition}").dead_letters("dead.{partition}", 3)
}

/// How delivery begins for a client that may do only this: it says what is missing, long before its patience is over.
async fn begin(allowed: &Permissions, retention: stream::RetentionPolicy) -> Result<(), DeliveryError> {
    let users = format!("{{ user: all, password: all }}, {{ user: one, password: one, permissions: {allowed} }}");
    let server = Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {users} ] }}\n"));
    let connect = async |name: &str| {
        let options = async_nats::ConnectOptions::with_user_and_password(name.into(), name.into());
        options.connect(server.url()).await.expect("it is let in")
    };
    let all = connect("all").await;
    let jetstream = jetstream::new(all.clone());
    jetstream.create_stream(stream::Config { retention, ..orders() }).await.expect("a new stream");
    let dead = stream::Config { name: "DEAD".into(), subjects: vec!["dead.*".into()], ..stream::Config::default() };
    jetstream.create_stream(dead).await.expect("a new stream");
    let worker =
        Builder::new("orders").client(all).config(quick()).partition_ids(["eu"]).start().expect("valid settings");
    let one = connect("one").await;
    let begun = tokio::time::timeout(PATIENCE, delivery().start(worker, one)).await.expect("in time");
    let dead_letters = jetstream.get_stream("DEAD").await.expect("it is there").cached_info().state.messages;
    assert_eq!(dead_letters, 0, "a check stores nothing");
    begun.map(drop)
}

async fn each_is_named(retention: stream::RetentionPolicy, is_needed: impl Fn(&str) -> bool) {
    let full = delivery().permissions(&GroupName::new("orders").expect("a valid name")).expect("a template");
    let created = |subject: &&String| !subject.contains(".STREAM.CREATE.");
    for missing in full.publish.iter().filter(created).filter(|subject| is_needed(subject)) {
        let publish = full.publish.iter().filter(|subject| *subject != missing).cloned().collect();
        let begun_at = Instant::now();
        match begin(&Permissions { publish, ..full.clone() }, retention).await {
            Err(error @ DeliveryError::NotAllowed { .. }) => {
                assert!(error.to_string().contains(missing.as_str()), "without {missing}: {error}");
            }
            other => panic!("without {missing}: {other:?} after {:?}", begun_at.elapsed()),
        }
    }
    begin(&full, retention).await.expect("everything is allowed");
}

#[tokio::test]
async fn what_a_client_may_not_do_is_named_when_delivery_from_a_log_begins() {
    let of_queue = ["CONSUMER.INFO.", "CONSUMER.RESET.", "CONSUMER.NAMES.", "$JS.ACK."];
    each_is_named(stream::RetentionPolicy::Limits, |subject| !of_queue.iter().any(|part| subject.contains(part))).await;
}

#[tokio::test]
async fn what_a_client_may_not_do_is_named_when_delivery_from_a_queue_begins() {
    // What resets a consumer is not tried: a server is silent where there is none.
    let not_needed = ["MSG.GET.ORDERS", "DIRECT.GET.", "CONSUMER.RESET."];
    each_is_named(stream::RetentionPolicy::WorkQueue, |subject| !not_needed.iter().any(|part| subject.contains(part)))
        .await;
}
