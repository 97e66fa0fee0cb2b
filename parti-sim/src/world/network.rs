//! Between the workers and the store: requests, replies, probes, and connections that break.

use std::time::Duration;

use parti_core::{Bucket, Event, Key, KvEvent, OperationId, Outcome, Request, Write};

use crate::check::mark::Mark;
use crate::fault::plant::Around;
use crate::told::fact::{Fact, Mishap, ProcessId};
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::event::What;

/// How soon a client that knows that it is disconnected refuses a request.
const REFUSED_AFTER: Duration = Duration::from_micros(50);
/// How often, in parts per million, something that was under way when a connection broke gets through after all.
const SURVIVES_BREAK_PPM: u32 = 500_000;
/// How long a client may not notice that its connection was closed, in milliseconds.
const MOST_NOTICE_MS: u64 = 5_000;
/// How often a request that reaches a store that is down is answered at once, rather than never.
const REFUSED_BY_DOWN_STORE_PPM: u32 = 700_000;
/// How often a request that reaches a store that is down is carried out when the store is up again.
const CARRIED_OUT_LATE_PPM: u32 = 200_000;

impl World {
    /// A worker asks for a conditional write.
    pub(crate) fn send(&mut self, process: ProcessId, request: Request) {
        let now = self.now;
        let operation = request.operation;
        self.process_mut(process).pending.insert(operation);
        if self.process(process).link.noticed {
            self.schedule.push(now + REFUSED_AFTER, What::GiveUp { process, operation });
            return;
        }
        if self.network_rng.chance(self.options.network.request_lost_ppm) {
            self.tell(&Fact::Mishap { process, mishap: Mishap::RequestLost });
            self.schedule.push(now + self.request_timeout(), What::GiveUp { process, operation });
            return;
        }
        let arrives = (now + self.one_way()).max(self.process(process).link.requests_front);
        self.process_mut(process).link.requests_front = arrives;
        let request = Box::new(request);
        self.schedule.push(arrives, What::Arrive { process, request, sent: now });
    }

    /// A request reaches the store.
    pub(crate) fn arrive(&mut self, process: ProcessId, request: Box<Request>, sent: Moment) {
        let now = self.now;
        let operation = request.operation;
        let gives_up = now.max(sent + self.request_timeout());
        if self.process(process).link.broken {
            self.schedule.push(gives_up, What::GiveUp { process, operation });
            self.process_mut(process).link.held.push(What::Arrive { process, request, sent });
            return;
        }
        if self.process(process).link.closed {
            return self.schedule.push(gives_up, What::GiveUp { process, operation });
        }
        if now < self.store_down_until {
            let at_once = self.network_rng.chance(REFUSED_BY_DOWN_STORE_PPM);
            let told = if at_once { now + self.one_way() } else { gives_up };
            self.schedule.push(told, What::GiveUp { process, operation });
            if self.network_rng.chance(CARRIED_OUT_LATE_PPM) {
                let later = self.store_down_until + self.one_way();
                self.schedule.push(later, What::Arrive { process, request, sent });
            }
            return;
        }
        if now < self.process(process).link.store_away_until {
            self.tell(&Fact::Reached { process, mark: Mark::StoreAwayForOne });
            self.schedule.push(gives_up, What::GiveUp { process, operation });
            return;
        }
        let late = now > sent + self.request_timeout();
        if self.is_of_a_former_life(process, &request, sent) {
            // Revisions are given again then: that one fits which was meant for another, no condition can tell.
            self.schedule.push(gives_up, What::GiveUp { process, operation });
            return;
        }
        let read_only = now < self.process(process).link.read_only_until;
        if read_only {
            self.tell(&Fact::Reached { process, mark: Mark::ReadOnlyForOne });
        }
        let refused =
            read_only || now < self.store_full_until || self.network_rng.chance(self.options.network.refused_ppm);
        let outcome = if refused { Outcome::Refused } else { self.carry_out(process, &request.write, late) };
        if self.network_rng.chance(self.options.network.reply_lost_ppm) {
            self.tell(&Fact::Mishap { process, mishap: Mishap::ReplyLost });
            self.schedule.push(gives_up, What::GiveUp { process, operation });
            return;
        }
        let falsely = self.network_rng.chance(self.options.network.false_conflict_ppm);
        let outcome = match outcome {
            Outcome::Committed(_) if falsely => {
                self.tell(&Fact::Mishap { process, mishap: Mishap::FalseConflict });
                Outcome::Conflict
            }
            outcome => outcome,
        };
        let replies = now + self.one_way();
        if replies > gives_up {
            self.schedule.push(gives_up, What::GiveUp { process, operation });
        }
        self.schedule.push(replies, What::Reply { process, operation, outcome, sent });
    }

    /// The store looks at a write's condition, and shows the write to those who watch.
    fn carry_out(&mut self, process: ProcessId, write: &Write, late: bool) -> Outcome {
        let outcome = if self.ignores_condition(write) { self.store.force(write) } else { self.store.write(write) };
        if self.options.encoded {
            let too_large = outcome == Outcome::Refused;
            let mark = if too_large { Mark::RecordTooLarge } else { Mark::Encoded };
            self.tell(&Fact::Reached { process, mark });
        }
        self.tell(&Fact::Stored { process, write, outcome, late });
        if let Outcome::Committed(_) = outcome {
            self.notify(write.key());
        }
        outcome
    }

    /// Whether its bucket has lost writes, or was made anew, since a request was sent, and its client waits for it no
    /// longer.
    pub(crate) fn is_of_a_former_life(&self, process: ProcessId, request: &Request, sent: Moment) -> bool {
        let waits =
            self.now <= sent + self.request_timeout() && self.process(process).pending.contains(&request.operation);
        !waits && self.lost_writes_at.get(&request.write.key().bucket()).is_some_and(|at| sent <= *at)
    }

    fn ignores_condition(&self, write: &Write) -> bool {
        let bug = match write {
            Write::Delete { .. } if write.key().bucket() == Bucket::Members => Around::EvictWithoutCondition,
            Write::Update { key: Key::Slot(_), .. } => Around::RenewWithoutCondition,
            Write::Append { .. } => Around::AppendWithoutCondition,
            Write::Create { .. } | Write::Update { .. } | Write::Delete { .. } => return false,
        };
        self.options.has(bug)
    }

    /// The store's answer reaches the worker.
    pub(crate) fn reply(&mut self, process: ProcessId, operation: OperationId, outcome: Outcome, sent: Moment) {
        if self.process(process).link.is_up() {
            self.finish_operation(process, operation, outcome);
            return;
        }
        let gives_up = self.now.max(sent + self.request_timeout());
        self.schedule.push(gives_up, What::GiveUp { process, operation });
        self.process_mut(process).link.held.push(What::Reply { process, operation, outcome, sent });
    }

    /// A worker learns what became of its request, unless it has learned it before.
    pub(crate) fn finish_operation(&mut self, process: ProcessId, operation: OperationId, outcome: Outcome) {
        if self.process_mut(process).pending.remove(&operation) {
            self.feed(process, Event::Kv(KvEvent::Done { operation, outcome }));
        }
    }

    /// Nothing gets through to or from a process any more: silently, or because the connection was closed. Its client
    /// notices that sooner or later.
    pub(crate) fn break_link(&mut self, process: ProcessId, closed: bool) {
        let late = closed && self.network_rng.chance(self.options.network.notice_late_ppm);
        let notices = self.now
            + match (closed, late) {
                (true, false) => self.one_way(),
                (true, true) => Duration::from_millis(self.network_rng.below(MOST_NOTICE_MS)),
                (false, _) => self.notice_delay(),
            };
        if closed {
            self.end_subscription(process);
        }
        let link = &mut self.process_mut(process).link;
        if link.broken {
            link.closed |= closed;
            return;
        }
        link.broken = true;
        link.closed = closed;
        link.epoch += 1;
        link.notices_at = notices;
        let epoch = link.epoch;
        self.schedule.push(notices, What::NoticeBreak { process, epoch });
    }

    /// The client of a process notices that its connection is gone.
    pub(crate) fn notice_break(&mut self, process: ProcessId, epoch: u64) {
        let link = &mut self.process_mut(process).link;
        if (link.broken || link.closed) && link.epoch == epoch && !link.noticed {
            link.noticed = true;
            self.end_subscription(process);
            self.feed(process, Event::Kv(KvEvent::Lost));
        }
    }

    /// What broke a link is over. A client whose connection was not closed, and that had not noticed, finds everything
    /// as it was, only late; another one connects again.
    pub(crate) fn mend(&mut self, process: ProcessId) {
        let (least, most) = self.options.network.reconnect_ms;
        let reconnects = self.now + Duration::from_millis(self.network_rng.between(least, most));
        let link = &mut self.process_mut(process).link;
        if !link.broken {
            return;
        }
        link.broken = false;
        link.broken_until = Moment::START;
        link.epoch += 1;
        let (lost, epoch, notices) = (link.noticed || link.closed, link.epoch, link.notices_at);
        for held in std::mem::take(&mut link.held) {
            let request = matches!(held, What::Arrive { .. });
            if !lost || (request && self.network_rng.chance(SURVIVES_BREAK_PPM)) {
                self.schedule.push(self.now, held);
            }
        }
        if lost {
            // Not before it has noticed.
            self.schedule.push(reconnects.max(notices), What::Reconnect { process, epoch });
        }
    }

    /// A client is connected again, once it has noticed that it was not: it reads everything that it watches anew.
    pub(crate) fn reconnect(&mut self, process: ProcessId, epoch: u64) {
        self.notice_break(process, epoch);
        let link = &mut self.process_mut(process).link;
        if link.epoch == epoch && link.noticed {
            link.noticed = false;
            link.closed = false;
            link.held.clear();
            self.feed(process, Event::Kv(KvEvent::Restored));
            self.connected_again(process, false);
            self.lose_watches(process);
        }
    }

    /// How long a message takes from one side to the other.
    pub(crate) fn one_way(&mut self) -> Duration {
        let (least, most) = self.options.network.one_way_us;
        self.delay(least, most)
    }

    /// From a committed write to a watcher.
    pub(crate) fn notify_delay(&mut self) -> Duration {
        let (least, most) = self.options.network.notify_us;
        self.delay(least, most)
    }

    fn delay(&mut self, least_us: u64, most_us: u64) -> Duration {
        let slow = self.network_rng.chance(self.options.network.slow_ppm);
        let (least, most) = if slow { self.options.network.slow_us } else { (least_us, most_us) };
        Duration::from_micros(self.network_rng.between(least, most))
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.options.network.request_timeout_ms)
    }

    fn notice_delay(&self) -> Duration {
        Duration::from_millis(self.options.network.notice_ms)
    }
}
