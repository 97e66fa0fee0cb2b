//! The world: workers, store, network and applications under one virtual clock, in one thread.
//!
//! Each part owns its fields, and acts on what it is handed: `network.rs` the delays, outages and links, `watches.rs` who
//! watches what, `applications.rs` the work and the fenced store, `births.rs` clocks and workers, `requests.rs` the store and
//! what it was told. All stand on `ground.rs`: setting, time, schedule, processes, and who looks on. Where a part needs others,
//! a struct of borrows says which (`Links`, `Probing`, `AtStore`). What a worker is to hear, a part returns: only the
//! [`World`] hands events to workers, and does what they ask for.

mod app;
pub(crate) mod applications;
mod births;
pub(crate) mod clock;
mod ear;
pub(crate) mod event;
mod ground;
mod loads;
mod losses;
pub(crate) mod messages;
pub(crate) mod network;
pub(crate) mod probes;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod schedule;
pub mod store;
mod users;
mod watch;
pub(crate) mod watches;

use parti_core::{Action, Bucket, Config, Event, KvEvent, Outcome, Partition, PartitionList, Token, WatchId};

use self::applications::{Applications, change_work, suspend};
use self::births::Births;
use self::clock::Moment;
use self::event::{Shown, What};
use self::ground::Ground;
use self::loads::Loads;
use self::messages::Delivering;
pub(crate) use self::messages::Messages;
use self::network::{Links, Network};
use self::probes::{Probing, Servers};
use self::process::Life;
use self::requests::{AtStore, Kept};
use self::watch::Heard;
use self::watches::Watchers;
use crate::fault::around::Around;
use crate::kit::Lists;
use crate::setting::birth::Birth;
use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::told::flights::Flights;

/// Workers, store, network and applications.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) network: Network,
    pub(crate) servers: Servers,
    pub(crate) kept: Kept,
    pub(crate) watchers: Watchers,
    pub(crate) applications: Applications,
    pub(crate) loads: Loads,
    pub(crate) lists: Lists,
    /// None in a world without messages.
    pub(crate) messages: Option<Box<Messages>>,
    pub(crate) births: Births,
    /// Where what each worker is told is recorded.
    pub(crate) flights: Option<Box<Flights>>,
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
        let mut ground = Ground::new(options, all);
        for (spare, partition) in all.as_slice().iter().enumerate() {
            if list.position(&partition.id).is_none() {
                ground.tell(&Fact::Listed { partition: PartitionIndex::new(spare), listed: false });
            }
        }
        Self {
            ground,
            network: Network::new(options.seed),
            servers: Servers::default(),
            kept: Kept::new(options),
            watchers: Watchers::default(),
            applications: Applications::new(options.seed, all.as_slice().len()),
            loads: Loads::new(options.seed, all),
            lists: Lists::default(),
            messages: Messages::in_world(options, all.as_slice().len()),
            births: Births::new(options.seed, config, list),
            flights: None,
        }
    }

    /// The connections of the processes.
    pub(crate) const fn links(&mut self) -> Links<'_> {
        Links { ground: &mut self.ground, network: &mut self.network }
    }

    /// What listens, checks and asks.
    pub(crate) const fn probing(&mut self) -> Probing<'_> {
        Probing { ground: &mut self.ground, network: &mut self.network, servers: &mut self.servers }
    }

    /// The store.
    pub(crate) const fn at_store(&mut self) -> AtStore<'_> {
        let Self { ground, network, kept, watchers, .. } = self;
        AtStore { ground, network, kept, watchers }
    }

    /// The messages, in a world that has any.
    pub(crate) fn delivering(&mut self) -> Option<Delivering<'_>> {
        let Self { ground, network, messages, .. } = self;
        messages.as_deref_mut().map(|messages| Delivering { ground, network, messages })
    }

    /// Lets a process begin.
    pub(crate) fn start(&mut self, birth: Birth) -> ProcessId {
        let process = self.births.begin(&mut self.ground, birth);
        self.applications.handlers.started(self.ground.process(process).birth.number);
        self.links().join_the_others(process);
        if let Some(mut delivering) = self.delivering() {
            delivering.started(process);
        }
        self.settle(process);
        let listening = self.probing().first_connection(process);
        self.hand(process, listening);
        self.give_list(process);
        if self.ground.options.record_limit > 0 {
            self.feed(process, Event::RecordLimit(self.ground.options.record_limit as usize));
        }
        self.at_store().schedule_reread(process);
        self.applications.schedule_write(&mut self.ground, process);
        self.loads.schedule(&mut self.ground, process);
        process
    }

    /// Gives a worker its list of partitions.
    pub(crate) fn give_list(&mut self, process: ProcessId) {
        let list = self.births.list_for(&self.ground, process);
        self.feed(process, list);
    }

    /// Gives every worker another list of partitions: those of `listed`.
    pub(crate) fn set_list(&mut self, listed: impl Fn(PartitionIndex) -> bool) {
        self.births.change_list(&mut self.ground, listed);
        let living: Vec<_> = self.ground.living().map(|(id, process)| (id, process.life)).collect();
        for (process, life) in living {
            if life == Life::Running {
                self.give_list(process);
            } else {
                self.ground.process_mut(process).missed_list = true;
            }
        }
    }

    /// Lets the next thing happen, if it is due by `until`; otherwise moves the clock there. False when it is reached.
    pub(crate) fn step(&mut self, until: Moment) -> bool {
        if self.applications.handlers.are_there() {
            self.attend_users();
            let next = self.ground.schedule.next_at();
            if let Some(due) = self.users_due().filter(|due| *due <= until && next.is_none_or(|at| *due < at)) {
                self.ground.now = self.ground.now.max(due);
                self.ring_users();
                return true;
            }
        }
        let ground = &mut self.ground;
        if ground.schedule.next_at().is_none_or(|at| at > until) {
            ground.now = ground.now.max(until);
            return false;
        }
        let (at, what) = ground.schedule.pop().expect("there is a next thing");
        ground.now = at;
        match what.needs().map(|process| (process, ground.process(process).life)) {
            Some((_, Life::Ended)) => {}
            Some((_, Life::Paused { until })) => ground.schedule.push(until, what),
            Some((_, Life::Running)) | None => self.happen(what),
        }
        true
    }

    pub(crate) fn happen(&mut self, what: What) {
        match what {
            What::Timer { process } => self.fire(process),
            What::Arrive { process, request, sent } => self.at_store().arrive(process, request, sent),
            What::Reply { process, operation, outcome, sent } => {
                let answer = self.links().reply(process, operation, outcome, sent);
                self.hand(process, answer);
            }
            What::GiveUp { process, operation } => {
                let answer = self.ground.answered(process, operation, Outcome::Unknown);
                self.hand(process, answer);
            }
            What::ReadSnapshot { process, bucket, watch } => self.at_store().read_snapshot(process, bucket, watch),
            What::Show { process, bucket, watch, shown } => self.show(process, bucket, watch, shown),
            What::Reread { process } => {
                self.at_store().reread(process);
                self.at_store().schedule_reread(process);
            }
            What::Ear(step) => {
                if let Some((process, event)) = self.probing().travel(step) {
                    self.feed(process, event);
                }
            }
            What::NoticeBreak { process, epoch } => self.notice_break(process, epoch),
            What::Reconnect { process, epoch } => self.reconnect(process, epoch),
            What::Drained { process, partition, token } => {
                let released = self.applications.drained(&mut self.ground, process, partition, token);
                self.hand(process, released);
            }
            What::ReportReleased { process, partition, token } => {
                let released = self.applications.released(&mut self.ground, process, partition, token);
                self.feed(process, released);
            }
            What::AppWrite { process } => {
                self.applications.write(&mut self.ground, process);
                self.applications.schedule_write(&mut self.ground, process);
            }
            What::Report { process } => {
                for report in self.loads.reports(&self.ground, process) {
                    self.feed(process, report);
                }
                self.loads.schedule(&mut self.ground, process);
            }
            What::Wake { process } => self.wake(process),
            What::RightEnds { process } => self.right_ends(process),
            What::Start { birth } => self.start_in_turn(birth),
            What::Race { first, cut_off } => self.race(first, cut_off),
            What::ClearGarbage => self.at_store().clear_garbage(),
            What::Mend { process, epoch } => self.links().mend_in_time(process, epoch),
            What::Delivery(errand) => {
                let killed = self.delivering().and_then(|mut delivering| delivering.happen(errand));
                if let Some(process) = killed {
                    self.killed_by_message(process);
                }
            }
        }
    }

    /// A watch's message reaches a worker.
    fn show(&mut self, process: ProcessId, bucket: Bucket, watch: WatchId, shown: Shown) {
        match self.at_store().reaches(process, bucket, watch, shown) {
            Heard::Nothing => {}
            Heard::One(event) => self.feed(process, Event::Kv(event)),
            Heard::Listing { before, entries, end, current } => {
                for event in before.into_iter().chain(entries) {
                    self.feed(process, Event::Kv(event));
                }
                if !(current && self.at_store().waits(process, bucket, &end)) {
                    self.feed(process, Event::Kv(end));
                }
            }
        }
    }

    /// The client of a process notices that its connection is gone.
    fn notice_break(&mut self, process: ProcessId, epoch: u64) {
        let lost = self.links().notice_break(process, epoch);
        self.hand(process, lost);
    }

    /// A client is connected again, once it has noticed that it was not: it reads everything that it watches anew.
    fn reconnect(&mut self, process: ProcessId, epoch: u64) {
        self.notice_break(process, epoch);
        if !self.links().restore(process, epoch) {
            return;
        }
        if let Some(mut delivering) = self.delivering() {
            delivering.connected_again(process);
        }
        self.feed(process, Event::Kv(KvEvent::Restored));
        let listening = self.probing().connected_again(process, false);
        self.hand(process, listening);
        for bucket in Bucket::ALL {
            // What it hears of one watch may make the worker ask for another one in place of the next.
            if let Some(watch) = self.watchers.of(bucket).get(process).map(|watch| watch.id) {
                self.feed(process, Event::Kv(KvEvent::WatchLost { watch }));
            }
        }
        self.at_store().reread(process);
    }

    /// Gives a worker an event, if there is one.
    pub(crate) fn hand(&mut self, process: ProcessId, event: Option<Event>) {
        if let Some(event) = event {
            self.feed(process, event);
        }
    }

    /// Gives a worker an event, and does what it asks for.
    pub(crate) fn feed(&mut self, process: ProcessId, event: Event) {
        let now = self.ground.now;
        self.ground.tell(&Fact::Handed { process, event: &event });
        let one = self.ground.process_mut(process);
        let local = one.clock.at(now);
        match &mut self.flights {
            None => one.worker.handle(local, event),
            Some(flights) => {
                flights.told(process, &one.worker, local, &event);
                one.worker.handle(local, event);
                flights.did(process, &one.worker);
            }
        }
        self.settle(process);
        if std::mem::take(&mut self.ground.process_mut(process).overslept) {
            // Now it knows how late it is.
            change_work(&mut self.ground, process, |app| app.set_frozen(false));
        }
    }

    /// Does what a worker asks for, and sets its timer.
    pub(crate) fn settle(&mut self, process: ProcessId) {
        let now = self.ground.now;
        let endless = self.ground.options.has(Around::EndlessTimer);
        let one = self.ground.process_mut(process);
        if let Some(before) = one.look() {
            let after = one.status.clone();
            self.ground.tell(&Fact::Status { process, before: &before, after: &after });
            if before.slot.is_some() && after.slot.is_none() && self.ground.observers.has_regressed() {
                // It tells nobody any more what it has heard.
                self.at_store().tell_what_is_remembered();
            }
        }
        while self.ground.observers.violation.is_none() {
            let one = self.ground.process_mut(process);
            let Some(action) = one.worker.poll_action() else {
                if let Some(at) = one.rearm(now, endless) {
                    self.ground.schedule.push(at, What::Timer { process });
                }
                return;
            };
            self.act(process, action);
        }
    }

    fn fire(&mut self, process: ProcessId) {
        if self.ground.process(process).armed == self.ground.now {
            self.ground.process_mut(process).armed = Moment::NEVER;
            self.feed(process, Event::Timeout);
        }
    }

    fn act(&mut self, process: ProcessId, action: Action) {
        let resurrected = self.ground.options.has(Around::Resurrection) && action == Action::Halt;
        if !resurrected {
            self.ground.tell(&Fact::Asked { process, action: &action });
        }
        match action {
            Action::Kv(request) => self.links().send(process, request),
            Action::Watch { watch, bucket, interest } => self.at_store().open_watch(process, watch, bucket, interest),
            Action::Listen => {
                let listening = self.probing().listen_again(process);
                self.hand(process, listening);
            }
            Action::Check { session, check } => self.probing().check(process, session, check),
            Action::Probe { probe, instance, through, .. } => self.probing().probe(process, probe, instance, through),
            Action::Notice(_) => {}
            Action::Halt => self.halt(process, resurrected),
            Action::Suspend { reason } => {
                self.ground.tell(&Fact::Suspended { process, reason });
                self.applications.handlers.suspended(self.ground.now, process, reason);
                if let Some(mut delivering) = self.delivering() {
                    delivering.suspended(process);
                }
                suspend(&mut self.ground, process);
            }
            Action::Resume => {
                self.ground.tell(&Fact::Resumed { process });
                self.applications.handlers.resumed(self.ground.now, process);
                change_work(&mut self.ground, process, |app| app.set_suspended(false));
                if let Some(mut delivering) = self.delivering() {
                    delivering.resumed(process);
                }
            }
            Action::Acquire { partition, token } => self.acquire(process, &partition, token),
            Action::Prepare { partition } => {
                self.applications.handlers.prepare(self.ground.now, process, &partition);
            }
            Action::Release { partition, token, reason } => {
                if let Some(mut delivering) = self.delivering() {
                    delivering.released(process, &partition, token, reason);
                }
                self.applications.release(&mut self.ground, process, (&partition, token), reason);
            }
            Action::Cancel { partition, token } => {
                if let Some(mut delivering) = self.delivering() {
                    delivering.cancelled(process, &partition);
                }
                self.applications.cancel(&mut self.ground, process, &partition, token);
            }
        }
    }

    fn acquire(&mut self, process: ProcessId, partition: &Partition, token: Token) {
        let heard = self.watchers.of(Bucket::Plan).get(process).and_then(|watch| watch.heard);
        let in_former_life = heard.is_some_and(|(life, _)| life != self.kept.store.life(Bucket::Plan));
        self.applications.acquire(&mut self.ground, process, (partition, token), in_former_life);
        let post = self.applications.handlers.task_of(process, &partition.id).map(|(task, _)| task);
        if let Some(mut delivering) = self.delivering() {
            delivering.acquired(process, &partition.id, token, post);
        }
    }

    /// A worker that has halted comes back to life, which a planted bug does.
    pub(crate) fn resurrect(&mut self, process: ProcessId) {
        self.births.resurrect(&mut self.ground, process);
        let listening = self.probing().listen(process);
        self.feed(process, listening);
        self.give_list(process);
    }
}
