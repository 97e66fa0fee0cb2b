//! What the protocol relies on, pinned on a real server, alone and in a cluster of three.
#![allow(clippy::large_futures)] // a test's world is made once

mod behaviours;
mod doubts;
mod lives;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::DeleteStreamErrorKind;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use parti_core::{
    AssignmentRecord, Bucket, CheckId, Config, Event, Generation, GroupName, Incarnation, Instance, Interest, Key,
    KvEvent, LeaderRecord, MemberRecord, Outcome, ProbeOutcome, Record, Revision, ServerId, Slot, Tenure, Term,
    WatchId, Write,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bucket::{self, Names};
use crate::connection::{Connection, parse_servers};
use crate::error::ErrorKind;
use crate::health::Signs;
use crate::kv::{Store, is_marker, last_message};
use crate::probe::{self, Ear, Prober};
use crate::snapshot;
use crate::support::{Cluster, Server};
use crate::watch::Watch;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The pause before something is tried again that a server was not ready for.
const AGAIN: Duration = Duration::from_millis(50);

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

    /// The same servers, which live as long as this.
    fn known_elsewhere(&self) -> Self {
        Self { urls: self.urls.clone(), replicas: self.replicas, single: None, _cluster: None }
    }
}

impl World {
    async fn new(servers: Servers) -> Self {
        Self::of(servers, GroupName::new("orders").expect("a valid name")).await
    }

    async fn of(servers: Servers, group: GroupName) -> Self {
        let connection = connect(&servers.urls).await;
        let store = Store::new(connection.clone(), &group);
        let world = Self { servers, connection, group, store };
        world.ensure_buckets().await;
        world
    }

    async fn ensure_buckets(&self) {
        // A cluster takes a moment until it can place a bucket.
        let created = async {
            while let Err(error) = bucket::ensure(&self.connection.jetstream, &self.group, self.servers.replicas).await
            {
                assert!(error.is_transient(), "{error}");
                tokio::time::sleep(AGAIN).await;
            }
        };
        within("buckets", created).await;
    }

    /// Deletes a bucket, and makes it anew.
    async fn recreate(&self, bucket: Bucket) {
        let names = Names::new(&self.group, bucket);
        // One that gets no answer may have deleted it.
        let deleted = async {
            while let Err(error) = self.connection.jetstream.delete_stream(&names.stream).await {
                let is_gone = matches!(error.kind(), DeleteStreamErrorKind::JetStream(answer)
                    if answer.error_code() == ErrorCode::STREAM_NOT_FOUND);
                if is_gone {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        within("deletion", deleted).await;
        self.ensure_buckets().await;
    }

    /// Stores over `count` connections of their own.
    async fn stores(&self, count: usize) -> Vec<Store> {
        let connect = async |_| Store::new(connect(&self.servers.urls).await, &self.group);
        join_all((0..count).map(connect)).await
    }

    async fn commit(&self, write: Write) -> Revision {
        match self.settled(&write, self.store.execute(&write).await, &[]).await {
            Outcome::Committed(revision) => revision,
            other => panic!("{write:?}: {other:?}"),
        }
    }

    /// The outcome of a write; one that is unknown, as in a cluster that is choosing a leader, is settled as a worker
    /// does it: by another try, and by looking. `known` are the revisions of writes that others know to be theirs.
    async fn settled(&self, write: &Write, outcome: Outcome, known: &[Revision]) -> Outcome {
        if outcome != Outcome::Unknown {
            return outcome;
        }
        let tried_again = async {
            loop {
                match self.store.execute(write).await {
                    Outcome::Unknown => tokio::time::sleep(AGAIN).await,
                    outcome => return outcome,
                }
            }
        };
        match within("outcome", tried_again).await {
            Outcome::Conflict => {
                let own = self.stored_by(write).await.filter(|revision| !known.contains(revision));
                own.map_or(Outcome::Conflict, Outcome::Committed)
            }
            outcome => outcome,
        }
    }

    /// The revision of the key's last value, if it is what this write stores where its condition holds.
    async fn stored_by(&self, write: &Write) -> Option<Revision> {
        let names = Names::new(&self.group, write.key().bucket());
        let stream = self.connection.jetstream.get_stream_no_info(&names.stream).await.expect("a valid name");
        let subject = format!("{}{}", names.stored, write.key());
        let read = async {
            loop {
                match last_message(&stream, &subject).await {
                    Ok(last) => return last,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let last = within("answer", read).await?;
        let (value, revision) = (|record: &Record| last.payload == record.encode(), last.sequence);
        let is_it = match write {
            Write::Create { record, .. } => value(record),
            Write::Update { record, expected, .. } => value(record) && revision > expected.value(),
            Write::Delete { expected, .. } => is_marker(&last.headers) && revision > expected.value(),
            Write::Append { record, expected_last, .. } => value(record) && revision == expected_last.next().value(),
        };
        is_it.then(|| Revision::new(revision))
    }

    /// Stores any bytes under a key, as an operator with another tool could.
    async fn put(&self, key: Key, bytes: Vec<u8>) -> Revision {
        let subject = format!("{}{key}", Names::new(&self.group, key.bucket()).stored);
        let stored = async {
            loop {
                let sent = self.connection.jetstream.publish(subject.clone(), bytes.clone().into()).await;
                match sent.expect("connected").await {
                    Ok(stored) => return Revision::new(stored.sequence),
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        within("acknowledgement", stored).await
    }

    fn watch_of(&self, request: snapshot::Request, shown: mpsc::Sender<Event>, interval: Duration) -> Watch {
        Watch::new(self.connection.clone(), &self.group, request, shown, interval)
    }

    fn watch(&self, bucket: Bucket, interest: Interest) -> Watched {
        self.watch_every(bucket, interest, Duration::from_secs(600))
    }

    /// A watch that reads the store again at this mean interval where nothing is seen to be lost.
    fn watch_every(&self, bucket: Bucket, interest: Interest, interval: Duration) -> Watched {
        let (sender, events) = mpsc::channel(1024);
        let request = snapshot::Request { watch: WatchId::new(7), bucket, interest };
        let mut tasks = JoinSet::new();
        tasks.spawn(self.watch_of(request, sender, interval).run());
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
    within("connection", Connection::open(&servers, ConnectOptions::new(), &config(), Arc::new(Signs::new("orders"))))
        .await
        .expect("a server")
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
        Key::Slot(_) => Record::Member(Arc::new(MemberRecord { beat: 1, ..MemberRecord::new(instance) })),
        Key::Assign(_) => Record::Assignment(Arc::new(AssignmentRecord {
            term: Term::new(1),
            generation: Generation::new(writer),
            era: Incarnation::default(),
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

#[tokio::test]
async fn a_write_without_a_connection_is_unknown_at_once_and_never_applied() {
    let mut world = World::new(Servers::single()).await;
    world.servers.single.as_mut().expect("a single server").kill();
    within("break", world.connection.broken_since(0)).await;
    assert_eq!(world.store.execute(&create(slot(1), 1)).now_or_never(), Some(Outcome::Unknown));

    world.servers.single.as_mut().expect("a single server").resume();
    assert!(within("reconnect", world.connection.wait_until_up()).await);
    world.commit(create(slot(1), 2)).await;
}

#[tokio::test]
async fn a_watch_of_all_keys_shows_a_writers_log_in_order_and_without_gaps() {
    const KEYS: u64 = 40;
    const WRITES: u64 = 600;
    let world = World::new(Servers::single()).await;
    let written = Cell::new(0);
    let writing = async {
        for last in 0..WRITES {
            world.commit(append(last % KEYS, 1, last)).await;
            written.set(last + 1);
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
                let mut shown = last;
                while shown < last + 20 {
                    let next = revision(watched.next_change().await);
                    // Where the news are late, the store is read, which no longer has what was overwritten.
                    let overwritten = (written.get() + 1).saturating_sub(KEYS);
                    assert!(shown < next && next <= overwritten.max(shown) + 1, "{next} after {shown}");
                    shown = next;
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

/// How many keys were asked for one by one while `meanwhile` ran, and what came of that.
async fn count_single_reads<T>(world: &World, meanwhile: impl Future<Output = T>) -> (usize, T) {
    let listener = connect(&world.servers.urls).await;
    let mut asked = listener.client.subscribe("$JS.API.STREAM.MSG.GET.*").await.expect("subscribed");
    listener.client.flush().await.expect("a server");
    let done = meanwhile.await;
    // What one client sends comes in order.
    world.connection.client.publish("$JS.API.STREAM.MSG.GET.end", "".into()).await.expect("sent");
    let mut count = 0;
    while !within("end", asked.next()).await.expect("connected").subject.ends_with(".end") {
        count += 1;
    }
    (count, done)
}

/// Creates slots from 0 on; all keys are then of the members' bucket.
async fn create_slots(world: &World, count: u32) {
    for first in (0..count).step_by(100) {
        join_all((first..count.min(first + 100)).map(|number| world.commit(create(slot(number), 1)))).await;
    }
}

#[tokio::test]
async fn many_keys_are_read_at_once_and_what_was_heard_is_not_read_again() {
    let world = World::new(Servers::single()).await;
    create_slots(&world, 300).await;
    let version = world.connection.client.server_info().version;
    // Where an answer or the news are late, keys are read one by one to be sure: the best of several readings counts.
    let mut fewest = usize::MAX;
    for _ in 0..5 {
        let reading = async {
            let mut watched = world.watch(Bucket::Members, Interest::All);
            assert_eq!(watched.until_caught_up().await.len(), 300);
        };
        fewest = fewest.min(count_single_reads(&world, reading).await.0);
    }
    // The one is for the newest of them, from the stream's leader.
    assert_eq!(fewest, if version.starts_with("2.10.") { 300 } else { 1 }, "{version}");

    let mut watched = world.watch_every(Bucket::Members, Interest::All, Duration::from_millis(100));
    watched.until_caught_up().await;
    let mut fewest = usize::MAX;
    for number in 300..305 {
        let changed = world.commit(create(slot(number), 1)).await;
        let reading = async {
            assert_eq!(watched.next_change().await, Shown::Entry(slot(number), changed));
            assert_eq!(watched.until_caught_up().await, []);
        };
        fewest = fewest.min(count_single_reads(&world, reading).await.0);
    }
    assert_eq!(fewest, 0);
}

#[tokio::test]
async fn more_keys_than_fit_into_one_answer_are_read_one_by_one() {
    let world = World::new(Servers::single()).await;
    create_slots(&world, 1_100).await;
    let mut watched = world.watch(Bucket::Members, Interest::All);
    assert_eq!(watched.until_caught_up().await.len(), 1_100);
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
async fn a_probe_tells_who_is_there_and_which_server_says_so() {
    let world = World::new(Servers::single()).await;
    let [there, silent, absent] = [1, 2, 3].map(Instance::new);
    let client = &world.connection.client;
    let server = Some(ServerId::new(&client.server_info().server_id));
    let (events, mut heard) = tokio::sync::mpsc::channel(8);
    let prober = |timeout| Prober { connection: world.connection.clone(), group: world.group.clone(), timeout };
    let ear = Ear::new(prober(DEADLINE), there, 7, events);
    let mut listening = JoinSet::new();
    listening.spawn(ear.clone().listen());
    let Some(Event::Listening { session, server: listens_at }) = heard.recv().await else { panic!("it listens first") };
    assert_eq!(Some(listens_at), server);
    let _unanswered = client.subscribe(probe::subject(&world.group, silent)).await.expect("a subscription");

    let soon = Duration::from_millis(200);
    assert_eq!(prober(DEADLINE).ask(there).await, (ProbeOutcome::Answered, server.clone()));
    assert_eq!(prober(soon).ask(silent).await, (ProbeOutcome::TimedOut, None));
    assert_eq!(prober(DEADLINE).ask(absent).await, (ProbeOutcome::NobodyListens, server.clone()));
    // Through another process, whose own absence says nothing.
    assert_eq!(prober(DEADLINE).ask_through(there, absent).await, (ProbeOutcome::NobodyListens, server));
    assert_eq!(prober(DEADLINE).ask_through(absent, there).await, (ProbeOutcome::TimedOut, None));
    assert_eq!(prober(soon).ask_through(silent, there).await, (ProbeOutcome::TimedOut, None));

    // A check of another session, or of another process, does not count.
    ear.clone().check(session.next(), CheckId::new(1)).await;
    ear.check(session, CheckId::new(2)).await;
    let came_back = heard.recv().await;
    assert!(matches!(came_back, Some(Event::Present { check, .. }) if check == CheckId::new(2)), "{came_back:?}");
}
