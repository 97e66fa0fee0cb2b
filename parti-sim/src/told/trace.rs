//! The run as text: one line for everything that happened, the same bytes for the same options.

use std::fmt::Write as _;

use parti_core::{Action, Event, KvEvent, MemberRecord, Outcome, PartitionId, PartitionList, Record, Write};

use crate::check::mark::Mark;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// How many partitions of a list are named.
const NAMED: usize = 4;

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
        Fact::Handed { event, .. } => format!("<- {}", describe_event(event)),
        Fact::Asked { action, .. } => format!("-> {}", describe_action(action)),
        Fact::Status { before, after, .. } => {
            let slot = after.slot.map_or("no slot".into(), parti_core::Slot::worker_name);
            let leads = if after.leader { ", leads" } else { "" };
            format!("{} => {} ({slot}, generation {}{leads})", before.state, after.state, after.generation)
        }
        Fact::Stored { write, outcome, late, .. } => {
            let late = if *late { ", late" } else { "" };
            format!("== {} {}: {}{late}", verb(write), write.key(), describe_outcome(*outcome))
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

fn describe_event(event: &Event) -> String {
    match event {
        Event::Timeout => "timeout".into(),
        Event::Kv(news) => describe_news(news),
        Event::Listening { session, server } => format!("listens at {server} in session {session}"),
        Event::Present { session, check } => format!("check {check} of session {session} is back"),
        Event::Probed { probe, outcome, server } => match server {
            Some(server) => format!("probe {probe}: {outcome:?} at {server}"),
            None => format!("probe {probe}: {outcome:?}"),
        },
        Event::Partitions(list) => format!("{} partitions", list.as_slice().len()),
        Event::Released { partition, token } => format!("released {partition} with {token}"),
        Event::GivenUp { partition, token } => format!("gives up {partition} with {token}"),
        Event::RecordLimit(bytes) => format!("records of at most {bytes} bytes"),
        Event::Command(command) => format!("command {command:?}"),
    }
}

fn describe_news(news: &KvEvent) -> String {
    match news {
        KvEvent::Entry { watch, key, revision, record } => {
            format!("watch {watch}: {key}@{revision} {}", describe_record(record))
        }
        KvEvent::Deleted { watch, key, revision } => format!("watch {watch}: {key}@{revision} deleted"),
        KvEvent::Undecodable { watch, key, revision, error } => {
            format!("watch {watch}: {key}@{revision} undecodable: {error}")
        }
        KvEvent::CaughtUp { watch, incarnation, last } => {
            format!("watch {watch}: caught up with {last} in life {incarnation}")
        }
        KvEvent::WatchLost { watch } => format!("watch {watch}: lost"),
        KvEvent::Done { operation, outcome } => format!("done {operation}: {}", describe_outcome(*outcome)),
        KvEvent::Lost => "connection lost".into(),
        KvEvent::Restored => "connection restored".into(),
    }
}

fn describe_action(action: &Action) -> String {
    match action {
        Action::Kv(request) => format!("{} {}", request.operation, describe_write(&request.write)),
        Action::Watch { watch, bucket, interest } => match interest {
            parti_core::Interest::All => format!("watch {watch} of {bucket}: all"),
            parti_core::Interest::Keys(keys) => {
                format!("watch {watch} of {bucket}: {}", listed(keys.iter().map(ToString::to_string)))
            }
        },
        Action::Listen => "listen".into(),
        Action::Check { session, check } => format!("check {check} of session {session}"),
        Action::Probe { probe, slot, instance, through } => {
            let who = |instance: &parti_core::Instance| format!("{:04x}", instance.value() >> 48);
            let through = through.as_ref().map(|helper| format!(" through {}", who(helper))).unwrap_or_default();
            format!("probe {probe}: slot.{slot} for {}{through}", who(instance))
        }
        Action::Acquire { partition, token } => format!("acquire {} with {token}", partition.id),
        Action::Prepare { partition } => format!("prepare {partition}"),
        Action::Release { partition, token, reason } => format!("release {partition} with {token}: {reason:?}"),
        Action::Cancel { partition, .. } => format!("cancel {partition}"),
        Action::Suspend { reason } => format!("suspend: {reason:?}"),
        Action::Resume => "resume".into(),
        Action::Notice(notice) => format!("notice {notice:?}"),
        Action::Halt => "halt".into(),
    }
}

fn describe_write(write: &Write) -> String {
    let (record, condition) = match write {
        Write::Create { record, .. } => (Some(record), "absent".into()),
        Write::Update { record, expected, .. } => (Some(record), format!("at {expected}")),
        Write::Delete { expected, .. } => (None, format!("at {expected}")),
        Write::Append { record, expected_last, .. } => (Some(record), format!("bucket at {expected_last}")),
    };
    let record = record.map(describe_record).unwrap_or_default();
    format!("{} {} if {condition} {record}", verb(write), write.key())
}

fn describe_outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Committed(revision) => format!("committed as {revision}"),
        Outcome::Conflict => "conflict".into(),
        Outcome::Refused => "refused".into(),
        Outcome::Unknown => "unknown".into(),
    }
}

pub(crate) fn describe_record(record: &Record) -> String {
    match record {
        Record::Member(record) => describe_member(record),
        Record::Leader(record) => {
            format!("{{slot {} tenure {} {:04x}}}", record.slot, record.tenure, record.instance.value() >> 48)
        }
        Record::Assignment(record) => format!(
            "{{term {} gen {} tenure {} owned {} releasing {} incoming {}}}",
            record.term,
            record.generation,
            record.tenure,
            listed(record.owned.iter().map(|grant| grant.partition.to_string())),
            named(&record.releasing),
            named(&record.incoming),
        ),
        Record::Control(record) => format!("{{control by {:?}}}", record.by),
        Record::Cluster(record) => format!(
            "{{term {} gen {} leader {} {:?} {} workers {} partitions}}",
            record.term, record.generation, record.leader, record.phase, record.workers, record.partitions
        ),
    }
}

fn describe_member(record: &MemberRecord) -> String {
    let mut text = format!("{{{:04x} {:?} applied {}", record.instance.value() >> 48, record.phase, record.applied);
    if let Some(tenure) = record.tenure {
        write!(text, " tenure {tenure}").expect("text takes everything");
    }
    if !record.releasing.is_empty() {
        write!(text, " releasing {}", named(&record.releasing)).expect("text takes everything");
    }
    text.push('}');
    text
}

fn named(ids: &[PartitionId]) -> String {
    listed(ids.iter().map(ToString::to_string))
}

/// The number of the items, and the first of them.
fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let count = items.len();
    let shown: Vec<_> = items.take(NAMED).collect();
    let more = if count > NAMED { ",…" } else { "" };
    format!("{count}[{}{more}]", shown.join(","))
}

/// What a write is called in figures and traces.
pub(crate) const fn verb(write: &Write) -> &'static str {
    match write {
        Write::Create { .. } => "create",
        Write::Update { .. } => "update",
        Write::Delete { .. } => "delete",
        Write::Append { .. } => "append",
    }
}
