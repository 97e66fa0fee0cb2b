//! Everyone who looks on: told each fact once, in a fixed order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parti_core::{Action, Key, Notice, Outcome, Partition, PartitionId, PartitionList, Write};

use crate::check::invariant::{self, Breach, Invariant, Scene, Violation};
use crate::check::mark::Mark;
use crate::check::messages::{Kept, Messages};
use crate::check::ownership::Ownership;
use crate::check::reached::Marks;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::figures::Counts;
use crate::told::recording::Recording;
use crate::told::trace::{self, Trace};
use crate::world::clock::Moment;

/// Everyone who looks on.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    options: Options,
    partitions: PartitionList,
    /// The place of each partition, for it is asked for often.
    places: Arc<HashMap<PartitionId, PartitionIndex>>,
    pub(crate) ownership: Ownership,
    pub(crate) messages: Messages,
    pub(crate) marks: Marks,
    pub(crate) counts: Counts,
    /// How often each process has tried to create a slot's record.
    pub(crate) claims: BTreeMap<ProcessId, u32>,
    pub(crate) timeline: Vec<TimelineEntry>,
    pub(crate) trace: Option<Trace>,
    pub(crate) recording: Option<Recording>,
    invariants: Vec<Box<dyn Invariant>>,
    /// By topic: the places of the invariants that look at it.
    lookers: [Vec<usize>; Topic::ALL.len()],
    /// The first breach; nothing after it counts.
    pub(crate) violation: Option<Violation>,
    regressed: bool,
}

/// Something that a person who looks at the run should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimelineEntry {
    pub(crate) at: Moment,
    pub(crate) who: Option<ProcessId>,
    pub(crate) what: String,
}

impl Observers {
    pub(crate) fn new(options: &Options, partitions: &PartitionList) -> Self {
        let invariants = invariant::all(options);
        Self {
            options: options.clone(),
            partitions: partitions.clone(),
            places: Arc::new(places(partitions)),
            ownership: Ownership::new(partitions.as_slice().iter().map(|partition| partition.weight.get())),
            messages: Messages::new(options),
            marks: Marks::default(),
            counts: Counts::default(),
            claims: BTreeMap::new(),
            timeline: Vec::new(),
            trace: None,
            recording: None,
            lookers: Topic::ALL.map(|topic| lookers(&invariants, topic)),
            invariants,
            violation: None,
            regressed: false,
        }
    }

    pub(crate) fn tell(&mut self, now: Moment, fact: &Fact<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.observe(now, fact, &self.partitions);
        }
        if let Some(recording) = &mut self.recording {
            recording.observe(now, fact);
        }
        let topic = fact.topic();
        match topic {
            // Most of a run, and of no other interest.
            Topic::Asked => {}
            Topic::Handed | Topic::Answered => {
                self.counts.events += 1;
                self.marks.observe(fact);
            }
            Topic::Message => self.take_in_message(now, fact),
            Topic::Noticed | Topic::Stored | Topic::Worked | Topic::Other => self.take_in(now, fact),
        }
        if self.violation.is_some() {
            return;
        }
        let Self { options, ownership, messages, partitions, invariants, lookers, .. } = self;
        let scene = Scene { now, options, ownership, messages, partitions };
        for place in &lookers[topic as usize] {
            let invariant = &mut invariants[*place];
            if let Err(breach) = invariant.observe(fact, &scene) {
                self.violation = Some(violation(invariant.as_ref(), breach, &scene));
                return;
            }
        }
    }

    fn take_in_message(&mut self, now: Moment, fact: &Fact<'_>) {
        self.messages.observe(now, fact);
        self.marks.observe(fact);
        self.tell_people(now, fact);
    }

    fn tell_people(&mut self, now: Moment, fact: &Fact<'_>) {
        if let Some(what) = for_people(fact, &self.partitions) {
            self.timeline.push(TimelineEntry { at: now, who: fact.process(), what });
        }
    }

    fn take_in(&mut self, now: Moment, fact: &Fact<'_>) {
        self.ownership.observe(now, fact);
        if matches!(fact, Fact::Crashed { .. } | Fact::Halted { .. }) {
            self.messages.observe(now, fact);
        }
        self.regressed |= matches!(fact, Fact::PlanRegressed { .. });
        self.marks.observe(fact);
        self.counts.observe(fact);
        if let Fact::Stored { process, write: Write::Create { key: Key::Slot(_), .. }, .. } = fact {
            *self.claims.entry(*process).or_default() += 1;
        }
        if let Fact::Works { process, partition, .. } = *fact {
            let pin = u32::try_from(partition.index()).ok().and_then(|number| self.options.mix.pin(number));
            if pin.is_some() && pin == self.ownership.slot_of(process) {
                self.marks.reach(Mark::Pinned);
            }
            if self.options.mix.available_every > 0 && self.ownership.workers_on(partition).len() > 1 {
                self.marks.reach(Mark::AvailableDuplicate);
            }
        }
        self.tell_people(now, fact);
    }

    /// Lets only these invariants look on.
    pub(crate) fn keep_invariants(&mut self, names: &[&str]) {
        self.invariants.retain(|invariant| names.contains(&invariant.name()));
        self.lookers = Topic::ALL.map(|topic| lookers(&self.invariants, topic));
    }

    /// Those who look on, with all that they have seen.
    pub(crate) fn invariants(&self) -> impl Iterator<Item = &dyn Invariant> {
        self.invariants.iter().map(AsRef::as_ref)
    }

    /// Lets every invariant look at how things ended.
    pub(crate) fn finish(&mut self, now: Moment) {
        if self.violation.is_some() {
            return;
        }
        let Self { options, ownership, messages, partitions, invariants, .. } = self;
        let scene = Scene { now, options, ownership, messages, partitions };
        for invariant in invariants {
            if let Err(breach) = invariant.finish(&scene) {
                self.violation = Some(violation(invariant.as_ref(), breach, &scene));
                return;
            }
        }
    }

    /// Whether no message of a partition in the list is to be finished still, but for those that are not delivered.
    pub(crate) fn all_is_done(&self) -> bool {
        let is_done = |(partition, kept): (PartitionIndex, &Kept)| {
            kept.unfinished.is_empty() || !kept.stopped.is_empty() || !self.ownership.is_listed(partition)
        };
        self.messages.all().all(is_done)
    }

    /// Whether the store has ever forgotten something.
    pub(crate) const fn has_regressed(&self) -> bool {
        self.regressed
    }

    /// All partitions that the run ever has.
    pub(crate) const fn partitions(&self) -> &PartitionList {
        &self.partitions
    }

    /// The partition with this place.
    pub(crate) fn partition(&self, index: PartitionIndex) -> &Partition {
        &self.partitions.as_slice()[index.index()]
    }

    /// The place of a partition in the list of all that the run ever has.
    pub(crate) fn index_of(&self, id: &PartitionId) -> Option<PartitionIndex> {
        self.places.get(id).copied()
    }

    /// All partitions that there ever are.
    pub(crate) fn indices(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.partitions.as_slice().len()).map(PartitionIndex::new)
    }
}

fn lookers(invariants: &[Box<dyn Invariant>], topic: Topic) -> Vec<usize> {
    invariants.iter().enumerate().filter(|(_, one)| one.looks_at(topic)).map(|(place, _)| place).collect()
}

fn violation(invariant: &dyn Invariant, breach: Breach, scene: &Scene<'_>) -> Violation {
    let Breach { sentence, process, partition } = breach;
    let (name, guarantee, kind) = (invariant.name(), invariant.guarantee(), invariant.kind());
    let partition_id = partition.map(|index| scene.name(index).clone());
    Violation { invariant: name, guarantee, kind, sentence, at: scene.now, process, partition, partition_id }
}

fn places(partitions: &PartitionList) -> HashMap<PartitionId, PartitionIndex> {
    let ids = partitions.as_slice().iter().map(|partition| partition.id.clone());
    ids.enumerate().map(|(place, id)| (id, PartitionIndex::new(place))).collect()
}

/// What a person should hear: what was done to the world, and what workers want an operator to know.
fn for_people(fact: &Fact<'_>, partitions: &PartitionList) -> Option<String> {
    match fact {
        Fact::Crashed { .. }
        | Fact::Halted { .. }
        | Fact::Paused { .. }
        | Fact::Woke { .. }
        | Fact::Disturbed { .. }
        | Fact::Operated { .. }
        | Fact::Healed
        | Fact::Forgotten { .. }
        | Fact::PlanRegressed { .. }
        | Fact::Wrote { accepted: false, .. } => trace::describe(fact, partitions),
        Fact::Asked { action: Action::Notice(notice), .. } => Some(notice.to_string()),
        Fact::Suspended { reason, .. } => Some(format!("suspends: {reason}")),
        Fact::Resumed { .. } => Some("resumes".into()),
        Fact::Message { what, .. } if what.is_for_people() => trace::describe(fact, partitions),
        _ => None,
    }
}

impl Counts {
    fn observe(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Stored { outcome: Outcome::Committed(_), .. } => self.store_writes += 1,
            Fact::Asked { action: Action::Notice(Notice::Planned { moved, .. }), .. } => {
                self.plans += 1;
                self.rounds += u64::from(*moved > 0);
                self.largest_round = self.largest_round.max(*moved);
            }
            _ => {}
        }
    }
}
