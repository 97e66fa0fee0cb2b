//! The applications of all processes: what they work on, how long they take to finish, and what they write.

use std::time::Duration;

use parti_core::{Event, Partition, ReleaseReason, Revision, Token};

use super::app::{App, FencedStore};
use super::event::What;
use super::ground::Ground;
use super::messages::Errand;
use crate::fault::around::Around;
use crate::kit::{Handlers, Takes};
use crate::rng::Rng;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};

/// How soon an application that is told to stop at once has stopped.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What the applications of all processes share.
#[derive(Clone, Debug)]
pub(crate) struct Applications {
    rng: Rng,
    fenced: FencedStore,
    /// What a user's own applications do, where there are any.
    pub(crate) handlers: Handlers,
}

impl Applications {
    pub(super) fn new(seed: u64, partitions: usize) -> Self {
        Self {
            rng: Rng::for_purpose(seed, "application"),
            fenced: FencedStore::new(partitions),
            handlers: Handlers::default(),
        }
    }

    /// An application is given a partition; whether in a former life of the plan.
    pub(super) fn acquire(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        (acquired, token): (&Partition, Token),
        in_former_life: bool,
    ) {
        let Some(partition) = ground.observers.index_of(&acquired.id) else { return };
        let shown = shown(&ground.options, token);
        let acquired_once = Fact::Acquired { process, partition, token: shown, in_former_life };
        if ground.options.has(Around::AcquireTwice) {
            ground.tell(&acquired_once);
        }
        ground.tell(&acquired_once);
        if !ground.process_mut(process).app.acquire(partition, token) {
            return;
        }
        self.handlers.acquired(ground.now, process, acquired, token);
        let deaf = ground.options.has(Around::DeafApplication) && self.rng.chance(20_000);
        if deaf {
            ground.process_mut(process).app.set_idle(partition);
        } else if ground.process(process).app.works() {
            ground.tell(&Fact::Works { process, partition, token: shown });
            self.write_fenced(ground, process, partition, token);
        }
    }

    /// An application is told to finish with a partition, and takes as long as it says or, if it does not say, as chance
    /// says.
    pub(super) fn release(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        (partition, token): (&parti_core::PartitionId, Token),
        reason: ReleaseReason,
    ) {
        let Some(index) = ground.observers.index_of(partition) else { return };
        ground.tell(&Fact::Draining { process, partition: index, reason });
        let takes = self.handlers.release(ground.now, process, (partition, token), reason);
        let at_once = reason == ReleaseReason::Evicted;
        self.drain(ground, process, (index, token), if at_once { Takes::Time(Duration::ZERO) } else { takes });
    }

    fn drain(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        (partition, token): (PartitionIndex, Token),
        takes: Takes,
    ) {
        if !ground.process_mut(process).app.drain(partition, token) {
            return;
        }
        if takes == Takes::Time(Duration::ZERO) {
            stop_at_once(ground, process, partition);
        }
        let (least, most) = ground.options.application.drain_ms;
        let one = ground.process(process);
        let drain_ms = self.rng.between(least, most) * u64::from(one.drain_percent) / 100;
        let says = match takes {
            Takes::Chance => Duration::from_millis(drain_ms),
            Takes::Time(time) => time,
            Takes::UntilEnded => return,
        };
        let takes = if one.app.works() { AT_ONCE.max(says) } else { AT_ONCE };
        if ground.options.has(Around::ReleaseBeforeDrained) {
            ground.after(Duration::ZERO, What::ReportReleased { process, partition, token });
        }
        if !ground.options.has(Around::EndlessDrain) {
            ground.after(takes, drained(&ground.options, process, partition, token));
        }
    }

    /// An application is told to drop what it does for a partition that it takes too long to finish with.
    pub(super) fn cancel(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        partition: &parti_core::PartitionId,
        token: Token,
    ) {
        self.handlers.cancelled(ground.now, process, partition);
        let Some(partition) = ground.observers.index_of(partition) else { return };
        if !ground.options.has(Around::EndlessDrain) {
            stop_at_once(ground, process, partition);
            ground.after(AT_ONCE, drained(&ground.options, process, partition, token));
        }
    }

    /// An application is done with a partition; what its worker is told.
    pub(super) fn drained(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        partition: PartitionIndex,
        token: Token,
    ) -> Option<Event> {
        let app = &mut ground.process_mut(process).app;
        let works = app.works();
        let hold = app.finish(partition, token)?;
        if works && !hold.idle {
            ground.tell(&Fact::Stops { process, partition });
        }
        let is_told = !ground.options.has(Around::ReleaseBeforeDrained);
        is_told.then(|| self.released(ground, process, partition, token))
    }

    /// A worker is told that a partition was released.
    pub(super) fn released(
        &mut self,
        ground: &mut Ground,
        process: ProcessId,
        partition: PartitionIndex,
        token: Token,
    ) -> Event {
        ground.tell(&Fact::Released { process, partition });
        let partition = ground.observers.partition(partition).id.clone();
        self.handlers.released(ground.now, process, &partition);
        Event::Released { partition, token }
    }

    /// When an application writes for the next time, if it does.
    pub(super) fn schedule_write(&mut self, ground: &mut Ground, process: ProcessId) {
        let every_ms = ground.options.application.write_every_ms;
        if every_ms > 0 {
            let pause = self.rng.between(every_ms / 2, every_ms + every_ms / 2);
            ground.after(Duration::from_millis(pause), What::AppWrite { process });
        }
    }

    /// An application writes for one of its partitions, if it works.
    pub(super) fn write(&mut self, ground: &mut Ground, process: ProcessId) {
        if ground.process(process).app.works() {
            self.write_for_any(ground, process);
        }
    }

    /// An application writes for one of its partitions, whether or not it should.
    pub(crate) fn write_for_any(&mut self, ground: &mut Ground, process: ProcessId) {
        let app = &ground.process(process).app;
        let nth = self.rng.index(app.count());
        let chosen = app.holds().nth(nth).map(|(partition, hold)| (partition, hold.token));
        if let Some((partition, token)) = chosen {
            self.write_fenced(ground, process, partition, token);
        }
    }

    fn write_fenced(&mut self, ground: &mut Ground, process: ProcessId, partition: PartitionIndex, token: Token) {
        let token = shown(&ground.options, token);
        let accepted = self.fenced.write(partition, token);
        ground.tell(&Fact::Wrote { process, partition, token, accepted });
    }
}

/// The token as the application sees it.
fn shown(options: &Options, token: Token) -> Token {
    let claimless = options.has(Around::TokenWithoutClaim);
    if claimless { Token { claim: Revision::new(0), ..token } } else { token }
}

/// What happens when an application is done with a partition. Where there are messages, they may have to wait for it
/// still, and let it go when they do not.
fn drained(options: &Options, process: ProcessId, partition: PartitionIndex, token: Token) -> What {
    let waits = options.messages.is_some() && !options.has(Around::ReleaseBeforeLetGo);
    if waits {
        What::Delivery(Errand::Drained { process, partition, token })
    } else {
        What::Drained { process, partition, token }
    }
}

/// The application drops what it does for a partition.
fn stop_at_once(ground: &mut Ground, process: ProcessId, partition: PartitionIndex) {
    let app = &mut ground.process_mut(process).app;
    let was_idle = app.set_idle(partition);
    if app.works() && !was_idle {
        ground.tell(&Fact::Stops { process, partition });
    }
}

/// All work of an application stops at once, and drains with it.
pub(super) fn suspend(ground: &mut Ground, process: ProcessId) {
    if ground.options.has(Around::WorkThroughSuspension) {
        return;
    }
    change_work(ground, process, |app| app.set_suspended(true));
    let app = &ground.processes[process.index()].app;
    for (partition, hold) in app.holds().filter(|(_, hold)| hold.draining) {
        ground.schedule.push(ground.now, drained(&ground.options, process, partition, hold.token));
    }
}

/// Changes whether an application works on what it has, and tells for each partition.
pub(crate) fn change_work(ground: &mut Ground, process: ProcessId, change: impl FnOnce(&mut App)) {
    let app = &mut ground.process_mut(process).app;
    let before = app.works();
    change(app);
    let after = app.works();
    if before == after {
        return;
    }
    let held: Vec<_> =
        app.holds().filter(|(_, hold)| !hold.idle).map(|(partition, hold)| (partition, hold.token)).collect();
    for (partition, token) in held {
        if after {
            let token = shown(&ground.options, token);
            ground.tell(&Fact::Works { process, partition, token });
        } else {
            ground.tell(&Fact::Stops { process, partition });
        }
    }
}
