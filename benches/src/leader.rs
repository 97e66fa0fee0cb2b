//! One real worker that leads a group of many: what the store and the other workers say to it is made up here, so that
//! nothing but the leader's own decisions is measured. For the bench and the command `leader`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time;

use cpu_time::ThreadTime;
use parti_core::{
    Action, AssignmentRecord, Bucket, Command, Config, Duration, Event, Incarnation, Instance, Instant, Key, KvEvent,
    MemberPhase, MemberRecord, Notice, Outcome, Partition, PartitionId, PartitionList, PlanReason, Position,
    ProbeOutcome, Record, Request, Revision, ServerId, Session, Slot, Status, Tenure, WatchId, Worker, Write,
};
use serde::Serialize;

use crate::Size;

/// The size that has bounds.
pub const SIZE: Size = Size { partitions: 100_000, workers: 1_000 };

/// Which life of the buckets it is.
const LIFE: Incarnation = Incarnation::new(1);
/// The slot of the worker that leads.
const OWN: Slot = Slot::new(0);
/// How many events one change may take before it counts as endless.
const MAX_EVENTS: usize = 10_000_000;
/// Longer than any window and any interval between rounds: who does nothing for so long is at rest.
const REST: Duration = Duration::from_secs(25);
/// Renewals come every quarter of the default lease.
const BEAT: Duration = Duration::from_millis(2_500);

/// What befalls the group, and makes a plan due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A worker's tenure has ended without a handover: what it held is placed at once.
    Crash,
    /// Everyone who was gone is back, under a new tenure.
    Return,
    /// A worker says that it leaves, hands over, and is gone.
    Leave,
    /// A tenth of the workers crashes.
    CrashTenth,
    /// One in a hundred partitions is replaced by a new one.
    ListChanged,
    /// Somebody asks for a plan where there is nothing to change.
    Asked,
}

impl Change {
    /// Every kind, in an order in which each can follow on the one before.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::Return,
        Self::Leave,
        Self::Return,
        Self::CrashTenth,
        Self::Return,
        Self::ListChanged,
        Self::Asked,
    ];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Return => "return",
            Self::Leave => "leave",
            Self::CrashTenth => "crash-tenth",
            Self::ListChanged => "list-changed",
            Self::Asked => "asked",
        }
    }
}

/// How long the leader took for what, until it was at rest again.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// For each plan, from the event that made it due until all actions were polled.
    pub decisions: Vec<(PlanReason, time::Duration)>,
    /// The longest of any other event.
    pub longest_other: time::Duration,
    /// Of all events together.
    pub total: time::Duration,
    /// How many events there were.
    pub events: usize,
}

/// A leader, and what is made up around it.
#[derive(Debug)]
pub struct Fleet {
    worker: Worker,
    now: Instant,
    events: VecDeque<Event>,
    watches: BTreeMap<Bucket, WatchId>,
    last: BTreeMap<Bucket, u64>,
    /// The other workers that are there, and the revisions of their records.
    members: BTreeMap<Slot, (Revision, MemberRecord)>,
    /// What the leader has written into its own slot.
    own: Option<(Revision, Record)>,
    next_beat: Instant,
    next_instance: u64,
    list: PartitionList,
    /// How many partitions ever were in a list, which names the next one.
    named: usize,
    size: Size,
}

impl Fleet {
    /// A group whose workers are all there, and one that is about to lead it; with how long the first assignment took.
    ///
    /// # Panics
    ///
    /// If it does not come to rest.
    pub fn new(size: Size) -> (Self, Timings) {
        let config = Config { preferred_slot: Some(OWN), ..Config::default() };
        let mut fleet = Self {
            worker: Worker::new(config, 1, Instant::ORIGIN).expect("a valid config"),
            now: Instant::ORIGIN,
            events: VecDeque::new(),
            watches: BTreeMap::new(),
            last: Bucket::ALL.map(|bucket| (bucket, 0)).into(),
            members: BTreeMap::new(),
            own: None,
            next_beat: Instant::ORIGIN + BEAT,
            next_instance: 1,
            list: list(0..size.partitions),
            named: size.partitions,
            size,
        };
        fleet.start_missing();
        fleet.events.clear(); // Nobody watches yet.
        fleet.events.push_back(Event::Listening { session: Session::new(1), server: server() });
        fleet.events.push_back(Event::Partitions(fleet.list.clone()));
        let timings = fleet.rest();
        assert!(fleet.status().leader, "{:?}", fleet.status());
        (fleet, timings)
    }

    /// The leader's own account.
    pub fn status(&self) -> Status {
        self.worker.status()
    }

    /// The partitions that are divided.
    pub fn list(&self) -> &PartitionList {
        &self.list
    }

    /// The next heartbeat of every other worker, to be given to [`handle`](Self::handle).
    pub fn heartbeats(&mut self) -> Vec<Event> {
        self.now = self.now.max(self.next_beat);
        self.next_beat = self.now + BEAT;
        let slots: Vec<_> = self.members.keys().copied().collect();
        slots.into_iter().map(|slot| self.renew(slot)).collect()
    }

    /// Gives the leader one event, polls what it asks for, asks when to wake it, and looks at its status: all that a
    /// driver does.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        self.worker.handle(self.now, event);
        let actions = core::iter::from_fn(|| self.worker.poll_action()).collect();
        core::hint::black_box((self.worker.poll_timeout(), self.worker.status()));
        actions
    }

    /// Brings `change` about and lets everyone do what follows, until the leader has nothing more to do.
    ///
    /// # Panics
    ///
    /// If that never comes.
    pub fn bring(&mut self, change: Change) -> Timings {
        let tenth = self.size.workers as usize / 10;
        match change {
            Change::Crash => self.end([Slot::new(self.size.workers / 2)]),
            Change::CrashTenth => self.end((1..self.size.workers).step_by(10).take(tenth).map(Slot::new)),
            Change::Return => self.start_missing(),
            Change::Leave => {
                let slot = Slot::new(self.size.workers / 2);
                self.member(slot).phase = MemberPhase::Draining;
                let event = self.renew(slot);
                self.events.push_back(event);
            }
            Change::ListChanged => {
                let changed = self.size.partitions / 100;
                let new = list(self.named..self.named + changed);
                let kept = &self.list.as_slice()[changed..];
                let all = kept.iter().chain(new.as_slice()).cloned().collect();
                self.list = PartitionList::new(all).expect("each id once");
                self.named += changed;
                self.events.push_back(Event::Partitions(self.list.clone()));
            }
            Change::Asked => self.events.push_back(Event::Command(Command::RebalanceNow)),
        }
        self.rest()
    }

    /// Lets so much time pass in a group where nothing happens; how long the leader worked meanwhile.
    pub fn idle(&mut self, span: Duration) -> time::Duration {
        let (until, mut worked) = (self.now + span, time::Duration::ZERO);
        while self.now < until {
            let event = self.events.pop_front().unwrap_or_else(|| self.wake());
            let start = ThreadTime::now();
            let actions = self.handle(event);
            worked += start.elapsed();
            for action in actions {
                self.act(action);
            }
        }
        worked
    }

    fn rest(&mut self) -> Timings {
        let mut timings = Timings::default();
        let mut until = self.now + REST;
        for _ in 0..MAX_EVENTS {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None if self.now >= until => return timings,
                None => self.wake(),
            };
            let start = time::Instant::now();
            let actions = self.handle(event);
            let took = start.elapsed();
            if self.note(&mut timings, &actions, took) {
                until = self.now + REST;
            }
            for action in actions {
                self.act(action);
            }
        }
        panic!("the leader does not come to rest: {:?}", self.status());
    }

    /// Notes how long an event took; whether it made a plan.
    fn note(&self, timings: &mut Timings, actions: &[Action], took: time::Duration) -> bool {
        let made = actions.iter().find_map(|action| match action {
            Action::Notice(Notice::Planned { reason, .. }) => Some(*reason),
            _ => None,
        });
        timings.events += 1;
        timings.total += took;
        match made {
            Some(reason) => timings.decisions.push((reason, took)),
            // What is done to get there happens once.
            None if self.status().leader => timings.longest_other = timings.longest_other.max(took),
            None => {}
        }
        made.is_some()
    }

    /// Lets time pass up to the next deadline or the next heartbeats, whichever is first.
    fn wake(&mut self) -> Event {
        let due = self.worker.poll_timeout().expect("a leader always waits for something").max(self.now);
        if due < self.next_beat {
            self.now = due;
        } else {
            let beats = self.heartbeats();
            self.events.extend(beats);
        }
        Event::Timeout
    }

    /// What the store, the transport and the leader's application answer.
    fn act(&mut self, action: Action) {
        match action {
            Action::Kv(request) => self.write(request),
            Action::Watch { watch, bucket, .. } => self.watch(watch, bucket),
            Action::Probe { probe, slot, instance, .. } => {
                let there = self.members.get(&slot).is_some_and(|(_, member)| member.instance == instance);
                let outcome = if there { ProbeOutcome::Answered } else { ProbeOutcome::NobodyListens };
                self.events.push_back(Event::Probed { probe, outcome, server: Some(server()) });
            }
            Action::Check { session, check } => self.events.push_back(Event::Present { session, check }),
            Action::Release { partition, token, .. } => self.events.push_back(Event::Released { partition, token }),
            Action::Acquire { .. } | Action::Prepare { .. } | Action::Notice(_) => {}
            Action::Listen | Action::Cancel { .. } | Action::Suspend { .. } | Action::Resume | Action::Halt => {
                panic!("nothing is amiss, but the leader asks for {action:?}")
            }
        }
    }

    fn write(&mut self, Request { operation, write }: Request) {
        let (key, revision) = (write.key(), self.next_revision(write.key().bucket()));
        let (record, expected) = match write {
            Write::Create { record, .. } | Write::Update { record, .. } => (Some(record), None),
            Write::Append { record, expected_last, .. } => (Some(record), Some(expected_last)),
            Write::Delete { .. } => (None, None),
        };
        assert!(expected.is_none_or(|expected| expected.next() == revision), "the leader is the only one to append");
        self.events.push_back(Event::Kv(KvEvent::Done { operation, outcome: Outcome::Committed(revision) }));
        match (key, &record) {
            (Key::Assign(slot), Some(Record::Assignment(assignment))) => self.apply(slot, revision, assignment),
            (Key::Slot(OWN), Some(record)) => self.own = Some((revision, record.clone())),
            _ => {}
        }
        if let Some(watch) = self.watches.get(&key.bucket()).copied() {
            self.events.push_back(Event::Kv(match record {
                Some(record) => KvEvent::Entry { watch, key, revision, record },
                None => KvEvent::Deleted { watch, key, revision },
            }));
        }
    }

    /// Another worker does what it is told, at once, and says so; one that leaves is gone once it has nothing.
    fn apply(&mut self, slot: Slot, revision: Revision, assignment: &AssignmentRecord) {
        let Some((_, member)) = self.members.get_mut(&slot) else { return };
        member.applied = Position { incarnation: LIFE, revision };
        member.generation = assignment.generation;
        if member.phase == MemberPhase::Draining && assignment.owned.is_empty() {
            self.end([slot]);
        } else {
            let event = self.renew(slot);
            self.events.push_back(event);
        }
    }

    /// Shows every worker in a listing; the plan is empty when this worker comes to lead.
    fn watch(&mut self, watch: WatchId, bucket: Bucket) {
        self.watches.insert(bucket, watch);
        if bucket == Bucket::Members {
            let others = self.members.iter().map(|(slot, (revision, member))| {
                let record = Record::Member(Arc::new(member.clone()));
                (*slot, (*revision, record))
            });
            for (slot, (revision, record)) in self.own.clone().map(|own| (OWN, own)).into_iter().chain(others) {
                let key = Key::Slot(slot);
                self.events.push_back(Event::Kv(KvEvent::Entry { watch, key, revision, record }));
            }
        }
        let last = Revision::new(self.last[&bucket]);
        self.events.push_back(Event::Kv(KvEvent::CaughtUp { watch, incarnation: LIFE, last }));
    }

    /// Starts a new process in every slot of another worker where there is none.
    fn start_missing(&mut self) {
        for slot in (1..self.size.workers).map(Slot::new) {
            if self.members.contains_key(&slot) {
                continue;
            }
            let revision = self.next_revision(Bucket::Members);
            let member = MemberRecord {
                tenure: Some(Tenure::new(Position { incarnation: LIFE, revision })),
                server: Some(server()),
                ..MemberRecord::new(Instance::new(self.next_instance))
            };
            self.next_instance += 1;
            self.members.insert(slot, (revision, member));
            let event = self.renew(slot);
            self.events.push_back(event);
        }
    }

    /// Ends the tenures of these slots.
    fn end(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            self.members.remove(&slot).expect("the worker is there");
            let (watch, revision) = (self.watches[&Bucket::Members], self.next_revision(Bucket::Members));
            self.events.push_back(Event::Kv(KvEvent::Deleted { watch, key: Key::Slot(slot), revision }));
        }
    }

    /// The next write of a worker's record, as the leader's watch shows it.
    fn renew(&mut self, slot: Slot) -> Event {
        let next = self.next_revision(Bucket::Members);
        let (revision, member) = self.members.get_mut(&slot).expect("the worker is there");
        *revision = next;
        member.beat += 1;
        let record = Record::Member(Arc::new(member.clone()));
        let watch = self.watches.get(&Bucket::Members).copied().unwrap_or_default();
        Event::Kv(KvEvent::Entry { watch, key: Key::Slot(slot), revision: next, record })
    }

    fn member(&mut self, slot: Slot) -> &mut MemberRecord {
        &mut self.members.get_mut(&slot).expect("the worker is there").1
    }

    fn next_revision(&mut self, bucket: Bucket) -> Revision {
        let last = self.last.entry(bucket).or_default();
        *last += 1;
        Revision::new(*last)
    }
}

fn list(numbers: core::ops::Range<usize>) -> PartitionList {
    let id = |number| PartitionId::new(format!("orders.eu-west.{number:07}")).expect("a valid id");
    PartitionList::new(numbers.map(|number| Partition::new(id(number))).collect()).expect("each id once")
}

/// The one server there is.
fn server() -> ServerId {
    ServerId::new("the only one")
}
