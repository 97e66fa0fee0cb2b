//! A store in memory: what `parti-core` asks of any.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use parti_core::{Bucket, Event, Incarnation, Interest, Key, KvEvent, Outcome, Revision, WatchId, Write};

/// What a store has to do: conditional writes, and news for those who watch, in the order of the writes.
#[derive(Default)]
pub(crate) struct Store {
    last: BTreeMap<Bucket, u64>,
    entries: BTreeMap<Key, (Revision, Option<Vec<u8>>)>,
    watches: BTreeMap<(usize, Bucket), (WatchId, Interest, Sender<Event>)>,
}

impl Store {
    pub(crate) fn write(&mut self, write: &Write) -> Outcome {
        let key = write.key();
        let last = self.last.entry(key.bucket()).or_default();
        let (revision, is_there) =
            self.entries.get(&key).map_or_else(Default::default, |(revision, value)| (*revision, value.is_some()));
        let (holds, record) = match write {
            Write::Create { record, .. } => (!is_there, Some(record)),
            Write::Update { record, expected, .. } => (revision == *expected, Some(record)),
            Write::Delete { expected, .. } => (revision == *expected, None),
            Write::Append { record, expected_last, .. } => (*last == expected_last.value(), Some(record)),
        };
        if !holds {
            return Outcome::Conflict;
        }
        *last += 1;
        let revision = Revision::new(*last);
        self.entries.insert(key, (revision, record.map(parti_core::Record::encode)));
        for (watch, interest, events) in
            self.watches.iter().filter(|(at, _)| at.1 == key.bucket()).map(|(_, watch)| watch)
        {
            if interest.covers(key) {
                // An error means that the worker is gone.
                let _ = events.send(self.shown(*watch, key));
            }
        }
        Outcome::Committed(revision)
    }

    fn shown(&self, watch: WatchId, key: Key) -> Event {
        let (revision, value) = &self.entries[&key];
        Event::Kv(match value {
            Some(bytes) => KvEvent::from_stored(watch, key, *revision, bytes),
            None => KvEvent::Deleted { watch, key, revision: *revision },
        })
    }

    /// Shows what is there, says that this was all, and goes on with what comes. A new watch of a bucket ends the one before.
    pub(crate) fn watch(
        &mut self,
        worker: usize,
        watch: WatchId,
        bucket: Bucket,
        interest: Interest,
        events: &Sender<Event>,
    ) {
        for key in self.entries.keys().filter(|key| key.bucket() == bucket && interest.covers(**key)) {
            let _ = events.send(self.shown(watch, *key));
        }
        let last = Revision::new(self.last.get(&bucket).copied().unwrap_or_default());
        let _ = events.send(Event::Kv(KvEvent::CaughtUp { watch, incarnation: Incarnation::new(1), last }));
        self.watches.insert((worker, bucket), (watch, interest, events.clone()));
    }
}
