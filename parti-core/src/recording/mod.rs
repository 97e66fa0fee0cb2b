//! The flight recorder: what a worker was told, so that what it decided can be seen again, and why.
//!
//! A worker is a function of its settings, its seed and the events that it was told with their times. So a recording has
//! no more than these, and a digest of what the worker asked for after each event: [`Recording`] tells a worker the same
//! again, shows what it asks for, and compares.
//!
//! A recording consists of *segments*, each a file of lines that stands by itself: it begins with all that the worker
//! knew then. So what was recorded first can be thrown away, and the rest is still complete. [`Recorder`] makes the lines;
//! whoever runs the worker writes them where it likes. This module reads and writes no file.
//!
//! # What is in it
//!
//! The settings of the worker, the state of its random numbers, times by its clock, and what it was told: ids, weights and
//! labels of partitions, the records of the group (slots, process numbers, software versions, labels, fencing tokens, who
//! made which wish for which reason), ids of servers. There is no password, key, certificate or address of a server in it,
//! no message, and nothing of what the application works on: the worker itself is told none of these.
//!
//! # The form
//!
//! Each line is JSON, a space, and eight hexadecimal digits that check it and all lines before it. The first is the
//! [`Heading`], the second the worker, and each one after that `[at, event, digest]`: the time in nanoseconds by the
//! worker's clock, the event, and the digest (XXH3, 64 bits, of the JSON) of the actions that it led to, 0 where there
//! were none, or null where the process ended before it had an answer.
//!
//! ```
//! use parti_core::recording::{Recorder, Recording};
//! use parti_core::{Command, Config, Event, GroupName, Instant, Worker};
//!
//! let mut worker = Worker::new(Config::default(), 1, Instant::ORIGIN)?;
//! let mut recorder = Recorder::new(GroupName::new("orders")?, &worker);
//! let mut file = recorder.begin(&worker, Instant::ORIGIN, None);
//!
//! let (now, event) = (Instant::from_millis(5), Event::Command(Command::Drain));
//! recorder.told(now, &event);
//! worker.handle(now, event);
//! let actions: Vec<_> = std::iter::from_fn(|| worker.poll_action()).collect();
//! recorder.did(&actions, &mut file);
//!
//! for step in Recording::read(&file)? {
//!     let step = step?;
//!     assert_eq!((step.actions.len(), step.agrees), (actions.len(), Some(true)));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod read;
mod shown;
mod words;
mod write;

use alloc::string::String;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use read::{Junction, Recording, RecordingError, Step};
pub use shown::{Begun, Line, Replay, Shown, Time, TimeError, rfc3339};
pub use words::change_of_status;
pub use write::Recorder;

use crate::ids::Instance;
use crate::stored::key::GroupName;
use crate::time::Instant;

/// The form of recordings that this version reads and writes.
pub const RECORDING_FORMAT: u32 = 1;

/// What the first line of each segment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// The form; see [`RECORDING_FORMAT`].
    pub recording: u32,
    /// The version of this library by which it was recorded. Another version may decide otherwise.
    pub parti: String,
    /// The group of the worker.
    pub group: GroupName,
    /// The process.
    pub instance: Instance,
    /// How many segments of this process came before.
    pub segment: u64,
    /// How many events this process was told before.
    pub step: u64,
    /// When the segment began, by the worker's clock.
    pub at: Instant,
    /// When that was by the calendar, in milliseconds since 1970, if anybody has told.
    pub since_1970_ms: Option<u64>,
}

impl Heading {
    /// Whether this version of the library made the recording: if not, it may decide otherwise.
    pub fn is_of_this_version(&self) -> bool {
        self.parti == env!("CARGO_PKG_VERSION")
    }
}

/// The check of a line, after the one before it.
fn check(before: u64, line: &[u8]) -> u64 {
    xxh3_64_with_seed(line, before)
}
