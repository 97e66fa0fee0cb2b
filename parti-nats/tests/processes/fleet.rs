//! The other side of the agents: starts them, disturbs them, and keeps the journal of what they say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::agent::{Order, Spec};
use super::journal::{At, Journal, Line, Who};

/// Agents of one group, and what they have told.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) spec: Spec,
    /// What makes this program call [`super::agent::run`], besides the environment.
    arguments: Vec<String>,
    agents: BTreeMap<u32, Agent>,
    started: u32,
    book: Arc<Book>,
}

#[derive(Debug)]
struct Agent {
    process: Child,
    orders: ChildStdin,
    reader: JoinHandle<()>,
    workers: u32,
    frozen: bool,
}

#[derive(Debug)]
struct Book {
    journal: Mutex<Journal>,
    written: Condvar,
}

impl Fleet {
    /// A fleet without workers yet.
    pub(crate) fn new(spec: Spec, arguments: &[&str]) -> Self {
        let book = Book { journal: Mutex::new(Journal::new(spec.partitions)), written: Condvar::new() };
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { spec, arguments, agents: BTreeMap::new(), started: 0, book: Arc::new(book) }
    }

    /// Starts one process with so many workers as the spec says.
    pub(crate) fn start(&mut self) -> u32 {
        self.start_as(&self.spec.clone())
    }

    /// Starts so many processes.
    pub(crate) fn start_many(&mut self, processes: u32) -> Vec<u32> {
        (0..processes).map(|_| self.start()).collect()
    }

    /// Starts one process of another kind; the partitions are the same.
    pub(crate) fn start_as(&mut self, spec: &Spec) -> u32 {
        let id = self.started;
        self.started += 1;
        let program = std::env::current_exe().expect("this program has a file");
        let (name, value) = spec.to_environment();
        let mut process = Command::new(program)
            .args(&self.arguments)
            .env(name, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run again");
        let orders = process.stdin.take().expect("it is piped");
        let stdout = process.stdout.take().expect("it is piped");
        let book = Arc::clone(&self.book);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A test program has its own words around those of the agent.
                if let Ok(line) = serde_json::from_str::<Line>(&line) {
                    book.journal().write(id, line);
                    book.written.notify_all();
                }
            }
        });
        self.agents.insert(id, Agent { process, orders, reader, workers: spec.workers, frozen: false });
        id
    }

    /// What was told so far.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.book.journal()
    }

    /// Waits until the journal is as wanted; how long that took. Fails with what the owners are.
    pub(crate) fn wait(&self, what: &str, at_most: Duration, wanted: impl Fn(&Journal) -> bool) -> Duration {
        let begun = Instant::now();
        let journal = self.journal();
        let waiting = |journal: &mut Journal| !wanted(journal);
        let (journal, result) =
            self.book.written.wait_timeout_while(journal, at_most, waiting).expect("no reader panics");
        if result.timed_out() {
            let seen = self.describe(&journal);
            // A panic while it is locked would hide what is wrong from others.
            drop(journal);
            panic!("not {what} within {at_most:?}: {seen}");
        }
        begun.elapsed()
    }

    /// Waits until the workers that run, and nobody else, work on all partitions.
    pub(crate) fn settle(&self, at_most: Duration) -> Duration {
        let all = self.all();
        self.wait("settled on all workers", at_most, |journal| journal.is_settled(&all))
    }

    /// Waits until they do, and share evenly: what moves from then on has a reason.
    pub(crate) fn level(&self, at_most: Duration) -> Duration {
        let all = self.all();
        self.wait("evenly shared by all workers", at_most, |journal| journal.is_level(&all))
    }

    fn describe(&self, journal: &Journal) -> String {
        let mut states = BTreeMap::new();
        for who in self.all() {
            *states.entry(journal.state(who).unwrap_or("silent")).or_insert(0) += 1;
        }
        let (owned, leaders) = (journal.owners().len(), journal.leaders());
        format!("{owned} of {} partitions have one owner, leaders {leaders:?}, {states:?}", self.spec.partitions)
    }

    /// Every worker of every process that runs.
    pub(crate) fn all(&self) -> BTreeSet<Who> {
        let awake = self.agents.iter().filter(|(_, agent)| !agent.frozen);
        let workers = |(&process, agent): (&u32, &Agent)| (0..agent.workers).map(move |worker| Who { process, worker });
        awake.flat_map(workers).collect()
    }

    /// The processes that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.agents.keys().copied().collect()
    }

    /// The operating system's number of a process.
    pub(crate) fn pid(&self, process: u32) -> u32 {
        self.agents[&process].process.id()
    }

    /// The one leader, once there is exactly one.
    pub(crate) fn leader(&self, at_most: Duration) -> Who {
        self.wait("led by one", at_most, |journal| journal.leaders().len() == 1);
        self.journal().leaders()[0]
    }

    /// A process that does not lead; the one started last.
    pub(crate) fn follower(&self, at_most: Duration) -> u32 {
        let leader = self.leader(at_most).process;
        let last = self.agents.iter().rev().find(|(id, agent)| **id != leader && !agent.frozen);
        *last.expect("there are others than the leader").0
    }

    /// Tells a worker what to do; when that was.
    pub(crate) fn order(&mut self, who: Who, order: Order) -> At {
        let agent = self.agents.get_mut(&who.process).expect("it runs");
        let line = serde_json::to_string(&(who.worker, order)).expect("plain data");
        let at = At::now();
        writeln!(agent.orders, "{line}").expect("the agent reads its orders");
        at
    }

    /// Tells the only worker of a process what to do, and waits until it has ended without an error; when it was told.
    pub(crate) fn end(&mut self, process: u32, order: Order, at_most: Duration) -> At {
        let at = self.order(Who { process, worker: 0 }, order);
        self.wait("ended", at_most, |journal| !journal.ended(process).is_empty());
        assert_eq!(self.journal().ended(process), [None]);
        let mut agent = self.agents.remove(&process).expect("it runs");
        let status = agent.process.wait().expect("a child can be waited for");
        assert!(status.success(), "{status}");
        at
    }

    /// Kills a process; when that was.
    pub(crate) fn kill(&mut self, process: u32) -> At {
        let mut agent = self.agents.remove(&process).expect("it runs");
        let at = At::now();
        agent.process.kill().expect("a child can be killed");
        agent.process.wait().expect("a child can be waited for");
        // What it said before comes first.
        agent.reader.join().expect("the reader does not panic");
        self.journal().bury(process, at);
        at
    }

    /// Stops a process by a signal; when that was.
    pub(crate) fn freeze(&mut self, process: u32) -> At {
        let agent = self.agents.get_mut(&process).expect("it runs");
        agent.frozen = true;
        signal(&agent.process, Signal::STOP);
        let at = At::now();
        self.journal().freeze(process, at);
        at
    }

    /// Lets a stopped process go on.
    pub(crate) fn thaw(&mut self, process: u32) {
        self.journal().thaw(process);
        let agent = self.agents.get_mut(&process).expect("it runs");
        agent.frozen = false;
        signal(&agent.process, Signal::CONT);
    }

    /// Waits until everything has one owner, and fails if that is another one than before, or has another token.
    pub(crate) fn settle_unmoved(&self, before: &BTreeMap<u32, (Who, String)>, at_most: Duration) {
        let now = RefCell::default();
        self.wait("settled", at_most, |journal| {
            now.replace(journal.grants());
            journal.is_covered()
        });
        let now = now.into_inner();
        let moved: Vec<_> = before.iter().filter(|(partition, grant)| now.get(partition) != Some(grant)).collect();
        let to: Vec<_> = moved.iter().map(|(partition, _)| now.get(partition)).take(5).collect();
        let from = &moved[..moved.len().min(5)];
        assert!(moved.is_empty(), "{} of {} moved: {from:?} to {to:?}", moved.len(), before.len());
    }

    /// Fails if two workers ever worked on one partition, or a token did not grow.
    pub(crate) fn assert_exclusive(&self) {
        let violations = self.journal().violations();
        assert!(
            violations.is_empty(),
            "{} violations: {:#?}",
            violations.len(),
            &violations[..violations.len().min(5)]
        );
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for agent in self.agents.values_mut() {
            // One that has ended cannot be killed.
            let _ = agent.process.kill();
            let _ = agent.process.wait();
        }
    }
}

impl Book {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("nobody panics while writing")
    }
}

fn signal(process: &Child, signal: Signal) {
    let pid = Pid::from_child(process);
    kill_process(pid, signal).expect("a child can be sent signals");
}
