//! The contract between a worker and what surrounds it, on the worker's side.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::{Action, Bucket, Event, Key, KvEvent, OperationId, Token};

use super::{Breach, Invariant, Scene};
use crate::fact::{Fact, PartitionIndex, ProcessId};

/// A partition is acquired only after its earlier hold was released, and released only while it is held; nothing is
/// held at the halt; operations have names of their own; one key has one write in flight, and the plan one append.
#[derive(Clone, Debug, Default)]
pub(super) struct Contract {
    held: BTreeMap<ProcessId, BTreeMap<PartitionIndex, Token>>,
    in_flight: BTreeMap<ProcessId, BTreeMap<OperationId, Key>>,
    halted: BTreeSet<ProcessId>,
}

impl Contract {
    fn observe_asked(&mut self, process: ProcessId, action: &Action, scene: &Scene<'_>) -> Result<(), Breach> {
        if self.halted.contains(&process) {
            return Err(Breach::new(format!("{process} asked for something after it had halted")).by(process));
        }
        match action {
            Action::Kv(request) => {
                let in_flight = self.in_flight.entry(process).or_default();
                let key = request.write.key();
                let clashes = |other: &Key| match key.bucket() {
                    Bucket::Members => *other == key,
                    Bucket::Plan => other.bucket() == Bucket::Plan,
                };
                let twice = in_flight.values().any(clashes);
                if twice || in_flight.insert(request.operation, key).is_some() {
                    let operation = request.operation;
                    return Err(Breach::new(format!(
                        "{process} wrote {key} as operation {operation} while another write of it was in flight"
                    ))
                    .by(process));
                }
                Ok(())
            }
            Action::Halt => {
                self.halted.insert(process);
                let held = self.held.remove(&process).unwrap_or_default();
                match held.first_key_value() {
                    None => Ok(()),
                    Some((partition, _)) => Err(Breach::new(format!(
                        "{process} halted while its application still had {}",
                        scene.name(*partition)
                    ))
                    .by(process)
                    .on(*partition)),
                }
            }
            Action::Watch { .. }
            | Action::Probe { .. }
            | Action::Acquire { .. }
            | Action::Prepare { .. }
            | Action::Release { .. }
            | Action::Cancel { .. }
            | Action::Suspend { .. }
            | Action::Resume
            | Action::Notice(_) => Ok(()),
        }
    }
}

impl Invariant for Contract {
    fn name(&self) -> &'static str {
        "contract"
    }

    fn guarantee(&self) -> &'static str {
        "the core's contract"
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Crashed { process } => {
                self.held.remove(&process);
                self.in_flight.remove(&process);
            }
            Fact::Handed { process, event: Event::Kv(KvEvent::Done { operation, .. }) } => {
                self.in_flight.entry(process).or_default().remove(operation);
            }
            Fact::Asked { process, action } => return self.observe_asked(process, action, scene),
            Fact::Acquired { process, partition, token } => {
                if let Some(before) = self.held.entry(process).or_default().insert(partition, token) {
                    return Err(Breach::new(format!(
                        "{process} was given {} with token {token} before it had released it with {before}",
                        scene.name(partition)
                    ))
                    .by(process)
                    .on(partition));
                }
            }
            Fact::Draining { process, partition, .. }
                if !self.held.entry(process).or_default().contains_key(&partition) =>
            {
                return Err(Breach::new(format!(
                    "{process} was told to release {}, which it does not have",
                    scene.name(partition)
                ))
                .by(process)
                .on(partition));
            }
            Fact::Released { process, partition, .. } => {
                self.held.entry(process).or_default().remove(&partition);
            }
            _ => {}
        }
        Ok(())
    }
}
