//! How answers look: text for people, JSON for programs.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parti_nats::recording;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// How much of a cell is shown on a terminal; elsewhere nothing is cut off.
const MAX_CELL: usize = 48;

/// What a cell says, by which it has its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Notable,
    Bad,
}

/// A table: the head, and the rows.
pub(crate) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(crate) fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    /// As lines: in columns on a terminal and elsewhere.
    pub(crate) fn text(&self, style: Style) -> String {
        let cells: Vec<Vec<(String, Tone)>> =
            self.rows.iter().map(|row| row.iter().map(|(text, tone)| (style.cell(text), *tone)).collect()).collect();
        let width = |column: usize| {
            let of_rows = cells.iter().map(|row| row[column].0.chars().count());
            of_rows.chain([self.head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<(String, Tone)>| {
            let last = cells.len().saturating_sub(1);
            let padded = cells.into_iter().zip(&widths).enumerate().map(|(at, ((text, tone), width))| {
                let room = if at == last { 0 } else { width.saturating_sub(text.chars().count()) };
                format!("{}{}", style.paint(&text, tone), " ".repeat(room))
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let head = self.head.iter().map(|name| ((*name).to_owned(), Tone::Plain)).collect();
        cells.into_iter().fold(line(head), |text, row| text + &line(row))
    }
}

/// What the output is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    is_terminal: bool,
    has_colour: bool,
}

impl Style {
    /// That of the standard output.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_terminal, has_colour: is_terminal && !refused && !dumb }
    }

    pub(crate) fn has_colour(self) -> bool {
        self.has_colour
    }

    /// Whether nothing is to be left out.
    pub(crate) fn is_whole(self) -> bool {
        !self.is_terminal
    }

    /// Text from a record or a list, harmless for whatever shows it.
    pub(crate) fn cell(self, text: &str) -> String {
        parti_nats::harmless(text, if self.is_terminal { MAX_CELL } else { usize::MAX })
    }

    pub(crate) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Notable => "33",
            Tone::Bad => "31",
            Tone::Plain => return text.to_owned(),
        };
        if self.has_colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Prints text or a document. A reader that has gone is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    to_stdout(|out| out.write_all(text.as_bytes())).map(drop)
}

/// Lets `write` write to the standard output.
pub(crate) fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<u8, Failure> {
    let mut bytes = Vec::new();
    let written = write(&mut bytes).and_then(|()| {
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::cannot_tell(format!("the answer could not be written: {error}")))
        }
        Ok(()) | Err(_) => Ok(crate::failure::FINE),
    }
}

/// Prints a document of this kind for the group; `fields` is an object.
pub(crate) fn print_json(kind: &str, group: &str, fields: Value) -> Result<(), Failure> {
    print(&(document(kind, group, fields).to_string() + "\n"))
}

pub(crate) fn document(kind: &str, group: &str, fields: Value) -> Value {
    let mut all = Map::new();
    all.insert("v".to_owned(), 1.into());
    all.insert("kind".to_owned(), kind.into());
    all.insert("group".to_owned(), group.into());
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    Value::Object(all)
}

/// Says on the standard error why there is no answer.
pub(crate) fn complain(failure: &Failure) {
    // Where even that cannot be written, the exit code has to do.
    let _ = writeln!(io::stderr(), "parti: {failure}");
}

/// Says on the standard error how things go on.
pub(crate) fn tell(text: &str) {
    // As above.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A duration as people say it: its two largest units.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So many of something.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A time of day as RFC 3339 writes it, in UTC and milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    recording::rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_programs_read_them() {
        let at = |seconds: u64, millis: u64| {
            rfc3339(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(at(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_a_record_holds_does_nothing_to_a_terminal_and_is_whole_elsewhere() {
        let hostile = format!("\u{1b}[2J<b>{}", "x".repeat(1_000));
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![(hostile, Tone::Bad), ("b".to_owned(), Tone::Plain)]);
        let piped = table.text(Style { is_terminal: false, has_colour: false });
        assert!(piped.contains(&"x".repeat(1_000)) && !piped.contains('\u{1b}'), "{piped}");
        let shown = table.text(Style { is_terminal: true, has_colour: false });
        assert!(shown.lines().all(|line| line.chars().count() < 60), "{shown}");
    }
}
