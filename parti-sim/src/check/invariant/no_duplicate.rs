//! G1: no two running workers hold the same partition at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::{Key, Outcome, Record, Slot, Token, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Forgotten, PartitionIndex, ProcessId, Topic};
use crate::world::clock::Moment;

/// Two processes never work on one partition at once. A process whose mode is `Available` may share one until it hears
/// that it was replaced, at the latest some time after all faults are over, and with different tokens; never may two whose
/// mode is not.
///
/// The guarantee rests on a store that keeps what it has acknowledged. These may share until they have noticed, within a
/// lease: who has taken over from a process whose record is back, who has lost its record and its slot to another, whom
/// nothing in the store tells of, whose grant is lost and whose record does not say, or no longer says, that it has seen
/// it, while another leads than the one who made it, or with one who is back in a tenure that had ended, and who is shown,
/// late, a grant from a former life of the plan. Fencing tokens keep them apart meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct NoDuplicate {
    /// Until when each process that the store has forgotten about may share.
    forgotten: BTreeMap<ProcessId, Moment>,
    /// Who was in each slot, as nothing in the store tells any more, and until when it may not have noticed.
    unrecorded: BTreeMap<Slot, (ProcessId, Moment)>,
    /// Whose grants were lost, who had made them, and until when the holder may not have noticed: another leader knows nothing
    /// of them.
    lost_grants: BTreeMap<ProcessId, (Option<ProcessId>, Moment)>,
    /// Whose tenure had ended and is back, until they begin another one: whoever leads, nobody tells them what was granted
    /// since and is lost.
    revived: BTreeSet<ProcessId>,
    /// Who has written to the plan last.
    writer: Option<ProcessId>,
    /// Since when nothing is wrong.
    calm_since: Option<Moment>,
}

impl Invariant for NoDuplicate {
    fn name(&self) -> &'static str {
        "no-duplicate"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        !matches!(topic, Topic::Asked | Topic::Noticed | Topic::Message) // with each event, time has passed
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        self.check_that_all_have_heard(scene)?;
        let lost_until = self.lost_grants.values().map(|(_, until)| until);
        if self.forgotten.values().chain(lost_until).any(|until| *until <= scene.now) {
            self.forgotten.retain(|_, until| scene.now < *until);
            self.lost_grants.retain(|_, (_, until)| scene.now < *until);
            for partition in (0..scene.partitions.as_slice().len()).map(PartitionIndex::new) {
                self.check(partition, scene)?;
            }
        }
        match *fact {
            Fact::Healed => self.calm_since = Some(scene.now),
            Fact::Disturbed { .. } => self.calm_since = None,
            Fact::Forgotten { process, what: Forgotten::Takeover | Forgotten::Everything }
            | Fact::Acquired { process, in_former_life: true, .. } => {
                self.forgotten.insert(process, scene.now + scene.options.observed_lease());
            }
            Fact::Forgotten { process, what: Forgotten::Claim(slot) } => {
                self.unrecorded.insert(slot, (process, scene.now + scene.options.observed_lease()));
            }
            Fact::Forgotten { process, what: Forgotten::Grant } => {
                self.lost_grants.insert(process, (self.writer, scene.now + scene.options.observed_lease()));
            }
            Fact::Forgotten { process, what: Forgotten::End } => {
                self.revived.insert(process);
            }
            Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } => {
                self.observe_claim(process, write);
                self.observe_append(process, write);
            }
            Fact::Works { partition, .. } => self.check(partition, scene)?,
            _ => {}
        }
        Ok(())
    }
}

impl NoDuplicate {
    /// Nothing tells a record that is gone, and its slot taken by another, from one whose tenure was ended.
    fn observe_claim(&mut self, process: ProcessId, write: &Write) {
        let (Write::Create { key: Key::Slot(slot), record } | Write::Update { key: Key::Slot(slot), record, .. }) =
            write
        else {
            return;
        };
        if matches!(record, Record::Member(record) if record.tenure.is_none()) {
            self.revived.remove(&process);
        }
        if let Some((before, until)) = self.unrecorded.remove(slot).filter(|(before, _)| *before != process) {
            self.forgotten.insert(before, until);
        }
    }

    /// A leader knows what it has granted, also if the store does not.
    fn observe_append(&mut self, process: ProcessId, write: &Write) {
        let Write::Append { .. } = write else { return };
        self.writer = Some(process);
        let lost = self.lost_grants.iter().filter(|(_, (writer, _))| *writer != Some(process));
        self.forgotten.extend(lost.map(|(holder, (_, until))| (*holder, *until)));
        self.lost_grants.retain(|_, (writer, _)| *writer == Some(process));
    }

    fn check(&self, partition: PartitionIndex, scene: &Scene<'_>) -> Result<(), Breach> {
        let workers = scene.ownership.workers_on(partition);
        let known = || workers.iter().filter(|(process, _)| !self.forgotten.contains_key(process));
        for (at, one) in known().enumerate() {
            for other in known().skip(at + 1).filter(|other| !self.is_given_since(one.0, other.0)) {
                let strict = [one, other].iter().all(|(process, _)| !scene.is_available(*process));
                if strict || one.1 == other.1 {
                    return Err(shared(partition, one, other, scene));
                }
            }
        }
        Ok(())
    }

    /// Whether one of them is back in a tenure that had ended, and what was granted to the other is lost.
    fn is_given_since(&self, one: ProcessId, other: ProcessId) -> bool {
        let given = |back, holder| self.revived.contains(back) && self.lost_grants.contains_key(holder);
        given(&one, &other) || given(&other, &one)
    }

    /// Some time after all faults, who was replaced has heard of it.
    fn check_that_all_have_heard(&self, scene: &Scene<'_>) -> Result<(), Breach> {
        let Some(calm) = self.calm_since.filter(|_| scene.ownership.shared() > 0) else { return Ok(()) };
        if scene.now.since(calm) <= hears_within(scene) {
            return Ok(());
        }
        for partition in (0..scene.partitions.as_slice().len()).map(PartitionIndex::new) {
            if let [one, other, ..] = scene.ownership.workers_on(partition) {
                return Err(shared(partition, one, other, scene));
            }
        }
        Ok(())
    }
}

/// How soon after the last fault everybody has read what is in the store.
fn hears_within(scene: &Scene<'_>) -> Duration {
    let network = &scene.options.network;
    let ms = network.reread_ms.1 * 2 + network.request_timeout_ms + network.notice_ms + network.reconnect_ms.1;
    scene.options.observed_lease() + Duration::from_millis(ms)
}

fn shared(
    partition: PartitionIndex,
    (one, first): &(ProcessId, Token),
    (other, second): &(ProcessId, Token),
    scene: &Scene<'_>,
) -> Breach {
    let name = scene.name(partition);
    Breach::new(format!("{name} is worked on by {one} (token {first}) and by {other} (token {second})"))
        .by(*other)
        .on(partition)
}
