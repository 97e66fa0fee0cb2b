//! A laboratory: workers around a perfect store without delay, and what happened as text.
//!
//! It is for stories that a person reads. Delays, losses and faults are the simulator's business.

#![allow(dead_code)] // Each test file uses a part of it.

mod bench;
mod network;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use parti_core::assign::Strategy;
use parti_core::{
    Action, Command, Config, Event, Generation, Instant, Key, Notice, Partition, PartitionId, PartitionList, Term,
    Token, Worker, WorkerState,
};

use self::bench::Bench;
pub(crate) use self::bench::Reach;
use self::network::Network;
use self::store::Store;

/// How many events one instant may take before it counts as an endless loop.
const MAX_EVENTS_PER_INSTANT: usize = 10_000;

#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct Lab {
    now: Instant,
    store: Store,
    partitions: PartitionList,
    /// By partition: the highest token that was ever acquired.
    fence: BTreeMap<PartitionId, Token>,
    /// The plans for which a leader has given a reason.
    explained: BTreeSet<Generation>,
    /// Who crashes after how many more events.
    doomed: Option<(usize, usize)>,
    /// Whether the reply to the next append gets lost.
    lose_reply: bool,
    news_first: bool,
    /// Whether the connection of the next one who reads everything breaks before the end of what it reads is heard.
    breaks_reading: bool,
    /// Whether the writes of who starts now are refused.
    refuses_newcomers: bool,
    /// Whose plans are refused.
    no_plans_of: Option<usize>,
    /// The term of each write to the plan, in order.
    pub(crate) terms: Vec<Term>,
    /// What workers have deleted, in order.
    pub(crate) deleted: Vec<Key>,
    network: Network,
    pub(crate) workers: Vec<Bench>,
    pub(crate) transcript: String,
}

impl Lab {
    pub(crate) fn new(partitions: usize) -> Self {
        let id = |n| PartitionId::new(format!("p{n}")).expect("a valid id");
        let partitions = (0..partitions).map(|n| Partition::new(id(n))).collect();
        Self {
            now: Instant::from_millis(0),
            store: Store::default(),
            partitions: PartitionList::new(partitions).expect("each id once"),
            fence: BTreeMap::new(),
            explained: BTreeSet::new(),
            doomed: None,
            lose_reply: false,
            news_first: false,
            breaks_reading: false,
            refuses_newcomers: false,
            no_plans_of: None,
            terms: Vec::new(),
            deleted: Vec::new(),
            network: Network::default(),
            workers: Vec::new(),
            transcript: String::new(),
        }
    }

    /// Starts a worker, and lets everything happen that happens at once.
    pub(crate) fn start(&mut self, name: &str, config: Config) -> usize {
        let seed = self.workers.len() as u64;
        self.begin(name, Worker::new(config, seed, self.now).expect("a valid config"))
    }

    /// Starts a worker that divides partitions by a strategy of its user's own.
    pub(crate) fn start_with(&mut self, name: &str, config: Config, strategy: Arc<dyn Strategy>) -> usize {
        let seed = self.workers.len() as u64;
        let worker = Worker::new(config, seed, self.now).expect("a valid config");
        self.begin(name, worker.with_strategy(strategy))
    }

    fn begin(&mut self, name: &str, worker: Worker) -> usize {
        let reach = if std::mem::take(&mut self.refuses_newcomers) { Reach::Refused } else { Reach::Full };
        let first = Event::Partitions(self.partitions.clone());
        self.workers.push(Bench::new(name, worker, reach, self.network.next_server, first));
        self.note(&format!("{name} starts"));
        self.listen(self.workers.len() - 1);
        self.settle();
        self.workers.len() - 1
    }

    pub(crate) fn command(&mut self, at: usize, command: Command) {
        self.note(&format!("{} is told to {command:?}", self.workers[at].name));
        self.workers[at].inbox.push_back(Event::Command(command));
        self.settle();
    }

    /// The application of a worker cannot work on a partition that it holds.
    pub(crate) fn give_up(&mut self, at: usize, partition: &str) {
        self.note(&format!("the application of {} gives up {partition}", self.workers[at].name));
        let held = self.workers[at].working.iter().find(|(id, _)| id.as_str() == partition);
        let (partition, token) = held.map(|(id, token)| (id.clone(), *token)).expect("it holds it");
        self.workers[at].inbox.push_back(Event::GivenUp { partition, token });
        self.settle();
    }

    /// All applications say how heavy their partitions are.
    pub(crate) fn report(&mut self, mut load: impl FnMut(&str) -> u64) {
        for at in 0..self.workers.len() {
            self.report_of(at, &mut load);
        }
    }

    /// The application of a worker says how heavy its partitions are.
    pub(crate) fn report_of(&mut self, at: usize, mut load: impl FnMut(&str) -> u64) {
        let bench = &mut self.workers[at];
        if bench.runs() {
            let weighs = |(partition, token): (&PartitionId, &Token)| {
                let units = load(partition.as_str());
                Event::Load { partition: partition.clone(), token: *token, units }
            };
            bench.inbox.extend(bench.working.iter().map(weighs));
            self.settle();
        }
    }

    /// Tells a worker how large records may be.
    pub(crate) fn limit_records(&mut self, at: usize, bytes: usize) {
        self.note(&format!("{} learns that records may have {bytes} bytes", self.workers[at].name));
        self.workers[at].inbox.push_back(Event::RecordLimit(bytes));
        self.settle();
    }

    /// Starts a worker whose writes are refused.
    pub(crate) fn start_out_of_favour(&mut self, name: &str, config: Config) -> usize {
        self.refuses_newcomers = true;
        self.start(name, config)
    }

    pub(crate) fn crash(&mut self, at: usize) {
        self.note(&format!("{} crashes", self.workers[at].name));
        self.workers[at].alive = false;
        self.workers[at].working.clear();
        self.workers[at].draining.clear();
    }

    /// A worker crashes after so many more events, whoever they are for.
    pub(crate) fn doom(&mut self, at: usize, events: usize) {
        self.doomed = Some((events, at));
    }

    /// Whether the one who was to crash has not yet.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.is_some()
    }

    /// The process does not run any more, but is there; with `false`, it goes on.
    pub(crate) fn freeze(&mut self, at: usize, frozen: bool) {
        self.note(&format!("{} {}", self.workers[at].name, if frozen { "freezes" } else { "wakes" }));
        self.workers[at].frozen = frozen;
        self.settle();
    }

    /// A process that did not run does again, and what is due comes before what has happened meanwhile.
    pub(crate) fn wake_late(&mut self, at: usize) {
        self.workers[at].inbox.push_front(Event::Timeout);
        self.freeze(at, false);
    }

    /// The application of a worker takes its time from now on.
    pub(crate) fn slow_down(&mut self, at: usize) {
        self.note(&format!("the application of {} takes its time", self.workers[at].name));
        self.workers[at].slow = true;
    }

    /// The application is done with everything that it was told to release.
    pub(crate) fn finish(&mut self, at: usize) {
        self.note(&format!("the application of {} is done", self.workers[at].name));
        for (partition, token) in std::mem::take(&mut self.workers[at].draining) {
            self.workers[at].inbox.push_back(Event::Released { partition, token });
        }
        self.settle();
    }

    /// Gives everyone another list of partitions.
    pub(crate) fn set_list(&mut self, list: Vec<Partition>) {
        self.partitions = PartitionList::new(list).expect("a valid list");
        self.note(&format!("the list has {} partitions", self.partitions.as_slice().len()));
        for bench in &mut self.workers {
            bench.inbox.push_back(Event::Partitions(self.partitions.clone()));
        }
        self.settle();
    }

    /// Gives one worker another list of partitions than the others.
    pub(crate) fn set_list_of(&mut self, at: usize, list: Vec<Partition>) {
        let list = PartitionList::new(list).expect("a valid list");
        self.note(&format!("{} has a list of {}", self.workers[at].name, list.as_slice().len()));
        self.workers[at].inbox.push_back(Event::Partitions(list));
        self.settle();
    }

    /// Lets `millis` pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + std::time::Duration::from_millis(millis);
        let mut timeouts = 0;
        loop {
            let alive = || self.workers.iter().enumerate().filter(|(_, bench)| bench.runs());
            let next = alive().filter_map(|(at, bench)| bench.worker.poll_timeout().map(|due| (due, at))).min();
            let Some((due, at)) = next.filter(|(due, _)| *due <= end) else { break };
            timeouts = if due > self.now { 0 } else { timeouts + 1 };
            let name = &self.workers[at].name;
            assert!(timeouts < MAX_EVENTS_PER_INSTANT, "{name} always wants to be woken at once:\n{}", self.transcript);
            self.now = self.now.max(due);
            self.workers[at].inbox.push_back(Event::Timeout);
            self.settle();
        }
        self.now = end;
    }

    /// Who works on what, by name; several names where several do.
    pub(crate) fn owners(&self) -> BTreeMap<String, Vec<String>> {
        let mut owners: BTreeMap<String, Vec<String>> =
            self.partitions.as_slice().iter().map(|partition| (partition.id.to_string(), Vec::new())).collect();
        for bench in self.workers.iter().filter(|bench| bench.runs() && !bench.worker.status().suspended) {
            for id in bench.working.keys().chain(bench.draining.keys()) {
                owners.entry(id.to_string()).or_default().push(bench.name.clone());
            }
        }
        owners
    }

    fn settle(&mut self) {
        for _ in 0..MAX_EVENTS_PER_INSTANT {
            let Some(at) = self.workers.iter().position(|bench| bench.runs() && !bench.inbox.is_empty()) else {
                return;
            };
            self.break_reading(at);
            let event = self.workers[at].inbox.pop_front().expect("the inbox is not empty");
            self.workers[at].worker.handle(self.now, event);
            while let Some(action) = self.workers[at].worker.poll_action() {
                self.act(at, action);
            }
            self.check_state(at);
            self.doomed = match self.doomed {
                Some((0, victim)) => {
                    self.crash(victim);
                    None
                }
                Some((events, victim)) => Some((events - 1, victim)),
                None => None,
            };
        }
        panic!("no end to what happens at {:?}:\n{}", self.now, self.transcript);
    }

    /// A worker's state changes only as the table says, and agrees with whatever else it says.
    fn check_state(&mut self, at: usize) {
        let status = self.workers[at].worker.status();
        let before = *self.workers[at].states.last().expect("there is a first state");
        let name = &self.workers[at].name;
        assert!(before.may_become(status.state), "{name}: {before} became {}:\n{}", status.state, self.transcript);
        assert!(status.state.may_have(status.planner), "{name} contradicts itself: {status:?}\n{}", self.transcript);
        assert_eq!(status.degraded.is_some(), status.state == WorkerState::Degraded, "{name}: {status:?}");
        if status.state != before {
            self.workers[at].states.push(status.state);
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Kv(request) => self.write(at, &request),
            Action::Watch { watch, bucket, interest } => self.watch(at, watch, bucket, interest),
            Action::Listen => {
                self.tell(at, "subscribes its probe subject anew");
                self.listen(at);
            }
            Action::Check { session, check } => self.check(at, session, check),
            Action::Probe { probe, instance, through, .. } => self.ask(at, probe, instance, through),
            Action::Acquire { partition, token } => {
                let mut others = self.workers.iter().filter(|bench| bench.runs() && !bench.worker.status().suspended);
                let other = others.find(|bench| bench.works_on(&partition.id)).map(|bench| &bench.name);
                assert_eq!(other, None, "{} has two owners:\n{}", partition.id, self.transcript);
                let fence = self.fence.insert(partition.id.clone(), token);
                assert!(fence < Some(token), "{}: {token} after {fence:?}\n{}", partition.id, self.transcript);
                let explained = self.explained.contains(&token.epoch);
                assert!(explained, "nobody said why {} was granted ({token}):\n{}", partition.id, self.transcript);
                let before = self.workers[at].working.insert(partition.id.clone(), token);
                assert_eq!(before, None, "{} acquired twice", partition.id);
                self.tell(at, &format!("acquires {} ({})", partition.id, token.epoch));
            }
            Action::Release { partition, token, reason } => {
                assert_eq!(self.workers[at].working.remove(&partition), Some(token), "{partition} released twice");
                self.tell(at, &format!("releases {partition} ({reason:?})"));
                if self.workers[at].slow {
                    self.workers[at].draining.insert(partition, token);
                } else {
                    self.workers[at].inbox.push_back(Event::Released { partition, token });
                }
            }
            Action::Cancel { partition, token } => {
                let drained = self.workers[at].draining.remove(&partition);
                assert_eq!(
                    drained,
                    Some(token),
                    "{partition} is not being released, and yet cancelled:\n{}",
                    self.transcript
                );
                self.tell(at, &format!("drops what is left of {partition}"));
                self.workers[at].inbox.push_back(Event::Released { partition, token });
            }
            Action::Prepare { partition } => self.tell(at, &format!("prepares {partition}")),
            Action::Suspend { reason } => self.tell(at, &format!("suspends ({reason:?})")),
            Action::Resume => self.tell(at, "resumes"),
            Action::Notice(notice) => {
                if let Notice::Planned { generation, .. } = notice {
                    self.explained.insert(generation);
                }
                self.tell(at, &format!("says {notice:?}"));
            }
            Action::Halt => {
                self.tell(at, "halts");
                self.workers[at].alive = false;
            }
        }
    }

    /// A process does not run for `millis`, while all others do; then it does.
    pub(crate) fn oversleep(&mut self, at: usize, millis: u64) {
        self.note(&format!("{} does not run", self.workers[at].name));
        let inbox = std::mem::take(&mut self.workers[at].inbox);
        self.workers[at].alive = false;
        self.run(millis);
        self.workers[at].alive = true;
        self.workers[at].inbox.extend(inbox);
        self.workers[at].inbox.push_back(Event::Timeout);
        self.settle();
    }

    fn tell(&mut self, at: usize, what: &str) {
        let line = format!("  {} {what}", self.workers[at].name);
        self.note(&line);
    }

    fn note(&mut self, line: &str) {
        let millis = self.now.as_nanos() / 1_000_000;
        writeln!(self.transcript, "{:>3}.{:03} {line}", millis / 1000, millis % 1000).expect("text can be written");
    }
}
