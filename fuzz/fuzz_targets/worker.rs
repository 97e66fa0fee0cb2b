//! A worker that is given any events at all never panics, answers each with a bounded number of actions, and asks for
//! no partition twice.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use parti_core::{
    Action, Bucket, Command, Config, Event, Incarnation, Instant, Key, KvEvent, OperationId, Outcome, Partition,
    PartitionId, PartitionList, ProbeOutcome, Revision, Slot, WatchId, Worker,
};

/// The most actions that one event may call for here: a dozen partitions, a dozen slots.
const MOST_ACTIONS: usize = 256;

fuzz_target!(|data: &[u8]| {
    let config = Config { slots: (Slot::new(0), Slot::new(11)), ..Config::default() };
    let mut worker = Worker::new(config, 7, Instant::ORIGIN).expect("a valid config");
    let mut driver = Driver { data, now: 0, held: BTreeSet::new(), operations: Vec::new(), watches: Vec::new() };
    driver.drain(&mut worker);
    while let Some(event) = driver.next_event() {
        worker.handle(Instant::from_nanos(driver.now), event);
        driver.drain(&mut worker);
        let _ = worker.poll_timeout();
        let _ = worker.status();
    }
});

struct Driver<'a> {
    data: &'a [u8],
    now: u64,
    held: BTreeSet<PartitionId>,
    operations: Vec<OperationId>,
    watches: Vec<WatchId>,
}

impl Driver<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.data.split_first()?;
        self.data = rest;
        Some(*byte)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?).min(self.data.len());
        let (text, rest) = self.data.split_at(length);
        self.data = rest;
        Some(text.to_vec())
    }

    fn watch(&mut self) -> Option<WatchId> {
        let which = usize::from(self.byte()?);
        Some(self.watches.get(which % self.watches.len().max(1)).copied().unwrap_or_default())
    }

    fn key(&mut self) -> Option<Key> {
        let byte = self.byte()?;
        let slot = Slot::new(u32::from(byte >> 2) % 12);
        Some(match byte % 4 {
            0 => Key::Slot(slot),
            1 => Key::Leader,
            2 => Key::Assign(slot),
            _ => Key::Cluster,
        })
    }

    fn next_event(&mut self) -> Option<Event> {
        self.now += u64::from(self.byte()?) * 20_000_000;
        Some(match self.byte()? % 10 {
            0 => Event::Timeout,
            1 | 2 => {
                let (watch, key, revision) = (self.watch()?, self.key()?, Revision::new(self.byte()?.into()));
                Event::Kv(KvEvent::from_stored(watch, key, revision, &self.text()?))
            }
            3 => {
                let (watch, key, revision) = (self.watch()?, self.key()?, Revision::new(self.byte()?.into()));
                Event::Kv(KvEvent::Deleted { watch, key, revision })
            }
            4 => {
                let incarnation = Incarnation::new(1 + u64::from(self.byte()? > 250));
                let last = Revision::new(self.byte()?.into());
                Event::Kv(KvEvent::CaughtUp { watch: self.watch()?, incarnation, last })
            }
            5 => Event::Kv(self.outcome()?),
            6 => Event::Kv(if self.byte()? % 2 == 0 { KvEvent::Lost } else { KvEvent::Restored }),
            7 => self.partitions()?,
            8 => {
                let slot = Slot::new(u32::from(self.byte()?) % 12);
                let outcome = [ProbeOutcome::Answered, ProbeOutcome::NobodyListens, ProbeOutcome::TimedOut];
                let outcome = outcome[usize::from(self.byte()?) % 3];
                Event::Probed { slot, instance: parti_core::Instance::new(self.byte()?.into()), outcome }
            }
            _ => Event::Command(match self.byte()? % 40 {
                0 => Command::Leave,
                1 => Command::Restart,
                2..=5 => Command::Drain,
                6..=9 => Command::Undrain,
                _ => Command::RebalanceNow,
            }),
        })
    }

    fn outcome(&mut self) -> Option<KvEvent> {
        let which = usize::from(self.byte()?);
        let operation = if self.operations.is_empty() {
            OperationId::new(which as u64)
        } else {
            self.operations.swap_remove(which % self.operations.len())
        };
        let outcome = match self.byte()? % 3 {
            0 => Outcome::Committed(Revision::new(self.byte()?.into())),
            1 => Outcome::Conflict,
            _ => Outcome::Unknown,
        };
        Some(KvEvent::Done { operation, outcome })
    }

    fn partitions(&mut self) -> Option<Event> {
        let count = self.byte()? % 12;
        let partition = |number| Partition::new(PartitionId::new(format!("p{number}")).expect("a valid id"));
        Some(Event::Partitions(PartitionList::new((0..count).map(partition).collect()).expect("each id once")))
    }

    fn drain(&mut self, worker: &mut Worker) {
        let mut actions = 0;
        while let Some(action) = worker.poll_action() {
            actions += 1;
            assert!(actions <= MOST_ACTIONS, "one event calls for ever more");
            match action {
                Action::Kv(request) => self.operations.push(request.operation),
                Action::Watch { watch, bucket: Bucket::Members | Bucket::Plan, .. } => self.watches.push(watch),
                Action::Acquire { partition, .. } => {
                    assert!(self.held.insert(partition.id.clone()), "{} is held already", partition.id);
                }
                Action::Release { partition, token, .. } => {
                    assert!(self.held.remove(&partition), "{partition} is not held");
                    worker.handle(Instant::from_nanos(self.now), Event::Released { partition, token });
                }
                _ => {}
            }
        }
    }
}
