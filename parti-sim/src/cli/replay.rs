//! `replay`: lets what a trace or a flight recording tells of happen again, and shows it.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use parti_core::recording::{Line, Replay, Shown, Time};
use parti_sim::{Moment, Repeatable, TraceLine};

/// The lines of a trace file that tell what it is.
const LINES_BEFORE_THE_TRACE: usize = 2;
/// The exit code for what does not happen as it did before.
const OTHERWISE: u8 = 5;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A trace file, as `scenario --trace` and `swarm --save` write it, or the flight recording of a real worker.
    file: PathBuf,
    /// Only what happened from then on, such as `12.4s`; of a recording also such as `2026-11-30T17:05`.
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Only what happened until then.
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
    /// Only what happened to this process, such as `w3`, and to the whole world.
    #[arg(long, value_parser = process, value_name = "W")]
    worker: Option<usize>,
    /// Only lines with this text, such as `p00012` or `slot.3`.
    #[arg(long)]
    grep: Option<String>,
}

pub(super) fn replay(args: &ReplayArgs, out: &mut impl Write) -> io::Result<u8> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", args.file.display()));
    let bytes = std::fs::read(&args.file).map_err(named)?;
    if bytes.starts_with(b"{") {
        return fly_again(args, &bytes, out);
    }
    let (repeatable, before) = Repeatable::read(&mut bytes.as_slice()).map_err(named)?;
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
    Ok(OTHERWISE)
}

/// Tells the worker of a flight recording the same again.
fn fly_again(args: &ReplayArgs, bytes: &[u8], out: &mut impl Write) -> io::Result<u8> {
    let broken = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", args.file.display()));
    let mut replay = Replay::new([bytes]).map_err(|(_, error)| broken(error))?;
    let mut code = 0;
    while let Some(shown) = replay.next() {
        match shown {
            Shown::Segment(begun) => begun.texts().iter().try_for_each(|text| writeln!(out, "{text}"))?,
            Shown::Broken { error, .. } => return Err(broken(error)),
            Shown::Step(step) => {
                let since_start = replay.since_start(step.at);
                code = if step.agrees == Some(false) { OTHERWISE } else { code };
                for text in step.texts().iter().filter(|text| args.tells(text, since_start, step.since_1970)) {
                    writeln!(out, "{}", Line { since_start, since_1970: step.since_1970, text })?;
                }
            }
        }
    }
    Ok(code)
}

impl ReplayArgs {
    fn tells(&self, text: &str, since_start: Duration, since_1970: Option<Duration>) -> bool {
        let compared = |time: &Time| time.compare(since_start, since_1970);
        self.from.as_ref().map(compared) != Some(Ordering::Less)
            && self.until.as_ref().map(compared) != Some(Ordering::Greater)
            && self.grep.as_ref().is_none_or(|grep| text.contains(grep.as_str()))
    }

    fn shows(&self, line: &TraceLine) -> bool {
        let of_worker = |worker: &usize| line.process.is_none_or(|process| process.index() == *worker);
        self.from.as_ref().and_then(moment).is_none_or(|from| line.at >= from)
            && self.until.as_ref().and_then(moment).is_none_or(|until| line.at <= until)
            && self.worker.as_ref().is_none_or(of_worker)
            && self.grep.as_ref().is_none_or(|text| line.text.contains(text.as_str()))
    }
}

/// The number of a process, as traces show it or bare.
fn process(text: &str) -> Result<usize, String> {
    let number = text.strip_prefix('w').unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is not a process such as w3: the trace counts them from w0"))
}

/// A time since the start of the world.
fn moment(time: &Time) -> Option<Moment> {
    match time {
        Time::SinceStart(time) => Some(Moment::START + *time),
        Time::Calendar(_) => None, // which a world has none of
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use parti_sim::swarm::{self, Plan};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }

    #[test]
    fn a_flight_recording_is_shown_line_by_line_and_what_is_wrong_with_it_is_said() {
        let worlds = swarm::record(&Plan::random(5, None, false), 60);
        let path = std::env::temp_dir().join(format!("parti-sim-replay-{}.rec", std::process::id()));
        let told = |bytes: &[u8], more: &[&str]| {
            std::fs::write(&path, bytes)?;
            let path = path.to_str().expect("UTF-8");
            let Line { args } = Line::parse_from([&["replay", path], more].concat());
            let mut out = Vec::new();
            replay(&args, &mut out).map(|code| (code, String::from_utf8(out).expect("text")))
        };
        let (code, text) = told(&worlds[0][0], &[]).expect("its own writing");
        assert!(code == 0 && text.starts_with("## simulated, process ") && text.contains("\n0.000000s <- "), "{text}");
        let (_, few) = told(&worlds[0][0], &["--until", "0s", "--grep", "<- "]).expect("its own writing");
        assert!(few.lines().count() > 1 && few.lines().skip(1).all(|line| line.starts_with("0.000000s <- ")), "{few}");
        let cut = told(&worlds[0][0][..5_000], &[]).expect_err("its end is missing").to_string();
        assert!(cut.contains("it is cut off in line "), "{cut}");
        std::fs::remove_file(&path).expect("its own");
    }

    #[test]
    fn processes_are_read_as_traces_show_them() {
        assert_eq!((process("w3"), process("12")), (Ok(3), Ok(12)));
        assert!(process("worker-3").is_err());
    }
}
