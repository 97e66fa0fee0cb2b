//! How long a partition's messages wait while it moves.

use std::io;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::Scale;
use crate::consumers::{Consumer, Journal, Said, Spec};
use crate::support::Server;
use crate::table::{Bound, Table};

const PARTITIONS: u32 = 40;
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two processes that share the partitions of a stream to which somebody publishes.
struct Stage {
    spec: Spec,
    journal: Journal,
    consumers: Vec<Consumer>,
    _publishing: oneshot::Sender<()>,
    _runtime: Runtime,
    _server: Server,
}

impl Stage {
    fn new() -> Self {
        let (runtime, server) = (Runtime::new().expect("a runtime"), Server::start());
        let (publishing, stopped) = oneshot::channel();
        runtime.block_on(found(server.url()));
        runtime.spawn(publish(server.url(), stopped));
        let lease = Duration::from_secs(10);
        let (url, work) = (server.url(), Duration::ZERO);
        let spec = Spec { url, replicas: 1, partitions: PARTITIONS, lease, work, expected: 2 };
        let journal = Journal::default();
        let consumers = [(); 2].map(|()| Consumer::start(&spec, &journal)).into();
        let stage = Self { spec, journal, consumers, _publishing: publishing, _runtime: runtime, _server: server };
        stage.is_shared();
        stage
    }

    /// Waits until every partition is worked on, by two processes.
    fn is_shared(&self) {
        let (deadline, from) = (Instant::now() + PATIENCE, self.journal.len());
        loop {
            let said = self.journal.read();
            let served = |partition: u32| said[from..].iter().any(|said| said.partition == format!("p{partition}"));
            let processes = said[from..].iter().map(|said| said.process).collect::<std::collections::BTreeSet<_>>();
            if processes.len() > 1 && (0..PARTITIONS).all(served) {
                return;
            }
            assert!(Instant::now() < deadline, "two processes do not come to share the partitions");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn join(&mut self) {
        self.consumers.push(Consumer::start(&self.spec, &self.journal));
        self.is_shared();
    }
}

/// The longest pause of each partition that changed hands, in milliseconds: from the end of the last work of one process
/// to the beginning of the next one's, less what lies between two messages.
fn pauses(said: &[Said]) -> Vec<f64> {
    let mut pauses = Vec::new();
    for partition in 0..PARTITIONS {
        let name = format!("p{partition}");
        let mut of_it: Vec<_> = said.iter().filter(|said| said.partition == name).collect();
        of_it.sort_by_key(|said| said.at);
        for two in of_it.windows(2).filter(|two| two[0].process != two[1].process) {
            let nanos = two[1].at.saturating_sub(two[0].at);
            pauses.push((Duration::from_nanos(nanos).saturating_sub(BETWEEN * PARTITIONS)).as_secs_f64() * 1e3);
        }
    }
    pauses
}

/// Between two messages; each partition gets one after all others had theirs.
const BETWEEN: Duration = Duration::from_millis(1);

/// A worker leaves, and another comes.
pub(crate) fn handoff(table: &mut Table, scale: Scale) -> io::Result<()> {
    let mut stage = Stage::new();
    for _ in 0..scale.repetitions.div_ceil(4) {
        let mut leaving = stage.consumers.remove(0);
        leaving.ask("leave");
        leaving.wait();
        stage.join();
    }
    let pauses = pauses(&stage.journal.read());
    table.spread("handoff: what a move adds to a partition's delivery", "ms", pauses, Some(Bound::AtMost(100.0)))
}

/// A process is killed, and the other one takes over.
pub(crate) fn crash(table: &mut Table, scale: Scale) -> io::Result<()> {
    let mut stage = Stage::new();
    let mut longest = Vec::new();
    for _ in 0..scale.repetitions.div_ceil(4) {
        let from = stage.journal.len();
        stage.consumers.remove(0).kill();
        std::thread::sleep(Duration::from_secs(3));
        longest.extend(pauses(&stage.journal.read()[from.saturating_sub(1_000)..]));
        stage.join();
    }
    table.spread("crash: until the successor begins, at the default lease", "ms", longest, None)
}

async fn found(url: String) {
    let jetstream = jetstream::new(async_nats::connect(url).await.expect("it listens"));
    let wanted = stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.*".into()],
        allow_direct: true,
        ..stream::Config::default()
    };
    jetstream.create_stream(wanted).await.expect("a new stream");
}

async fn publish(url: String, mut stopped: oneshot::Receiver<()>) {
    let jetstream = jetstream::new(async_nats::connect(url).await.expect("it listens"));
    let mut ticks = tokio::time::interval(BETWEEN);
    for number in (0..PARTITIONS).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => break,
        }
        let sent = jetstream.publish(format!("orders.p{number}"), "x".into()).await;
        drop(sent.expect("sent").await);
    }
}
