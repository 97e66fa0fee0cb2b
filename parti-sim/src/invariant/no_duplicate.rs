//! G1: no two running workers hold the same partition at the same time.

use super::{Breach, Invariant, Scene};
use crate::fact::{Fact, Topic};

/// Two processes never work on one partition at once. Where the mode is `Available` they may, and only fencing tokens
/// keep them apart.
#[derive(Clone, Debug, Default)]
pub(super) struct NoDuplicate {}

impl Invariant for NoDuplicate {
    fn name(&self) -> &'static str {
        "no-duplicate"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Worked
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        let Fact::Works { process, partition, token } = *fact else { return Ok(()) };
        if scene.options.worker.available {
            return Ok(());
        }
        let other = scene.ownership.workers_on(partition).iter().find(|(other, _)| *other != process);
        match other {
            None => Ok(()),
            Some((other, theirs)) => Err(Breach::new(format!(
                "{} is worked on by {process} (token {token}) and by {other} (token {theirs})",
                scene.name(partition)
            ))
            .by(process)
            .on(partition)),
        }
    }
}
