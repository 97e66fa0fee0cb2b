//! What can be done to a world, who is behind it, and whether partitions may move because of it.

use std::fmt;

use parti_core::{Control, Key, Slot};
use serde::{Deserialize, Serialize};

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, after the plan's beginning.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What can be done to a world. Traces show only what is done, which tells to whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Deed {
    /// To one process.
    One(ToOne),
    /// To all of it.
    All(ToAll),
}

/// What can be done to one process. `who` counts those that live at the time, around and around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum ToOne {
    /// A process ends without a word.
    Crash { who: u32 },
    /// A process ends without a word, and another one like it starts.
    CrashAndReplace { who: u32, after_ms: u64 },
    /// A worker restarts.
    Restart { who: u32, gap_ms: u64 },
    /// A worker leaves.
    Leave { who: u32 },
    /// An operator asks for another plan.
    RebalanceNow { who: u32 },
    /// A worker gives up everything, and stays; or takes part again.
    Drain { who: u32, drains: bool },
    /// A worker's application cannot work on one of its partitions, and wants it to be elsewhere.
    GiveUp { who: u32, which: u32 },
    /// A worker is replaced by one of another software version, which starts first and waits for its slot.
    Upgrade { who: u32, software: u32 },
    /// A process stops for a while.
    Pause { who: u32, for_ms: u64 },
    /// A process stops for a while, in which its connection is closed.
    Freeze { who: u32, for_ms: u64 },
    /// A process is cut off: silently, or with its connection closed.
    Isolate { who: u32, for_ms: u64, closed: bool },
    /// A watch shows nothing for a while.
    SilenceWatch { who: u32, for_ms: u64, plan: bool },
    /// A watch breaks.
    BreakWatch { who: u32, plan: bool },
    /// Probes of a process are told that nobody listens.
    FalselyGone { who: u32, for_ms: u64 },
    /// A client connects again, and only a counter tells.
    Reconnect { who: u32 },
    /// A server takes a process's subscription away, and takes no other one for a while; it may say so.
    TakeSubscription { who: u32, for_ms: u64, told: bool },
    /// A worker's application takes longer to drain.
    SlowApplication { who: u32, percent: u32 },
    /// What troubles one worker alone.
    Trouble(Trouble),
}

/// What can be done to a world as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum ToAll {
    /// A worker joins, with a slot that it asks for or without.
    Join { ordinal: Option<u32> },
    /// An operator wants something, or no longer wants it.
    Wish { wish: Wish, wanted: bool },
    /// All processes are cut off.
    IsolateAll { for_ms: u64, closed: bool },
    /// The store answers nobody.
    StoreDown { for_ms: u64 },
    /// The store refuses every write, and says so.
    StoreFull { for_ms: u64 },
    /// The store's server is gone.
    ServerDown { for_ms: u64 },
    /// The route between two servers breaks.
    CutRoute { one: u32, other: u32, for_ms: u64 },
    /// A server is slow to answer.
    StallServer { server: u32, for_ms: u64 },
    /// The store restarts without its last writes.
    RollBack { plan: bool, writes: u32, for_ms: u64 },
    /// A bucket is made anew, by somebody who knows of its lives before, or does not.
    Recreate { plan: bool, unknowing: bool },
    /// The store restarts with an older disk: a former life of a bucket, without its last writes.
    BringBack { plan: bool, writes: u32, for_ms: u64 },
    /// An operator purges a bucket.
    Purge { plan: bool },
    /// The list of partitions changes.
    ChangeList { seed: u64, keep_percent: u32 },
    /// Every so-manieth partition becomes so many times as heavy as the list says, and the others as heavy as it says.
    ShiftLoad { times: u64, every: u32 },
    /// Somebody writes something that is not a record.
    Garbage { slot: u32, plan: bool },
    /// What somebody who is no worker leaves in the store.
    Trouble(Left),
    /// What goes wrong with messages.
    Messages(OnMessages),
}

/// What can go wrong with the stream, with what shows it, and with the positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum OnMessages {
    /// Every tail ends, and may say so.
    KillTails { told: bool },
    /// Every tail says that it is there and shows nothing, for a while or for ever.
    StarveTails { for_ms: Option<u64> },
    /// The stream loses its newest messages.
    LoseSuffix { count: u32 },
    /// The stream is deleted and made anew.
    MakeAnew,
    /// The bucket of positions loses its last writes.
    RollBackPositions { writes: u32 },
    /// An operator purges the bucket of positions.
    PurgePositions,
    /// The server loses what it knew last of consumers.
    LoseConsumers,
    /// Somebody deletes the consumer of a partition; `which` counts them, around and around.
    RemoveConsumer { which: u32 },
}

/// What can trouble one worker alone. `who` counts those that live at the time, around and around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum Trouble {
    /// The store is out of reach for one worker, whose connection stands.
    StoreAway { who: u32, for_ms: u64 },
    /// The store takes no write of one worker, which can read and watch.
    ReadOnly { who: u32, for_ms: u64 },
    /// A machine sleeps; the clock goes on, the timer does not.
    Sleep { who: u32, for_ms: u64 },
    /// A clock jumps forward.
    StepClock { who: u32, forward_ms: u64 },
    /// A worker with a slot of its own dies, and two are after the slot, one of which is cut off for a while.
    RaceForTheDead { who: u32, apart_ms: u64, for_ms: u64 },
}

/// What somebody who is no worker can leave in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are what the variants say")]
pub enum Left {
    /// Somebody writes something that is not a record, and nobody deletes it before all faults are over; or never, if it
    /// stays.
    Garbage { under: Under, stays: bool },
}

/// Who is behind a deed, and whether partitions may move because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nature {
    /// Something goes wrong, rather than somebody wants it.
    pub(super) is_fault: bool,
    /// Partitions may move because of it.
    pub(super) may_move: bool,
}

impl Nature {
    const FAULT: Self = Self { is_fault: true, may_move: true };
    const HARMLESS_FAULT: Self = Self { is_fault: true, may_move: false };
    const WANTED: Self = Self { is_fault: false, may_move: true };
    const HARMLESS: Self = Self { is_fault: false, may_move: false };
}

impl Deed {
    /// Who is behind it, and whether partitions may move because of it.
    pub(super) const fn nature(&self) -> Nature {
        match self {
            Self::One(deed) => deed.nature(),
            Self::All(deed) => deed.nature(),
        }
    }

    /// Its name as traces have it, with the bucket if it happens to one.
    pub(super) fn kind(&self) -> String {
        let deed = serde_json::to_value(self).expect("plain data has no value that JSON lacks");
        let Some((name, fields)) = deed.as_object().and_then(|deed| deed.iter().next()) else { return String::new() };
        match fields["plan"].as_bool() {
            Some(plan) => format!("{name} {}", if plan { "plan" } else { "members" }),
            None => name.clone(),
        }
    }
}

impl ToOne {
    /// To whom it is done.
    pub(super) const fn who(&self) -> u32 {
        match self {
            Self::Crash { who }
            | Self::CrashAndReplace { who, .. }
            | Self::Restart { who, .. }
            | Self::Leave { who }
            | Self::RebalanceNow { who }
            | Self::Drain { who, .. }
            | Self::GiveUp { who, .. }
            | Self::Upgrade { who, .. }
            | Self::Pause { who, .. }
            | Self::Freeze { who, .. }
            | Self::Isolate { who, .. }
            | Self::SilenceWatch { who, .. }
            | Self::BreakWatch { who, .. }
            | Self::FalselyGone { who, .. }
            | Self::Reconnect { who }
            | Self::TakeSubscription { who, .. }
            | Self::SlowApplication { who, .. } => *who,
            Self::Trouble(trouble) => trouble.who(),
        }
    }

    const fn nature(&self) -> Nature {
        match self {
            Self::Crash { .. }
            | Self::CrashAndReplace { .. }
            | Self::Pause { .. }
            | Self::Freeze { .. }
            | Self::Isolate { .. }
            | Self::SilenceWatch { .. }
            | Self::FalselyGone { .. }
            | Self::Reconnect { .. }
            | Self::TakeSubscription { .. }
            | Self::Trouble(_) => Nature::FAULT,
            Self::BreakWatch { .. } | Self::SlowApplication { .. } => Nature::HARMLESS_FAULT,
            Self::Leave { .. }
            | Self::RebalanceNow { .. }
            | Self::Drain { .. }
            | Self::GiveUp { .. }
            | Self::Upgrade { .. } => Nature::WANTED,
            Self::Restart { .. } => Nature::HARMLESS,
        }
    }
}

impl ToAll {
    const fn nature(&self) -> Nature {
        match self {
            Self::CutRoute { .. }
            | Self::RollBack { .. }
            | Self::Recreate { .. }
            | Self::BringBack { .. }
            | Self::Purge { .. }
            | Self::Garbage { .. }
            | Self::Trouble(_) => Nature::FAULT,
            Self::IsolateAll { .. }
            | Self::StoreDown { .. }
            | Self::StoreFull { .. }
            | Self::ServerDown { .. }
            | Self::StallServer { .. }
            | Self::Messages(_) => Nature::HARMLESS_FAULT,
            Self::Join { .. } | Self::Wish { .. } | Self::ChangeList { .. } | Self::ShiftLoad { .. } => Nature::WANTED,
        }
    }
}

impl Trouble {
    const fn who(&self) -> u32 {
        match self {
            Self::StoreAway { who, .. }
            | Self::ReadOnly { who, .. }
            | Self::Sleep { who, .. }
            | Self::StepClock { who, .. }
            | Self::RaceForTheDead { who, .. } => *who,
        }
    }
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(deed) => deed.fmt(f),
            Self::All(deed) => deed.fmt(f),
        }
    }
}

impl From<ToOne> for Deed {
    fn from(deed: ToOne) -> Self {
        Self::One(deed)
    }
}

impl From<ToAll> for Deed {
    fn from(deed: ToAll) -> Self {
        Self::All(deed)
    }
}

/// Where something can be that is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see parti_core::Key")]
pub enum Under {
    Slot(u32),
    Leader,
    Control(Wish),
    Assign(u32),
    Cluster,
}

impl Under {
    pub(super) const fn key(self) -> Key {
        match self {
            Self::Slot(slot) => Key::Slot(Slot::new(slot)),
            Self::Leader => Key::Leader,
            Self::Control(wish) => Key::Control(wish.control()),
            Self::Assign(slot) => Key::Assign(Slot::new(slot)),
            Self::Cluster => Key::Cluster,
        }
    }
}

/// What an operator can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see parti_core::Control")]
pub enum Wish {
    Drain(u32),
    Pause,
    Maintenance,
    Rebalance,
}

impl Wish {
    /// The key under which it is made.
    pub(super) const fn control(self) -> Control {
        match self {
            Self::Drain(slot) => Control::Drain(Slot::new(slot)),
            Self::Pause => Control::Pause,
            Self::Maintenance => Control::Maintenance,
            Self::Rebalance => Control::Rebalance,
        }
    }
}
