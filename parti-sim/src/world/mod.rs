//! The world: workers, store, network and applications under one virtual clock, in one thread.

mod app;
pub(crate) mod clock;
mod ear;
pub(crate) mod event;
mod network;
mod probes;
pub(crate) mod process;
pub(crate) mod schedule;
pub mod store;
mod watch;
mod watches;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use parti_core::{Action, Bucket, Config, Event, Instance, Key, Outcome, Partition, PartitionList, Token, Worker};

use crate::fault::plant::{Around, Plant};
use crate::kit::Handlers;
use crate::rng::Rng;
use crate::setting::birth::Birth;
use crate::setting::mix::list_of;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::told::observers::Observers;
use crate::world::app::{App, FencedStore};
use crate::world::clock::{Moment, WorkerClock};
use crate::world::ear::Ear;
use crate::world::event::What;
use crate::world::probes::Servers;
use crate::world::process::{Life, Link, Process};
use crate::world::schedule::Schedule;
use crate::world::store::Store;
use crate::world::watches::Watches;

/// How soon an application that is told to stop at once has stopped.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How much clocks differ where a planted bug says that they differ too much, in parts per million.
const WILD_PPM: u64 = 400_000;

/// Workers, store, network and applications.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: Moment,
    pub(crate) schedule: Schedule<What>,
    pub(crate) store: Store,
    pub(crate) servers: Servers,
    /// Until when the store answers nobody.
    pub(crate) store_down_until: Moment,
    /// Until when the store refuses every write.
    pub(crate) store_full_until: Moment,
    /// Until when nothing gets through to or from anybody.
    pub(crate) all_cut_off_until: Moment,
    /// Shared between copies of the world until one of them changes it.
    pub(crate) processes: Vec<Rc<Process>>,
    pub(crate) by_instance: BTreeMap<Instance, ProcessId>,
    /// The watches of the processes that run, by bucket.
    pub(crate) watches: [Watches; 2],
    pub(crate) network_rng: Rng,
    app_rng: Rng,
    birth_rng: Rng,
    config: Config,
    pub(crate) list: PartitionList,
    fenced: FencedStore,
    /// What a user's own applications do, where there are any.
    pub(crate) handlers: Handlers,
    /// What somebody has written that is not a record.
    pub(crate) garbage: Vec<Key>,
    /// When each bucket was last made anew, of those that were.
    pub(crate) emptied_at: BTreeMap<Bucket, Moment>,
    /// When each bucket last lost writes, be it all of them, of those that did.
    pub(crate) lost_writes_at: BTreeMap<Bucket, Moment>,
    pub(crate) observers: Observers,
}

impl World {
    /// An empty world.
    ///
    /// # Panics
    ///
    /// If the options give workers a config that breaks a rule.
    pub(crate) fn new(options: &Options) -> Self {
        let all = options.all_partitions();
        let mut config = options.config();
        if options.has(Around::BudgetIgnored) {
            config.move_budget_percent = 100;
        }
        config.validate().expect("the options give workers a valid config");
        let listed = all.as_slice()[..options.partitions as usize].to_vec();
        Self::made_of(options, config, &all, PartitionList::new(listed).expect("part of a list"))
    }

    /// An empty world with this valid config, where `all` are the partitions that it ever has and `list` are those
    /// that it begins with.
    pub(crate) fn made_of(options: &Options, config: Config, all: &PartitionList, list: PartitionList) -> Self {
        let mut world = Self {
            now: Moment::START,
            schedule: Schedule::new(),
            store: store_of(options),
            servers: Servers::default(),
            store_down_until: Moment::START,
            store_full_until: Moment::START,
            all_cut_off_until: Moment::START,
            processes: Vec::new(),
            by_instance: BTreeMap::new(),
            watches: Default::default(),
            network_rng: Rng::for_purpose(options.seed, "network"),
            app_rng: Rng::for_purpose(options.seed, "application"),
            birth_rng: Rng::for_purpose(options.seed, "birth"),
            config,
            list,
            fenced: FencedStore::new(all.as_slice().len()),
            handlers: Handlers::default(),
            garbage: Vec::new(),
            emptied_at: BTreeMap::new(),
            lost_writes_at: BTreeMap::new(),
            observers: Observers::new(options, all),
            options: options.clone(),
        };
        for (spare, partition) in all.as_slice().iter().enumerate() {
            if world.list.position(&partition.id).is_none() {
                world.tell(&Fact::Listed { partition: PartitionIndex::new(spare), listed: false });
            }
        }
        world
    }

    /// Lets a process begin.
    pub(crate) fn start(&mut self, birth: Birth) -> ProcessId {
        let process = ProcessId::new(self.processes.len());
        let clock = self.new_clock();
        let worker = self.new_worker(process, &birth, clock);
        self.processes.push(Rc::new(Process {
            clock,
            app: App::default(),
            link: Link::default(),
            ear: Ear::default(),
            life: Life::Running,
            birth,
            armed: Moment::NEVER,
            decisions: worker.decisions(),
            status: worker.status(),
            worker,
            pending: std::collections::BTreeSet::new(),
            successor: None,
            falsely_gone_until: Moment::START,
            drain_percent: 100,
            missed_list: false,
            sleeps_since: None,
            overslept: false,
        }));
        let Birth { capacity, labels, .. } = &self.process(process).birth;
        let zone = labels.get("zone").filter(|_| self.options.zones > 0).and_then(|zone| zone.parse().ok());
        self.tell(&Fact::Started { process, capacity: (*capacity).max(1), zone });
        self.tell_how_it_differs(process);
        self.handlers.started(self.process(process).birth.number);
        if self.now < self.all_cut_off_until {
            self.isolate(process, Some(self.all_cut_off_until.since(self.now)), true);
        }
        self.settle(process);
        self.first_connection(process);
        self.give_list(process);
        if self.options.record_limit > 0 {
            self.feed(process, Event::RecordLimit(self.options.record_limit as usize));
        }
        self.schedule_reread(process);
        self.schedule_app_write(process);
        process
    }

    fn new_worker(&mut self, process: ProcessId, birth: &Birth, clock: WorkerClock) -> Worker {
        let seed = self.birth_rng.next_u64();
        let mut config = birth.config(&self.config);
        if self.has_other_lease(process) {
            config.lease = Duration::from_millis(self.options.worker.other_lease_ms);
        }
        let worker = Worker::new(config, seed, clock.at(self.now)).expect("the group's config was checked");
        let worker = match self.options.plant {
            Some(Plant::Core(bug)) => worker.with_planted_bug(bug),
            Some(Plant::Around(_)) | None => worker,
        };
        self.by_instance.insert(worker.status().instance, process);
        worker
    }

    /// Puts a new worker into a process whose worker has halted, which a planted bug does.
    pub(crate) fn resurrect(&mut self, process: ProcessId) {
        let clock = self.process(process).clock;
        let birth = self.process(process).birth.clone();
        self.process_mut(process).worker = self.new_worker(process, &birth, clock);
        self.listen(process);
        self.give_list(process);
    }

    /// Gives a worker its list of partitions.
    pub(crate) fn give_list(&mut self, process: ProcessId) {
        let list = list_of(self.process(process).birth.list, &self.list, self.observers.partitions());
        self.feed(process, Event::Partitions(list));
    }

    fn new_clock(&mut self) -> WorkerClock {
        let origin = self.birth_rng.below(1_000_000_000_000);
        let wild = self.options.has(Around::WildClocks);
        let most = if wild { WILD_PPM } else { u64::from(self.options.clock_ppm) };
        let ppm = i64::try_from(self.birth_rng.below(2 * most + 1)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
        WorkerClock::new(origin, i32::try_from(ppm).unwrap_or(0))
    }

    /// Lets the next thing happen, if it is due by `until`; otherwise moves the clock there. False when it is reached.
    pub(crate) fn step(&mut self, until: Moment) -> bool {
        if self.schedule.next_at().is_none_or(|at| at > until) {
            self.now = self.now.max(until);
            return false;
        }
        let (at, what) = self.schedule.pop().expect("there is a next thing");
        self.now = at;
        match what.needs().map(|process| (process, self.process(process).life)) {
            Some((_, Life::Ended)) => {}
            Some((_, Life::Paused { until })) => self.schedule.push(until, what),
            Some((_, Life::Running)) | None => self.happen(what),
        }
        true
    }

    pub(crate) fn happen(&mut self, what: What) {
        match what {
            What::Timer { process } => self.fire(process),
            What::Arrive { process, request, sent } => self.arrive(process, request, sent),
            What::Reply { process, operation, outcome, sent } => self.reply(process, operation, outcome, sent),
            What::GiveUp { process, operation } => self.finish_operation(process, operation, Outcome::Unknown),
            What::ReadSnapshot { process, bucket, watch } => self.read_snapshot(process, bucket, watch),
            What::Show { process, bucket, watch, shown } => self.show(process, bucket, watch, shown),
            What::Reread { process } => {
                self.reread(process);
                self.schedule_reread(process);
            }
            What::Ear(step) => self.travel(step),
            What::NoticeBreak { process, epoch } => self.notice_break(process, epoch),
            What::Reconnect { process, epoch } => self.reconnect(process, epoch),
            What::Drained { process, partition, token } => self.drained(process, partition, token),
            What::ReportReleased { process, partition, token } => self.report_released(process, partition, token),
            What::AppWrite { process } => {
                self.app_write(process);
                self.schedule_app_write(process);
            }
            What::Wake { process } => self.wake(process),
            What::RightEnds { process } => self.right_ends(process),
            What::Start { birth } => self.start_in_turn(birth),
            What::Race { first, cut_off } => self.race(first, cut_off),
            What::ClearGarbage => self.clear_garbage(),
            What::Mend { process, epoch } => {
                let link = &self.process(process).link;
                if link.epoch == epoch && link.broken_until <= self.now {
                    self.mend(process);
                }
            }
        }
    }

    pub(crate) fn tell(&mut self, fact: &Fact<'_>) {
        self.observers.tell(self.now, fact);
    }

    pub(crate) fn process(&self, process: ProcessId) -> &Process {
        &self.processes[process.index()]
    }

    pub(crate) fn process_mut(&mut self, process: ProcessId) -> &mut Process {
        Rc::make_mut(&mut self.processes[process.index()])
    }

    /// The processes that have not ended, in order of their starts.
    pub(crate) fn living(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        let all = self.processes.iter().enumerate();
        let living = all.filter(|(_, process)| process.life != Life::Ended);
        living.map(|(index, process)| (ProcessId::new(index), process.as_ref()))
    }

    /// The process that leads, by its own account.
    pub(crate) fn leader(&self) -> Option<ProcessId> {
        self.living().find(|(_, process)| process.status.leader).map(|(id, _)| id)
    }

    /// Gives every worker another list of partitions: those of `listed`.
    pub(crate) fn set_list(&mut self, listed: impl Fn(PartitionIndex) -> bool) {
        let all = self.observers.partitions().clone();
        let mut kept: Vec<Partition> = Vec::new();
        for (index, partition) in all.as_slice().iter().enumerate() {
            let index = PartitionIndex::new(index);
            if listed(index) {
                kept.push(partition.clone());
            }
            if listed(index) != self.observers.ownership.is_listed(index) {
                self.tell(&Fact::Listed { partition: index, listed: listed(index) });
            }
        }
        self.list = PartitionList::new(kept).expect("part of a list");
        let living: Vec<_> = self.living().map(|(id, process)| (id, process.life)).collect();
        for (process, life) in living {
            if life == Life::Running {
                self.give_list(process);
            } else {
                self.process_mut(process).missed_list = true;
            }
        }
    }

    /// Gives a worker an event, and does what it asks for.
    pub(crate) fn feed(&mut self, process: ProcessId, event: Event) {
        let now = self.now;
        self.tell(&Fact::Handed { process, event: &event });
        let one = self.process_mut(process);
        let local = one.clock.at(now);
        one.worker.handle(local, event);
        self.settle(process);
        self.end_sleep(process);
    }

    /// Does what a worker asks for, and sets its timer.
    pub(crate) fn settle(&mut self, process: ProcessId) {
        let now = self.now;
        let endless = self.options.has(Around::EndlessTimer);
        let one = self.process_mut(process);
        if let Some(before) = one.look() {
            let after = one.status.clone();
            self.tell(&Fact::Status { process, before: &before, after: &after });
            if before.slot.is_some() && after.slot.is_none() && self.observers.has_regressed() {
                // It tells nobody any more what it has heard.
                self.tell_what_is_remembered();
            }
        }
        while self.observers.violation.is_none() {
            let one = self.process_mut(process);
            let Some(action) = one.worker.poll_action() else {
                if let Some(at) = one.rearm(now, endless) {
                    self.schedule.push(at, What::Timer { process });
                }
                return;
            };
            self.act(process, action);
        }
    }

    fn fire(&mut self, process: ProcessId) {
        if self.process(process).armed == self.now {
            self.process_mut(process).armed = Moment::NEVER;
            self.feed(process, Event::Timeout);
        }
    }

    fn act(&mut self, process: ProcessId, action: Action) {
        let resurrected = self.options.has(Around::Resurrection) && action == Action::Halt;
        if !resurrected {
            self.tell(&Fact::Asked { process, action: &action });
        }
        match action {
            Action::Kv(request) => self.send(process, request),
            Action::Watch { watch, bucket, interest } => self.open_watch(process, watch, bucket, interest),
            Action::Listen => self.listen_again(process),
            Action::Check { session, check } => self.check(process, session, check),
            Action::Probe { probe, instance, through, .. } => self.probe(process, probe, instance, through),
            Action::Acquire { partition, token } => self.acquire(process, &partition, token),
            Action::Prepare { partition } => self.handlers.prepare(self.now, process, &partition),
            Action::Notice(_) => {}
            Action::Release { partition, token, reason } => {
                let Some(index) = self.observers.index_of(&partition) else { return };
                self.tell(&Fact::Draining { process, partition: index, reason });
                let takes = self.handlers.release(self.now, process, (&partition, token), reason);
                let at_once = reason == parti_core::ReleaseReason::Evicted;
                self.release(process, index, token, if at_once { Some(Duration::ZERO) } else { takes });
            }
            Action::Cancel { partition, token } => {
                self.handlers.cancelled(self.now, process, &partition);
                let Some(partition) = self.observers.index_of(&partition) else { return };
                if !self.options.has(Around::EndlessDrain) {
                    self.stop_at_once(process, partition);
                    self.schedule.push(self.now + AT_ONCE, What::Drained { process, partition, token });
                }
            }
            Action::Suspend { reason } => {
                self.tell(&Fact::Suspended { process, reason });
                self.handlers.suspended(self.now, process, reason);
                self.suspend(process);
            }
            Action::Resume => {
                self.tell(&Fact::Resumed { process });
                self.handlers.resumed(self.now, process);
                self.change_work(process, |app| app.set_suspended(false));
            }
            Action::Halt => self.halt(process, resurrected),
        }
    }

    fn acquire(&mut self, process: ProcessId, acquired: &Partition, token: Token) {
        let Some(partition) = self.observers.index_of(&acquired.id) else { return };
        let heard = self.watches_of(Bucket::Plan).get(process).and_then(|watch| watch.heard);
        let in_former_life = heard.is_some_and(|(life, _)| life != self.store.life(Bucket::Plan));
        let acquired_once = Fact::Acquired { process, partition, token: self.shown(token), in_former_life };
        if self.options.has(Around::AcquireTwice) {
            self.tell(&acquired_once);
        }
        self.tell(&acquired_once);
        if !self.process_mut(process).app.acquire(partition, token) {
            return;
        }
        self.handlers.acquired(self.now, process, acquired, token);
        let deaf = self.options.has(Around::DeafApplication) && self.app_rng.chance(20_000);
        if deaf {
            self.process_mut(process).app.set_idle(partition);
        } else if self.process(process).app.works() {
            self.tell(&Fact::Works { process, partition, token: self.shown(token) });
            self.write_fenced(process, partition, token);
        }
    }

    /// The token as the application sees it.
    fn shown(&self, token: Token) -> Token {
        let claimless = self.options.has(Around::TokenWithoutClaim);
        if claimless { Token { claim: parti_core::Revision::new(0), ..token } } else { token }
    }

    /// The application begins to finish with a partition, and takes as long as it says or, if it does not say, as chance
    /// says.
    fn release(&mut self, process: ProcessId, partition: PartitionIndex, token: Token, says: Option<Duration>) {
        if !self.process_mut(process).app.drain(partition, token) {
            return;
        }
        let at_once = says == Some(Duration::ZERO);
        if at_once {
            self.stop_at_once(process, partition);
        }
        let (least, most) = self.options.application.drain_ms;
        let drain_ms = self.app_rng.between(least, most) * u64::from(self.process(process).drain_percent) / 100;
        let says = says.unwrap_or(Duration::from_millis(drain_ms));
        let works = self.process(process).app.works();
        let takes = if works { AT_ONCE.max(says) } else { AT_ONCE };
        if self.options.has(Around::ReleaseBeforeDrained) {
            self.schedule.push(self.now, What::ReportReleased { process, partition, token });
        }
        if !self.options.has(Around::EndlessDrain) {
            self.schedule.push(self.now + takes, What::Drained { process, partition, token });
        }
    }

    /// The application drops what it does for a partition.
    fn stop_at_once(&mut self, process: ProcessId, partition: PartitionIndex) {
        let app = &mut self.process_mut(process).app;
        let was_idle = app.set_idle(partition);
        if app.works() && !was_idle {
            self.tell(&Fact::Stops { process, partition });
        }
    }

    fn drained(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        let works = self.process(process).app.works();
        let Some(hold) = self.process_mut(process).app.finish(partition, token) else { return };
        if works && !hold.idle {
            self.tell(&Fact::Stops { process, partition });
        }
        if !self.options.has(Around::ReleaseBeforeDrained) {
            self.report_released(process, partition, token);
        }
    }

    fn report_released(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        self.tell(&Fact::Released { process, partition });
        let partition = self.observers.partition(partition).id.clone();
        self.handlers.released(self.now, process, &partition);
        self.feed(process, Event::Released { partition, token });
    }

    /// All work stops at once, and drains with it.
    fn suspend(&mut self, process: ProcessId) {
        if self.options.has(Around::WorkThroughSuspension) {
            return;
        }
        self.change_work(process, |app| app.set_suspended(true));
        let app = &self.processes[process.index()].app;
        for (partition, hold) in app.holds().filter(|(_, hold)| hold.draining) {
            self.schedule.push(self.now, What::Drained { process, partition, token: hold.token });
        }
    }

    /// Changes whether an application works on what it has, and tells for each partition.
    pub(crate) fn change_work(&mut self, process: ProcessId, change: impl FnOnce(&mut App)) {
        let app = &mut self.process_mut(process).app;
        let before = app.works();
        change(app);
        let after = app.works();
        if before == after {
            return;
        }
        let held: Vec<_> =
            app.holds().filter(|(_, hold)| !hold.idle).map(|(partition, hold)| (partition, hold.token)).collect();
        for (partition, token) in held {
            let token = self.shown(token);
            if after {
                self.tell(&Fact::Works { process, partition, token });
            } else {
                self.tell(&Fact::Stops { process, partition });
            }
        }
    }

    fn schedule_app_write(&mut self, process: ProcessId) {
        let every_ms = self.options.application.write_every_ms;
        if every_ms > 0 {
            let pause = self.app_rng.between(every_ms / 2, every_ms + every_ms / 2);
            self.schedule.push(self.now + Duration::from_millis(pause), What::AppWrite { process });
        }
    }

    /// The application writes for one of its partitions, if it works.
    fn app_write(&mut self, process: ProcessId) {
        if self.process(process).app.works() {
            self.write_for_any(process);
        }
    }

    /// The application writes for one of its partitions, whether or not it should.
    pub(crate) fn write_for_any(&mut self, process: ProcessId) {
        let count = self.process(process).app.count();
        let nth = self.app_rng.index(count);
        let chosen = self.process(process).app.holds().nth(nth).map(|(partition, hold)| (partition, hold.token));
        if let Some((partition, token)) = chosen {
            self.write_fenced(process, partition, token);
        }
    }

    fn write_fenced(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) {
        self.handlers.work(process, &self.observers.partition(partition).id, token);
        let token = self.shown(token);
        let accepted = self.fenced.write(partition, token);
        self.tell(&Fact::Wrote { process, partition, token, accepted });
    }
}

/// The store of a world with these options.
fn store_of(options: &Options) -> Store {
    match (options.encoded, options.record_limit) {
        (false, _) => Store::default(),
        (true, 0) => Store::default().encoding(usize::MAX),
        (true, most_bytes) => Store::default().encoding(most_bytes as usize),
    }
}
