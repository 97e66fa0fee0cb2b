//! Traces in files: the setting that a run derives from, then every line of it.

use std::io::{self, BufRead, Write};

use crate::scenario::{Keep, Scenario};
use crate::setting::options::Options;
use crate::swarm::{self, Plan};
use crate::told::trace::Trace;

/// The first line of a trace file.
const HEAD: &str = "# parti-sim trace 1";
/// What a scenario's second line begins with; its setting follows the name.
const SCENARIO: &str = "# scenario ";
/// What a random world's second line begins with; the plan follows.
const SWARM: &str = "# swarm ";

/// A run that can be repeated.
#[derive(Clone, Debug)]
pub enum Repeatable {
    /// A scenario in a setting.
    Scenario(Scenario, Box<Options>),
    /// A random world.
    Swarm(Box<Plan>),
}

impl Repeatable {
    /// Lets it happen again, and keeps every line.
    pub fn trace(&self) -> Trace {
        let keep = Keep { trace: true, recording: false };
        let trace = match self {
            Self::Scenario(scenario, options) => scenario.run(options, keep).trace,
            Self::Swarm(plan) => swarm::run(plan, true).trace,
        };
        trace.unwrap_or_default()
    }

    /// Writes the setting and `trace`, as [`read`](Self::read) reads it.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, trace: &Trace, to: &mut impl Write) -> io::Result<()> {
        writeln!(to, "{HEAD}")?;
        match self {
            Self::Scenario(scenario, options) => writeln!(to, "{SCENARIO}{} {}", scenario.name, json(options))?,
            Self::Swarm(plan) => writeln!(to, "{SWARM}{}", json(plan))?,
        }
        for line in trace.lines() {
            writeln!(to, "{line}")?;
        }
        to.flush()
    }

    /// Reads what was written, with the lines as they were then.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a trace.
    pub fn read(from: &mut impl BufRead) -> io::Result<(Self, Vec<String>)> {
        let mut lines = from.lines();
        let mut next = || lines.next().unwrap_or_else(|| Ok(String::new()));
        let (head, setting) = (next()?, next()?);
        if head != HEAD {
            return Err(not_a_trace(format!("its first line must be {HEAD:?}, but is {head:?}")));
        }
        let repeatable = if let Some(rest) = setting.strip_prefix(SCENARIO) {
            let (name, options) = rest.split_once(' ').unwrap_or((rest, ""));
            let scenario =
                Scenario::named(name).ok_or_else(|| not_a_trace(format!("there is no scenario {name:?}")))?;
            let options = serde_json::from_str(options).map_err(not_a_trace)?;
            Self::Scenario(scenario, Box::new(options))
        } else if let Some(plan) = setting.strip_prefix(SWARM) {
            Self::Swarm(Box::new(serde_json::from_str(plan).map_err(not_a_trace)?))
        } else {
            return Err(not_a_trace(format!("its second line must be a setting, but is {setting:?}")));
        };
        Ok((repeatable, lines.collect::<io::Result<_>>()?))
    }
}

fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string(data).expect("plain data has no value that JSON lacks")
}

fn not_a_trace(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a trace of parti-sim: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_reads_back_with_its_setting_and_happens_again() {
        let plan = Plan::random(5, None, false);
        let repeatable = Repeatable::Swarm(Box::new(plan.clone()));
        let trace = repeatable.trace();
        let mut file = Vec::new();
        repeatable.write(&trace, &mut file).expect("a vector takes everything");
        let (again, lines) = Repeatable::read(&mut file.as_slice()).expect("its own writing");
        assert!(matches!(&again, Repeatable::Swarm(read) if **read == plan));
        assert!(lines.len() > 100, "something happened");
        assert!(again.trace().lines().iter().map(ToString::to_string).eq(lines));
    }

    #[test]
    fn what_is_not_a_trace_is_refused_with_the_reason() {
        let read = |text: &str| Repeatable::read(&mut text.as_bytes()).expect_err("no trace").to_string();
        assert!(read("hello").contains("first line"));
        assert!(read("# parti-sim trace 1\n# scenario nonsense {}").contains("no scenario \"nonsense\""));
        assert!(read("# parti-sim trace 1\n# swarm {\"a\":1}").contains("unknown field"));
    }
}
