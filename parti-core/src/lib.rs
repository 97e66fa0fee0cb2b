//! The core of parti: divides weighted partitions among a changing set of workers, and decides at every instant which
//! of them a worker holds and with which fencing token.
//!
//! One [`Worker`] is one process that takes part. It has no IO, no clock and no randomness of its own: whoever runs it
//! feeds it an [`Event`] and the time, and carries out each [`Action`] that it asks for. `parti-nats` runs it against
//! NATS JetStream KV, `parti-sim` runs thousands against a model of a store. To run it over anything else, write the
//! loop below around a key-value store that has [conditional writes](Write).
//!
//! # The loop
//!
//! Feed one event, drain the actions, wait for the next event or for [`poll_timeout`](Worker::poll_timeout), whichever
//! comes first. Here the store is a map in memory, which answers at once, and time jumps from one deadline to the next:
//!
//! ```
//! use std::collections::{BTreeMap, VecDeque};
//!
//! use parti_core::{Action, Command, Config, Event, Instant, KvEvent, Partition, PartitionId, PartitionList};
//! use parti_core::{ServerId, Session, Worker};
//! # use parti_core::{Bucket, Incarnation, Interest, Key, Outcome, Record, Revision, WatchId, Write};
//! #
//! # /// A store in memory for a single worker: what each key holds, and what is watched.
//! # #[derive(Default)]
//! # struct Store {
//! #     last: BTreeMap<Bucket, u64>,
//! #     entries: BTreeMap<Key, (Revision, Option<Record>)>,
//! #     watches: BTreeMap<Bucket, (WatchId, Interest)>,
//! # }
//! #
//! # impl Store {
//! #     /// The outcome of a conditional write.
//! #     fn write(&mut self, write: &Write) -> Outcome {
//! #         let key = write.key();
//! #         let last = self.last.entry(key.bucket()).or_default();
//! #         let entry = self.entries.get(&key);
//! #         let revision = entry.map_or(Revision::new(0), |(revision, _)| *revision);
//! #         let is_there = entry.is_some_and(|(_, record)| record.is_some());
//! #         let (holds, record) = match write {
//! #             Write::Create { record, .. } => (!is_there, Some(record.clone())),
//! #             Write::Update { record, expected, .. } => (revision == *expected, Some(record.clone())),
//! #             Write::Delete { expected, .. } => (revision == *expected, None),
//! #             Write::Append { record, expected_last, .. } => (*last == expected_last.value(), Some(record.clone())),
//! #         };
//! #         if !holds {
//! #             return Outcome::Conflict;
//! #         }
//! #         *last += 1;
//! #         self.entries.insert(key, (Revision::new(*last), record));
//! #         Outcome::Committed(Revision::new(*last))
//! #     }
//! #
//! #     /// What the watch of the key's bucket shows of the key, if it is to show it.
//! #     fn show(&self, key: Key) -> Option<Event> {
//! #         let (watch, interest) = self.watches.get(&key.bucket())?;
//! #         let (revision, record) = self.entries.get(&key).filter(|_| interest.covers(key))?;
//! #         let (watch, revision) = (*watch, *revision);
//! #         Some(Event::Kv(match record {
//! #             Some(record) => KvEvent::from_stored(watch, key, revision, &record.encode()),
//! #             None => KvEvent::Deleted { watch, key, revision },
//! #         }))
//! #     }
//! #
//! #     /// Replaces the watch of a bucket: everything that is there, then "caught up".
//! #     fn watch(&mut self, watch: WatchId, bucket: Bucket, interest: Interest) -> Vec<Event> {
//! #         self.watches.insert(bucket, (watch, interest));
//! #         let keys = self.entries.keys().filter(|key| key.bucket() == bucket);
//! #         let shown = keys.filter_map(|key| self.show(*key));
//! #         let last = Revision::new(self.last.get(&bucket).copied().unwrap_or_default());
//! #         let caught_up = KvEvent::CaughtUp { watch, incarnation: Incarnation::new(1), last };
//! #         shown.chain([Event::Kv(caught_up)]).collect()
//! #     }
//! # }
//!
//! let partitions = ["orders-0", "orders-1", "orders-2"].map(|id| PartitionId::new(id).map(Partition::new));
//! let partitions = PartitionList::new(partitions.into_iter().collect::<Result<_, _>>()?)?;
//!
//! let config = Config { expected_workers: Some(1), ..Config::default() };
//! let seed = 7; // of each process another one, from the operating system's randomness
//! let mut now = Instant::ORIGIN;
//! let mut worker = Worker::new(config, seed, now)?;
//!
//! let mut store = Store::default();
//! let listening = Event::Listening { session: Session::new(1), server: ServerId::new("the only one") };
//! let mut events = VecDeque::from([Event::Partitions(partitions), listening]);
//! let mut held = BTreeMap::new();
//! while !worker.status().halted {
//!     let event = events.pop_front().unwrap_or_else(|| {
//!         now = worker.poll_timeout().expect("a worker that waits for nothing has halted");
//!         Event::Timeout
//!     });
//!     worker.handle(now, event);
//!     while let Some(action) = worker.poll_action() {
//!         match action {
//!             Action::Kv(request) => {
//!                 let outcome = store.write(&request.write);
//!                 events.push_back(Event::Kv(KvEvent::Done { operation: request.operation, outcome }));
//!                 events.extend(store.show(request.write.key()));
//!             }
//!             Action::Watch { watch, bucket, interest } => events.extend(store.watch(watch, bucket, interest)),
//!             Action::Acquire { partition, token } => {
//!                 held.insert(partition.id, token); // start to work on it, and send the token along with each write
//!                 if held.len() == 3 {
//!                     events.push_back(Event::Command(Command::Leave));
//!                 }
//!             }
//!             Action::Release { partition, token, .. } => {
//!                 assert_eq!(held.remove(&partition), Some(token)); // finish the work on it, then say so
//!                 events.push_back(Event::Released { partition, token });
//!             }
//!             Action::Cancel { .. } => unreachable!("here a release takes no time"),
//!             Action::Suspend { .. } | Action::Resume => unreachable!("this store is never out of reach"),
//!             Action::Listen => {} // this server is always quick to answer
//!             Action::Check { session, check } => events.push_back(Event::Present { session, check }),
//!             Action::Probe { .. } => unreachable!("there is nobody else to ask for"),
//!             Action::Prepare { .. } | Action::Notice(_) | Action::Halt => {}
//!         }
//!     }
//! }
//! assert!(held.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The contract
//!
//! 1. After each [`handle`](Worker::handle), drain [`poll_action`](Worker::poll_action) to `None`, then arm one timer
//!    at [`poll_timeout`](Worker::poll_timeout), in place of the one before. A spurious [`Event::Timeout`] is harmless.
//! 2. `handle` never fails, blocks or panics, whatever an event says. [`Worker::new`] is the only call that can fail.
//! 3. Time never goes back: `now` counts as the latest instant given so far. Clocks of two workers are never compared,
//!    but each must go on while its machine sleeps, and their rates must differ by less than an eighth.
//! 4. Actions impose no hidden order: if B must follow A, B is asked for after A's [`Done`](KvEvent::Done). At most one
//!    write of a key, and at most one [append](Write::Append), is in flight.
//! 5. Every [`Request`] gets exactly one `Done`. A certain no for another reason than the condition is
//!    [`Refused`](Outcome::Refused). Where there is no answer, or no certain one, the outcome is
//!    [`Unknown`](Outcome::Unknown), never [`Conflict`](Outcome::Conflict): the write may have happened and may yet
//!    happen. What a watch shows, or the next conditional write, settles it.
//! 6. Whoever runs a worker decides nothing about the protocol. A watch may lag, repeat itself, miss changes, or break
//!    and begin again with a snapshot; a bucket that was made anew or has lost writes counts as a break
//!    ([`WatchLost`](KvEvent::WatchLost)). It must show only what was really written, a deletion included, and be read
//!    again from time to time, so that what it has missed comes to light.
//! 7. Same config, same seed and same list of `(now, event)` give the same actions, byte for byte, on every platform.
//! 8. Everything is bounded: the actions of one event, the requests in flight and the records by the numbers of slots
//!    and partitions, and those by [`MAX_SLOTS`] and [`MAX_PARTITIONS`].
//!
//! 9. Where [`Config::probe_confirm`] is set, whoever runs the worker [listens](Event::Listening) on its probe subject from
//!    the beginning, answers those who ask there, and returns each [`Check`](Action::Check) that comes back. A session is
//!    one subscription on one connection: another connection, also one that the client library has made unheard, is
//!    another session, which is looked for at the sending of a check and at its receipt. Without it a
//!    [`Strict`](Mode::Strict) worker never works.
//!
//! # What the application owes
//!
//! - It works on a partition from [`Acquire`](Action::Acquire) until it reports [`Released`](Event::Released), and not
//!   while it is [suspended](Action::Suspend). It reports once for each [`Release`](Action::Release), when the work has
//!   really stopped. On [`Cancel`](Action::Cancel) it drops what is left of the work, and then reports.
//! - Whether it may work *now* it asks of [`Status::lease_until`] and the clock, and not of a flag that a starved task
//!   would clear too late. (In [`Mode::Available`] it works on past that instant.)
//! - It sends the [`Token`] along with each write that it makes on a partition's behalf, to a store that refuses any
//!   token lower than the highest it has seen for that partition. Nothing else stops a write that left in time and
//!   arrives too late.
//!
//! # Also here
//!
//! [`assign`] is the calculator that the leader plans with: a pure function, useful alone. [`delivery`] decides how the
//! messages of a stream follow the assignment. [`recording`] keeps what a worker was told, so that what it decided can be
//! seen again. With the feature `conformance` there are checks of what a store must do, to run against yours.
//! `ARCHITECTURE.md` in the repository tells how ownership moves, and why that is safe.
#![no_std]

extern crate alloc;

mod action;
pub mod assign;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
pub mod delivery;
mod duration;
mod event;
mod fleet;
mod handler;
mod ids;
mod labels;
mod leader;
mod member;
mod outbox;
mod pairs;
mod partition;
mod planted;
pub mod recording;
mod retry;
mod rng;
mod state;
mod stored;
mod text_name;
mod time;
mod wording;
mod worker;

pub use action::{
    Action, ClaimKind, EvictReason, Notice, PlanReason, ReleaseReason, Request, StandbyReason, StepDownReason,
    SuspendReason, WaitReason, Write,
};
pub use config::{
    Config, ConfigError, LAST_WAIT, MAX_DURATION, MAX_LABELS, MAX_SLOTS, MAX_TEXT_BYTES, MAX_VIRTUAL_NODES, MIN_LEASE,
    MIN_LOAD_HALF_LIFE, MIN_PROBE_INTERVAL, MIN_REBALANCE_INTERVAL, MIN_RELEASE_TIMEOUT, Mode, StrategyChoice,
};
pub use duration::{DurationError, HumanDuration};
pub use event::{Command, Event, KvEvent, Outcome, ProbeOutcome};
pub use fleet::Fleet;
pub use handler::{HandlerEnd, HandlerResult, PartitionGuard, Permission, Source, SourceError};
pub use ids::{
    CheckId, Generation, Incarnation, Instance, OperationId, Position, ProbeId, Revision, ServerId, Session, Slot,
    Tenure, Term, Token, TokenError, WatchId,
};
pub use member::load::LoadStatus;
pub use partition::{
    MAX_PARTITION_ID_BYTES, MAX_PARTITIONS, Partition, PartitionError, PartitionId, PartitionList, Placement, Weight,
};
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub use planted::PlantedBug;
pub use retry::{Retries, RetryPolicy, Stopped};
#[doc(hidden)]
pub use rng::Rng;
pub use state::{PlannerPhase, WorkerState};
pub use stored::history::{
    CausedMoves, MAX_HISTORY_BYTES, MAX_REMEMBERED_PLANS, MoveCause, MovedPartition, PlanHistory, PlanMoves,
};
pub use stored::key::{Bucket, Control, GroupName, GroupNameError, Interest, Key, MAX_GROUP_NAME_BYTES};
pub use stored::load::{MAX_LOAD, MAX_NAMED_LOADS, MeasuredLoad, MeasuredWeights};
pub use stored::record::{
    AssignmentRecord, ClusterRecord, ControlRecord, FORMAT_VERSION, Grant, LeaderRecord, MAX_RECORD_BYTES,
    MAX_UNWANTED, MemberPhase, MemberRecord, Record, RecordError,
};
pub use stored::settings::{Difference, Setting, SharedSettings};
pub use time::{Duration, Instant};
pub use worker::{Status, Worker};
