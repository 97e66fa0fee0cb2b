//! G5: after the last round, load per unit of capacity is close to the mean.

use parti_core::Slot;

use super::{Breach, Invariant, Kind, Scene};
use crate::check::mark::Mark;
use crate::check::ownership::Load;
use crate::setting::options::Options;
use crate::told::fact::{Fact, Topic};

/// How far above the mean the heaviest worker may be, in percent.
const TOLERANCE_PERCENT: u64 = 5;

/// The same where loads are measured: what is no more uneven is not worth a move, and measured with noise.
const MEASURED_TOLERANCE_PERCENT: u64 = 15;

/// When all is over, no worker has more than the mean and 5 %, or than the mean and the heaviest partition where
/// partitions are few.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    /// Whether partitions have become heavier or lighter than the list says.
    shifted: bool,
}

impl Invariant for Balance {
    fn name(&self) -> &'static str {
        "balance"
    }

    fn guarantee(&self) -> &'static str {
        "G5"
    }

    fn kind(&self) -> Kind {
        Kind::Liveness
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Other
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        self.shifted |= matches!(fact, Fact::Reached { mark: Mark::LoadShifted, .. });
        Ok(())
    }

    fn finish(&mut self, scene: &Scene<'_>) -> Result<(), Breach> {
        let Options { mix, zones, .. } = scene.options;
        // It is promised by the default strategy, where its plans are taken, partitions ask for nothing, and all have room.
        if self.shifted || !mix.is_balanced() || mix.has_limits() || *zones > 0 || scene.options.records_are_too_small()
        {
            return Ok(());
        }
        let loads = scene.ownership.loads();
        let total: u64 = loads.values().map(|load| load.load).sum();
        let capacities: u64 = loads.values().map(|load| u64::from(load.capacity)).sum();
        let heaviest = scene.ownership.heaviest();
        // Where each is more than a share, measured loads that are only about the same leave nothing to compare.
        if scene.options.loads.are_measured() && heaviest * capacities > total {
            return Ok(());
        }
        let tolerance = if scene.options.loads.are_measured() { MEASURED_TOLERANCE_PERCENT } else { TOLERANCE_PERCENT };
        for (slot, Load { load, capacity }) in loads {
            if pinned(scene, slot) > 0 {
                continue; // it has what is pinned to it, however much that is
            }
            // load <= share * (100 + tolerance) / 100, or load < share + heaviest, without fractions
            let share = total * u64::from(capacity);
            let within = load * capacities * 100 <= share * (100 + tolerance);
            let unavoidable = load * capacities < share + heaviest * capacities;
            if !within && !unavoidable {
                let slot = slot.worker_name();
                return Err(Breach::new(format!(
                    "{slot} has a load of {load} and a capacity of {capacity}, of {total} and {capacities} in all"
                )));
            }
        }
        Ok(())
    }
}

/// How many partitions are pinned to a slot.
fn pinned(scene: &Scene<'_>, slot: Slot) -> usize {
    let count = u32::try_from(scene.partitions.as_slice().len()).unwrap_or(u32::MAX);
    (0..count).filter(|number| scene.options.mix.pin(*number) == Some(slot)).count()
}
