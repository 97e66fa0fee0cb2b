//! A recording, told to a worker again.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::Deserialize;

use super::words::change_of_status;
use super::write::digest;
use super::{Heading, RECORDING_FORMAT, check};
use crate::action::Action;
use crate::assign::Strategy;
use crate::event::Event;
use crate::time::{Duration, Instant};
use crate::worker::{Status, Worker};

/// How every recording begins, of whatever form.
const BEGINNING: &[u8] = b"{\"recording\":";
/// The space and the digits at the end of a line.
const CHECK_BYTES: usize = 9;

/// One segment, told to the worker again step by step. See the [module](super).
#[derive(Debug)]
pub struct Recording<'a> {
    lines: Lines<'a>,
    heading: Heading,
    worker: Worker,
    status: Status,
    steps: u64,
    ended: bool,
}

/// What a worker was told at one time, and what it asks for.
#[derive(Clone, Debug)]
pub struct Step {
    /// How many events came before, in the life of the process.
    pub number: u64,
    /// When, by the worker's clock.
    pub at: Instant,
    /// When, by the calendar: the time since 1970, if it is known.
    pub since_1970: Option<Duration>,
    /// What it was told.
    pub event: Event,
    /// What it asks for, having been told so.
    pub actions: Vec<Action>,
    /// What it has become, where that is worth a word.
    pub change: Option<String>,
    /// Whether it has asked for the same when it was recorded; none where its answer was not recorded.
    pub agrees: Option<bool>,
}

/// How one segment goes on from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Junction {
    /// It begins with exactly what the worker knew at the end of the other.
    Seamless,
    /// It is of the same process, and this many events between are not recorded.
    Gap(u64),
    /// It begins where the other ends, but not with what the worker knows there: this version decides otherwise than the
    /// one that made the recording.
    Differs,
    /// It is of another process, or of an earlier time.
    Another,
}

/// Why a recording cannot be read any further. Lines are counted from 1, bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It does not begin like one.
    #[error(
        "not a recording: it must begin with {{\"recording\":, but does not: give a file that Builder::record names"
    )]
    NotARecording,
    /// It has a form that is not known here.
    #[error("its form must be {RECORDING_FORMAT}, but is {form}: replay it with parti {parti}, which made it")]
    OtherForm {
        /// The form that it says.
        form: u32,
        /// The version that made it.
        parti: String,
    },
    /// The last line is not whole: the process, its machine or the disk stopped while it was written.
    #[error("it is cut off in line {line}, at byte {byte}: what comes before is whole")]
    CutOff {
        /// Which line.
        line: u64,
        /// Where the line begins.
        byte: usize,
    },
    /// A line is not what was written, or one before it is missing.
    #[error(
        "it is damaged in line {line}, at byte {byte}: the line must fit its check, but does not; what comes before is whole"
    )]
    Damaged {
        /// Which line.
        line: u64,
        /// Where the line begins.
        byte: usize,
    },
    /// A line is what was written, but says nothing to this version.
    #[error("line {line}, at byte {byte}, is not known here ({reason}): replay it with parti {parti}, which made it")]
    Unknown {
        /// Which line.
        line: u64,
        /// Where the line begins.
        byte: usize,
        /// What the decoder met.
        reason: String,
        /// The version that made it.
        parti: String,
    },
}

impl<'a> Recording<'a> {
    /// Reads how a segment begins; the steps follow one by one.
    ///
    /// # Errors
    ///
    /// [`RecordingError`] if it is not the beginning of a recording, or not one that this version can read.
    pub fn read(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        if !bytes.starts_with(BEGINNING) {
            return Err(RecordingError::NotARecording);
        }
        let mut lines = Lines { bytes, next: 0, line: 0, begins_at: 0, check: 0 };
        let first = lines.next().ok_or(RecordingError::NotARecording)??;
        let of_any_form: OfAnyForm = serde_json::from_slice(first).map_err(|_| RecordingError::NotARecording)?;
        let OfAnyForm { recording: form, parti } = of_any_form;
        if form != RECORDING_FORMAT {
            return Err(RecordingError::OtherForm { form, parti });
        }
        let heading: Heading = serde_json::from_slice(first).map_err(|error| lines.unknown(&error, &parti))?;
        let second = lines.next().unwrap_or(Err(RecordingError::CutOff { line: 2, byte: bytes.len() }))?;
        let worker = Worker::restore(second).map_err(|error| lines.unknown(&error, &parti))?;
        let (status, steps) = (worker.status(), heading.step);
        Ok(Self { lines, heading, worker, status, steps, ended: false })
    }

    /// The same, told to a worker that divides by this strategy while it leads: where the worker that was recorded had one
    /// of its own, what it has planned cannot be seen again without it.
    #[must_use]
    pub fn with_strategy(mut self, strategy: Arc<dyn Strategy>) -> Self {
        self.worker = self.worker.with_strategy(strategy);
        self
    }

    /// What the segment is of.
    pub const fn heading(&self) -> &Heading {
        &self.heading
    }

    /// The number of the line that was read last, from 1 on.
    pub const fn line(&self) -> u64 {
        self.lines.line
    }

    /// What the worker says of itself, as far as it was told.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Whether the worker divided by a strategy that comes with the library. Where it had one of its own, see
    /// [`with_strategy`](Self::with_strategy).
    pub fn has_known_strategy(&self) -> bool {
        self.worker.has_known_strategy()
    }

    /// How this segment, of which no step was taken, goes on from another one, all of whose steps were.
    pub fn junction_with(&self, before: &Recording<'_>) -> Junction {
        let of_one_process = self.heading.instance == before.heading.instance;
        match self.heading.step.checked_sub(before.steps) {
            Some(0) if of_one_process => {
                let same = self.worker.save() == before.worker.save();
                if same { Junction::Seamless } else { Junction::Differs }
            }
            Some(missing) if of_one_process => Junction::Gap(missing),
            Some(_) | None => Junction::Another,
        }
    }

    fn step(&mut self, line: &[u8]) -> Result<Step, RecordingError> {
        let Told(at, event, recorded) =
            serde_json::from_slice(line).map_err(|error| self.lines.unknown(&error, &self.heading.parti))?;
        let number = self.steps;
        self.steps += 1;
        self.worker.handle(at, (*event).clone());
        let actions: Vec<_> = core::iter::from_fn(|| self.worker.poll_action()).collect();
        let after = self.worker.status();
        let change = change_of_status(&self.status, &after);
        self.status = after;
        let agrees = recorded.map(|recorded| recorded == digest(&actions));
        Ok(Step { number, at, since_1970: self.since_1970(at), event: *event, actions, change, agrees })
    }

    fn since_1970(&self, at: Instant) -> Option<Duration> {
        let began = Duration::from_millis(self.heading.since_1970_ms?);
        Some(began.saturating_add(at.since(self.heading.at)))
    }
}

impl Iterator for Recording<'_> {
    type Item = Result<Step, RecordingError>;

    /// The next step, or why there is none: the last thing that comes.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.lines.next().map(|line| line.and_then(|line| self.step(line)));
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

/// What the first line of a recording of any form says.
#[derive(Deserialize)]
struct OfAnyForm {
    recording: u32,
    parti: String,
}

/// One line of a recording.
#[derive(Deserialize)]
struct Told(Instant, Box<Event>, Option<u64>);

/// The lines of a segment, each checked.
#[derive(Debug)]
struct Lines<'a> {
    bytes: &'a [u8],
    next: usize,
    /// The number of the last one, from 1 on, and where it begins.
    line: u64,
    begins_at: usize,
    check: u64,
}

impl<'a> Lines<'a> {
    /// The next one, without its check.
    fn next(&mut self) -> Option<Result<&'a [u8], RecordingError>> {
        let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
        (self.begins_at, self.line) = (self.next, self.line + 1);
        let (line, byte) = (self.line, self.begins_at);
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            self.next = self.bytes.len();
            return Some(Err(RecordingError::CutOff { line, byte }));
        };
        self.next += length + 1;
        let (told, digits) = rest[..length].split_at(length.saturating_sub(CHECK_BYTES));
        self.check = check(self.check, told);
        let fits = digits == format!(" {:08x}", self.check >> 32).as_bytes();
        Some(if fits { Ok(told) } else { Err(RecordingError::Damaged { line, byte }) })
    }

    /// The last line says nothing to this version.
    fn unknown(&self, error: &serde_json::Error, parti: &str) -> RecordingError {
        let (line, byte) = (self.line, self.begins_at);
        RecordingError::Unknown { line, byte, reason: error.to_string(), parti: parti.into() }
    }
}
