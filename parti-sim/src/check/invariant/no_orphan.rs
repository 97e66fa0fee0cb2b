//! G2: once faults stop, every partition has a live owner within a stated bound.

use std::time::Duration;

use super::{Breach, Invariant, Kind, Scene};
use crate::told::fact::{Fact, PartitionIndex, Topic};
use crate::world::clock::Moment;

/// From the healing on, and again from everything that an operator does, there is a bound after which no partition is
/// without a worker, and none stays so for longer. Where lists differ that is so of what is in all of them, and where
/// partitions ask for a zone, of those in whose zone there is a worker. Where workers have limits, it is so of those for which
/// a worker would have room if all that is less important made way.
#[derive(Clone, Debug, Default)]
pub(super) struct NoOrphan {
    /// Since when nothing has disturbed the world.
    calm_since: Option<Moment>,
    /// Since when some partition or other has had no worker although somebody should work on it; known while it is calm.
    unowned_since: Option<Moment>,
    /// Whether some partition or other has no worker although somebody should work on it, as of the last change.
    is_owing: bool,
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
        let Some(calm) = self.calm_since else { return Ok(()) };
        // To look for room takes long, and most facts change nothing about it.
        if !scene.options.mix.has_limits() || changes(fact) {
            self.is_owing = scene.ownership.unowned() > 0 && unowned(scene).next().is_some();
        }
        if !self.is_owing {
            self.unowned_since = None;
            return Ok(());
        }
        let since = *self.unowned_since.get_or_insert(scene.now);
        if scene.now.since(calm.max(since)) > bound(scene, self.regressed) {
            return Err(orphan(scene, calm));
        }
        Ok(())
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
    let owed = scene.ownership.all_unowned().filter(|(partition, _)| scene.is_owed(*partition));
    owed.filter(|(partition, _)| scene.has_room(*partition))
}

/// Whether a fact may change who works on what, or who has room for what.
fn changes(fact: &Fact<'_>) -> bool {
    matches!(
        fact,
        Fact::Started { .. }
            | Fact::Crashed { .. }
            | Fact::Halted { .. }
            | Fact::Status { .. }
            | Fact::Works { .. }
            | Fact::Stops { .. }
            | Fact::Listed { .. }
            | Fact::Wished { .. }
            | Fact::Healed
    )
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

#[cfg(test)]
mod tests {
    use parti_core::Token;

    use super::*;
    use crate::check::messages::Messages;
    use crate::check::ownership::Ownership;
    use crate::setting::mix::Mix;
    use crate::setting::options::Options;
    use crate::told::fact::ProcessId;

    const IN_ONE_LIST: usize = 4;
    const IN_BOTH_LISTS: usize = 0;

    /// The invariant in a world of one worker, in which all is well from the start on.
    struct Watched {
        options: Options,
        ownership: Ownership,
        no_orphan: NoOrphan,
    }

    impl Watched {
        fn new() -> Self {
            let mix = Mix { lists: 2, ..Mix::default() };
            let options = Options { partitions: 5, mix, ..Options::default() };
            let ownership = Ownership::new((0..options.partitions).map(|_| 1));
            let mut watched = Self { options, ownership, no_orphan: NoOrphan::default() };
            let process = ProcessId::new(0);
            assert!(watched.tell(0, &Fact::Healed).is_ok());
            assert!(watched.tell(0, &Fact::Started { process, capacity: 1, zone: None }).is_ok());
            for partition in (0..IN_ONE_LIST).map(PartitionIndex::new) {
                assert!(watched.tell(1, &Fact::Works { process, partition, token: Token::default() }).is_ok());
            }
            watched
        }

        fn tell(&mut self, at_ms: u64, fact: &Fact<'_>) -> Result<(), Breach> {
            let (now, partitions) = (Moment::from_millis(at_ms), self.options.all_partitions());
            self.ownership.observe(now, fact);
            let (options, ownership, messages) = (&self.options, &self.ownership, &Messages::default());
            let scene = Scene { now, options, ownership, messages, partitions: &partitions };
            self.no_orphan.observe(fact, &scene)
        }

        fn stops(&mut self, at_ms: u64) -> Result<(), Breach> {
            let (process, partition) = (ProcessId::new(0), PartitionIndex::new(IN_BOTH_LISTS));
            self.tell(at_ms, &Fact::Stops { process, partition })
        }

        fn bound_ms(&self) -> u64 {
            let partitions = self.options.all_partitions();
            let (now, ownership) = (Moment::START, &self.ownership);
            let (options, messages) = (&self.options, &Messages::default());
            let scene = Scene { now, options, ownership, messages, partitions: &partitions };
            u64::try_from(bound(&scene, false).as_millis()).expect("not that long")
        }
    }

    #[test]
    fn a_partition_may_be_handed_over_while_another_one_is_nobodys_duty() {
        let mut watched = Watched::new();
        let long_after = watched.bound_ms() + 10;
        assert!(watched.stops(long_after).is_ok(), "it has been without a worker for no time at all");
    }

    #[test]
    fn a_partition_may_be_without_a_worker_for_as_long_as_the_bound() {
        let mut watched = Watched::new();
        let (stopped, bound) = (1_000, watched.bound_ms());
        assert!(watched.stops(stopped).is_ok());
        let woke = Fact::Woke { process: ProcessId::new(0) };
        assert!(watched.tell(stopped + bound, &woke).is_ok());
        let breach = watched.tell(stopped + bound + 1, &woke);
        assert_eq!(breach.map_err(|breach| breach.partition), Err(Some(PartitionIndex::new(IN_BOTH_LISTS))));
    }
}
