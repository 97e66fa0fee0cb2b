//! How a replay is shown: the same by every command.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::{self, Vec};
use core::fmt;
use core::str::FromStr;

use super::{Heading, Junction, Recording, RecordingError, Step};
use crate::ids::Instance;
use crate::time::{Duration, Instant};

/// Several segments, replayed in the order in which they were recorded, by whichever process.
#[derive(Debug)]
pub struct Replay<'a> {
    waiting: vec::IntoIter<(usize, Recording<'a>)>,
    current: Option<(usize, Recording<'a>)>,
    before: Option<Recording<'a>>,
    /// When the first segment of the current process began.
    start: Option<(Instance, Instant)>,
}

/// What a replay shows next.
#[derive(Debug)]
pub enum Shown {
    /// Another segment begins.
    Segment(Box<Begun>),
    /// The worker was told something.
    Step(Box<Step>),
    /// The segment cannot be read any further; the next one follows.
    Broken {
        /// Which of the files.
        file: usize,
        /// Why.
        error: RecordingError,
    },
}

/// A segment that begins.
#[derive(Debug)]
pub struct Begun {
    /// Which of the files it is.
    pub file: usize,
    /// What it is of.
    pub heading: Heading,
    /// How it goes on from the one before, if there is one.
    pub junction: Option<Junction>,
    /// Whether the worker divides by a strategy that comes with the library.
    pub has_known_strategy: bool,
}

impl<'a> Replay<'a> {
    /// Reads how each of these files begins.
    ///
    /// # Errors
    ///
    /// Which of them cannot be read, and why.
    pub fn new(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, (usize, RecordingError)> {
        let read = |(file, bytes)| Recording::read(bytes).map(|one| (file, one)).map_err(|error| (file, error));
        let mut recordings = files.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        recordings.sort_by_key(|(_, one)| (one.heading().since_1970_ms, one.heading().step));
        Ok(Self { waiting: recordings.into_iter(), current: None, before: None, start: None })
    }

    /// How much time has passed at `at`, since the first segment of the process began.
    pub fn since_start(&self, at: Instant) -> Duration {
        self.start.map(|(_, start)| at.since(start)).unwrap_or_default()
    }

    /// Which file is being replayed, and the line that was read last.
    pub fn place(&self) -> Option<(usize, u64)> {
        self.current.as_ref().map(|(file, recording)| (*file, recording.line()))
    }

    fn begin(&mut self) -> Option<Shown> {
        let (file, recording) = self.waiting.next()?;
        let heading = recording.heading().clone();
        let junction = self.before.as_ref().map(|before| recording.junction_with(before));
        if self.start.is_none_or(|(instance, _)| instance != heading.instance) {
            self.start = Some((heading.instance, heading.at));
        }
        let has_known_strategy = recording.has_known_strategy();
        self.current = Some((file, recording));
        Some(Shown::Segment(Box::new(Begun { file, heading, junction, has_known_strategy })))
    }
}

impl Iterator for Replay<'_> {
    type Item = Shown;

    fn next(&mut self) -> Option<Shown> {
        if let Some((file, recording)) = &mut self.current {
            match recording.next() {
                Some(Ok(step)) => return Some(Shown::Step(Box::new(step))),
                Some(Err(error)) => return Some(Shown::Broken { file: *file, error }),
                None => self.before = self.current.take().map(|(_, recording)| recording),
            }
        }
        self.begin()
    }
}

impl Begun {
    /// What a person should know of it, line by line.
    pub fn texts(&self) -> Vec<String> {
        let Heading { parti, group, instance, segment, step, .. } = &self.heading;
        let mut texts = Vec::from([format!(
            "## {group}, process {:016x}, parti {parti}: segment {segment}, from event {step} on",
            instance.value()
        )]);
        match self.junction {
            None | Some(Junction::Seamless) => {}
            Some(Junction::Gap(events)) => texts.push(format!("!! {events} events before it are not here")),
            Some(Junction::Differs) => texts.push("!! it does not begin with what the worker knows here".into()),
            Some(Junction::Another) => texts.push("!! it does not go on from the segment before".into()),
        }
        if !self.heading.is_of_this_version() {
            let own = env!("CARGO_PKG_VERSION");
            texts.push(format!("!! parti {parti} has recorded it, and this is {own}, which may decide otherwise"));
        }
        if !self.has_known_strategy {
            texts.push(
                "!! the worker divides by a strategy of its own, which is not here: its plans will differ".into(),
            );
        }
        texts
    }
}

impl Step {
    /// What there is to tell, line by line: what it was told (`<-`), what it has become (`=>`), what it asks for (`->`), and
    /// whether that is something else than was recorded (`!!`).
    pub fn texts(&self) -> Vec<String> {
        let mut texts = Vec::from([format!("<- {}", self.event)]);
        texts.extend(self.change.clone());
        texts.extend(self.actions.iter().map(|action| format!("-> {action}")));
        texts.extend(self.doubt().map(Into::into));
        texts
    }

    fn doubt(&self) -> Option<&'static str> {
        match self.agrees {
            Some(true) => None,
            Some(false) => Some("!! it asked for something else when it was recorded"),
            None => Some("!! the process ended before its answer was recorded"),
        }
    }
}

/// One line for people: what there is to tell of a step, and when that was.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When, since the start.
    pub since_start: Duration,
    /// When, by the calendar.
    pub since_1970: Option<Duration>,
    /// What was told, decided or asked for.
    pub text: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(time) = self.since_1970 {
            write!(f, "{} ", rfc3339(time))?;
        }
        let since = self.since_start;
        write!(f, "{}.{:06}s {}", since.as_secs(), since.subsec_micros(), self.text)
    }
}

/// A time that somebody names, to see what was before or after it: since the start, as `12.4s`, or by the calendar, as the
/// beginning of `2026-11-30T17:05:03.123Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// Since the start.
    SinceStart(Duration),
    /// By the calendar in UTC, as far as it was named.
    Calendar(String),
}

impl Time {
    /// Where this time is, as seen from that one. What has no calendar is at every time of it.
    pub fn compare(&self, since_start: Duration, since_1970: Option<Duration>) -> core::cmp::Ordering {
        match (self, since_1970) {
            (Self::SinceStart(time), _) => since_start.cmp(time),
            (Self::Calendar(_), None) => core::cmp::Ordering::Equal,
            (Self::Calendar(time), Some(since_1970)) => {
                let shown = rfc3339(since_1970);
                let named = time.trim_end_matches('Z');
                shown.get(..named.len()).unwrap_or(&shown).cmp(named)
            }
        }
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError { text: text.escape_debug().take(64).collect() };
        let is_date = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z' | '.');
        if text.len() >= 10 && text.as_bytes()[4] == b'-' && text.chars().all(is_date) {
            return Ok(Self::Calendar(text.into()));
        }
        let (whole, rest) = text.trim_end_matches('s').split_once('.').unwrap_or((text.trim_end_matches('s'), ""));
        if rest.len() > 9 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let nanos: u32 = format!("{rest:0<9}").parse().map_err(|_| wrong())?;
        let seconds: u64 = whole.parse().map_err(|_| wrong())?;
        Ok(Self::SinceStart(Duration::new(seconds, nanos)))
    }
}

/// Text that names no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time must be seconds since the start or a date and time in UTC, but is \"{text}\": write it like 12.4s or 2026-11-30T17:05"
)]
pub struct TimeError {
    /// The text, escaped and shortened.
    pub text: String,
}

/// A time of day as RFC 3339 writes it, in UTC and milliseconds, of the time since 1970.
pub fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second % 3_600 / 60, second % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date so many days after the first of 1970, by eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use core::cmp::Ordering;

    use super::*;

    #[test]
    fn times_are_written_as_programs_read_them() {
        let at = |seconds: u64, millis: u64| rfc3339(Duration::from_secs(seconds) + Duration::from_millis(millis));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(at(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let since_start = |millis| Ok(Time::SinceStart(Duration::from_millis(millis)));
        assert_eq!((Time::from_str("12.4s"), Time::from_str("3")), (since_start(12_400), since_start(3_000)));
        for wrong in ["", "s", "1.2.3", "-1", "1.0000000001", "99999999999999999999", "2026-13-01x"] {
            let refused = Time::from_str(wrong);
            assert!(matches!(&refused, Err(TimeError { text }) if text == wrong), "{refused:?}");
        }
    }

    #[test]
    fn a_time_of_the_calendar_counts_as_far_as_it_is_named() {
        let time = |text: &str| Time::from_str(text).expect("a time");
        let at = Some(Duration::from_millis(951_782_461_500)); // 2000-02-29T00:01:01.500Z
        for (named, expected) in [
            ("2000-02-29T00:01", Ordering::Equal),
            ("2000-02-29T00:01:01.500Z", Ordering::Equal),
            ("2000-02-29T00:02", Ordering::Less),
            ("2000-02-28", Ordering::Greater),
        ] {
            assert_eq!(time(named).compare(Duration::ZERO, at), expected, "{named}");
        }
        assert_eq!(time("2000-02-28").compare(Duration::ZERO, None), Ordering::Equal);
        assert_eq!(time("2.5s").compare(Duration::from_secs(2), at), Ordering::Less);
    }
}
