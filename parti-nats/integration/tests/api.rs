//! What a service meets: lists of partitions from several places, long ones, a client of its own, a drain, health and
//! metrics, on a real server.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use parti_nats::assign::{Answer, Problem, Strategy, StrategyError};
use parti_nats::{
    Builder, Change, Config, ErrorKind, GroupName, Guard, Handle, METRICS, Partition, PartitionBucket, PartitionId,
    PartitionList, RecordLimits, Revision, Slot, Source, SourceError, Token, Weight,
};
use support::Server;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A worker whose handlers do nothing, but let go when they are asked to.
struct Keeper {
    handle: Handle,
    guards: BTreeMap<(PartitionId, Token), Guard>,
}

impl Keeper {
    fn start(builder: Builder) -> Self {
        Self { handle: builder.start().expect("valid settings"), guards: BTreeMap::new() }
    }

    /// Handles what has changed.
    async fn turn(&mut self) {
        while let Ok(Some(changes)) = tokio::time::timeout(Duration::from_millis(1), self.handle.next_changes()).await {
            for change in changes {
                match change {
                    Change::Acquired(guard) => {
                        self.guards.insert((guard.partition().clone(), guard.token()), guard);
                    }
                    Change::Releasing { partition, token, .. } | Change::Cancelled { partition, token } => {
                        self.guards.remove(&(partition, token));
                    }
                    _ => {}
                }
            }
        }
    }

    fn owned(&self) -> BTreeSet<String> {
        self.handle.assignment().iter().map(|(id, _)| id.to_string()).collect()
    }

    fn is_ready(&self) -> bool {
        self.handle.health().ready.good
    }
}

/// Lets `keepers` work until `enough` is true.
async fn until(what: &str, keepers: &mut [Keeper], mut enough: impl FnMut(&[Keeper]) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        for keeper in &mut *keepers {
            keeper.turn().await;
        }
        if enough(keepers) {
            return;
        }
        let status =
            || keepers.iter().map(|keeper| (keeper.handle.status(), keeper.handle.health())).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}: {:#?}", status());
    }
}

fn group() -> GroupName {
    GroupName::new("orders").expect("a valid name")
}

fn id(number: usize) -> PartitionId {
    PartitionId::new(format!("orders-{number:06}")).expect("a valid id")
}

fn list(count: usize) -> PartitionList {
    PartitionList::new((0..count).map(|number| Partition::new(id(number))).collect()).expect("different ids")
}

fn names(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|number| id(number).to_string()).collect()
}

fn config(workers: u32) -> Config {
    Config {
        lease: Duration::from_secs(2),
        settle_window: Duration::from_millis(200),
        rebalance_interval: Duration::from_millis(200),
        expected_workers: Some(workers),
        ..Config::default()
    }
}

fn builder(server: &Server, workers: u32) -> Builder {
    Builder::new("orders").server(server.url()).config(config(workers)).retry_first_connection(true)
}

async fn client(server: &Server) -> async_nats::Client {
    async_nats::connect(server.url()).await.expect("a server")
}

async fn bucket(server: &Server) -> PartitionBucket {
    PartitionBucket::open(client(server).await, &group(), 1).await.expect("a bucket")
}

#[tokio::test]
async fn a_list_in_a_bucket_is_followed_and_what_is_no_list_changes_nothing() {
    let server = Server::start();
    let bucket = bucket(&server).await;
    let mut worker = [Keeper::start(builder(&server, 1).partition_bucket())];
    let warned =
        |worker: &Keeper, of: &str| worker.handle.health().warnings.iter().any(|warning| warning.text.contains(of));
    until("waiting for a list", &mut worker, |worker| warned(&worker[0], "has no partition list")).await;

    // Many edit at once, and nobody undoes what another did.
    let adds = join_all((0..8).map(|number| bucket.add([Partition::new(id(number))]))).await;
    assert!(adds.iter().all(Result::is_ok), "{adds:?}");
    let is_content = |worker: &Keeper| worker.handle.health().warnings.is_empty();
    until("owner of all", &mut worker, |worker| worker[0].owned() == names(0..8) && is_content(&worker[0])).await;

    bucket.remove(&[id(0)]).await.expect("removed");
    bucket.set_weight(&id(1), Weight::new(7).expect("not 0")).await.expect("reweighted");
    until("owner of the rest", &mut worker, |worker| worker[0].owned() == names(1..8)).await;
    let read = bucket.read().await.expect("a list");
    assert_eq!(read.partitions.as_slice()[0].weight.get(), 7);

    // Three ways to be refused, each with its own kind.
    let stale = bucket.replace(&list(3), Revision::new(1)).await.expect_err("it has changed since");
    assert!(matches!(stale.kind(), ErrorKind::Conflict { .. }), "{stale}");
    let unknown = bucket.set_weight(&id(99), Weight::MIN).await.expect_err("not in the list");
    assert!(matches!(unknown.kind(), ErrorKind::UnknownPartition { .. }), "{unknown}");
    let twice = bucket.add([Partition::new(id(1))]).await.expect_err("there already");
    assert!(matches!(twice.kind(), ErrorKind::Partitions(_)), "{twice}");

    // What cannot be read, and what is gone, leave everything as it was.
    let store = async_nats::jetstream::new(client(&server).await);
    let store = store.get_key_value("parti_orders_partitions").await.expect("the bucket");
    store.put("list", "nonsense".into()).await.expect("stored");
    until("warned", &mut worker, |worker| warned(&worker[0], "cannot be read")).await;
    store.delete("list").await.expect("deleted");
    until("warned", &mut worker, |worker| warned(&worker[0], "has no partition list")).await;
    assert_eq!(worker[0].owned(), names(1..8));
    bucket.edit(|_| Ok(list(2))).await.expect("written anew");
    until("owner of the new list", &mut worker, |worker| worker[0].owned() == names(0..2)).await;
}

#[tokio::test]
async fn a_long_list_is_kept_in_chunks_and_old_ones_are_removed() {
    let server = Server::start();
    let bucket = bucket(&server).await;
    let long = list(100_000);
    let first = bucket.replace(&long, Revision::new(0)).await.expect("stored");
    assert_eq!(bucket.read().await.expect("a list").partitions, long);
    let longer = list(100_001);
    bucket.replace(&longer, first).await.expect("stored");
    assert_eq!(bucket.read().await.expect("a list").partitions, longer);
    let jetstream = async_nats::jetstream::new(client(&server).await);
    let stream = jetstream.get_stream("KV_parti_orders_partitions").await.expect("the stream");
    let messages = stream.cached_info().state.messages;
    assert!((3..=9).contains(&messages), "the head and its own chunks only: {messages}");
}

#[tokio::test]
async fn a_hundred_thousand_partitions_are_divided_among_ten_workers() {
    let server = Server::start();
    let all = list(100_000);
    let start = || Keeper::start(builder(&server, 10).partitions(all.clone()));
    let mut workers: Vec<_> = (0..10).map(|_| start()).collect();
    // Within 5 % of each other's share, as always.
    let fair = |worker: &Keeper| (9_500..=10_500).contains(&worker.handle.assignment().len());
    let even = |workers: &[Keeper]| {
        workers.iter().all(fair)
            && workers.iter().map(|worker| worker.handle.assignment().len()).sum::<usize>() == 100_000
    };
    until("divided", &mut workers, even).await;
    let owned: BTreeSet<_> = workers.iter().flat_map(Keeper::owned).collect();
    assert_eq!(owned.len(), 100_000);
    let jetstream = async_nats::jetstream::new(client(&server).await);
    let plan = jetstream.get_stream("KV_parti_orders_plan").await.expect("the plan's stream");
    let bytes = plan.cached_info().state.bytes;
    assert!(bytes / 10 < 1024 * 1024 / 2, "a record has less than half of what the server takes: {bytes}");
}

#[tokio::test]
async fn a_plan_with_a_record_that_is_too_large_is_refused_before_anything_is_written() {
    let server = Server::start();
    let mut worker = [Keeper::start(builder(&server, 1).partitions(list(100_000)))];
    let refusal = |worker: &Keeper| worker.handle.health().warnings.first().cloned();
    until("refused", &mut worker, |worker| refusal(&worker[0]).is_some()).await;
    let refusal = refusal(&worker[0]).expect("a warning").text;
    assert!(refusal.contains("worker-") && refusal.contains("at most 1032192 bytes"), "{refusal}");
    let jetstream = async_nats::jetstream::new(client(&server).await);
    let plan = jetstream.get_key_value("parti_orders_plan").await.expect("the plan");
    assert!(plan.get("assign.0").await.expect("an answer").is_none());
    worker[0].handle.update_partitions(list(10));
    until("owner of what fits", &mut worker, |worker| worker[0].owned() == names(0..10)).await;
    assert!(worker[0].handle.health().warnings.is_empty());
    // A refusal is over when what was refused is no longer wanted.
    worker[0].handle.update_partitions(list(100_000));
    until("refused", &mut worker, |worker| !worker[0].handle.health().warnings.is_empty()).await;
    worker[0].handle.update_partitions(list(10));
    until("content", &mut worker, |worker| worker[0].handle.health().warnings.is_empty()).await;
    assert_eq!(worker[0].owned(), names(0..10));
}

#[tokio::test]
async fn a_client_that_is_there_already_serves_two_workers_through_an_outage() {
    let mut server = Server::start();
    let options = parti_nats::connect_options(async_nats::ConnectOptions::new(), &Config::default());
    let shared = options.connect(server.url()).await.expect("a server");
    let start = || Keeper::start(builder(&server, 2).client(shared.clone()).partitions(list(10)));
    let mut workers = [start(), start()];
    let divided = |workers: &[Keeper]| workers.iter().all(|worker| worker.owned().len() == 5);
    until("divided", &mut workers, divided).await;
    let before: Vec<_> = workers.iter().map(Keeper::owned).collect();

    server.kill();
    until("cut off", &mut workers, |workers| workers.iter().all(|worker| !worker.is_ready())).await;
    for worker in &workers {
        assert!(worker.handle.health().live.good, "an outage is no reason to restart");
    }
    // What was proven before lasts a moment longer.
    let works = |worker: &Keeper| worker.guards.values().any(Guard::is_valid);
    until("without a right", &mut workers, |workers| !workers.iter().any(works)).await;
    server.resume();
    until("back", &mut workers, |workers| workers.iter().all(Keeper::is_ready)).await;
    assert_eq!(workers.iter().map(Keeper::owned).collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn a_drained_worker_owns_nothing_until_it_is_undrained() {
    let server = Server::start();
    let start = || Keeper::start(builder(&server, 2).partitions(list(10)));
    let mut workers = [start(), start()];
    let divided = |workers: &[Keeper]| workers.iter().all(|worker| worker.owned().len() == 5);
    until("divided", &mut workers, divided).await;
    workers[0].handle.drain();
    until("drained", &mut workers, |workers| workers[0].owned().is_empty() && workers[1].owned().len() == 10).await;
    assert!(workers[0].handle.status().draining && workers[0].is_ready());
    workers[0].handle.undrain();
    until("divided again", &mut workers, divided).await;
}

#[tokio::test]
async fn buckets_that_are_deleted_under_running_workers_are_made_anew_and_used() {
    let server = Server::start();
    let start = || Keeper::start(builder(&server, 2).partitions(list(10)));
    let mut workers = [start(), start()];
    let divided = |workers: &[Keeper]| workers.iter().all(|worker| worker.owned().len() == 5);
    until("divided", &mut workers, divided).await;
    let before = highest_token(&workers);
    let jetstream = async_nats::jetstream::new(client(&server).await);
    for bucket in ["plan", "members"] {
        jetstream.delete_stream(format!("KV_parti_orders_{bucket}")).await.expect("deleted");
    }
    let anew = |workers: &[Keeper]| {
        let newer = |worker: &Keeper| worker.handle.assignment().iter().all(|(_, token)| token > before);
        divided(workers) && workers.iter().all(newer) && workers.iter().all(Keeper::is_ready)
    };
    until("divided anew", &mut workers, anew).await;
}

fn highest_token(workers: &[Keeper]) -> Token {
    let tokens = workers.iter().flat_map(|worker| worker.guards.keys().map(|(_, token)| *token));
    tokens.max().expect("something is owned")
}

/// Gives everything to the worker with the highest slot.
#[derive(Debug)]
struct WinnerTakesAll;

impl Strategy for WinnerTakesAll {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let last = problem.workers().last().expect("a plan is for somebody").slot;
        Ok(Answer::new(vec![Some(last); problem.partitions().as_slice().len()]))
    }
}

#[tokio::test]
async fn a_strategy_of_ones_own_divides_and_a_pin_in_the_list_is_obeyed() {
    let server = Server::start();
    let start = |group: &str, slot: u32| {
        let config = Config { preferred_slot: Some(Slot::new(slot)), ..config(2) };
        Builder::new(group).server(server.url()).config(config).retry_first_connection(true)
    };
    let own = |slot| start("orders", slot).strategy(Arc::new(WinnerTakesAll)).partitions(list(10));
    let mut workers = [Keeper::start(own(0)), Keeper::start(own(1))];
    let winner = |workers: &[Keeper]| workers[0].owned().is_empty() && workers[1].owned().len() == 10;
    until("divided by their own strategy", &mut workers, winner).await;

    let name = GroupName::new("pinned").expect("a valid name");
    let bucket = PartitionBucket::open(client(&server).await, &name, 1).await.expect("a bucket");
    let pinned = (0..10).map(|number| Partition::new(id(number)).pinned_to(Slot::new(0)));
    bucket.add(pinned).await.expect("added");
    let follow = |slot| start("pinned", slot).partition_bucket();
    let mut workers = [Keeper::start(follow(0)), Keeper::start(follow(1))];
    let obeyed = |workers: &[Keeper]| workers[0].owned().len() == 10 && workers[1].owned().is_empty();
    until("where they are pinned", &mut workers, obeyed).await;
}

#[tokio::test]
async fn nonsense_on_the_subjects_of_news_confuses_nobody_for_long() {
    let server = Server::start();
    let start = || Keeper::start(builder(&server, 1).partitions(list(10)));
    let mut workers = vec![start()];
    until("owner of all", &mut workers, |workers| workers[0].owned().len() == 10).await;
    let client = client(&server).await;
    for number in 0..20_000_u64 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Sequence", (u64::MAX - number).to_string());
        headers.insert("Nats-Last-Sequence", number.to_string());
        for subject in ["plan.assign.0", "plan.cluster", "members.slot.0", "members.leader"] {
            let subject = format!("parti.orders.{subject}");
            client.publish_with_headers(subject, headers.clone(), "nonsense".into()).await.expect("sent");
        }
    }
    client.flush().await.expect("sent");
    workers.push(start());
    let divided = |workers: &[Keeper]| workers.iter().all(|worker| worker.owned().len() == 5 && worker.is_ready());
    until("divided", &mut workers, divided).await;
}

/// Fails once, and has a list afterwards.
struct Moody(Option<SourceError>);

impl Source for Moody {
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        let measured = || list(10).iter().map(|partition| partition.clone().measured()).collect();
        self.0.take().map_or_else(|| Ok(PartitionList::new(measured())?), Err)
    }
}

/// What a recorder has seen so far: each metric by its name, and whether it was more than registered.
struct Seen {
    snapshotter: Snapshotter,
    metrics: BTreeMap<String, bool>,
}

impl Seen {
    fn look(&mut self) -> &BTreeMap<String, bool> {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            assert!(key.labels().any(|label| label.key() == "group"), "{key}");
            let shown = match value {
                DebugValue::Counter(count) => count > 0,
                DebugValue::Gauge(_) => true,
                DebugValue::Histogram(values) => !values.is_empty(),
            };
            *self.metrics.entry(key.name().to_owned()).or_default() |= shown;
        }
        &self.metrics
    }

    fn has(&mut self, name: &str) -> bool {
        *self.look().get(name).expect("a metric of the table")
    }
}

#[test]
fn every_metric_of_the_table_is_emitted() {
    let recorder = DebuggingRecorder::new();
    let mut seen = Seen { snapshotter: recorder.snapshotter(), metrics: BTreeMap::new() };
    // On one thread, to which this recorder belongs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    metrics::with_local_recorder(&recorder, || runtime.block_on(live(&mut seen)));
    let expected = METRICS.iter().map(|metric| (metric.name.to_owned(), true)).collect();
    assert_eq!(*seen.look(), expected);
}

/// A life in which everything happens that is counted.
async fn live(seen: &mut Seen) {
    let mut server = Server::start_with_config("jetstream: enabled\n");
    let start = || {
        let moody = Moody(Some("out of order".into()));
        // A file is no folder, so that nothing can be recorded there.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml/recording");
        Keeper::start(builder(&server, 1).source(moody).record(path, RecordLimits::default()))
    };
    let mut workers = vec![start()];
    until("owner of all", &mut workers, |workers| workers[0].owned().len() == 10).await;
    workers.push(start());
    let divided = |workers: &[Keeper]| workers.iter().all(|worker| worker.owned().len() == 5);
    until("divided", &mut workers, divided).await;
    workers[0].guards.values().for_each(|guard| guard.report_load(0));
    until("refused a load", &mut workers, |_| seen.has("parti_load_reports_refused_total")).await;

    // A third one is there only on paper: it is given some, does nothing, and is evicted. It comes back until it was
    // given some.
    let jetstream = async_nats::jetstream::new(client(&server).await);
    let members = jetstream.get_key_value("parti_orders_members").await.expect("the members");
    let own = format!("slot.{}", workers[0].handle.status().slot.expect("a slot"));
    let record = members.get(&own).await.expect("an answer").expect("a record");
    let mut paper: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    paper["instance"] = 12_345.into();
    paper["tenure"] = serde_json::Value::Null;
    paper["applied"] = serde_json::json!([0, 0]);
    let third = members.clone();
    let coming_back = tokio::spawn(async move {
        loop {
            // An error means that it is there.
            let _ = third.create("slot.500", paper.to_string().into()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let share = |workers: &[Keeper]| workers.iter().map(|worker| worker.owned().len()).sum::<usize>();
    until("without a third one's share", &mut workers, |workers| share(workers) < 10).await;
    coming_back.abort();
    until("divided again", &mut workers, |workers| share(workers) == 10).await;

    // Somebody writes the record of the first, so often that a renewal comes too late.
    let meddling = tokio::spawn(async move {
        loop {
            let record = members.get(&own).await.expect("an answer").expect("a record");
            let puts = (0..64).map(|_| members.put(&own, record.clone()));
            join_all(puts).await;
        }
    });
    until("in conflict", &mut workers, |_| seen.has("parti_store_conflicts_total")).await;
    meddling.abort();
    until("over it", &mut workers, |workers| workers.iter().all(Keeper::is_ready) && share(workers) == 10).await;

    server.kill();
    until("cut off", &mut workers, |workers| workers.iter().all(|worker| !worker.is_ready())).await;
    server.resume();
    until("back", &mut workers, |workers| workers.iter().all(Keeper::is_ready)).await;

    // Somebody deletes a bucket as often as it is made anew, until a write finds none.
    let meddling = tokio::spawn(async move {
        loop {
            let _ = jetstream.delete_stream("KV_parti_orders_members").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    until("without an answer", &mut workers, |_| seen.has("parti_store_unknown_total")).await;
    meddling.abort();
    until("back", &mut workers, |workers| workers.iter().all(Keeper::is_ready) && share(workers) == 10).await;

    trouble(&server, &mut workers, seen).await;
    until("back", &mut workers, |workers| workers.iter().all(Keeper::is_ready) && share(workers) == 10).await;
    for worker in &workers {
        worker.handle.update_partitions(list(100_000)); // too much for two
    }
    let refused =
        |worker: &Keeper| worker.handle.health().warnings.iter().any(|warning| warning.text.contains("refused"));
    until("refused", &mut workers, |workers| workers.iter().any(refused)).await;
    until("without an owner", &mut workers, |_| seen.has("parti_unowned_partition_seconds_total")).await;
    server.reload("jetstream: enabled\nauthorization { user: a, password: a }\n");
    until("locked out", &mut workers, |_| seen.has("parti_logins_refused_total")).await;
}

/// What goes wrong in the application and by the settings of a bucket.
async fn trouble(server: &Server, workers: &mut [Keeper], seen: &mut Seen) {
    for worker in &mut *workers {
        worker.guards.clear();
    }
    until("without a handler", workers, |_| seen.has("parti_guards_dropped_total")).await;
    std::thread::sleep(config(1).lease / 2);
    until("late", workers, |_| seen.has("parti_runtime_blocked_seconds")).await;

    let jetstream = async_nats::jetstream::new(client(server).await);
    let members = jetstream.get_stream("KV_parti_orders_members").await.expect("the bucket");
    let before = members.cached_info().config.clone();
    let narrow = async_nats::jetstream::stream::Config { max_message_size: 1, ..before.clone() };
    jetstream.update_stream(narrow).await.expect("edited");
    until("refused", workers, |_| seen.has("parti_store_refused_total")).await;
    jetstream.update_stream(before).await.expect("set back");
}
