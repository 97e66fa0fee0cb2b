//! One state of a small world, what can happen next in it, and what comes of that.

use std::collections::BTreeSet;
use std::time::Duration;

use super::scope::{Bounds, Fault, Orders, Step};
use crate::told::fact::ProcessId;
use crate::world::World;
use crate::world::clock::Moment;
use crate::world::event::Shown;
use crate::world::event::What;
use crate::world::probes::makes_a_difference;
use crate::world::process::Life;
use crate::world::schedule::Schedule;

/// What is put at this time comes at any time from now on, or never.
pub(super) const LATE: Moment = Moment::from_nanos(u64::MAX - 1);
/// What is put later than this comes at any time from now on, at the latest when as much time has passed as it is later.
pub(super) const LATE_BUT: Moment = Moment::from_nanos(1 << 62);
/// How many times as long as a lease, as others see it, what must come in the end may take.
const LEASES_LATE: u32 = 2;

/// A small world, and what may still go wrong in it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) faults_left: u32,
    /// What is longer ago than this makes no difference to anybody, in nanoseconds.
    pub(super) horizon: u64,
    /// How many servers processes connect to.
    pub(super) servers: u32,
    /// Who is connected again before time passes.
    pub(super) connects_at_once: BTreeSet<ProcessId>,
    orders: Orders,
    /// When the last fault came, or the beginning.
    struck_at: Moment,
}

impl State {
    pub(super) fn new(world: World, bounds: &Bounds, horizon: u64) -> Self {
        let struck_at = world.ground.now;
        let Bounds { faults: faults_left, orders, .. } = *bounds;
        let (servers, connects_at_once) = (bounds.servers.max(1), BTreeSet::new());
        let mut state = Self { world, faults_left, horizon, servers, connects_at_once, orders, struck_at };
        state.tidy();
        state.follow_up(None);
        state
    }

    /// How long ago the last fault came, or the beginning.
    pub(super) fn since_fault(&self) -> Duration {
        self.world.ground.now.since(self.struck_at)
    }

    /// What is to come, in the order in which it was pushed.
    pub(super) fn pending(&self) -> Vec<(Moment, u64, &What)> {
        let mut pending: Vec<_> = self.world.ground.schedule.entries().collect();
        pending.sort_unstable_by_key(|(_, number, _)| *number);
        pending
    }

    /// Everything that can happen next: first what costs nothing, then the faults.
    pub(super) fn choices(&self, faults: &[Fault]) -> Vec<Step> {
        let pending = self.pending();
        let can_be = |place: &usize| self.is_free(&pending, *place);
        let due: Vec<usize> = (0..pending.len()).filter(|place| pending[*place].0 <= self.world.ground.now).collect();
        let due: Vec<usize> = due.into_iter().filter(can_be).collect();
        let late: Vec<usize> = (0..pending.len()).filter(|place| is_late(pending[*place].0)).filter(can_be).collect();
        let mut steps: Vec<_> = due.iter().chain(&late).copied().map(|place| Step::Happen(pending[place].1)).collect();
        let must_come = |place: &usize| comes_by(pending[*place].0).is_some_and(|by| by <= self.world.ground.now);
        let nothing_must_come =
            due.is_empty() && !late.iter().any(must_come) && !self.must_wake() && self.connects_at_once.is_empty();
        if nothing_must_come && self.next_deadline().is_some() {
            steps.push(Step::Pass);
        }
        for (process, one) in self.world.ground.living() {
            if let Life::Paused { .. } = one.life {
                steps.push(Step::Wake(process));
            }
            if one.link.broken {
                steps.push(Step::Mend(process));
            }
            if one.ear.is_refused(self.world.ground.now) {
                steps.push(Step::Allow(process));
            }
        }
        if self.world.servers.is_any_cut() {
            steps.push(Step::MendRoute);
        }
        if self.faults_left > 0 {
            if faults.contains(&Fault::Late) {
                steps.extend(
                    due.iter().filter(|place| can_be_late(pending[**place].2)).map(|p| Step::Delay(pending[*p].1)),
                );
            }
            steps.extend(self.faults(faults));
        }
        steps
    }

    /// Whether nothing else must come first, and whoever it comes to is there.
    fn is_free(&self, pending: &[(Moment, u64, &What)], place: usize) -> bool {
        let what = pending[place].2;
        if let Some(process) = what.needs() {
            let one = self.world.ground.process(process);
            let runs = one.life == Life::Running;
            if !runs || (is_message(what) && one.link.broken) {
                return false;
            }
        }
        if let What::Arrive { process, .. } | What::ReadSnapshot { process, .. } = what
            && self.world.ground.process(*process).link.broken
        {
            return false;
        }
        !pending[..place].iter().any(|(_, _, earlier)| must_come_before(earlier, what))
    }

    /// When the processes that stand still must go on, each.
    fn wake_times(&self) -> impl Iterator<Item = Moment> {
        self.world.ground.living().filter_map(|(_, one)| match one.life {
            Life::Paused { until } => Some(until),
            Life::Running | Life::Ended => None,
        })
    }

    /// Whether a process has stood still for as long as it may.
    fn must_wake(&self) -> bool {
        self.wake_times().any(|until| until <= self.world.ground.now)
    }

    /// When the next timer fires that somebody waits for, or something must come in the end.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let awaited =
            |what: &What| what.needs().is_none_or(|process| self.world.ground.process(process).life == Life::Running);
        let entries = self.world.ground.schedule.entries().filter(|(_, _, what)| awaited(what));
        let times = entries.map(|(at, ..)| comes_by(at).unwrap_or(at)).chain(self.wake_times());
        times.filter(|at| (self.world.ground.now < *at) && *at < LATE).min()
    }

    /// By when something must come that is late from now on.
    pub(super) fn latest(&self) -> Moment {
        self.world.ground.now + self.world.ground.options.observed_lease() * LEASES_LATE
    }

    /// Lets it happen, and what follows at once. Returns how many things followed.
    pub(super) fn take(&mut self, step: Step) -> u32 {
        match step {
            Step::Happen(number) | Step::HappenBut(number, _) => {
                let what = self.world.ground.schedule.take(number).expect("the step is one of the choices");
                self.world.happen(what);
            }
            Step::Pass => self.world.ground.now = self.next_deadline().expect("the step is one of the choices"),
            Step::Delay(number) => self.delay(number),
            Step::Do(fault, process) => self.strike(fault, process),
            Step::Wake(process) => {
                let now = self.world.ground.now;
                self.world.ground.process_mut(process).life = Life::Paused { until: now };
                self.world.wake(process);
            }
            Step::Mend(process) => self.mend(process),
            Step::Allow(process) => self.world.ground.process_mut(process).ear.refused_until = Moment::START,
            Step::CutRoute => self.world.servers.cut_for_good(0, 1),
            Step::MendRoute => self.world.servers.heal(),
            Step::Lose(bucket, writes) => self.lose(bucket, writes),
        }
        if let Step::HappenBut(..) | Step::Delay(_) | Step::Do(..) | Step::CutRoute | Step::Lose(..) = step {
            self.faults_left -= 1;
            self.struck_at = self.world.ground.now;
        }
        self.tidy();
        self.follow_up(match step {
            Step::HappenBut(_, late) => Some(late),
            _ => None,
        })
    }

    /// Lets everything come that comes at once, but for the one that is late. Returns how many there were.
    fn follow_up(&mut self, late: Option<u32>) -> u32 {
        let mut followed = 0;
        while self.orders == Orders::Requests && self.world.ground.observers.violation.is_none() {
            let pending = self.pending();
            let comes = |place: &usize| {
                let (at, _, what) = &pending[*place];
                *at <= self.world.ground.now && comes_at_once(what) && self.is_free(&pending, *place)
            };
            let Some(number) = (0..pending.len()).find(comes).map(|place| pending[place].1) else { break };
            if Some(followed) == late {
                self.delay(number);
            } else {
                let what = self.world.ground.schedule.take(number).expect("it was just there");
                self.world.happen(what);
            }
            self.tidy();
            followed += 1;
        }
        followed
    }

    /// Drops what makes no difference any more, so that it does not make states differ.
    fn tidy(&mut self) {
        self.hold_what_cannot_pass();
        let timed_out = self.probes_that_time_out();
        let mut schedule = std::mem::replace(&mut self.world.ground.schedule, Schedule::new());
        let now = self.world.ground.now;
        let world = &mut self.world;
        let mut timers = BTreeSet::new();
        schedule.rearrange(|at, what| {
            let ended = |process| world.ground.process(process).life == Life::Ended;
            if what.needs().is_some_and(ended) {
                return None;
            }
            let kept = match what {
                What::Timer { process } => world.ground.process(*process).armed == at && timers.insert(*process),
                What::GiveUp { process, operation } | What::Reply { process, operation, .. } => {
                    world.ground.process(*process).pending.contains(operation)
                }
                What::Show { process, bucket, watch, .. } | What::ReadSnapshot { process, bucket, watch } => {
                    world.watchers.is_current(*process, *bucket, *watch)
                }
                What::NoticeBreak { process, epoch } => {
                    let link = &world.ground.process(*process).link;
                    link.epoch == *epoch && !link.noticed
                }
                What::Reconnect { process, epoch } | What::Mend { process, epoch } => {
                    world.ground.process(*process).link.epoch == *epoch
                }
                What::Reread { .. }
                | What::AppWrite { .. }
                | What::Report { .. }
                | What::Delivery(_)
                | What::Wake { .. }
                | What::RightEnds { .. }
                | What::ClearGarbage => false,
                What::Ear(step) => {
                    makes_a_difference(step, &world.ground) && !(is_late(at) && Self::is_settled(step, &timed_out))
                }
                What::Arrive { process, request, sent } => {
                    !world.kept.is_of_a_former_life(*process, request, *sent, &world.ground)
                }
                What::ReportReleased { .. } | What::Drained { .. } | What::Start { .. } | What::Race { .. } => true,
            };
            // An application may be done at once.
            let drained = matches!(what, What::Drained { .. }) && !is_late(at);
            kept.then_some(if drained { now } else { at })
        });
        self.world.ground.schedule = schedule;
        self.world.ground.observers.timeline.clear();
    }

    /// What cannot pass a connection that is cut waits at its end; in which order it gets there makes no difference.
    fn hold_what_cannot_pass(&mut self) {
        loop {
            let stuck = self
                .world
                .ground
                .schedule
                .entries()
                .find(|(at, _, what)| *at <= self.world.ground.now && self.is_stuck(what));
            let Some((_, number, _)) = stuck else { return };
            let what = self.world.ground.schedule.take(number).expect("it was just there");
            self.world.happen(what);
        }
    }

    fn is_stuck(&self, what: &What) -> bool {
        let (What::Arrive { process, .. }
        | What::ReadSnapshot { process, .. }
        | What::Show { process, .. }
        | What::Reply { process, .. }) = what
        else {
            return false;
        };
        let one = self.world.ground.process(*process);
        one.life != Life::Ended && one.link.broken
    }
}

/// Whether what is put at this time is late.
fn is_late(at: Moment) -> bool {
    at >= LATE_BUT
}

/// When what is put at this time comes at the latest, if it is late and must come.
fn comes_by(at: Moment) -> Option<Moment> {
    (LATE_BUT..LATE).contains(&at).then(|| Moment::START + at.since(LATE_BUT))
}

/// Whether it reaches its worker through the connection.
const fn is_message(what: &What) -> bool {
    matches!(what, What::Reply { .. } | What::Show { .. } | What::Ear(_))
}

const fn can_be_late(what: &What) -> bool {
    match what {
        What::Arrive { .. }
        | What::Reply { .. }
        | What::ReadSnapshot { .. }
        | What::Show { .. }
        | What::Ear(_)
        | What::Drained { .. } => true,
        What::Timer { .. }
        | What::GiveUp { .. }
        | What::Reread { .. }
        | What::NoticeBreak { .. }
        | What::Reconnect { .. }
        | What::ReportReleased { .. }
        | What::AppWrite { .. }
        | What::Report { .. }
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::Start { .. }
        | What::Race { .. }
        | What::ClearGarbage
        | What::Delivery(_)
        | What::Mend { .. } => false,
    }
}

/// What follows from other things and comes at once, where that is the order.
const fn comes_at_once(what: &What) -> bool {
    match what {
        What::Reply { .. }
        | What::ReadSnapshot { .. }
        | What::Show { .. }
        | What::Ear(_)
        | What::NoticeBreak { .. }
        | What::Reconnect { .. }
        | What::ReportReleased { .. }
        | What::Drained { .. } => true,
        What::Arrive { .. }
        | What::Timer { .. }
        | What::GiveUp { .. }
        | What::Reread { .. }
        | What::AppWrite { .. }
        | What::Report { .. }
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::Start { .. }
        | What::Race { .. }
        | What::ClearGarbage
        | What::Delivery(_)
        | What::Mend { .. } => false,
    }
}

/// Whether a watch shows one thing before another: changes of one key in order, and snapshots in order with everything.
fn must_come_before(earlier: &What, later: &What) -> bool {
    let (What::Show { process, bucket, watch, shown }, What::Show { process: p, bucket: b, watch: w, shown: s }) =
        (earlier, later)
    else {
        return false;
    };
    let same_watch = (process, bucket, watch) == (p, b, w);
    same_watch
        && match (shown, s) {
            (Shown::Change(earlier, _), Shown::Change(later, _)) => key(earlier) == key(later),
            (Shown::Snapshot(..) | Shown::End(..) | Shown::Lost, _)
            | (_, Shown::Snapshot(..) | Shown::End(..) | Shown::Lost) => true,
        }
}

pub(super) fn key(change: &parti_core::KvEvent) -> Option<parti_core::Key> {
    match change {
        parti_core::KvEvent::Entry { key, .. }
        | parti_core::KvEvent::Deleted { key, .. }
        | parti_core::KvEvent::Undecodable { key, .. } => Some(*key),
        parti_core::KvEvent::CaughtUp { .. }
        | parti_core::KvEvent::WatchLost { .. }
        | parti_core::KvEvent::Done { .. }
        | parti_core::KvEvent::Lost
        | parti_core::KvEvent::Restored => None,
    }
}
