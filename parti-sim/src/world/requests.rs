//! What happens at the store: requests arrive, operators write, and what is no record is left there.

use std::collections::BTreeMap;

use parti_core::{
    Bucket, Control, ControlRecord, FORMAT_VERSION, Instance, Key, MemberPhase, Outcome, Record, Request, Revision,
    Slot, Status, Write,
};

use super::clock::Moment;
use super::event::What;
use super::ground::Ground;
use super::network::{Links, Network};
use super::store::{Entry, Store, Stored};
use super::watches::Watchers;
use crate::check::mark::Mark;
use crate::fault::around::Around;
use crate::setting::options::Options;
use crate::told::fact::{Fact, Forgotten, Mishap, ProcessId};

/// How often a request that reaches a store that is down is answered at once, rather than never.
const REFUSED_BY_DOWN_STORE_PPM: u32 = 700_000;
/// How often a request that reaches a store that is down is carried out when the store is up again.
const CARRIED_OUT_LATE_PPM: u32 = 200_000;

/// The store, and what became of what was in it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) store: Store,
    /// What somebody has written that is not a record.
    pub(super) garbage: Vec<Key>,
    /// Whose record somebody has last written over in each slot with what is not one.
    pub(super) garbled: BTreeMap<Slot, Instance>,
    /// When each bucket was last made anew, of those that were.
    pub(super) emptied_at: BTreeMap<Bucket, Moment>,
    /// When each bucket last lost writes, be it all of them, of those that did.
    pub(crate) lost_writes_at: BTreeMap<Bucket, Moment>,
}

impl Kept {
    pub(super) fn new(options: &Options) -> Self {
        let store = match (options.encoded, options.record_limit) {
            (false, _) => Store::default(),
            (true, 0) => Store::default().encoding(usize::MAX),
            (true, most_bytes) => Store::default().encoding(most_bytes as usize),
        };
        Self {
            store,
            garbage: Vec::new(),
            garbled: BTreeMap::new(),
            emptied_at: BTreeMap::new(),
            lost_writes_at: BTreeMap::new(),
        }
    }

    /// What the record of a process says of it that has this status, if it has one.
    pub(crate) fn phase_of(&self, status: &Status) -> Option<MemberPhase> {
        match &self.store.entry(Key::Slot(status.slot?))?.value {
            Stored::Record(Record::Member(record)) if record.instance == status.instance => Some(record.phase),
            _ => None,
        }
    }

    /// Whether a process that lives has a slot, in the store or by its own account, or is after it.
    pub(crate) fn is_anybodys(&self, slot: Slot, ground: &Ground) -> bool {
        let holder = self.store.entry(Key::Slot(slot)).and_then(|entry| match &entry.value {
            Stored::Record(Record::Member(record)) => ground.by_instance.get(&record.instance).copied(),
            Stored::Record(_) | Stored::Bytes(_) | Stored::Deleted => None,
        });
        ground.living().any(|(process, one)| {
            Some(process) == holder || one.status.slot == Some(slot) || one.birth.preferred_slot == Some(slot)
        })
    }

    /// Whether its bucket has lost writes, or was made anew, since a request was sent, and its client waits for it no
    /// longer.
    pub(crate) fn is_of_a_former_life(
        &self,
        process: ProcessId,
        request: &Request,
        sent: Moment,
        ground: &Ground,
    ) -> bool {
        let in_time = ground.now <= sent + ground.request_timeout();
        let waits = in_time && ground.process(process).pending.contains(&request.operation);
        !waits && self.lost_writes_at.get(&request.write.key().bucket()).is_some_and(|at| sent <= *at)
    }
}

/// The store, with what may be touched when something happens there.
pub(crate) struct AtStore<'a> {
    pub(super) ground: &'a mut Ground,
    pub(super) network: &'a mut Network,
    pub(super) kept: &'a mut Kept,
    pub(super) watchers: &'a mut Watchers,
}

impl AtStore<'_> {
    pub(super) const fn links(&mut self) -> Links<'_> {
        Links { ground: self.ground, network: self.network }
    }

    /// A request reaches the store.
    pub(super) fn arrive(&mut self, process: ProcessId, request: Box<Request>, sent: Moment) {
        let now = self.ground.now;
        let operation = request.operation;
        let gives_up = now.max(sent + self.ground.request_timeout());
        let end = What::GiveUp { process, operation };
        if self.ground.process(process).link.broken {
            self.ground.schedule.push(gives_up, end);
            self.ground.process_mut(process).link.held.push(What::Arrive { process, request, sent });
            return;
        }
        if self.ground.process(process).link.closed {
            return self.ground.schedule.push(gives_up, end);
        }
        if now < self.network.store_down_until {
            return self.arrive_at_nobody(process, request, sent, gives_up);
        }
        if now < self.ground.process(process).link.store_away_until {
            self.ground.tell(&Fact::Reached { process, mark: Mark::StoreAwayForOne });
            return self.ground.schedule.push(gives_up, end);
        }
        let late = now > sent + self.ground.request_timeout();
        if self.kept.is_of_a_former_life(process, &request, sent, self.ground) {
            // Revisions are given again then: that one fits which was meant for another, no condition can tell.
            return self.ground.schedule.push(gives_up, end);
        }
        let outcome =
            if self.refuses(process) { Outcome::Refused } else { self.carry_out(process, &request.write, late) };
        if self.network.rng.chance(self.ground.options.network.reply_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::ReplyLost });
            return self.ground.schedule.push(gives_up, end);
        }
        let falsely = self.network.rng.chance(self.ground.options.network.false_conflict_ppm);
        let outcome = match outcome {
            Outcome::Committed(_) if falsely => {
                self.ground.tell(&Fact::Mishap { process, mishap: Mishap::FalseConflict });
                Outcome::Conflict
            }
            outcome => outcome,
        };
        let replies = now + self.network.one_way(&self.ground.options);
        if replies > gives_up {
            self.ground.schedule.push(gives_up, end);
        }
        self.ground.schedule.push(replies, What::Reply { process, operation, outcome, sent });
    }

    /// A request reaches a store that is down.
    fn arrive_at_nobody(&mut self, process: ProcessId, request: Box<Request>, sent: Moment, gives_up: Moment) {
        let at_once = self.network.rng.chance(REFUSED_BY_DOWN_STORE_PPM);
        let told = if at_once { self.ground.now + self.network.one_way(&self.ground.options) } else { gives_up };
        self.ground.schedule.push(told, What::GiveUp { process, operation: request.operation });
        if self.network.rng.chance(CARRIED_OUT_LATE_PPM) {
            let later = self.network.store_down_until + self.network.one_way(&self.ground.options);
            self.ground.schedule.push(later, What::Arrive { process, request, sent });
        }
    }

    /// Whether the store takes no write of a process now, for a reason of its own.
    fn refuses(&mut self, process: ProcessId) -> bool {
        let now = self.ground.now;
        let read_only = now < self.ground.process(process).link.read_only_until;
        if read_only {
            self.ground.tell(&Fact::Reached { process, mark: Mark::ReadOnlyForOne });
        }
        read_only
            || now < self.network.store_full_until
            || self.network.rng.chance(self.ground.options.network.refused_ppm)
    }

    /// The store looks at a write's condition, and shows the write to those who watch.
    fn carry_out(&mut self, process: ProcessId, write: &Write, late: bool) -> Outcome {
        let ignored = self.ignores_condition(write);
        let store = &mut self.kept.store;
        let outcome = if ignored { store.force(write) } else { store.write(write) };
        if self.ground.options.encoded {
            let too_large = outcome == Outcome::Refused;
            let mark = if too_large { Mark::RecordTooLarge } else { Mark::Encoded };
            self.ground.tell(&Fact::Reached { process, mark });
        }
        self.ground.tell(&Fact::Stored { process, write, outcome, late });
        if let Outcome::Committed(_) = outcome {
            self.notify(write.key());
        }
        outcome
    }

    fn ignores_condition(&self, write: &Write) -> bool {
        let bug = match write {
            Write::Delete { .. } if write.key().bucket() == Bucket::Members => Around::EvictWithoutCondition,
            Write::Update { key: Key::Slot(_), .. } => Around::RenewWithoutCondition,
            Write::Append { .. } => Around::AppendWithoutCondition,
            Write::Create { .. } | Write::Update { .. } | Write::Delete { .. } => return false,
        };
        self.ground.options.has(bug)
    }

    /// An operator makes a wish, or takes it back.
    pub(crate) fn wish(&mut self, control: Control, wanted: bool) {
        let key = Key::Control(control);
        if wanted {
            let record = Record::Control(ControlRecord::default().into());
            self.kept.store.put_bytes(key, &record.encode());
        } else if let Some(Entry { revision: expected, value: Stored::Bytes(_) }) = self.kept.store.entry(key) {
            let expected = *expected;
            self.kept.store.write(&Write::Delete { key, expected });
        } else {
            return;
        }
        self.ground.tell(&Fact::Wished { control, wanted });
        self.notify(key);
    }

    /// Operators want nothing any more.
    pub(crate) fn take_back_wishes(&mut self) {
        let drains = (0..self.ground.options.worker.slots).map(|slot| Control::Drain(Slot::new(slot)));
        for control in drains.chain([Control::Pause, Control::Maintenance, Control::Rebalance]) {
            self.wish(control, false);
        }
        let drains = self.kept.store.entries(Bucket::Members).values().any(
            |entry| matches!(&entry.value, Stored::Record(Record::Member(record)) if record.phase == MemberPhase::Draining),
        );
        if drains {
            self.ground.tell(&Fact::Operated { what: "who was drained takes part again", may_move: true });
        }
    }

    /// Somebody writes something that is not a record.
    pub(crate) fn write_garbage(&mut self, key: Key) {
        if let Key::Slot(slot) = key
            && let Some((instance, _)) = self.slot_holders().remove(&slot)
        {
            self.kept.garbled.insert(slot, instance);
            // What a plan that has lost writes no longer says, only its holder's record tells.
            if self.ground.observers.has_regressed() {
                self.tell_forgotten(instance, Forgotten::Everything);
            }
        }
        self.put_garbage(key);
        self.plan_regressed();
        self.notify(key);
    }

    fn put_garbage(&mut self, key: Key) {
        self.kept.store.put_bytes(key, b"not a record");
        self.kept.garbage.push(key);
    }

    /// Somebody writes something that is not a record where it is not about who holds a slot: under `leader`, under a
    /// key of an operator, or in the plan.
    pub(crate) fn leave_garbage(&mut self, key: Key, stays: bool) {
        let mark = match key {
            Key::Slot(_) => None,
            Key::Leader => Some(Mark::GarbageUnderLeader),
            Key::Control(_) => Some(Mark::GarbageUnderControl),
            Key::Assign(_) | Key::Cluster => Some(Mark::GarbageInPlan),
        };
        let by = ProcessId::new(0);
        for mark in mark.into_iter().chain(stays.then_some(Mark::GarbageStays)) {
            self.ground.tell(&Fact::Reached { process: by, mark });
        }
        match key {
            Key::Slot(_) | Key::Assign(_) | Key::Cluster => self.write_garbage(key),
            Key::Leader | Key::Control(_) => {
                self.put_garbage(key);
                self.notify(key);
            }
        }
        if stays {
            self.kept.garbage.retain(|garbage| *garbage != key);
        }
    }

    /// An operator deletes what is not a record, when whoever held the slot has certainly stopped.
    pub(super) fn clear_garbage(&mut self) {
        for key in std::mem::take(&mut self.kept.garbage) {
            if let Some(Entry { revision, value: Stored::Bytes(_) }) = self.kept.store.entry(key) {
                let expected = *revision;
                self.kept.store.write(&Write::Delete { key, expected });
                self.ground.tell(&Fact::Operated { what: "deletes what is not a record", may_move: true });
                self.notify(key);
            }
        }
    }

    /// A worker or an operator of a newer version writes what nobody of this one can read; it changes with `beat`.
    pub(crate) fn write_newer(&mut self, key: Key, beat: u64) -> Revision {
        let record = format!(r#"{{"v":{},"beat":{beat}}}"#, FORMAT_VERSION + 1);
        let revision = self.kept.store.put_bytes(key, record.as_bytes());
        self.notify(key);
        revision
    }
}
