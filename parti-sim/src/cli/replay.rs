//! `replay`: lets what a trace tells of happen again, and shows it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use parti_sim::{Moment, Repeatable, TraceLine};

/// The lines of a trace file that tell what it is.
const LINES_BEFORE_THE_TRACE: usize = 2;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A trace file, as `scenario --trace` and `swarm --save` write it.
    file: PathBuf,
    /// Only what happened from then on, such as `12.4s`.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    from: Option<Moment>,
    /// Only what happened until then, such as `12.4s`.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    until: Option<Moment>,
    /// Only what happened to this process, such as `w3`, and to the whole world.
    #[arg(long, value_parser = process, value_name = "W")]
    worker: Option<usize>,
    /// Only lines with this text, such as `p00012` or `slot.3`.
    #[arg(long)]
    grep: Option<String>,
}

pub(super) fn replay(args: &ReplayArgs, out: &mut impl Write) -> io::Result<u8> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", args.file.display()));
    let file = std::fs::File::open(&args.file).map_err(named)?;
    let (repeatable, before) = Repeatable::read(&mut io::BufReader::new(file)).map_err(named)?;
    let trace = repeatable.trace();
    let mut shown = 0;
    for line in trace.lines().iter().filter(|line| args.shows(line)) {
        writeln!(out, "{line}")?;
        shown += 1;
    }
    if shown == 0 {
        writeln!(out, "none of the {} lines is as asked for", trace.lines().len())?;
    }
    let now: Vec<_> = trace.lines().iter().map(ToString::to_string).collect();
    if now == before {
        return Ok(0);
    }
    let place = now.iter().zip(&before).position(|(now, then)| now != then).unwrap_or(now.len().min(before.len()));
    let line = |lines: &[String]| lines.get(place).cloned().unwrap_or_else(|| "the end".into());
    writeln!(
        out,
        "it did not happen as it did before: line {} was\n  {}\nand now is\n  {}",
        place + LINES_BEFORE_THE_TRACE + 1,
        line(&before),
        line(&now)
    )?;
    writeln!(
        out,
        "the file was written by another version of the program, or chance comes from elsewhere than the seed"
    )?;
    Ok(5)
}

impl ReplayArgs {
    fn shows(&self, line: &TraceLine) -> bool {
        let of_worker = |worker: &usize| line.process.is_none_or(|process| process.index() == *worker);
        self.from.is_none_or(|from| line.at >= from)
            && self.until.is_none_or(|until| line.at <= until)
            && self.worker.as_ref().is_none_or(of_worker)
            && self.grep.as_ref().is_none_or(|text| line.text.contains(text.as_str()))
    }
}

/// The number of a process, as traces show it or bare.
fn process(text: &str) -> Result<usize, String> {
    let number = text.strip_prefix('w').unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is not a process such as w3: the trace counts them from w0"))
}

/// Seconds with up to nine digits after the point, with or without an `s`.
fn moment(text: &str) -> Result<Moment, String> {
    let wrong = || format!("{text:?} is not a time such as 12.4s");
    let (whole, rest) = text.trim_end_matches('s').split_once('.').unwrap_or((text.trim_end_matches('s'), ""));
    if rest.len() > 9 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let nanos: u64 = format!("{rest:0<9}").parse().map_err(|_| wrong())?;
    let seconds: u64 = whole.parse().map_err(|_| wrong())?;
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(nanos))
        .map(Moment::from_nanos)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_as_traces_show_them() {
        assert_eq!((process("w3"), process("12")), (Ok(3), Ok(12)));
        assert!(process("worker-3").is_err());
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(moment("12.4s"), Ok(Moment::from_millis(12_400)));
        assert_eq!(moment("3"), Ok(Moment::from_millis(3_000)));
        for wrong in ["", "s", "1.2.3", "-1", "1.0000000001", "99999999999999999999"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
