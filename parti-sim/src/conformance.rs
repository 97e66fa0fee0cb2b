//! What the core relies on in a store, as checks that run against the model here and against a real server elsewhere.
//!
//! Each check gets a store of its own, with two empty buckets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parti_core::{
    AssignmentRecord, Bucket, Generation, Instance, Interest, Key, KvEvent, MemberPhase, MemberRecord, Outcome,
    Position, Record, Revision, Slot, Tenure, Term, WatchId, Write,
};

/// A store that can be checked. Nobody else writes to it meanwhile.
pub trait StoreUnderTest {
    /// Tries a conditional write, and waits for the outcome.
    fn write(&mut self, write: Write) -> Outcome;

    /// Opens a watch under a name of its own.
    fn watch(&mut self, watch: WatchId, bucket: Bucket, interest: Interest);

    /// The next thing that any watch shows; none if nothing comes for `patience`.
    fn next(&mut self, patience: Duration) -> Option<KvEvent>;
}

/// One behaviour that the core relies on.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// What it is, in one sentence.
    pub what: &'static str,
    /// Panics, with what was seen, if the store behaves otherwise.
    pub check: fn(&mut dyn StoreUnderTest),
}

/// How long a watch may take to show something.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing more must come for silence to be believed.
const SILENCE: Duration = Duration::from_millis(300);

/// Every behaviour that the core relies on.
pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { what: "a key is created once, until it is deleted", check: create_once },
    Behaviour { what: "an update needs the last revision of its key", check: update_needs_the_revision },
    Behaviour { what: "a delete needs the last revision of its key", check: delete_needs_the_revision },
    Behaviour { what: "a delete that expects no write at all succeeds once", check: delete_of_what_never_was },
    Behaviour { what: "an append needs the last revision of the bucket", check: append_needs_the_bucket },
    Behaviour { what: "revisions are counted per bucket", check: revisions_per_bucket },
    Behaviour { what: "a refused write uses no revision", check: refused_writes_use_no_revision },
    Behaviour { what: "a watch shows what there is, then that this is all", check: snapshot_then_caught_up },
    Behaviour { what: "a watch of an empty bucket catches up too", check: empty_bucket_catches_up },
    Behaviour { what: "a watch shows the changes of a key in order, deletions too", check: changes_in_order },
    Behaviour { what: "a watch shows nothing of keys that it is not for", check: interest_is_kept },
];

fn create_once(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(create(0, 1)));
    assert_eq!(store.write(create(0, 2)), Outcome::Conflict);
    let deleted = committed(store.write(Write::Delete { key: slot(0), expected: first }));
    let again = committed(store.write(create(0, 3)));
    assert!(first < deleted && deleted < again);
}

fn update_needs_the_revision(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(create(0, 1)));
    let second = committed(store.write(update(0, 2, first)));
    assert_eq!(store.write(update(0, 3, first)), Outcome::Conflict);
    assert_eq!(store.write(update(1, 3, second)), Outcome::Conflict, "the revision of another key");
    committed(store.write(update(0, 3, second)));
}

fn delete_needs_the_revision(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(create(0, 1)));
    let second = committed(store.write(update(0, 2, first)));
    assert_eq!(store.write(Write::Delete { key: slot(0), expected: first }), Outcome::Conflict);
    committed(store.write(Write::Delete { key: slot(0), expected: second }));
    assert_eq!(store.write(update(0, 3, second)), Outcome::Conflict, "it is deleted");
}

fn delete_of_what_never_was(store: &mut dyn StoreUnderTest) {
    let never = Revision::new(0);
    committed(store.write(Write::Delete { key: slot(5), expected: never }));
    assert_eq!(store.write(Write::Delete { key: slot(5), expected: never }), Outcome::Conflict);
    committed(store.write(create(6, 1)));
    assert_eq!(store.write(Write::Delete { key: slot(6), expected: never }), Outcome::Conflict);
}

fn append_needs_the_bucket(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(append(0, Revision::new(0))));
    let second = committed(store.write(append(1, first)));
    assert_eq!(store.write(append(0, first)), Outcome::Conflict, "another key was written since");
    committed(store.write(append(0, second)));
}

fn revisions_per_bucket(store: &mut dyn StoreUnderTest) {
    assert_eq!(committed(store.write(create(0, 1))), Revision::new(1));
    assert_eq!(committed(store.write(append(0, Revision::new(0)))), Revision::new(1));
    assert_eq!(committed(store.write(create(1, 1))), Revision::new(2));
}

fn refused_writes_use_no_revision(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(create(0, 1)));
    for _ in 0..3 {
        assert_eq!(store.write(create(0, 2)), Outcome::Conflict);
    }
    assert_eq!(committed(store.write(create(1, 1))), first.next());
}

fn snapshot_then_caught_up(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(create(0, 1)));
    let second = committed(store.write(create(1, 2)));
    let deleted = committed(store.write(Write::Delete { key: slot(1), expected: second }));
    store.watch(WatchId::new(1), Bucket::Members, Interest::All);
    let mut shown = shown_until_caught_up(store);
    shown.sort_unstable();
    assert_eq!(shown, [(slot(0), first, false), (slot(1), deleted, true)]);
}

fn empty_bucket_catches_up(store: &mut dyn StoreUnderTest) {
    store.watch(WatchId::new(1), Bucket::Plan, Interest::All);
    assert_eq!(shown_until_caught_up(store), []);
}

fn changes_in_order(store: &mut dyn StoreUnderTest) {
    store.watch(WatchId::new(1), Bucket::Members, Interest::All);
    shown_until_caught_up(store);
    let first = committed(store.write(create(0, 1)));
    let second = committed(store.write(update(0, 2, first)));
    let third = committed(store.write(Write::Delete { key: slot(0), expected: second }));
    let shown: Vec<_> = (0..3).map(|_| shown(&next(store)).expect("a change of a key")).collect();
    assert_eq!(shown, [(slot(0), first, false), (slot(0), second, false), (slot(0), third, true)]);
}

fn interest_is_kept(store: &mut dyn StoreUnderTest) {
    committed(store.write(create(0, 1)));
    let interest = Interest::Keys([slot(1), Key::Leader].into());
    store.watch(WatchId::new(1), Bucket::Members, interest);
    assert_eq!(shown_until_caught_up(store), []);
    committed(store.write(create(2, 1)));
    let mine = committed(store.write(create(1, 1)));
    assert_eq!(shown(&next(store)), Some((slot(1), mine, false)));
    assert!(store.next(SILENCE).is_none(), "nothing more");
}

fn committed(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict | Outcome::Unknown => panic!("the condition holds, but the outcome is {outcome:?}"),
    }
}

fn next(store: &mut dyn StoreUnderTest) -> KvEvent {
    store.next(PATIENCE).expect("a watch shows something in time")
}

/// The keys that a watch shows before it has caught up, with their revisions, and whether each is deleted.
fn shown_until_caught_up(store: &mut dyn StoreUnderTest) -> Vec<(Key, Revision, bool)> {
    let mut all = Vec::new();
    loop {
        match next(store) {
            KvEvent::CaughtUp { .. } => return all,
            event => all.push(shown(&event).unwrap_or_else(|| panic!("{event:?} is not about a key"))),
        }
    }
}

fn shown(event: &KvEvent) -> Option<(Key, Revision, bool)> {
    match event {
        KvEvent::Entry { key, revision, .. } | KvEvent::Undecodable { key, revision, .. } => {
            Some((*key, *revision, false))
        }
        KvEvent::Deleted { key, revision, .. } => Some((*key, *revision, true)),
        KvEvent::CaughtUp { .. }
        | KvEvent::WatchLost { .. }
        | KvEvent::Done { .. }
        | KvEvent::Lost
        | KvEvent::Restored => None,
    }
}

const fn slot(number: u32) -> Key {
    Key::Slot(Slot::new(number))
}

fn create(number: u32, instance: u64) -> Write {
    Write::Create { key: slot(number), record: member(instance) }
}

fn update(number: u32, instance: u64, expected: Revision) -> Write {
    Write::Update { key: slot(number), record: member(instance), expected }
}

fn append(number: u32, expected_last: Revision) -> Write {
    Write::Append { key: Key::Assign(Slot::new(number)), record: assignment(), expected_last }
}

fn member(instance: u64) -> Record {
    Record::Member(Arc::new(MemberRecord {
        tenure: None,
        instance: Instance::new(instance),
        phase: MemberPhase::Active,
        applied: Position::default(),
        generation: Generation::default(),
        releasing: Vec::new(),
        capacity: 1,
        labels: BTreeMap::new(),
        software: String::new(),
        beat: 0,
    }))
}

fn assignment() -> Record {
    Record::Assignment(Arc::new(AssignmentRecord {
        term: Term::new(1),
        generation: Generation::new(1),
        tenure: Tenure::default(),
        owned: Vec::new(),
        releasing: Vec::new(),
        incoming: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::store::Store;

    /// The model, with watches that show everything at once.
    #[derive(Default)]
    struct Model {
        store: Store,
        watches: Vec<(WatchId, Bucket, Interest)>,
        shown: VecDeque<KvEvent>,
    }

    impl StoreUnderTest for Model {
        fn write(&mut self, write: Write) -> Outcome {
            let outcome = self.store.write(&write);
            if let Outcome::Committed(_) = outcome {
                let key = write.key();
                let entry = self.store.entry(key).expect("it was just written");
                let covers = |watch: &&(WatchId, Bucket, Interest)| watch.1 == key.bucket() && watch.2.covers(key);
                self.shown.extend(self.watches.iter().filter(covers).map(|watch| entry.shown(watch.0, key)));
            }
            outcome
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
}
