//! How large small worlds are, how they begin, what may happen in them, and how far they are followed.

use std::fmt;

use parti_core::Bucket;

use crate::fault::plant::Plant;
use crate::told::fact::ProcessId;

/// How large the worlds are, how they begin, and how far they are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many workers.
    pub workers: u32,
    /// How many partitions.
    pub partitions: u32,
    /// What there is at first.
    pub beginning: Beginning,
    /// Whether workers ask for each other and for themselves.
    pub probes: bool,
    /// How many servers there are, to which the workers that are there at first are connected in turn: 1 or 2.
    pub servers: u32,
    /// Which things may come in any order, if nothing goes wrong.
    pub orders: Orders,
    /// How often something may go wrong.
    pub faults: u32,
    /// What may go wrong.
    pub kinds: Vec<Fault>,
    /// How many of the last writes of a bucket may be lost at once.
    pub lost: u32,
    /// The longest path.
    pub depth: u32,
    /// A deliberate bug.
    pub plant: Option<Plant>,
}

/// What there is at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Beginning {
    /// An empty store, and workers that start at once.
    Fresh,
    /// A group in which everything has an owner.
    Settled,
    /// Such a group but for one worker, which starts now and is to get its share.
    Joining,
}

impl Beginning {
    /// Every beginning.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Settled, Self::Joining];
}

impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Settled => "settled",
            Self::Joining => "joining",
        })
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
    /// The same, and the other side has closed the connection: nobody listens there any more, and what is sent into it is
    /// lost. The client notices later than one that was cut off, or when it can be reached again.
    Close,
    /// A worker is told to hand over and leave.
    Leave,
    /// A worker is told to restart; when it has halted, another process takes its place.
    Restart,
    /// A server takes away the subscription of a process for its probes, and lets it have no other one until any later
    /// time within two leases as others see them; it says nothing about that. Where there are probes.
    Deafen,
    /// A client connects again, to another server if there are two, and was never away. Where there are probes.
    Reconnect,
    /// The route between the servers breaks until any later time. Where there are two.
    Route,
    /// The store restarts without the last writes of one bucket, whose revisions are given again. What was under way is
    /// lost. Everybody who was connected notices at once, and is connected again before time passes.
    Loss,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 11] = [
        Self::Late,
        Self::Crash,
        Self::Pause,
        Self::Cut,
        Self::Close,
        Self::Leave,
        Self::Restart,
        Self::Deafen,
        Self::Reconnect,
        Self::Route,
        Self::Loss,
    ];
}

impl fmt::Display for Fault {
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
    /// A process may listen for probes again.
    Allow(ProcessId),
    /// The route between the servers breaks.
    CutRoute,
    /// It is back.
    MendRoute,
    /// The store loses this many of the last writes of a bucket.
    Lose(Bucket, usize),
}
