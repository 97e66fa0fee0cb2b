//! A laboratory: workers around a perfect store without delay, and what happened as text.
//!
//! It is for stories that a person reads. Delays, losses and faults are the simulator's business.

#![allow(dead_code)] // Each test file uses a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use parti_core::assign::Strategy;
use parti_core::{
    Action, Bucket, Command, Config, Control, ControlRecord, Event, Generation, Incarnation, Instance, Instant,
    Interest, Key, KvEvent, Notice, Outcome, Partition, PartitionId, PartitionList, ProbeOutcome, Record, Request,
    Revision, ServerId, Session, Term, Token, WatchId, Worker, WorkerState, Write,
};

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
    /// Of whom probes say that nobody listens, although somebody does.
    slandered: Option<usize>,
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
    /// The pairs of servers, in order, between which nothing gets through: neither knows who listens at the other.
    cut_routes: BTreeSet<(u32, u32)>,
    /// Where those connect who start.
    next_server: u32,
    pub(crate) workers: Vec<Bench>,
    pub(crate) transcript: String,
}

/// A worker and what is around it.
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct Bench {
    name: String,
    pub(crate) worker: Worker,
    alive: bool,
    /// Whether the process does not run for now; its clock goes on.
    frozen: bool,
    reach: Reach,
    /// The server that its connection ends at.
    server: u32,
    session: Session,
    /// Whether its server has its subscription of the probe subject.
    listens: bool,
    /// Whether it may subscribe.
    may_listen: bool,
    /// How many probes and checks it has asked for.
    pub(crate) asked: usize,
    /// Every state that it has been in, in order.
    pub(crate) states: Vec<WorkerState>,
    watches: BTreeMap<Bucket, (WatchId, Interest)>,
    inbox: std::collections::VecDeque<Event>,
    pub(crate) working: BTreeMap<PartitionId, Token>,
    /// Whether its application takes its time to release a partition.
    pub(crate) slow: bool,
    /// What it was told to release, and still works on.
    pub(crate) draining: BTreeMap<PartitionId, Token>,
}

impl Bench {
    fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    fn instance(&self) -> Instance {
        self.worker.status().instance
    }

    fn works_on(&self, partition: &PartitionId) -> bool {
        self.working.contains_key(partition) || self.draining.contains_key(partition)
    }
}

/// How far a worker reaches the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As it should be.
    Full,
    /// Its writes go nowhere, and it hears nothing, but its connection looks alive.
    Mute,
    /// Its watches have gone silent; its writes land.
    Deaf,
    /// It hears nothing of the plan; all else is as it should be.
    DeafToPlan,
    /// It hears everything, and whatever it writes is refused.
    Refused,
    /// Its connection is gone, and it knows.
    Cut,
}

impl Reach {
    fn hears(self, bucket: Bucket) -> bool {
        match self {
            Self::Full | Self::Refused => true,
            Self::DeafToPlan => bucket == Bucket::Members,
            Self::Mute | Self::Deaf | Self::Cut => false,
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Store {
    incarnation: BTreeMap<Bucket, u64>,
    last: BTreeMap<Bucket, u64>,
    entries: BTreeMap<Key, Entry>,
}

/// A revision and what it wrote: what is stored is bytes, or a delete marker.
type Entry = (Revision, Option<Vec<u8>>);

impl Store {
    fn apply(&mut self, write: &Write) -> Outcome {
        let (key, last) = (write.key(), *self.last.entry(write.key().bucket()).or_default());
        let (revision, exists) = self
            .entries
            .get(&key)
            .map_or((Revision::default(), false), |(revision, record)| (*revision, record.is_some()));
        let (holds, record) = match write {
            Write::Create { record, .. } => (!exists, Some(record)),
            Write::Update { record, expected, .. } => (revision == *expected, Some(record)),
            Write::Delete { expected, .. } => (revision == *expected, None),
            Write::Append { record, expected_last, .. } => (last == expected_last.value(), Some(record)),
        };
        if !holds {
            return Outcome::Conflict;
        }
        Outcome::Committed(self.put(key, record.map(Record::encode)))
    }

    fn put(&mut self, key: Key, bytes: Option<Vec<u8>>) -> Revision {
        let last = self.last.entry(key.bucket()).or_default();
        *last += 1;
        self.entries.insert(key, (Revision::new(*last), bytes));
        Revision::new(*last)
    }
}

fn term(record: &Record) -> Option<Term> {
    match record {
        Record::Cluster(head) => Some(head.term),
        Record::Assignment(assignment) => Some(assignment.term),
        Record::Member(_) | Record::Leader(_) | Record::Control(_) => None,
    }
}

fn server_id(server: u32) -> ServerId {
    ServerId::new(&format!("server-{server}"))
}

fn shown(watch: WatchId, key: Key, (revision, bytes): &Entry) -> Event {
    Event::Kv(match bytes {
        Some(bytes) => KvEvent::from_stored(watch, key, *revision, bytes),
        None => KvEvent::Deleted { watch, key, revision: *revision },
    })
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
            slandered: None,
            breaks_reading: false,
            refuses_newcomers: false,
            no_plans_of: None,
            terms: Vec::new(),
            deleted: Vec::new(),
            cut_routes: BTreeSet::new(),
            next_server: 0,
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
        self.workers.push(Bench {
            name: name.into(),
            worker,
            alive: true,
            frozen: false,
            reach: if std::mem::take(&mut self.refuses_newcomers) { Reach::Refused } else { Reach::Full },
            server: self.next_server,
            session: Session::default(),
            listens: false,
            may_listen: true,
            asked: 0,
            states: vec![WorkerState::Init],
            watches: BTreeMap::new(),
            inbox: [Event::Partitions(self.partitions.clone())].into(),
            working: BTreeMap::new(),
            slow: false,
            draining: BTreeMap::new(),
        });
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

    /// The store takes no more plans of this worker.
    pub(crate) fn refuse_plans_of(&mut self, at: usize) {
        self.note(&format!("the plans of {} are refused", self.workers[at].name));
        self.no_plans_of = Some(at);
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

    /// The store takes the next append, and its reply gets lost.
    pub(crate) fn lose_next_reply(&mut self) {
        self.note("the reply to the next append will be lost");
        self.lose_reply = true;
    }

    /// From now on watches show a write before its own reply comes.
    pub(crate) fn show_news_first(&mut self) {
        self.note("news come before replies");
        self.news_first = true;
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

    /// Probes say that nobody listens where this worker is; none ends that.
    pub(crate) fn slander(&mut self, at: Option<usize>) {
        self.slandered = at;
    }

    /// Those who start from now on connect to this server.
    pub(crate) fn connect_to(&mut self, server: u32) {
        self.next_server = server;
    }

    /// The route between two servers breaks: neither knows any more who listens at the other. With `false`, it is back.
    pub(crate) fn cut_route(&mut self, one: u32, other: u32, cut: bool) {
        self.note(&format!("the route between server {one} and {other} {}", if cut { "breaks" } else { "is back" }));
        let route = (one.min(other), one.max(other));
        if cut {
            self.cut_routes.insert(route)
        } else {
            self.cut_routes.remove(&route)
        };
    }

    /// The server takes a worker's subscription of its probe subject away, and does not say so; its connection stands.
    pub(crate) fn take_subscription(&mut self, at: usize) {
        self.note(&format!("{} loses its subscription", self.workers[at].name));
        self.workers[at].listens = false;
    }

    /// Whether a worker may subscribe.
    pub(crate) fn let_listen(&mut self, at: usize, may_listen: bool) {
        self.note(&format!("{} may{} subscribe", self.workers[at].name, if may_listen { "" } else { " not" }));
        self.workers[at].may_listen = may_listen;
    }

    /// A worker's client connects to another server, and nobody notices that it was gone.
    pub(crate) fn reconnect(&mut self, at: usize, server: u32) {
        self.note(&format!("{} connects to server {server}", self.workers[at].name));
        self.workers[at].server = server;
        self.listen(at);
        self.settle();
    }

    /// The adapter subscribes the probe subject.
    fn listen(&mut self, at: usize) {
        let bench = &mut self.workers[at];
        bench.session = bench.session.next();
        bench.listens = bench.may_listen;
        bench.inbox.push_back(Event::Listening { session: bench.session, server: server_id(bench.server) });
    }

    /// What a probe by one worker of a process finds.
    fn probe(&self, by: usize, instance: Instance) -> ProbeOutcome {
        let there = |bench: &Bench| bench.alive && bench.worker.status().instance == instance;
        let Some(at) = self.workers.iter().position(there) else { return ProbeOutcome::NobodyListens };
        let (here, there) = (self.workers[by].server, self.workers[at].server);
        let is_cut = self.cut_routes.contains(&(here.min(there), here.max(there)));
        if is_cut || self.slandered == Some(at) || !self.workers[at].listens {
            ProbeOutcome::NobodyListens
        } else if self.workers[at].frozen {
            ProbeOutcome::TimedOut
        } else {
            ProbeOutcome::Answered
        }
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

    /// Changes how far a worker reaches the store; where it can hear again, its watches are read anew.
    pub(crate) fn set_reach(&mut self, at: usize, reach: Reach) {
        let bench = &mut self.workers[at];
        let before = std::mem::replace(&mut bench.reach, reach);
        match (before, reach) {
            (Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused, Reach::Cut) => {
                bench.listens = false;
                bench.inbox.push_back(Event::Kv(KvEvent::Lost));
            }
            (Reach::Cut, Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused) => {
                bench.inbox.push_back(Event::Kv(KvEvent::Restored));
                self.listen(at);
            }
            (
                Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused,
                Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused,
            )
            | (Reach::Cut, Reach::Cut) => {}
        }
        if reach == Reach::Full {
            for (bucket, (watch, interest)) in self.workers[at].watches.clone() {
                self.workers[at].inbox.push_back(Event::Kv(KvEvent::WatchLost { watch }));
                self.watch(at, watch, bucket, interest);
            }
        }
        self.settle();
    }

    /// Writes whatever bytes under a key, as somebody else could.
    pub(crate) fn put(&mut self, key: Key, bytes: &[u8]) {
        self.note(&format!("somebody writes {key}: {}", String::from_utf8_lossy(bytes)));
        self.store.put(key, Some(bytes.to_vec()));
        self.show(key);
        self.settle();
    }

    /// Deletes whatever is stored under a key, as somebody else could.
    pub(crate) fn delete(&mut self, key: Key) {
        self.note(&format!("somebody deletes {key}"));
        self.store.put(key, None);
        self.show(key);
        self.settle();
    }

    /// What is stored under a key, if anything is.
    pub(crate) fn stored(&self, key: Key) -> Option<&[u8]> {
        self.store.entries.get(&key).and_then(|(_, bytes)| bytes.as_deref())
    }

    /// The revision of what is stored under a key; 0 if nothing is.
    pub(crate) fn revision(&self, key: Key) -> Revision {
        self.store.entries.get(&key).map(|(revision, _)| *revision).unwrap_or_default()
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

    /// The connection of the next one who reads everything breaks and is back at once: it is told so when it has taken
    /// in all values, before the ends of both listings, which wait in its queue.
    pub(crate) fn break_next_reading(&mut self) {
        self.breaks_reading = true;
    }

    fn break_reading(&mut self, at: usize) {
        let bench = &mut self.workers[at];
        let of_all = |bucket| bench.watches.get(&bucket).filter(|(_, interest)| *interest == Interest::All);
        let ends = Bucket::ALL.map(|bucket| of_all(bucket).map(|(watch, _)| *watch));
        let is_end =
            |event: &Event| matches!(event, Event::Kv(KvEvent::CaughtUp { watch, .. }) if ends.contains(&Some(*watch)));
        if !self.breaks_reading || bench.inbox.iter().filter(|event| is_end(event)).count() < 2 {
            return;
        }
        self.breaks_reading = false;
        let (ends, values): (Vec<_>, Vec<_>) = std::mem::take(&mut bench.inbox).into_iter().partition(is_end);
        bench.inbox.extend(values);
        bench.inbox.extend([Event::Kv(KvEvent::Lost), Event::Kv(KvEvent::Restored)]);
        bench.inbox.extend(ends);
        let name = bench.name.clone();
        self.note(&format!("the connection of {name} breaks and is back while it reads everything"));
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
            Action::Check { session, check } => {
                self.workers[at].asked += 1;
                let bench = &mut self.workers[at];
                if bench.listens && bench.session == session && bench.reach != Reach::Cut {
                    bench.inbox.push_back(Event::Present { session, check });
                }
            }
            Action::Probe { probe, instance, through, .. } => {
                self.workers[at].asked += 1;
                let helper = through.map(|through| self.workers.iter().position(|b| b.instance() == through));
                let (by, answers) = match helper {
                    None => (at, true),
                    Some(Some(by)) => (by, self.probe(at, self.workers[by].instance()) == ProbeOutcome::Answered),
                    Some(None) => (at, false),
                };
                let outcome = if answers { self.probe(by, instance) } else { ProbeOutcome::TimedOut };
                let server = answers.then(|| server_id(self.workers[by].server));
                self.workers[at].inbox.push_back(Event::Probed { probe, outcome, server });
            }
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
                assert_eq!(drained, Some(token), "{partition} is not being released, and yet cancelled");
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

    fn write(&mut self, at: usize, Request { operation, write }: &Request) {
        let reached = matches!(self.workers[at].reach, Reach::Full | Reach::Deaf | Reach::DeafToPlan);
        let outcome = match self.workers[at].reach {
            Reach::Refused => Outcome::Refused,
            _ if self.no_plans_of == Some(at) && matches!(write, Write::Append { .. }) => Outcome::Refused,
            _ if reached => self.store.apply(write),
            _ => Outcome::Unknown,
        };
        let lost = matches!(write, Write::Append { .. }) && std::mem::take(&mut self.lose_reply);
        let heard = if lost { Outcome::Unknown } else { outcome };
        let done = Event::Kv(KvEvent::Done { operation: *operation, outcome: heard });
        if !self.news_first {
            self.workers[at].inbox.push_back(done.clone());
        }
        if let Outcome::Committed(_) = outcome {
            if let Write::Append { record, .. } = write {
                self.terms.extend(term(record));
            }
            if let Write::Delete { key, .. } = write {
                self.deleted.push(*key);
            }
            self.show(write.key());
        }
        if self.news_first {
            self.workers[at].inbox.push_back(done);
        }
    }

    /// An operator makes a wish, or takes it back.
    pub(crate) fn want(&mut self, control: Control, wanted: Option<ControlRecord>) {
        self.note(&format!("an operator {} {control}", if wanted.is_some() { "wants" } else { "no longer wants" }));
        let key = Key::Control(control);
        self.store.put(key, wanted.map(|record| Record::Control(record.into()).encode()));
        self.show(key);
        self.settle();
    }

    fn show(&mut self, key: Key) {
        let entry = &self.store.entries[&key];
        for bench in self.workers.iter_mut().filter(|bench| bench.reach.hears(key.bucket())) {
            if let Some((watch, interest)) = bench.watches.get(&key.bucket())
                && interest.covers(key)
            {
                bench.inbox.push_back(shown(*watch, key, entry));
            }
        }
    }

    fn watch(&mut self, at: usize, watch: WatchId, bucket: Bucket, interest: Interest) {
        if self.workers[at].reach.hears(bucket) {
            for (key, entry) in &self.store.entries {
                if key.bucket() == bucket && interest.covers(*key) {
                    self.workers[at].inbox.push_back(shown(watch, *key, entry));
                }
            }
            let incarnation = Incarnation::new(1 + self.store.incarnation.get(&bucket).copied().unwrap_or_default());
            let last = Revision::new(self.store.last.get(&bucket).copied().unwrap_or_default());
            let caught_up = KvEvent::CaughtUp { watch, incarnation, last };
            self.workers[at].inbox.push_back(Event::Kv(caught_up));
        }
        self.workers[at].watches.insert(bucket, (watch, interest));
    }

    /// The bucket is deleted and made anew.
    pub(crate) fn make_anew(&mut self, bucket: Bucket) {
        self.note(&format!("{bucket} is made anew"));
        *self.store.incarnation.entry(bucket).or_default() += 1;
        self.store.last.remove(&bucket);
        self.store.entries.retain(|key, _| key.bucket() != bucket);
        self.break_watches(bucket);
    }

    /// The bucket is deleted and made anew by somebody who knows of no life before, and whose clock is behind.
    pub(crate) fn make_anew_with_a_clock_behind(&mut self, bucket: Bucket) {
        *self.store.incarnation.entry(bucket).or_default() -= 2;
        self.make_anew(bucket);
    }

    /// Removes every message of a bucket, as an operator's purge does: the bucket's life and its last revision stay.
    /// Nobody hears of it before the next reading.
    pub(crate) fn purge(&mut self, bucket: Bucket) {
        self.note(&format!("somebody purges {bucket}"));
        self.store.entries.retain(|key, _| key.bucket() != bucket);
    }

    /// What the adapter does from time to time: reads the bucket again, and finds that records are gone.
    pub(crate) fn reread_purged(&mut self, bucket: Bucket) {
        self.break_watches(bucket);
    }

    /// The bucket has an earlier life again, as it was at the time of the backup.
    pub(crate) fn bring_back(&mut self, bucket: Bucket, backup: &Store) {
        self.note(&format!("{bucket} has an earlier life again"));
        self.store.entries.retain(|key, _| key.bucket() != bucket);
        let of_bucket = backup.entries.iter().filter(|(key, _)| key.bucket() == bucket);
        self.store.entries.extend(of_bucket.map(|(key, entry)| (*key, entry.clone())));
        self.store.last.insert(bucket, backup.last.get(&bucket).copied().unwrap_or_default());
        self.store.incarnation.insert(bucket, backup.incarnation.get(&bucket).copied().unwrap_or_default());
        self.break_watches(bucket);
    }

    /// What the store has now, to go back to.
    pub(crate) fn backup(&self) -> Store {
        self.store.clone()
    }

    /// The store loses every write since the backup.
    pub(crate) fn restore(&mut self, backup: Store) {
        self.note("the store loses its last writes");
        self.store = backup;
        for bucket in Bucket::ALL {
            self.break_watches(bucket);
        }
    }

    /// The members' bucket loses every write since the backup; the plan keeps what it has.
    pub(crate) fn restore_members(&mut self, backup: Store) {
        self.restore_one(Bucket::Members, backup);
    }

    /// The plan loses every write since the backup; the members' bucket keeps what it has.
    pub(crate) fn restore_plan(&mut self, backup: Store) {
        self.restore_one(Bucket::Plan, backup);
    }

    fn restore_one(&mut self, bucket: Bucket, backup: Store) {
        self.note(&format!("{bucket} loses its last writes"));
        let Store { incarnation, last, entries } = backup;
        self.store.entries.retain(|key, _| key.bucket() != bucket);
        self.store.entries.extend(entries.into_iter().filter(|(key, _)| key.bucket() == bucket));
        self.store.last.insert(bucket, last.get(&bucket).copied().unwrap_or_default());
        self.store.incarnation.insert(bucket, incarnation.get(&bucket).copied().unwrap_or_default());
        self.break_watches(bucket);
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

    fn break_watches(&mut self, bucket: Bucket) {
        for at in 0..self.workers.len() {
            if let Some((watch, interest)) = self.workers[at].watches.get(&bucket).cloned() {
                self.workers[at].inbox.push_back(Event::Kv(KvEvent::WatchLost { watch }));
                self.watch(at, watch, bucket, interest);
            }
        }
        self.settle();
    }

    /// A worker lists the plan anew, and does not hear the end of it.
    pub(crate) fn break_off_listing(&mut self, at: usize) {
        self.note(&format!("the listing of the plan breaks off at {}", self.workers[at].name));
        let (watch, interest) = self.workers[at].watches[&Bucket::Plan].clone();
        self.workers[at].inbox.push_back(Event::Kv(KvEvent::WatchLost { watch }));
        self.watch(at, watch, Bucket::Plan, interest);
        self.workers[at].inbox.pop_back();
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
