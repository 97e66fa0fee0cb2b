//! The run as text: one line for everything that happened, the same bytes for the same options.

use parti_core::PartitionList;
use parti_core::recording::change_of_status;

use crate::check::mark::Mark;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// What happened, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<TraceLine>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// When.
    pub at: Moment,
    /// To which process, if to one.
    pub process: Option<ProcessId>,
    /// To which partition, if to one.
    pub partition: Option<PartitionIndex>,
    /// What, in short.
    pub text: String,
}

impl std::fmt::Display for TraceLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process {
            Some(process) => write!(f, "{} {process} {}", self.at, self.text),
            None => write!(f, "{} -- {}", self.at, self.text),
        }
    }
}

impl Trace {
    /// Every line, in order.
    pub fn lines(&self) -> &[TraceLine] {
        &self.lines
    }

    /// The last `count` lines that `keep` keeps, in order.
    pub fn last(&self, count: usize, keep: impl Fn(&TraceLine) -> bool) -> Vec<&TraceLine> {
        let mut kept: Vec<_> = self.lines.iter().rev().filter(|line| keep(line)).take(count).collect();
        kept.reverse();
        kept
    }

    pub(crate) fn observe(&mut self, at: Moment, fact: &Fact<'_>, partitions: &PartitionList) {
        if let Some(text) = describe(fact, partitions) {
            self.lines.push(TraceLine { at, process: fact.process(), partition: partition_of(fact), text });
        }
    }
}

fn partition_of(fact: &Fact<'_>) -> Option<PartitionIndex> {
    match fact {
        Fact::Acquired { partition, .. }
        | Fact::Draining { partition, .. }
        | Fact::Works { partition, .. }
        | Fact::Stops { partition, .. }
        | Fact::Released { partition, .. }
        | Fact::Wrote { partition, .. }
        | Fact::Listed { partition, .. } => Some(*partition),
        Fact::Message { partition, .. } => *partition,
        _ => None,
    }
}

/// A fact in a few words; none for those that other lines tell.
pub(crate) fn describe(fact: &Fact<'_>, partitions: &PartitionList) -> Option<String> {
    let name = |partition: &PartitionIndex| &partitions.as_slice()[partition.index()].id;
    Some(match fact {
        Fact::Started { .. } => "starts".into(),
        Fact::Crashed { .. } => "CRASHES".into(),
        Fact::Halted { .. } => "has halted".into(),
        Fact::Paused { .. } => "PAUSES".into(),
        Fact::Woke { .. } => "wakes".into(),
        Fact::Handed { event, .. } => format!("<- {event}"),
        Fact::Asked { action, .. } => format!("-> {action}"),
        Fact::Status { before, after, .. } => change_of_status(before, after)?,
        Fact::Stored { write, outcome, late, .. } => {
            let late = if *late { ", late" } else { "" };
            format!("== {} {}: {outcome}{late}", write.verb(), write.key())
        }
        Fact::Works { partition, token, .. } => format!("works on {} with {token}", name(partition)),
        Fact::Stops { partition, .. } => format!("stops {}", name(partition)),
        Fact::Wrote { partition, accepted: false, token, .. } => {
            format!("is REFUSED by the fenced store for {} with {token}", name(partition))
        }
        Fact::Listed { partition, listed: true } => format!("{} joins the list", name(partition)),
        Fact::Listed { partition, listed: false } => format!("{} leaves the list", name(partition)),
        Fact::Disturbed { what, .. } => format!("FAULT {what}"),
        Fact::Operated { what, .. } => format!("OPERATOR {what}"),
        Fact::Mishap { mishap, .. } => format!("MISHAP {mishap:?}"),
        Fact::Reached { mark, .. } if !matches!(mark, Mark::Encoded) => format!("MET {mark:?}"),
        Fact::Healed => "all faults are over".into(),
        Fact::Forgotten { process, .. } => format!("the store has forgotten what keeps others apart from {process}"),
        Fact::PlanRegressed { last, generation, .. } => {
            format!("the plan is now at revision {last}, generation {generation}")
        }
        Fact::PlanBroughtBack { generation } => {
            format!("what comes back of the plan ends with generation {generation}")
        }
        Fact::MembersBroughtBack { last } => format!("what comes back of the members ends with revision {last}"),
        Fact::Wished { control, wanted: true } => format!("OPERATOR wants {control}"),
        Fact::Wished { control, wanted: false } => format!("OPERATOR no longer wants {control}"),
        Fact::Remembered { era, generation } => format!("generation {generation} of era {era} is still remembered"),
        Fact::Message { partition, what, .. } => what.describe(partition.as_ref().map_or("", |at| name(at).as_str())),
        Fact::Reached { .. }
        | Fact::Acquired { .. }
        | Fact::Draining { .. }
        | Fact::Released { .. }
        | Fact::Suspended { .. }
        | Fact::Resumed { .. }
        | Fact::Wrote { .. } => return None,
    })
}
