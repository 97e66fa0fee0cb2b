//! G1: whoever is evicted since nobody listens was not heard of for long enough, at its own server, in an unbroken row.

use std::collections::BTreeMap;
use std::time::Duration;

use parti_core::{Action, Event, EvictReason, Key, KvEvent, Notice, Outcome, ProbeId, ProbeOutcome, Slot, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, ProcessId, Topic};
use crate::world::clock::Moment;

/// An eviction for want of an answer rests on a row of probes that was not interrupted: not by an answer, one that
/// timed out or that came from who knows where, not by a renewal, and not by a break of the prober's own connection. What
/// was asked before the row began says nothing of it. Nor is anything known of a renewal that the store has lost, for as
/// long as a lease lasts.
#[derive(Clone, Debug, Default)]
pub(super) struct RowOfProbes {
    /// Of whom each probe asks, and since when.
    asked: BTreeMap<(ProcessId, ProbeId), (Slot, Moment)>,
    /// When nobody listened for the first time.
    rows: BTreeMap<(Slot, ProcessId), Moment>,
    /// Until when the store may have lost a renewal.
    unsure_until: Moment,
    /// How long the row was when the eviction was asked for.
    evictions: BTreeMap<(ProcessId, Slot), Duration>,
}

impl Invariant for RowOfProbes {
    fn name(&self) -> &'static str {
        "row-of-probes"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Handed | Topic::Asked | Topic::Noticed | Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Asked { process, action: Action::Probe { probe, slot, .. } } => {
                self.asked.insert((process, *probe), (*slot, scene.now));
            }
            Fact::Handed { process, event: Event::Probed { probe, outcome, server } } => {
                let Some((slot, asked_at)) = self.asked.remove(&(process, *probe)) else { return Ok(()) };
                if *outcome == ProbeOutcome::NobodyListens && server.is_some() {
                    self.rows.entry((slot, process)).or_insert(scene.now);
                } else if self.rows.get(&(slot, process)).is_some_and(|first| *first <= asked_at) {
                    self.rows.remove(&(slot, process));
                }
            }
            Fact::Handed { process, event: Event::Kv(KvEvent::Lost) } => {
                self.asked.retain(|(by, _), _| *by != process);
                self.rows.retain(|(_, by), _| *by != process);
            }
            Fact::Asked { process, action: Action::Kv(request) } => {
                if let Write::Delete { key: Key::Slot(slot), .. } = request.write {
                    let row = self.rows.get(&(slot, process)).map(|first| scene.now.since(*first));
                    self.evictions.insert((process, slot), row.unwrap_or_default());
                }
            }
            Fact::PlanRegressed { .. } => self.unsure_until = scene.now + scene.options.observed_lease(),
            Fact::Stored { write, outcome: Outcome::Committed(_), .. } => {
                if let Key::Slot(slot) = write.key() {
                    self.rows.retain(|(of, _), _| *of != slot);
                }
            }
            Fact::Asked {
                process,
                action: Action::Notice(Notice::Evicted { slot, reason: EvictReason::NobodyListens }),
            } => {
                let row = self.evictions.remove(&(process, *slot)).unwrap_or_default();
                // By the clock of whoever asked, which may be fast.
                let least = Duration::from_millis(scene.options.worker.probe_confirm_ms) * 8 / 9;
                if row < least && scene.now >= self.unsure_until {
                    let sentence =
                        format!("{process} evicted the worker in slot.{slot} after a row of probes of {row:?}");
                    return Err(Breach::new(sentence).by(process));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
