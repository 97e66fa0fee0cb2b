//! Everything is bounded: what a worker asks for at once, how often it wants to be woken, what it has in flight.

use std::collections::VecDeque;
use std::time::Duration;

use parti_core::{Action, Event, Key, KvEvent, Outcome};

use super::{Breach, Invariant, PerProcess, Scene};
use crate::setting::options::Options;
use crate::told::fact::{Fact, Topic};
use crate::world::clock::Moment;

/// How often a timer may fire at one moment.
const MAX_TIMEOUTS_AT_ONCE: u32 = 100;
/// What a worker may ask for at once beside what concerns its partitions and the slots.
const ACTIONS_BESIDE: usize = 64;
/// How often the leader record may change within [`CHANGES_WITHIN`].
const MAX_LEADER_CHANGES: usize = 32;
/// The time within which changes of the leader record are counted.
const CHANGES_WITHIN: Duration = Duration::from_millis(250);

/// A worker's answers to one event, its wake-ups at one moment and its requests in flight stay within bounds that
/// depend on the size of the group alone; and candidates do not take the leader record from each other without end.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    most_actions: usize,
    most_in_flight: usize,
    processes: PerProcess<Counted>,
    /// When the leader record has changed lately.
    leader_changes: VecDeque<Moment>,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    actions: usize,
    in_flight: usize,
    timeouts: (Moment, u32),
}

impl Bounded {
    pub(super) fn new(options: &Options) -> Self {
        let slots = options.worker.slots as usize;
        let most_actions = ACTIONS_BESIDE + 4 * options.partitions as usize + 4 * slots;
        Self {
            most_actions,
            most_in_flight: ACTIONS_BESIDE + 4 * slots,
            processes: PerProcess::default(),
            leader_changes: VecDeque::new(),
        }
    }
}

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn guarantee(&self) -> &'static str {
        "the core's contract"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Handed | Topic::Answered | Topic::Asked | Topic::Noticed | Topic::Stored)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Handed { process, event } => {
                let counted = self.processes.of(process);
                counted.actions = 0;
                match event {
                    Event::Kv(KvEvent::Done { .. }) => counted.in_flight = counted.in_flight.saturating_sub(1),
                    Event::Timeout if counted.timeouts.0 == scene.now => counted.timeouts.1 += 1,
                    Event::Timeout => counted.timeouts = (scene.now, 1),
                    _ => {}
                }
                if counted.timeouts.1 > MAX_TIMEOUTS_AT_ONCE {
                    return Err(Breach::new(format!("{process} wants to be woken again and again at once")).by(process));
                }
            }
            Fact::Asked { process, action } => {
                let counted = self.processes.of(process);
                counted.actions += 1;
                counted.in_flight += usize::from(matches!(action, Action::Kv(_)));
                if counted.actions > self.most_actions || counted.in_flight > self.most_in_flight {
                    let Counted { actions, in_flight, .. } = counted;
                    return Err(Breach::new(format!(
                        "{process} asked for {actions} things at once and has {in_flight} writes in flight"
                    ))
                    .by(process));
                }
            }
            Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } if write.key() == Key::Leader => {
                self.leader_changes.push_back(scene.now);
                while self.leader_changes.front().is_some_and(|at| *at + CHANGES_WITHIN < scene.now) {
                    self.leader_changes.pop_front();
                }
                let changes = self.leader_changes.len();
                if changes > MAX_LEADER_CHANGES {
                    let within = CHANGES_WITHIN.as_millis();
                    let sentence =
                        format!("{process} and others changed the leader record {changes} times in {within} ms");
                    return Err(Breach::new(sentence).by(process));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
