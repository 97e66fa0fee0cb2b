//! Each event is recorded in one part, without output: what it asks for is for the next decision.

use super::departure::{Parting, Stop};
use super::link::Watched;
use super::mind::{Mind, News, Standing};
use crate::action::SuspendReason;
use crate::event::{Command, Event, KvEvent, Outcome, ProbeOutcome};
use crate::ids::{
    CheckId, Heard, Incarnation, OperationId, Position, ProbeId, Revision, ServerId, Session, Token, WatchId,
};
use crate::member::lease::LeaseNews;
use crate::member::membership::{Member, MemberNews};
use crate::member::ownership::ListingNews;
use crate::member::probing;
use crate::member::slot::ClaimNews;
use crate::partition::{Partition, PartitionId};
use crate::planted::PlantedBug;
use crate::stored::key::{Bucket, Key};
use crate::stored::record::{Record, RecordError};

/// What an event calls for, beyond being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallsFor {
    /// Nothing: only time has passed, or nobody has waited for this.
    Nothing,
    /// Somebody was heard of whose silence would have been a reason to decide: that is due later than it was.
    Patience,
    /// There may be something to decide.
    Decision,
}

impl Mind {
    pub(super) fn observe(&mut self, event: Event) -> CallsFor {
        match event {
            Event::Timeout => return CallsFor::Nothing,
            Event::Kv(event) => return self.observe_kv(event),
            Event::Listening { session, server } => {
                let news = self.presence.observe_listening(&self.context, session, server);
                return if news { CallsFor::Decision } else { CallsFor::Nothing };
            }
            Event::Present { session, check } => return self.observe_present(session, check),
            Event::Probed { probe, outcome, server } => return self.observe_probed(probe, outcome, server.as_ref()),
            Event::Partitions(list) => {
                if let Some(leader) = &mut self.leader {
                    leader.observe_list(&self.context, &list, &self.plan);
                }
                self.own.shared.list = Some(list.digest());
                self.task.partitions = Some(list);
            }
            Event::RecordLimit(bytes) => {
                self.task.record_limit = bytes;
                if let Some(leader) = &mut self.leader {
                    leader.observe_record_limit();
                }
            }
            Event::Released { partition, token } => self.ownership.observe_released(&partition, token),
            Event::GivenUp { partition, token } => self.ownership.observe_given_up(&self.context, &partition, token),
            Event::Load { partition, token, units } => return self.observe_load(&partition, token, units),
            Event::Command(command) => self.observe_command(command),
        }
        CallsFor::Decision
    }

    /// The next renewal says what has changed.
    fn observe_load(&mut self, partition: &PartitionId, token: Token, units: u64) -> CallsFor {
        let list = self.task.partitions.as_ref();
        let listed = list.and_then(|list| Some(&list.as_slice()[list.position(partition)?]));
        if listed.is_some_and(Partition::is_measured) && self.ownership.keeps(partition, token) {
            self.loads.observe_report(&self.context, partition, units);
        }
        CallsFor::Nothing
    }

    fn observe_kv(&mut self, event: KvEvent) -> CallsFor {
        match event {
            KvEvent::Entry { watch, key, revision, record } => {
                if let Some(live) = self.is_current(watch, key) {
                    return self.observe_entry(key, revision, &record, live);
                }
            }
            KvEvent::Deleted { watch, key, revision } => {
                if self.is_current(watch, key).is_some() {
                    self.observe_deleted(key, revision);
                }
            }
            KvEvent::Undecodable { watch, key, revision, error } => {
                if let Some(live) = self.is_current(watch, key) {
                    self.observe_unreadable(key, revision, error, live);
                }
            }
            KvEvent::CaughtUp { watch, incarnation, last } => self.observe_caught_up(watch, incarnation, last),
            KvEvent::WatchLost { watch } => self.observe_watch_lost(watch),
            KvEvent::Done { operation, outcome } => self.observe_done(operation, outcome),
            KvEvent::Lost => {
                self.link.connected = false;
                self.link.was_cut_off = !self.context.has(PlantedBug::RenewUnlisted);
                self.lose_watches();
                self.presence.observe_lost();
                self.probing.observe_lost(&self.context);
            }
            KvEvent::Restored => {
                self.link.connected = true;
                self.membership.start_anew(&self.context, None);
                self.membership.read_by(self.context.now + self.context.timing.retry);
                if let Standing::Holding(lease) = &mut self.standing {
                    lease.renew_at_once(self.context.now);
                }
            }
        }
        CallsFor::Decision
    }

    /// A plain renewal calls for no decision where nobody waits for one, and no entry does before the first listing is
    /// complete.
    fn observe_entry(&mut self, key: Key, revision: Revision, record: &Record, live: bool) -> CallsFor {
        self.reported.remove(&key);
        let news = self.membership.observe_entry(&self.context, key, revision, record, live);
        match (key, record) {
            (Key::Slot(slot), Record::Member(member)) => {
                self.probing.observe_member(&self.context, slot, &self.membership);
                if !self.context.has(PlantedBug::ForgetGeneration) {
                    self.ownership.observe_heard(member.heard());
                }
                match (news, &mut self.leader) {
                    (MemberNews::Acknowledged, Some(leader)) => {
                        leader.observe_acknowledgement(slot, member, &self.plan);
                    }
                    (MemberNews::Changed, Some(leader)) => leader.observe_member(slot),
                    (MemberNews::None, _) | (_, None) => {}
                }
                let is_news = match &mut self.standing {
                    Standing::Seeking(search) => search.has_listened(),
                    Standing::Holding(lease) => {
                        let of_lease = lease.slot == slot
                            && lease.observe_record(self.context.now, revision, Some(member), self.own.instance);
                        let of_other = news != MemberNews::None && lease.slot != slot;
                        let of_member = of_other || self.leader.is_some();
                        of_lease || of_member || !self.membership.leader_continues()
                    }
                };
                return if is_news { CallsFor::Decision } else { CallsFor::Patience };
            }
            (Key::Assign(slot), Record::Assignment(assignment)) => {
                self.plan.observe_entry(&self.context, key, revision, record);
                match &self.standing {
                    Standing::Holding(lease) if lease.slot == slot && live => {
                        let position = Position { incarnation: self.plan.incarnation(), revision };
                        if self.ownership.goes_back(&self.context, assignment, lease.tenure) {
                            self.link.read_plan_at = Some(self.context.now);
                        } else {
                            self.ownership.observe_assignment(&self.context, position, assignment, lease.tenure);
                        }
                    }
                    Standing::Holding(lease) if lease.slot == slot => {
                        self.ownership.observe_listed(revision, Some(assignment));
                    }
                    Standing::Holding(_) | Standing::Seeking(_) => {}
                }
            }
            (Key::Cluster, Record::Cluster(_)) => self.plan.observe_entry(&self.context, key, revision, record),
            (Key::Slot(_) | Key::Leader | Key::Control(_) | Key::Assign(_) | Key::Cluster, _) => {}
        }
        CallsFor::Decision
    }

    fn observe_deleted(&mut self, key: Key, revision: Revision) {
        self.reported.remove(&key);
        self.membership.observe_deleted(&self.context, key, revision);
        match key {
            Key::Slot(slot) => {
                self.probing.observe_member(&self.context, slot, &self.membership);
                if let Standing::Holding(lease) = &mut self.standing
                    && lease.slot == slot
                {
                    lease.observe_record(self.context.now, revision, None, self.own.instance);
                }
                if let Some(leader) = &mut self.leader {
                    leader.observe_member(slot);
                }
            }
            Key::Assign(_) | Key::Cluster => self.plan.observe_deleted(key, revision),
            Key::Leader | Key::Control(_) => {}
        }
    }

    /// A record that this version cannot read is left alone, whatever it is: the last good state is kept.
    fn observe_unreadable(&mut self, key: Key, revision: Revision, error: RecordError, live: bool) {
        let newer = matches!(error, RecordError::UnknownVersion { .. });
        self.membership.observe_unreadable(&self.context, key, revision, newer);
        self.plan.observe_unreadable(key, revision, newer);
        if let Standing::Holding(lease) = &mut self.standing {
            if key == Key::Slot(lease.slot) {
                // Whoever wrote it, it is not this process.
                lease.observe_record(self.context.now, revision, None, self.own.instance);
            } else if key == Key::Assign(lease.slot) && !live {
                self.ownership.observe_listed(revision, None);
            }
        }
        if let (Some(leader), Key::Slot(slot)) = (&mut self.leader, key) {
            leader.observe_member(slot);
        }
        // It is shown again at every re-reading, and by a newer worker's every renewal, and was already spoken of.
        if self.reported.insert(key, error.clone()).as_ref() != Some(&error) {
            self.news = Some(News::Unreadable { key, revision, error });
        }
    }

    fn observe_caught_up(&mut self, watch: WatchId, incarnation: Incarnation, last: Revision) {
        let any = self.context.has(PlantedBug::ReplacedWatch);
        let is_first = |watched: &mut Watched| (any || watched.watch == watch) && watched.observe_listed(last);
        if self.link.members.as_mut().is_some_and(is_first) {
            self.observe_members_listed(incarnation);
        } else if self.link.plan.as_mut().is_some_and(is_first) {
            self.observe_plan_listed(incarnation, last);
        }
    }

    fn observe_members_listed(&mut self, incarnation: Incarnation) {
        let known = self.membership.incarnation();
        if known != Incarnation::default() && known != incarnation {
            self.news = Some(News::MembersMadeAnew);
            return;
        }
        self.ownership.observe_heard(Heard::of_life(incarnation));
        let interest = self.link.members.as_ref().map(|watched| watched.interest.clone());
        if !core::mem::replace(&mut self.predecessor.looked_for, true) && self.context.config.predecessor_is_dead {
            let slot = self.context.config.preferred_slot;
            let member = slot.and_then(|slot| self.membership.member(slot)).filter(|member| !member.heard);
            self.predecessor.dead = member.and_then(Member::record).map(|record| record.instance);
        }
        self.link.was_cut_off = false;
        let covers = |key| interest.as_ref().is_some_and(|interest| interest.covers(key));
        self.membership.end_listing(&self.context, incarnation, covers);
        match &mut self.standing {
            Standing::Seeking(search) => search.observe_listing(self.context.now),
            Standing::Holding(lease) => {
                lease.observe_listing(&self.context, self.membership.shown(lease.slot));
            }
        }
    }

    fn observe_plan_listed(&mut self, incarnation: Incarnation, last: Revision) {
        self.plan.end_listing(incarnation, last);
        self.ownership.observe_heard(Heard::of_life(incarnation));
        let Some(tenure) = self.lease().map(|lease| lease.tenure) else { return };
        match self.ownership.observe_listing(&self.context, incarnation, tenure) {
            ListingNews::Sound => {}
            ListingNews::Doubtful => self.link.read_plan_at = Some(self.context.now + self.context.timing.retry),
            ListingNews::Regressed if self.loss.starting_over => {}
            ListingNews::Regressed => self.news = Some(News::PlanLost),
        }
    }

    /// What is missed until the watch is back is made up for by another listing.
    fn observe_watch_lost(&mut self, watch: WatchId) {
        if let Some(watched) = self.link.members.as_mut().filter(|watched| watched.watch == watch) {
            watched.listed_to = None;
            self.membership.begin_listing();
            if self.link.was_cut_off && self.link.connected {
                self.membership.read_by(self.context.now + self.context.timing.retry);
            }
        } else if let Some(watched) = self.link.plan.as_mut().filter(|watched| watched.watch == watch) {
            watched.listed_to = None;
            // The bucket may have been made anew or have lost writes: a leader must not append to what it remembers.
            self.begin_plan_listing();
        }
    }

    /// What is missed meanwhile, listings of new watches make up for: until then nothing is known for certain. What
    /// the old ones have shown may still be under way, and is of a time before the break.
    fn lose_watches(&mut self) {
        let watches = [&self.link.members, &self.link.plan];
        for watch in watches.map(|watched| watched.as_ref().map(|watched| watched.watch)).into_iter().flatten() {
            self.observe_watch_lost(watch);
        }
        if !self.context.has(PlantedBug::WatchOutlivesBreak) {
            self.link.members = None;
            self.link.plan = None;
        }
    }

    fn observe_done(&mut self, operation: OperationId, outcome: Outcome) {
        match &mut self.standing {
            Standing::Seeking(search) => {
                match search.observe_done(&self.context, operation, outcome, &mut self.membership) {
                    ClaimNews::Won(won) => return self.news = Some(News::Won(won)),
                    ClaimNews::Settled => return,
                    ClaimNews::NotOurs => {}
                }
            }
            Standing::Holding(lease) => {
                if let Some(news) = lease.observe_done(&self.context, operation, outcome) {
                    return self.observe_renewal(news, outcome);
                }
            }
        }
        let known = self.leadership.observe_done(&self.context, operation, outcome, &mut self.membership)
            || self.plan.observe_done(&self.context, operation, outcome);
        if !known && let Some(leader) = &mut self.leader {
            leader.observe_done(&self.context, (operation, outcome), &mut self.membership);
        }
    }

    fn observe_renewal(&mut self, news: LeaseNews, outcome: Outcome) {
        if !matches!(outcome, Outcome::Committed(_)) {
            self.ownership.repeat_news();
        }
        match news {
            LeaseNews::None => {}
            LeaseNews::Renewed { after_gap, evidence } => {
                if after_gap {
                    self.membership.start_anew(&self.context, None);
                }
                self.presence.observe_renewed(evidence);
                if self.presence.wants_renewal()
                    && let Standing::Holding(lease) = &mut self.standing
                {
                    lease.renew_at_once(self.context.now);
                }
            }
            LeaseNews::BegunAnew { revision, sent_at, evidence } => {
                self.news = Some(News::BegunAnew { revision, sent_at, evidence });
            }
            LeaseNews::Finished => self.news = Some(News::Finished),
        }
    }

    /// A check of this worker's own presence has come back. After a doubt a renewal has to follow. What was taken away along
    /// with the probe subject may be other subscriptions too: everything is watched anew, and silence up to now proves
    /// nothing.
    fn observe_present(&mut self, session: Session, check: CheckId) -> CallsFor {
        if !self.presence.observe_present(&self.context, session, check) {
            return CallsFor::Patience;
        }
        if self.ownership.suspended_for() == Some(SuspendReason::NotPresent) {
            self.membership.start_anew(&self.context, None);
            self.link.members = None;
        }
        if let Standing::Holding(lease) = &mut self.standing {
            lease.renew_at_once(self.context.now);
        }
        CallsFor::Decision
    }

    fn observe_probed(&mut self, probe: ProbeId, outcome: ProbeOutcome, server: Option<&ServerId>) -> CallsFor {
        let Some((slot, instance)) = self.probing.target(probe) else { return CallsFor::Nothing };
        let heard =
            outcome == ProbeOutcome::Answered && self.membership.observe_answered(self.context.now, slot, instance);
        let view =
            probing::Prober { context: &self.context, membership: &self.membership, server: self.presence.server() };
        let news = self.probing.observe_probed(&view, probe, outcome, server);
        if news || heard { CallsFor::Decision } else { CallsFor::Patience }
    }

    fn observe_command(&mut self, command: Command) {
        match command {
            Command::Leave => self.observe_stop(Parting::Leave),
            Command::Restart => self.observe_stop(Parting::Restart),
            Command::Drain | Command::Undrain => {
                self.departure.draining = command == Command::Drain;
                self.ownership.repeat_news();
            }
            Command::RebalanceNow => {
                if let Some(leader) = &mut self.leader {
                    leader.observe_request();
                }
            }
        }
    }

    fn observe_stop(&mut self, parting: Parting) {
        self.departure.stop.get_or_insert(Stop::new(parting, &self.context));
        self.ownership.repeat_news();
    }

    /// Whether `key` belongs to the current watch of its bucket, and if so whether that watch has shown a complete
    /// listing before.
    fn is_current(&self, watch: WatchId, key: Key) -> Option<bool> {
        let watched = match key.bucket() {
            Bucket::Members => self.link.members.as_ref(),
            Bucket::Plan => self.link.plan.as_ref(),
        };
        let any = self.context.has(PlantedBug::ReplacedWatch);
        watched.filter(|watched| any || watched.watch == watch).map(Watched::is_listed)
    }
}
