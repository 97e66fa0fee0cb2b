//! The contract between a worker and what surrounds it, on the worker's side.

use std::collections::BTreeMap;

use parti_core::{Action, Bucket, Event, Key, KvEvent, OperationId, Token};

use super::{Breach, Invariant, PerProcess, Scene};
use crate::check::mark::Mark;
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};

/// A partition is acquired only after its earlier hold was released, and released only while it is held; nothing is
/// held at the halt; operations have names of their own; no record is larger than the worker was told; one key has one write in flight, and the plan one append.
#[derive(Clone, Debug, Default)]
pub(super) struct Contract {
    processes: PerProcess<Seen>,
}

/// What was seen of one process.
#[derive(Clone, Debug, Default)]
struct Seen {
    held: BTreeMap<PartitionIndex, Token>,
    in_flight: BTreeMap<OperationId, Key>,
    halted: bool,
}

impl Contract {
    fn observe_asked(&mut self, process: ProcessId, action: &Action, scene: &Scene<'_>) -> Result<(), Breach> {
        let seen = self.processes.of(process);
        if seen.halted {
            return Err(Breach::new(format!("{process} asked for something after it had halted")).by(process));
        }
        match action {
            Action::Kv(request) => {
                let key = request.write.key();
                let clashes = |other: &Key| match key.bucket() {
                    Bucket::Members => *other == key,
                    Bucket::Plan => other.bucket() == Bucket::Plan,
                };
                let twice = seen.in_flight.values().any(clashes);
                if twice || seen.in_flight.insert(request.operation, key).is_some() {
                    let operation = request.operation;
                    return Err(Breach::new(format!(
                        "{process} wrote {key} as operation {operation} while another write of it was in flight"
                    ))
                    .by(process));
                }
                Ok(())
            }
            Action::Halt => {
                seen.halted = true;
                match std::mem::take(&mut seen.held).first_key_value() {
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
            | Action::Listen
            | Action::Check { .. }
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

    fn looks_at(&self, topic: Topic) -> bool {
        !matches!(topic, Topic::Handed | Topic::Stored | Topic::Message)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Crashed { process } => {
                let seen = self.processes.of(process);
                seen.held.clear();
                seen.in_flight.clear();
            }
            Fact::Handed { process, event: Event::Kv(KvEvent::Done { operation, .. }) } => {
                self.processes.of(process).in_flight.remove(operation);
            }
            Fact::Reached { process, mark: Mark::RecordTooLarge } => {
                return Err(Breach::new(format!("{process} wrote a record that is larger than it was told it may be"))
                    .by(process));
            }
            Fact::Asked { process, action } => return self.observe_asked(process, action, scene),
            Fact::Acquired { process, partition, token, .. } => {
                if let Some(before) = self.processes.of(process).held.insert(partition, token) {
                    return Err(Breach::new(format!(
                        "{process} was given {} with token {token} before it had released it with {before}",
                        scene.name(partition)
                    ))
                    .by(process)
                    .on(partition));
                }
            }
            Fact::Draining { process, partition, .. } if !self.processes.of(process).held.contains_key(&partition) => {
                return Err(Breach::new(format!(
                    "{process} was told to release {}, which it does not have",
                    scene.name(partition)
                ))
                .by(process)
                .on(partition));
            }
            Fact::Released { process, partition, .. } => {
                self.processes.of(process).held.remove(&partition);
            }
            _ => {}
        }
        Ok(())
    }
}
