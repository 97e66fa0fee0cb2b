//! One state of a small world, what can happen next in it, and what comes of that.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use parti_core::{Command, WorkerState};

use crate::clock::Moment;
use crate::fact::ProcessId;
use crate::mark::verb;
use crate::process::{Birth, Life};
use crate::schedule::Schedule;
use crate::watch::Shown;
use crate::world::{What, World};

/// What is put at this time comes at any time from now on, or never.
const LATE: Moment = Moment::from_nanos(u64::MAX - 1);
/// What is put later than this comes at any time from now on, at the latest when as much time has passed as it is later.
const LATE_BUT: Moment = Moment::from_nanos(1 << 62);
/// How many times as long as a lease, as others see it, what must come in the end may take.
const LEASES_LATE: u32 = 2;

/// Something that goes wrong, or that somebody does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// A message comes at any later time, or never; an application takes that long to release a partition. Changes that a
    /// watch shows, for which later ones wait, come within two leases as others see them.
    Late,
    /// A process ends without a word; another one may take its place at any later time.
    Crash,
    /// A process stands still until any later time within two leases as others see them, while its clock goes on.
    Pause,
    /// Nothing gets through to or from a process until any later time.
    Cut,
    /// A worker is told to hand over and leave.
    Leave,
    /// A worker is told to restart; when it has halted, another process takes its place.
    Restart,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 6] = [Self::Late, Self::Crash, Self::Pause, Self::Cut, Self::Leave, Self::Restart];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}

/// Which things may come in any order, if nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Orders {
    /// Requests and timers. What follows from them, replies and what watches show, comes at once and in order; that it
    /// does not is a fault.
    Requests,
    /// Everything.
    All,
}

impl fmt::Display for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The thing with this number in the schedule happens.
    Happen(u64),
    /// The same, but of what follows at once, what comes as this one is late.
    HappenBut(u64, u32),
    /// Nothing happens until the next timer.
    Pass,
    /// The thing with this number is late.
    Delay(u64),
    /// Something is done to a process.
    Do(Fault, ProcessId),
    /// A process that stands still goes on.
    Wake(ProcessId),
    /// A process that was cut off is reached again.
    Mend(ProcessId),
}

/// A small world, and what may still go wrong in it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) faults_left: u32,
    /// What is longer ago than this makes no difference to anybody, in nanoseconds.
    pub(super) horizon: u64,
    orders: Orders,
    /// When the last fault came, or the beginning.
    struck_at: Moment,
}

impl State {
    pub(super) fn new(world: World, faults: u32, horizon: u64, orders: Orders) -> Self {
        let struck_at = world.now;
        let mut state = Self { world, faults_left: faults, horizon, orders, struck_at };
        state.tidy();
        state.follow_up(None);
        state
    }

    /// How long ago the last fault came, or the beginning.
    pub(super) fn since_fault(&self) -> Duration {
        self.world.now.since(self.struck_at)
    }

    /// What is to come, in the order in which it was pushed.
    pub(super) fn pending(&self) -> Vec<(Moment, u64, &What)> {
        let mut pending: Vec<_> = self.world.schedule.entries().collect();
        pending.sort_unstable_by_key(|(_, number, _)| *number);
        pending
    }

    /// Everything that can happen next: first what costs nothing, then the faults.
    pub(super) fn choices(&self, faults: &[Fault]) -> Vec<Step> {
        let pending = self.pending();
        let can_be = |place: &usize| self.is_free(&pending, *place);
        let due: Vec<usize> = (0..pending.len()).filter(|place| pending[*place].0 <= self.world.now).collect();
        let due: Vec<usize> = due.into_iter().filter(can_be).collect();
        let late: Vec<usize> = (0..pending.len()).filter(|place| is_late(pending[*place].0)).filter(can_be).collect();
        let mut steps: Vec<_> = due.iter().chain(&late).copied().map(|place| Step::Happen(pending[place].1)).collect();
        let must_come = |place: &usize| comes_by(pending[*place].0).is_some_and(|by| by <= self.world.now);
        let nothing_must_come = due.is_empty() && !late.iter().any(must_come) && !self.must_wake();
        if nothing_must_come && self.next_deadline().is_some() {
            steps.push(Step::Pass);
        }
        for (process, one) in self.world.living() {
            if let Life::Paused { .. } = one.life {
                steps.push(Step::Wake(process));
            }
            if one.link.broken {
                steps.push(Step::Mend(process));
            }
        }
        if self.faults_left > 0 {
            if faults.contains(&Fault::Late) {
                steps.extend(
                    due.iter().filter(|place| can_be_late(pending[**place].2)).map(|p| Step::Delay(pending[*p].1)),
                );
            }
            for (process, _) in self.world.living() {
                let fits = |fault: &&Fault| self.is_possible(**fault, process);
                steps.extend(faults.iter().filter(fits).map(|fault| Step::Do(*fault, process)));
            }
        }
        steps
    }

    /// Whether nothing else must come first, and whoever it comes to is there.
    fn is_free(&self, pending: &[(Moment, u64, &What)], place: usize) -> bool {
        let what = pending[place].2;
        if let Some(process) = what.needs() {
            let one = self.world.process(process);
            let runs = one.life == Life::Running;
            if !runs || (is_message(what) && one.link.broken) {
                return false;
            }
        }
        if let What::Arrive { process, .. } | What::ReadSnapshot { process, .. } = what
            && self.world.process(*process).link.broken
        {
            return false;
        }
        !pending[..place].iter().any(|(_, _, earlier)| must_come_before(earlier, what))
    }

    fn is_possible(&self, fault: Fault, process: ProcessId) -> bool {
        let one = self.world.process(process);
        let runs = one.life == Life::Running;
        match fault {
            Fault::Late => false,
            Fault::Crash => true,
            Fault::Pause => runs,
            Fault::Cut => one.link.is_up(),
            Fault::Leave | Fault::Restart => runs && one.status.state != WorkerState::Shutdown,
        }
    }

    /// When the processes that stand still must go on, each.
    fn wake_times(&self) -> impl Iterator<Item = Moment> {
        self.world.living().filter_map(|(_, one)| match one.life {
            Life::Paused { until } => Some(until),
            Life::Running | Life::Ended => None,
        })
    }

    /// Whether a process has stood still for as long as it may.
    fn must_wake(&self) -> bool {
        self.wake_times().any(|until| until <= self.world.now)
    }

    /// When the next timer fires that somebody waits for, or something must come in the end.
    fn next_deadline(&self) -> Option<Moment> {
        let awaited =
            |what: &What| what.needs().is_none_or(|process| self.world.process(process).life == Life::Running);
        let entries = self.world.schedule.entries().filter(|(_, _, what)| awaited(what));
        let times = entries.map(|(at, ..)| comes_by(at).unwrap_or(at)).chain(self.wake_times());
        times.filter(|at| (self.world.now < *at) && *at < LATE).min()
    }

    /// By when something must come that is late from now on.
    fn latest(&self) -> Moment {
        self.world.now + self.world.options.observed_lease() * LEASES_LATE
    }

    /// Lets it happen, and what follows at once. Returns how many things followed.
    pub(super) fn take(&mut self, step: Step) -> u32 {
        match step {
            Step::Happen(number) | Step::HappenBut(number, _) => {
                let what = self.world.schedule.take(number).expect("the step is one of the choices");
                self.world.happen(what);
            }
            Step::Pass => self.world.now = self.next_deadline().expect("the step is one of the choices"),
            Step::Delay(number) => self.delay(number),
            Step::Do(fault, process) => self.strike(fault, process),
            Step::Wake(process) => {
                let now = self.world.now;
                self.world.process_mut(process).life = Life::Paused { until: now };
                self.world.wake(process);
            }
            Step::Mend(process) => self.mend(process),
        }
        if let Step::HappenBut(..) | Step::Delay(_) | Step::Do(..) = step {
            self.faults_left -= 1;
            self.struck_at = self.world.now;
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
        while self.orders == Orders::Requests && self.world.observers.violation.is_none() {
            let pending = self.pending();
            let comes = |place: &usize| {
                let (at, _, what) = &pending[*place];
                *at <= self.world.now && comes_at_once(what) && self.is_free(&pending, *place)
            };
            let Some(number) = (0..pending.len()).find(comes).map(|place| pending[place].1) else { break };
            if Some(followed) == late {
                self.delay(number);
            } else {
                let what = self.world.schedule.take(number).expect("it was just there");
                self.world.happen(what);
            }
            self.tidy();
            followed += 1;
        }
        followed
    }

    /// A message will come at any time, or never; whoever waits for an answer gives up when it is time.
    fn delay(&mut self, number: u64) {
        let what = self.world.schedule.take(number).expect("the step is one of the choices");
        let timeout = Duration::from_millis(self.world.options.network.request_timeout_ms);
        let waits = match &what {
            What::Arrive { process, request, sent } => Some((*process, request.operation, *sent)),
            What::Reply { process, operation, sent, .. } => Some((*process, *operation, *sent)),
            _ => None,
        };
        if let Some((process, operation, sent)) = waits {
            let gives_up = self.world.now.max(sent + timeout);
            self.world.schedule.push(gives_up, What::GiveUp { process, operation });
        }
        let is_change = matches!(what, What::Show { .. });
        let at = if is_change { LATE_BUT + self.latest().since(Moment::START) } else { LATE };
        self.world.schedule.push(at, what);
    }

    fn strike(&mut self, fault: Fault, process: ProcessId) {
        match fault {
            Fault::Late => unreachable!("a message is late, not a process"),
            Fault::Crash => {
                self.world.crash(process);
                self.world.schedule.push(LATE, What::Start { birth: Birth::default() });
            }
            Fault::Pause => self.world.pause(process, self.latest().since(self.world.now)),
            Fault::Cut => self.world.isolate(process, None, false),
            Fault::Leave => self.world.command(process, Command::Leave),
            Fault::Restart => self.world.restart(process, Duration::ZERO, Birth::default()),
        }
    }

    /// What was sent before the client noticed that its connection was gone may still arrive at any time.
    fn mend(&mut self, process: ProcessId) {
        if self.world.process(process).link.noticed {
            let held = std::mem::take(&mut self.world.process_mut(process).link.held);
            for what in held.into_iter().filter(|what| matches!(what, What::Arrive { .. })) {
                self.world.schedule.push(LATE, what);
            }
        }
        self.world.mend(process);
    }

    /// Drops what makes no difference any more, so that it does not make states differ.
    fn tidy(&mut self) {
        self.hold_what_cannot_pass();
        let mut schedule = std::mem::replace(&mut self.world.schedule, Schedule::new());
        let now = self.world.now;
        let world = &mut self.world;
        let mut timers = BTreeSet::new();
        schedule.rearrange(|at, what| {
            let ended = |process| world.process(process).life == Life::Ended;
            if what.needs().is_some_and(ended) {
                return None;
            }
            let kept = match what {
                What::Timer { process } => world.process(*process).armed == at && timers.insert(*process),
                What::GiveUp { process, operation } | What::Reply { process, operation, .. } => {
                    world.process(*process).pending.contains(operation)
                }
                What::Show { process, bucket, watch, .. } | What::ReadSnapshot { process, bucket, watch } => {
                    world.watches_of(*bucket).get(*process).is_some_and(|current| current.id == *watch)
                }
                What::NoticeBreak { process, epoch } => {
                    let link = &world.process(*process).link;
                    link.epoch == *epoch && !link.noticed
                }
                What::Reconnect { process, epoch } | What::Mend { process, epoch } => {
                    world.process(*process).link.epoch == *epoch
                }
                What::Reread { .. }
                | What::AppWrite { .. }
                | What::Wake { .. }
                | What::RightEnds { .. }
                | What::ClearGarbage => false,
                What::Arrive { .. }
                | What::Ear(_)
                | What::ReportReleased { .. }
                | What::Drained { .. }
                | What::Start { .. }
                | What::Race { .. } => true,
            };
            // An application may be done at once.
            let drained = matches!(what, What::Drained { .. }) && !is_late(at);
            kept.then_some(if drained { now } else { at })
        });
        self.world.schedule = schedule;
        self.world.observers.timeline.clear();
    }

    /// What cannot pass a connection that is cut waits at its end; in which order it gets there makes no difference.
    fn hold_what_cannot_pass(&mut self) {
        loop {
            let stuck =
                self.world.schedule.entries().find(|(at, _, what)| *at <= self.world.now && self.is_stuck(what));
            let Some((_, number, _)) = stuck else { return };
            let what = self.world.schedule.take(number).expect("it was just there");
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
        let one = self.world.process(*process);
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
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::Start { .. }
        | What::Race { .. }
        | What::ClearGarbage
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
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::Start { .. }
        | What::Race { .. }
        | What::ClearGarbage
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

fn key(change: &parti_core::KvEvent) -> Option<parti_core::Key> {
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

/// A step in the words of the state in which it is taken.
pub(super) struct Told<'a>(pub(super) &'a State, pub(super) Step);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state, step) = self;
        let find = |number| state.pending().into_iter().find(|(_, other, _)| *other == number).map(|(_, _, what)| what);
        match step {
            Step::Happen(number) => f.write_str(&find(*number).map(told).unwrap_or_default()),
            Step::HappenBut(number, late) => {
                let what = find(*number).map(told).unwrap_or_default();
                write!(f, "FAULT: {what}, and of what follows, number {} comes late or never", late + 1)
            }
            Step::Delay(number) => {
                write!(f, "FAULT, this comes late or never: {}", find(*number).map(told).unwrap_or_default())
            }
            Step::Pass => match state.next_deadline() {
                Some(at) => write!(f, "nothing happens until {at}"),
                None => f.write_str("nothing happens"),
            },
            Step::Do(Fault::Crash, process) => write!(f, "FAULT: {process} crashes"),
            Step::Do(Fault::Pause, process) => write!(f, "FAULT: {process} stands still"),
            Step::Do(Fault::Cut, process) => write!(f, "FAULT: {process} is cut off"),
            Step::Do(Fault::Leave, process) => write!(f, "{process} is told to leave"),
            Step::Do(Fault::Restart, process) => write!(f, "{process} is told to restart"),
            Step::Do(Fault::Late, process) => write!(f, "{process} is late"),
            Step::Wake(process) => write!(f, "{process} goes on"),
            Step::Mend(process) => write!(f, "{process} can be reached again"),
        }
    }
}

fn told(what: &What) -> String {
    match what {
        What::Timer { process } => format!("the timer of {process} fires"),
        What::Arrive { process, request, .. } => {
            format!("the store gets {process}'s {} of {}", verb(&request.write), request.write.key())
        }
        What::Reply { process, operation, .. } => format!("{process} gets the answer to its write {operation}"),
        What::GiveUp { process, operation } => {
            format!("{process} waits no longer for the answer to its write {operation}")
        }
        What::ReadSnapshot { process, bucket, .. } => format!("the store reads {bucket} for {process}"),
        What::Show { process, bucket, shown: Shown::Snapshot(..) | Shown::End(..), .. } => {
            format!("{process} gets to see what is in {bucket}")
        }
        What::Show { process, shown: Shown::Change(change, _), .. } => match key(change) {
            Some(key) => format!("{process} gets to see a change of {key}"),
            None => format!("{process} gets to see a change"),
        },
        What::Show { process, bucket, shown: Shown::Lost, .. } => {
            format!("{process} hears that its watch of {bucket} broke")
        }
        What::Ear(step) => format!("{step:?}"),
        What::NoticeBreak { process, .. } => format!("{process} notices that its connection is gone"),
        What::Reconnect { process, .. } => format!("{process} is connected again"),
        What::ReportReleased { process, partition, .. } => {
            format!("{process} hears that p{:05} was released", partition.index())
        }
        What::Drained { process, partition, .. } => {
            format!("the application of {process} is done with p{:05}", partition.index())
        }
        What::Start { .. } => "a process starts".into(),
        What::Race { .. }
        | What::Reread { .. }
        | What::AppWrite { .. }
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::ClearGarbage
        | What::Mend { .. } => format!("{what:?}"),
    }
}
