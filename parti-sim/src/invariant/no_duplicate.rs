//! G1: no two running workers hold the same partition at the same time.

use std::collections::BTreeMap;

use parti_core::Incarnation;

use super::{Breach, Invariant, Scene};
use crate::clock::Moment;
use crate::fact::{Fact, PartitionIndex, ProcessId, Topic};

/// Two processes never work on one partition at once. Where the mode is `Available` they may, and only fencing tokens
/// keep them apart.
///
/// The guarantee rests on a store that keeps what it has acknowledged. Where it has forgotten that a process was
/// replaced, both may work until the other one has noticed, within a lease; so may one that is shown, late, a grant from
/// a former life of the plan. Fencing tokens keep them apart meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct NoDuplicate {
    /// Until when each process that the store has forgotten about may share.
    forgotten: BTreeMap<ProcessId, Moment>,
    /// The life of the plan.
    life: Incarnation,
}

impl Invariant for NoDuplicate {
    fn name(&self) -> &'static str {
        "no-duplicate"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        !matches!(topic, Topic::Asked | Topic::Noticed) // with each event, time has passed
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if scene.options.worker.available {
            return Ok(());
        }
        if self.forgotten.values().any(|until| *until <= scene.now) {
            self.forgotten.retain(|_, until| scene.now < *until);
            for partition in (0..scene.partitions.as_slice().len()).map(PartitionIndex::new) {
                self.check(partition, scene)?;
            }
        }
        match *fact {
            Fact::PlanRegressed { life, .. } => self.life = life,
            Fact::Forgotten { process } => self.excuse(process, scene),
            Fact::Acquired { process, token, .. } if token.incarnation < self.life => self.excuse(process, scene),
            Fact::Works { partition, .. } => self.check(partition, scene)?,
            _ => {}
        }
        Ok(())
    }
}

impl NoDuplicate {
    fn excuse(&mut self, process: ProcessId, scene: &Scene<'_>) {
        self.forgotten.insert(process, scene.now + scene.options.observed_lease());
    }

    fn check(&self, partition: PartitionIndex, scene: &Scene<'_>) -> Result<(), Breach> {
        let workers = scene.ownership.workers_on(partition);
        let mut known = workers.iter().filter(|(process, _)| !self.forgotten.contains_key(process));
        let (Some((one, first)), Some((other, second))) = (known.next(), known.next()) else { return Ok(()) };
        Err(Breach::new(format!(
            "{} is worked on by {one} (token {first}) and by {other} (token {second})",
            scene.name(partition)
        ))
        .by(*other)
        .on(partition))
    }
}
