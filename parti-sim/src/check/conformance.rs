//! The model of the store, held to what the core relies on.

use std::collections::VecDeque;
use std::time::Duration;

use parti_core::conformance::{BEHAVIOURS, StoreUnderTest};
use parti_core::{Bucket, Interest, Key, KvEvent, Outcome, Revision, WatchId, Write};

use crate::world::store::Store;

/// The model, with watches that show everything at once.
#[derive(Default)]
struct Model {
    store: Store,
    watches: Vec<(WatchId, Bucket, Interest)>,
    /// Watches that are to be opened again.
    lost: Vec<(WatchId, Bucket, Interest)>,
    shown: VecDeque<KvEvent>,
}

impl Model {
    fn show(&mut self, key: Key) {
        let entry = self.store.entry(key).expect("it was just written");
        let covers = |watch: &&(WatchId, Bucket, Interest)| watch.1 == key.bucket() && watch.2.covers(key);
        self.shown.extend(self.watches.iter().filter(covers).map(|watch| entry.shown(watch.0, key)));
    }
}

impl StoreUnderTest for Model {
    fn write(&mut self, write: Write) -> Outcome {
        let outcome = self.store.write(&write);
        if let Outcome::Committed(_) = outcome {
            self.show(write.key());
        }
        outcome
    }

    fn race(&mut self, writes: Vec<Write>) -> Vec<Outcome> {
        writes.into_iter().map(|write| self.write(write)).collect()
    }

    fn put(&mut self, key: Key, bytes: &[u8]) -> Revision {
        let revision = self.store.put_bytes(key, bytes);
        self.show(key);
        revision
    }

    fn recreate(&mut self, bucket: Bucket) {
        self.store.recreate(bucket);
        for lost in self.watches.extract_if(.., |watch| watch.1 == bucket) {
            self.shown.push_back(KvEvent::WatchLost { watch: lost.0 });
            self.lost.push(lost);
        }
    }

    fn watch(&mut self, watch: WatchId, bucket: Bucket, interest: Interest) {
        for (key, entry) in self.store.snapshot(bucket, &interest, 0) {
            self.shown.push_back(entry.shown(watch, key));
        }
        let (incarnation, last) = (self.store.incarnation(bucket), self.store.last_revision(bucket));
        self.shown.push_back(KvEvent::CaughtUp { watch, incarnation, last });
        self.watches.push((watch, bucket, interest));
    }

    fn next(&mut self, _: Duration) -> Option<KvEvent> {
        if self.shown.is_empty() {
            for (watch, bucket, interest) in std::mem::take(&mut self.lost) {
                self.watch(watch, bucket, interest);
            }
        }
        self.shown.pop_front()
    }
}

#[test]
fn the_model_behaves_as_the_core_relies_on() {
    for behaviour in BEHAVIOURS {
        let check = std::panic::AssertUnwindSafe(|| (behaviour.check)(&mut Model::default()));
        assert!(std::panic::catch_unwind(check).is_ok(), "{}", behaviour.what);
    }
}
