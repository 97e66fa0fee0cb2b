//! What a test can do to its cluster.

use std::ops::Range;
use std::time::Duration;

use parti_core::{Command, PartitionId};

use super::cluster::Cluster;
use super::failure::Failure;
use crate::told::fact::ProcessId;
use crate::world::event::What;
use crate::world::process::Life;

/// How long the successor of a worker has to come up before the old process is told to stop.
const SURGE_HEAD_START: Duration = Duration::from_secs(5);
/// What one restart may take beyond the times that were given for its steps.
const RESTART_SLACK: Duration = Duration::from_secs(60);
/// How long it takes a killed process to be started again, at most, where chance decides.
const MAX_REPLACEMENT_MS: u64 = 10_000;

impl Cluster {
    /// Kills the process of a worker, without a word to anyone.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::NotRunning`] if it has no process.
    pub fn crash(&mut self, worker: u32) -> Result<(), Failure> {
        let process = self.process_of(worker)?;
        self.note(&format!("crashes worker {worker}"));
        self.stage.world.crash(process);
        self.check()
    }

    /// Kills the process of the worker that leads, and says which it was.
    ///
    /// # Errors
    ///
    /// [`Failure::NobodyLeads`].
    pub fn crash_leader(&mut self) -> Result<u32, Failure> {
        let leader = self.leader().ok_or(Failure::NobodyLeads { at: self.now() })?;
        self.crash(leader)?;
        Ok(leader)
    }

    /// Starts a worker again that has crashed or left.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::AlreadyRuns`].
    pub fn start_again(&mut self, worker: u32) -> Result<(), Failure> {
        self.known(worker)?;
        if self.process(worker).is_some() {
            return Err(Failure::AlreadyRuns { worker, at: self.now() });
        }
        self.operate(&format!("starts worker {worker} again"), true);
        self.bear(worker);
        self.check()
    }

    /// Starts more workers at once, and says which numbers they have.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] if in a [`stateful_set`](super::Setup::stateful_set) there is no slot for one of them.
    pub fn add_workers(&mut self, count: u32) -> Result<Range<u32>, Failure> {
        let added = self.workers..self.workers + count;
        for worker in added.clone() {
            self.births.config(worker, &self.config).validate()?;
        }
        self.operate(&format!("adds {count} workers"), true);
        for worker in added.clone() {
            self.bear(worker);
        }
        self.check()?;
        Ok(added)
    }

    /// Tells a worker to hand over what it has, and leave.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::NotRunning`] if it has no process, or that process is frozen.
    pub fn leave(&mut self, worker: u32) -> Result<(), Failure> {
        let process = self.running_process_of(worker)?;
        self.operate(&format!("lets worker {worker} leave"), true);
        self.stage.world.command(process, Command::Leave);
        self.check()
    }

    /// Tells a worker to restart: it releases everything, its process ends, and `gap` later another takes its place.
    /// With a `gap` shorter than `restart_hold`, nothing moves.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::NotRunning`] if it has no process, or that process is frozen.
    pub fn restart(&mut self, worker: u32, gap: Duration) -> Result<(), Failure> {
        let process = self.running_process_of(worker)?;
        self.operate(&format!("restarts worker {worker}, which takes {gap:?}"), gap >= self.config.restart_hold / 2);
        let birth = self.births.of(worker, &self.software());
        self.stage.world.restart(process, gap, birth);
        self.check()
    }

    /// Restarts each worker in turn, the last one first, and waits for each to have its partitions back: what a
    /// `StatefulSet` does. Nothing moves.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold; [`Failure::Unsettled`] if a restart does not end.
    pub fn rolling_update(&mut self, gap: Duration) -> Result<(), Failure> {
        self.updates += 1;
        for worker in self.running().into_iter().rev() {
            let old = self.running_process_of(worker)?;
            self.restart(worker, gap)?;
            self.wait_for_successor(old, gap)?;
        }
        Ok(())
    }

    /// Replaces each worker in turn by another of a new software version, which starts first and waits for its slot:
    /// what a `Deployment` with surge does. Nothing moves.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold; [`Failure::Unsettled`] if a replacement does not end.
    pub fn rolling_update_with_surge(&mut self) -> Result<(), Failure> {
        self.updates += 1;
        for worker in self.running() {
            let old = self.running_process_of(worker)?;
            self.operate(&format!("replaces worker {worker}"), false);
            self.bear(worker);
            self.run_for(SURGE_HEAD_START)?;
            self.stage.world.command(old, Command::Restart);
            self.wait_for_successor(old, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Freezes the process of a worker for a while, as a long garbage collection or a suspended machine does; its clock
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::NotRunning`] if it has no process, or that process is frozen.
    pub fn freeze(&mut self, worker: u32, time: Duration) -> Result<(), Failure> {
        let process = self.running_process_of(worker)?;
        self.disturb(&format!("freezes worker {worker} for {time:?}"), true, time);
        self.stage.world.pause(process, time);
        self.check()
    }

    /// Cuts a worker off from the store for a while, so that nothing gets through.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownWorker`]; [`Failure::NotRunning`] if it has no process.
    pub fn isolate(&mut self, worker: u32, time: Duration) -> Result<(), Failure> {
        let process = self.process_of(worker)?;
        self.disturb(&format!("isolates worker {worker} for {time:?}"), true, time);
        self.stage.world.links().isolate(process, Some(time), false);
        self.check()
    }

    /// Cuts all workers off from the store for a while. Nothing moves.
    pub fn isolate_all(&mut self, time: Duration) {
        self.disturb(&format!("isolates all workers for {time:?}"), false, time);
        self.stage.world.links().isolate_all(time, false);
    }

    /// The store's server is gone for a while, and every connection with it. Nothing moves.
    pub fn outage(&mut self, time: Duration) {
        self.disturb(&format!("stops the store for {time:?}"), false, time);
        self.stage.world.links().server_down(time);
    }

    /// The store answers nobody for a while, though connections stay: what a change of the leader of its streams looks
    /// like. With a `time` shorter than the lease, nobody stops to work.
    pub fn failover(&mut self, time: Duration) {
        self.disturb(&format!("the store answers nobody for {time:?}"), false, time);
        self.stage.world.links().store_down(time);
    }

    /// Changes the list of partitions: those with these ids are in it from now on, and no others.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownPartition`] for one that was neither in the first list nor among the spare ones.
    pub fn set_partitions(&mut self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Failure> {
        let mut listed = std::collections::BTreeSet::new();
        for id in ids {
            let id = PartitionId::new(id)?;
            let index = self.stage.world.ground.observers.index_of(&id);
            listed.insert(index.ok_or(Failure::UnknownPartition { partition: id })?);
        }
        self.operate(&format!("changes the list to {} partitions", listed.len()), true);
        self.stage.world.set_list(|partition| listed.contains(&partition));
        self.check()
    }

    /// Reads the [source](super::Setup::source) of the list again as soon as time passes.
    pub fn refresh_partitions(&mut self) {
        self.note("reads the source again");
        self.stage.world.lists.refresh(self.stage.world.ground.now);
    }

    /// Asks the leader for another plan now.
    ///
    /// # Errors
    ///
    /// [`Failure::NobodyLeads`].
    pub fn rebalance_now(&mut self) -> Result<(), Failure> {
        let leader = self.stage.leader().ok_or(Failure::NobodyLeads { at: self.now() })?;
        self.operate("asks for a rebalance", true);
        self.stage.world.command(leader, Command::RebalanceNow);
        self.check()
    }

    /// Lets random faults happen for a while, one after the other, as the seed decides: crashes, each with a replacement
    /// some seconds later, restarts, frozen and isolated workers, outages. Some may still last when it returns;
    /// [`settle`](Self::settle) lets them end.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if a guarantee does not hold.
    pub fn random_faults(&mut self, time: Duration) -> Result<(), Failure> {
        let until = self.now() + time;
        let lease_ms = self.stage.options().worker.lease_ms;
        loop {
            let pause = Duration::from_millis(self.rng.between(100, lease_ms));
            if self.now() + pause >= until {
                return self.run_until(until);
            }
            self.run_for(pause)?;
            let lasts = Duration::from_millis(self.rng.between(100, lease_ms * 3 / 2));
            self.random_fault(lasts)?;
        }
    }

    fn random_fault(&mut self, lasts: Duration) -> Result<(), Failure> {
        let is_awake = |worker: &u32| {
            self.process(*worker).is_some_and(|it| self.stage.world.ground.process(it).life == Life::Running)
        };
        let awake: Vec<u32> = self.running().into_iter().filter(is_awake).collect();
        let fault = self.rng.below(7);
        let Some(worker) = awake.get(self.rng.index(awake.len())).copied() else { return Ok(()) };
        match fault {
            0 => {
                self.crash(worker)?;
                let after = Duration::from_millis(self.rng.between(0, MAX_REPLACEMENT_MS));
                self.operate(&format!("starts worker {worker} again {after:?} later"), true);
                let birth = self.births.of(worker, &self.software());
                self.stage.world.ground.after(after, What::Start { birth });
                self.faulty_until = self.faulty_until.max(self.stage.world.ground.now + after);
            }
            1 => self.restart(worker, lasts.min(self.config.restart_hold / 4))?,
            2 => self.freeze(worker, lasts)?,
            3 => self.isolate(worker, lasts)?,
            4 => self.isolate_all(lasts),
            5 => self.outage(lasts),
            _ => self.failover(lasts),
        }
        Ok(())
    }

    /// Waits until `old` has ended and every partition has one owner again.
    fn wait_for_successor(&mut self, old: ProcessId, gap: Duration) -> Result<(), Failure> {
        let patience = gap + self.config.release_timeout + self.config.restart_hold + RESTART_SLACK;
        let ended = self.stage.run_until(patience, |world| world.ground.process(old).life == Life::Ended);
        let even = self.stage.run_until(patience, |world| world.ground.observers.ownership.is_even());
        self.check()?;
        if ended && even {
            return Ok(());
        }
        let unowned = self.stage.world.ground.observers.ownership.unowned();
        Err(Failure::Unsettled { unowned, at: self.now(), patience, story: Box::new(self.story()) })
    }

    fn known(&self, worker: u32) -> Result<(), Failure> {
        if worker < self.workers { Ok(()) } else { Err(Failure::UnknownWorker { worker, last: self.workers - 1 }) }
    }

    fn process_of(&self, worker: u32) -> Result<ProcessId, Failure> {
        self.known(worker)?;
        self.process(worker).ok_or(Failure::NotRunning { worker, at: self.now() })
    }

    fn running_process_of(&self, worker: u32) -> Result<ProcessId, Failure> {
        let process = self.process_of(worker)?;
        let runs = self.stage.world.ground.process(process).life == Life::Running;
        if runs { Ok(process) } else { Err(Failure::NotRunning { worker, at: self.now() }) }
    }
}
