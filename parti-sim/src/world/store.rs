//! The model of the store: what JetStream KV does with conditional writes, and what a failing server can do to it.
//!
//! The same behaviours are asked of real servers by the tests of `parti-nats` (`store_tests.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parti_core::{Bucket, Generation, Incarnation, Interest, Key, KvEvent, Outcome, Record, Revision, WatchId, Write};

/// How many of the last writes of a bucket can be undone or hidden by a fault.
const MAX_JOURNAL: usize = 256;

/// Both buckets of a group.
#[derive(Clone, Debug)]
pub struct Store {
    members: BucketModel,
    plan: BucketModel,
    /// Whether records go through their encoding, and how many bytes they may have.
    encoding: Option<usize>,
    /// The former lives, as they were at their end.
    former: Vec<(Bucket, BucketModel)>,
}

/// One bucket: the last write of each key, and one revision counter for all.
#[derive(Clone, Debug, Hash)]
struct BucketModel {
    incarnation: Incarnation,
    last: Revision,
    entries: BTreeMap<Key, Entry>,
    /// The last writes, newest at the back, each with what it replaced.
    journal: VecDeque<(Key, Option<Entry>)>,
    /// How long the journal may be.
    most_undone: usize,
    /// How often everything was purged in this life.
    purges: u32,
}

/// How many former lives of a bucket can come back.
const MAX_FORMER: usize = 3;
/// The first life of a bucket: there is room below it, for creators whose clocks are behind.
const FIRST_LIFE: Incarnation = Incarnation::new(100);

/// One life of a bucket, and how often everything in it was purged.
pub(crate) type LifeAndPurges = (Incarnation, u32);

/// The last write of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The revision that it was given.
    pub revision: Revision,
    /// What was written.
    pub value: Stored,
}

/// What a write left under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A record.
    Record(Record),
    /// Bytes that may be anything.
    Bytes(Arc<[u8]>),
    /// A delete marker.
    Deleted,
}

impl std::hash::Hash for Stored {
    /// By encoding: records have no hash of their own.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Record(record) => record.encode().hash(state),
            Self::Bytes(bytes) => bytes.hash(state),
            Self::Deleted => 0_u8.hash(state),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        let new = || BucketModel::new(FIRST_LIFE);
        Self { members: new(), plan: new(), encoding: None, former: Vec::new() }
    }
}

impl Store {
    /// A store that can lose no more than this many writes of a bucket, in which the revisions of `plan` begin after
    /// `plan_begins_at`.
    pub(crate) fn losing_at_most(most_undone: usize, plan_begins_at: Revision) -> Self {
        let mut store = Self::default();
        store.members.most_undone = most_undone;
        store.plan.most_undone = most_undone;
        store.plan.last = plan_begins_at;
        store
    }

    /// The same store, in which every record goes through its encoding and has at most this many bytes.
    pub(crate) fn encoding(self, most_bytes: usize) -> Self {
        Self { encoding: Some(most_bytes), ..self }
    }

    /// How many of the last writes of a bucket can be lost.
    pub(crate) fn can_lose(&self, bucket: Bucket) -> usize {
        self.bucket(bucket).journal.len()
    }

    /// The last writes of a bucket that can be lost, newest at the end, each with what it replaced.
    pub(crate) fn journal(&self, bucket: Bucket) -> &VecDeque<(Key, Option<Entry>)> {
        &self.bucket(bucket).journal
    }

    /// Every key that was ever written, with the last write.
    pub(crate) fn entries(&self, bucket: Bucket) -> &BTreeMap<Key, Entry> {
        &self.bucket(bucket).entries
    }

    /// Carries out a conditional write, if its condition holds and the record is not too large. Never
    /// [`Outcome::Unknown`].
    pub fn write(&mut self, write: &Write) -> Outcome {
        let Some(value) = self.value_of(write) else { return Outcome::Refused };
        let bucket = self.bucket_mut(write.key().bucket());
        if !bucket.permits(write) {
            return Outcome::Conflict;
        }
        Outcome::Committed(bucket.put(write.key(), value))
    }

    /// Carries out a write whatever its condition says: what a store without conditions would do.
    pub fn force(&mut self, write: &Write) -> Outcome {
        let Some(value) = self.value_of(write) else { return Outcome::Refused };
        Outcome::Committed(self.bucket_mut(write.key().bucket()).put(write.key(), value))
    }

    /// What a write leaves; none if it is too large.
    fn value_of(&self, write: &Write) -> Option<Stored> {
        let (Write::Create { record, .. } | Write::Update { record, .. } | Write::Append { record, .. }) = write else {
            return Some(Stored::Deleted);
        };
        let Some(most_bytes) = self.encoding else { return Some(Stored::Record(record.clone())) };
        let bytes = record.encode();
        (bytes.len() <= most_bytes).then(|| match Record::decode(write.key(), &bytes) {
            Ok(record) => Stored::Record(record),
            Err(_) => Stored::Bytes(bytes.into()),
        })
    }

    /// Writes bytes as another program would, without any condition.
    pub fn put_bytes(&mut self, key: Key, bytes: &[u8]) -> Revision {
        self.bucket_mut(key.bucket()).put(key, Stored::Bytes(bytes.into()))
    }

    /// The last revision of a bucket; 0 in an empty one.
    pub fn last_revision(&self, bucket: Bucket) -> Revision {
        self.bucket(bucket).last
    }

    /// Which life of a bucket this is.
    pub fn incarnation(&self, bucket: Bucket) -> Incarnation {
        self.bucket(bucket).incarnation
    }

    /// The last write of `key`, delete marker included.
    pub fn entry(&self, key: Key) -> Option<&Entry> {
        self.bucket(key.bucket()).entries.get(&key)
    }

    /// What a reader sees that is `behind` writes late: the last writes of the keys of interest, in order of the keys.
    pub fn snapshot(&self, bucket: Bucket, interest: &Interest, behind: usize) -> Vec<(Key, Entry)> {
        let model = self.bucket(bucket);
        let shown = |entries: &BTreeMap<Key, Entry>| match interest {
            Interest::All => entries.iter().map(|(key, entry)| (*key, entry.clone())).collect(),
            Interest::Keys(keys) => keys.iter().filter_map(|key| Some((*key, entries.get(key)?.clone()))).collect(),
        };
        if behind == 0 {
            return shown(&model.entries);
        }
        let mut earlier = model.clone();
        earlier.undo(behind);
        shown(&earlier.entries)
    }

    /// Loses the last `writes` writes of a bucket, as a server does that restarts before it wrote them to disk. Returns
    /// how many were lost.
    pub fn roll_back(&mut self, bucket: Bucket, writes: usize) -> usize {
        self.bucket_mut(bucket).undo(writes)
    }

    /// Deletes a bucket and makes it anew: empty, revisions from 1, another life.
    pub fn recreate(&mut self, bucket: Bucket) {
        let knows = self.lives(bucket).max().unwrap_or_default();
        self.begin_life(bucket, knows.next());
    }

    /// The same, by somebody who knows of no life before, and whose clock is behind.
    pub fn recreate_unknowing(&mut self, bucket: Bucket) {
        let lowest = self.lives(bucket).min().unwrap_or_default();
        self.begin_life(bucket, Incarnation::new(lowest.value().saturating_sub(1).max(1)));
    }

    fn lives(&self, bucket: Bucket) -> impl Iterator<Item = Incarnation> {
        let former = self.former.iter().filter(move |(of, _)| *of == bucket).map(|(_, model)| model.incarnation);
        former.chain([self.bucket(bucket).incarnation])
    }

    fn begin_life(&mut self, bucket: Bucket, life: Incarnation) {
        let former = std::mem::replace(self.bucket_mut(bucket), BucketModel::new(life));
        self.former.push((bucket, former));
        if self.former.len() > MAX_FORMER {
            self.former.remove(0);
        }
    }

    /// The last former life of a bucket is back, without its last writes, as from an older disk; the present life is a
    /// former one then. False if there was none.
    pub fn bring_back(&mut self, bucket: Bucket, without: usize) -> bool {
        let Some(at) = self.former.iter().rposition(|(of, _)| *of == bucket) else { return false };
        let (_, mut back) = self.former.remove(at);
        back.undo(without);
        let present = std::mem::replace(self.bucket_mut(bucket), back);
        self.former.insert(0, (bucket, present));
        true
    }

    /// Removes everything from a bucket, as an operator's purge does: its life and its last revision stay, and no markers
    /// are left.
    pub fn purge(&mut self, bucket: Bucket) {
        let model = self.bucket_mut(bucket);
        model.entries.clear();
        model.journal.clear();
        model.purges += 1;
    }

    /// Which life of a bucket this is, and how often it was purged.
    pub(crate) fn life(&self, bucket: Bucket) -> LifeAndPurges {
        let model = self.bucket(bucket);
        (model.incarnation, model.purges)
    }

    /// The greatest era or life that anything in the store tells of.
    pub(crate) fn era(&self) -> Incarnation {
        let eras = Bucket::ALL.into_iter().flat_map(|bucket| {
            let entries = self.bucket(bucket).entries.values();
            entries.map(|entry| match &entry.value {
                Stored::Record(Record::Member(record)) => record.era,
                Stored::Record(Record::Assignment(record)) => record.era,
                Stored::Record(Record::Cluster(record)) => record.era,
                Stored::Record(Record::Leader(_) | Record::Control(_)) | Stored::Bytes(_) | Stored::Deleted => {
                    Incarnation::default()
                }
            })
        });
        eras.chain([self.members.incarnation, self.plan.incarnation]).max().unwrap_or_default()
    }

    /// The generation of every record of a bucket that has one.
    pub(crate) fn generations(&self, bucket: Bucket) -> impl Iterator<Item = Generation> {
        self.bucket(bucket).entries.values().filter_map(|entry| match &entry.value {
            Stored::Record(Record::Member(record)) => Some(record.generation),
            Stored::Record(Record::Assignment(record)) => Some(record.generation),
            Stored::Record(Record::Cluster(record)) => Some(record.generation),
            Stored::Record(Record::Leader(_) | Record::Control(_)) | Stored::Bytes(_) | Stored::Deleted => None,
        })
    }

    fn bucket(&self, bucket: Bucket) -> &BucketModel {
        match bucket {
            Bucket::Members => &self.members,
            Bucket::Plan => &self.plan,
        }
    }

    fn bucket_mut(&mut self, bucket: Bucket) -> &mut BucketModel {
        match bucket {
            Bucket::Members => &mut self.members,
            Bucket::Plan => &mut self.plan,
        }
    }
}

impl std::hash::Hash for Store {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.members.hash(state);
        self.plan.hash(state);
    }
}

impl Entry {
    /// What a watch shows of this entry.
    pub fn shown(&self, watch: WatchId, key: Key) -> KvEvent {
        let revision = self.revision;
        match &self.value {
            Stored::Record(record) => KvEvent::Entry { watch, key, revision, record: record.clone() },
            Stored::Bytes(bytes) => KvEvent::from_stored(watch, key, revision, bytes),
            Stored::Deleted => KvEvent::Deleted { watch, key, revision },
        }
    }
}

impl BucketModel {
    fn new(incarnation: Incarnation) -> Self {
        let (last, entries, journal) = (Revision::new(0), BTreeMap::new(), VecDeque::new());
        Self { incarnation, last, entries, journal, most_undone: MAX_JOURNAL, purges: 0 }
    }

    fn permits(&self, write: &Write) -> bool {
        let entry = self.entries.get(&write.key());
        match write {
            Write::Create { .. } => entry.is_none_or(|entry| entry.value == Stored::Deleted),
            Write::Update { expected, .. } | Write::Delete { expected, .. } => {
                entry.map_or(Revision::new(0), |entry| entry.revision) == *expected
            }
            Write::Append { expected_last, .. } => self.last == *expected_last,
        }
    }

    fn put(&mut self, key: Key, value: Stored) -> Revision {
        self.last = self.last.next();
        let before = self.entries.insert(key, Entry { revision: self.last, value });
        self.journal.push_back((key, before));
        if self.journal.len() > self.most_undone {
            self.journal.pop_front();
        }
        self.last
    }

    fn undo(&mut self, writes: usize) -> usize {
        let mut undone = 0;
        while undone < writes {
            let Some((key, before)) = self.journal.pop_back() else { break };
            match before {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
            self.last = Revision::new(self.last.value() - 1);
            undone += 1;
        }
        undone
    }
}

#[cfg(test)]
mod tests {
    use parti_core::{Instance, LeaderRecord, Slot, Tenure};

    use super::*;

    #[test]
    fn lost_writes_give_their_revisions_again() {
        let mut store = Store::default();
        assert_eq!(store.write(&create(1)), Outcome::Committed(Revision::new(1)));
        assert_eq!(store.write(&update(2, 1)), Outcome::Committed(Revision::new(2)));
        assert_eq!(store.roll_back(Bucket::Members, 1), 1);
        assert_eq!(store.last_revision(Bucket::Members), Revision::new(1));
        assert_eq!(store.write(&update(3, 1)), Outcome::Committed(Revision::new(2)));
        assert_eq!(store.roll_back(Bucket::Members, 9), 2, "no more than there are");
        assert_eq!(store.entry(Key::Leader), None);
    }

    #[test]
    fn a_late_reader_sees_what_was_true_before() {
        let mut store = Store::default();
        store.write(&create(1));
        store.write(&update(2, 1));
        let seen = |behind| store.snapshot(Bucket::Members, &Interest::All, behind);
        assert_eq!(seen(0)[0].1.revision, Revision::new(2));
        assert_eq!(seen(1)[0].1.revision, Revision::new(1));
        assert_eq!(seen(2), []);
    }

    #[test]
    fn a_bucket_made_anew_is_empty_and_lives_another_life() {
        let mut store = Store::default();
        store.write(&create(1));
        let before = store.incarnation(Bucket::Members);
        store.recreate(Bucket::Members);
        assert!(store.incarnation(Bucket::Members) > before);
        assert_eq!(store.write(&create(1)), Outcome::Committed(Revision::new(1)));
        assert_eq!(store.incarnation(Bucket::Plan), before, "the other bucket lives on");
    }

    #[test]
    fn a_former_life_comes_back_as_it_was_without_its_last_writes() {
        let mut store = Store::default();
        let first = store.incarnation(Bucket::Members);
        store.write(&create(1));
        store.write(&update(2, 1));
        assert!(!store.bring_back(Bucket::Members, 0), "there was none before");
        store.recreate_unknowing(Bucket::Members);
        assert!(store.incarnation(Bucket::Members) < first);
        assert!(store.bring_back(Bucket::Members, 1));
        assert_eq!(
            (store.incarnation(Bucket::Members), store.last_revision(Bucket::Members)),
            (first, Revision::new(1))
        );
        store.recreate(Bucket::Members);
        assert!(store.incarnation(Bucket::Members) > first);
    }

    #[test]
    fn a_purge_leaves_no_marker_and_the_last_revision() {
        let mut store = Store::default();
        store.write(&create(1));
        let life = store.incarnation(Bucket::Members);
        store.purge(Bucket::Members);
        assert_eq!(store.entry(Key::Leader), None);
        assert_eq!(
            (store.incarnation(Bucket::Members), store.last_revision(Bucket::Members)),
            (life, Revision::new(1))
        );
        assert_eq!(store.write(&create(1)), Outcome::Committed(Revision::new(2)));
    }

    fn create(instance: u64) -> Write {
        Write::Create { key: Key::Leader, record: leader(instance) }
    }

    fn update(instance: u64, expected: u64) -> Write {
        Write::Update { key: Key::Leader, record: leader(instance), expected: Revision::new(expected) }
    }

    fn leader(instance: u64) -> Record {
        let instance = Instance::new(instance);
        Record::Leader(LeaderRecord { slot: Slot::new(0), tenure: Tenure::default(), instance })
    }
}
