//! The test kit, used as its users do: their handlers and settings in a cluster to which things happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parti_core::assign::{Answer, Problem, Strategy, StrategyError};
use parti_core::{
    Config, Mode, Partition, PartitionId, PartitionList, ReleaseReason, RetryPolicy, Slot, Source, SourceError, Token,
};
use parti_sim::NetworkOptions;
use parti_sim::kit::{Call, Cluster, Failure, Guard, PartitionGuard, Setup};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn a_crash_hurts_only_what_the_crashed_worker_had() -> Result<(), Failure> {
    let mut cluster = small().start()?;
    cluster.settle()?;
    let lost = cluster.owned_by(2);
    let kept: Vec<_> = [0, 1, 3, 4].map(|worker| cluster.owned_by(worker)).concat();
    assert_eq!((lost.len(), kept.len()), (12, 48));

    cluster.measure();
    cluster.run_for(5 * SECOND)?;
    cluster.crash(2)?;
    let crashed_at = cluster.now();
    cluster.settle()?;
    for partition in &lost {
        assert_eq!(cluster.owner_at(partition.as_str(), crashed_at.saturating_sub(MILLISECOND))?, Some(2));
        assert_ne!(cluster.owner(partition.as_str())?, Some(2));
    }
    for (worker, held) in [0, 1, 3, 4].into_iter().zip(kept.chunks(12)) {
        assert!(held.iter().all(|partition| cluster.owned_by(worker).contains(partition)), "worker {worker}");
    }
    assert!(cluster.measured().longest_orphan < 2 * SECOND, "{:?}", cluster.measured());
    let page = cluster.report("a crash");
    for part in ["\"scenario\":\"a crash\"", "\"order-59\"", "have lost their owner"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(cluster.finish()?.moved, 0);
    Ok(())
}

#[test]
fn what_a_crashed_worker_had_does_not_wait_for_one_that_restarts() -> Result<(), Failure> {
    let mut cluster = Cluster::of(3).partition_ids(ids()).start()?;
    cluster.settle()?;
    let (lost, held) = (cluster.owned_by(1), cluster.owned_by(2));
    cluster.restart(2, 30 * SECOND)?;
    cluster.run_for(SECOND)?;
    cluster.crash(1)?;
    cluster.run_for(2 * SECOND)?;
    for partition in &lost {
        assert_eq!(cluster.owner(partition.as_str())?, Some(0), "{partition}");
    }
    cluster.run_for(30 * SECOND)?;
    assert!(held.iter().all(|partition| cluster.owned_by(2).contains(partition)));
    cluster.finish()?;
    Ok(())
}

#[test]
fn a_worker_in_a_crash_loop_gets_work_later_each_time() -> Result<(), Failure> {
    let mut cluster = Cluster::of(6).partition_ids(ids()).start()?;
    cluster.settle()?;
    let mut lost = Vec::new();
    for _ in 0..12 {
        lost.push(cluster.owned_by(5).len());
        cluster.crash(5)?;
        cluster.run_for(2 * SECOND)?;
        cluster.start_again(5)?;
        cluster.run_for(4 * SECOND)?;
    }
    let lives = lost.iter().filter(|lost| **lost > 0).count();
    assert!(lives <= 4, "{lost:?}");
    cluster.finish()?;
    Ok(())
}

#[test]
fn a_rolling_update_moves_nothing_with_the_users_own_drain_times() -> Result<(), Failure> {
    let slow = |partition: &PartitionId| if partition.as_str() == "order-7" { 3 * SECOND } else { 20 * MILLISECOND };
    for surge in [false, true] {
        let setup = small().drain_time(slow);
        let mut cluster = if surge { setup } else { setup.stateful_set() }.start()?;
        cluster.settle()?;
        cluster.measure();
        if surge {
            cluster.rolling_update_with_surge()?;
        } else {
            cluster.rolling_update(2 * SECOND)?;
        }
        let longest = cluster.measured().longest_orphan;
        let measured = cluster.finish()?;
        assert_eq!((measured.moved, measured.rebalances), (0, 0), "surge {surge}");
        assert!(longest < 6 * SECOND, "{longest:?}");
    }
    Ok(())
}

#[test]
fn an_application_is_told_what_a_real_worker_would_tell_it() -> Result<(), Failure> {
    let mut cluster = small().handler(slow).start()?;
    cluster.settle()?;
    assert_eq!(cluster.seen().iter().filter(|seen| matches!(seen.call, Call::Acquired { .. })).count(), 60);

    let added = cluster.add_workers(1)?;
    assert_eq!(added, 5..6);
    cluster.settle()?;
    let newcomer: Vec<_> = cluster.seen_by(5).map(|seen| &seen.call).collect();
    let first = newcomer.iter().position(|call| matches!(call, Call::Acquired { .. })).expect("it gets some");
    assert!(matches!(newcomer[0], Call::Prepare { .. }) && first > 0, "{newcomer:?}");
    let releases = releases(&cluster);
    assert_eq!(releases.len(), 10);
    for (reason, took) in releases {
        assert_eq!(reason, ReleaseReason::Moved);
        // What was begun is finished first.
        assert!(took <= 400 * MILLISECOND && took > Duration::ZERO, "{took:?}");
    }

    cluster.leave(5)?;
    cluster.settle()?;
    assert_eq!(cluster.seen_by(5).last().map(|seen| &seen.call), Some(&Call::Stopped));

    cluster.measure();
    cluster.outage(30 * SECOND);
    cluster.settle()?;
    let calls = |wanted: fn(&Call) -> bool| cluster.seen().iter().filter(|seen| wanted(&seen.call)).count();
    assert_eq!(calls(|call| matches!(call, Call::Suspended { .. })), 5);
    assert_eq!(calls(|call| *call == Call::Resumed), 5);
    assert_eq!(calls(|call| matches!(call, Call::Ended { .. })), 0, "no handler has ended unasked");
    assert_eq!(cluster.finish()?.moved, 0);
    Ok(())
}

#[test]
fn a_release_that_never_ends_is_cancelled() -> Result<(), Failure> {
    let config = Config { release_timeout: 3 * SECOND, ..Config::default() };
    let mut cluster = small().config(config).drain_time(|_| Duration::MAX).start()?;
    cluster.settle()?;
    cluster.leave(0)?;
    cluster.settle()?;
    assert!(cluster.seen_by(0).any(|seen| matches!(seen.call, Call::Cancelled { .. })));
    assert!(cluster.owned_by(0).is_empty() && !cluster.running().contains(&0));
    cluster.finish()?;
    Ok(())
}

#[test]
fn a_handler_that_never_ends_is_cancelled() -> Result<(), Failure> {
    let config = Config { release_timeout: 3 * SECOND, ..Config::default() };
    let deaf = |guard: Guard| async move {
        guard.sleep(Duration::from_secs(1_000_000)).await;
    };
    let mut cluster = small().config(config).handler(deaf).start()?;
    cluster.settle()?;
    cluster.leave(0)?;
    cluster.settle()?;
    assert!(cluster.seen_by(0).any(|seen| matches!(seen.call, Call::Cancelled { .. })));
    assert!(cluster.owned_by(0).is_empty() && !cluster.running().contains(&0));
    cluster.finish()?;
    Ok(())
}

#[test]
fn a_store_that_looks_at_tokens_refuses_a_worker_that_was_frozen() -> Result<(), Failure> {
    let store = Arc::new(Mutex::new(Database::default()));
    let shared = store.clone();
    let mut cluster = small().handler(move |guard| write(guard, shared.clone())).start()?;
    cluster.settle()?;
    cluster.freeze(1, 30 * SECOND)?;
    cluster.settle()?;
    cluster.finish()?;
    let store = store.lock().expect("no panic");
    assert!(store.written > 400 && store.refused > 0, "{} of {}", store.refused, store.written);
    assert!(store.refused_from.iter().all(|worker| *worker == 1), "{:?}", store.refused_from);
    Ok(())
}

#[test]
fn work_that_is_raced_against_its_interruption_never_writes_late() -> Result<(), Failure> {
    for seed in 0..4 {
        let store = Arc::new(Mutex::new(Database::default()));
        let shared = store.clone();
        let handler = move |guard: Guard| {
            let store = shared.clone();
            async move {
                while guard.may_work().await {
                    if guard.unless_interrupted(guard.sleep(300 * MILLISECOND)).await.is_some() {
                        store.lock().expect("no panic").write(&guard);
                    }
                }
            }
        };
        let mut cluster = small().handler(handler).seed(seed).start()?;
        cluster.settle()?;
        cluster.random_faults(120 * SECOND)?;
        cluster.finish()?;
        let store = store.lock().expect("no panic");
        assert!(store.written > 2_000 && store.refused == 0, "{} of {}", store.refused, store.written);
    }
    Ok(())
}

#[test]
fn what_a_handler_cannot_do_is_offered_again_and_then_handed_over_once() -> Result<(), Failure> {
    // One order cannot be worked on by worker 0, 1 and 2, and says why.
    let handler = |guard: Guard| async move {
        if guard.partition().as_str() == "order-7" && guard.life().worker < 3 {
            guard.sleep(100 * MILLISECOND).await;
            return Err("the order is broken");
        }
        while guard.may_work().await {
            guard.sleep(SECOND).await;
        }
        Ok(())
    };
    let mut cluster = Cluster::of(4).partition_ids(ids()).handler(handler).start()?;
    cluster.settle()?;
    cluster.run_for(600 * SECOND)?;
    let told = |wanted: &dyn Fn(&Call) -> bool| cluster.seen().iter().filter(|seen| wanted(&seen.call)).count();
    let broken = "the order is broken";
    let ended = told(&|call| matches!(call, Call::Ended { reason, .. } if reason == broken));
    let offered = told(&|call| matches!(call, Call::Offered { .. }));
    assert!(ended >= 3 && offered >= 2, "{ended} {offered}");
    assert_eq!(cluster.owner("order-7")?, Some(3), "the one that can");
    cluster.finish()?;

    // Without a policy it is said once, and left.
    let mut cluster =
        Cluster::of(1).partition_ids(["a"]).handler(|guard: Guard| async move { drop(guard) }).retry(None).start()?;
    cluster.settle()?;
    let ends = cluster
        .seen()
        .iter()
        .filter(|seen| matches!(&seen.call, Call::Ended { reason, .. } if reason.contains("dropped")));
    assert_eq!(ends.count(), 1);
    Ok(())
}

#[test]
fn a_policy_decides_when_a_partition_is_offered_again_and_given_back_ones_go_elsewhere() -> Result<(), Failure> {
    let policy = RetryPolicy { first: 10 * SECOND, longest: 10 * SECOND, tries: None };
    let handler = |guard: Guard| async move {
        if guard.life().worker == 0 && guard.partition().as_str() == "order-1" {
            return guard.give_back();
        }
        if guard.partition().as_str() == "order-2" {
            return guard.fail("not today");
        }
        guard.released().await;
    };
    let mut cluster = Cluster::of(2).partition_ids(ids()).handler(handler).retry(Some(policy)).start()?;
    cluster.settle()?;
    cluster.run_for(120 * SECOND)?;
    assert_eq!(cluster.owner("order-1")?, Some(1));
    let of = |wanted: &str| {
        let ends = cluster.seen().iter().filter_map(|seen| match &seen.call {
            Call::Ended { partition, .. } if partition.as_str() == wanted => Some(seen.at),
            _ => None,
        });
        ends.collect::<Vec<_>>()
    };
    let ends = of("order-2");
    assert!(ends.len() > 10 && ends.windows(2).all(|two| two[1] == two[0] + 10 * SECOND), "{ends:?}");
    Ok(())
}

#[test]
fn handlers_of_one_process_share_what_it_has_of_its_own() -> Result<(), Failure> {
    let caches = Arc::new(Mutex::new(Vec::new()));
    let all = caches.clone();
    let make = move |life| {
        let cache = Arc::new(Mutex::new(0_u32));
        all.lock().expect("no panic").push((life, cache.clone()));
        move |guard: Guard| {
            let cache = cache.clone();
            async move {
                *cache.lock().expect("no panic") += 1;
                guard.released().await;
            }
        }
    };
    let mut cluster = small().handler_per_process(make).start()?;
    cluster.settle()?;
    cluster.restart(2, SECOND)?;
    cluster.settle()?;
    cluster.finish()?;
    let caches = caches.lock().expect("no panic");
    assert_eq!(caches.len(), 6, "five workers, and a restart");
    assert_eq!(
        caches.iter().filter(|(life, _)| life.worker == 2).map(|(life, _)| life.restarts).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(caches.iter().all(|(_, begun)| *begun.lock().expect("no panic") == 12));
    Ok(())
}

/// Everything to the lowest worker that there is.
#[derive(Debug)]
struct ToTheLowest;

impl Strategy for ToTheLowest {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let lowest = problem.workers().iter().map(|worker| worker.slot).min();
        Ok(Answer::new(problem.partitions().as_slice().iter().map(|_| lowest).collect()))
    }
}

#[test]
fn a_strategy_of_ones_own_divides_the_partitions_and_is_not_asked_to_be_even() -> Result<(), Failure> {
    let mut cluster = small().strategy(Arc::new(ToTheLowest)).stateful_set().start()?;
    cluster.settle()?;
    assert_eq!(cluster.owned_by(0).len(), 60);
    cluster.crash(0)?;
    cluster.settle()?;
    assert_eq!(cluster.owned_by(1).len(), 60);
    cluster.finish()?;
    Ok(())
}

/// A table of a database: what it lists, or that it is away.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Option<Vec<String>>>>);

impl Source for Table {
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        let rows = self.0.lock().expect("no panic").clone().ok_or("the database is away")?;
        let partitions = rows.iter().map(|row| PartitionId::new(row).map(Partition::new));
        Ok(PartitionList::new(partitions.collect::<Result<_, _>>()?)?)
    }
}

#[test]
fn a_source_of_ones_own_is_followed_and_its_failures_change_nothing() -> Result<(), Failure> {
    let table = Table::default();
    let shared = table.clone();
    let setup = Cluster::of(3).source(move || shared.clone()).spare_partition_ids(["late-1", "late-2"]);
    let away = setup.clone().start().expect_err("there is no list").to_string();
    assert!(away.contains("must have a list at the start, but says: the database is away"), "{away}");

    let set = |rows: &[&str]| *table.0.lock().expect("no panic") = Some(rows.iter().map(ToString::to_string).collect());
    set(&["a", "b", "c"]);
    let mut cluster = setup.start()?;
    cluster.settle()?;
    set(&["b", "c", "late-1"]);
    cluster.run_for(11 * SECOND)?;
    cluster.settle()?;
    assert_eq!(cluster.owner("a")?, None);
    assert!(cluster.owner("late-1")?.is_some());

    *table.0.lock().expect("no panic") = None;
    cluster.refresh_partitions();
    cluster.run_for(SECOND)?;
    assert_eq!(cluster.source_error(), Some("the database is away"));
    assert!(cluster.owner("b")?.is_some(), "the list stays");

    set(&["b", "never-heard-of"]);
    cluster.refresh_partitions();
    let unknown = cluster.run_for(SECOND).expect_err("it is unknown").to_string();
    assert!(unknown.contains("\"never-heard-of\" must be known from the start"), "{unknown}");
    Ok(())
}

#[test]
fn random_faults_of_many_seeds_break_nothing() -> Result<(), Failure> {
    for seed in 0..12 {
        let setup = if seed % 2 == 0 { small().drain_time(|_| 50 * MILLISECOND) } else { small().handler(slow) };
        let mut cluster = setup.seed(seed).start()?;
        cluster.settle()?;
        cluster.random_faults(90 * SECOND)?;
        cluster.settle()?;
        assert_eq!(cluster.running().len(), 5, "all were replaced");
        cluster.finish()?;
    }
    Ok(())
}

#[test]
fn one_seed_does_the_same_every_time_and_another_one_does_not() -> Result<(), Failure> {
    let play = |seed| -> Result<_, Failure> {
        let mut cluster = small().handler(slow).seed(seed).start()?;
        cluster.random_faults(60 * SECOND)?;
        Ok((cluster.story(), cluster.seen().to_vec()))
    };
    assert!(play(4)? == play(4)?);
    assert!(play(4)? != play(5)?);
    Ok(())
}

#[test]
fn the_list_of_partitions_can_change() -> Result<(), Failure> {
    let mut cluster = small().spare_partition_ids(["late-1", "late-2"]).start()?;
    cluster.settle()?;
    assert_eq!(cluster.owner("late-1")?, None);
    cluster.set_partitions(ids().skip(1).chain(["late-1".into(), "late-2".into()]))?;
    cluster.settle()?;
    assert_eq!(cluster.owner("order-0")?, None);
    assert!(cluster.owner("late-1")?.is_some());
    let unknown = cluster.set_partitions(["order-1", "nobody"]).expect_err("it is unknown");
    assert!(unknown.to_string().contains("\"nobody\" must be known from the start"), "{unknown}");
    cluster.finish()?;
    Ok(())
}

#[test]
fn load_follows_capacity_and_a_worker_that_crashed_can_start_again() -> Result<(), Failure> {
    let mut cluster = small().stateful_set().capacity(|worker| if worker == 0 { 2 } else { 1 }).start()?;
    cluster.settle()?;
    assert_eq!((cluster.owned_by(0).len(), cluster.owned_by(1).len()), (20, 10));
    let before = cluster.owned_by(1);
    cluster.measure();
    cluster.crash(1)?;
    cluster.start_again(1)?;
    cluster.settle()?;
    assert_eq!(cluster.owned_by(1), before, "its slot is taken over at once");
    assert_eq!(cluster.status(1).expect("it runs").slot, Some(Slot::new(1)));
    assert_eq!(cluster.finish()?.moved, 0);
    Ok(())
}

#[test]
fn a_broken_guarantee_tells_what_when_and_how_to_repeat_it() {
    // Clocks may differ by 40 %, which is more than the margin, and a client never notices that it is cut off. Presence
    // would end in time even so.
    let network = NetworkOptions { notice_ms: 1_000_000, ..NetworkOptions::default() };
    let config = Config { probe_confirm: None, ..Config::default() };
    let play = |seed| -> Result<_, Failure> {
        let mut cluster =
            small().config(config.clone()).clock_drift_ppm(400_000).network(network.clone()).seed(seed).start()?;
        cluster.settle()?;
        for worker in 0..5 {
            cluster.isolate(worker, 30 * SECOND)?;
            cluster.run_for(60 * SECOND)?;
        }
        cluster.finish()
    };
    let (seed, failure) =
        (0..20).find_map(|seed| play(seed).err().map(|failure| (seed, failure))).expect("one seed shows it");
    assert_eq!(play(seed).expect_err("again"), failure);
    let Failure::Broken { violation, story } = &failure else { panic!("{failure}") };
    assert_eq!(violation.invariant, "ended-means-stopped");
    let shown = format!("{failure:?}");
    let test = "a_broken_guarantee_tells_what_when_and_how_to_repeat_it";
    for part in
        ["ended-means-stopped (G1) does not hold at", "isolates worker", &format!(".seed({seed}): cargo test {test}")]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!story.trace.is_empty(), "{shown}");
}

#[test]
fn what_cannot_be_is_refused_with_the_fix() -> Result<(), Failure> {
    let refused = |setup: Setup| setup.start().expect_err("it breaks a rule").to_string();
    assert!(refused(Cluster::of(0).partition_ids(ids())).contains("from 1 to 10000 workers, but is to have 0"));
    assert!(refused(Cluster::of(3)).contains("needs partitions"));
    assert!(refused(Cluster::of(3).partition_ids(["a", "a"])).contains("\"a\""));
    assert!(refused(Cluster::of(3).partition_ids([""])).contains("must not be empty"));
    assert!(refused(small().config(Config { lease: MILLISECOND, ..Config::default() })).contains("lease must be"));

    let mut cluster = small().start()?;
    assert!(cluster.crash(9).expect_err("there is none").to_string().contains("0 to 4"));
    assert!(cluster.start_again(3).expect_err("it runs").to_string().contains("must not run"));
    cluster.crash(3)?;
    assert!(cluster.leave(3).expect_err("it crashed").to_string().contains("start it again first"));
    assert!(cluster.owner("nothing").is_err());
    Ok(())
}

#[test]
fn an_available_worker_goes_on_through_an_outage() -> Result<(), Failure> {
    let config = Config { mode: Mode::Available, ..Config::default() };
    let mut cluster = small().config(config).start()?;
    cluster.settle()?;
    cluster.measure();
    cluster.outage(60 * SECOND);
    cluster.run_for(60 * SECOND)?;
    assert_eq!(cluster.measured().longest_orphan, Duration::ZERO);
    Ok(())
}

/// Five workers and sixty partitions.
fn small() -> Setup {
    Cluster::of(5).partition_ids(ids())
}

fn ids() -> impl Iterator<Item = String> {
    (0..60).map(|number| format!("order-{number}"))
}

/// Why each release was, and how long it took.
fn releases(cluster: &Cluster) -> Vec<(ReleaseReason, Duration)> {
    let seen = cluster.seen();
    let took = |from: usize, partition: &PartitionId| {
        let over = seen[from..]
            .iter()
            .find(|seen| matches!(&seen.call, Call::Released { partition: released } if released == partition));
        over.expect("it is released").at.saturating_sub(seen[from].at)
    };
    let all = seen.iter().enumerate().filter_map(|(place, seen)| match &seen.call {
        Call::Release { partition, reason } => Some((*reason, took(place, partition))),
        _ => None,
    });
    all.collect()
}

/// Takes its time for each unit of work.
async fn slow(guard: impl PartitionGuard) {
    while guard.may_work().await {
        guard.sleep(400 * MILLISECOND).await;
    }
}

/// A store that refuses a token lower than one that it has seen.
#[derive(Default)]
struct Database {
    highest: BTreeMap<PartitionId, Token>,
    written: u32,
    refused: u32,
    refused_from: Vec<u32>,
}

impl Database {
    fn write(&mut self, guard: &Guard) {
        let highest = self.highest.entry(guard.partition().clone()).or_default();
        self.written += 1;
        if guard.token() < *highest {
            self.refused += 1;
            self.refused_from.push(guard.life().worker);
        } else {
            *highest = guard.token();
        }
    }
}

/// Writes for its partition, and does not ask again between the work and the write.
async fn write(guard: Guard, store: Arc<Mutex<Database>>) {
    while guard.may_work().await {
        guard.sleep(SECOND).await;
        store.lock().expect("no panic").write(&guard);
    }
}
