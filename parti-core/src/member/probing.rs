//! Asks whether the processes that matter are there, and what follows from nobody listening.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::context::Context;
use crate::event::ProbeOutcome;
use crate::ids::{Instance, ProbeId, Revision, ServerId, Slot};
use crate::member::membership::{Member, Membership};
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::record::{MemberPhase, MemberRecord};
use crate::time::{Duration, Instant, earliest};

/// How many workers see whether the leader is there.
const MAX_DEPUTIES: usize = 3;
/// How many of the workers at one server may be asked to ask in place of this one: should one not answer, the next is.
const MAX_HELPERS: usize = 8;
/// How many probes of a newcomer are on their way at a time. Hundreds that start together ask each for hundreds: all at once
/// would keep the server from everything else, their answers too.
const AT_ONCE: usize = 32;

/// Who asks for whom: a leader for every member, its deputies for the leader, a newcomer for those that may be dead.
///
/// It asks slowly, and quickly those for whom nobody has listened. *Nobody listens* is one server's word, and counts only
/// of that server at which the process has said that it listens: asked directly where this worker's connection ends
/// there too, else through another worker there. It is a row of such words, about one revision of the record, that says
/// that a process is gone; any other outcome ends it, and so does a break of this worker's own connection. See
/// [`Presence`](crate::member::presence::Presence) for the other side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Probing {
    next_round: Instant,
    /// The targets of the last round.
    targets: Option<Targets>,
    last: ProbeId,
    /// The probes that are on their way.
    asked: BTreeMap<ProbeId, Asked>,
    suspects: BTreeMap<Slot, Suspect>,
    /// When each suspect is asked for next.
    due: BTreeSet<(Instant, Slot)>,
    /// Whom a newcomer is to ask for as soon as answers have come for others.
    queue: VecDeque<Slot>,
    /// The suspects whose rows are long enough.
    gone: BTreeSet<Slot>,
    /// The processes that can be asked to ask, by the server: as of the last round.
    helpers: BTreeMap<ServerId, Vec<(Slot, Instance)>>,
    /// How many workers there were at the last round.
    workers: usize,
    /// Takes turns among helpers.
    turn: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    slot: Slot,
    instance: Instance,
    revision: Revision,
    sent_at: Instant,
}

/// Somebody for whom nobody listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Suspect {
    /// The revision that is judged.
    revision: Revision,
    /// When the row began: with the first word from its own server.
    first: Option<Instant>,
    due: Instant,
}

/// The processes to ask for in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Targets {
    /// A leader asks for everyone else.
    Others { own: Slot },
    /// A deputy asks for the leader, a newcomer perhaps for the one slot that it wants.
    One(Slot),
    /// A newcomer asks for everyone of whom it has not heard.
    Unheard,
}

/// The parts from which probing is decided.
pub(crate) struct Prober<'a> {
    pub(crate) context: &'a Context,
    pub(crate) membership: &'a Membership,
    /// The server that this worker's connection ends at.
    pub(crate) server: Option<&'a ServerId>,
}

/// The next probe of a row.
struct NextProbe {
    instance: Instance,
    revision: Revision,
    confirm: Duration,
    through: Option<Instance>,
}

/// How to ask at the server of a record.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    /// This worker itself.
    Direct,
    /// A process whose connection ends there.
    Through(Instance),
}

impl Way {
    fn through(self) -> Option<Instance> {
        match self {
            Self::Direct => None,
            Self::Through(instance) => Some(instance),
        }
    }
}

impl Probing {
    /// The process that a probe on its way asks for.
    pub(crate) fn target(&self, probe: ProbeId) -> Option<(Slot, Instance)> {
        self.asked.get(&probe).map(|asked| (asked.slot, asked.instance))
    }

    /// Takes in what came back; true if there may be something to decide.
    pub(crate) fn observe_probed(
        &mut self,
        view: &Prober<'_>,
        probe: ProbeId,
        outcome: ProbeOutcome,
        server: Option<&ServerId>,
    ) -> bool {
        let Some(asked) = self.asked.remove(&probe) else { return false };
        let member = view.membership.member(asked.slot);
        let record = member.and_then(|member| Some((member.revision, member.record()?)));
        let is_there = |record: &MemberRecord| {
            // One that has gone on purpose meanwhile is waited for, and nobody need listen there.
            record.instance == asked.instance && record.phase != MemberPhase::Restarting
        };
        let Some((revision, record)) = record.filter(|(_, record)| is_there(record)) else {
            return self.forget(asked.slot);
        };
        let elsewhere = view.context.has(PlantedBug::ProberElsewhere);
        match outcome {
            ProbeOutcome::NobodyListens if record.server.is_some() && record.server.as_ref() == server || elsewhere => {
                self.observe_nobody(view, &asked, revision, record)
            }
            ProbeOutcome::NobodyListens => {
                let goes_on = view.context.has(PlantedBug::RowThroughElsewhere);
                if !(goes_on && self.suspects.contains_key(&asked.slot)) {
                    // Its own server is to be asked, if there is anybody to do that.
                    self.forget(asked.slot);
                    if self.way_to(view, asked.slot, record).is_some() {
                        self.suspect(asked.slot, Suspect { revision, first: None, due: view.context.now });
                    }
                }
                false
            }
            ProbeOutcome::TimedOut if view.context.has(PlantedBug::RowThroughTimeout) => false,
            ProbeOutcome::Answered if view.context.has(PlantedBug::RowThroughAnswer) => false,
            ProbeOutcome::TimedOut | ProbeOutcome::Answered => self.forget(asked.slot),
        }
    }

    /// This worker's connection is gone. Its rows have ended: whoever could be heard meanwhile could not be heard by it,
    /// and who was cut off together with it needs as long to come back.
    pub(crate) fn observe_lost(&mut self, context: &Context) {
        if !context.has(PlantedBug::RowThroughBreak) {
            self.asked.clear();
            self.queue.clear();
            self.suspects.clear();
            self.due.clear();
            self.gone.clear();
        }
    }

    /// What is known of a slot may have changed: a row about another revision has ended, also should that one come back.
    pub(crate) fn observe_member(&mut self, context: &Context, slot: Slot, membership: &Membership) {
        let any = context.has(PlantedBug::RowOverRevisions);
        let Some(suspect) = self.suspects.get(&slot).filter(|_| !any) else { return };
        if membership.member(slot).is_none_or(|member| member.revision != suspect.revision) {
            self.forget(slot);
        }
    }

    /// Nobody listens at the process's own server. True if that makes a row.
    fn observe_nobody(&mut self, view: &Prober<'_>, asked: &Asked, revision: Revision, record: &MemberRecord) -> bool {
        let Some(confirm) = confirm_of(view.context, record) else { return false };
        let any = view.context.has(PlantedBug::RowOverRevisions);
        if asked.revision != revision && !any {
            self.forget(asked.slot);
            return false;
        }
        let row = self.suspects.get(&asked.slot).filter(|suspect| suspect.revision == revision || any);
        let first = row.and_then(|suspect| suspect.first);
        let at_once = view.context.has(PlantedBug::EvictUnconfirmed);
        if first.is_some_and(|first| asked.sent_at >= first + confirm) || at_once {
            return self.gone.insert(asked.slot);
        }
        if first.is_none() {
            let due = view.context.now + view.context.config.probe_interval.min(confirm);
            self.suspect(asked.slot, Suspect { revision, first: Some(view.context.now), due });
        }
        false
    }

    fn suspect(&mut self, slot: Slot, suspect: Suspect) {
        self.forget(slot);
        self.due.insert((suspect.due, slot));
        self.suspects.insert(slot, suspect);
    }

    /// Its row, if there is one, has ended. True if something rested on it.
    fn forget(&mut self, slot: Slot) -> bool {
        if let Some(suspect) = self.suspects.remove(&slot) {
            self.due.remove(&(suspect.due, slot));
        }
        self.gone.remove(&slot)
    }

    /// Whether the process that has this slot is gone, as a row of probes about this very revision says.
    pub(crate) fn is_gone(&self, context: &Context, slot: Slot, member: &Member) -> bool {
        let any = context.has(PlantedBug::RowOverRevisions) || context.has(PlantedBug::EvictUnconfirmed);
        let same = self.suspects.get(&slot).is_some_and(|suspect| suspect.revision == member.revision);
        self.gone.contains(&slot) && (same || any)
    }

    /// The slots whose processes are gone, as far as rows of probes say.
    pub(crate) fn gone<'a>(
        &'a self,
        context: &'a Context,
        membership: &'a Membership,
    ) -> impl Iterator<Item = Slot> + 'a {
        let is_gone = |slot: &Slot| membership.member(*slot).is_some_and(|member| self.is_gone(context, *slot, member));
        self.gone.iter().copied().filter(is_gone)
    }

    /// Whether nobody listens for the process of this slot, as far as the last answers say.
    pub(crate) fn is_suspect(&self, slot: Slot) -> bool {
        self.suspects.contains_key(&slot)
    }

    /// For how many nobody listens, and how many there were at the last round.
    pub(crate) fn absent(&self) -> (usize, usize) {
        (self.suspects.len(), self.workers)
    }

    /// Asks for whom it is time to ask. True if that was everybody.
    pub(crate) fn decide(&mut self, view: &Prober<'_>, targets: Targets, outbox: &mut Outbox) -> bool {
        while self.due.first().is_some_and(|(due, _)| *due <= view.context.now)
            && let Some((_, slot)) = self.due.pop_first()
        {
            self.ask_again(view, slot, outbox);
        }
        let before = self.targets.replace(targets);
        let asks_all = self.next_round <= view.context.now || before != Some(targets);
        if asks_all {
            self.next_round = view.context.now + view.context.config.probe_interval * 2;
            self.give_up_waiting(view);
            self.look_around(view.membership);
            self.ask_all(view, targets, outbox);
        }
        self.ask_queued(view, outbox);
        asks_all
    }

    /// Counts as timed out what has not come back for long.
    fn give_up_waiting(&mut self, view: &Prober<'_>) {
        let patience = view.context.config.probe_interval * 8;
        let is_late = |asked: &Asked| view.context.now >= asked.sent_at + patience;
        let late: Vec<Slot> = self.asked.values().filter(|asked| is_late(asked)).map(|asked| asked.slot).collect();
        self.asked.retain(|_, asked| !is_late(asked));
        if view.context.has(PlantedBug::RowThroughTimeout) {
            return;
        }
        for slot in late {
            self.forget(slot);
        }
    }

    /// Asks once more for one for whom nobody listened, so that the last probe of a row is sent as early as it may be.
    fn ask_again(&mut self, view: &Prober<'_>, slot: Slot, outbox: &mut Outbox) {
        let Some((suspect, probe)) = self.next_of_row(view, slot) else {
            self.forget(slot);
            return;
        };
        self.ask(view.context.now, slot, probe.instance, probe.revision, probe.through, outbox);
        let regular = view.context.now + view.context.config.probe_interval;
        let decisive = suspect.first.map(|first| first + probe.confirm).filter(|at| *at > view.context.now);
        let due = decisive.map_or(regular, |at| at.min(regular));
        self.due.insert((due, slot));
        self.suspects.insert(slot, Suspect { due, ..suspect });
    }

    /// The next probe of a row; none where the record is another one by now, or nobody can ask at its server.
    fn next_of_row(&mut self, view: &Prober<'_>, slot: Slot) -> Option<(Suspect, NextProbe)> {
        let suspect = self.suspects.get(&slot).copied()?;
        let member = view.membership.member(slot)?;
        let record = member.record()?;
        let goes_on = suspect.revision == member.revision || view.context.has(PlantedBug::RowOverRevisions);
        if !goes_on {
            return None;
        }
        let confirm = confirm_of(view.context, record)?;
        let through = self.way_to(view, slot, record)?.through();
        Some((suspect, NextProbe { instance: record.instance, revision: member.revision, confirm, through }))
    }

    fn ask_all(&mut self, view: &Prober<'_>, targets: Targets, outbox: &mut Outbox) {
        let (first, last) = match targets {
            Targets::One(slot) => (slot, slot),
            Targets::Unheard => return self.queue_unheard(view),
            Targets::Others { .. } => (Slot::new(0), Slot::new(u32::MAX)),
        };
        for (slot, member) in view.membership.members_between(first, last) {
            let Some(record) = present(member) else { continue };
            let is_own = matches!(targets, Targets::Others { own } if own == slot);
            if !is_own && !self.suspects.contains_key(&slot) {
                self.ask(view.context.now, slot, record.instance, member.revision, None, outbox);
            }
        }
    }

    /// Of whom a newcomer has not heard it asks in turn: nobody a second time while a probe is on its way.
    fn queue_unheard(&mut self, view: &Prober<'_>) {
        let asked: BTreeSet<Slot> = self.asked.values().map(|asked| asked.slot).collect();
        let unheard = view.membership.members().filter(|(_, member)| is_unheard(view, member)).map(|(slot, _)| slot);
        self.queue = unheard.filter(|slot| !asked.contains(slot)).collect();
    }

    fn ask_queued(&mut self, view: &Prober<'_>, outbox: &mut Outbox) {
        while self.asked.len() < AT_ONCE
            && let Some(slot) = self.queue.pop_front()
        {
            let member = view.membership.member(slot).filter(|member| is_unheard(view, member));
            let Some((member, record)) = member.and_then(|member| Some((member, present(member)?))) else { continue };
            if !self.suspects.contains_key(&slot) {
                self.ask(view.context.now, slot, record.instance, member.revision, None, outbox);
            }
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        slot: Slot,
        instance: Instance,
        revision: Revision,
        through: Option<Instance>,
        outbox: &mut Outbox,
    ) {
        self.last = self.last.next();
        self.asked.insert(self.last, Asked { slot, instance, revision, sent_at: now });
        outbox.push(Action::Probe { probe: self.last, slot, instance, through });
    }

    /// Chooses the process that is to ask at the server of this record; none where nobody can.
    fn way_to(&mut self, view: &Prober<'_>, slot: Slot, record: &MemberRecord) -> Option<Way> {
        if view.context.has(PlantedBug::ProberElsewhere) {
            return Some(Way::Direct);
        }
        let server = record.server.as_ref()?;
        if view.server == Some(server) {
            return Some(Way::Direct);
        }
        let suspects = &self.suspects;
        let can_ask = |(helper, _): &&(Slot, Instance)| *helper != slot && !suspects.contains_key(helper);
        let helpers: Vec<_> = self.helpers.get(server)?.iter().filter(can_ask).collect();
        let (_, instance) = helpers.get(self.turn.checked_rem(helpers.len())?)?;
        self.turn = self.turn.wrapping_add(1);
        Some(Way::Through(*instance))
    }

    /// Counts the workers, and sees who of them could ask at which server.
    fn look_around(&mut self, membership: &Membership) {
        self.helpers.clear();
        self.workers = 0;
        for (slot, member) in membership.members() {
            let Some(record) = present(member) else { continue };
            self.workers += 1;
            if let Some(server) = &record.server {
                let helpers = self.helpers.entry(server.clone()).or_default();
                if helpers.len() < MAX_HELPERS {
                    helpers.push((slot, record.instance));
                }
            }
        }
    }

    /// The workers that are to see whether the leader in slot `own` is there: the next in line, those at its own server
    /// first, since nobody else's word counts.
    pub(crate) fn deputies(&self, own: Slot, server: Option<&ServerId>, membership: &Membership) -> Vec<Slot> {
        let works =
            |(slot, member): &(Slot, &Member)| *slot != own && is_active(member) && !self.suspects.contains_key(slot);
        let in_line = || {
            let after = membership.members_between(own.next(), Slot::new(u32::MAX));
            after.chain(membership.members_between(Slot::new(0), own)).filter(works)
        };
        let is_near =
            |member: &Member| server.is_some() && member.record().is_some_and(|r| r.server.as_ref() == server);
        let near = in_line().filter(|(_, member)| is_near(member));
        let far = in_line().filter(|(_, member)| !is_near(member));
        let mut deputies: Vec<Slot> = near.chain(far).map(|(slot, _)| slot).take(MAX_DEPUTIES).collect();
        deputies.sort_unstable();
        deputies
    }

    /// When it is time to ask again for these.
    pub(crate) fn deadline(&self, targets: Targets) -> Option<Instant> {
        let round = if self.targets == Some(targets) { self.next_round } else { Instant::ORIGIN };
        let queued = !self.queue.is_empty() && self.asked.len() < AT_ONCE;
        earliest([Some(round), self.due.first().map(|(due, _)| *due), queued.then_some(Instant::ORIGIN)])
    }
}

/// Whether there might be a better choice than these: fewer than a leader names, or one that no longer works.
pub(crate) fn lacks_deputy(deputies: &[Slot], membership: &Membership) -> bool {
    deputies.len() < MAX_DEPUTIES || !deputies.iter().all(|slot| membership.member(*slot).is_some_and(is_active))
}

/// The record of one whose process should be there: it has not left for a restart.
fn present(member: &Member) -> Option<&MemberRecord> {
    let record = member.record().filter(|record| record.phase != MemberPhase::Restarting);
    record.map(|record| &**record)
}

/// Whether a newcomer does not know if the process is there.
fn is_unheard(view: &Prober<'_>, member: &Member) -> bool {
    present(member).is_some() && (!member.heard || member.is_late(view.context.now, Instant::ORIGIN))
}

fn is_active(member: &Member) -> bool {
    member.record().is_some_and(|record| record.phase == MemberPhase::Active)
}

/// Over how long nobody must have listened: as the process says by which it judges itself, whatever the judge's own setting.
fn confirm_of(context: &Context, record: &MemberRecord) -> Option<Duration> {
    context.timing.confirm.map(|own| record.confirm_ms.map_or(own, Duration::from_millis))
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::stored::key::Key;
    use crate::stored::record::Record;

    const SLOT: Slot = Slot::new(3);
    /// Another one at the same server.
    const HELPER: Slot = Slot::new(4);

    /// What a prober knows of the group, and what it has asked.
    struct Stage {
        context: Context,
        membership: Membership,
        probing: Probing,
    }

    impl Stage {
        /// Both listen at this server, and have been asked for.
        fn asked(server: &str) -> Self {
            let context = Context::at(Instant::ORIGIN);
            let membership = Membership::new(&context);
            let mut stage = Self { context, membership, probing: Probing::default() };
            stage.see(SLOT, 11, MemberPhase::Active, server, true);
            stage.see(HELPER, 10, MemberPhase::Active, server, true);
            let own = ServerId::new("own");
            let view = Prober { context: &stage.context, membership: &stage.membership, server: Some(&own) };
            stage.probing.decide(&view, Targets::Others { own: Slot::new(0) }, &mut Outbox::default());
            stage
        }

        fn see(&mut self, slot: Slot, revision: u64, phase: MemberPhase, server: &str, live: bool) {
            let server = Some(ServerId::new(server));
            let record = MemberRecord { phase, server, ..MemberRecord::new(Instance::new(slot.value().into())) };
            let record = Record::Member(Arc::new(record));
            self.membership.observe_entry(&self.context, Key::Slot(slot), Revision::new(revision), &record, live);
        }

        /// Nobody listens, as the server says that this worker is connected to, for whomever it has asked.
        fn hear_of_nobody(&mut self) {
            let own = ServerId::new("own");
            let view = Prober { context: &self.context, membership: &self.membership, server: Some(&own) };
            for probe in self.probing.asked.keys().copied().collect::<Vec<_>>() {
                self.probing.observe_probed(&view, probe, ProbeOutcome::NobodyListens, Some(&own));
            }
        }
    }

    /// Asks for a process, whose record is another one by the time that nobody is said to listen. Whether it is suspected.
    fn is_suspected_after(phase: MemberPhase, server: &str) -> bool {
        let mut stage = Stage::asked(server);
        stage.see(SLOT, 12, phase, server, true);
        stage.probing.observe_member(&stage.context, SLOT, &stage.membership);
        stage.hear_of_nobody();
        stage.probing.is_suspect(SLOT)
    }

    #[test]
    fn nobody_is_suspected_who_said_that_it_restarts_while_it_was_asked_for() {
        assert!(is_suspected_after(MemberPhase::Active, "other"));
        assert!(!is_suspected_after(MemberPhase::Restarting, "other"));
        assert!(!is_suspected_after(MemberPhase::Restarting, "own"));
    }

    #[test]
    fn a_newcomer_asks_for_few_at_a_time_and_for_nobody_twice_before_there_is_an_answer() {
        let mut stage = Stage::asked("own");
        for slot in 10..510 {
            stage.see(Slot::new(slot), u64::from(slot) + 10, MemberPhase::Active, "own", false);
        }
        let mut asked_for: Vec<Slot> = Vec::new();
        stage.probing = Probing::default();
        for round in 0..40 {
            let mut outbox = Outbox::default();
            stage.context.now = Instant::ORIGIN + Duration::from_millis(100) * round;
            let view = Prober { context: &stage.context, membership: &stage.membership, server: None };
            stage.probing.decide(&view, Targets::Unheard, &mut outbox);
            assert!(stage.probing.asked.len() <= AT_ONCE);
            while let Some(action) = outbox.pop() {
                let Action::Probe { slot, .. } = action else { continue };
                asked_for.push(slot);
            }
            let answered: Vec<_> = stage.probing.asked.iter().map(|(id, asked)| (*id, asked.slot)).take(20).collect();
            for (probe, slot) in answered {
                stage.membership.observe_answered(stage.context.now, slot, Instance::new(slot.value().into()));
                let view = Prober { context: &stage.context, membership: &stage.membership, server: None };
                stage.probing.observe_probed(&view, probe, ProbeOutcome::Answered, None);
            }
        }
        let all: BTreeSet<Slot> = asked_for.iter().copied().collect();
        assert_eq!(all.len(), 500, "everybody was asked for of whom nothing was heard");
        assert_eq!(asked_for.len(), all.len(), "and once");
    }

    #[test]
    fn a_row_ends_when_whoever_probes_is_cut_off() {
        let mut stage = Stage::asked("own");
        stage.hear_of_nobody();
        assert!(stage.probing.is_suspect(SLOT));
        stage.probing.observe_lost(&stage.context);
        assert!(!stage.probing.is_suspect(SLOT));
    }

    #[test]
    fn what_comes_back_after_a_break_begins_no_row() {
        let mut stage = Stage::asked("own");
        stage.probing.observe_lost(&stage.context);
        stage.hear_of_nobody();
        assert!(!stage.probing.is_suspect(SLOT));
    }
}
