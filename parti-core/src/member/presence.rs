//! A worker's own presence: the second, short lease, for which it asks itself.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Notice};
use crate::context::Context;
use crate::ids::{CheckId, ServerId, Session};
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::time::{Instant, earliest};

/// How many checks may be on their way; by then an older one proves nothing any more.
const MAX_CHECKS: usize = 4;
/// How many checks must be missed before the probe subject is subscribed anew.
const MISSED_BEFORE_LISTENING: u32 = 4;
/// How often that number is doubled, while it does not help.
const MAX_DOUBLINGS: u32 = 4;

/// Whether this process is where others would look for it.
///
/// It asks its own probe subject through its own connection. A check that was sent at *s* and came back gives the right
/// to act until *s* plus three quarters of [`probe_confirm`](crate::Config::probe_confirm). Others take it for gone only
/// after nobody has listened, at its own server, for the whole of it. They cannot have begun to see that before *s*,
/// since a subscription that has ended does not return: another one is another session.
///
/// What they judge is one revision of its record. So the checks of a session count only once a renewal has committed that
/// was sent after one of them had come back, and names the server of that session: nothing that was seen before holds of
/// that revision. What was earned on an earlier session lasts to its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // Independent facts, each with a life of its own.
pub(crate) struct Presence {
    session: Option<Session>,
    server: Option<ServerId>,
    /// The last checks that were sent on this session, and when.
    checks: [Option<(CheckId, Instant)>; MAX_CHECKS],
    last_check: CheckId,
    next_check: Instant,
    /// Whether a check of this session has come back in time, and since when, so to say: see [`Evidence`].
    heard: bool,
    evidence: Evidence,
    /// Until when the checks that came back would give the right to act.
    earned: Option<Instant>,
    /// Whether a renewal that was sent on the present evidence is committed.
    proven: bool,
    /// Until when this worker may act; none before the first proof.
    until: Option<Instant>,
    /// How many checks were due since one came back in time or the probe subject was to be subscribed anew.
    missed: u32,
    /// How often it was to be, since a check came back.
    listened: u32,
    /// Since when, while connected, no check has come back in time.
    silent_since: Option<Instant>,
    /// Whether a check has come back too late since one came back in time.
    late: bool,
    told: bool,
}

/// Counts the doubts: what a renewal proves is over with the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence(u64);

impl Presence {
    /// The probe subject is subscribed, on a new session. False if that is old news.
    pub(crate) fn observe_listening(&mut self, context: &Context, session: Session, server: ServerId) -> bool {
        if self.session >= Some(session) || context.timing.confirm.is_none() {
            return false;
        }
        self.doubt();
        self.session = Some(session);
        if self.server.is_none() || !context.has(PlantedBug::StaleServer) {
            self.server = Some(server);
        }
        self.checks = [None; MAX_CHECKS];
        self.next_check = context.now;
        true
    }

    /// A check has come back. True if that calls for a renewal: it is the first one since the last doubt.
    pub(crate) fn observe_present(&mut self, context: &Context, session: Session, check: CheckId) -> bool {
        let sent = self.checks.iter().flatten().find(|(sent, _)| *sent == check && self.session == Some(session));
        let (Some((_, sent_at)), Some(confirm)) = (sent, context.timing.confirm) else { return false };
        let counted_from = if context.has(PlantedBug::PresenceFromReceipt) { context.now } else { *sent_at };
        let lasts = if context.has(PlantedBug::PresenceTooLong) { confirm * 13 / 10 } else { confirm * 3 / 4 };
        let earned = counted_from + lasts;
        self.late |= earned <= context.now;
        if earned <= context.now {
            return false;
        }
        self.earned = self.earned.max(Some(earned));
        self.late = false;
        (self.missed, self.listened) = (0, 0);
        let is_first = !core::mem::replace(&mut self.heard, true);
        self.proven |= context.has(PlantedBug::ResumeUnrenewed);
        if self.proven {
            self.until = self.until.max(self.earned);
        }
        is_first
    }

    /// The connection is gone: nothing will come back, and there is nobody to ask.
    pub(crate) fn observe_lost(&mut self) {
        self.missed = 0;
        self.silent_since = None;
    }

    /// Whether this process has not heard itself for a whole lease, although it is connected. Then it holds nothing up any
    /// more: it lets its lease run out, and claims nothing until it hears itself.
    pub(crate) fn is_absent(&self, context: &Context) -> bool {
        let silent = self.silent_since.is_some_and(|since| context.now >= since + context.timing.lease);
        silent && context.timing.needs_presence
    }

    /// The evidence that a write may name that is sent now, and that it proves if it commits.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        self.heard.then_some(self.evidence)
    }

    /// The server to name in a write that is sent now.
    pub(crate) fn server_to_name(&self) -> Option<ServerId> {
        self.evidence().and_then(|_| self.server.clone())
    }

    /// The server that this worker's connection ends at, as far as it knows.
    pub(crate) fn server(&self) -> Option<&ServerId> {
        self.server.as_ref()
    }

    /// A write of the own record that was sent on this evidence is committed.
    pub(crate) fn observe_renewed(&mut self, sent_on: Option<Evidence>) {
        if sent_on == Some(self.evidence) {
            self.proven = true;
            self.until = self.until.max(self.earned);
        }
    }

    /// Whether a check has come back that no committed renewal has followed.
    pub(crate) fn wants_renewal(&self) -> bool {
        self.heard && !self.proven
    }

    /// Another tenure begins with a claim that was sent on this evidence: nothing else is proven for it.
    pub(crate) fn start_over(&mut self, sent_on: Option<Evidence>) {
        (self.proven, self.until) = (false, None);
        self.observe_renewed(sent_on);
        self.evidence.0 += 1;
    }

    /// Until when this worker may act; none before the first proof.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes back all evidence: what came before proves nothing any more.
    fn doubt(&mut self) {
        self.evidence.0 += 1;
        (self.heard, self.proven, self.earned) = (false, false, None);
    }

    /// Sends a check if one is due; subscribes anew if none has come back for too long.
    pub(crate) fn decide(&mut self, context: &Context, outbox: &mut Outbox) {
        let Some(confirm) = context.timing.confirm else { return };
        if self.heard && self.earned.is_none_or(|earned| earned <= context.now) {
            self.doubt();
        }
        self.silent_since = if self.heard { None } else { self.silent_since.or(Some(context.now)) };
        if self.heard && core::mem::take(&mut self.told) {
            outbox.notice(Notice::PresentAgain);
        }
        if context.now < self.next_check {
            return;
        }
        self.next_check = context.now + confirm / 4;
        // Counted in checks, not in time: a process that was frozen has missed nothing but the time.
        if self.missed >= MISSED_BEFORE_LISTENING << self.listened.min(MAX_DOUBLINGS) {
            (self.missed, self.listened) = (0, self.listened + 1);
            if !core::mem::replace(&mut self.told, true) {
                outbox.notice(Notice::NotPresent { late: self.late });
            }
            outbox.push(Action::Listen);
        }
        self.missed += 1;
        if let Some(session) = self.session {
            self.last_check = self.last_check.next();
            let check = self.last_check;
            self.checks.rotate_left(1);
            self.checks[MAX_CHECKS - 1] = Some((check, context.now));
            outbox.push(Action::Check { session, check });
        }
    }

    /// When something is due: a check, another subscription, or the end of what was earned.
    pub(crate) fn deadline(&self, now: Instant, connected: bool) -> Option<Instant> {
        let ends = [self.until, self.earned].map(|end| end.filter(|end| *end > now));
        let check = connected.then_some(self.next_check);
        earliest([ends[0], ends[1], check])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checks that are asked for now.
    fn checks(presence: &mut Presence, context: &Context) -> alloc::vec::Vec<(Session, CheckId)> {
        let mut outbox = Outbox::default();
        presence.decide(context, &mut outbox);
        let check = |action| match action {
            Action::Check { session, check } => Some((session, check)),
            _ => None,
        };
        core::iter::from_fn(|| outbox.pop()).filter_map(check).collect()
    }

    /// A session counts from the first renewal that was sent after a check of it had come back.
    #[test]
    fn a_renewal_that_was_sent_before_a_check_came_back_proves_nothing() {
        let mut context = Context::at(Instant::from_millis(1_000));
        let confirm = context.timing.confirm.expect("probes are on");
        let mut presence = Presence::default();
        for session in [1, 2] {
            let before = presence.until();
            presence.observe_listening(&context, Session::new(session), ServerId::new("a"));
            let sent_before = presence.evidence();
            assert_eq!((sent_before, presence.server_to_name()), (None, None));
            let (sent_at, sent) = (context.now, checks(&mut presence, &context));
            let [(session, check)] = sent[..] else { panic!("{sent:?}") };
            context.now = context.now + confirm / 8;
            assert!(presence.observe_present(&context, session, check), "it calls for a renewal");
            presence.observe_renewed(sent_before);
            assert_eq!(presence.until(), before);

            let sent_after = presence.evidence();
            assert_eq!(presence.server_to_name(), Some(ServerId::new("a")));
            presence.observe_renewed(sent_after);
            assert_eq!(presence.until(), Some(sent_at + confirm * 3 / 4));
            context.now = context.now + confirm / 8;
        }
    }
}
