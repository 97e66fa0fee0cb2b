//! What a server does while workers run, by a change of its settings: each is said, and over when that is.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use parti_nats::{Builder, Change, Config, Guard, Handle, Health, PartitionId, Token};
use support::Server;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A worker whose handlers do nothing, but let go when they are asked to.
struct Keeper {
    handle: Handle,
    guards: BTreeMap<(PartitionId, Token), Guard>,
}

impl Keeper {
    fn start(url: &str, partitions: usize) -> Self {
        let config = Config { expected_workers: Some(1), ..support::quick() };
        let ids = (0..partitions).map(|number| format!("orders-{number:06}"));
        let builder = Builder::new("orders").server(url).config(config).partition_ids(ids);
        Self { handle: builder.start().expect("valid settings"), guards: BTreeMap::new() }
    }

    async fn turn(&mut self) {
        while let Ok(Some(changes)) = tokio::time::timeout(Duration::from_millis(20), self.handle.next_changes()).await
        {
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

    /// How many partitions it may work on now.
    fn allowed(&self) -> usize {
        self.guards.values().filter(|guard| guard.is_valid()).count()
    }

    async fn until(&mut self, what: &str, enough: impl Fn(&Self, &Health) -> bool) {
        let begun = Instant::now();
        loop {
            self.turn().await;
            let health = self.handle.health();
            if enough(self, &health) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "not {what}: {:?}, {health:?}", self.handle.status());
        }
    }
}

fn warns(health: &Health, name: &str, of: &str) -> bool {
    health.warnings.iter().any(|warning| warning.name == name && warning.text.contains(of))
}

#[tokio::test]
async fn a_plan_that_was_too_large_is_made_when_the_limit_was_raised() {
    let server = Server::start_with_config("jetstream: enabled\nmax_payload: 8KB\n");
    let mut worker = Keeper::start(&server.url(), 2_000);
    worker.until("refused", |_, health| warns(health, "plan_refused", "max_payload")).await;
    server.reload("jetstream: enabled\nmax_payload: 1MB\n");
    worker.until("divided", |worker, health| worker.allowed() == 2_000 && health.warnings.is_empty()).await;
}

/// Its subscriptions are taken away, its connection stays: others are told that nobody listens there.
#[tokio::test]
async fn a_worker_that_may_no_longer_listen_works_on_nothing_says_why_and_goes_on_when_it_may() {
    let users = |denied: &str| {
        format!(
            "jetstream: enabled\nauthorization {{ users: [ {{ user: a, password: a }}, {{ user: b, password: b{denied} }} ] }}\n"
        )
    };
    let server = Server::start_with_config(&users(""));
    let url = |user: &str| server.url().replace("nats://", &format!("nats://{user}:{user}@"));
    let mut workers = [Keeper::start(&url("a"), 12), Keeper::start(&url("b"), 12)];
    both(&mut workers, "shared", |[a, b]| a.allowed() == 6 && b.allowed() == 6).await;

    server.reload(&users(", permissions: { subscribe: { deny: [\"parti.orders.>\"] } }"));
    both(&mut workers, "handed over", |[a, b]| a.allowed() == 12 && b.allowed() == 0).await;
    both(&mut workers, "said", |[_, b]| {
        let health = b.handle.health();
        let said = |name| health.warnings.iter().any(|warning| warning.name == name);
        !health.ready.good && health.live.good && said("not_present") && said("permission_refused")
    })
    .await;
    server.reload(&users(""));
    both(&mut workers, "shared again", |[a, b]| a.allowed() == 6 && b.allowed() == 6).await;
    both(&mut workers, "content", |[_, b]| b.handle.health().warnings.is_empty()).await;
}

/// Lets both work until `enough` is true; meanwhile nothing is allowed to both.
async fn both(workers: &mut [Keeper; 2], what: &str, enough: impl Fn(&[Keeper; 2]) -> bool) {
    let begun = Instant::now();
    loop {
        for worker in &mut *workers {
            worker.turn().await;
        }
        let allowed = |worker: &Keeper| {
            let valid = worker.guards.iter().filter(|(_, guard)| guard.is_valid());
            valid.map(|((partition, _), _)| partition.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        let twice: Vec<_> = allowed(&workers[0]).intersection(&allowed(&workers[1])).cloned().collect();
        assert!(twice.is_empty(), "{twice:?} have two owners, {what}");
        if enough(workers) {
            return;
        }
        let health =
            || workers.each_ref().map(|worker| (worker.allowed(), worker.handle.status(), worker.handle.health()));
        assert!(begun.elapsed() < DEADLINE, "not {what}: {:#?}", health());
    }
}

#[tokio::test]
async fn a_store_that_is_full_is_said_to_be_and_all_goes_on_when_it_has_room() {
    let server = Server::start_with_config("jetstream { max_file_store: 8MB }\n");
    let mut worker = Keeper::start(&server.url(), 4);
    worker.until("owner", |worker, _| worker.allowed() == 4).await;

    let jetstream = jetstream::new(async_nats::connect(server.url()).await.expect("a server"));
    let filling =
        jetstream::stream::Config { name: "fill".into(), subjects: vec!["fill".into()], ..Default::default() };
    jetstream.create_stream(filling).await.expect("created");
    for size in [200_000, 2_000, 50] {
        while jetstream.publish("fill", vec![0; size].into()).await.expect("sent").await.is_ok() {}
    }
    worker
        .until("refused", |worker, health| {
            worker.allowed() == 0 && !health.ready.good && warns(health, "write_refused", "make room")
        })
        .await;
    let health = worker.handle.health();
    assert!(health.ready.reason.contains("refuses writes") && health.live.good, "{health:?}");

    jetstream.delete_stream("fill").await.expect("deleted");
    worker.until("back", |worker, health| worker.allowed() == 4 && health.warnings.is_empty()).await;
}

#[tokio::test]
async fn a_bucket_that_was_edited_is_named_with_what_to_set_back() {
    let server = Server::start();
    let mut worker = Keeper::start(&server.url(), 4);
    worker.until("owner", |worker, _| worker.allowed() == 4).await;
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.expect("a server"));
    let stream = jetstream.get_stream("KV_parti_orders_members").await.expect("the bucket");
    let before = stream.cached_info().config.clone();

    let edited = jetstream::stream::Config { republish: None, max_bytes: 1_000_000, ..before.clone() };
    jetstream.update_stream(edited).await.expect("edited");
    worker
        .until("warned", |_, health| {
            warns(health, "bucket_edited", "set max_bytes to -1") && warns(health, "bucket_edited", "set republish")
        })
        .await;
    worker.until("read more often", |_, health| warns(health, "news_missing", "members")).await;
    assert_eq!(worker.allowed(), 4);
    jetstream.update_stream(before).await.expect("set back");
    worker.until("content", |worker, health| worker.allowed() == 4 && health.warnings.is_empty()).await;
}
