//! What the protocol relies on, pinned on a real server, alone and in a cluster of three.
#![allow(clippy::large_futures)] // a test's world is made once

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use futures_util::future::join_all;
use parti_core::{
    AssignmentRecord, Bucket, Config, Event, Generation, GroupName, Incarnation, Instance, Interest, Key, KvEvent,
    LeaderRecord, MemberPhase, MemberRecord, Outcome, Position, ProbeOutcome, Record, Revision, Slot, Tenure, Term,
    WatchId, Write,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bucket::{self, Names};
use crate::connection::{Connection, parse_servers};
use crate::error::ErrorKind;
use crate::kv::Store;
use crate::probe;
use crate::support::{Cluster, Server};
use crate::watch::{self, Watch};

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The servers of a test, and how many copies of a bucket they keep.
struct Servers {
    urls: String,
    replicas: usize,
    single: Option<Server>,
    _cluster: Option<Cluster>,
}

/// A group with its buckets, and one connection to it.
struct World {
    servers: Servers,
    connection: Connection,
    group: GroupName,
    store: Store,
}

impl Servers {
    fn single() -> Self {
        let server = Server::start();
        Self { urls: server.url(), replicas: 1, single: Some(server), _cluster: None }
    }

    fn cluster() -> Self {
        let cluster = Cluster::start();
        Self { urls: cluster.urls(), replicas: 3, single: None, _cluster: Some(cluster) }
    }
}

impl World {
    async fn new(servers: Servers) -> Self {
        let group = GroupName::new("orders").expect("a valid name");
        let connection = connect(&servers.urls).await;
        // A cluster takes a moment until it can place a bucket.
        let created = async {
            while let Err(error) = bucket::ensure(&connection.jetstream, &group, servers.replicas).await {
                assert!(error.is_transient(), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("buckets", created).await;
        let store = Store::new(connection.clone(), &group);
        Self { servers, connection, group, store }
    }

    /// Stores over `count` connections of their own.
    async fn stores(&self, count: usize) -> Vec<Store> {
        let connect = async |_| Store::new(connect(&self.servers.urls).await, &self.group);
        join_all((0..count).map(connect)).await
    }

    async fn write(&self, write: Write) -> Outcome {
        self.store.execute(&write).await
    }

    async fn commit(&self, write: Write) -> Revision {
        match self.write(write.clone()).await {
            Outcome::Committed(revision) => revision,
            other => panic!("{write:?}: {other:?}"),
        }
    }

    /// Stores any bytes under a key, as an operator with another tool could.
    async fn put(&self, key: Key, bytes: &'static [u8]) -> Revision {
        let subject = format!("{}{key}", Names::new(&self.group, key.bucket()).stored);
        let acknowledged = self.connection.jetstream.publish(subject, bytes.into()).await.expect("sent").await;
        Revision::new(acknowledged.expect("stored").sequence)
    }

    fn watch(&self, bucket: Bucket, interest: Interest) -> Watched {
        self.watch_every(bucket, interest, Duration::from_secs(600))
    }

    /// A watch that reads the store again at this mean interval where nothing is seen to be lost.
    fn watch_every(&self, bucket: Bucket, interest: Interest, interval: Duration) -> Watched {
        let (sender, events) = mpsc::channel(1024);
        let request = watch::Request { watch: WatchId::new(7), bucket, interest };
        let mut tasks = JoinSet::new();
        tasks.spawn(Watch::new(self.connection.clone(), &self.group, request, sender, interval).run());
        Watched { events, incarnation: None, last: Revision::default(), _tasks: tasks }
    }
}

/// A watch, and what it has shown.
struct Watched {
    events: mpsc::Receiver<Event>,
    incarnation: Option<Incarnation>,
    /// Up to which revision it was complete when it last said so.
    last: Revision,
    _tasks: JoinSet<()>,
}

/// What a watch shows, without what is the same in all tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Entry(Key, Revision),
    Deleted(Key, Revision),
    Undecodable(Key, Revision),
    CaughtUp,
    Lost,
}

impl Watched {
    async fn next(&mut self) -> Shown {
        match within("news of a watch", self.events.recv()).await {
            Some(Event::Kv(event)) => match event {
                KvEvent::Entry { watch, key, revision, .. } if watch == WatchId::new(7) => Shown::Entry(key, revision),
                KvEvent::Deleted { key, revision, .. } => Shown::Deleted(key, revision),
                KvEvent::Undecodable { key, revision, .. } => Shown::Undecodable(key, revision),
                KvEvent::CaughtUp { incarnation, last, .. } => {
                    (self.incarnation, self.last) = (Some(incarnation), last);
                    Shown::CaughtUp
                }
                KvEvent::WatchLost { .. } => Shown::Lost,
                other => panic!("not of this watch: {other:?}"),
            },
            other => panic!("not of a watch: {other:?}"),
        }
    }

    /// The next thing that is not just another confirmation that nothing was missed.
    async fn next_change(&mut self) -> Shown {
        loop {
            match self.next().await {
                Shown::CaughtUp => {}
                other => return other,
            }
        }
    }

    async fn until_caught_up(&mut self) -> Vec<Shown> {
        let mut shown = Vec::new();
        loop {
            match self.next().await {
                Shown::CaughtUp => return shown,
                other => shown.push(other),
            }
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(DEADLINE, future).await else { panic!("no {what} within {DEADLINE:?}") };
    done
}

async fn connect(urls: &str) -> Connection {
    let servers = parse_servers(&[urls.to_owned()]).expect("valid URLs");
    within("connection", Connection::open(&servers, ConnectOptions::new(), &config())).await.expect("a server")
}

/// A long lease, so that no request is given up on a slow machine.
fn config() -> Config {
    Config { lease: Duration::from_secs(10), ..Config::default() }
}

fn slot(number: u32) -> Key {
    Key::Slot(Slot::new(number))
}

/// A record that fits `key`, and tells apart who wrote it.
fn record(key: Key, writer: u64) -> Record {
    let (slot, tenure, instance) = (Slot::new(0), Tenure::default(), Instance::new(writer));
    match key {
        Key::Leader => Record::Leader(LeaderRecord { slot, tenure, instance }),
        Key::Slot(_) => Record::Member(Arc::new(MemberRecord {
            tenure: None,
            instance,
            phase: MemberPhase::Active,
            applied: Position::default(),
            generation: Generation::default(),
            releasing: Vec::new(),
            capacity: 1,
            labels: BTreeMap::new(),
            software: String::new(),
            beat: 1,
        })),
        Key::Assign(_) => Record::Assignment(Arc::new(AssignmentRecord {
            term: Term::new(1),
            generation: Generation::new(writer),
            tenure,
            owned: Vec::new(),
            releasing: Vec::new(),
            incoming: Vec::new(),
        })),
        Key::Cluster | Key::Control(_) => unreachable!("no test writes it"),
    }
}

fn create(key: Key, writer: u64) -> Write {
    Write::Create { key, record: record(key, writer) }
}

fn update(key: Key, writer: u64, expected: Revision) -> Write {
    Write::Update { key, record: record(key, writer), expected }
}

fn append(number: u64, writer: u64, expected_last: u64) -> Write {
    let key = Key::Assign(Slot::new(u32::try_from(number).expect("few slots")));
    Write::Append { key, record: record(key, writer), expected_last: Revision::new(expected_last) }
}

fn only_winner(outcomes: &[Outcome]) -> Revision {
    let winners: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Committed(revision) => Some(*revision),
            Outcome::Conflict => None,
            Outcome::Unknown => panic!("an unknown outcome though nothing failed: {outcomes:?}"),
        })
        .collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    winners[0]
}

/// Lets all stores try the same write at the same time.
async fn race(stores: &[Store], write: impl Fn(u64) -> Write) -> Revision {
    let tries = stores.iter().zip(1..).map(async |(store, writer)| store.execute(&write(writer)).await);
    only_winner(&join_all(tries).await)
}

async fn races_have_one_winner(world: World) {
    let stores = world.stores(8).await;
    for number in 0..20 {
        let key = slot(number);
        let created = race(&stores, |writer| create(key, writer)).await;
        let updated = race(&stores, |writer| update(key, writer, created)).await;
        let deleted = race(&stores, |_| Write::Delete { key, expected: updated }).await;
        // Over the delete marker, too.
        let again = race(&stores, |writer| create(key, writer)).await;
        assert!(created < updated && updated < deleted && deleted < again);
        assert_eq!(world.write(update(key, 9, deleted)).await, Outcome::Conflict);
    }
}

#[tokio::test]
async fn races_have_one_winner_alone() {
    races_have_one_winner(World::new(Servers::single()).await).await;
}

#[tokio::test]
async fn races_have_one_winner_in_a_cluster() {
    races_have_one_winner(World::new(Servers::cluster()).await).await;
}

async fn appends_form_one_chain(world: World) {
    let stores = world.stores(8).await;
    for last in 0..40 {
        let appended = race(&stores, |writer| append(writer, writer, last)).await;
        assert_eq!(appended, Revision::new(last + 1));
    }
    // One that has not seen the last write fails, also one that believes the bucket to be empty.
    for stale in [0, 1, 39] {
        assert_eq!(world.write(append(0, 1, stale)).await, Outcome::Conflict, "{stale}");
    }
}

#[tokio::test]
async fn appends_form_one_chain_alone() {
    appends_form_one_chain(World::new(Servers::single()).await).await;
}

#[tokio::test]
async fn appends_form_one_chain_in_a_cluster() {
    appends_form_one_chain(World::new(Servers::cluster()).await).await;
}

#[tokio::test]
async fn a_delete_that_expects_nothing_needs_a_key_that_was_never_written() {
    let world = World::new(Servers::single()).await;
    let delete = |key| Write::Delete { key, expected: Revision::new(0) };
    world.commit(delete(slot(1))).await;
    assert_eq!(world.write(delete(slot(1))).await, Outcome::Conflict);
    world.commit(create(slot(1), 1)).await;
    assert_eq!(world.write(delete(slot(1))).await, Outcome::Conflict);
}

#[tokio::test]
async fn a_create_needs_a_key_without_a_value() {
    let world = World::new(Servers::single()).await;
    let created = world.commit(create(slot(1), 1)).await;
    assert_eq!(world.write(create(slot(1), 2)).await, Outcome::Conflict);
    world.commit(Write::Delete { key: slot(1), expected: created }).await;
    world.commit(create(slot(1), 2)).await;
    assert_eq!(world.write(create(slot(1), 3)).await, Outcome::Conflict);
}

#[tokio::test]
async fn a_write_without_a_connection_is_unknown_at_once_and_never_applied() {
    let mut world = World::new(Servers::single()).await;
    world.servers.single.as_mut().expect("a single server").kill();
    within("break", world.connection.broken_since(0)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(world.write(create(slot(1), 1)).await, Outcome::Unknown);
    assert!(begun.elapsed() < world.connection.request_timeout / 2, "{:?}", begun.elapsed());

    world.servers.single.as_mut().expect("a single server").resume();
    assert!(within("reconnect", world.connection.wait_until_up()).await);
    world.commit(create(slot(1), 2)).await;
}

#[tokio::test]
async fn a_watch_shows_everything_then_says_so_then_follows() {
    let world = World::new(Servers::single()).await;
    let mut empty = world.watch(Bucket::Plan, Interest::All);
    assert_eq!(empty.until_caught_up().await, []);

    let first = world.commit(create(slot(1), 1)).await;
    let leader = world.commit(create(Key::Leader, 1)).await;
    let deleted = world.commit(Write::Delete { key: slot(1), expected: first }).await;
    let foreign = world.put(slot(2), b"not a record").await;
    let mut all = world.watch(Bucket::Members, Interest::All);
    let mut some = world.watch(Bucket::Members, Interest::Keys([slot(1), slot(3)].into()));
    let stored =
        [Shown::Entry(Key::Leader, leader), Shown::Deleted(slot(1), deleted), Shown::Undecodable(slot(2), foreign)];
    assert_eq!(all.until_caught_up().await, stored);
    assert_eq!(some.until_caught_up().await, [Shown::Deleted(slot(1), deleted)]);

    let renewed = world.commit(update(Key::Leader, 2, leader)).await;
    let third = world.commit(create(slot(3), 1)).await;
    let gone = world.commit(Write::Delete { key: slot(3), expected: third }).await;
    for change in [Shown::Entry(Key::Leader, renewed), Shown::Entry(slot(3), third), Shown::Deleted(slot(3), gone)] {
        assert_eq!(all.next_change().await, change);
    }
    for change in [Shown::Entry(slot(3), third), Shown::Deleted(slot(3), gone)] {
        assert_eq!(some.next_change().await, change);
    }
    assert_eq!(empty.incarnation.is_some(), all.incarnation.is_some());
    assert_eq!(all.incarnation, some.incarnation);
}

#[tokio::test]
async fn a_watch_of_all_keys_shows_a_writers_log_in_order_and_without_gaps() {
    const KEYS: u64 = 40;
    const WRITES: u64 = 600;
    let world = World::new(Servers::single()).await;
    let writing = async {
        for last in 0..WRITES {
            world.commit(append(last % KEYS, 1, last)).await;
        }
    };
    // Each begins at another place in the log, while it grows.
    let watching = async {
        let mut begun = 0;
        let mut last = 0;
        while last < WRITES {
            let mut watched = world.watch(Bucket::Plan, Interest::All);
            let mut shown: Vec<u64> = watched.until_caught_up().await.into_iter().map(revision).collect();
            last = watched.last.value();
            assert!(shown.is_sorted_by(|one, next| one < next), "{shown:?}");
            // Of each key the last write so far; what was written since follows.
            let expected: Vec<u64> = (last.saturating_sub(KEYS) + 1..=last).collect();
            assert_eq!(shown.split_off(shown.len() - expected.len()), expected);
            if last + 20 < WRITES {
                for next in last + 1..=last + 20 {
                    assert_eq!(revision(watched.next_change().await), next);
                }
            }
            begun += 1;
        }
        begun
    };
    let ((), begun) = within("the log", async { tokio::join!(writing, watching) }).await;
    assert!(begun > 2, "the writer was done before {begun} watches had begun");
}

fn revision(shown: Shown) -> u64 {
    match shown {
        Shown::Entry(_, revision) | Shown::Deleted(_, revision) | Shown::Undecodable(_, revision) => revision.value(),
        Shown::CaughtUp | Shown::Lost => panic!("no change: {shown:?}"),
    }
}

/// Makes the server silent about accepted writes, or has it tell of them again.
async fn repeat_writes(world: &World, bucket: Bucket, repeat: bool) {
    let names = Names::new(&world.group, bucket);
    let stream = world.connection.jetstream.get_stream(&names.stream).await.expect("the bucket's stream");
    let mut config = stream.cached_info().config.clone();
    config.republish = repeat.then(|| bucket::republish(&names));
    world.connection.jetstream.update_stream(config).await.expect("an updated stream");
}

#[tokio::test]
async fn a_watch_that_has_missed_something_finds_out_with_the_next_news() {
    for interest in [Interest::All, Interest::Keys([slot(1)].into())] {
        let world = World::new(Servers::single()).await;
        let mut watched = world.watch(Bucket::Members, interest.clone());
        watched.until_caught_up().await;
        // The reading that follows a new subscription is not what finds it.
        watched.until_caught_up().await;

        repeat_writes(&world, Bucket::Members, false).await;
        let one = world.commit(create(slot(1), 1)).await;
        let missed = world.commit(create(slot(2), 1)).await;
        repeat_writes(&world, Bucket::Members, true).await;
        let heard = world.commit(update(slot(1), 1, one)).await;

        if interest == Interest::All {
            assert_eq!(watched.next_change().await, Shown::Entry(slot(2), missed));
            assert_eq!(watched.next_change().await, Shown::Entry(slot(1), heard));
        } else {
            assert_eq!(watched.next().await, Shown::Entry(slot(1), heard));
            assert_eq!(watched.next().await, Shown::CaughtUp);
        }
    }
}

#[tokio::test]
async fn a_watch_that_hears_nothing_looks_from_time_to_time() {
    let world = World::new(Servers::single()).await;
    let mut watched = world.watch_every(Bucket::Members, Interest::All, Duration::from_millis(200));
    watched.until_caught_up().await;
    repeat_writes(&world, Bucket::Members, false).await;
    let missed = world.commit(create(slot(1), 1)).await;
    assert_eq!(watched.next_change().await, Shown::Entry(slot(1), missed));
}

#[tokio::test]
async fn a_watch_outlives_its_server() {
    let mut world = World::new(Servers::single()).await;
    let one = world.commit(create(slot(1), 1)).await;
    let mut watched = world.watch(Bucket::Members, Interest::All);
    watched.until_caught_up().await;

    world.servers.single.as_mut().expect("a single server").kill();
    assert_eq!(watched.next_change().await, Shown::Lost);
    world.servers.single.as_mut().expect("a single server").resume();
    assert_eq!(watched.next().await, Shown::Entry(slot(1), one));
    assert_eq!(watched.next().await, Shown::CaughtUp);
    let two = world.commit(create(slot(2), 1)).await;
    assert_eq!(watched.next_change().await, Shown::Entry(slot(2), two));
}

#[tokio::test]
async fn a_watch_notices_that_the_bucket_was_made_anew() {
    for interest in [Interest::All, Interest::Keys([slot(1), slot(2)].into())] {
        let world = World::new(Servers::single()).await;
        let one = world.commit(create(slot(1), 1)).await;
        world.commit(update(slot(1), 2, one)).await;
        let mut watched = world.watch(Bucket::Members, interest);
        watched.until_caught_up().await;
        let before = watched.incarnation;

        let names = Names::new(&world.group, Bucket::Members);
        world.connection.jetstream.delete_stream(&names.stream).await.expect("deleted");
        bucket::ensure(&world.connection.jetstream, &world.group, 1).await.expect("made anew");
        let anew = world.commit(create(slot(1), 3)).await;
        assert_eq!(anew, one);
        assert_eq!(watched.next_change().await, Shown::Lost);
        assert_eq!(watched.until_caught_up().await, [Shown::Entry(slot(1), anew)]);
        assert!(watched.incarnation > before, "{:?} {before:?}", watched.incarnation);
        let two = world.commit(create(slot(2), 3)).await;
        assert_eq!(watched.next_change().await, Shown::Entry(slot(2), two));
    }
}

#[tokio::test]
async fn a_group_bucket_is_a_proper_key_value_bucket() {
    let world = World::new(Servers::single()).await;
    let revision = world.commit(create(slot(1), 1)).await;
    let name = world.group.bucket_name(Bucket::Members);
    let bucket = world.connection.jetstream.get_key_value(name).await.expect("a bucket");
    let entry = bucket.entry("slot.1").await.expect("readable").expect("there");
    assert_eq!(entry.revision, revision.value());
    assert_eq!(bucket.status().await.expect("a status").history(), 1);
    bucket.delete("slot.1").await.expect("deletable");
    world.commit(create(slot(1), 2)).await;
}

#[tokio::test]
async fn a_bucket_that_does_not_fit_is_refused_with_what_to_change() {
    let server = Server::start();
    let connection = connect(&server.url()).await;
    let group = GroupName::new("orders").expect("a valid name");
    let bucket = group.bucket_name(Bucket::Plan);
    let foreign = async_nats::jetstream::kv::Config { bucket, max_age: Duration::from_secs(60), ..Default::default() };
    connection.jetstream.create_key_value(foreign).await.expect("a bucket of someone else");

    let error = bucket::ensure(&connection.jetstream, &group, 1).await.expect_err("it does not fit");
    let ErrorKind::Bucket { stream, mismatches, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(stream, "KV_parti_orders_plan");
    let settings: Vec<_> = mismatches.iter().map(|mismatch| mismatch.setting).collect();
    assert_eq!(settings, ["republish", "max_age"]);

    // Doing what the error says helps.
    let names = Names::new(&group, Bucket::Plan);
    let mut config = connection.jetstream.get_stream(stream).await.expect("a stream").cached_info().config.clone();
    config.republish = Some(bucket::republish(&names));
    config.max_age = Duration::ZERO;
    connection.jetstream.update_stream(config).await.expect("an updated stream");
    bucket::ensure(&connection.jetstream, &group, 1).await.expect("it fits");
    let error = bucket::ensure(&connection.jetstream, &group, 3).await.expect_err("too few copies");
    assert!(error.to_string().contains("set num_replicas to at least 3, it is 1"), "{error}");
}

#[tokio::test]
async fn a_server_without_jetstream_is_said_to_have_none() {
    let server = Server::start_with(&[]);
    let connection = connect(&server.url()).await;
    let group = GroupName::new("orders").expect("a valid name");
    let error = bucket::ensure(&connection.jetstream, &group, 1).await.expect_err("no JetStream");
    assert!(matches!(error.kind(), ErrorKind::JetStreamDisabled { .. }), "{error}");
}

#[tokio::test]
async fn a_probe_tells_who_is_there() {
    let world = World::new(Servers::single()).await;
    let [there, silent, absent] = [1, 2, 3].map(Instance::new);
    let client = &world.connection.client;
    let questions = probe::listen(client, &world.group, there).await.expect("a subscription");
    let mut answering = JoinSet::new();
    answering.spawn(probe::answer(client.clone(), questions));
    let _unanswered = probe::listen(client, &world.group, silent).await.expect("a subscription");

    let ask =
        |instance| probe::ask(world.connection.clone(), world.group.clone(), instance, Duration::from_millis(200));
    assert_eq!(ask(there).await, ProbeOutcome::Answered);
    assert_eq!(ask(silent).await, ProbeOutcome::TimedOut);
    assert_eq!(ask(absent).await, ProbeOutcome::NobodyListens);
}
