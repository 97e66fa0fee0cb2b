//! The servers of the laboratory, who is connected to which, and who hears whom.

use std::collections::BTreeSet;

use parti_core::{CheckId, Event, Instance, KvEvent, ProbeId, ProbeOutcome, ServerId, Session};

use super::Lab;
use super::bench::{Bench, Reach};

#[derive(Default)]
pub(super) struct Network {
    /// The pairs of servers, in order, between which nothing gets through: neither knows who listens at the other.
    cut_routes: BTreeSet<(u32, u32)>,
    /// Of whom probes say that nobody listens, although somebody does.
    slandered: Option<usize>,
    /// Where those connect who start.
    pub(super) next_server: u32,
}

impl Network {
    fn cut(&mut self, one: u32, other: u32, cut: bool) {
        let route = (one.min(other), one.max(other));
        if cut {
            self.cut_routes.insert(route);
        } else {
            self.cut_routes.remove(&route);
        }
    }

    fn is_cut(&self, one: u32, other: u32) -> bool {
        self.cut_routes.contains(&(one.min(other), one.max(other)))
    }
}

pub(super) fn server_id(server: u32) -> ServerId {
    ServerId::new(&format!("server-{server}"))
}

impl Lab {
    /// Probes say that nobody listens where this worker is; none ends that.
    pub(crate) fn slander(&mut self, at: Option<usize>) {
        self.network.slandered = at;
    }

    /// Those who start from now on connect to this server.
    pub(crate) fn connect_to(&mut self, server: u32) {
        self.network.next_server = server;
    }

    /// The route between two servers breaks: neither knows any more who listens at the other. With `false`, it is back.
    pub(crate) fn cut_route(&mut self, one: u32, other: u32, cut: bool) {
        self.note(&format!("the route between server {one} and {other} {}", if cut { "breaks" } else { "is back" }));
        self.network.cut(one, other, cut);
    }

    /// The server takes a worker's subscription of its probe subject away, and does not say so; its connection stands.
    pub(crate) fn take_subscription(&mut self, at: usize) {
        self.note(&format!("{} loses its subscription", self.workers[at].name));
        self.workers[at].listens = false;
    }

    /// Whether a worker may subscribe.
    pub(crate) fn let_listen(&mut self, at: usize, may_listen: bool) {
        self.note(&format!("{} may{} subscribe", self.workers[at].name, if may_listen { "" } else { " not" }));
        self.workers[at].may_listen = may_listen;
    }

    /// A worker's client connects to another server, and nobody notices that it was gone.
    pub(crate) fn reconnect(&mut self, at: usize, server: u32) {
        self.note(&format!("{} connects to server {server}", self.workers[at].name));
        self.workers[at].server = server;
        self.listen(at);
        self.settle();
    }

    /// The adapter subscribes the probe subject.
    pub(super) fn listen(&mut self, at: usize) {
        let bench = &mut self.workers[at];
        bench.session = bench.session.next();
        bench.listens = bench.may_listen;
        bench.inbox.push_back(Event::Listening { session: bench.session, server: server_id(bench.server) });
    }

    /// What a probe by one worker of a process finds.
    fn probe(&self, by: usize, instance: Instance) -> ProbeOutcome {
        let there = |bench: &Bench| bench.alive && bench.worker.status().instance == instance;
        let Some(at) = self.workers.iter().position(there) else { return ProbeOutcome::NobodyListens };
        let is_cut = self.network.is_cut(self.workers[by].server, self.workers[at].server);
        if is_cut || self.network.slandered == Some(at) || !self.workers[at].listens {
            ProbeOutcome::NobodyListens
        } else if self.workers[at].frozen {
            ProbeOutcome::TimedOut
        } else {
            ProbeOutcome::Answered
        }
    }

    /// Changes how far a worker reaches the store; where it can hear again, its watches are read anew.
    pub(crate) fn set_reach(&mut self, at: usize, reach: Reach) {
        let bench = &mut self.workers[at];
        let before = std::mem::replace(&mut bench.reach, reach);
        match (before, reach) {
            (Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused, Reach::Cut) => {
                bench.listens = false;
                bench.inbox.push_back(Event::Kv(KvEvent::Lost));
            }
            (Reach::Cut, Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused) => {
                bench.inbox.push_back(Event::Kv(KvEvent::Restored));
                self.listen(at);
            }
            (
                Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused,
                Reach::Full | Reach::Mute | Reach::Deaf | Reach::DeafToPlan | Reach::Refused,
            )
            | (Reach::Cut, Reach::Cut) => {}
        }
        if reach == Reach::Full {
            for (bucket, (watch, interest)) in self.workers[at].watches.clone() {
                self.workers[at].inbox.push_back(Event::Kv(KvEvent::WatchLost { watch }));
                self.watch(at, watch, bucket, interest);
            }
        }
        self.settle();
    }

    /// A worker asks whether its server still has its subscription.
    pub(super) fn check(&mut self, at: usize, session: Session, check: CheckId) {
        let bench = &mut self.workers[at];
        bench.asked += 1;
        if bench.listens && bench.session == session && bench.reach != Reach::Cut {
            bench.inbox.push_back(Event::Present { session, check });
        }
    }

    /// A worker asks for a process, through another one if it says so.
    pub(super) fn ask(&mut self, at: usize, probe: ProbeId, instance: Instance, through: Option<Instance>) {
        self.workers[at].asked += 1;
        let helper = through.map(|through| self.workers.iter().position(|bench| bench.instance() == through));
        let (by, answers) = match helper {
            None => (at, true),
            Some(Some(by)) => (by, self.probe(at, self.workers[by].instance()) == ProbeOutcome::Answered),
            Some(None) => (at, false),
        };
        let outcome = if answers { self.probe(by, instance) } else { ProbeOutcome::TimedOut };
        let server = answers.then(|| server_id(self.workers[by].server));
        self.workers[at].inbox.push_back(Event::Probed { probe, outcome, server });
    }
}
