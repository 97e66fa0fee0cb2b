//! What may go wrong in a small world, and what is done to it.

use std::time::Duration;

use parti_core::{Bucket, Command, ProbeOutcome, WorkerState};

use super::scope::{Fault, Step};
use super::state::{LATE, LATE_BUT, State};
use crate::setting::birth::Birth;
use crate::told::fact::ProcessId;
use crate::world::clock::Moment;
use crate::world::event;
use crate::world::event::What;
use crate::world::process::Life;

/// How many times as long it takes to notice that a connection was closed, as that nothing gets through.
const NOTICES_LATE: u32 = 2;

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
