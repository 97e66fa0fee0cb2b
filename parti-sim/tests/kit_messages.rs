//! The test kit for messages: handlers that hold in a cluster to which things happen, and mistakes that it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parti_core::Token;
use parti_core::delivery::{DeliveryConfig, Engine, Sequence};
use parti_sim::kit::{Cluster, DeadLetter, Failure, Message, Messages, PartitionMessage, PartitionMessages, Setup};

const SECOND: Duration = Duration::from_secs(1);
const WORK: Duration = Duration::from_millis(20);
const PARTITIONS: [&str; 4] = ["eu", "us", "asia", "africa"];

/// What the work has come to: it outlives every process, and refuses a token that is lower than one that it has seen.
#[derive(Debug, Default)]
struct Database {
    tokens: BTreeMap<String, Token>,
    /// How often each message was written, by partition and in the order of the first time.
    written: BTreeMap<String, Vec<(String, u32)>>,
    /// The next writes that fail.
    failures: u32,
}

type Shared = Arc<Mutex<Database>>;

fn write(database: &Shared, message: &impl PartitionMessage) -> Result<(), String> {
    let mut database = database.lock().unwrap();
    if let Some(left) = database.failures.checked_sub(1) {
        database.failures = left;
        return Err("the database is away".into());
    }
    let partition = message.partition().to_string();
    let highest = database.tokens.entry(partition.clone()).or_default();
    if message.token() < *highest {
        return Err(format!("{partition} has another owner"));
    }
    *highest = message.token();
    let text = String::from_utf8(message.payload().to_vec()).unwrap();
    let written = database.written.entry(partition).or_default();
    match written.iter_mut().find(|(known, _)| *known == text) {
        Some((_, times)) => *times += 1,
        None => written.push((text, 1)),
    }
    Ok(())
}

/// A handler that holds: it does the work, then writes, and to write twice is to write once.
async fn holds(message: Message, database: Shared) -> Result<(), String> {
    message.sleep(WORK).await;
    write(&database, &message)
}

fn setup(seed: u64) -> Setup {
    Cluster::of(3).partition_ids(PARTITIONS).seed(seed)
}

/// Publishes so many messages of each partition.
fn publish(cluster: &mut Cluster, count: u32) -> Result<(), Failure> {
    for number in 0..count {
        for partition in PARTITIONS {
            cluster.publish(partition, format!("{number:03}"))?;
        }
    }
    Ok(())
}

/// What is missing, comes twice, or is out of order.
fn wrong(database: &Shared, count: u32) -> (usize, usize, bool) {
    let database = database.lock().unwrap();
    let all: Vec<_> = database.written.values().flatten().collect();
    let missing = count as usize * PARTITIONS.len() - all.len();
    let in_order = database.written.values().all(|written| written.is_sorted_by_key(|(text, _)| text));
    (missing, all.iter().filter(|(_, times)| *times > 1).count(), in_order)
}

/// Runs a handler while a worker crashes in the middle of its work, and is started again.
fn through_a_crash(setup: Setup, seed: u64) -> Result<(), Failure> {
    let mut cluster = setup.seed(seed).start()?;
    cluster.settle()?;
    publish(&mut cluster, 150)?;
    cluster.run_for(Duration::from_millis(2_310))?;
    let owner = cluster.owner("eu")?.expect("it has an owner");
    cluster.crash(owner)?;
    cluster.run_for(SECOND)?;
    cluster.start_again(owner)?;
    cluster.finish()?;
    Ok(())
}

#[test]
fn a_handler_that_holds_does_so_whatever_happens() -> Result<(), Failure> {
    for seed in 0..5 {
        let database = Shared::default();
        let shared = Arc::clone(&database);
        let mut cluster = setup(seed).on_message(move |message| holds(message, Arc::clone(&shared))).start()?;
        cluster.settle()?;
        publish(&mut cluster, 100)?;
        cluster.random_faults(20 * SECOND)?;
        cluster.finish()?;
        let (missing, _, in_order) = wrong(&database, 100);
        assert_eq!((missing, in_order), (0, true), "seed {seed}");
    }
    Ok(())
}

#[test]
fn a_planned_move_repeats_nothing() -> Result<(), Failure> {
    let database = Shared::default();
    let shared = Arc::clone(&database);
    let mut cluster = setup(1).on_message(move |message| holds(message, Arc::clone(&shared))).start()?;
    cluster.settle()?;
    publish(&mut cluster, 200)?;
    cluster.run_for(Duration::from_millis(305))?;
    cluster.leave(cluster.owner("eu")?.expect("it has an owner"))?;
    cluster.settle()?;
    assert_eq!(cluster.unfinished(), 0);
    cluster.finish()?;
    assert_eq!(wrong(&database, 200), (0, 0, true));
    Ok(())
}

#[test]
fn who_commits_before_the_work_loses_what_a_crash_interrupts() -> Result<(), Failure> {
    async fn hasty(mut messages: Messages, database: Shared) -> Result<(), String> {
        while let Some(message) = messages.next().await {
            messages.commit(&message).map_err(|lost| lost.to_string())?;
            message.sleep(WORK).await;
            write(&database, &message)?;
        }
        messages.finish().await.map_err(|lost| lost.to_string())
    }
    let missing = (0..5).map(|seed| {
        let database = Shared::default();
        let shared = Arc::clone(&database);
        let config = DeliveryConfig { commit_after: 1, ..DeliveryConfig::new("MESSAGES") };
        let setup = setup(seed).delivery(config);
        through_a_crash(setup.on_messages(move |messages| hasty(messages, Arc::clone(&shared))), seed)?;
        Ok(wrong(&database, 150).0)
    });
    let missing: Vec<usize> = missing.collect::<Result<_, Failure>>()?;
    assert!(missing.iter().all(|missing| *missing > 0), "{missing:?}");
    Ok(())
}

#[test]
fn a_work_queue_is_worked_on_in_order_through_a_crash() -> Result<(), Failure> {
    for seed in 0..5 {
        let database = Shared::default();
        let shared = Arc::clone(&database);
        let config = DeliveryConfig { engine: Engine::Queue, ..DeliveryConfig::new("MESSAGES") };
        let setup = setup(seed).delivery(config);
        through_a_crash(setup.on_message(move |message| holds(message, Arc::clone(&shared))), seed)?;
        let (missing, _, in_order) = wrong(&database, 150);
        assert!(missing == 0 && in_order, "seed {seed}: {missing} missing");
    }
    Ok(())
}

#[test]
fn what_was_done_and_not_stored_is_done_again_after_a_crash() -> Result<(), Failure> {
    // To a handler that is not to do anything twice, this is the mistake; the message itself is never missing.
    let mut repeated = 0;
    for seed in 0..5 {
        let database = Shared::default();
        let shared = Arc::clone(&database);
        through_a_crash(setup(seed).on_message(move |message| holds(message, Arc::clone(&shared))), seed)?;
        let (missing, twice, in_order) = wrong(&database, 150);
        assert!(missing == 0 && in_order, "seed {seed}: {missing} missing");
        repeated += twice;
    }
    assert!(repeated > 0);
    Ok(())
}

/// What handlers in batches have been told to be stored, how large the largest batch was, and what came again all the same.
#[derive(Debug, Default)]
struct Told {
    stored: BTreeSet<(String, Sequence)>,
    largest: usize,
    again: usize,
}

/// A handler that goes on only once its batch is stored as finished.
async fn in_batches(mut messages: Messages, told: Arc<Mutex<Told>>, database: Shared) -> Result<(), String> {
    loop {
        let batch = messages.next_batch(7).await;
        let Some(last) = batch.last() else { break };
        last.sleep(WORK).await;
        let id = |message: &Message| (message.partition().to_string(), message.sequence());
        {
            let mut told = told.lock().unwrap();
            told.largest = told.largest.max(batch.len());
            told.again += batch.iter().filter(|message| told.stored.contains(&id(message))).count();
        }
        batch.iter().try_for_each(|message| write(&database, message))?;
        let stored = match messages.commit(last) {
            Ok(()) => messages.stored(last).await,
            Err(refused) => Err(refused),
        };
        if stored.is_err() {
            break;
        }
        told.lock().unwrap().stored.extend(batch.iter().map(id));
    }
    messages.finish().await.map_err(|lost| lost.to_string())
}

#[test]
fn what_a_handler_was_told_to_be_stored_never_comes_again() -> Result<(), Failure> {
    for engine in [Engine::Log, Engine::Queue] {
        let (told, database) = (Arc::default(), Shared::default());
        let shared = (Arc::clone(&told), Arc::clone(&database));
        let handler = move |messages| in_batches(messages, Arc::clone(&shared.0), Arc::clone(&shared.1));
        let delivery = DeliveryConfig { engine, ..DeliveryConfig::new("ORDERS") };
        through_a_crash(setup(3).delivery(delivery).on_messages(handler), 3)?;
        let told: &Mutex<Told> = &told;
        let told = told.lock().unwrap();
        assert_eq!((told.stored.len(), told.again, told.largest), (150 * PARTITIONS.len(), 0, 7), "{engine:?}");
        assert_eq!(wrong(&database, 150).0, 0, "{engine:?}");
    }
    Ok(())
}

#[test]
fn who_swallows_an_error_loses_the_message_and_who_returns_it_does_not() -> Result<(), Failure> {
    async fn swallows(message: Message, database: Shared) -> Result<(), String> {
        message.sleep(WORK).await;
        let _ = write(&database, &message);
        Ok(())
    }
    let runs = |swallows_errors: bool| {
        let database = Arc::new(Mutex::new(Database { failures: 7, ..Database::default() }));
        let shared = Arc::clone(&database);
        let setup = setup(1);
        let setup = if swallows_errors {
            setup.on_message(move |message| swallows(message, Arc::clone(&shared)))
        } else {
            setup.on_message(move |message| holds(message, Arc::clone(&shared)))
        };
        let mut cluster = setup.start()?;
        cluster.settle()?;
        publish(&mut cluster, 20)?;
        cluster.finish()?;
        Ok::<_, Failure>(wrong(&database, 20))
    };
    assert_eq!(runs(true)?.0, 7);
    assert_eq!(runs(false)?, (0, 0, true));
    Ok(())
}

#[test]
fn a_message_that_no_process_survives_is_given_up_and_no_other_one() -> Result<(), Failure> {
    let database = Shared::default();
    let shared = Arc::clone(&database);
    let handler = move |message: Message| {
        let database = Arc::clone(&shared);
        async move {
            if message.payload() == b"013" && message.partition().as_str() == "us" {
                message.end_process().await;
            }
            holds(message, database).await
        }
    };
    let config = DeliveryConfig { max_tries: 3, dead_letters: true, ..DeliveryConfig::new("MESSAGES") };
    let mut cluster = setup(1).delivery(config).on_message(handler).start()?;
    cluster.settle()?;
    publish(&mut cluster, 30)?;
    cluster.settle()?;
    let [DeadLetter { partition, payload, tries, reason, .. }] = &cluster.dead_letters()[..] else {
        panic!("{:?}", cluster.dead_letters());
    };
    assert_eq!((partition.as_str(), &payload[..], *tries, reason), ("us", &b"013"[..], 3, &None));
    cluster.finish()?;
    assert_eq!(wrong(&database, 30).0, 1);
    Ok(())
}

#[test]
fn a_worker_that_was_frozen_is_told_that_its_commit_is_refused() -> Result<(), Failure> {
    type Refused = Arc<Mutex<Vec<(u32, String)>>>;
    async fn works(mut messages: Messages, refused: Refused) {
        let worker = messages.life().worker;
        while let Some(message) = messages.next().await {
            message.sleep(SECOND).await; // it does not ask whether it may go on
            let _ = messages.commit(&message);
        }
        if let Err(lost) = messages.finish().await {
            refused.lock().unwrap().push((worker, lost.reason));
        }
    }
    let refused = Refused::default();
    let shared = Arc::clone(&refused);
    let mut cluster = setup(3).on_messages(move |messages| works(messages, Arc::clone(&shared))).start()?;
    cluster.settle()?;
    publish(&mut cluster, 4)?;
    cluster.run_for(SECOND / 2)?;
    let owner = cluster.owner("eu")?.expect("it has an owner");
    cluster.freeze(owner, 60 * SECOND)?;
    cluster.settle()?;
    assert_eq!(cluster.unfinished(), 0);
    cluster.finish()?;
    let refused = refused.lock().unwrap();
    assert!(!refused.is_empty() && refused.iter().all(|(worker, _)| *worker == owner), "{refused:?}");
    Ok(())
}

#[test]
fn messages_without_a_handler_and_settings_that_break_a_rule_are_refused() -> Result<(), Failure> {
    let mut cluster = setup(1).start()?;
    assert_eq!(cluster.publish("eu", "x"), Err(Failure::NoHandler));
    let config = DeliveryConfig { max_tries: 0, ..DeliveryConfig::new("MESSAGES") };
    let error = setup(1).delivery(config).start().expect_err("the setting breaks a rule");
    assert!(error.to_string().contains("max_tries"), "{error}");
    Ok(())
}
