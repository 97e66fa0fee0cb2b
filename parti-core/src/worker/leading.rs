//! What a worker does for others: it asks whether they are there, and leads if it is named.

use super::link::Watched;
use super::mind::{Mind, Standing};
use crate::leader::{self, Leader};
use crate::member::leadership;
use crate::member::membership::LeaderKey;
use crate::member::probing::{self, Targets};
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::key::Key;
use crate::time::Duration;

impl Mind {
    /// Asks whether those are there of whom it matters to this worker.
    pub(super) fn probe(&mut self, outbox: &mut Outbox) {
        let Some(targets) = self.probe_targets() else { return };
        let view =
            probing::Prober { context: &self.context, membership: &self.membership, server: self.presence.server() };
        let asks_all = self.probing.decide(&view, targets, outbox);
        // A leader may be gone before its next round: who comes in, and who takes the place of one that has left, is named now.
        let lacks = probing::lacks_deputy(&self.own.deputies, &self.membership);
        if let (Targets::Others { own }, true) = (targets, asks_all || lacks) {
            let deputies = self.probing.deputies(own, view.server, &self.membership);
            if deputies != core::mem::replace(&mut self.own.deputies, deputies.clone())
                && let Standing::Holding(lease) = &mut self.standing
            {
                lease.renew_at_once(self.context.now);
            }
        }
    }

    /// Of whom it matters whether they are there: to a leader all others, to its deputies the leader, to a newcomer those
    /// whose slots it might take over. Nobody is asked for without a connection.
    pub(super) fn probe_targets(&self) -> Option<Targets> {
        if !self.link.connected || self.departure.stop.is_some() || self.context.timing.confirm.is_none() {
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

    /// Renews as often as those do whose silence this worker judges: a leader's is judged by all.
    pub(super) fn keep_pace(&mut self) {
        let led = self.membership.leader().record().and_then(|leader| self.membership.member(leader.slot));
        let shortest = match &self.leader {
            Some(leader) => leader.shortest_observed_lease(),
            None => led.map_or(Duration::MAX, |member| member.observed_lease),
        };
        if let Standing::Holding(lease) = &mut self.standing {
            lease.keep_pace(&self.context, shortest);
        }
    }

    pub(super) fn lead(&mut self, outbox: &mut Outbox) {
        self.keep_pace();
        let Standing::Holding(lease) = &self.standing else { return };
        let leader_key = self.membership.leader().record().map_or(Key::Leader, |record| Key::Slot(record.slot));
        let unread = matches!(self.membership.leader(), LeaderKey::Unreadable { .. });
        let shows = |watched: &Watched| {
            watched.is_listed() && watched.interest.covers(leader_key) && (!unread || watched.has_listed_all())
        };
        let all = |watched: &Option<Watched>| watched.as_ref().is_some_and(Watched::has_listed_all);
        let named_at = self.leadership.catches_up_with();
        let is_behind = named_at.zip(self.link.members.as_ref()).is_some_and(|(at, watched)| watched.is_behind(at))
            && !self.context.has(PlantedBug::LeadUnlisted);
        // A store that has lost the plan leaves nobody but the members to tell who may still work, so that the list of them
        // must reach as far as this worker's naming. It is one claim old, and a replica that lags may not have it yet.
        if is_behind {
            self.membership.read_by(self.context.now + self.context.timing.retry);
        }
        // Without a connection nothing that it would write can be sent, and what it waits for cannot be heard.
        if self.link.connected {
            let view = leadership::Candidate {
                context: &self.context,
                probing: &self.probing,
                may_act: self.has_right(),
                own: self.own.instance,
                lease,
                membership: &self.membership,
                members_listed: self.link.members.as_ref().is_some_and(shows),
                all_listed: all(&self.link.members) && all(&self.link.plan) && !is_behind,
                stopping: self.departure.stop.is_some() || self.loss.starting_over,
            };
            self.leadership.decide(&view, &mut self.plan, outbox);
        }
        match self.leadership.term() {
            None => self.leader = None,
            Some(term) if self.leader.as_ref().is_none_or(|leader| leader.term() != term) => {
                // A follower does not watch the others: it could not have heard their silence broken. It has watched the
                // leader before it, whose silence was what made it claim.
                self.membership.start_anew(&self.context, self.leadership.predecessor());
                self.leader = Some(Leader::new(&self.context, term, self.task.partitions.as_ref(), &self.plan));
            }
            Some(_) => {}
        }
        // A leader without a valid lease stays what it is until it hears of another, but decides nothing: by now others may
        // have taken it for dead. Its last append, if one is on its way, fails once another has taken over.
        if self.may_lead()
            && let (Some(leader), Standing::Holding(lease)) = (&mut self.leader, &self.standing)
        {
            let view = leader::Office {
                context: &self.context,
                strategy: &*self.task.strategy,
                own_slot: lease.slot,
                own: self.own.instance,
                lease,
                record_limit: self.task.record_limit,
                store_regressed: self.loss.noticed_at,
                // If its own writes do not get through, those of others may not either: their silence says nothing.
                heard: lease.is_fresh(&self.context),
                probing: &self.probing,
                heard_of: self.ownership.heard(),
            };
            leader.decide(&view, &mut self.membership, &mut self.plan, outbox);
            // It outlives the leadership: should the store lose the plan, the next one goes beyond it.
            self.ownership.observe_heard(leader.reached());
        }
    }

    /// Says so where this worker has not the settings of the one that leads.
    pub(super) fn compare_settings(&mut self, outbox: &mut Outbox) {
        let leads = self.membership.leader().record().filter(|leads| leads.instance != self.own.instance);
        let member = leads.and_then(|leads| Some((leads.slot, self.membership.member(leads.slot)?.record()?)));
        let leader = member.and_then(|(slot, record)| Some((slot, record.shared.as_ref()?)));
        self.agreement.decide(self.context.now, self.context.timing.lease, &self.own.shared, leader, outbox);
    }
}
