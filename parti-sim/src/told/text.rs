//! What a scenario tells a person: what happened when, then what was measured beside what was expected.

use std::fmt;

use crate::scenario::Outcome;
use crate::told::fact::ProcessId;
use crate::told::observers::TimelineEntry;
use crate::world::clock::Moment;

/// How many lines of the timeline are printed.
const MAX_TIMELINE: usize = 60;
/// How far apart entries may be that are told as one, in nanoseconds.
const TOGETHER_NANOS: u64 = 1_000_000_000;

/// An outcome as text.
#[derive(Debug)]
pub struct Plain<'a>(pub &'a Outcome);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        timeline(f, outcome)?;
        table(f, outcome)?;
        if let Some(violation) = &outcome.violation {
            writeln!(f, "\n{violation}")?;
        }
        if let Some(why) = outcome.why_nothing_was_shown() {
            writeln!(f, "\n{why}")?;
        }
        Ok(())
    }
}

fn timeline(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    let told = merged(&outcome.timeline);
    for entry in told.iter().take(MAX_TIMELINE) {
        writeln!(f, "{entry}")?;
    }
    if told.len() > MAX_TIMELINE {
        writeln!(f, "… and {} more", told.len() - MAX_TIMELINE)?;
    }
    writeln!(f)
}

/// Some entries of the timeline, told as one.
struct Told<'a> {
    first: Moment,
    last: Moment,
    who: Vec<ProcessId>,
    what: &'a str,
    kind: &'a str,
}

/// Tells entries of one kind that come close together as one.
fn merged(timeline: &[TimelineEntry]) -> Vec<Told<'_>> {
    let mut told: Vec<Told<'_>> = Vec::new();
    for entry in timeline {
        let kind = kind_of(&entry.what);
        let same = told.iter_mut().rev().take(8).find(|told| {
            told.kind == kind && entry.at.as_nanos() < told.last.as_nanos() + TOGETHER_NANOS && entry.who.is_some()
        });
        match same {
            Some(same) => {
                same.last = entry.at;
                same.who.extend(entry.who);
            }
            None => told.push(Told {
                first: entry.at,
                last: entry.at,
                who: entry.who.into_iter().collect(),
                what: &entry.what,
                kind,
            }),
        }
    }
    told
}

/// What it is that happened, in a word or two.
fn kind_of(what: &str) -> &str {
    let words = |count: usize| what.match_indices([' ', ':']).nth(count - 1).map_or(what, |(end, _)| &what[..end]);
    if matches!(words(1), "has" | "is" | "leads") { words(2) } else { words(1) }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14}  ", self.first.to_string())?;
        match self.who.as_slice() {
            [] => write!(f, "{:<8}{}", "--", self.what),
            [one] => write!(f, "{:<8}{}", one.to_string(), self.what),
            [first, rest @ ..] => {
                write!(f, "{:<8}{} (and {} more times until {})", first.to_string(), self.what, rest.len(), self.last)
            }
        }
    }
}

fn table(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    let figures = &outcome.figures;
    writeln!(
        f,
        "{}: {} workers, {} partitions, seed {}; measured from {}",
        figures.scenario, figures.workers, figures.partitions, figures.seed, outcome.measured_from
    )?;
    for (name, value) in [
        ("recovery", format!("{:.3} s", figures.recovery_s)),
        ("partitions moved", figures.moved.to_string()),
        ("affinity", format!("{:.3}", figures.affinity)),
        ("rounds / plans", format!("{} / {}", figures.rounds, figures.plans)),
        ("orphan partition-seconds", format!("{:.3}", figures.orphan_ps)),
        ("longest without an owner", format!("{:.3} s", figures.max_orphan_s)),
        ("duplicate partition-seconds", format!("{:.3}", figures.dup_ps)),
        ("peak / mean load", format!("{:.3}", figures.peak_mean)),
        ("store writes", figures.store_writes.to_string()),
    ] {
        writeln!(f, "  {name:<34}{value:>14}")?;
    }
    writeln!(f, "\n  {:<34}{:>14}   expected", "expectation", "measured")?;
    for expectation in &outcome.expectations {
        let mark = if expectation.held { "ok" } else { "FAILS" };
        writeln!(f, "  {:<34}{:>14}   {:<20}{mark}", expectation.what, expectation.measured, expectation.expected)?;
    }
    Ok(())
}
