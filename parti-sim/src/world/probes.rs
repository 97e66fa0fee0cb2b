//! Where processes listen for probes: their servers, what those know of each other, checks and probes.

use std::time::Duration;

use parti_core::{CheckId, Event, Instance, ProbeId, ProbeOutcome, ServerId, Session};

use crate::check::mark::Mark;
use crate::fault::plant::Around;
use crate::setting::options::NetworkOptions;
use crate::told::fact::{Fact, Mishap, ProcessId};
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::ear::Ear;
use crate::world::event::{Step, What};
use crate::world::process::Life;

/// How often, in parts per million, a client connects to another server when it connects again.
const ANOTHER_SERVER_PPM: u32 = 500_000;

/// Servers, and what they know of each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    /// The pairs, the lower one first, between which the route is broken, and until when.
    cut: std::collections::BTreeMap<(u32, u32), Moment>,
    /// Until when a server answers nobody, by its number.
    stalled: std::collections::BTreeMap<u32, Moment>,
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
}

impl World {
    /// A process connects for the first time.
    pub(crate) fn first_connection(&mut self, process: ProcessId) {
        let servers = u64::from(self.options.servers.max(1));
        let server = if servers > 1 { self.network_rng.below(servers) } else { 0 };
        self.process_mut(process).ear.server = u32::try_from(server).unwrap_or(0);
        self.connected_again(process, true);
    }

    /// A client has connected, perhaps to another server, and subscribes what it was to.
    pub(crate) fn connected_again(&mut self, process: ProcessId, first: bool) {
        let servers = u64::from(self.options.servers.max(1));
        let moves = !first && servers > 1 && self.network_rng.chance(ANOTHER_SERVER_PPM);
        let server = if moves { Some(self.network_rng.below(servers)) } else { None };
        let ear = &mut self.process_mut(process).ear;
        ear.server = server.map_or(ear.server, |server| u32::try_from(server).unwrap_or(0));
        ear.connection += 1;
        ear.subscribed = None;
        if first || !self.options.has(Around::UnnoticedReconnect) {
            self.listen(process);
        } else {
            self.subscribe(process);
        }
    }

    /// A connection ends without a word, and the client connects again at once, to this server.
    pub(crate) fn connect_to(&mut self, process: ProcessId, server: u32) {
        self.process_mut(process).ear.server = server;
        self.connected_again(process, false);
    }

    /// Whether something on its way can still do anything.
    pub(crate) fn makes_a_difference(&self, step: &Step) -> bool {
        match *step {
            Step::Subscribe { process, connection, session }
            | Step::Check { process, connection, session, .. }
            | Step::Back { process, connection, session, .. } => {
                let one = self.process(process);
                let same = one.ear.connection == connection || self.options.has(Around::UnnoticedReconnect);
                one.life != Life::Ended && same && one.ear.session == session
            }
            Step::Refused { process, session } => self.process(process).ear.session == session,
            Step::Heard { .. } => self.options.has(Around::ProbeHeardCounts),
            Step::Ask { .. } | Step::Answer { .. } => true,
        }
    }

    /// The adapter listens in a new session.
    pub(crate) fn listen(&mut self, process: ProcessId) {
        let ear = &mut self.process_mut(process).ear;
        ear.session = ear.session.next();
        ear.subscribed = None;
        let (session, server) = (ear.session, server_id(ear.server));
        self.subscribe(process);
        self.feed(process, Event::Listening { session, server });
    }

    /// The adapter subscribes anew, since its worker asks for it.
    pub(crate) fn listen_again(&mut self, process: ProcessId) {
        if !self.process(process).link.noticed {
            self.tell(&Fact::Reached { process, mark: Mark::ListenedAgain });
            self.listen(process);
        }
    }

    fn subscribe(&mut self, process: ProcessId) {
        if self.options.worker.probe_confirm_ms > 0 {
            let Ear { connection, session, .. } = self.process(process).ear;
            let arrives = self.now + self.one_way() + self.listens_late();
            self.schedule.push(arrives, What::Ear(Step::Subscribe { process, connection, session }));
        }
    }

    /// A connection ends without a word, and the client connects again at once: only a counter tells.
    pub(crate) fn reconnect_unheard(&mut self, process: ProcessId) {
        if self.process(process).link.is_up() && self.process(process).life == Life::Running {
            self.connected_again(process, false);
        }
    }

    /// A connection has ended: the server forgets the subscription.
    pub(crate) fn end_subscription(&mut self, process: ProcessId) {
        self.process_mut(process).ear.subscribed = None;
    }

    /// A server takes the subscription of a process away, which it may not make again for a while; it may say so.
    pub(crate) fn take_subscription(&mut self, process: ProcessId, time: Duration, told: bool) {
        let until = self.now + time;
        let ear = &mut self.process_mut(process).ear;
        (ear.subscribed, ear.refused_until) = (None, until);
        let session = ear.session;
        if told {
            let hears = self.now + self.one_way();
            self.schedule.push(hears, What::Ear(Step::Refused { process, session }));
        }
    }

    /// The route between two servers breaks for a while.
    pub(crate) fn cut_route(&mut self, one: u32, other: u32, time: Duration) {
        self.servers.cut.insert((one.min(other), one.max(other)), self.now + time);
    }

    /// A server answers nobody for a while; what reaches it waits.
    pub(crate) fn stall_server(&mut self, server: u32, time: Duration) {
        self.servers.stalled.insert(server, self.now + time);
    }

    /// Routes are back, servers answer, subscriptions are allowed.
    pub(crate) fn heal_servers(&mut self) {
        self.servers = Servers::default();
    }

    /// The process may subscribe again, and does.
    pub(crate) fn heal_ear(&mut self, process: ProcessId) {
        self.process_mut(process).ear.refused_until = Moment::START;
    }

    /// A worker asks itself.
    pub(crate) fn check(&mut self, process: ProcessId, session: Session, check: CheckId) {
        self.process_mut(process).ear.last_check = check;
        if self.process(process).link.noticed || self.process(process).ear.session != session {
            return;
        }
        let connection = self.process(process).ear.connection;
        let arrives = self.now + self.one_way();
        self.schedule.push(arrives, What::Ear(Step::Check { process, connection, session, check }));
    }

    /// A worker asks whether another process is there, itself or through a third one.
    pub(crate) fn probe(&mut self, process: ProcessId, probe: ProbeId, instance: Instance, through: Option<Instance>) {
        let sent = self.now;
        let lost = self.network_rng.chance(self.options.network.probe_lost_ppm);
        let (there, back) = (self.one_way(), self.one_way() + self.one_way());
        let by = match through {
            None => Some(process),
            Some(helper) => self.by_instance.get(&helper).copied().filter(|helper| {
                self.process(*helper).life == Life::Running
                    && self.outcome_at(process, *helper) == ProbeOutcome::Answered
            }),
        };
        let (Some(by), false, true) = (by, lost, self.process(process).link.is_up()) else {
            return self.time_out(process, probe, sent);
        };
        if by != process {
            self.tell(&Fact::Mishap { process, mishap: Mishap::AskedThrough });
        }
        let arrives = sent + there + if by == process { Duration::ZERO } else { back };
        let connection = self.process(by).ear.connection;
        self.schedule.push(arrives, What::Ear(Step::Ask { process, by, connection, probe, instance, sent }));
    }

    /// A worker's client waits no longer for the answer to a probe, when it is time.
    pub(crate) fn time_out(&mut self, process: ProcessId, probe: ProbeId, sent: Moment) {
        let timeout = sent + Duration::from_millis(self.options.worker.probe_interval_ms.max(10));
        let (at, connection) = (timeout.max(self.now), 0);
        let outcome = ProbeOutcome::TimedOut;
        let answer = Step::Answer { process, by: process, connection, probe, server: 0, outcome };
        self.schedule.push(at, What::Ear(answer));
    }

    pub(crate) fn travel(&mut self, step: Step) {
        match step {
            Step::Subscribe { process, connection, session } => {
                let now = self.now;
                let one = self.process_mut(process);
                let lives = one.life != Life::Ended && !one.link.closed && !one.link.noticed;
                let ear = &mut one.ear;
                if lives && ear.connection == connection && ear.session == session && now >= ear.refused_until {
                    ear.subscribed = Some(session);
                }
            }
            Step::Refused { process, session } => {
                if self.process(process).ear.session == session && self.process(process).link.is_up() {
                    self.listen(process);
                }
            }
            Step::Check { process, connection, session, check } => {
                self.check_arrives(process, connection, session, check);
            }
            Step::Back { process, connection, session, check } => {
                let ear = &self.process(process).ear;
                let unnoticed = self.options.has(Around::UnnoticedReconnect);
                let same = ear.connection == connection || unnoticed;
                if same && ear.session == session && !self.process(process).link.noticed {
                    self.feed(process, Event::Present { session, check });
                }
            }
            Step::Heard { process } => {
                if self.options.has(Around::ProbeHeardCounts) {
                    let Ear { session, last_check: check, .. } = self.process(process).ear;
                    self.feed(process, Event::Present { session, check });
                }
            }
            Step::Ask { process, by, connection, probe, instance, sent } => {
                self.ask_arrives((process, by, connection), probe, instance, sent);
            }
            Step::Answer { process, by, connection, probe, server, outcome } => {
                let known = connection != 0 && self.process(by).ear.connection == connection;
                let server = known.then(|| server_id(server));
                self.feed(process, Event::Probed { probe, outcome, server });
            }
        }
    }

    fn check_arrives(&mut self, process: ProcessId, connection: u64, session: Session, check: CheckId) {
        let one = self.process(process);
        if one.ear.connection != connection || one.link.closed || one.life == Life::Ended {
            return;
        }
        let again = What::Ear(Step::Check { process, connection, session, check });
        if one.link.broken {
            // It waits in the connection, as long as that stands.
            return self.process_mut(process).link.held.push(again);
        }
        if let Some(until) = self.stalled_until(one.ear.server) {
            return self.schedule.push(until, again);
        }
        if one.ear.subscribed == Some(session) {
            let back = self.now + self.one_way() + self.listens_late();
            self.schedule.push(back, What::Ear(Step::Back { process, connection, session, check }));
        }
    }

    fn ask_arrives(
        &mut self,
        (process, by, connection): (ProcessId, ProcessId, u64),
        probe: ProbeId,
        instance: Instance,
        sent: Moment,
    ) {
        let server = self.process(by).ear.server;
        if let Some(until) = self.stalled_until(server) {
            let again = Step::Ask { process, by, connection, probe, instance, sent };
            return self.schedule.push(until, What::Ear(again));
        }
        let timeout = sent + Duration::from_millis(self.options.worker.probe_interval_ms.max(10));
        let back = if by == process { self.one_way() } else { self.one_way() + self.one_way() };
        let stands = self.process(by).life != Life::Ended && self.process(by).link.is_up();
        let target = self.by_instance.get(&instance).copied();
        if target.is_some_and(|target| self.process(target).falsely_gone_until > self.now) {
            self.tell(&Fact::Mishap { process, mishap: Mishap::FalselyGone });
        }
        let outcome = target.map_or(ProbeOutcome::NobodyListens, |target| self.outcome_at(by, target));
        if let (Some(target), ProbeOutcome::Answered | ProbeOutcome::TimedOut) = (target, outcome) {
            let hears = self.now + self.one_way() + self.listens_late();
            self.schedule.push(hears, What::Ear(Step::Heard { process: target }));
        }
        if !stands || outcome == ProbeOutcome::TimedOut || self.now + back > timeout {
            return self.time_out(process, probe, sent);
        }
        let answer = Step::Answer { process, by, connection, probe, server, outcome };
        self.schedule.push(self.now + back, What::Ear(answer));
    }

    /// What comes of a question of one process to another one that reaches the server of the one who asks now.
    fn outcome_at(&self, by: ProcessId, target: ProcessId) -> ProbeOutcome {
        let (server, one) = (self.process(by).ear.server, self.process(target));
        let knows = server == one.ear.server || !self.is_cut(server, one.ear.server);
        if one.life == Life::Ended || one.ear.subscribed.is_none() || !knows || one.falsely_gone_until > self.now {
            ProbeOutcome::NobodyListens
        } else if one.link.broken || one.life != Life::Running {
            ProbeOutcome::TimedOut
        } else {
            ProbeOutcome::Answered
        }
    }

    /// How much longer something takes on its way to or from a process's own subject.
    fn listens_late(&mut self) -> Duration {
        if self.network_rng.chance(self.options.network.listens_late_ppm) {
            Duration::from_millis(self.network_rng.below(NetworkOptions::LISTENS_LATE_MS))
        } else {
            Duration::ZERO
        }
    }

    fn is_cut(&self, one: u32, other: u32) -> bool {
        self.servers.cut.get(&(one.min(other), one.max(other))).is_some_and(|until| self.now < *until)
    }

    fn stalled_until(&self, server: u32) -> Option<Moment> {
        self.servers.stalled.get(&server).copied().filter(|until| self.now < *until)
    }
}

fn server_id(server: u32) -> ServerId {
    ServerId::new(&format!("server-{server}"))
}
