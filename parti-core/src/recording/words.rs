//! Events and actions in a few words, one line each: what traces and replays show.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{Display, Formatter, Result};

use crate::action::{Action, Write};
use crate::event::{Event, KvEvent, Outcome};
use crate::ids::{Instance, Slot};
use crate::partition::PartitionId;
use crate::stored::key::Interest;
use crate::stored::record::{MemberRecord, Record};
use crate::worker::Status;

/// How many partitions or keys of a list are named.
const NAMED: usize = 4;

/// In a few words, as a trace shows it.
impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Kv(news) => news.fmt(f),
            Self::Listening { session, server } => write!(f, "listens at {server} in session {session}"),
            Self::Present { session, check } => write!(f, "check {check} of session {session} is back"),
            Self::Probed { probe, outcome, server: Some(server) } => {
                write!(f, "probe {probe}: {outcome:?} at {server}")
            }
            Self::Probed { probe, outcome, server: None } => write!(f, "probe {probe}: {outcome:?}"),
            Self::Partitions(list) => write!(f, "{} partitions", list.len()),
            Self::Released { partition, token } => write!(f, "released {partition} with {token}"),
            Self::GivenUp { partition, token } => write!(f, "gives up {partition} with {token}"),
            Self::Load { partition, token, units } => write!(f, "{partition} with {token} weighs {units}"),
            Self::RecordLimit(bytes) => write!(f, "records of at most {bytes} bytes"),
            Self::Command(command) => write!(f, "command {command:?}"),
        }
    }
}

/// In a few words, as a trace shows it.
impl Display for KvEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Entry { watch, key, revision, record } => write!(f, "watch {watch}: {key}@{revision} {record}"),
            Self::Deleted { watch, key, revision } => write!(f, "watch {watch}: {key}@{revision} deleted"),
            Self::Undecodable { watch, key, revision, error } => {
                write!(f, "watch {watch}: {key}@{revision} undecodable: {error}")
            }
            Self::CaughtUp { watch, incarnation, last } => {
                write!(f, "watch {watch}: caught up with {last} in life {incarnation}")
            }
            Self::WatchLost { watch } => write!(f, "watch {watch}: lost"),
            Self::Done { operation, outcome } => write!(f, "done {operation}: {outcome}"),
            Self::Lost => f.write_str("connection lost"),
            Self::Restored => f.write_str("connection restored"),
        }
    }
}

/// In a few words, as a trace shows it.
impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Committed(revision) => write!(f, "committed as {revision}"),
            Self::Conflict => f.write_str("conflict"),
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// In a few words, as a trace shows it.
impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Kv(request) => write!(f, "{} {}", request.operation, request.write),
            Self::Watch { watch, bucket, interest: Interest::All } => write!(f, "watch {watch} of {bucket}: all"),
            Self::Watch { watch, bucket, interest: Interest::Keys(keys) } => {
                write!(f, "watch {watch} of {bucket}: {}", listed(keys.iter().map(ToString::to_string)))
            }
            Self::Listen => f.write_str("listen"),
            Self::Check { session, check } => write!(f, "check {check} of session {session}"),
            Self::Probe { probe, slot, instance, through } => {
                write!(f, "probe {probe}: slot.{slot} for {}", short(*instance))?;
                through.map_or(Ok(()), |helper| write!(f, " through {}", short(helper)))
            }
            Self::Acquire { partition, token } => write!(f, "acquire {} with {token}", partition.id),
            Self::Prepare { partition } => write!(f, "prepare {partition}"),
            Self::Release { partition, token, reason } => write!(f, "release {partition} with {token}: {reason:?}"),
            Self::Cancel { partition, .. } => write!(f, "cancel {partition}"),
            Self::Suspend { reason } => write!(f, "suspend: {reason:?}"),
            Self::Resume => f.write_str("resume"),
            Self::Notice(notice) => write!(f, "notice {notice:?}"),
            Self::Halt => f.write_str("halt"),
        }
    }
}

/// In a few words, as a trace shows it.
impl Display for Write {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (verb, key) = (self.verb(), self.key());
        match self {
            Self::Create { record, .. } => write!(f, "{verb} {key} if absent {record}"),
            Self::Update { record, expected, .. } => write!(f, "{verb} {key} if at {expected} {record}"),
            Self::Delete { expected, .. } => write!(f, "{verb} {key} if at {expected} "),
            Self::Append { record, expected_last, .. } => {
                write!(f, "{verb} {key} if bucket at {expected_last} {record}")
            }
        }
    }
}

/// In a few words, as a trace shows it.
impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Member(record) => member(f, record),
            Self::Leader(record) => {
                write!(f, "{{slot {} tenure {} {}}}", record.slot, record.tenure, short(record.instance))
            }
            Self::Assignment(record) => write!(
                f,
                "{{term {} gen {} tenure {} owned {} releasing {} incoming {}}}",
                record.term,
                record.generation,
                record.tenure,
                listed(record.owned.iter().map(|grant| grant.partition.to_string())),
                named(&record.releasing),
                named(&record.incoming),
            ),
            Self::Control(record) => write!(f, "{{control by {:?}}}", record.by),
            Self::Cluster(record) => write!(
                f,
                "{{term {} gen {} leader {} {:?} {} workers {} partitions}}",
                record.term, record.generation, record.leader, record.phase, record.workers, record.partitions
            ),
        }
    }
}

fn member(f: &mut Formatter<'_>, record: &MemberRecord) -> Result {
    write!(f, "{{{} {:?} applied {}", short(record.instance), record.phase, record.applied)?;
    if let Some(tenure) = record.tenure {
        write!(f, " tenure {tenure}")?;
    }
    if !record.releasing.is_empty() {
        write!(f, " releasing {}", named(&record.releasing))?;
    }
    f.write_str("}")
}

/// What a worker says of itself after an event, if that is something else than before: its state, slot, generation, and
/// whether it leads.
pub fn change_of_status(before: &Status, after: &Status) -> Option<String> {
    let told = |status: &Status| (status.state, status.slot, status.leader, status.generation);
    if told(before) == told(after) {
        return None;
    }
    let slot = after.slot.map_or("no slot".into(), Slot::worker_name);
    let leads = if after.leader { ", leads" } else { "" };
    Some(format!("{} => {} ({slot}, generation {}{leads})", before.state, after.state, after.generation))
}

/// As many digits of a process as a person compares.
fn short(instance: Instance) -> String {
    format!("{:04x}", instance.value() >> 48)
}

fn named(ids: &[PartitionId]) -> String {
    listed(ids.iter().map(ToString::to_string))
}

/// The number of the items, and the first of them.
fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let count = items.len();
    let shown: alloc::vec::Vec<_> = items.take(NAMED).collect();
    let more = if count > NAMED { ",…" } else { "" };
    format!("{count}[{}{more}]", shown.join(","))
}
