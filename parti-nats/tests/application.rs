//! What becomes of a worker whose application fails, or that is to stop while the server is away, on a real server.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parti_nats::assign::{Answer, Balanced, Problem, Strategy, StrategyError};
use parti_nats::{
    Builder, Change, Config, Guard, Handle, Partition, PartitionId, PartitionList, RetryPolicy, Source, SourceError,
    Token,
};
use support::{Server, quick};

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A worker whose handlers do nothing, but let go when they are asked to.
struct Keeper {
    handle: Handle,
    guards: BTreeMap<(PartitionId, Token), Guard>,
    /// How often each partition was acquired, or offered again.
    offers: BTreeMap<PartitionId, usize>,
}

impl Keeper {
    fn start(builder: Builder) -> Self {
        let handle = builder.start().expect("valid settings");
        Self { handle, guards: BTreeMap::new(), offers: BTreeMap::new() }
    }

    /// Handles what has changed; `handles` says what it does with a guard.
    async fn turn(&mut self, handles: &mut impl FnMut(Guard) -> Option<Guard>) {
        while let Ok(Some(change)) = tokio::time::timeout(Duration::from_millis(1), self.handle.next_change()).await {
            match change {
                Change::Acquired(guard) => {
                    *self.offers.entry(guard.partition().clone()).or_default() += 1;
                    if let Some(guard) = handles(guard) {
                        self.guards.insert((guard.partition().clone(), guard.token()), guard);
                    }
                }
                Change::Releasing { partition, token, .. } | Change::Cancelled { partition, token } => {
                    self.guards.remove(&(partition, token));
                }
                _ => {}
            }
        }
    }

    fn works_on(&self, partition: &str) -> bool {
        self.guards.values().any(|guard| guard.partition().as_str() == partition && guard.is_valid())
    }

    fn warned(&self, name: &str) -> bool {
        self.handle.health().warnings.iter().any(|warning| warning.name == name)
    }
}

/// Lets `keepers` work until `enough` is true; `handles` says what they do with a guard.
async fn until(
    what: &str,
    keepers: &mut [Keeper],
    mut handles: impl FnMut(Guard) -> Option<Guard>,
    mut enough: impl FnMut(&[Keeper]) -> bool,
) {
    let deadline = Instant::now() + DEADLINE;
    while !enough(keepers) {
        for keeper in &mut *keepers {
            keeper.turn(&mut handles).await;
        }
        let health = || keepers.iter().map(|keeper| keeper.handle.health()).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}: {:#?}", health());
    }
}

fn list(ids: &[&str]) -> PartitionList {
    let partitions = ids.iter().map(|id| Partition::new(PartitionId::new(*id).expect("a valid id")));
    PartitionList::new(partitions.collect()).expect("different ids")
}

fn builder(server: &Server) -> Builder {
    Builder::new("orders").server(server.url()).config(quick()).retry_first_connection(true)
}

/// Panics at the second reading of three.
struct Panics(Arc<AtomicUsize>);

impl Source for Panics {
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(list(&["a"])),
            1 => panic!("the source has a bug"),
            _ => Ok(list(&["a", "b"])),
        }
    }
}

#[tokio::test]
async fn a_source_that_panics_is_read_again() {
    let server = Server::start();
    let readings = Arc::<AtomicUsize>::default();
    let mut worker = [Keeper::start(builder(&server).source(Panics(Arc::clone(&readings))))];
    until("working", &mut worker, Some, |worker| worker[0].works_on("a")).await;
    worker[0].handle.refresh_partitions();
    until("working on what is new", &mut worker, Some, |worker| worker[0].works_on("b")).await;
    assert!(readings.load(Ordering::SeqCst) >= 3);
    assert!(!worker[0].warned("source_failed"), "that is over");
}

/// Divides as it should once it is mended.
#[derive(Debug, Default)]
struct Mended(AtomicBool);

impl Strategy for Mended {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        assert!(self.0.load(Ordering::SeqCst) || problem.workers().len() < 2, "the strategy has a bug");
        Balanced.assign(problem)
    }
}

#[tokio::test]
async fn a_strategy_that_panics_refuses_a_plan_and_ends_nobody() {
    let server = Server::start();
    let strategy = Arc::<Mended>::default();
    let start = || Keeper::start(builder(&server).partition_ids(["a", "b"]).strategy(strategy.clone()));
    let mut workers = vec![start()];
    until("working", &mut workers, Some, |workers| workers[0].works_on("b")).await;
    workers.push(start());
    until("refusing", &mut workers, Some, |workers| workers[0].warned("plan_refused")).await;
    assert!(workers.iter().all(|worker| worker.handle.health().live.good));
    assert!(workers[0].works_on("a") && workers[0].works_on("b"));
    strategy.0.store(true, Ordering::SeqCst);
    workers[0].handle.rebalance_now();
    let shared = |workers: &[Keeper]| workers.iter().all(|worker| worker.works_on("a") != worker.works_on("b"));
    until("dividing", &mut workers, Some, shared).await;
    assert!(!workers[0].warned("plan_refused"));
}

#[tokio::test]
async fn a_partition_whose_handler_panics_is_offered_again_and_then_handed_over() {
    let server = Server::start();
    let policy = RetryPolicy { first: Duration::from_millis(50), tries: Some(2), ..RetryPolicy::default() };
    let start = || Keeper::start(builder(&server).partition_ids(["a", "b"]).retry(policy));
    let mut workers = vec![start(), start()];
    let both = |workers: &[Keeper]| ["a", "b"].iter().all(|id| workers.iter().any(|worker| worker.works_on(id)));
    until("dividing", &mut workers, Some, both).await;
    let bad = workers.iter().position(|worker| worker.works_on("a")).expect("both have an owner");
    let token = {
        let mut owned = std::mem::take(&mut workers[bad].guards).into_values();
        let guard = owned.find(|guard| guard.partition().as_str() == "a").expect("it works on it");
        let token = guard.token();
        let handler = std::thread::spawn(move || {
            let _guard = guard;
            panic!("the handler has a bug");
        });
        assert!(handler.join().is_err());
        workers[bad].guards.extend(owned.map(|guard| ((guard.partition().clone(), guard.token()), guard)));
        token
    };
    let mut again = false;
    let fails = |guard: Guard| {
        // The same hold, offered again: it fails for the second time.
        if guard.partition().as_str() == "a" && guard.token() == token {
            again = true;
            guard.fail("a bug");
            return None;
        }
        Some(guard)
    };
    until("handed over", &mut workers, fails, |workers| workers[1 - bad].works_on("a")).await;
    assert!(again);
    assert!(!workers[bad].warned("guard_dropped"), "it has gone");
}

#[tokio::test]
async fn one_partition_is_given_back_without_a_gap_in_its_work_here() {
    let server = Server::start();
    let ids = ["a", "b", "c", "d"];
    let start = || Keeper::start(builder(&server).partition_ids(ids));
    let mut workers = vec![start(), start()];
    let all = |workers: &[Keeper]| ids.iter().all(|id| workers.iter().any(|worker| worker.works_on(id)));
    until("dividing", &mut workers, Some, all).await;
    let owner = workers.iter().position(|worker| worker.works_on("c")).expect("all have an owner");
    workers[owner].handle.give_back(&PartitionId::new("c").expect("a valid id"));
    until("given back", &mut workers, Some, |workers| workers[1 - owner].works_on("c")).await;
    assert!(!workers[owner].works_on("c"));
}

/// How long a worker takes to stop whose server went away `gone_for` ago.
async fn time_to_stop(restart: bool, frozen: bool, gone_for: Duration) -> Duration {
    let mut server = Server::start();
    let config = Config { release_timeout: Duration::from_secs(30), ..quick() };
    let mut worker = [Keeper::start(builder(&server).config(config).partition_ids(["a", "b"]))];
    until("working", &mut worker, Some, |worker| worker[0].works_on("a") && worker[0].works_on("b")).await;
    if frozen {
        server.freeze();
    } else {
        server.kill();
    }
    let gone_at = Instant::now();
    until("time has passed", &mut worker, Some, |_| gone_at.elapsed() >= gone_for).await;
    let asked_at = Instant::now();
    if restart {
        worker[0].handle.restart();
    } else {
        worker[0].handle.stop();
    }
    let mut ended = false;
    while !ended {
        assert!(asked_at.elapsed() < DEADLINE, "it does not stop");
        worker[0].turn(&mut Some).await;
        ended = tokio::time::timeout(Duration::from_millis(1), worker[0].handle.finished()).await.is_ok();
    }
    let took = asked_at.elapsed();
    if frozen {
        server.thaw();
    }
    took
}

#[tokio::test]
async fn who_is_to_stop_while_the_server_is_away_goes_when_the_lease_is_over() {
    // What the lease takes at most, and a second.
    let (lease, longest) = (quick().lease, quick().lease + Duration::from_secs(1));
    for (restart, frozen) in [(false, false), (true, false), (false, true), (true, true)] {
        let took = time_to_stop(restart, frozen, Duration::ZERO).await;
        assert!(took < longest, "restart {restart}, frozen {frozen}: {took:?}");
    }
    for restart in [false, true] {
        let took = time_to_stop(restart, false, lease + Duration::from_millis(500)).await;
        assert!(took < Duration::from_secs(1), "restart {restart}: {took:?} after the lease had run out");
    }
}
