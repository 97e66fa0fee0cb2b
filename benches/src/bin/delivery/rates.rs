//! How much is delivered in a second, and what that costs the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use parti_benches::process::{core_time, memory_of};
use parti_nats::{Builder, Config, Consumer, Delivered, Delivery};
use tokio::runtime::Runtime;

use crate::Scale;
use crate::support::Server;
use crate::table::{Bound, Table};

/// What each message says.
const PAYLOAD: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server with a stream.
struct Stage {
    runtime: Runtime,
    server: Server,
    jetstream: jetstream::Context,
}

impl Stage {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let server = Server::start();
        let jetstream = runtime.block_on(async {
            let client = async_nats::connect(server.url()).await.expect("it listens");
            let jetstream = jetstream::new(client);
            let wanted = stream::Config {
                name: "ORDERS".into(),
                subjects: vec!["orders.*".into()],
                allow_direct: true,
                storage: stream::StorageType::Memory,
                ..stream::Config::default()
            };
            jetstream.create_stream(wanted).await.expect("a new stream");
            jetstream
        });
        Self { runtime, server, jetstream }
    }

    /// Publishes so many messages to so many partitions, as fast as the server takes them.
    async fn publish(&self, count: u64, partitions: u64) {
        let subjects: Vec<_> = (0..partitions).map(|number| format!("orders.p{number}")).collect();
        let mut acks = Vec::new();
        for subject in (0..count).zip(subjects.iter().cycle()).map(|(_, subject)| subject) {
            let ack = self.jetstream.publish(subject.clone(), PAYLOAD.into()).await.expect("sent");
            acks.push(tokio::spawn(ack.into_future()));
            if acks.len() == 2_000 {
                for ack in acks.drain(..) {
                    ack.await.expect("it runs").expect("stored");
                }
            }
        }
        for ack in acks {
            ack.await.expect("it runs").expect("stored");
        }
    }

    /// A worker that owns every partition, or shares them with others.
    async fn consume(&self, partitions: u64, workers: u32) -> Consumer {
        let config = Config { expected_workers: Some(workers), ..Config::default() };
        let ids = (0..partitions).map(|number| format!("p{number}"));
        let worker = Builder::new("orders").server(self.server.url()).config(config).partition_ids(ids).start();
        let client = async_nats::connect(self.server.url()).await.expect("it listens");
        let delivery = Delivery::new("ORDERS", "orders.{partition}");
        delivery.start(worker.expect("valid settings"), client).await.expect("the stream fits")
    }
}

/// Counts what is handed out.
fn counting(consumer: Consumer, count: &Arc<AtomicU64>) {
    let count = Arc::clone(count);
    tokio::spawn(consumer.run(move |_: Delivered| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, std::convert::Infallible>(()) }
    }));
}

/// Waits until so many were counted. Returns for how long.
async fn reached(count: &AtomicU64, wanted: u64) -> Duration {
    let begun = Instant::now();
    while count.load(Ordering::Relaxed) < wanted {
        assert!(begun.elapsed() < PATIENCE, "only {} of {wanted} came", count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

/// Reads so many messages with a bare pull consumer of the same kind as a tail is. Returns for how long.
async fn bare(jetstream: &jetstream::Context, wanted: u64, during: impl Future<Output = ()>) -> Duration {
    let stream = jetstream.get_stream("ORDERS").await.expect("it is there");
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        filter_subject: "orders.*".into(),
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a new consumer");
    let mut messages = consumer.stream().max_messages_per_batch(2_000).messages().await.expect("it is read");
    let begun = Instant::now();
    let read = async {
        for _ in 0..wanted {
            messages.next().await.expect("more").expect("a message");
        }
        begun.elapsed()
    };
    let (took, ()) = tokio::join!(read, during);
    took
}

/// One worker beside a bare consumer: messages that are there, and messages that are published meanwhile.
pub(crate) fn throughput(table: &mut Table, scale: Scale) -> io::Result<()> {
    let (partitions, messages) = (100, scale.messages);
    let mut ratios = Vec::new();
    for (what, is_live) in [("backlog", false), ("live", true)] {
        let stage = Stage::new();
        let [bare, ours] = stage.runtime.block_on(async {
            let publish = async || stage.publish(messages, partitions).await;
            let bare = if is_live {
                bare(&stage.jetstream, messages, publish()).await
            } else {
                publish().await;
                bare(&stage.jetstream, messages, async {}).await
            };
            let count = Arc::<AtomicU64>::default();
            if is_live {
                stage.jetstream.get_stream("ORDERS").await.expect("it is there").purge().await.expect("purged");
            }
            let consumer = stage.consume(partitions, 1).await;
            let assignment = consumer.assignment_reader();
            counting(consumer, &count);
            let begun = Instant::now();
            while assignment.read().len() < usize::try_from(partitions).expect("few") {
                assert!(begun.elapsed() < PATIENCE, "the worker gets no partitions");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let ours = if is_live {
                // Until every partition is at the end of the stream, and a tail shows what comes.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let begun = Instant::now();
                tokio::join!(reached(&count, messages), publish());
                begun.elapsed()
            } else {
                reached(&count, messages).await
            };
            [bare, ours]
        });
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = |took: Duration| messages as f64 / took.as_secs_f64() / 1e3;
        table.add(&format!("{what}: a bare pull consumer"), "1000/s", rate(bare), None)?;
        table.add(&format!("{what}: one worker, {partitions} partitions"), "1000/s", rate(ours), None)?;
        ratios.push((what, bare.as_secs_f64() / ours.as_secs_f64()));
    }
    for (what, ratio) in ratios {
        let bound = (what == "live").then_some(Bound::AtLeast(0.9));
        table.add(&format!("{what}: one worker beside a bare pull consumer"), "times", ratio, bound)?;
    }
    Ok(())
}

/// Ten workers, and what has piled up.
pub(crate) fn backlog(table: &mut Table, scale: Scale) -> io::Result<()> {
    let stage = Stage::new();
    let (partitions, workers) = (1_000, 10);
    let took = stage.runtime.block_on(async {
        stage.publish(scale.backlog, partitions).await;
        let count = Arc::<AtomicU64>::default();
        for _ in 0..workers {
            counting(stage.consume(partitions, workers).await, &count);
        }
        let begun = Instant::now();
        while count.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < PATIENCE, "nothing is delivered");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reached(&count, scale.backlog).await
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = scale.backlog as f64 / took.as_secs_f64() / 1e3;
    let what = format!("backlog of {} over {partitions} partitions, {workers} workers", scale.backlog);
    table.add(&what, "1000/s", rate, None)
}

/// What a message costs the server beyond its publishing.
pub(crate) fn server(table: &mut Table, scale: Scale) -> io::Result<()> {
    for partitions in [100, 1_000, 5_000] {
        let stage = Stage::new();
        let (alone, delivered, memory) = stage.runtime.block_on(async {
            let alone = cpu_while(&stage.server, stage.publish(scale.messages, partitions)).await;
            stage.jetstream.get_stream("ORDERS").await.expect("it is there").purge().await.expect("purged");
            let count = Arc::<AtomicU64>::default();
            counting(stage.consume(partitions, 1).await, &count);
            // Until everything is claimed and at the end of the stream.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let both =
                async { tokio::join!(stage.publish(scale.messages, partitions), reached(&count, scale.messages)) };
            (alone, cpu_while(&stage.server, async { _ = both.await }).await, memory_of(stage.server.id()))
        });
        #[expect(clippy::cast_precision_loss, reason = "a cost")]
        let cost = (delivered.as_secs_f64() - alone.as_secs_f64()) * 1e6 / scale.messages as f64;
        table.add(
            &format!("server: CPU of a message beyond its publishing, {partitions} partitions"),
            "us",
            cost,
            None,
        )?;
        table.add(&format!("server: memory, {partitions} partitions"), "MiB", memory, None)?;
    }
    Ok(())
}

async fn cpu_while(server: &Server, work: impl Future<Output = ()>) -> Duration {
    let before = core_time(server.id());
    work.await;
    core_time(server.id()).saturating_sub(before)
}
