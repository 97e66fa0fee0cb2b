//! A group seen from outside, on a real server.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use parti_core::{Instance, MemberRecord, Record};
use parti_nats::{
    Bucket, Builder, Config, Control, ControlRecord, ErrorKind, Eviction, GroupName, Guard, Handle, Key, Observed,
    Observer, Operator, Partition, PartitionBucket, PartitionList, Picture, Presence, Slot, Token, Weight,
    create_buckets,
};
use support::{Server, quick};
use tokio::task::JoinHandle;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn group() -> GroupName {
    GroupName::new("orders").expect("a valid name")
}

async fn client(server: &Server) -> Client {
    async_nats::connect(server.url()).await.expect("a server")
}

async fn observe(server: &Server) -> Observer {
    Observer::open(client(server).await, &group()).await.expect("a group")
}

/// A worker whose handlers do nothing, but let go when they are asked to.
fn work(server: &Server, slot: u32, config: Config) -> (Handle, parti_nats::Stopper) {
    let config = Config { preferred_slot: Some(Slot::new(slot)), ..config };
    let handle = Builder::new("orders").server(server.url()).config(config).partition_bucket().start();
    let handle = handle.expect("valid settings");
    let stopper = handle.stopper();
    (handle, stopper)
}

async fn keep(guard: Guard) {
    guard.released().await;
}

fn run(mut handle: Handle) -> JoinHandle<()> {
    tokio::spawn(async move { handle.run(keep).await.expect("it works") })
}

async fn write_list(server: &Server, partitions: u32) {
    let bucket = PartitionBucket::open(client(server).await, &group(), 1).await.expect("opened");
    let weighted = (0..partitions).map(|number| (format!("p-{number:02}"), 1 + number % 3));
    let list = PartitionList::from_pairs(weighted).expect("a list");
    bucket.replace(&list, parti_nats::Revision::new(0)).await.expect("written");
}

fn is_settled(picture: &Picture) -> bool {
    picture.waits_for().is_empty() && picture.generation().value() > 0
}

/// The last write of each of the group's buckets.
async fn last_writes(server: &Server) -> BTreeMap<&'static str, u64> {
    let jetstream = jetstream::new(client(server).await);
    let mut last = BTreeMap::new();
    for bucket in ["members", "plan", "partitions"] {
        let stream = jetstream.get_stream(format!("KV_parti_orders_{bucket}")).await.expect("a bucket");
        last.insert(bucket, stream.cached_info().state.last_sequence);
    }
    last
}

#[tokio::test]
async fn a_group_is_seen_as_its_workers_see_it_and_looking_writes_nothing() {
    let server = Server::start();
    write_list(&server, 12).await;
    let config = Config { expected_workers: Some(3), ..quick() };
    let capacious = Config { capacity: 2, labels: [("zone".to_owned(), "a".to_owned())].into(), ..config.clone() };
    let workers = [work(&server, 0, config.clone()), work(&server, 1, capacious), work(&server, 7, config)];
    let readers = workers.each_ref().map(|(handle, _)| handle.assignment_reader());
    let (tasks, stoppers): (Vec<_>, Vec<_>) =
        workers.into_iter().map(|(handle, stopper)| (run(handle), stopper)).unzip();
    create_buckets(&client(&server).await, &group(), 1).await.expect("created");

    let observer = observe(&server).await;
    let picture = observer.wait_for(DEADLINE, is_settled).await.expect("settled");

    let owned: BTreeMap<String, Token> = readers
        .iter()
        .flat_map(|reader| reader.read().iter().map(|(id, token)| (id.to_string(), token)).collect::<Vec<_>>())
        .collect();
    let seen = picture
        .partitions()
        .into_iter()
        .map(|partition| (partition.id.to_string(), partition.owner.expect("it is owned").token));
    assert_eq!(owned, seen.collect());
    let shown = |slot: u32| &picture.workers[&Slot::new(slot)];
    assert_eq!(picture.workers.keys().map(|slot| slot.value()).collect::<Vec<_>>(), [0, 1, 7]);
    assert_eq!((shown(1).record.capacity, shown(1).record.labels["zone"].as_str()), (2, "a"));
    assert!(picture.workers.values().all(|worker| picture.presence(worker) == Presence::Working));
    assert!(picture.workers.values().all(|worker| picture.age(worker.written).expect("dated") < DEADLINE));
    assert!(picture.acting_leader().is_some() && picture.head.as_ref().is_some_and(|head| head.workers == 3));
    assert_eq!(picture.partitions()[2].weight, Weight::new(3).expect("not 0"));

    // Who restarts leaves its record behind; nobody writes any more.
    stoppers.iter().for_each(parti_nats::Stopper::restart);
    for task in tasks {
        task.await.expect("no panic");
    }
    drop(observer);
    let before = last_writes(&server).await;
    let observer = observe(&server).await;
    let picture = observer.snapshot();
    assert!(picture.workers.values().all(|worker| picture.presence(worker) == Presence::Restarting));
    assert_eq!(picture.workers.len(), 3);
    observer.wait_for(Duration::from_secs(1), |_| false).await.expect_err("nothing was to come");
    assert_eq!(last_writes(&server).await, before);
}

#[tokio::test]
async fn what_handlers_report_of_their_load_is_seen_in_place_of_the_weights_in_the_list() {
    let server = Server::start();
    let bucket = PartitionBucket::open(client(&server).await, &group(), 1).await.expect("opened");
    let ids = ["p-0", "p-1", "p-2", "p-3"].map(|id| id.parse().expect("a valid id"));
    let list = PartitionList::new(ids.map(|id| Partition::new(id).measured()).into()).expect("a list");
    bucket.replace(&list, parti_nats::Revision::new(0)).await.expect("written");
    let config = Config { expected_workers: Some(1), load_half_life: Duration::from_secs(1), ..quick() };
    let (mut handle, _stopper) = work(&server, 0, config);
    let report = |guard: Guard| async move {
        let load = if guard.partition().as_str() == "p-0" { 700 } else { 100 };
        while guard.may_work().await {
            guard.report_load(load);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::spawn(async move { handle.run(report).await.expect("it works") });
    create_buckets(&client(&server).await, &group(), 1).await.expect("created");

    let weights = |picture: &Picture| picture.partitions().iter().map(|of| of.weight.get()).collect::<Vec<_>>();
    let observer = observe(&server).await;
    let seen = observer.wait_for(DEADLINE, |picture| weights(picture) == [700, 100, 100, 100]).await;

    let picture = seen.expect("it is measured");
    assert_eq!(picture.load_of(&picture.workers[&Slot::new(0)]), 1_000);
    assert_eq!(picture.generation().value(), 1, "for one worker nothing is planned anew");
}

#[tokio::test]
async fn changes_are_told_as_they_come_and_go_on_after_a_restart_of_the_server() {
    let mut server = Server::start();
    create_buckets(&client(&server).await, &group(), 1).await.expect("created");
    let observer = observe(&server).await;
    assert!(observer.snapshot().live && observer.snapshot().list.is_none());
    let mut changes = observer.changes();
    let jetstream = jetstream::new(client(&server).await);
    let pause = Key::Control(Control::Pause);
    let subject = "$KV.parti_orders_members.control.pause";
    let wish = r#"{"v":1,"by":"ada","reason":"a <b>bad</b> day","new_field":[1]}"#;
    let stored = jetstream.publish(subject, wish.into()).await.expect("sent").await.expect("stored");
    let told = tokio::time::timeout(DEADLINE, changes.next()).await.expect("in time");
    assert_eq!(told, Some(Observed::Written { key: pause, revision: parti_nats::Revision::new(stored.sequence) }));
    assert_eq!(observer.snapshot().wishes[&Control::Pause].record.by, "ada");

    server.kill();
    observer.wait_for(DEADLINE, |picture| !picture.live).await.expect("noticed");
    assert!(observer.snapshot().wishes.contains_key(&Control::Pause), "the last that was known is shown");
    server.resume();
    observer.wait_for(DEADLINE, |picture| picture.live).await.expect("back");
    let jetstream = jetstream::new(client(&server).await);
    let deleted = jetstream::message::PublishMessage::build().header("KV-Operation", "DEL");
    jetstream.send_publish(subject, deleted).await.expect("sent").await.expect("stored");
    observer.wait_for(DEADLINE, |picture| picture.wishes.is_empty()).await.expect("seen");
    let seen = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(changes.next()).flatten());
    let seen: Vec<_> = seen.collect();
    for bucket in Bucket::ALL {
        let lost = seen.iter().position(|change| *change == Observed::Lost(bucket));
        let read = seen.iter().position(|change| *change == Observed::Read(bucket));
        assert!(lost.is_some() && lost < read, "{seen:?}");
    }
}

#[tokio::test]
async fn an_operator_wishes_and_takes_it_back_and_evicts_nobody_who_is_there() {
    let server = Server::start();
    write_list(&server, 6).await;
    let config = Config { expected_workers: Some(2), lease: Duration::from_secs(1), ..quick() };
    let (one, stop_one) = work(&server, 0, config.clone());
    let (two, stop_two) = work(&server, 1, config);
    let (one, two) = (run(one), run(two));
    create_buckets(&client(&server).await, &group(), 1).await.expect("created");
    let observer = observe(&server).await;
    observer.wait_for(DEADLINE, |picture| is_settled(picture) && picture.workers.len() == 2).await.expect("settled");

    let operator = Operator::open(client(&server).await, &group()).await.expect("opened");
    let wish = ControlRecord { by: "ada".into(), reason: "disks".into(), hold_ms: None };
    let drain = Control::Drain(Slot::new(1));
    operator.wish(drain, wish.clone()).await.expect("written");
    operator.wish(drain, ControlRecord { reason: "more disks".into(), ..wish.clone() }).await.expect("written");
    let drained = |picture: &Picture| picture.owned_by(Slot::new(1)) == 0 && is_settled(picture);
    let picture = observer.wait_for(DEADLINE, drained).await.expect("drained");
    assert_eq!(picture.wishes[&drain].record.reason, "more disks");
    assert!(operator.withdraw(drain).await.expect("written") && !operator.withdraw(drain).await.expect("known"));
    let shared = |picture: &Picture| picture.owned_by(Slot::new(1)) > 0 && is_settled(picture);
    observer.wait_for(DEADLINE, shared).await.expect("back");
    assert_eq!(operator.evict(Slot::new(1)).await.expect("looked at"), Eviction::Alive);
    assert_eq!(operator.evict(Slot::new(9)).await.expect("looked at"), Eviction::Nobody);

    for (task, stopper) in [(one, stop_one), (two, stop_two)] {
        stopper.stop();
        task.await.expect("no panic");
    }
}

#[tokio::test]
async fn who_is_silent_for_its_lease_is_evicted_and_who_writes_meanwhile_is_not() {
    let server = Server::start();
    let all = client(&server).await;
    create_buckets(&all, &group(), 1).await.expect("created");
    let jetstream = jetstream::new(all);
    let member = |beat| {
        let record = MemberRecord { lease_ms: Some(1_000), beat, ..MemberRecord::new(Instance::new(1)) };
        Record::Member(std::sync::Arc::new(record)).encode()
    };
    let write = async |slot: u32, beat: u64| {
        let subject = format!("$KV.parti_orders_members.slot.{slot}");
        jetstream.publish(subject, member(beat).into()).await.expect("sent").await.expect("stored");
    };
    for slot in [1, 2] {
        write(slot, 0).await;
    }
    let operator = Operator::open(client(&server).await, &group()).await.expect("opened");
    let renewing = async {
        for beat in 1..5 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            write(2, beat).await;
        }
    };
    let (gone, alive, ()) = tokio::join!(operator.evict(Slot::new(1)), operator.evict(Slot::new(2)), renewing);
    assert_eq!((gone.expect("done"), alive.expect("looked at")), (Eviction::Done, Eviction::Alive));
    assert_eq!(operator.evict(Slot::new(1)).await.expect("looked at"), Eviction::Nobody);
}

#[tokio::test]
async fn garbage_is_shown_as_such_and_does_no_harm() {
    let server = Server::start();
    let all = client(&server).await;
    create_buckets(&all, &group(), 1).await.expect("created");
    let jetstream = jetstream::new(all);
    let huge = format!("{{\"v\":1,\"phase\":\"{}\"}}", "\\u001b]0;\u{202e}<script>".repeat(40_000));
    let wish = serde_json::json!({ "v": 1, "by": "\u{1b}[2J<img src=x>", "reason": "x".repeat(900_000) }).to_string();
    let stored = [
        ("members", "slot.3", huge.as_bytes()),
        ("members", "slot.4", b"\x00\xff\xfe"),
        ("members", "control.pause", wish.as_bytes()),
        ("members", "somebody.elses", b"own"),
        ("plan", "assign.4", br#"{"v":9,"anything":"else"}"#),
        ("plan", "assign.5", br#"{"v":1,"term":1,"generation":1,"tenure":"x","owned":[]}"#),
        ("partitions", "list", br#"{"v":1,"partitions":[["\u001b[31m",1]]}"#),
    ];
    for (bucket, key, value) in stored {
        let subject = format!("$KV.parti_orders_{bucket}.{key}");
        jetstream.publish(subject, value.to_vec().into()).await.expect("sent").await.expect("stored");
    }
    let observer = observe(&server).await;
    let picture = observer.snapshot();
    let keys: Vec<_> = picture.unreadable.iter().map(|one| (one.key.to_string(), one.newer)).collect();
    let expected = [("slot.3", false), ("slot.4", false), ("assign.4", true), ("assign.5", false)];
    assert_eq!(keys, expected.map(|(key, newer)| (key.to_owned(), newer)));
    let list = picture.list.clone().expect("there is one").partitions.expect_err("it is none");
    let words = picture.unreadable.iter().map(|one| one.why.clone()).chain([list]);
    for why in words {
        assert!(why.chars().count() <= 301 && !why.chars().any(|c| c.is_control() || c == '\u{202e}'), "{why}");
    }
    assert_eq!(picture.wishes[&Control::Pause].record.reason.len(), 900_000);
    assert!(picture.partitions().is_empty() && !picture.waits_for().is_empty());
    assert!(
        picture.waits_for().iter().any(|waiting| waiting.to_string().starts_with("4 stored values cannot be read"))
    );
}

#[tokio::test]
async fn a_group_that_is_not_there_is_an_error_that_says_so_and_makes_nothing() {
    let server = Server::start();
    let error = Observer::open(client(&server).await, &group()).await.expect_err("there is none");
    assert!(matches!(error.kind(), ErrorKind::NoGroup { .. }), "{error}");
    assert!(error.to_string().contains("orders") && error.to_string().contains("KV_parti_orders_members"), "{error}");
    let jetstream = jetstream::new(client(&server).await);
    let there = jetstream.get_stream("KV_parti_orders_members").await;
    assert!(there.is_err(), "it was made");
}
