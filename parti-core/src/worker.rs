//! The worker: routes each event to one part, then asks the parts in fixed order what is due.
//!
//! ```text
//!             ┌──────── lost, or another's ────────┐
//!             ▼                                    │
//!          Seeking ── a claim is committed ──► Holding ─────── the last write ───► halted
//!         SlotSearch                            Lease ◄─┐
//!                                                 │     └ a tenure begun anew
//!       follows ──► claims ──► catches up ──► takes over ──► leads
//!                             Leadership                    Leader
//!
//!   Event ─► observe ─► Membership  PlanLog  Presence  Probing     what is there, as far as was seen
//!                       Ownership                                  what the application works on
//!            decide  ─► presence, slot, suspension, probes, leadership, the leader's work, own work,
//!                       a stop, the renewal, the watches           ─► Outbox ─► Action
//! ```

mod departure;
mod holding;
mod leading;
mod link;
mod loss;
mod mind;
mod observe;
mod saved;
mod status;
mod stopping;
mod suspend;
mod watching;

pub use status::Status;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::action::{Action, Notice};
use crate::assign::Strategy;
use crate::config::{Config, ConfigError};
use crate::context::Context;
use crate::event::{Event, KvEvent};
use crate::ids::{Generation, Heard, Incarnation, Instance, Token};
use crate::member::agreement::Agreement;
use crate::member::holder::Holder;
use crate::member::leadership::Leadership;
use crate::member::load::Loads;
use crate::member::membership::Membership;
use crate::member::ownership::{Applying, Ownership};
use crate::member::presence::Presence;
use crate::member::probing::Probing;
use crate::member::slot::SlotSearch;
use crate::outbox::Outbox;
use crate::partition::PartitionId;
#[cfg(feature = "planted-bugs")]
use crate::planted::Planted;
use crate::planted::PlantedBug;
use crate::rng::Rng;
use crate::stored::key::{Bucket, Key};
use crate::stored::plan_log::PlanLog;
use crate::stored::settings::SharedSettings;
use crate::time::{Duration, Instant, earliest};
use departure::Departure;
use link::Link;
use mind::{Loss, Mind, News, Own, Predecessor, Standing, Task};
use observe::CallsFor;

/// One worker of a group: takes events, gives actions. See the [crate documentation](crate) for the loop and the
/// contract.
#[derive(Clone, Debug)]
pub struct Worker {
    mind: Mind,
    outbox: Outbox,
    /// How often it has decided.
    decisions: u64,
    /// When something is due if nothing new comes, by the last decision.
    due_at: Option<Instant>,
}

impl Worker {
    /// A worker that has heard nothing yet.
    ///
    /// `seed` decides the instance and every other random choice: give each process life another one, from the
    /// operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the config breaks a rule.
    pub fn new(config: Config, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        let context = Context::new(config, now)?;
        let mut rng = Rng::new(seed);
        let instance = Instance::new(rng.next_u64());
        let mut mind = Mind {
            own: Own { instance, beat: 0, shared: SharedSettings::new(&context.config), deputies: Vec::new() },
            task: Task { strategy: context.config.strategy.strategy(), partitions: None, record_limit: usize::MAX },
            link: Link::default(),
            predecessor: Predecessor::default(),
            membership: Membership::new(&context),
            plan: PlanLog::default(),
            standing: Standing::Seeking(SlotSearch::default()),
            presence: Presence::default(),
            probing: Probing::default(),
            leadership: Leadership::default(),
            leader: None,
            ownership: Ownership::default(),
            loads: Loads::default(),
            agreement: Agreement::default(),
            loss: Loss::default(),
            departure: Departure::default(),
            reported: BTreeMap::new(),
            news: None,
            halted: false,
            rng,
            context,
        };
        let mut outbox = Outbox::default();
        mind.watch_what_matters(&mut outbox);
        Ok(Self { mind, outbox, decisions: 0, due_at: Some(now) })
    }

    /// The same worker, which divides partitions by `strategy` while it leads, in place of what [`Config::strategy`] says.
    /// To be called before anything else, with the same strategy for every worker of the group.
    ///
    /// Each answer is checked: every partition once, only workers that are there and may own it. Where the strategy has
    /// no answer, or a wrong one, everything stays as it is, and a [`Notice::PlanRefused`] says why.
    #[must_use]
    pub fn with_strategy(mut self, strategy: Arc<dyn Strategy>) -> Self {
        let own = &mut self.mind.own;
        own.shared = own.shared.clone().with_strategy(&*strategy);
        self.mind.task.strategy = strategy;
        self
    }

    /// The same worker, told what the calendar says at `now`: how long ago 1970 began, in UTC. While it leads it writes into
    /// the plan when each change was made, for people to read; nothing is decided by it.
    #[must_use]
    pub fn with_calendar(mut self, now: Instant, since_1970: Duration) -> Self {
        self.mind.context.calendar = Some((now, since_1970));
        self
    }

    /// The same worker with a deliberate bug.
    #[cfg(feature = "planted-bugs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted_bug(mut self, bug: PlantedBug) -> Self {
        self.mind.context.planted = Planted::new(bug);
        self.mind.membership = Membership::new(&self.mind.context);
        self
    }

    /// Takes in one event. Never fails, whatever the event says; after [`Action::Halt`] it does nothing.
    pub fn handle(&mut self, now: Instant, event: Event) {
        let mind = &mut self.mind;
        mind.context.now = mind.context.now.max(now);
        if mind.halted {
            return;
        }
        if let Event::Kv(KvEvent::Done { operation, .. }) = &event {
            self.outbox.observe_done(*operation);
        }
        let calls_for = mind.observe(event);
        if calls_for == CallsFor::Decision || self.due_at.is_some_and(|at| at <= mind.context.now) {
            mind.decide(&mut self.outbox);
            self.decisions += 1;
            self.due_at = mind.next_due(&self.outbox);
        } else if calls_for == CallsFor::Patience {
            self.due_at = mind.next_due(&self.outbox);
        }
    }

    /// The next thing to do; drain to `None` after each [`handle`](Self::handle).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop()
    }

    /// When to call [`handle`](Self::handle) with [`Event::Timeout`] if nothing else happens; changes nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due_at.filter(|_| !self.mind.halted)
    }

    /// How far plans have come, as far as this process has heard: the greatest era, and the newest plan.
    pub fn heard_of_plans(&self) -> (Incarnation, Generation) {
        let Heard { era, generation } = self.mind.ownership.heard();
        (era, generation)
    }

    /// The partitions that it holds, with their tokens, in order; those that it is giving up included.
    pub fn held(&self) -> impl Iterator<Item = (&PartitionId, Token)> {
        self.mind.ownership.holds()
    }
}

impl Mind {
    fn decide(&mut self, outbox: &mut Outbox) {
        self.pick_up(outbox);
        if !self.halted {
            self.give_up_lost_slot(outbox);
        }
        if self.halted {
            return;
        }
        self.check_presence(outbox);
        self.seek_slot(outbox);
        self.suspend_if_expired(outbox);
        self.probe(outbox);
        self.lead(outbox);
        self.believe_takeover(outbox);
        self.work(outbox);
        self.resume(outbox);
        self.compare_settings(outbox);
        self.advance_stop(outbox);
        self.renew(outbox);
        self.watch_what_matters(outbox);
    }

    /// Begins with what was observed, where that asks for something.
    fn pick_up(&mut self, outbox: &mut Outbox) {
        self.plan.decide(&self.context, outbox);
        if self.plan.take_regressed() {
            // Who was granted something by what is gone may not have said so yet.
            self.say_regressed(Bucket::Plan, "a write that was there is gone", outbox);
        }
        if let Some(leader) = &mut self.leader {
            leader.tell_evicted(outbox);
        }
        match self.news.take() {
            None => {}
            Some(News::Won(won)) => self.take_slot(*won, outbox),
            Some(News::BegunAnew { revision, sent_at, evidence }) => {
                self.begin_anew(revision, sent_at, evidence, outbox);
            }
            Some(News::Finished) if self.departure.stop.is_none() => self.seek_anew(),
            Some(News::Finished) => self.halt(outbox),
            Some(News::MembersMadeAnew) => {
                self.notice_regression(Bucket::Members, "the bucket was made anew", outbox);
                self.seek_anew();
            }
            Some(News::PlanLost) => {
                self.notice_regression(Bucket::Plan, "an assignment that was applied is gone", outbox);
            }
            Some(News::Unreadable { key, revision, error }) => {
                outbox.notice(Notice::Undecodable { key, revision, error });
            }
        }
    }

    /// When the parts want to be asked again if nothing new comes.
    fn next_due(&self, outbox: &Outbox) -> Option<Instant> {
        let standing = match &self.standing {
            Standing::Seeking(search) if self.link.connected && !self.is_absent() => {
                search.deadline(&self.context, &self.membership)
            }
            Standing::Seeking(_) => None,
            Standing::Holding(lease) => {
                let may_write = self.link.connected
                    && !self.link.was_cut_off
                    && !self.is_absent()
                    && !outbox.is_writing(Key::Slot(lease.slot));
                lease.deadline(&self.context, may_write)
            }
        };
        let may_claim = self.link.connected && self.lease().is_some();
        let leadership = if may_claim { self.leadership.deadline(self.context.now, &self.membership) } else { None };
        let acting = self.leader.as_ref().filter(|_| self.may_lead());
        let leader = acting.and_then(|leader| {
            let heard = self.lease().is_some_and(|lease| lease.is_fresh(&self.context));
            leader.deadline(heard, &self.membership, &self.plan)
        });
        let stop = self.departure.stop.and_then(|stop| self.stop_deadline(&stop));
        let reading = earliest([self.link.read_plan_at, self.membership.reading_at()]);
        let probe = self.probe_targets().and_then(|targets| self.probing.deadline(targets));
        let presence = self
            .context
            .timing
            .confirm
            .and_then(|_| self.presence.deadline(self.context.now, self.link.connected && !self.halted));
        let own = self.ownership.deadline();
        let differing = self.agreement.deadline(self.context.timing.lease);
        earliest([standing, leadership, leader, reading, probe, presence, own, differing, stop])
    }

    pub(super) fn work(&mut self, outbox: &mut Outbox) {
        let Standing::Holding(lease) = &self.standing else {
            // Nothing is assigned, but releases of what was lost may still be under way.
            return self.ownership.let_go(&self.context, outbox);
        };
        // What the last listing does not show any more may be lost: that is found out first.
        let idle = self.right_until().is_none() || self.loss.starting_over || self.ownership.is_doubtful();
        // Who goes on without a lease goes on with what it has: what it has not heard of may be somebody else's by now.
        let lapsed = !self.may_take() && !self.context.has(PlantedBug::TakeWithoutLease);
        let applying = match (idle, self.departure.stop.is_some() || self.ownership.is_suspended() || lapsed) {
            (true, _) => Applying::Nothing,
            (false, true) => Applying::Releases,
            (false, false) => Applying::Everything,
        };
        let incarnation = self.membership.incarnation().max(self.plan.incarnation());
        let holder = Holder { incarnation, claim: lease.claim };
        self.ownership.decide(&self.context, &holder, applying, outbox);
    }

    pub(super) fn halt(&mut self, outbox: &mut Outbox) {
        self.halted = true;
        outbox.push(Action::Halt);
    }
}
