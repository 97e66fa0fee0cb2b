//! The worker: routes each event to one part, then asks the parts in fixed order what is due.

mod observe;
mod status;
mod stopping;
mod suspend;
mod watching;

pub use status::{Fleet, Status};

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::action::{Action, ClaimKind, Notice};
use crate::assign::Strategy;
use crate::config::{Config, ConfigError};
use crate::context::Context;
use crate::event::{Command, Event};
use crate::ids::{Generation, Heard, Incarnation, Instance, Position, Revision, Slot, Token};
use crate::key::{Bucket, Key};
use crate::leader::{self, Leader};
use crate::leadership::{self, Leadership};
use crate::lease::{Lease, WriteKind};
use crate::membership::{LeaderKey, Membership};
use crate::outbox::Outbox;
use crate::ownership::{Applying, Holder, Ownership};
use crate::partition::{PartitionId, PartitionList};
use crate::plan_log::PlanLog;
#[cfg(feature = "planted-bugs")]
use crate::planted::Planted;
use crate::planted::PlantedBug;
use crate::presence::{Evidence, Presence};
use crate::probing::{self, Probing, Targets};
use crate::record::{MemberPhase, MemberRecord, RecordError};
use crate::rng::Rng;
use crate::settings::{Agreement, SharedSettings};
use crate::slot::{self, SlotSearch, Won, is_own};
use crate::time::{Duration, Instant, earliest};
use observe::CallsFor;
use stopping::Stop;
use watching::Watched;

/// One worker of a group: takes events, gives actions. See the [crate documentation](crate) for the loop and the
/// contract.
#[allow(clippy::struct_excessive_bools)] // Independent facts, each with a life of its own.
#[derive(Clone, Debug)]
pub struct Worker {
    context: Context,
    strategy: Arc<dyn Strategy>,
    rng: Rng,
    instance: Instance,
    connected: bool,
    /// Whether the connection was lost, and the members have not been listed since: a store that has lost writes may have
    /// given the revision of this worker's last one to another process.
    was_cut_off: bool,
    members_watch: Option<Watched>,
    plan_watch: Option<Watched>,
    /// When to list the plan again, since the last listing has shown less than was applied.
    read_plan_at: Option<Instant>,
    /// Whether it has ever seen a complete listing of the members.
    has_listed: bool,
    /// The process of which it was told that it is dead: whose the preferred slot was when the members were first listed.
    /// Whoever has the slot later is another one.
    dead: Option<Instance>,
    /// The keys whose records cannot be read, and why, as it was already said.
    reported: BTreeMap<Key, RecordError>,
    membership: Membership,
    plan: PlanLog,
    standing: Standing,
    leadership: Leadership,
    leader: Option<Leader>,
    presence: Presence,
    probing: Probing,
    /// Who is to see whether this worker is there, while it leads.
    deputies: Vec<Slot>,
    ownership: Ownership,
    partitions: Option<PartitionList>,
    /// What the group must agree on, as this worker has it.
    shared: SharedSettings,
    agreement: Agreement,
    /// How many bytes a record may have.
    record_limit: usize,
    /// Whether the application wants this worker to own nothing.
    draining: bool,
    /// When this process noticed that a bucket was made anew or has lost writes, if it has.
    store_regressed: Option<Instant>,
    /// Whether this worker gives up its slot to start over, because the plan has lost what it had applied.
    starting_over: bool,
    stop: Option<Stop>,
    halted: bool,
    beat: u64,
    /// How often it has decided.
    decisions: u64,
    /// When something is due if nothing new comes, by the last decision.
    due_at: Option<Instant>,
    outbox: Outbox,
}

/// A slot, or the search for one.
#[derive(Clone, Debug)]
enum Standing {
    Seeking(SlotSearch),
    Holding(Lease),
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
        let mut worker = Self {
            strategy: context.config.strategy.strategy(),
            shared: SharedSettings::new(&context.config),
            agreement: Agreement::default(),
            rng,
            instance,
            connected: true,
            was_cut_off: false,
            members_watch: None,
            plan_watch: None,
            read_plan_at: None,
            has_listed: false,
            dead: None,
            reported: BTreeMap::new(),
            membership: Membership::new(&context),
            plan: PlanLog::default(),
            standing: Standing::Seeking(SlotSearch::default()),
            leadership: Leadership::default(),
            leader: None,
            presence: Presence::default(),
            probing: Probing::default(),
            deputies: Vec::new(),
            ownership: Ownership::default(),
            partitions: None,
            record_limit: usize::MAX,
            draining: false,
            store_regressed: None,
            starting_over: false,
            stop: None,
            halted: false,
            beat: 0,
            decisions: 0,
            due_at: Some(now),
            outbox: Outbox::default(),
            context,
        };
        worker.watch_what_matters();
        Ok(worker)
    }

    /// The same worker, which divides partitions by `strategy` while it leads, in place of what [`Config::strategy`] says.
    /// To be called before anything else, with the same strategy for every worker of the group.
    ///
    /// Each answer is checked: every partition once, only workers that are there and may own it. Where the strategy has
    /// no answer, or a wrong one, everything stays as it is, and a [`Notice::PlanRefused`] says why.
    #[must_use]
    pub fn with_strategy(self, strategy: Arc<dyn Strategy>) -> Self {
        let shared = self.shared.clone().with_strategy(&*strategy);
        Self { strategy, shared, ..self }
    }

    /// The same worker with a deliberate bug.
    #[cfg(feature = "planted-bugs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted_bug(mut self, bug: PlantedBug) -> Self {
        self.context.planted = Planted::new(bug);
        self.membership = Membership::new(&self.context);
        self
    }

    /// Takes in one event. Never fails, whatever the event says; after [`Action::Halt`] it does nothing.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.context.now = self.context.now.max(now);
        if !self.halted {
            let calls_for = self.observe(event);
            if calls_for == CallsFor::Decision || self.due_at.is_some_and(|at| at <= self.context.now) {
                self.decide();
                self.decisions += 1;
                self.due_at = self.next_due();
            } else if calls_for == CallsFor::Patience {
                self.due_at = self.next_due();
            }
        }
    }

    /// The next thing to do; drain to `None` after each [`handle`](Self::handle).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop()
    }

    /// When to call [`handle`](Self::handle) with [`Event::Timeout`] if nothing else happens; changes nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due_at.filter(|_| !self.halted)
    }

    /// How far plans have come, as far as this process has heard: the greatest era, and the newest plan.
    pub fn heard_of_plans(&self) -> (Incarnation, Generation) {
        let Heard { era, generation } = self.ownership.heard();
        (era, generation)
    }

    /// The partitions that it holds, with their tokens, in order; those that it is giving up included.
    pub fn held(&self) -> impl Iterator<Item = (&PartitionId, Token)> {
        self.ownership.holds()
    }

    fn decide(&mut self) {
        if !self.halted {
            self.give_up_lost_slot();
        }
        if self.halted {
            return;
        }
        self.check_presence();
        self.seek_slot();
        self.suspend_if_expired();
        self.probe();
        self.lead();
        self.believe_takeover();
        self.work();
        self.resume();
        self.compare_settings();
        self.advance_stop();
        self.renew();
        self.watch_what_matters();
    }

    /// When the parts want to be asked again if nothing new comes.
    fn next_due(&self) -> Option<Instant> {
        let standing = match &self.standing {
            Standing::Seeking(search) if self.connected && !self.is_absent() => {
                search.deadline(&self.context, &self.membership)
            }
            Standing::Seeking(_) => None,
            Standing::Holding(lease) => {
                let may_write = self.connected
                    && !self.was_cut_off
                    && !self.is_absent()
                    && !self.outbox.is_writing(Key::Slot(lease.slot));
                lease.deadline(&self.context, may_write)
            }
        };
        let leadership = self.lease().filter(|_| self.connected);
        let leadership = leadership.and_then(|_| self.leadership.deadline(self.context.now, &self.membership));
        let leader = self.leader.as_ref().filter(|_| self.may_lead());
        let leader = leader.and_then(|leader| {
            let heard = self.lease().is_some_and(|lease| lease.is_fresh(&self.context));
            leader.deadline(heard, &self.membership, &self.plan)
        });
        let stop = self.stop.and_then(|stop| self.stop_deadline(&stop));
        let reading = earliest([self.read_plan_at, self.membership.reading_at()]);
        let probe = self.probe_targets().and_then(|targets| self.probing.deadline(targets));
        let presence = self
            .context
            .timing
            .confirm
            .and_then(|_| self.presence.deadline(self.context.now, self.connected && !self.halted));
        let own = self.ownership.deadline();
        let differing = self.agreement.deadline(self.context.timing.lease);
        earliest([standing, leadership, leader, reading, probe, presence, own, differing, stop])
    }

    fn give_up_lost_slot(&mut self) {
        let Some(lease) = self.lease().filter(|lease| lease.is_lost()) else { return };
        let slot = lease.slot;
        let left = |stop: Stop| stop.command == Command::Leave && self.ownership.is_empty();
        if self.stop.is_some_and(left) {
            // Its own deletion, whose outcome is still on its way, or a leader's: there is nothing left to do.
            return self.halt();
        }
        self.outbox.notice(Notice::SlotLost { slot });
        self.leadership.observe_slot_lost(&mut self.plan, &mut self.outbox);
        self.leader = None;
        self.ownership.cut_off(&self.context, &mut self.outbox);
        if self.lease().is_some_and(Lease::is_forgotten) {
            self.notice_regression(Bucket::Members, "a committed renewal is gone");
        }
        self.seek_anew();
    }

    /// Claims a slot anew. Silence up to now proves nothing: this worker may have lost its slot because it was cut off.
    fn seek_anew(&mut self) {
        self.membership.start_anew(&self.context, None);
        self.standing = Standing::Seeking(SlotSearch::default());
        self.members_watch = None;
        self.plan_watch = None;
        self.read_plan_at = None;
        self.starting_over = false;
    }

    /// The store has lost writes: what is known of it is forgotten, and nothing new is granted until all have noticed.
    fn notice_regression(&mut self, bucket: Bucket, detail: &str) {
        self.say_regressed(bucket, detail);
        if bucket == Bucket::Plan && self.context.has(PlantedBug::GoOnAfterLoss) {
            return;
        }
        match bucket {
            Bucket::Members => {
                self.membership.forget_all(&self.context);
            }
            Bucket::Plan => self.starting_over = true,
        }
        self.leadership.observe_slot_lost(&mut self.plan, &mut self.outbox);
        self.leader = None;
        self.ownership.cut_off(&self.context, &mut self.outbox);
    }

    /// From now on, whoever holds what the store has lost is waited for.
    fn say_regressed(&mut self, bucket: Bucket, detail: &str) {
        self.outbox.notice(Notice::StoreRegressed { bucket, detail: detail.into() });
        self.store_regressed = Some(self.context.now);
    }

    fn seek_slot(&mut self) {
        let absent = self.is_absent();
        let Standing::Seeking(search) = &mut self.standing else { return };
        if !search.has_listened() {
            return;
        }
        let own = self.membership.members().find(|(_, member)| is_own(member, self.instance));
        // An earlier write of the record that is still on its way would be followed by another one.
        let own = own.filter(|(slot, _)| !self.outbox.is_writing(Key::Slot(*slot)));
        let had_begun = self.ownership.has_begun();
        let adopted = own
            .and_then(|(slot, member)| search.adopt(&self.context, slot, self.membership.tenure_of(member)?, member));
        if let Some(won) = adopted {
            self.take_slot(won);
            // Who has held it before lost it since: the store has forgotten that.
            self.starting_over |= had_begun;
            return;
        }
        // Who cannot be present could work on nothing that it is given.
        let present = !self.context.timing.needs_presence || self.presence.evidence().is_some();
        if self.connected && !self.was_cut_off && self.stop.is_none() && !absent && present {
            let (config, instance, beat) = (&self.context.config, self.instance, self.beat + 1);
            let Heard { era, generation } = self.ownership.heard();
            let (server, shared) = (self.presence.server_to_name(), &self.shared);
            let confirm_ms = self.context.timing.confirm_ms().filter(|_| server.is_some());
            let record = || own_record(config, instance, beat, MemberPhase::Active);
            let own = || MemberRecord { server: server.clone(), confirm_ms, ..record() };
            let record = |tenure| MemberRecord { tenure, generation, era, shared: Some(shared.clone()), ..own() };
            let claimed = search.is_claiming();
            let view = slot::Seeker {
                context: &self.context,
                membership: &self.membership,
                probing: &self.probing,
                dead: self.dead,
                evidence: self.presence.evidence(),
                record: &record,
            };
            search.decide(&view, &mut self.rng, &mut self.outbox);
            self.beat += u64::from(search.is_claiming() && !claimed);
        }
    }

    fn take_slot(&mut self, won: Won) {
        // After a loss of writes a record that was there, and the assignment that names it, may be from before what was
        // lost: claims of the same tenure that came after it are forgotten, and their tokens would be given again.
        if won.shows_loss && !won.is_new {
            let detail = "a revision that was seen before is given again".into();
            self.outbox.notice(Notice::StoreRegressed { bucket: Bucket::Members, detail });
            self.store_regressed = Some(self.context.now);
        }
        self.starting_over = self.store_regressed.is_some() && !won.is_new;
        self.outbox.notice(Notice::SlotClaimed { slot: won.lease.slot, how: won.kind });
        self.presence.start_over(won.evidence);
        self.ownership.begin(won.lease.tenure, won.applied, won.heard, &mut self.outbox);
        let mut lease = won.lease;
        if self.presence.wants_renewal() {
            lease.renew_at_once(self.context.now);
        }
        self.standing = Standing::Holding(lease);
    }

    /// Another tenure has begun in the slot of this worker, which has given up everything. Its record was never gone: what
    /// it says of the newest plan is known to whoever leads meanwhile.
    fn begin_anew(&mut self, revision: Revision, sent_at: Instant, evidence: Option<Evidence>) {
        let Some(slot) = self.lease().map(|lease| lease.slot) else { return };
        let written = Position { incarnation: self.membership.incarnation(), revision };
        let tenure = MemberRecord { beat: self.beat, ..MemberRecord::new(self.instance) }.tenure_if_written(written);
        self.seek_anew();
        self.take_slot(Won {
            lease: Lease::won(slot, tenure, revision, Some(sent_at), &self.context),
            is_new: true,
            kind: ClaimKind::Fresh,
            applied: Position::default(),
            heard: self.ownership.heard(),
            shows_loss: false,
            evidence,
        });
    }

    /// Asks whether those are there of whom it matters to this worker.
    fn probe(&mut self) {
        let Some(targets) = self.probe_targets() else { return };
        let view =
            probing::Prober { context: &self.context, membership: &self.membership, server: self.presence.server() };
        let asks_all = self.probing.decide(&view, targets, &mut self.outbox);
        // A leader may be gone before its next round: who comes in, and who takes the place of one that has left, is named now.
        let lacks = probing::lacks_deputy(&self.deputies, &self.membership);
        if let (Targets::Others { own }, true) = (targets, asks_all || lacks) {
            let deputies = self.probing.deputies(own, view.server, &self.membership);
            if deputies != core::mem::replace(&mut self.deputies, deputies.clone())
                && let Standing::Holding(lease) = &mut self.standing
            {
                lease.renew_at_once(self.context.now);
            }
        }
    }

    /// Of whom it matters whether they are there: to a leader all others, to its deputies the leader, to a newcomer those
    /// whose slots it might take over. Nobody is asked for without a connection.
    fn probe_targets(&self) -> Option<Targets> {
        if !self.connected || self.stop.is_some() || self.context.timing.confirm.is_none() {
            return None;
        }
        match &self.standing {
            Standing::Seeking(search) if search.has_listened() => {
                Some(self.context.config.preferred_slot.map_or(Targets::Unheard, Targets::One))
            }
            Standing::Seeking(_) => None,
            Standing::Holding(lease) if self.leader.is_some() => Some(Targets::Others { own: lease.slot }),
            Standing::Holding(lease) => {
                let leader = self.membership.leader().record().filter(|leader| leader.slot != lease.slot)?;
                let record = self.membership.member(leader.slot)?.record()?;
                let is_deputy = record.instance == leader.instance && record.deputies.contains(&lease.slot);
                is_deputy.then_some(Targets::One(leader.slot))
            }
        }
    }

    /// The listing on which a leader's takeover was committed was not stale: what it lacked is gone.
    fn believe_takeover(&mut self) {
        if self.leadership.term().is_some() && self.ownership.is_doubtful() && !self.starting_over {
            self.notice_regression(Bucket::Plan, "an assignment that was applied is gone");
        }
    }

    /// Renews as often as those do whose silence this worker judges: a leader's is judged by all.
    fn keep_pace(&mut self) {
        let led = self.membership.leader().record().and_then(|leader| self.membership.member(leader.slot));
        let shortest = match &self.leader {
            Some(leader) => leader.shortest_observed_lease(),
            None => led.map_or(Duration::MAX, |member| member.observed_lease),
        };
        if let Standing::Holding(lease) = &mut self.standing {
            lease.keep_pace(&self.context, shortest);
        }
    }

    fn lead(&mut self) {
        self.keep_pace();
        let Standing::Holding(lease) = &self.standing else { return };
        let leader_key = self.membership.leader().record().map_or(Key::Leader, |record| Key::Slot(record.slot));
        let unread = matches!(self.membership.leader(), LeaderKey::Unreadable { .. });
        let shows = |watched: &Watched| {
            watched.is_listed() && watched.interest.covers(leader_key) && (!unread || watched.has_listed_all())
        };
        let all = |watched: &Option<Watched>| watched.as_ref().is_some_and(Watched::has_listed_all);
        let named_at = self.leadership.catches_up_with();
        let is_behind = named_at.zip(self.members_watch.as_ref()).is_some_and(|(at, watched)| watched.is_behind(at));
        if is_behind {
            self.membership.read_by(self.context.now + self.context.timing.retry);
        }
        if self.connected {
            let view = leadership::Candidate {
                context: &self.context,
                probing: &self.probing,
                may_act: self.has_right(),
                own: self.instance,
                lease,
                membership: &self.membership,
                members_listed: self.members_watch.as_ref().is_some_and(shows),
                all_listed: all(&self.members_watch) && all(&self.plan_watch) && !is_behind,
                stopping: self.stop.is_some() || self.starting_over,
            };
            self.leadership.decide(&view, &mut self.plan, &mut self.outbox);
        }
        match self.leadership.term() {
            None => self.leader = None,
            Some(term) if self.leader.as_ref().is_none_or(|leader| leader.term() != term) => {
                self.membership.start_anew(&self.context, self.leadership.predecessor());
                self.leader = Some(Leader::new(self.context.now, term, self.partitions.as_ref(), &self.plan));
            }
            Some(_) => {}
        }
        if self.may_lead()
            && let (Some(leader), Standing::Holding(lease)) = (&mut self.leader, &self.standing)
        {
            let view = leader::Office {
                context: &self.context,
                strategy: &*self.strategy,
                own_slot: lease.slot,
                own: self.instance,
                lease,
                record_limit: self.record_limit,
                store_regressed: self.store_regressed,
                heard: lease.is_fresh(&self.context),
                probing: &self.probing,
                heard_of: self.ownership.heard(),
            };
            leader.decide(&view, &mut self.membership, &mut self.plan, &mut self.outbox);
            // It outlives the leadership: should the store lose the plan, the next one goes beyond it.
            self.ownership.observe_heard(leader.reached());
        }
    }

    /// Says so where this worker has not the settings of the one that leads.
    fn compare_settings(&mut self) {
        let leads = self.membership.leader().record().filter(|leads| leads.instance != self.instance);
        let member = leads.and_then(|leads| Some((leads.slot, self.membership.member(leads.slot)?.record()?)));
        let leader = member.and_then(|(slot, record)| Some((slot, record.shared.as_ref()?)));
        self.agreement.decide(self.context.now, self.context.timing.lease, &self.shared, leader, &mut self.outbox);
    }

    fn work(&mut self) {
        let Standing::Holding(lease) = &self.standing else {
            // Nothing is assigned, but releases of what was lost may still be under way.
            return self.ownership.let_go(&self.context, &mut self.outbox);
        };
        let idle = self.right_until().is_none() || self.starting_over;
        // Who goes on without a lease goes on with what it has: what it has not heard of may be somebody else's by now.
        let lapsed = !self.may_take() && !self.context.has(PlantedBug::TakeWithoutLease);
        let applying = match (idle, self.stop.is_some() || self.ownership.is_suspended() || lapsed) {
            (true, _) => Applying::Nothing,
            (false, true) => Applying::Releases,
            (false, false) => Applying::Everything,
        };
        let incarnation = self.membership.incarnation().max(self.plan.incarnation());
        let holder = Holder { incarnation, claim: lease.claim };
        self.ownership.decide(&self.context, &holder, applying, &mut self.outbox);
    }

    fn renew(&mut self) {
        let kind = self.write_kind();
        if kind == WriteKind::Renewal && self.is_absent() {
            return;
        }
        let Standing::Holding(lease) = &mut self.standing else { return };
        let urgent = kind != WriteKind::Renewal || self.ownership.has_news();
        // An earlier lease of the same slot may have left a write on its way.
        let blocked =
            !self.connected || self.was_cut_off || self.halted || self.outbox.is_writing(Key::Slot(lease.slot));
        if blocked || !lease.may_write(self.context.now, urgent) {
            return;
        }
        self.beat += 1;
        let phase = match (kind, self.stop.map(|stop| stop.command)) {
            (WriteKind::Restarting, _) => MemberPhase::Restarting,
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, Some(Command::Leave)) => MemberPhase::Draining,
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, _) if self.draining => MemberPhase::Draining,
            (WriteKind::Renewal | WriteKind::Anew | WriteKind::Deletion, _) => MemberPhase::Active,
        };
        let (applied, releasing) = self.ownership.acknowledge();
        let record = own_record(&self.context.config, self.instance, self.beat, phase);
        let planned = self.leader.as_ref().map(Leader::reached).unwrap_or_default();
        let Heard { era, generation } = self.ownership.heard().max(planned);
        let server = self.presence.server_to_name();
        let deputies = if self.leader.is_some() { self.deputies.clone() } else { Vec::new() };
        let (unwanted, shared) = (self.ownership.unwanted(), Some(self.shared.clone()));
        let confirm_ms = self.context.timing.confirm_ms().filter(|_| server.is_some());
        let record = MemberRecord { generation, era, unwanted, shared, server, confirm_ms, deputies, ..record };
        let record = match kind {
            WriteKind::Anew => record,
            WriteKind::Renewal | WriteKind::Restarting | WriteKind::Deletion => {
                MemberRecord { tenure: Some(lease.tenure), applied, releasing, ..record }
            }
        };
        lease.write(self.context.now, kind, record, self.presence.evidence(), &mut self.outbox);
    }

    /// Whether others would take this process for gone for as long as a lease lasts. Who stops has more to say, though.
    fn is_absent(&self) -> bool {
        self.stop.is_none() && self.presence.is_absent(&self.context)
    }

    /// What the next write of the member record is for.
    fn write_kind(&self) -> WriteKind {
        if self.starting_over && self.ownership.is_empty() {
            return if self.stop.is_none() { WriteKind::Anew } else { WriteKind::Deletion };
        }
        let Some(stop) = self.stop.filter(|_| self.ownership.is_empty()) else { return WriteKind::Renewal };
        match stop.command {
            Command::Restart => WriteKind::Restarting,
            Command::Leave if stop.is_impatient(self.context.now) || self.is_alone() => WriteKind::Deletion,
            // What is still assigned is for the leader to take away, or others would wait for it in vain.
            Command::Leave if self.ownership.assignment().is_none_or(|assignment| assignment.owned.is_empty()) => {
                WriteKind::Deletion
            }
            Command::Leave | Command::Drain | Command::Undrain | Command::RebalanceNow => WriteKind::Renewal,
        }
    }

    fn halt(&mut self) {
        self.halted = true;
        self.outbox.push(Action::Halt);
    }

    fn lease(&self) -> Option<&Lease> {
        match &self.standing {
            Standing::Seeking(_) => None,
            Standing::Holding(lease) => Some(lease),
        }
    }

    /// Whether this worker may decide anything for others: it has a valid lease, hears and is heard, and need not doubt
    /// what it knows.
    fn may_lead(&self) -> bool {
        let sure = self.connected && !self.ownership.is_suspended();
        sure && self.has_right()
    }

    /// Until when this worker may act, in `Strict` mode and for others: to the end of its lease, and of its presence where
    /// others may end its tenure early. None without a slot, or before it has had both.
    fn right_until(&self) -> Option<Instant> {
        let lease = self.lease().and_then(Lease::until)?;
        let presence = self.context.timing.needs_presence && !self.context.has(PlantedBug::OutlivePresence);
        if presence { self.presence.until().map(|until| until.min(lease)) } else { Some(lease) }
    }

    /// Whether this worker may take what it is given: nobody may have ended its tenure, in whatever mode it goes on.
    fn may_take(&self) -> bool {
        let present = self.presence.until().is_some_and(|until| self.context.now < until);
        self.has_right() && (present || self.context.timing.confirm.is_none())
    }

    fn has_right(&self) -> bool {
        let lost = self.lease().is_none_or(Lease::is_lost);
        !lost && self.right_until().is_some_and(|until| self.context.now < until)
    }
}

/// What a process says of itself, before what it says of its tenure.
fn own_record(config: &Config, instance: Instance, beat: u64, phase: MemberPhase) -> MemberRecord {
    MemberRecord {
        phase,
        // No shorter than the lease by which it acts.
        lease_ms: u64::try_from(config.lease.as_micros().div_ceil(1_000)).ok(),
        capacity: config.capacity,
        labels: config.labels.clone(),
        software: config.software.clone(),
        beat,
        ..MemberRecord::new(instance)
    }
}
