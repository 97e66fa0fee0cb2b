//! The group at one moment, as a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parti_core::{
    AssignmentRecord, ClusterRecord, Control, ControlRecord, Generation, Grant, GroupName, Incarnation, Key,
    LeaderRecord, MeasuredWeights, MemberPhase, MemberRecord, PartitionId, PartitionList, Position, Revision, Slot,
    Tenure, Token, Weight,
};

/// By which lease a worker is judged whose record names none: the default of the versions that wrote such records.
const LEASE_OF_OLD_RECORDS: Duration = Duration::from_secs(10);
/// How much of an error's text is shown: what somebody has stored may be in it.
const MAX_WORDS: usize = 300;

/// A group at one moment, as its records say: a value to be looked at, compared and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Picture {
    /// Which group.
    pub group: GroupName,
    /// When it was taken, by the clock of the server that keeps the members.
    pub taken_at: SystemTime,
    /// Whether both buckets were followed at that time. Otherwise this is how they were last known.
    pub live: bool,
    /// Up to which write the members are shown.
    pub members: BucketPicture,
    /// Up to which write the plan is shown.
    pub plan: BucketPicture,
    /// Who leads, or was the last to.
    pub leader: Option<LeaderRecord>,
    /// The head of the plan: term, generation, the leader's counts.
    pub head: Option<Arc<ClusterRecord>>,
    /// Who has a slot.
    pub workers: BTreeMap<Slot, WorkerPicture>,
    /// What each slot's tenure may hold.
    pub assignments: BTreeMap<Slot, AssignmentPicture>,
    /// What operators want.
    pub wishes: BTreeMap<Control, Wish>,
    /// The partition list in the store; none where there is none there, as in a group whose workers have a fixed list.
    pub list: Option<ListPicture>,
    /// What is stored under keys of the group and is no record.
    pub unreadable: Vec<Unreadable>,
}

/// How far a bucket is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketPicture {
    /// Which life of the bucket.
    pub life: Incarnation,
    /// Every write up to this one is shown, unless a later one has replaced it.
    pub revision: Revision,
    /// Whether it was followed.
    pub live: bool,
}

/// A worker, as its member record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPicture {
    /// Its slot.
    pub slot: Slot,
    /// Which hold of the slot.
    pub tenure: Tenure,
    /// The write of the record.
    pub revision: Revision,
    /// When it was written, by the server's clock.
    pub written: Option<SystemTime>,
    /// What it says of itself.
    pub record: Arc<MemberRecord>,
}

/// How a worker is, as far as its record and its age tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It renews its lease and works.
    Working,
    /// It is leaving by itself.
    Leaving,
    /// It has released everything, and its successor is expected.
    Restarting,
    /// Its record is older than its lease and the margin: it has stopped, and a leader may end its tenure.
    Silent,
}

/// An assignment record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentPicture {
    /// The write of it.
    pub revision: Revision,
    /// When it was written, by the server's clock.
    pub written: Option<SystemTime>,
    /// What it says.
    pub record: Arc<AssignmentRecord>,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The write of it.
    pub revision: Revision,
    /// When it was written, by the server's clock.
    pub written: Option<SystemTime>,
    /// Who wants it, and why. Untrusted text, see [`harmless`].
    pub record: Arc<ControlRecord>,
}

/// The stored partition list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPicture {
    /// The write of its head; 0 where it cannot be read.
    pub revision: Revision,
    /// The list, or why it cannot be read.
    pub partitions: Result<PartitionList, String>,
}

/// A stored value that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its key.
    pub key: Key,
    /// The write of it.
    pub revision: Revision,
    /// When it was written, by the server's clock.
    pub written: Option<SystemTime>,
    /// Whether a newer version could read it.
    pub newer: bool,
    /// What is wrong with it, as [harmless] text.
    pub why: String,
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner's slot.
    pub slot: Slot,
    /// The token that the owner works with, as far as records tell: its last part is that of the tenure's beginning,
    /// and greater where a successor has taken over the slot since.
    pub token: Token,
}

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPicture {
    /// Its name.
    pub id: PartitionId,
    /// Its weight: by the stored list, or as it was granted; where the list measures it, its load as the leader knows it.
    pub weight: Weight,
    /// Who owns it, if anybody does.
    pub owner: Option<Ownership>,
    /// Who was told to give it up, and has not said yet that it has.
    pub releasing: Option<Slot>,
    /// To whom it will go.
    pub incoming: Option<Slot>,
    /// Whether it is in the stored list; true where there is none.
    pub listed: bool,
}

impl Picture {
    pub(super) fn empty(group: GroupName, taken_at: SystemTime) -> Self {
        Self {
            group,
            taken_at,
            live: false,
            members: BucketPicture::default(),
            plan: BucketPicture::default(),
            leader: None,
            head: None,
            workers: BTreeMap::new(),
            assignments: BTreeMap::new(),
            wishes: BTreeMap::new(),
            list: None,
            unreadable: Vec::new(),
        }
    }

    /// How long ago something was written, by the server's clock; none where that is not known.
    pub fn age(&self, written: Option<SystemTime>) -> Option<Duration> {
        Some(self.taken_at.duration_since(written?).unwrap_or_default())
    }

    /// How a worker is.
    pub fn presence(&self, worker: &WorkerPicture) -> Presence {
        let age = self.age(worker.written).unwrap_or_default();
        match worker.record.phase {
            MemberPhase::Restarting => Presence::Restarting,
            MemberPhase::Active | MemberPhase::Draining if age > worker.patience() => Presence::Silent,
            MemberPhase::Active => Presence::Working,
            MemberPhase::Draining => Presence::Leaving,
        }
    }

    /// The worker that leads, if there is one whose lease has not run out.
    pub fn acting_leader(&self) -> Option<&WorkerPicture> {
        let leader = self.leader?;
        let worker = self.workers.get(&leader.slot).filter(|worker| worker.tenure == leader.tenure)?;
        matches!(self.presence(worker), Presence::Working | Presence::Leaving).then_some(worker)
    }

    /// Whether the tenure that an assignment names may still hold what it says: it is the one in the slot, or nobody knows
    /// which one that is.
    pub fn is_held(&self, slot: Slot, assignment: &AssignmentPicture) -> bool {
        let is_unknown = || self.unreadable.iter().any(|unreadable| unreadable.key == Key::Slot(slot));
        self.workers.get(&slot).map_or_else(is_unknown, |worker| worker.tenure == assignment.record.tenure)
    }

    /// The plan so far, 0 before the first.
    pub fn generation(&self) -> Generation {
        self.head.as_ref().map(|head| head.generation).unwrap_or_default()
    }

    /// How many partitions a slot's tenure owns.
    pub fn owned_by(&self, slot: Slot) -> usize {
        self.assignments.get(&slot).map_or(0, |assignment| assignment.record.owned.len())
    }

    /// The weights of what a worker owns: those of its grants or, where the stored list measures them, as it tells them. 0
    /// where it owns nothing. O(owned log P).
    pub fn load_of(&self, worker: &WorkerPicture) -> u64 {
        let record = self.assignments.get(&worker.slot).map(|assignment| &assignment.record);
        let owned = record.filter(|record| record.tenure == worker.tenure).map(|record| &record.owned);
        let list = self.list.as_ref().and_then(|list| list.partitions.as_ref().ok());
        let told = worker.record.load.as_ref().filter(|told| list.is_some_and(|list| told.is_by(list)));
        let told = told.filter(|_| self.has_applied(worker));
        let measured = |id: &PartitionId| {
            let listed = list.and_then(|list| Some(&list.as_slice()[list.position(id)?]));
            Some(told?.load_of(id, listed.filter(|of| of.is_measured())?.weight))
        };
        let weight = |grant: &Grant| measured(&grant.partition).unwrap_or(grant.weight);
        owned.into_iter().flatten().map(|grant| u64::from(weight(grant).get())).sum()
    }

    /// Every partition that is known, in the order of the ids: those of the stored list, and those in assignments. In a
    /// group without a stored list one that nobody owns and nobody is to have is not known. O(P log P).
    pub fn partitions(&self) -> Vec<PartitionPicture> {
        let listed = self.weighed();
        let listed = listed.as_ref();
        let mut all: BTreeMap<&PartitionId, PartitionPicture> = BTreeMap::new();
        for partition in listed.into_iter().flat_map(PartitionList::iter) {
            all.insert(&partition.id, PartitionPicture::new(&partition.id, partition.weight, true));
        }
        let known = |id| PartitionPicture::new(id, Weight::MIN, listed.is_none());
        for (&slot, assignment) in &self.assignments {
            let is_held = self.is_held(slot, assignment);
            for grant in &assignment.record.owned {
                let partition = all
                    .entry(&grant.partition)
                    .or_insert_with(|| PartitionPicture { weight: grant.weight, ..known(&grant.partition) });
                if is_held {
                    partition.owner = Some(Ownership { slot, token: self.token(slot, assignment, grant.epoch) });
                }
            }
            for id in assignment.record.releasing.iter().filter(|_| is_held) {
                all.entry(id).or_insert_with(|| known(id)).releasing = Some(slot);
            }
            for id in &assignment.record.incoming {
                all.entry(id).or_insert_with(|| known(id)).incoming = Some(slot);
            }
        }
        all.into_values().collect()
    }

    /// The stored list with the weights by which a leader divides it: where it measures partitions, what workers tell of
    /// them. O(P).
    pub(super) fn weighed(&self) -> Option<PartitionList> {
        let list = self.list.as_ref()?.partitions.as_ref().ok()?;
        let mut weights = MeasuredWeights::new(list);
        let assigned = self.assignments.iter().map(|(slot, assignment)| {
            let at = Position { incarnation: self.plan.life, revision: assignment.revision };
            let worker = self.workers.get(slot).filter(|worker| worker.record.applied == at);
            let told = worker.and_then(|worker| worker.record.load.as_ref()).filter(|told| told.is_by(list));
            (&*assignment.record, told)
        });
        weights.observe(list, assigned);
        Some(weights.weighed(list))
    }

    fn token(&self, slot: Slot, assignment: &AssignmentPicture, epoch: Generation) -> Token {
        let era = Some(assignment.record.era).filter(|era| *era != Incarnation::default());
        let claim = self.workers.get(&slot).map(|worker| worker.tenure.begun().revision).unwrap_or_default();
        Token { incarnation: era.unwrap_or(self.plan.life), epoch, claim }
    }

    /// How many partitions nobody owns and nobody is giving up: those of `partitions`, and those that only the leader's
    /// count tells of.
    pub fn unowned(&self, partitions: &[PartitionPicture]) -> usize {
        let listed = partitions.iter().filter(|partition| partition.listed);
        let known = listed.clone().count();
        let without = listed.filter(|partition| partition.owner.is_none() && partition.releasing.is_none()).count();
        let counted = self.head.as_ref().map_or(0, |head| usize::try_from(head.partitions).unwrap_or(usize::MAX));
        let unknown = if self.list.is_some() { 0 } else { counted.saturating_sub(known) };
        without + unknown
    }

    /// When the plan was last written, by the server's clock.
    pub fn planned_at(&self) -> Option<SystemTime> {
        self.assignments.values().filter_map(|assignment| assignment.written).max()
    }

    /// Whether a worker has applied the assignment that names it.
    pub fn has_applied(&self, worker: &WorkerPicture) -> bool {
        let Some(assignment) = self.assignments.get(&worker.slot) else { return true };
        let wanted = Position { incarnation: self.plan.life, revision: assignment.revision };
        assignment.record.tenure != worker.tenure || worker.record.applied >= wanted
    }
}

impl WorkerPicture {
    /// The lease by which it acts.
    pub fn lease(&self) -> Duration {
        self.record.lease_ms.map_or(LEASE_OF_OLD_RECORDS, Duration::from_millis)
    }

    /// After how long without a renewal others take it to have stopped: the lease and an eighth of it.
    pub fn patience(&self) -> Duration {
        self.lease().saturating_add(self.lease() / 8)
    }
}

impl PartitionPicture {
    fn new(id: &PartitionId, weight: Weight, listed: bool) -> Self {
        Self { id: id.clone(), weight, owner: None, releasing: None, incoming: None, listed }
    }

    /// Whether it is on its way from one worker to another, or to nobody.
    pub fn is_moving(&self) -> bool {
        self.releasing.is_some() || self.incoming.is_some()
    }
}

/// Text that somebody has stored, for a terminal or a log: at most `most` characters of it, and none that a terminal acts
/// on or that changes the direction of writing.
///
/// ```
/// assert_eq!(parti_nats::harmless("red \u{1b}[31m\nalert", 14), "red \\u{1b}[31m…");
/// ```
pub fn harmless(text: &str, most: usize) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let plain = |c: char| if acts(c) { c.escape_default().collect::<String>() } else { c.into() };
    let (mut shown, mut count) = (String::new(), 0);
    for part in text.chars().map(plain) {
        count += part.chars().count();
        if count > most {
            shown.push('…');
            break;
        }
        shown += &part;
    }
    shown
}

/// The same for what an error says.
pub(crate) fn harmless_words(text: &str) -> String {
    harmless(text, MAX_WORDS)
}
