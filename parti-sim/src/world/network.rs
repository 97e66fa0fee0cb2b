//! Between the workers and the store: how long messages take, and connections that break.

use std::time::Duration;

use parti_core::{Event, KvEvent, OperationId, Outcome, Request};

use super::clock::Moment;
use super::event::What;
use super::ground::Ground;
use crate::rng::Rng;
use crate::setting::options::Options;
use crate::told::fact::{Fact, Mishap, ProcessId};

/// How soon a client that knows that it is disconnected refuses a request.
const REFUSED_AFTER: Duration = Duration::from_micros(50);
/// How often, in parts per million, something that was under way when a connection broke gets through after all.
const SURVIVES_BREAK_PPM: u32 = 500_000;
/// How long a client may not notice that its connection was closed, in milliseconds.
const MOST_NOTICE_MS: u64 = 5_000;

/// How long messages take and which get lost, and the outages that all see.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(super) rng: Rng,
    /// Until when the store answers nobody.
    pub(super) store_down_until: Moment,
    /// Until when the store refuses every write.
    pub(super) store_full_until: Moment,
    /// Until when nothing gets through to or from anybody.
    all_cut_off_until: Moment,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::for_purpose(seed, "network"),
            store_down_until: Moment::START,
            store_full_until: Moment::START,
            all_cut_off_until: Moment::START,
        }
    }

    /// How long a message takes from one side to the other.
    pub(super) fn one_way(&mut self, options: &Options) -> Duration {
        delay(&mut self.rng, options, options.network.one_way_us)
    }

    /// From a committed write to a watcher.
    pub(super) fn notify_delay(&mut self, options: &Options) -> Duration {
        delay(&mut self.rng, options, options.network.notify_us)
    }
}

/// How long a message takes that usually takes this.
pub(super) fn delay(rng: &mut Rng, options: &Options, usual_us: (u64, u64)) -> Duration {
    let slow = rng.chance(options.network.slow_ppm);
    let (least, most) = if slow { options.network.slow_us } else { usual_us };
    Duration::from_micros(rng.between(least, most))
}

/// The connections of the processes, with what they may touch.
pub(crate) struct Links<'a> {
    pub(super) ground: &'a mut Ground,
    pub(super) network: &'a mut Network,
}

impl Links<'_> {
    /// A worker asks for a conditional write.
    pub(super) fn send(&mut self, process: ProcessId, request: Request) {
        let now = self.ground.now;
        let operation = request.operation;
        self.ground.process_mut(process).pending.insert(operation);
        if self.ground.process(process).link.noticed {
            self.ground.after(REFUSED_AFTER, What::GiveUp { process, operation });
            return;
        }
        if self.network.rng.chance(self.ground.options.network.request_lost_ppm) {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::RequestLost });
            self.ground.after(self.ground.request_timeout(), What::GiveUp { process, operation });
            return;
        }
        let delay = self.network.one_way(&self.ground.options);
        let link = &mut self.ground.process_mut(process).link;
        link.requests_front = link.requests_front.max(now + delay);
        let arrives = link.requests_front;
        let request = Box::new(request);
        self.ground.schedule.push(arrives, What::Arrive { process, request, sent: now });
    }

    /// The store's answer reaches the worker; what it learns of it.
    pub(super) fn reply(
        &mut self,
        process: ProcessId,
        operation: OperationId,
        outcome: Outcome,
        sent: Moment,
    ) -> Option<Event> {
        if self.ground.process(process).link.is_up() {
            return self.ground.answered(process, operation, outcome);
        }
        let gives_up = self.ground.now.max(sent + self.ground.request_timeout());
        self.ground.schedule.push(gives_up, What::GiveUp { process, operation });
        self.ground.process_mut(process).link.held.push(What::Reply { process, operation, outcome, sent });
        None
    }

    /// Nothing gets through to or from a process, for a while or until it is mended. What overlaps ends with the last.
    pub(crate) fn isolate(&mut self, process: ProcessId, time: Option<Duration>, closed: bool) {
        self.break_link(process, closed);
        if let Some(time) = time {
            let until = self.ground.now + time;
            let link = &mut self.ground.process_mut(process).link;
            link.broken_until = link.broken_until.max(until);
            let epoch = link.epoch;
            self.ground.schedule.push(until, What::Mend { process, epoch });
        }
    }

    /// Nothing gets through to or from anybody for a while, those included who start meanwhile.
    pub(crate) fn isolate_all(&mut self, time: Duration, closed: bool) {
        self.network.all_cut_off_until = self.network.all_cut_off_until.max(self.ground.now + time);
        for process in self.ground.all_living() {
            self.isolate(process, Some(time), closed);
        }
    }

    /// A process that starts while nothing gets through to anybody is cut off as well.
    pub(super) fn join_the_others(&mut self, process: ProcessId) {
        let (now, until) = (self.ground.now, self.network.all_cut_off_until);
        if now < until {
            self.isolate(process, Some(until.since(now)), true);
        }
    }

    /// The store answers nobody for a while.
    pub(crate) fn store_down(&mut self, time: Duration) {
        self.network.store_down_until = self.network.store_down_until.max(self.ground.now + time);
    }

    /// The store takes no write for a while, and says so.
    pub(crate) fn store_full(&mut self, time: Duration) {
        self.network.store_full_until = self.network.store_full_until.max(self.ground.now + time);
    }

    /// The store's server is gone for a while, and every connection with it.
    pub(crate) fn server_down(&mut self, time: Duration) {
        self.store_down(time);
        self.isolate_all(time, true);
    }

    /// The outages that all see are over.
    pub(crate) fn end_outages(&mut self) {
        let now = self.ground.now;
        let network = &mut *self.network;
        (network.store_down_until, network.store_full_until, network.all_cut_off_until) = (now, now, now);
    }

    /// Nothing gets through to or from a process any more: silently, or because the connection was closed. Its client
    /// notices that sooner or later.
    fn break_link(&mut self, process: ProcessId, closed: bool) {
        let options = &self.ground.options;
        let late = closed && self.network.rng.chance(options.network.notice_late_ppm);
        let notices = self.ground.now
            + match (closed, late) {
                (true, false) => self.network.one_way(options),
                (true, true) => Duration::from_millis(self.network.rng.below(MOST_NOTICE_MS)),
                (false, _) => Duration::from_millis(options.network.notice_ms),
            };
        let one = self.ground.process_mut(process);
        if closed {
            one.ear.subscribed = None; // the server forgets it with the connection
        }
        let link = &mut one.link;
        if link.broken {
            link.closed |= closed;
            return;
        }
        link.broken = true;
        link.closed = closed;
        link.epoch += 1;
        link.notices_at = notices;
        let epoch = link.epoch;
        self.ground.schedule.push(notices, What::NoticeBreak { process, epoch });
    }

    /// The client of a process notices that its connection is gone; what its worker is told.
    pub(super) fn notice_break(&mut self, process: ProcessId, epoch: u64) -> Option<Event> {
        let one = self.ground.process_mut(process);
        let link = &mut one.link;
        let is_news = (link.broken || link.closed) && link.epoch == epoch && !link.noticed;
        is_news.then(|| {
            link.noticed = true;
            one.ear.subscribed = None;
            Event::Kv(KvEvent::Lost)
        })
    }

    /// A link that was broken for a while is mended, unless it was broken anew.
    pub(super) fn mend_in_time(&mut self, process: ProcessId, epoch: u64) {
        let link = &self.ground.process(process).link;
        if link.epoch == epoch && link.broken_until <= self.ground.now {
            self.mend(process);
        }
    }

    /// What broke a link is over. A client whose connection was not closed, and that had not noticed, finds everything
    /// as it was, only late; another one connects again.
    pub(crate) fn mend(&mut self, process: ProcessId) {
        let now = self.ground.now;
        let (least, most) = self.ground.options.network.reconnect_ms;
        let reconnects = now + Duration::from_millis(self.network.rng.between(least, most));
        let link = &mut self.ground.process_mut(process).link;
        if !link.broken {
            return;
        }
        link.broken = false;
        link.broken_until = Moment::START;
        link.epoch += 1;
        let (lost, epoch, notices) = (link.noticed || link.closed, link.epoch, link.notices_at);
        for held in std::mem::take(&mut link.held) {
            let request = held.is_request();
            if !lost || (request && self.network.rng.chance(SURVIVES_BREAK_PPM)) {
                self.ground.schedule.push(now, held);
            }
        }
        if lost {
            // Not before it has noticed.
            self.ground.schedule.push(reconnects.max(notices), What::Reconnect { process, epoch });
        }
    }

    /// A client that has noticed a break is connected again, if nothing has come between; whether that is so.
    pub(super) fn restore(&mut self, process: ProcessId, epoch: u64) -> bool {
        let link = &mut self.ground.process_mut(process).link;
        let restored = link.epoch == epoch && link.noticed;
        if restored {
            link.noticed = false;
            link.closed = false;
            link.held.clear();
        }
        restored
    }
}
