//! What the core relies on in a store, as checks that run against the model of `parti-sim`, against real servers in
//! `parti-nats`, and against any other store that workers are to use. Needs the feature `conformance`.
//!
//! Each check gets a store of its own, with two empty buckets.

mod queue;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::{
    AssignmentRecord, Bucket, Generation, Incarnation, Instance, Interest, Key, KvEvent, MemberRecord, Outcome, Record,
    Revision, Slot, Tenure, Term, WatchId, Write,
};

pub use queue::{INTEREST_BEHAVIOURS, PullName, PullShows, QUEUE_BEHAVIOURS, QueueBehaviour, QueueUnderTest};

/// A store that can be checked. Nobody else writes to it meanwhile.
pub trait StoreUnderTest {
    /// Tries a conditional write, and waits for the outcome.
    fn write(&mut self, write: Write) -> Outcome;

    /// Tries all these writes at the same time, each over a connection of its own where there are connections. The
    /// outcomes are in the order of the writes.
    fn race(&mut self, writes: Vec<Write>) -> Vec<Outcome>;

    /// Stores bytes under a key without any condition, as another program can.
    fn put(&mut self, key: Key, bytes: &[u8]) -> Revision;

    /// Deletes a bucket with all that is in it, and makes it anew.
    fn recreate(&mut self, bucket: Bucket);

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

/// How long a watch may take to show something, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many try the same at the same time.
const RACERS: u32 = 8;
/// How many races are run.
const RACES: u32 = 12;
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
    Behaviour { what: "a delete marker counts as a revision of its key", check: markers_have_revisions },
    Behaviour { what: "of those who create, update or delete at once, one wins", check: races_have_one_winner },
    Behaviour { what: "of those who append at once, one wins, and none that is behind", check: appends_form_one_chain },
    Behaviour { what: "a watch shows what there is, then that this is all", check: snapshot_then_caught_up },
    Behaviour { what: "a listing tells the bucket's last revision", check: a_listing_tells_the_last_revision },
    Behaviour { what: "a watch of an empty bucket catches up too", check: empty_bucket_catches_up },
    Behaviour { what: "a watch shows the changes of a key in order, deletions too", check: changes_in_order },
    Behaviour { what: "a watch shows every write of a bucket, in order", check: every_write_is_shown },
    Behaviour { what: "a watch does not show writes that were refused", check: refused_writes_are_not_shown },
    Behaviour { what: "a watch shows nothing of keys that it is not for", check: interest_is_kept },
    Behaviour { what: "what is not a record is shown, and can be replaced", check: foreign_values_are_shown },
    Behaviour { what: "a bucket made anew begins at revision 1, in a later life", check: a_new_bucket_is_another },
    Behaviour { what: "and so it is to those who watch some keys", check: a_new_bucket_is_another_to_some_keys },
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

fn markers_have_revisions(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(update(0, 1, Revision::new(0)))); // never written, so it is as a create
    let marker = committed(store.write(Write::Delete { key: slot(0), expected: first }));
    assert_eq!(store.write(update(0, 2, Revision::new(0))), Outcome::Conflict, "it was written once");
    assert_eq!(store.write(Write::Delete { key: slot(0), expected: first }), Outcome::Conflict);
    let again = committed(store.write(update(0, 2, marker)));
    assert!(marker < again);
}

fn races_have_one_winner(store: &mut dyn StoreUnderTest) {
    for number in 0..RACES {
        let key = slot(number);
        let created = only_winner(&store.race((0..RACERS).map(|racer| create(number, racer.into())).collect()));
        let updated =
            only_winner(&store.race((0..RACERS).map(|racer| update(number, racer.into(), created)).collect()));
        let delete = Write::Delete { key, expected: updated };
        let deleted = only_winner(&store.race(vec![delete; RACERS as usize]));
        // Over the delete marker, too.
        let again = only_winner(&store.race((0..RACERS).map(|racer| create(number, racer.into())).collect()));
        assert!(created < updated && updated < deleted && deleted < again);
        assert_eq!(store.write(update(number, 9, deleted)), Outcome::Conflict);
    }
}

fn appends_form_one_chain(store: &mut dyn StoreUnderTest) {
    let mut last = Revision::new(0);
    for _ in 0..RACES {
        let appended = only_winner(&store.race((0..RACERS).map(|racer| append(racer, last)).collect()));
        assert_eq!(appended, last.next());
        last = appended;
    }
    // One that has not seen the last write fails, also one that believes the bucket to be empty.
    for behind in 0..last.value() {
        assert_eq!(store.write(append(0, Revision::new(behind))), Outcome::Conflict, "{behind} of {last}");
    }
}

fn a_listing_tells_the_last_revision(store: &mut dyn StoreUnderTest) {
    let first = committed(store.write(append(0, Revision::new(0))));
    let second = committed(store.write(append(1, first)));
    let last = committed(store.write(append(0, second)));
    store.watch(WatchId::new(1), Bucket::Plan, Interest::All);
    let (mut shown, _, told) = listing(store);
    shown.sort_unstable();
    assert_eq!(shown, [(Key::Assign(Slot::new(0)), last, false), (Key::Assign(Slot::new(1)), second, false)]);
    assert_eq!(told, last);
}

fn every_write_is_shown(store: &mut dyn StoreUnderTest) {
    store.watch(WatchId::new(1), Bucket::Plan, Interest::All);
    shown_until_caught_up(store);
    let mut last = Revision::new(0);
    // What was overwritten before a watch has read it need not be shown: each key is written once before all is looked at.
    for _ in 0..15 {
        let written: Vec<_> = (0..7)
            .map(|number| {
                last = committed(store.write(append(number, last)));
                (Key::Assign(Slot::new(number)), last, false)
            })
            .collect();
        let shown: Vec<_> = written.iter().map(|_| next_change(store)).collect();
        assert_eq!(shown, written);
    }
}

fn refused_writes_are_not_shown(store: &mut dyn StoreUnderTest) {
    store.watch(WatchId::new(1), Bucket::Members, Interest::All);
    shown_until_caught_up(store);
    let first = committed(store.write(create(0, 1)));
    assert_eq!(store.write(create(0, 2)), Outcome::Conflict);
    assert_eq!(store.write(update(0, 2, first.next())), Outcome::Conflict);
    assert_eq!(store.write(Write::Delete { key: slot(0), expected: first.next() }), Outcome::Conflict);
    assert_eq!(next_change(store), (slot(0), first, false));
    assert_eq!(silence(store), None);
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
    assert_eq!(next_change(store), (slot(0), first, false));
    let second = committed(store.write(update(0, 2, first)));
    assert_eq!(next_change(store), (slot(0), second, false));
    let third = committed(store.write(Write::Delete { key: slot(0), expected: second }));
    assert_eq!(next_change(store), (slot(0), third, true));
}

fn interest_is_kept(store: &mut dyn StoreUnderTest) {
    committed(store.write(create(0, 1)));
    let interest = Interest::Keys([slot(1), Key::Leader].into());
    store.watch(WatchId::new(1), Bucket::Members, interest);
    assert_eq!(shown_until_caught_up(store), []);
    committed(store.write(create(2, 1)));
    let mine = committed(store.write(create(1, 1)));
    assert_eq!(next_change(store), (slot(1), mine, false));
    assert_eq!(silence(store), None);
}

fn foreign_values_are_shown(store: &mut dyn StoreUnderTest) {
    let foreign = store.put(slot(2), b"not a record");
    store.watch(WatchId::new(1), Bucket::Members, Interest::All);
    match next(store) {
        KvEvent::Undecodable { key, revision, .. } => assert_eq!((key, revision), (slot(2), foreign)),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.write(create(2, 1)), Outcome::Conflict, "something is there");
    let replaced = committed(store.write(update(2, 1, foreign)));
    assert_eq!(next_change(store), (slot(2), replaced, false));
}

fn a_new_bucket_is_another(store: &mut dyn StoreUnderTest) {
    made_anew(store, Interest::All);
}

fn a_new_bucket_is_another_to_some_keys(store: &mut dyn StoreUnderTest) {
    made_anew(store, Interest::Keys([slot(1), slot(2)].into()));
}

fn made_anew(store: &mut dyn StoreUnderTest, interest: Interest) {
    let first = committed(store.write(create(1, 1)));
    committed(store.write(update(1, 2, first)));
    store.watch(WatchId::new(1), Bucket::Members, interest);
    let (_, life, _) = listing(store);
    store.recreate(Bucket::Members);
    let anew = committed(store.write(create(1, 3)));
    assert_eq!(anew, Revision::new(1));
    until_lost(store);
    let (mut shown, next_life, _) = listing(store);
    if shown.is_empty() {
        // It was opened again before the write.
        shown.push(next_change(store));
    }
    assert_eq!(shown, [(slot(1), anew, false)]);
    assert!(next_life > life, "{next_life:?} {life:?}");
    let second = committed(store.write(create(2, 1)));
    assert_eq!(next_change(store), (slot(2), second, false));
}

fn committed(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict | Outcome::Refused | Outcome::Unknown => {
            panic!("the condition holds, but the outcome is {outcome:?}")
        }
    }
}

fn next(store: &mut dyn StoreUnderTest) -> KvEvent {
    store.next(PATIENCE).expect("a watch shows something in time")
}

/// The next change that a watch shows: not just another confirmation that nothing was missed.
fn next_change(store: &mut dyn StoreUnderTest) -> (Key, Revision, bool) {
    loop {
        match next(store) {
            KvEvent::CaughtUp { .. } => {}
            event => return shown(&event).unwrap_or_else(|| panic!("{event:?} is not about a key")),
        }
    }
}

/// The change that a watch shows although nothing more is to come.
fn silence(store: &mut dyn StoreUnderTest) -> Option<(Key, Revision, bool)> {
    core::iter::from_fn(|| store.next(SILENCE)).find_map(|event| shown(&event))
}

/// Passes over what a watch still shows of a bucket, until it says that it was lost.
fn until_lost(store: &mut dyn StoreUnderTest) {
    while !matches!(next(store), KvEvent::WatchLost { .. }) {}
}

/// The keys that a watch shows before it has caught up, with their revisions, and whether each is deleted.
fn shown_until_caught_up(store: &mut dyn StoreUnderTest) -> Vec<(Key, Revision, bool)> {
    listing(store).0
}

/// The same, and which life of the bucket it was, up to which revision.
fn listing(store: &mut dyn StoreUnderTest) -> (Vec<(Key, Revision, bool)>, Incarnation, Revision) {
    let mut all = Vec::new();
    loop {
        match next(store) {
            KvEvent::CaughtUp { incarnation, last, .. } => return (all, incarnation, last),
            event => all.push(shown(&event).unwrap_or_else(|| panic!("{event:?} is not about a key"))),
        }
    }
}

/// The revision of the one write of a race that was applied.
fn only_winner(outcomes: &[Outcome]) -> Revision {
    let mut winners = outcomes.iter().filter(|outcome| **outcome != Outcome::Conflict);
    match (winners.next(), winners.next()) {
        (Some(Outcome::Committed(revision)), None) => *revision,
        _ => panic!("not one winner and conflicts, but {outcomes:?}"),
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
    Record::Member(Arc::new(MemberRecord::new(Instance::new(instance))))
}

fn assignment() -> Record {
    Record::Assignment(Arc::new(AssignmentRecord {
        term: Term::new(1),
        generation: Generation::new(1),
        era: Incarnation::default(),
        tenure: Tenure::default(),
        owned: Vec::new(),
        releasing: Vec::new(),
        incoming: Vec::new(),
    }))
}
