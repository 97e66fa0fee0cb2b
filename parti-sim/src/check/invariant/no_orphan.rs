//! G2: once faults stop, every partition has a live owner within a stated bound.

use std::time::Duration;

use super::{Breach, Invariant, Kind, Scene};
use crate::told::fact::{Fact, PartitionIndex, Topic};
use crate::world::clock::Moment;

/// From the healing on, and again from everything that an operator does, there is a bound after which no partition is
/// without a worker, and none stays so for longer. Where lists differ that is so of what is in all of them, and where
/// partitions ask for a zone, of those in whose zone there is a worker.
#[derive(Clone, Debug, Default)]
pub(super) struct NoOrphan {
    /// Since when nothing has disturbed the world.
    calm_since: Option<Moment>,
    /// Since when some partition or other has had no worker.
    unowned_since: Option<Moment>,
    /// Whether the store has ever forgotten something: then nothing is granted until all have noticed.
    regressed: bool,
}

impl Invariant for NoOrphan {
    fn name(&self) -> &'static str {
        "no-orphan"
    }

    fn guarantee(&self) -> &'static str {
        "G2"
    }

    fn kind(&self) -> Kind {
        Kind::Liveness
    }

    fn looks_at(&self, topic: Topic) -> bool {
        !matches!(topic, Topic::Asked | Topic::Noticed | Topic::Message) // with each event, time has passed
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::Healed => self.calm_since = Some(scene.now),
            Fact::Disturbed { .. } => self.calm_since = None,
            Fact::PlanRegressed { .. } => self.regressed = true,
            Fact::Operated { .. } if self.calm_since.is_some() => self.calm_since = Some(scene.now),
            _ => {}
        }
        if scene.ownership.unowned() == 0 {
            self.unowned_since = None;
            return Ok(());
        }
        let since = *self.unowned_since.get_or_insert(scene.now);
        match self.calm_since {
            Some(calm) if scene.now.since(calm.max(since)) > bound(scene, self.regressed) => {
                if unowned(scene).next().is_none() {
                    self.unowned_since = None; // nobody could work on what is without a worker
                    return Ok(());
                }
                Err(orphan(scene, calm))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn finish(&mut self, scene: &Scene<'_>) -> Result<(), Breach> {
        if unowned(scene).next().is_none() { Ok(()) } else { Err(orphan(scene, Moment::START)) }
    }
}

/// The longest wait that the protocol knows: dead processes are found, those who may come back are waited for, the last
/// window closes, and drains end.
fn bound(scene: &Scene<'_>, regressed: bool) -> Duration {
    let worker = &scene.options.worker;
    let drain = worker.release_timeout_ms.min(scene.options.application.drain_ms.1);
    let windows = worker.cold_start_window_ms.max(worker.restart_hold_ms) + worker.rebalance_interval_ms;
    // Forgotten holders are waited out, by the last of several leaders anew.
    let leases = if regressed { 8 } else { 3 };
    scene.options.observed_lease() * leases + Duration::from_millis(windows + drain + scene.options.network.reread_ms.1)
}

/// What nobody works on although somebody should.
fn unowned<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (PartitionIndex, Moment)> + 'a {
    scene.ownership.all_unowned().filter(|(partition, _)| scene.is_owed(*partition))
}

fn orphan(scene: &Scene<'_>, calm: Moment) -> Breach {
    let (partition, since) = unowned(scene).next().expect("some partition has no worker");
    Breach::new(format!(
        "{} partitions have no worker, {} for {:.3} s, although nothing has been wrong for {:.3} s",
        unowned(scene).count(),
        scene.name(partition),
        scene.now.since(since).as_secs_f64(),
        scene.now.since(calm).as_secs_f64(),
    ))
    .on(partition)
}
