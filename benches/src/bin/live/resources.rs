//! What fleets take: writes to the store, time of a core, memory.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parti_benches::process::{core_time, memory_of};
use parti_nats::Config;

use crate::Scale;
use crate::processes::agent::Spec;
use crate::processes::fleet::Fleet;
use crate::processes::journal::At;
use crate::report::Report;
use crate::stage::{Operator, PATIENCE, Stage};
use crate::support::Server;

const MAX_CORE_PERCENT: f64 = 1.0;
/// Of a leader of 1 000 workers.
const MAX_LEADER_PERCENT: f64 = 5.0;
const MAX_MEMORY_MIB: f64 = 15.0;
/// Renewals come no sooner than this part of the lease apart.
const RENEWALS_PER_LEASE: u32 = 4;

/// A fleet of 10 with 1 000 partitions at rest, at the default config.
pub(crate) fn steady(report: &mut Report, scale: Scale) -> io::Result<()> {
    let stage = Stage { server: Server::start(), config: Config::default(), workers: 10, repetitions: 1 };
    let spec = Spec { partitions: 1_000, tick: None, ..stage.spec() };
    let mut fleet = Fleet::new(spec.clone(), &[]);
    fleet.start_many(stage.workers);
    let idle = fleet.start_as(&Spec { workers: 0, ..spec });
    fleet.settle(PATIENCE);
    // The start is over for everyone's allocator too.
    std::thread::sleep(Duration::from_secs(1));

    let processes = fleet.processes();
    let used_before: BTreeMap<u32, Duration> = processes.iter().map(|id| (*id, core_time(fleet.pid(*id)))).collect();
    let begun = Instant::now();
    let writes = Writes::count(&Operator::new(&stage.server.url()), scale.steady);
    let window = begun.elapsed();
    let core = |id: u32| percent_used(used_before[&id], core_time(fleet.pid(id)), window);
    let memory = |id: u32| memory_of(fleet.pid(id));

    let interval = stage.config.lease / RENEWALS_PER_LEASE;
    report.figures(
        "steady state: writes per worker per renewal interval",
        "writes",
        writes.per(interval),
        Some(1.0),
    )?;
    report.figure("steady state: writes of 10 workers, 1000 partitions", "1/s", writes.per_second(), None)?;
    report.figure("steady state: bytes written", "bytes/s", writes.bytes_per_second(), None)?;
    let leader = fleet.leader(PATIENCE).process;
    let workers: Vec<u32> = processes.into_iter().filter(|id| *id != idle).collect();
    let over_idle = |of: &dyn Fn(u32) -> f64| workers.iter().map(|id| of(*id) - of(idle)).collect::<Vec<_>>();
    report.figures(
        "steady state: CPU of a worker over an idle client",
        "% core",
        over_idle(&core),
        Some(MAX_CORE_PERCENT),
    )?;
    report.figure("steady state: CPU of the leader over an idle client", "% core", core(leader) - core(idle), None)?;
    report.figures(
        "steady state: memory of a worker over an idle client",
        "MiB",
        over_idle(&memory),
        Some(MAX_MEMORY_MIB),
    )?;
    report.figure("steady state: memory of an idle client", "MiB", memory(idle), None)
}

/// 200 workers and 10 000 partitions on this machine.
pub(crate) fn large(report: &mut Report) -> io::Result<()> {
    let (workers, processes) = (200, 4);
    let stage = Stage { server: Server::start(), config: Config::default(), workers, repetitions: 1 };
    let spec = Spec { partitions: 10_000, workers: workers / processes, tick: None, ..stage.spec() };
    let mut fleet = Fleet::new(spec, &[]);
    let begun = At::now();
    let running = fleet.start_many(processes);
    fleet.settle(PATIENCE);
    let first: Vec<_> = fleet.journal().first_holds().values().map(|at| at.since(begun)).collect();
    report.times("200 workers, 10000 partitions: first assignment", &first, None)?;

    let before: Vec<_> = running.iter().map(|id| core_time(fleet.pid(*id))).collect();
    let window = Duration::from_secs(5);
    std::thread::sleep(window);
    let per_worker = |value: f64| value / f64::from(workers / processes);
    let used = |(id, before): (&u32, &Duration)| per_worker(percent_used(*before, core_time(fleet.pid(*id)), window));
    let core = running.iter().zip(&before).map(used).collect();
    report.figures("200 workers, 10000 partitions: CPU of a worker", "% core", core, None)?;
    let memory = running.iter().map(|id| per_worker(memory_of(fleet.pid(*id)))).collect();
    report.figures("200 workers, 10000 partitions: memory of a worker", "MiB", memory, None)?;

    let leader = fleet.leader(PATIENCE).process;
    let victim = running.into_iter().find(|id| *id != leader).expect("more than one process");
    let at = fleet.kill(victim);
    fleet.settle(PATIENCE);
    let owned_again = fleet.journal().takeovers(victim, at);
    report.times("200 workers, 10000 partitions: 50 killed at once: owned again", &owned_again, None)?;
    report.violations("200 workers, 10000 partitions", &fleet.journal().violations())
}

/// 1 000 workers on this machine, and what their leader takes, which has a process of its own. They come in groups: each
/// newcomer watches all others until it has a slot, and hundreds of them at once are more than a few cores can run beside the
/// server.
pub(crate) fn thousand(report: &mut Report) -> io::Result<()> {
    let (large, small) = ([111; 7], [37; 6]);
    let stage = Stage { server: Server::start(), config: Config::default(), workers: 1_000, repetitions: 1 };
    let spec = Spec { partitions: 10_000, workers: 1, tick: None, ..stage.spec() };
    let mut fleet = Fleet::new(spec.clone(), &[]);
    let leader = fleet.start();
    while fleet.leader(PATIENCE).process != leader {
        std::thread::sleep(Duration::from_millis(20));
    }
    for workers in large.into_iter().chain(small) {
        fleet.start_as(&Spec { workers, ..spec.clone() });
        fleet.settle(PATIENCE);
    }
    std::thread::sleep(Duration::from_secs(5));

    let before = core_time(fleet.pid(leader));
    let window = Duration::from_secs(20);
    std::thread::sleep(window);
    let used = percent_used(before, core_time(fleet.pid(leader)), window);
    report.figure("1000 workers at rest: CPU of the leader", "% core", used, Some(MAX_LEADER_PERCENT))?;
    report.violations("1000 workers, 10000 partitions", &fleet.journal().violations())
}

/// What is written to a group's buckets.
struct Writes {
    /// By key: when, and how many bytes.
    by_key: BTreeMap<String, Vec<(Instant, usize)>>,
    window: Duration,
}

impl Writes {
    /// Listens for so long to what the server repeats of each accepted write.
    fn count(operator: &Operator, window: Duration) -> Self {
        let by_key = operator.runtime.block_on(async {
            let mut repeated = operator.jetstream.client().subscribe("parti.live.members.>").await.expect("connected");
            let mut plan = operator.jetstream.client().subscribe("parti.live.plan.>").await.expect("connected");
            let mut by_key: BTreeMap<String, Vec<(Instant, usize)>> = BTreeMap::new();
            let until = tokio::time::Instant::now() + window;
            loop {
                let message = tokio::select! {
                    Some(message) = repeated.next() => message,
                    Some(message) = plan.next() => message,
                    () = tokio::time::sleep_until(until) => return by_key,
                };
                let written = (Instant::now(), message.subject.len() + message.payload.len());
                by_key.entry(message.subject.to_string()).or_default().push(written);
            }
        });
        Self { by_key, window }
    }

    /// The writes of each worker in each such time, by the mean time from one to the next.
    fn per(&self, interval: Duration) -> Vec<f64> {
        let slots = self.by_key.iter().filter(|(key, _)| key.contains(".slot."));
        let rate = |(_, writes): (&String, &Vec<(Instant, usize)>)| {
            let [first, .., last] = writes.as_slice() else { return 0.0 };
            let intervals = last.0.duration_since(first.0).as_secs_f64() / interval.as_secs_f64();
            // To a hundredth: the way from the worker to here takes one time more, another time less.
            (float(writes.len() - 1) / intervals * 100.0).round() / 100.0
        };
        slots.map(rate).collect()
    }

    fn per_second(&self) -> f64 {
        float(self.by_key.values().map(Vec::len).sum()) / self.window.as_secs_f64()
    }

    fn bytes_per_second(&self) -> f64 {
        float(self.by_key.values().flatten().map(|(_, bytes)| bytes).sum()) / self.window.as_secs_f64()
    }
}

/// The share of one core that was used in a window.
fn percent_used(before: Duration, after: Duration, window: Duration) -> f64 {
    after.saturating_sub(before).as_secs_f64() / window.as_secs_f64() * 100.0
}

fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("no figure here is so large"))
}
