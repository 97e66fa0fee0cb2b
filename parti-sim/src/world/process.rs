//! One process life of a worker, and its connection.

use std::collections::BTreeSet;
use std::time::Duration;

use parti_core::{OperationId, Status, Worker};

use crate::setting::birth::Birth;
use crate::world::app::App;
use crate::world::clock::{Moment, WorkerClock};
use crate::world::ear::Ear;
use crate::world::event::What;

/// One process life of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) worker: Worker,
    pub(crate) clock: WorkerClock,
    pub(crate) app: App,
    pub(crate) link: Link,
    pub(crate) ear: Ear,
    pub(crate) life: Life,
    pub(crate) birth: Birth,
    /// The moment at which its timer fires.
    pub(crate) armed: Moment,
    /// What its worker said of itself when it last decided anything.
    pub(crate) status: Status,
    /// How often its worker had decided by then.
    pub(crate) decisions: u64,
    /// The requests whose outcome it waits for.
    pub(crate) pending: BTreeSet<OperationId>,
    /// Who takes its place when it has halted, and how long after.
    pub(crate) successor: Option<(Duration, Birth)>,
    /// Until when probes are told, falsely, that nobody listens.
    pub(crate) falsely_gone_until: Moment,
    /// How much longer its drains take than the others', in percent.
    pub(crate) drain_percent: u32,
    /// Whether the list of partitions changed while it was paused.
    pub(crate) missed_list: bool,
    /// Since when its machine sleeps, if it does.
    pub(crate) sleeps_since: Option<Moment>,
    /// Whether its machine has slept, and its worker does not know yet.
    pub(crate) overslept: bool,
}

impl Process {
    /// A process that begins.
    pub(super) fn new(worker: Worker, clock: WorkerClock, birth: Birth) -> Self {
        Self {
            clock,
            app: App::default(),
            link: Link::default(),
            ear: Ear::default(),
            life: Life::Running,
            birth,
            armed: Moment::NEVER,
            decisions: worker.decisions(),
            status: worker.status(),
            worker,
            pending: BTreeSet::new(),
            successor: None,
            falsely_gone_until: Moment::START,
            drain_percent: 100,
            missed_list: false,
            sleeps_since: None,
            overslept: false,
        }
    }

    /// Whether its status differs from the one `before` in what is told of.
    fn tells_of(&self, before: &Status) -> bool {
        let after = &self.status;
        (before.state, before.slot, before.leader, before.generation)
            != (after.state, after.slot, after.leader, after.generation)
    }

    /// Takes in what its worker says of itself; returns what it said before, if it now says something else that is told
    /// of.
    pub(crate) fn look(&mut self) -> Option<Status> {
        let decisions = self.worker.decisions();
        if std::mem::replace(&mut self.decisions, decisions) == decisions {
            return None;
        }
        let before = std::mem::replace(&mut self.status, self.worker.status());
        self.tells_of(&before).then_some(before)
    }

    /// Sets its timer as its worker wants it; returns when it fires, if that is news. An `endless` one fires at once.
    pub(crate) fn rearm(&mut self, now: Moment, endless: bool) -> Option<Moment> {
        if self.life == Life::Ended {
            return None;
        }
        let deadline = self.worker.poll_timeout().map_or(Moment::NEVER, |instant| self.clock.when(instant));
        let at = if endless { now } else { deadline.max(now) };
        let is_news = at != self.armed || at == now;
        self.armed = at;
        Some(at).filter(|at| is_news && *at != Moment::NEVER)
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Paused { until: Moment },
    Ended,
}

/// The connection of a process to the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// Whether nothing gets through.
    pub(crate) broken: bool,
    /// Whether the client knows, and has told its worker.
    pub(crate) noticed: bool,
    /// Whether the other side knows too, and says that nobody listens.
    pub(crate) closed: bool,
    /// Counts breaks and repairs, so that what was planned for an earlier one is recognised.
    pub(crate) epoch: u64,
    /// When the client notices that it is broken, unless it has noticed before.
    pub(crate) notices_at: Moment,
    /// Until when the store is out of reach for this process, and only the store.
    pub(crate) store_away_until: Moment,
    /// Until when the store takes no write of this process.
    pub(crate) read_only_until: Moment,
    /// When the last of the faults that break it is over.
    pub(crate) broken_until: Moment,
    /// No request arrives before this: those of one connection keep their order.
    pub(crate) requests_front: Moment,
    /// What is under way and cannot get through.
    pub(crate) held: Vec<What>,
}

impl Link {
    /// Whether messages get through.
    pub(crate) const fn is_up(&self) -> bool {
        !self.broken && !self.noticed && !self.closed
    }

    /// The store is out of reach for a while, although the connection stands: what others publish still comes, and
    /// probes are answered.
    pub(crate) fn take_store_away(&mut self, until: Moment) {
        self.store_away_until = self.store_away_until.max(until);
    }

    /// The store takes no write for a while; reads and watches go on.
    pub(crate) fn make_read_only(&mut self, until: Moment) {
        self.read_only_until = self.read_only_until.max(until);
    }
}
