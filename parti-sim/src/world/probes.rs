//! Where processes listen for probes: their servers, what those know of each other, checks and probes.

use std::collections::BTreeMap;
use std::time::Duration;

use parti_core::{CheckId, Event, Instance, ProbeId, ProbeOutcome, ServerId, Session};

use super::clock::Moment;
use super::ear::Ear;
use super::event::{Step, What};
use super::ground::Ground;
use super::network::Network;
use super::process::Life;
use crate::check::mark::Mark;
use crate::fault::around::Around;
use crate::setting::options::NetworkOptions;
use crate::told::fact::{Fact, Mishap, ProcessId};

/// How often, in parts per million, a client connects to another server when it connects again.
const ANOTHER_SERVER_PPM: u32 = 500_000;

/// Servers, and what they know of each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    /// The pairs, the lower one first, between which the route is broken, and until when.
    cut: BTreeMap<(u32, u32), Moment>,
    /// Until when a server answers nobody, by its number.
    stalled: BTreeMap<u32, Moment>,
}

impl Servers {
    /// The route between two servers breaks until it is healed.
    pub(crate) fn cut_for_good(&mut self, one: u32, other: u32) {
        self.cut.insert((one.min(other), one.max(other)), Moment::NEVER);
    }

    /// Whether a route is broken.
    pub(crate) fn is_any_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Routes are back, and servers answer.
    pub(crate) fn heal(&mut self) {
        *self = Self::default();
    }

    fn is_cut(&self, one: u32, other: u32, now: Moment) -> bool {
        self.cut.get(&(one.min(other), one.max(other))).is_some_and(|until| now < *until)
    }

    fn stalled_until(&self, server: u32, now: Moment) -> Option<Moment> {
        self.stalled.get(&server).copied().filter(|until| now < *until)
    }
}

/// What listens and asks, with what may be touched on the way.
pub(crate) struct Probing<'a> {
    pub(super) ground: &'a mut Ground,
    pub(super) network: &'a mut Network,
    pub(super) servers: &'a mut Servers,
}

impl Probing<'_> {
    /// A process connects for the first time; what its worker is told.
    pub(super) fn first_connection(&mut self, process: ProcessId) -> Option<Event> {
        let servers = u64::from(self.ground.options.servers.max(1));
        let server = if servers > 1 { self.network.rng.below(servers) } else { 0 };
        self.ground.process_mut(process).ear.server = u32::try_from(server).unwrap_or(0);
        self.connected_again(process, true)
    }

    /// A client has connected, perhaps to another server, and subscribes what it was to; what its worker is told.
    pub(super) fn connected_again(&mut self, process: ProcessId, first: bool) -> Option<Event> {
        let servers = u64::from(self.ground.options.servers.max(1));
        let moves = !first && servers > 1 && self.network.rng.chance(ANOTHER_SERVER_PPM);
        let server = if moves { Some(self.network.rng.below(servers)) } else { None };
        let ear = &mut self.ground.process_mut(process).ear;
        ear.server = server.map_or(ear.server, |server| u32::try_from(server).unwrap_or(0));
        ear.connection += 1;
        ear.subscribed = None;
        if first || !self.ground.options.has(Around::UnnoticedReconnect) {
            Some(self.listen(process))
        } else {
            self.subscribe(process);
            None
        }
    }

    /// A connection ends without a word, and the client connects again at once, to this server.
    pub(crate) fn connect_to(&mut self, process: ProcessId, server: u32) -> Option<Event> {
        self.ground.process_mut(process).ear.server = server;
        self.connected_again(process, false)
    }

    /// The adapter listens in a new session; what it tells its worker.
    pub(super) fn listen(&mut self, process: ProcessId) -> Event {
        let ear = &mut self.ground.process_mut(process).ear;
        ear.session = ear.session.next();
        ear.subscribed = None;
        let (session, server) = (ear.session, server_id(ear.server));
        self.subscribe(process);
        Event::Listening { session, server }
    }

    /// The adapter subscribes anew, since its worker asks for it.
    pub(super) fn listen_again(&mut self, process: ProcessId) -> Option<Event> {
        if self.ground.process(process).link.noticed {
            return None;
        }
        self.ground.tell(&Fact::Reached { process, mark: Mark::ListenedAgain });
        Some(self.listen(process))
    }

    fn subscribe(&mut self, process: ProcessId) {
        if self.ground.options.worker.probe_confirm_ms > 0 {
            let Ear { connection, session, .. } = self.ground.process(process).ear;
            let arrives = self.ground.now + self.network.one_way(&self.ground.options) + self.listens_late();
            self.ground.schedule.push(arrives, What::Ear(Step::Subscribe { process, connection, session }));
        }
    }

    /// A connection ends without a word, and the client connects again at once: only a counter tells.
    pub(crate) fn reconnect_unheard(&mut self, process: ProcessId) -> Option<Event> {
        let one = self.ground.process(process);
        if one.link.is_up() && one.life == Life::Running { self.connected_again(process, false) } else { None }
    }

    /// A server takes the subscription of a process away, which it may not make again for a while; it may say so.
    pub(crate) fn take_subscription(&mut self, process: ProcessId, time: Duration, told: bool) {
        let until = self.ground.now + time;
        let ear = &mut self.ground.process_mut(process).ear;
        (ear.subscribed, ear.refused_until) = (None, until);
        let session = ear.session;
        if told {
            let hears = self.ground.now + self.network.one_way(&self.ground.options);
            self.ground.schedule.push(hears, What::Ear(Step::Refused { process, session }));
        }
    }

    /// The route between two servers breaks for a while.
    pub(crate) fn cut_route(&mut self, one: u32, other: u32, time: Duration) {
        self.servers.cut.insert((one.min(other), one.max(other)), self.ground.now + time);
    }

    /// A server answers nobody for a while; what reaches it waits.
    pub(crate) fn stall_server(&mut self, server: u32, time: Duration) {
        self.servers.stalled.insert(server, self.ground.now + time);
    }

    /// A worker asks itself.
    pub(crate) fn check(&mut self, process: ProcessId, session: Session, check: CheckId) {
        self.ground.process_mut(process).ear.last_check = check;
        if self.ground.process(process).link.noticed || self.ground.process(process).ear.session != session {
            return;
        }
        let connection = self.ground.process(process).ear.connection;
        let arrives = self.ground.now + self.network.one_way(&self.ground.options);
        self.ground.schedule.push(arrives, What::Ear(Step::Check { process, connection, session, check }));
    }

    /// A worker asks whether another process is there, itself or through a third one.
    pub(crate) fn probe(&mut self, process: ProcessId, probe: ProbeId, instance: Instance, through: Option<Instance>) {
        let sent = self.ground.now;
        let lost = self.network.rng.chance(self.ground.options.network.probe_lost_ppm);
        let (there, back) = (
            self.network.one_way(&self.ground.options),
            self.network.one_way(&self.ground.options) + self.network.one_way(&self.ground.options),
        );
        let by = match through {
            None => Some(process),
            Some(helper) => self.ground.by_instance.get(&helper).copied().filter(|helper| {
                self.ground.process(*helper).life == Life::Running
                    && self.outcome_at(process, *helper) == ProbeOutcome::Answered
            }),
        };
        let (Some(by), false, true) = (by, lost, self.ground.process(process).link.is_up()) else {
            return self.time_out(process, probe, sent);
        };
        if by != process {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::AskedThrough });
        }
        let arrives = sent + there + if by == process { Duration::ZERO } else { back };
        let connection = self.ground.process(by).ear.connection;
        self.ground.schedule.push(arrives, What::Ear(Step::Ask { process, by, connection, probe, instance, sent }));
    }

    /// A worker's client waits no longer for the answer to a probe, when it is time.
    pub(crate) fn time_out(&mut self, process: ProcessId, probe: ProbeId, sent: Moment) {
        let timeout = sent + Duration::from_millis(self.ground.options.worker.probe_interval_ms.max(10));
        let (at, connection) = (timeout.max(self.ground.now), 0);
        let outcome = ProbeOutcome::TimedOut;
        let answer = Step::Answer { process, by: process, connection, probe, server: 0, outcome };
        self.ground.schedule.push(at, What::Ear(answer));
    }

    /// Something reaches the server or the process that it is on its way to; what a worker is told.
    pub(super) fn travel(&mut self, step: Step) -> Option<(ProcessId, Event)> {
        match step {
            Step::Subscribe { process, connection, session } => {
                let now = self.ground.now;
                let one = self.ground.process_mut(process);
                let lives = one.life != Life::Ended && !one.link.closed && !one.link.noticed;
                let ear = &mut one.ear;
                if lives && ear.connection == connection && ear.session == session && now >= ear.refused_until {
                    ear.subscribed = Some(session);
                }
                None
            }
            Step::Refused { process, session } => {
                let one = self.ground.process(process);
                let is_told = one.ear.session == session && one.link.is_up();
                is_told.then(|| (process, self.listen(process)))
            }
            Step::Check { process, connection, session, check } => {
                self.check_arrives(process, connection, session, check);
                None
            }
            Step::Back { process, connection, session, check } => {
                let one = self.ground.process(process);
                let unnoticed = self.ground.options.has(Around::UnnoticedReconnect);
                let same = (one.ear.connection == connection || unnoticed) && one.ear.session == session;
                (same && !one.link.noticed).then_some((process, Event::Present { session, check }))
            }
            Step::Heard { process } => {
                let Ear { session, last_check: check, .. } = self.ground.process(process).ear;
                let counts = self.ground.options.has(Around::ProbeHeardCounts);
                counts.then_some((process, Event::Present { session, check }))
            }
            Step::Ask { process, by, connection, probe, instance, sent } => {
                self.ask_arrives((process, by, connection), probe, instance, sent);
                None
            }
            Step::Answer { process, by, connection, probe, server, outcome } => {
                let known = connection != 0 && self.ground.process(by).ear.connection == connection;
                let server = known.then(|| server_id(server));
                Some((process, Event::Probed { probe, outcome, server }))
            }
        }
    }

    fn check_arrives(&mut self, process: ProcessId, connection: u64, session: Session, check: CheckId) {
        let one = self.ground.process(process);
        if one.ear.connection != connection || one.link.closed || one.life == Life::Ended {
            return;
        }
        let again = What::Ear(Step::Check { process, connection, session, check });
        if one.link.broken {
            // It waits in the connection, as long as that stands.
            return self.ground.process_mut(process).link.held.push(again);
        }
        if let Some(until) = self.servers.stalled_until(one.ear.server, self.ground.now) {
            return self.ground.schedule.push(until, again);
        }
        if one.ear.subscribed == Some(session) {
            let back = self.ground.now + self.network.one_way(&self.ground.options) + self.listens_late();
            self.ground.schedule.push(back, What::Ear(Step::Back { process, connection, session, check }));
        }
    }

    fn ask_arrives(
        &mut self,
        (process, by, connection): (ProcessId, ProcessId, u64),
        probe: ProbeId,
        instance: Instance,
        sent: Moment,
    ) {
        let server = self.ground.process(by).ear.server;
        if let Some(until) = self.servers.stalled_until(server, self.ground.now) {
            let again = Step::Ask { process, by, connection, probe, instance, sent };
            return self.ground.schedule.push(until, What::Ear(again));
        }
        let timeout = sent + Duration::from_millis(self.ground.options.worker.probe_interval_ms.max(10));
        let back = if by == process {
            self.network.one_way(&self.ground.options)
        } else {
            self.network.one_way(&self.ground.options) + self.network.one_way(&self.ground.options)
        };
        let stands = self.ground.process(by).life != Life::Ended && self.ground.process(by).link.is_up();
        let target = self.ground.by_instance.get(&instance).copied();
        if target.is_some_and(|target| self.ground.process(target).falsely_gone_until > self.ground.now) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::FalselyGone });
        }
        let outcome = target.map_or(ProbeOutcome::NobodyListens, |target| self.outcome_at(by, target));
        if let (Some(target), ProbeOutcome::Answered | ProbeOutcome::TimedOut) = (target, outcome) {
            let hears = self.ground.now + self.network.one_way(&self.ground.options) + self.listens_late();
            self.ground.schedule.push(hears, What::Ear(Step::Heard { process: target }));
        }
        if !stands || outcome == ProbeOutcome::TimedOut || self.ground.now + back > timeout {
            return self.time_out(process, probe, sent);
        }
        let answer = Step::Answer { process, by, connection, probe, server, outcome };
        self.ground.schedule.push(self.ground.now + back, What::Ear(answer));
    }

    /// What comes of a question of one process to another one that reaches the server of the one who asks now.
    fn outcome_at(&self, by: ProcessId, target: ProcessId) -> ProbeOutcome {
        let (server, one) = (self.ground.process(by).ear.server, self.ground.process(target));
        let knows = server == one.ear.server || !self.servers.is_cut(server, one.ear.server, self.ground.now);
        if one.life == Life::Ended || one.ear.subscribed.is_none() || !knows || one.falsely_gone_until > self.ground.now
        {
            ProbeOutcome::NobodyListens
        } else if one.link.broken || one.life != Life::Running {
            ProbeOutcome::TimedOut
        } else {
            ProbeOutcome::Answered
        }
    }

    /// How much longer something takes on its way to or from a process's own subject.
    fn listens_late(&mut self) -> Duration {
        if self.network.rng.chance(self.ground.options.network.listens_late_ppm) {
            Duration::from_millis(self.network.rng.below(NetworkOptions::LISTENS_LATE_MS))
        } else {
            Duration::ZERO
        }
    }
}

fn server_id(server: u32) -> ServerId {
    ServerId::new(&format!("server-{server}"))
}

/// Whether something on its way can still do anything.
pub(crate) fn makes_a_difference(step: &Step, ground: &Ground) -> bool {
    match *step {
        Step::Subscribe { process, connection, session }
        | Step::Check { process, connection, session, .. }
        | Step::Back { process, connection, session, .. } => {
            let one = ground.process(process);
            let same = one.ear.connection == connection || ground.options.has(Around::UnnoticedReconnect);
            one.life != Life::Ended && same && one.ear.session == session
        }
        Step::Refused { process, session } => ground.process(process).ear.session == session,
        Step::Heard { .. } => ground.options.has(Around::ProbeHeardCounts),
        Step::Ask { .. } | Step::Answer { .. } => true,
    }
}
