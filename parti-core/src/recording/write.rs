//! What is told, as lines.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{Heading, RECORDING_FORMAT, check};
use crate::action::Action;
use crate::event::Event;
use crate::ids::Instance;
use crate::stored::key::GroupName;
use crate::time::{Duration, Instant};
use crate::worker::Worker;

/// How long the digest and the check are at most, with what is between and behind them.
const MAX_END: usize = 20 + 1 + 1 + 8 + 1;

/// Turns what a worker is told into the lines of a [recording](super).
///
/// For each event: [`told`](Self::told), then [`Worker::handle`] and [`Worker::poll_action`] to `None`, then
/// [`did`](Self::did). A segment [begins](Self::begin) before the worker handles an event, as often as one likes.
#[derive(Clone, Debug)]
pub struct Recorder {
    group: GroupName,
    instance: Instance,
    segments: u64,
    steps: u64,
    check: u64,
    /// The line that is being made: it ends with what the worker did.
    line: String,
}

impl Recorder {
    /// A recorder of this worker.
    pub fn new(group: GroupName, worker: &Worker) -> Self {
        let instance = worker.status().instance;
        Self { group, instance, segments: 0, steps: 0, check: 0, line: String::new() }
    }

    /// The first lines of another segment: what it is, and all that the worker knows at `now`. `since_1970` is what the
    /// calendar says, for people to read.
    ///
    /// Its size, and the time that it takes, grow with what the worker knows: some kilobytes, or where it leads and there
    /// are thousands of partitions, a few hundred bytes for each of them.
    pub fn begin(&mut self, worker: &Worker, now: Instant, since_1970: Option<Duration>) -> Vec<u8> {
        let heading = Heading {
            recording: RECORDING_FORMAT,
            parti: env!("CARGO_PKG_VERSION").into(),
            group: self.group.clone(),
            instance: self.instance,
            segment: self.segments,
            step: self.steps,
            at: now,
            since_1970_ms: since_1970.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        };
        (self.segments, self.check) = (self.segments + 1, 0);
        let mut out = Vec::new();
        // What is about to be told comes after them.
        let told = core::mem::replace(&mut self.line, json(&heading));
        self.end_line(&mut out);
        self.line.push_str(&worker.save());
        self.end_line(&mut out);
        self.line = told;
        out
    }

    /// The worker is about to be told something. Returns how many bytes that will take at most.
    pub fn told(&mut self, now: Instant, event: &Event) -> usize {
        // A line that nobody has ended belongs to an event that led to nothing that is known.
        self.line.clear();
        // A string takes everything.
        let _ = write!(self.line, "[{},", now.as_nanos());
        self.line.push_str(&json(event));
        self.line.push(',');
        self.line.len() + MAX_END
    }

    /// The worker has asked for this. The line is now complete, and is put at the end of `out`.
    pub fn did(&mut self, actions: &[Action], out: &mut Vec<u8>) {
        let _ = write!(self.line, "{}]", digest(actions));
        self.steps += 1;
        self.end_line(out);
    }

    /// What the worker is told is not recorded: the next segment begins with a later event.
    pub fn skip(&mut self) {
        self.line.clear();
        self.steps += 1;
    }

    /// The process ends before the worker has done what was due, by a panic for example: what it was told last is put at
    /// the end of `out`, if there is anything.
    pub fn gave_no_answer(&mut self, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.line.push_str("null]");
            self.steps += 1;
            self.end_line(out);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.check = check(self.check, self.line.as_bytes());
        let digits = self.check >> 32;
        let _ = writeln!(self.line, " {digits:08x}");
        out.extend_from_slice(self.line.as_bytes());
        self.line.clear();
    }
}

/// A number that differs where the actions do; 0 for none.
pub(super) fn digest(actions: &[Action]) -> u64 {
    if actions.is_empty() { 0 } else { xxh3_64(json(&actions).as_bytes()) }
}

fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("text for keys, and no number that JSON lacks")
}
