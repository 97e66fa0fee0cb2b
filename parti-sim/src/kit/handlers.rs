//! What a user's application does with its partitions, in the simulated processes: one handler runs for each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parti_core::{
    HandlerEnd, Instant, Partition, PartitionId, Permission, ReleaseReason, Retries, RetryPolicy, SuspendReason, Token,
};

use super::guard::{Desk, Guard, TaskId};
use super::seen::{Call, Life, Seen};
use crate::told::fact::ProcessId;
use crate::world::clock::Moment;

/// Longer than this, no drain takes: it is cancelled long before.
const ENDLESS: Duration = Duration::from_secs(24 * 3600);

/// A handler that runs: what it comes to is why the work cannot go on, if that is so.
pub(super) type Work = Pin<Box<dyn Future<Output = Option<String>>>>;
/// Begins to run a handler.
pub(super) type Handler = Rc<dyn Fn(Guard) -> Work>;

/// What an application does with its partitions.
#[derive(Clone)]
pub(super) enum Application {
    /// Only how long each takes to finish with is known.
    Drains(Rc<dyn Fn(&PartitionId) -> Duration>),
    /// The handler of each process.
    Handles(Rc<dyn Fn(Life) -> Handler>),
}

/// The applications of all processes, and what they were told. In a world without them, nobody is told anything.
#[derive(Default)]
pub(crate) struct Handlers {
    application: Option<Application>,
    policy: Option<RetryPolicy>,
    /// By process, in order of the starts.
    lives: Vec<Life>,
    /// None for a process that has ended.
    running: Vec<Option<Running>>,
    tasks: BTreeMap<TaskId, Task>,
    /// How many tasks there ever were.
    begun: u64,
    /// When which process offers a partition again.
    offers: BTreeSet<(Moment, ProcessId)>,
    desk: Arc<Desk>,
    woken: Arc<Woken>,
    seen: Vec<Seen>,
}

/// The application of one process.
struct Running {
    handler: Option<Handler>,
    holds: BTreeMap<PartitionId, Hold>,
    retries: Retries,
    suspended: bool,
}

/// A partition that an application has.
struct Hold {
    partition: Partition,
    token: Token,
    permission: Permission,
    /// Who works on it; none once it has ended.
    task: Option<TaskId>,
}

/// A handler that runs, or whose guard is still somewhere.
struct Task {
    process: ProcessId,
    partition: PartitionId,
    work: Option<Work>,
}

/// How long an application takes to finish with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// As chance decides: it does not say.
    Chance,
    /// So long.
    Time(Duration),
    /// Until its handler has ended.
    UntilEnded,
}

/// What follows when a guard was dropped.
#[derive(Debug)]
pub(crate) enum Deed {
    /// The work on a partition that was to be released has stopped.
    Finished { process: ProcessId, partition: PartitionId, token: Token },
    /// A handler has ended, and the partition stays here.
    Left { process: ProcessId, partition: PartitionId, token: Token },
    /// Another worker is to have a partition.
    GivesUp { process: ProcessId, partition: PartitionId, token: Token },
    /// The handler says how heavy its partition is.
    Weighs { process: ProcessId, partition: PartitionId, token: Token, units: u64 },
}

/// The handlers that have something to go on with.
#[derive(Debug, Default)]
struct Woken(Mutex<BTreeSet<TaskId>>);

struct TaskWaker(TaskId, Arc<Woken>);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.1.add(self.0);
    }
}

impl Woken {
    fn add(&self, task: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
    }

    fn first(&self, wanted: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tasks.iter().copied().find(|task| wanted(*task))?;
        tasks.remove(&first);
        Some(first)
    }
}

impl Clone for Handlers {
    /// Users' handlers have no copies: only worlds without them are ever copied.
    ///
    /// # Panics
    ///
    /// If there are any.
    fn clone(&self) -> Self {
        assert!(self.application.is_none(), "a world with users' handlers is not copied");
        Self::default()
    }
}

impl Handlers {
    /// Those of a user.
    pub(super) fn of(application: Application, policy: Option<RetryPolicy>) -> Self {
        Self { application: Some(application), policy, ..Self::default() }
    }

    /// Whether a user has brought any.
    pub(crate) const fn are_there(&self) -> bool {
        self.application.is_some()
    }

    /// What all applications were told and have said, in order.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The process that came last of those that the worker with this number has had.
    pub(super) fn latest_of(&self, worker: u32) -> Option<ProcessId> {
        self.lives.iter().rposition(|life| life.worker == worker).map(ProcessId::new)
    }

    /// A process begins, for the worker with this number.
    pub(crate) fn started(&mut self, worker: u32) {
        let Some(application) = &self.application else { return };
        let earlier = self.lives.iter().filter(|life| life.worker == worker).count();
        let life = Life { worker, restarts: u32::try_from(earlier).unwrap_or(u32::MAX) };
        let handler = match application {
            Application::Drains(_) => None,
            Application::Handles(make) => Some(make(life)),
        };
        let retries = Retries::new(self.policy);
        self.running.push(Some(Running { handler, holds: BTreeMap::new(), retries, suspended: false }));
        self.lives.push(life);
    }

    /// A process has ended without a word.
    pub(crate) fn crashed(&mut self, process: ProcessId) {
        if let Some(running) = self.running.get_mut(process.index()) {
            *running = None;
        }
        // What its guards say as they go, nobody hears.
        self.tasks.retain(|id, task| {
            if task.process == process {
                self.desk.forget(*id);
            }
            task.process != process
        });
    }

    pub(crate) fn acquired(&mut self, now: Moment, process: ProcessId, partition: &Partition, token: Token) {
        self.note(now, process, Call::Acquired { partition: partition.id.clone(), token });
        let Some(running) = self.running_mut(process) else { return };
        let permission = Permission::new(running.suspended);
        let hold = Hold { partition: partition.clone(), token, permission, task: None };
        running.holds.insert(partition.id.clone(), hold);
        self.begin(process, &partition.id);
    }

    /// Runs the handler of a partition, from the next chance on.
    fn begin(&mut self, process: ProcessId, partition: &PartitionId) {
        let (id, life) = (TaskId(self.begun), self.lives[process.index()]);
        let Some(running) = self.running.get_mut(process.index()).and_then(Option::as_mut) else { return };
        let (Some(hold), Some(handler)) = (running.holds.get_mut(partition), &running.handler) else { return };
        self.begun += 1;
        hold.task = Some(id);
        self.desk.begin(id, hold.permission);
        let guard = Guard::new(id, life, hold.partition.clone(), hold.token, Arc::clone(&self.desk));
        let work = handler(guard);
        self.tasks.insert(id, Task { process, partition: partition.clone(), work: Some(work) });
        self.woken.add(id);
    }

    pub(crate) fn prepare(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.note(now, process, Call::Prepare { partition: partition.clone() });
    }

    /// An application is to finish with a partition.
    pub(crate) fn release(
        &mut self,
        now: Moment,
        process: ProcessId,
        (partition, token): (&PartitionId, Token),
        reason: ReleaseReason,
    ) -> Takes {
        self.note(now, process, Call::Release { partition: partition.clone(), reason });
        let drains = match &self.application {
            None => return Takes::Chance,
            Some(Application::Drains(time)) => Takes::Time(time(partition).min(ENDLESS)),
            Some(Application::Handles(_)) => Takes::UntilEnded,
        };
        let desk = Arc::clone(&self.desk);
        let Some(running) = self.running_mut(process) else { return drains };
        running.retries.gone(partition);
        let suspended = running.suspended;
        let Some(hold) = running.holds.get_mut(partition).filter(|hold| hold.token == token) else { return drains };
        hold.permission = Permission::releasing(reason, suspended);
        match hold.task {
            Some(task) => desk.permit(task, hold.permission),
            // Nobody works on it.
            None if drains == Takes::UntilEnded => return Takes::Time(Duration::ZERO),
            None => {}
        }
        drains
    }

    pub(crate) fn cancelled(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.note(now, process, Call::Cancelled { partition: partition.clone() });
        self.change(process, |id, _| if id == partition { Some(Permission::Ended) } else { None });
    }

    pub(crate) fn released(&mut self, now: Moment, process: ProcessId, partition: &PartitionId) {
        self.note(now, process, Call::Released { partition: partition.clone() });
        self.change(process, |id, _| if id == partition { Some(Permission::Ended) } else { None });
        if let Some(running) = self.running_mut(process) {
            running.holds.remove(partition);
        }
    }

    pub(crate) fn suspended(&mut self, now: Moment, process: ProcessId, reason: SuspendReason) {
        self.note(now, process, Call::Suspended { reason });
        if let Some(running) = self.running_mut(process) {
            running.suspended = true;
        }
        self.change(process, |_, permission| Some(permission.suspended()));
    }

    pub(crate) fn resumed(&mut self, now: Moment, process: ProcessId) {
        self.note(now, process, Call::Resumed);
        if let Some(running) = self.running_mut(process) {
            running.suspended = false;
        }
        self.change(process, |_, permission| Some(permission.resumed()));
    }

    /// Changes what guards of a process may do.
    fn change(&mut self, process: ProcessId, to: impl Fn(&PartitionId, Permission) -> Option<Permission>) {
        let desk = Arc::clone(&self.desk);
        let Some(running) = self.running_mut(process) else { return };
        for (partition, hold) in &mut running.holds {
            let Some(permission) = to(partition, hold.permission).filter(|new| *new != hold.permission) else {
                continue;
            };
            hold.permission = permission;
            if let Some(task) = hold.task {
                desk.permit(task, permission);
            }
        }
    }

    pub(crate) fn stopped(&mut self, now: Moment, process: ProcessId) {
        self.note(now, process, Call::Stopped);
        self.crashed(process);
    }

    /// When something is due though nothing has come: somebody has slept enough, or is offered something again.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        [self.desk.next_alarm(), self.offers.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    /// Time has come this far. The processes that are `asleep` are offered nothing before they wake. Returns what is offered
    /// again to whom.
    pub(crate) fn ring(
        &mut self,
        now: Moment,
        asleep: impl Fn(ProcessId) -> Option<Moment>,
    ) -> Vec<(ProcessId, PartitionId)> {
        let mut offered = Vec::new();
        self.desk.ring(now);
        while let Some((at, process)) = self.offers.first().copied().filter(|(at, _)| *at <= now) {
            self.offers.remove(&(at, process));
            if let Some(wakes) = asleep(process).filter(|wakes| *wakes > now) {
                self.offers.insert((wakes, process));
                continue;
            }
            let Some(running) = self.running_mut(process) else { continue };
            for partition in running.retries.due(local(now)) {
                self.note(now, process, Call::Offered { partition: partition.clone() });
                self.begin(process, &partition);
                offered.push((process, partition));
            }
            self.schedule_offer(process);
        }
        offered
    }

    /// Whose work on a partition runs in a process, and under which token.
    pub(crate) fn task_of(&self, process: ProcessId, partition: &PartitionId) -> Option<(TaskId, Token)> {
        let running = self.running.get(process.index())?.as_ref()?;
        let hold = running.holds.get(partition)?;
        hold.task.map(|task| (task, hold.token))
    }

    fn schedule_offer(&mut self, process: ProcessId) {
        let deadline = self.running_mut(process).and_then(|running| running.retries.deadline());
        if let Some(at) = deadline {
            self.offers.insert((Moment::from_nanos(at.as_nanos()), process));
        }
    }

    /// The next handler that has something to go on with, in a process that `runs`, and that process.
    pub(crate) fn next_woken(&self, runs: impl Fn(ProcessId) -> bool) -> Option<(TaskId, ProcessId)> {
        // One that is no more is taken out like any other.
        let task = self.woken.first(|task| self.tasks.get(&task).is_none_or(|task| runs(task.process)))?;
        Some((task, self.tasks.get(&task).map_or(ProcessId::new(0), |task| task.process)))
    }

    /// Lets a handler go on until it waits. Its lease ends at `until`; `stops` says whether its worker is about to stop.
    pub(crate) fn go_on(&mut self, now: Moment, task: TaskId, until: Moment, stops: bool) -> Vec<Deed> {
        let Some(work) = self.tasks.get_mut(&task).and_then(|task| task.work.take()) else { return Vec::new() };
        self.desk.look(now, task, until);
        let waker = Waker::from(Arc::new(TaskWaker(task, Arc::clone(&self.woken))));
        let mut work = work;
        let mut failure = None;
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(came_to) => failure = came_to,
            Poll::Pending => {
                if let Some(task) = self.tasks.get_mut(&task) {
                    task.work = Some(work);
                }
            }
        }
        let mut deeds = Vec::new();
        for (task, units) in self.desk.take_loads() {
            let Some(at) = self.tasks.get(&task).map(|task| (task.process, task.partition.clone())) else { continue };
            let (process, partition) = at;
            let hold = self.running_mut(process).and_then(|running| running.holds.get(&partition));
            if let Some(token) = hold.filter(|hold| hold.task == Some(task)).map(|hold| hold.token) {
                deeds.push(Deed::Weighs { process, partition, token, units });
            }
        }
        for (ended, end) in self.desk.take_ended() {
            let end = match (end, failure.take_if(|_| ended == task)) {
                (HandlerEnd::Dropped, Some(reason)) => HandlerEnd::Failed(reason),
                (end, _) => end,
            };
            deeds.extend(self.ended(now, ended, end, stops));
        }
        deeds
    }

    /// A guard was dropped.
    fn ended(&mut self, now: Moment, id: TaskId, end: HandlerEnd, stops: bool) -> Vec<Deed> {
        self.desk.forget(id);
        let Some((process, partition, token, is_kept)) = self.end_task(id) else { return Vec::new() };
        if !is_kept {
            return vec![Deed::Finished { process, partition, token }];
        }
        let mut deeds = vec![Deed::Left { process, partition: partition.clone(), token }];
        let Some(running) = self.running_mut(process) else { return deeds };
        if stops {
            running.retries.stopped_in_time(&partition);
            return deeds;
        }
        let stopped = running.retries.stopped(local(now), &partition, end);
        self.schedule_offer(process);
        self.note(now, process, Call::Ended { partition: partition.clone(), reason: stopped.reason });
        if stopped.hands_over {
            deeds.push(Deed::GivesUp { process, partition, token });
        }
        deeds
    }

    /// Nobody works for this guard any more. Returns where it was, and whether the partition is to stay there.
    fn end_task(&mut self, id: TaskId) -> Option<(ProcessId, PartitionId, Token, bool)> {
        let task = self.tasks.get(&id)?;
        let (process, partition) = (task.process, task.partition.clone());
        if task.work.is_none() {
            self.tasks.remove(&id);
        }
        let running = self.running_mut(process)?;
        let hold = running.holds.get_mut(&partition).filter(|hold| hold.task == Some(id))?;
        hold.task = None;
        Some((process, partition, hold.token, hold.permission.is_kept()))
    }

    fn running_mut(&mut self, process: ProcessId) -> Option<&mut Running> {
        self.running.get_mut(process.index())?.as_mut()
    }

    fn note(&mut self, now: Moment, process: ProcessId, call: Call) {
        if self.running_mut(process).is_some() {
            self.seen.push(Seen { at: now.since(Moment::START), life: self.lives[process.index()], call });
        }
    }
}

/// Retries only look at how long anything takes.
const fn local(now: Moment) -> Instant {
    Instant::from_nanos(now.as_nanos())
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("lives", &self.lives).field("seen", &self.seen).finish_non_exhaustive()
    }
}
