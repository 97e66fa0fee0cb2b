//! The store of the laboratory: perfect, until a story damages it.

use std::collections::BTreeMap;

use parti_core::{
    Bucket, Control, ControlRecord, Event, Incarnation, Interest, Key, KvEvent, Outcome, Record, Request, Revision,
    Term, WatchId, Write,
};

use super::Lab;
use super::bench::Reach;

#[derive(Clone, Default)]
pub(crate) struct Store {
    incarnation: BTreeMap<Bucket, u64>,
    last: BTreeMap<Bucket, u64>,
    entries: BTreeMap<Key, Entry>,
}

/// A revision and what it wrote: what is stored is bytes, or a delete marker.
type Entry = (Revision, Option<Vec<u8>>);

impl Store {
    pub(super) fn apply(&mut self, write: &Write) -> Outcome {
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

    fn make_anew(&mut self, bucket: Bucket) {
        *self.incarnation.entry(bucket).or_default() += 1;
        self.last.remove(&bucket);
        self.purge(bucket);
    }

    fn purge(&mut self, bucket: Bucket) {
        self.entries.retain(|key, _| key.bucket() != bucket);
    }

    /// The bucket has what it had at the time of the backup.
    fn bring_back(&mut self, bucket: Bucket, backup: &Self) {
        self.purge(bucket);
        let of_bucket = backup.entries.iter().filter(|(key, _)| key.bucket() == bucket);
        self.entries.extend(of_bucket.map(|(key, entry)| (*key, entry.clone())));
        self.last.insert(bucket, backup.last.get(&bucket).copied().unwrap_or_default());
        self.incarnation.insert(bucket, backup.incarnation.get(&bucket).copied().unwrap_or_default());
    }
}

fn term(record: &Record) -> Option<Term> {
    match record {
        Record::Cluster(head) => Some(head.term),
        Record::Assignment(assignment) => Some(assignment.term),
        Record::Member(_) | Record::Leader(_) | Record::Control(_) => None,
    }
}

fn shown(watch: WatchId, key: Key, (revision, bytes): &Entry) -> Event {
    Event::Kv(match bytes {
        Some(bytes) => KvEvent::from_stored(watch, key, *revision, bytes),
        None => KvEvent::Deleted { watch, key, revision: *revision },
    })
}

impl Lab {
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

    pub(super) fn watch(&mut self, at: usize, watch: WatchId, bucket: Bucket, interest: Interest) {
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
        self.store.make_anew(bucket);
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
        self.store.purge(bucket);
    }

    /// What the adapter does from time to time: reads the bucket again, and finds that records are gone.
    pub(crate) fn reread_purged(&mut self, bucket: Bucket) {
        self.break_watches(bucket);
    }

    /// The bucket has an earlier life again, as it was at the time of the backup.
    pub(crate) fn bring_back(&mut self, bucket: Bucket, backup: &Store) {
        self.note(&format!("{bucket} has an earlier life again"));
        self.store.bring_back(bucket, backup);
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
    pub(crate) fn restore_members(&mut self, backup: &Store) {
        self.restore_one(Bucket::Members, backup);
    }

    /// The plan loses every write since the backup; the members' bucket keeps what it has.
    pub(crate) fn restore_plan(&mut self, backup: &Store) {
        self.restore_one(Bucket::Plan, backup);
    }

    fn restore_one(&mut self, bucket: Bucket, backup: &Store) {
        self.note(&format!("{bucket} loses its last writes"));
        self.store.bring_back(bucket, backup);
        self.break_watches(bucket);
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

    /// The connection of the next one who reads everything breaks and is back at once: it is told so when it has taken
    /// in all values, before the ends of both listings, which wait in its queue.
    pub(crate) fn break_next_reading(&mut self) {
        self.breaks_reading = true;
    }

    pub(super) fn break_reading(&mut self, at: usize) {
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

    pub(super) fn write(&mut self, at: usize, Request { operation, write }: &Request) {
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

    /// The store takes no more plans of this worker.
    pub(crate) fn refuse_plans_of(&mut self, at: usize) {
        self.note(&format!("the plans of {} are refused", self.workers[at].name));
        self.no_plans_of = Some(at);
    }
}
