//! What happens to fleets, and how long it takes until all is well again.

use std::io;
use std::time::Duration;

use parti_nats::Config;

use crate::processes::agent::{Order, Spec};
use crate::processes::fleet::Fleet;
use crate::processes::journal::{At, Journal, Who};
use crate::processes::proxy::{Proxy, Way};
use crate::report::Report;
use crate::stage::{Operator, PATIENCE, Stage};
use crate::support::{Cluster, Server};

const HANDOFF: Duration = Duration::from_millis(50);
const LEAVE: Duration = Duration::from_millis(100);
const LEADER_LEAVES: Duration = Duration::from_millis(200);
const CRASH: Duration = Duration::from_millis(1_500);
const LEADER_CRASHES: Duration = Duration::from_secs(2);
const AFTER_SILENCE: Duration = Duration::from_millis(500);
const COLD_START: Duration = Duration::from_secs(3);
/// The fleet that has a bound for its cold start.
const COLD_START_WORKERS: u32 = 50;

/// Workers start at once; when each of them begins to work.
pub(crate) fn start(report: &mut Report, workers: u32) -> io::Result<()> {
    for expected in [None, Some(workers)] {
        let per_process = workers.div_ceil(50);
        let stage = Stage { server: Server::start(), config: Config::default(), workers, repetitions: 1 };
        let config = Config { expected_workers: expected, ..Config::default() };
        let spec = Spec { workers: per_process, config, tick: None, ..stage.spec() };
        let mut fleet = Fleet::new(spec, &[]);
        let begun = At::now();
        fleet.start_many(workers / per_process);
        fleet.settle(PATIENCE);
        let first: Vec<_> = fleet.journal().first_holds().values().map(|at| at.since(begun)).collect();
        let how = if expected.is_some() { "at once, expected" } else { "at once" };
        let bound = (workers == COLD_START_WORKERS && expected.is_some()).then_some(COLD_START);
        report.times(&format!("first assignment of {workers} workers {how}"), &first, bound)?;
        report.violations("start", &fleet.journal().violations())?;
    }
    Ok(())
}

/// One idle partition goes from worker to worker, as an operator drains one after the other.
pub(crate) fn handoff(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let mut fleet = Fleet::new(Spec { partitions: 1, ..stage.spec() }, &[]);
    fleet.start_many(stage.workers);
    fleet.wait("covered", PATIENCE, Journal::is_covered);
    let operator = Operator::new(&stage.server.url());
    let (mut gaps, mut drained) = (Vec::new(), None);
    for _ in 0..stage.repetitions * 5 {
        let (owner, slot) = {
            let journal = fleet.journal();
            let owner = journal.owners()[&0];
            (owner, journal.slot(owner).expect("an owner has a slot"))
        };
        let at = At::now();
        operator.drain(slot);
        fleet.wait("moved", PATIENCE, |journal| journal.owners().get(&0).is_some_and(|now| *now != owner));
        gaps.extend(fleet.journal().gaps(owner.process, at));
        drained.replace(slot).into_iter().for_each(|slot| operator.undrain(slot));
    }
    report.times(&stage.label("handoff of an idle partition: unowned"), &gaps, Some(HANDOFF))?;
    report.violations(&stage.label("handoff"), &fleet.journal().violations())
}

/// Followers leave, one after the other.
pub(crate) fn leave(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let mut fleet = stage.fleet();
    let (mut unowned, mut recovered) = (Vec::new(), Vec::new());
    for _ in 0..stage.repetitions {
        let process = fleet.follower(PATIENCE);
        let at = fleet.end(process, Order::Leave, PATIENCE);
        fleet.settle(PATIENCE);
        unowned.extend(fleet.journal().gaps(process, at));
        recovered.extend(fleet.journal().takeovers(process, at).into_iter().max());
    }
    report.times(&stage.label("planned leave: a partition unowned"), &unowned, Some(LEAVE))?;
    report.times(&stage.label("planned leave: until all is owned by others"), &recovered, None)?;
    report.violations(&stage.label("leave"), &fleet.journal().violations())
}

/// Leaders leave, one after the other.
pub(crate) fn leader_leaves(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let mut fleet = stage.fleet();
    let (mut unowned, mut led) = (Vec::new(), Vec::new());
    for _ in 0..stage.repetitions {
        let process = fleet.leader(PATIENCE).process;
        let at = fleet.end(process, Order::Leave, PATIENCE);
        led.push(next_leader(&fleet, at));
        fleet.settle(PATIENCE);
        unowned.extend(fleet.journal().gaps(process, at));
    }
    report.times(&stage.label("leader leaving: next leader"), &led, Some(LEADER_LEAVES))?;
    report.times(&stage.label("leader leaving: a partition unowned"), &unowned, Some(LEAVE))?;
    report.violations(&stage.label("leader leaving"), &fleet.journal().violations())
}

/// Followers are killed, one after the other.
pub(crate) fn crash(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let mut fleet = stage.fleet();
    let mut recovered = Vec::new();
    for _ in 0..stage.repetitions {
        let process = fleet.follower(PATIENCE);
        let at = fleet.kill(process);
        fleet.settle(PATIENCE);
        recovered.extend(fleet.journal().takeovers(process, at).into_iter().max());
    }
    report.times(&stage.label("killed worker: its partitions owned again"), &recovered, Some(CRASH))?;
    report.violations(&stage.label("crash"), &fleet.journal().violations())
}

/// Leaders are killed, one after the other.
pub(crate) fn leader_crashes(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let mut fleet = stage.fleet();
    let (mut recovered, mut led) = (Vec::new(), Vec::new());
    for _ in 0..stage.repetitions {
        let process = fleet.leader(PATIENCE).process;
        let at = fleet.kill(process);
        led.push(next_leader(&fleet, at));
        fleet.settle(PATIENCE);
        recovered.extend(fleet.journal().takeovers(process, at).into_iter().max());
    }
    report.times(&stage.label("killed leader: next leader"), &led, None)?;
    report.times(&stage.label("killed leader: its partitions owned again"), &recovered, Some(LEADER_CRASHES))?;
    report.violations(&stage.label("killed leader"), &fleet.journal().violations())
}

/// Some workers are stopped by a signal and others isolated, and later go on.
pub(crate) fn silence(stage: &Stage, report: &mut Report) -> io::Result<()> {
    let proxy = Proxy::start(stage.server.port());
    let isolated_spec = Spec { url: proxy.url(), ..stage.spec() };
    let mut fleet = Fleet::new(stage.spec(), &[]);
    fleet.start_many(stage.workers - 2);
    fleet.leader(PATIENCE);
    let isolated: Vec<_> = (0..2).map(|_| fleet.start_as(&isolated_spec)).collect();
    fleet.settle(PATIENCE);

    let leader = fleet.leader(PATIENCE).process;
    let others = fleet.processes().into_iter().filter(|process| *process != leader && !isolated.contains(process));
    let frozen: Vec<_> = others.take(3).map(|process| (process, fleet.freeze(process))).collect();
    let isolated_at = At::now();
    proxy.set(Way::Blackhole);
    let is_silent =
        |who: &Who| isolated.contains(&who.process) || frozen.iter().any(|(process, _)| *process == who.process);
    fleet.wait("taken over", PATIENCE, |journal| journal.is_covered() && !journal.owners().values().any(is_silent));
    let bound = stage.config.lease + stage.config.lease / 8 + AFTER_SILENCE;
    let of = |silent: Vec<(u32, At)>| -> Vec<_> {
        silent.into_iter().flat_map(|(process, at)| fleet.journal().takeovers(process, at)).collect()
    };
    let of_frozen = of(frozen.clone());
    let of_isolated = of(isolated.iter().map(|process| (*process, isolated_at)).collect());
    report.times(&stage.label("stopped by a signal: owned again"), &of_frozen, Some(bound))?;
    report.times(&stage.label("isolated: owned again"), &of_isolated, Some(bound))?;
    for (process, _) in frozen {
        fleet.thaw(process);
    }
    proxy.set(Way::Open);
    // They come back as newcomers, and are given work as such.
    fleet.settle(PATIENCE);
    report.violations(&stage.label("silence"), &fleet.journal().violations())
}

/// The node of three that leads the stream of a bucket is killed, at the default lease.
pub(crate) fn cluster(report: &mut Report) -> io::Result<()> {
    for bucket in ["members", "plan"] {
        let mut cluster = Cluster::start();
        let (workers, config) = (10, Config::default());
        let stage = Stage { server: Server::start(), config, workers, repetitions: 1 };
        let mut fleet = Fleet::new(Spec { url: cluster.urls(), replicas: 3, ..stage.spec() }, &[]);
        fleet.start_many(workers);
        fleet.level(PATIENCE);
        let before = fleet.journal().grants();

        let operator = Operator::new(&cluster.servers[0].url());
        let stream = operator.jetstream.get_stream(format!("KV_parti_live_{bucket}"));
        let stream = operator.runtime.block_on(stream).expect("the stream");
        let info = stream.cached_info().cluster.as_ref().expect("it is in a cluster");
        let node = info.leader.clone().expect("a leader");
        cluster.server(&node).kill();
        // Longer than anybody is waited for, and then until those who had to suspend go on.
        std::thread::sleep(stage.config.lease * 3 / 2);
        fleet.settle(PATIENCE);

        let after = fleet.journal().grants();
        let changed = before.iter().filter(|(partition, grant)| after.get(partition) != Some(grant)).count();
        let what = format!("killed node that leads the {bucket} stream of three");
        report.count(&format!("{what}: moved or granted anew"), changed)?;
        report.violations(&what, &fleet.journal().violations())?;
    }
    Ok(())
}

/// When there is a next leader, counted from `at`.
fn next_leader(fleet: &Fleet, at: At) -> Duration {
    fleet.wait("led again", PATIENCE, |journal| journal.next_reign(at).is_some());
    fleet.journal().next_reign(at).expect("just seen").from.since(at)
}
