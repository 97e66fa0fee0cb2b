//! What may go wrong in a small world, and what is done to it.

use std::fmt;
use std::time::Duration;

use parti_core::{Bucket, Command, ProbeOutcome, WorkerState};

use super::state::{LATE, LATE_BUT, State, Step};
use crate::setting::birth::Birth;
use crate::told::fact::ProcessId;
use crate::world::clock::Moment;
use crate::world::event;
use crate::world::event::What;
use crate::world::process::Life;

/// How many times as long it takes to notice that a connection was closed, as that nothing gets through.
const NOTICES_LATE: u32 = 2;

/// Something that goes wrong, or that somebody does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// A message comes at any later time, or never; an application takes that long to release a partition. Changes that a
    /// watch shows, for which later ones wait, come within two leases as others see them.
    Late,
    /// A process ends without a word; another one may take its place at any later time.
    Crash,
    /// A process stands still until any later time within two leases as others see them, while its clock goes on.
    Pause,
    /// Nothing gets through to or from a process until any later time.
    Cut,
    /// The same, and the other side has closed the connection: nobody listens there any more, and what is sent into it is
    /// lost. The client notices later than one that was cut off, or when it can be reached again.
    Close,
    /// A worker is told to hand over and leave.
    Leave,
    /// A worker is told to restart; when it has halted, another process takes its place.
    Restart,
    /// A server takes away the subscription of a process for its probes, and lets it have no other one until any later
    /// time within two leases as others see them; it says nothing about that. Where there are probes.
    Deafen,
    /// A client connects again, to another server if there are two, and was never away. Where there are probes.
    Reconnect,
    /// The route between the servers breaks until any later time. Where there are two.
    Route,
    /// The store restarts without the last writes of one bucket, whose revisions are given again. What was under way is
    /// lost. Everybody who was connected notices at once, and is connected again before time passes.
    Loss,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 11] = [
        Self::Late,
        Self::Crash,
        Self::Pause,
        Self::Cut,
        Self::Close,
        Self::Leave,
        Self::Restart,
        Self::Deafen,
        Self::Reconnect,
        Self::Route,
        Self::Loss,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}

impl State {
    /// Every fault of these kinds that can come now, but for those of a single message.
    pub(super) fn faults(&self, kinds: &[Fault]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (process, _) in self.world.ground.living() {
            let fits = |kind: &&Fault| self.is_possible(**kind, process);
            steps.extend(kinds.iter().filter(fits).map(|kind| Step::Do(*kind, process)));
        }
        if kinds.contains(&Fault::Route) && self.servers > 1 && !self.world.servers.is_any_cut() {
            steps.push(Step::CutRoute);
        }
        if kinds.contains(&Fault::Loss) {
            let losses =
                |bucket| (1..=self.world.kept.store.can_lose(bucket)).map(move |writes| Step::Lose(bucket, writes));
            steps.extend(Bucket::ALL.into_iter().flat_map(losses));
        }
        steps
    }

    fn is_possible(&self, fault: Fault, process: ProcessId) -> bool {
        let one = self.world.ground.process(process);
        let runs = one.life == Life::Running;
        let probes = self.world.ground.options.worker.probe_confirm_ms > 0;
        match fault {
            Fault::Late | Fault::Route | Fault::Loss => false,
            Fault::Crash => true,
            Fault::Pause => runs,
            Fault::Cut | Fault::Close => one.link.is_up(),
            Fault::Leave | Fault::Restart => runs && one.status.state != WorkerState::Shutdown,
            Fault::Deafen => probes && one.ear.listens(),
            Fault::Reconnect => probes && runs && one.link.is_up(),
        }
    }

    pub(super) fn strike(&mut self, fault: Fault, process: ProcessId) {
        match fault {
            Fault::Late | Fault::Route | Fault::Loss => unreachable!("it is nothing that happens to a process"),
            Fault::Crash => {
                self.world.crash(process);
                self.world.ground.schedule.push(LATE, What::Start { birth: Birth::default() });
            }
            Fault::Pause => self.world.pause(process, self.latest().since(self.world.ground.now)),
            Fault::Cut => self.world.links().isolate(process, None, false),
            Fault::Close => self.close(process),
            Fault::Leave => self.world.command(process, Command::Leave),
            Fault::Restart => self.world.restart(process, Duration::ZERO, Birth::default()),
            Fault::Deafen => {
                let time = self.latest().since(self.world.ground.now);
                self.world.probing().take_subscription(process, time, false);
            }
            Fault::Reconnect => {
                let server = self.world.ground.process(process).ear.server;
                self.world.connect_to(process, (server + 1) % self.servers);
            }
        }
    }

    /// The other side closes a connection, which the client notices late.
    fn close(&mut self, process: ProcessId) {
        self.world.links().isolate(process, None, true);
        let is_notice = |what: &What| matches!(what, What::NoticeBreak { process: one, .. } if *one == process);
        let notice = self.pending().into_iter().find_map(|(_, number, what)| is_notice(what).then_some(number));
        let what = notice.and_then(|number| self.world.ground.schedule.take(number)).expect("a client notices a break");
        let notices =
            self.world.ground.now + Duration::from_millis(self.world.ground.options.network.notice_ms) * NOTICES_LATE;
        self.world.ground.schedule.push(notices, what);
    }

    /// A message will come at any time, or never; whoever waits for an answer gives up when it is time.
    pub(super) fn delay(&mut self, number: u64) {
        let what = self.world.ground.schedule.take(number).expect("the step is one of the choices");
        let timeout = Duration::from_millis(self.world.ground.options.network.request_timeout_ms);
        let waits = match &what {
            What::Arrive { process, request, sent } => Some((*process, request.operation, *sent)),
            What::Reply { process, operation, sent, .. } => Some((*process, *operation, *sent)),
            _ => None,
        };
        if let Some((process, operation, sent)) = waits {
            let gives_up = self.world.ground.now.max(sent + timeout);
            self.world.ground.schedule.push(gives_up, What::GiveUp { process, operation });
        }
        if let What::Ear(step) = &what
            && let Some((process, probe)) = step.asks()
        {
            let sent = self.world.ground.now;
            self.world.probing().time_out(process, probe, sent);
        }
        let is_change = matches!(what, What::Show { .. });
        let at = if is_change { LATE_BUT + self.latest().since(Moment::START) } else { LATE };
        self.world.ground.schedule.push(at, what);
    }

    /// Whether it is known that nothing will come of a probe, so that what of it is still late makes no difference.
    pub(super) fn is_settled(step: &event::Step, timed_out: &[(ProcessId, parti_core::ProbeId)]) -> bool {
        step.asks().is_some_and(|asked| !timed_out.contains(&asked))
    }

    /// The probes that are still to time out.
    pub(super) fn probes_that_time_out(&self) -> Vec<(ProcessId, parti_core::ProbeId)> {
        let entries = self.world.ground.schedule.entries();
        let times_out = |what: &What| match what {
            What::Ear(step @ event::Step::Answer { outcome: ProbeOutcome::TimedOut, .. }) => step.asks(),
            _ => None,
        };
        entries.filter_map(|(_, _, what)| times_out(what)).collect()
    }

    /// What was sent before the client noticed that its connection was gone may still arrive at any time, but where that
    /// was closed.
    pub(super) fn mend(&mut self, process: ProcessId) {
        self.connects_at_once.remove(&process);
        let link = &mut self.world.ground.process_mut(process).link;
        let survives = !link.closed;
        if link.noticed || link.closed {
            let held = std::mem::take(&mut link.held);
            for what in held.into_iter().filter(|what| survives && matches!(what, What::Arrive { .. })) {
                self.world.ground.schedule.push(LATE, what);
            }
        }
        self.world.links().mend(process);
    }

    /// The store restarts without its last writes, and closes every connection.
    pub(super) fn lose(&mut self, bucket: Bucket, writes: usize) {
        self.world.at_store().forget_last(bucket, writes);
        let connected = self.world.ground.living().filter(|(_, one)| one.link.is_up()).map(|(process, _)| process);
        for process in connected.collect::<Vec<_>>() {
            self.world.links().isolate(process, None, true);
            self.connects_at_once.insert(process);
        }
    }
}
