//! What has been read of a group so far.

use std::collections::BTreeMap;
use std::time::SystemTime;

use parti_core::{Bucket, GroupName, Incarnation, Instant, Key, KvEvent, Position, Record, RecordError, Revision};

use super::Observed;
use super::picture::{
    AssignmentPicture, BucketPicture, ListPicture, Picture, Unreadable, Wish, WorkerPicture, harmless_words,
};

/// Both buckets and the list, as they were shown.
#[derive(Debug, Default)]
pub(super) struct Content {
    members: Table,
    plan: Table,
    pub(super) list: Option<ListPicture>,
    pub(super) list_was_read: bool,
    /// The server's time of day, and when it was so.
    pub(super) clock: Option<(SystemTime, Instant)>,
}

/// One bucket.
#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Key, Entry>,
    /// What a new reading has shown so far; it takes the place of `entries` when it is complete.
    reading: Option<BTreeMap<Key, Entry>>,
    state: BucketPicture,
}

#[derive(Debug)]
struct Entry {
    revision: Revision,
    written: Option<SystemTime>,
    value: Result<Record, RecordError>,
}

impl Content {
    /// Takes in what a watch shows; `written` says when a key was written. What there is to tell of it, if anything.
    pub(super) fn observe(&mut self, event: KvEvent, written: impl Fn(Key) -> Option<SystemTime>) -> Option<Observed> {
        let dated = |key: Key, revision: Revision, value| Entry { revision, written: written(key), value };
        match event {
            KvEvent::Entry { key, revision, record, .. } => Some(self.store(key, dated(key, revision, Ok(record)))),
            KvEvent::Undecodable { key, revision, error, .. } => {
                Some(self.store(key, dated(key, revision, Err(error))))
            }
            KvEvent::Deleted { key, revision, .. } => {
                let table = self.table(key.bucket());
                table.shown().remove(&key);
                table.advance(revision);
                Some(Observed::Deleted { key, revision })
            }
            KvEvent::CaughtUp { watch, incarnation, last } => {
                let bucket = bucket_of(watch.value())?;
                self.table(bucket).complete(incarnation, last).then_some(Observed::Read(bucket))
            }
            KvEvent::WatchLost { watch } => {
                let bucket = bucket_of(watch.value())?;
                self.table(bucket).lose();
                Some(Observed::Lost(bucket))
            }
            KvEvent::Done { .. } | KvEvent::Lost | KvEvent::Restored => None,
        }
    }

    fn store(&mut self, key: Key, entry: Entry) -> Observed {
        let revision = entry.revision;
        let table = self.table(key.bucket());
        table.shown().insert(key, entry);
        table.advance(revision);
        Observed::Written { key, revision }
    }

    fn table(&mut self, bucket: Bucket) -> &mut Table {
        match bucket {
            Bucket::Members => &mut self.members,
            Bucket::Plan => &mut self.plan,
        }
    }

    /// The group as it is `now`, as far as it has been read.
    pub(super) fn picture(&self, group: &GroupName, now: Instant) -> Picture {
        let taken_at = self.clock.map_or_else(SystemTime::now, |(time, at)| time + now.since(at));
        let mut picture = Picture::empty(group.clone(), taken_at);
        picture.live = self.members.state.live && self.plan.state.live;
        (picture.members, picture.plan) = (self.members.state, self.plan.state);
        picture.list.clone_from(&self.list);
        for (key, entry) in self.members.entries.iter().chain(&self.plan.entries) {
            self.show(&mut picture, *key, entry);
        }
        picture
    }

    fn show(&self, picture: &mut Picture, key: Key, entry: &Entry) {
        let Entry { revision, written, value } = entry;
        let (revision, written) = (*revision, *written);
        match (key, value) {
            (Key::Slot(slot), Ok(Record::Member(record))) => {
                let at = Position { incarnation: self.members.state.life, revision };
                let tenure = record.tenure_if_written(at);
                let worker = WorkerPicture { slot, tenure, revision, written, record: record.clone() };
                picture.workers.insert(slot, worker);
            }
            (Key::Leader, Ok(Record::Leader(record))) => picture.leader = Some(*record),
            (Key::Control(control), Ok(Record::Control(record))) => {
                picture.wishes.insert(control, Wish { revision, written, record: record.clone() });
            }
            (Key::Assign(slot), Ok(Record::Assignment(record))) => {
                picture.assignments.insert(slot, AssignmentPicture { revision, written, record: record.clone() });
            }
            (Key::Cluster, Ok(Record::Cluster(record))) => picture.head = Some(record.clone()),
            (_, Err(error)) => {
                let newer = matches!(error, RecordError::UnknownVersion { .. });
                let why = harmless_words(&error.to_string());
                picture.unreadable.push(Unreadable { key, revision, written, newer, why });
            }
            // A key never holds a record of another kind: it is decoded by its key.
            (Key::Slot(_) | Key::Leader | Key::Control(_) | Key::Assign(_) | Key::Cluster, Ok(_)) => {}
        }
    }
}

impl Table {
    /// Where what is shown goes.
    fn shown(&mut self) -> &mut BTreeMap<Key, Entry> {
        self.reading.as_mut().unwrap_or(&mut self.entries)
    }

    fn advance(&mut self, revision: Revision) {
        if self.reading.is_none() {
            self.state.revision = self.state.revision.max(revision);
        }
    }

    /// Everything up to `last` was shown; true if that was not so before.
    fn complete(&mut self, life: Incarnation, last: Revision) -> bool {
        let was_live = self.state.live;
        if let Some(read) = self.reading.take() {
            self.entries = read;
        }
        let revision = self.entries.values().map(|entry| entry.revision).fold(last, Revision::max);
        self.state = BucketPicture { life, revision, live: true };
        !was_live
    }

    fn lose(&mut self) {
        self.state.live = false;
        self.reading = Some(BTreeMap::new());
    }
}

/// Each bucket is followed by the watch of its number.
fn bucket_of(watch: u64) -> Option<Bucket> {
    Bucket::ALL.into_iter().find(|bucket| *bucket as u64 == watch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use parti_core::{Control, ControlRecord, WatchId};

    use super::*;

    const PAUSE: Key = Key::Control(Control::Pause);

    fn members() -> WatchId {
        WatchId::new(Bucket::Members as u64)
    }

    fn wish(revision: u64) -> KvEvent {
        let record = Record::Control(Arc::new(ControlRecord::default()));
        KvEvent::Entry { watch: members(), key: PAUSE, revision: Revision::new(revision), record }
    }

    fn caught_up(last: u64) -> KvEvent {
        KvEvent::CaughtUp { watch: members(), incarnation: Incarnation::new(7), last: Revision::new(last) }
    }

    fn picture(content: &Content) -> Picture {
        content.picture(&GroupName::new("orders").expect("a valid name"), Instant::ORIGIN)
    }

    #[test]
    fn while_a_bucket_is_read_anew_the_picture_is_the_last_complete_one() {
        let mut content = Content::default();
        for event in [wish(3), caught_up(5)] {
            content.observe(event, |_| None);
        }
        assert_eq!(
            picture(&content).members,
            BucketPicture { life: Incarnation::new(7), revision: Revision::new(5), live: true }
        );

        let lost = content.observe(KvEvent::WatchLost { watch: members() }, |_| None);
        assert_eq!(lost, Some(Observed::Lost(Bucket::Members)));
        assert!(picture(&content).wishes.contains_key(&Control::Pause) && !picture(&content).members.live);

        let read = content.observe(caught_up(9), |_| None);
        assert_eq!(read, Some(Observed::Read(Bucket::Members)));
        assert!(picture(&content).wishes.is_empty() && picture(&content).members.live);
    }

    #[test]
    fn a_record_is_as_old_as_the_servers_clock_says_whatever_the_clock_here() {
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut content =
            Content { clock: Some((written + Duration::from_secs(3), Instant::ORIGIN)), ..Content::default() };
        content.observe(wish(3), |_| Some(written));
        let group = GroupName::new("orders").expect("a valid name");
        let later = content.picture(&group, Instant::ORIGIN + Duration::from_secs(2));
        assert_eq!(later.age(later.wishes[&Control::Pause].written), Some(Duration::from_secs(5)));
    }
}
