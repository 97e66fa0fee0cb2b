use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parti_core::{
    Action, AssignmentRecord, Bucket, CheckId, Command, Config, Event, Generation, Grant, Incarnation, Instance,
    Instant, Interest, Key, KvEvent, LeaderRecord, MemberPhase, MemberRecord, OperationId, Outcome, Partition,
    PartitionId, PartitionList, Position, ProbeId, ProbeOutcome, Record, Request, Revision, ServerId, Session, Slot,
    Tenure, Term, Token, WatchId, Weight, Worker, Write,
};
use parti_sim::store::Store;

use crate::bytes::Bytes;

/// How many slots there are.
const SLOTS: u32 = 12;
/// The most actions that one event may call for here: a dozen partitions, a dozen slots.
const MOST_ACTIONS: usize = 256;
/// How much time one unit of a byte is.
const STEP_NANOS: u64 = 20_000_000;

/// A worker that is given any events at all never panics and keeps its side of the contract: a bounded number of actions
/// for each event, no partition acquired twice, none released that it does not have, one write of a member record in
/// flight, and not a word after it has halted.
///
/// Now and then the events are what an honest store would say, so that the worker gets somewhere.
///
/// # Panics
///
/// If that is not so.
pub fn worker(data: &[u8]) {
    let config = Config { slots: (Slot::new(0), Slot::new(SLOTS - 1)), ..Config::default() };
    let mut worker = Worker::new(config, 7, Instant::ORIGIN).expect("a valid config");
    let mut driver = Driver::new(data);
    driver.drain(&mut worker);
    while let Some(event) = driver.next_event() {
        worker.handle(Instant::from_nanos(driver.now), event);
        driver.drain(&mut worker);
        let _ = worker.poll_timeout();
        let _ = worker.status();
    }
}

struct Driver<'a> {
    bytes: Bytes<'a>,
    now: u64,
    store: Store,
    held: BTreeMap<PartitionId, Token>,
    releasing: Vec<(PartitionId, Token)>,
    requests: Vec<Request>,
    /// The current watch of each bucket, and what it is for.
    watches: BTreeMap<Bucket, (WatchId, Interest)>,
    /// What the honest store still has to say.
    due: VecDeque<Event>,
    /// The last probe that was asked for.
    probe: ProbeId,
    /// The last check that was asked for.
    check: (Session, CheckId),
    halted: bool,
}

impl<'a> Driver<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            bytes: Bytes(data),
            now: 0,
            store: Store::default(),
            held: BTreeMap::new(),
            releasing: Vec::new(),
            requests: Vec::new(),
            watches: BTreeMap::new(),
            due: [Event::Listening { session: Session::new(1), server: ServerId::new("a") }].into(),
            probe: ProbeId::default(),
            check: <(Session, CheckId)>::default(),
            halted: false,
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.now += u64::from(self.bytes.byte()?) * STEP_NANOS;
        Some(match self.bytes.byte()? % 16 {
            0 => Event::Timeout,
            1 => {
                let (watch, key, revision) = (self.watch()?, self.key()?, self.revision()?);
                Event::Kv(KvEvent::from_stored(watch, key, revision, &self.bytes.text()?))
            }
            2 => {
                let (watch, key, revision) = (self.watch()?, self.key()?, self.revision()?);
                Event::Kv(KvEvent::Deleted { watch, key, revision })
            }
            3 => {
                let incarnation = Incarnation::new(1 + u64::from(self.bytes.byte()? > 250));
                Event::Kv(KvEvent::CaughtUp { watch: self.watch()?, incarnation, last: self.revision()? })
            }
            4 => Event::Kv(self.outcome()?),
            5 => Event::Kv(match self.bytes.below(4)? {
                0 => KvEvent::Lost,
                1 => KvEvent::Restored,
                _ => KvEvent::WatchLost { watch: self.watch()? },
            }),
            6 => self.partitions()?,
            7 => {
                let outcome = [ProbeOutcome::Answered, ProbeOutcome::NobodyListens, ProbeOutcome::TimedOut];
                let outcome = outcome[self.bytes.below(3)?];
                let server = [None, Some(ServerId::new("a")), Some(ServerId::new("b"))][self.bytes.below(3)?].clone();
                Event::Probed { probe: self.probe, outcome, server }
            }
            8 => self.command()?,
            9 => self.released()?,
            10 | 11 => {
                let (key, record) = self.others_record()?;
                self.store.put_bytes(key, &record.encode());
                self.notify(key);
                self.honest()
            }
            12 | 13 => {
                self.serve()?;
                self.honest()
            }
            14 => {
                let (session, check) = self.check;
                match self.bytes.below(4)? {
                    0 => Event::Listening { session: session.next(), server: ServerId::new("a") },
                    1 => Event::Listening { session, server: ServerId::new("b") },
                    2 => Event::Present { session, check: check.next() },
                    _ => Event::Present { session, check },
                }
            }
            _ => self.honest(),
        })
    }

    /// The next thing that an honest store says, if it has anything to say.
    fn honest(&mut self) -> Event {
        self.due.pop_front().unwrap_or(Event::Timeout)
    }

    /// The store carries out one of the requests.
    fn serve(&mut self) -> Option<()> {
        let which = self.bytes.below(self.requests.len())?;
        if self.requests.is_empty() {
            return Some(());
        }
        let Request { operation, write } = self.requests.remove(which);
        let outcome = self.store.write(&write);
        if let Outcome::Committed(_) = outcome {
            self.notify(write.key());
        }
        self.due.push_back(Event::Kv(KvEvent::Done { operation, outcome }));
        Some(())
    }

    fn notify(&mut self, key: Key) {
        let Some((watch, interest)) = self.watches.get(&key.bucket()) else { return };
        if let (true, Some(entry)) = (interest.covers(key), self.store.entry(key)) {
            self.due.push_back(Event::Kv(entry.shown(*watch, key)));
        }
    }

    fn open(&mut self, watch: WatchId, bucket: Bucket, interest: Interest) {
        for (key, entry) in self.store.snapshot(bucket, &interest, 0) {
            self.due.push_back(Event::Kv(entry.shown(watch, key)));
        }
        let (incarnation, last) = (self.store.incarnation(bucket), self.store.last_revision(bucket));
        self.due.push_back(Event::Kv(KvEvent::CaughtUp { watch, incarnation, last }));
        self.watches.insert(bucket, (watch, interest));
    }

    fn watch(&mut self) -> Option<WatchId> {
        let which = self.bytes.below(self.watches.len())?;
        Some(self.watches.values().nth(which).map(|(watch, _)| *watch).unwrap_or_default())
    }

    fn key(&mut self) -> Option<Key> {
        let byte = self.bytes.byte()?;
        let slot = Slot::new(u32::from(byte >> 2) % SLOTS);
        Some(match byte % 4 {
            0 => Key::Slot(slot),
            1 => Key::Leader,
            2 => Key::Assign(slot),
            _ => Key::Cluster,
        })
    }

    fn revision(&mut self) -> Option<Revision> {
        Some(Revision::new(match self.bytes.byte()? {
            255 => u64::MAX,
            small => small.into(),
        }))
    }

    fn outcome(&mut self) -> Option<KvEvent> {
        let which = self.bytes.below(self.requests.len())?;
        let operation = if self.requests.is_empty() {
            OperationId::new(which as u64)
        } else {
            self.requests.swap_remove(which).operation
        };
        let outcome = match self.bytes.below(4)? {
            0 => Outcome::Committed(self.revision()?),
            1 => Outcome::Conflict,
            2 => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        Some(KvEvent::Done { operation, outcome })
    }

    fn partitions(&mut self) -> Option<Event> {
        let count = self.bytes.number(12)?;
        let mut partitions = Vec::new();
        for number in 0..count {
            let weight = Weight::new(1 + u32::from(self.bytes.byte()?)).expect("not zero");
            partitions.push(Partition::new(id(number)).with_weight(weight));
        }
        Some(Event::Partitions(PartitionList::new(partitions).expect("each id once")))
    }

    fn command(&mut self) -> Option<Event> {
        Some(Event::Command(match self.bytes.byte()? % 40 {
            0 => Command::Leave,
            1 => Command::Restart,
            2..=5 => Command::Drain,
            6..=9 => Command::Undrain,
            _ => Command::RebalanceNow,
        }))
    }

    /// The application is done with something: with what it was to release, or with anything else.
    fn released(&mut self) -> Option<Event> {
        let which = self.bytes.below(self.releasing.len() + 1)?;
        if which == self.releasing.len()
            && let Some((partition, token)) = self.held.iter().next()
        {
            return Some(Event::GivenUp { partition: partition.clone(), token: *token });
        }
        let (partition, token) =
            if which < self.releasing.len() { self.releasing.remove(which) } else { (id(0), Token::default()) };
        if self.held.get(&partition) == Some(&token) {
            self.held.remove(&partition);
        }
        Some(Event::Released { partition, token })
    }

    /// A record that another worker might have written.
    fn others_record(&mut self) -> Option<(Key, Record)> {
        let slot = Slot::new(self.bytes.number(SLOTS)?);
        let tenure = self.tenure(slot)?;
        let position = Position { incarnation: Incarnation::new(1), revision: self.revision()? };
        let instance = Instance::new(self.bytes.byte()?.into());
        let (term, generation) = (Term::new(self.bytes.byte()?.into()), Generation::new(self.bytes.byte()?.into()));
        let ids: BTreeSet<_> = self.bytes.text()?.into_iter().take(12).map(|byte| id(u32::from(byte) % 12)).collect();
        let phase = [MemberPhase::Active, MemberPhase::Draining, MemberPhase::Restarting][self.bytes.below(3)?];
        Some(match self.bytes.below(4)? {
            0 => (
                Key::Slot(slot),
                Record::Member(Arc::new(MemberRecord {
                    tenure: Some(tenure),
                    phase,
                    applied: position,
                    generation,
                    releasing: ids.into_iter().collect(),
                    ..MemberRecord::new(instance)
                })),
            ),
            1 => (Key::Leader, Record::Leader(LeaderRecord { slot, tenure, instance })),
            _ => {
                let grant = |partition| Grant { partition, weight: Weight::MIN, epoch: generation };
                let owned = ids.into_iter().map(grant).collect();
                let (releasing, incoming) = (Vec::new(), vec![id(3)]);
                let era = Incarnation::default();
                let record = AssignmentRecord { term, generation, era, tenure, owned, releasing, incoming };
                (Key::Assign(slot), Record::Assignment(Arc::new(record)))
            }
        })
    }

    /// The tenure of who holds the slot, as far as the store knows, or another one.
    fn tenure(&mut self, slot: Slot) -> Option<Tenure> {
        let stored = self.store.entry(Key::Slot(slot)).map(|entry| entry.revision);
        let revision = if self.bytes.below(2)? == 0 { stored.unwrap_or_default() } else { self.revision()? };
        Some(Tenure::new(Position { incarnation: Incarnation::new(1), revision }))
    }

    fn drain(&mut self, worker: &mut Worker) {
        let mut actions = 0;
        while let Some(action) = worker.poll_action() {
            actions += 1;
            assert!(actions <= MOST_ACTIONS, "one event calls for ever more");
            assert!(!self.halted, "it has halted, and asks for {action:?}");
            match action {
                Action::Kv(request) => {
                    let key = request.write.key();
                    let again = self.requests.iter().any(|other| other.write.key() == key);
                    let append = matches!(request.write, Write::Append { .. });
                    assert!(append || !again, "two writes of {key} are in flight");
                    self.requests.push(request);
                }
                Action::Watch { watch, bucket, interest } => self.open(watch, bucket, interest),
                Action::Acquire { partition, token } => {
                    let before = self.held.insert(partition.id.clone(), token);
                    assert!(before.is_none(), "{} is held already", partition.id);
                }
                Action::Release { partition, token, .. } => {
                    assert_eq!(self.held.get(&partition), Some(&token), "{partition} is not held");
                    self.releasing.push((partition, token));
                }
                Action::Halt => {
                    // An application that does not answer is not waited for beyond the cancelling.
                    let told = |id: &PartitionId| self.releasing.iter().any(|(released, _)| released == id);
                    assert!(self.held.keys().all(told), "it halts with partitions that it never took back");
                    self.halted = true;
                }
                Action::Probe { probe, .. } => self.probe = probe,
                Action::Check { session, check } => {
                    self.check = (session, check);
                    self.due.push_back(Event::Present { session, check });
                }
                Action::Listen
                | Action::Prepare { .. }
                | Action::Cancel { .. }
                | Action::Suspend { .. }
                | Action::Resume
                | Action::Notice(_) => {}
            }
        }
    }
}

fn id(number: u32) -> PartitionId {
    PartitionId::new(format!("p{number}")).expect("a valid id")
}
