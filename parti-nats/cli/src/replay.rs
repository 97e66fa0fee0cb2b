//! `replay`: what a worker was told and what it decided, from its flight recording. It asks no server.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use parti_nats::harmless;
use parti_nats::recording::{Begun, Line, RecordingError, Replay, Shown, Step, Time, rfc3339};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::failure::{CANNOT_TELL, FINE, Failure, NO};
use crate::show;

/// What to replay, and how much of it to show.
#[derive(Debug, Args)]
pub(crate) struct Recordings {
    /// The files that `Builder::record` has written, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only what happened from then on: 12.4s after the start, or 2026-11-30T17:05
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Only what happened until then
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
    /// Only lines with this text, such as orders-17 or slot.3
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Told {
    group: String,
    lines: Vec<String>,
    steps: Vec<Value>,
    segments: Vec<Value>,
    /// How many events there were, and the first one at which something else was decided.
    events: u64,
    differs_at: Option<u64>,
    broken: Vec<String>,
}

pub(crate) fn replay(global: &Global, wanted: &Recordings) -> Result<u8, Failure> {
    let name = |file: usize| wanted.files.get(file).map(|path| path.display().to_string()).unwrap_or_default();
    let files = wanted.files.iter().map(std::fs::read).enumerate();
    let files = files.map(|(file, bytes)| bytes.map_err(|error| unreadable(&name(file), &error)));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let mut replay =
        Replay::new(files.iter().map(Vec::as_slice)).map_err(|(file, error)| refused(&name(file), &error))?;
    let mut told = Told::default();
    loop {
        // Where the worker has panicked, it does so again.
        match catch_unwind(AssertUnwindSafe(|| replay.next())) {
            Ok(None) => break,
            Ok(Some(shown)) => told.take_in(shown, &replay, wanted, &name),
            Err(_) => {
                let (file, line) = replay.place().unwrap_or_default();
                told.broken.push(format!("{}: the worker panics at what line {line} tells it", name(file)));
                break;
            }
        }
    }
    told.print(global)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => Failure::nothing_there(error.to_string()),
        _ => Failure::cannot_tell(error.to_string()),
    };
    failure.trying(&format!("read {name}"))
}

fn refused(name: &str, error: &RecordingError) -> Failure {
    let failure = match error {
        RecordingError::NotARecording => Failure::usage(error.to_string()),
        _ => Failure::cannot_tell(error.to_string()),
    };
    failure.trying(&format!("replay {name}"))
}

impl Told {
    fn take_in(&mut self, shown: Shown, replay: &Replay<'_>, wanted: &Recordings, name: &dyn Fn(usize) -> String) {
        match shown {
            Shown::Segment(begun) => self.begin(&begun, name),
            Shown::Step(step) => self.step(&step, replay.since_start(step.at), wanted),
            Shown::Broken { file, error } => {
                self.broken.push(format!("{}: {error}", name(file)));
                self.lines.push(format!("!! {}: {error}", name(file)));
            }
        }
    }

    fn begin(&mut self, begun: &Begun, name: &dyn Fn(usize) -> String) {
        begun.heading.group.as_str().clone_into(&mut self.group);
        let texts = begun.texts();
        self.segments.push(json!({
            "file": name(begun.file),
            "parti": begun.heading.parti,
            "instance": format!("{:016x}", begun.heading.instance.value()),
            "segment": begun.heading.segment,
            "from_event": begun.heading.step,
            "remarks": texts[1..],
        }));
        self.lines.extend(texts);
    }

    fn step(&mut self, step: &Step, since_start: Duration, wanted: &Recordings) {
        self.events += 1;
        if step.agrees == Some(false) {
            self.differs_at = self.differs_at.or(Some(step.number));
        }
        if !wanted.shows(since_start, step.since_1970) {
            return;
        }
        let asks = |text: &String| wanted.grep.as_ref().is_none_or(|grep| text.contains(grep.as_str()));
        let texts: Vec<_> = step.texts().into_iter().filter(asks).collect();
        let line = |text: &String| Line { since_start, since_1970: step.since_1970, text }.to_string();
        self.lines.extend(texts.iter().map(line));
        if !texts.is_empty() {
            self.steps.push(json!({
                "event": step.number,
                "at": step.since_1970.map(rfc3339),
                "since_start_ms": show::millis(since_start),
                "agrees": step.agrees,
                "lines": texts,
            }));
        }
    }

    fn print(self, global: &Global) -> Result<u8, Failure> {
        let code = match (self.broken.is_empty(), self.differs_at) {
            (_, Some(_)) => NO,
            (false, None) => CANNOT_TELL,
            (true, None) => FINE,
        };
        if global.json {
            show::print_json(
                "replay",
                &self.group,
                json!({
                    "segments": self.segments,
                    "events": self.events,
                    "differs_at": self.differs_at,
                    "broken": self.broken,
                    "steps": self.steps,
                }),
            )?;
            return Ok(code);
        }
        let verdict = match self.differs_at {
            None => "and it decides as it did then".to_owned(),
            Some(event) => format!("and at event {event} it decides otherwise than it did then"),
        };
        let events = show::count(usize::try_from(self.events).unwrap_or(usize::MAX), "event");
        let lines = self.lines.into_iter().chain([format!("{events}, {verdict}")]);
        let text: String = lines.map(|line| harmless(&line, usize::MAX) + "\n").collect();
        show::print(&text)?;
        for broken in &self.broken {
            show::tell(&format!("parti: {}", harmless(broken, usize::MAX)));
        }
        Ok(code)
    }
}

impl Recordings {
    fn shows(&self, since_start: Duration, since_1970: Option<Duration>) -> bool {
        let compared = |time: &Time| time.compare(since_start, since_1970);
        self.from.as_ref().map(compared) != Some(Ordering::Less)
            && self.until.as_ref().map(compared) != Some(Ordering::Greater)
    }
}
