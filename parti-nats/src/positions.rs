//! How far messages are finished, for whoever looks from outside, and where a partition is to go on.

use std::time::SystemTime;

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parti_core::delivery::{PositionRecord, Sequence, Timestamp};
use parti_core::{GroupName, PartitionId, Revision};

use crate::bucket::{self, Names};
use crate::clock;
use crate::delivery::template::{key_part, partition_of};
use crate::error::{Error, ErrorKind};
use crate::kv::{is_marker, last_message};
use crate::observer::harmless_words;
use crate::refusal::{self, Meaning};

/// How many positions are read at the same time.
const READS_IN_FLIGHT: usize = 64;

/// How far the messages of one partition are finished, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PositionPicture {
    /// Which partition.
    pub partition: PartitionId,
    /// The write of it.
    pub revision: Revision,
    /// When it was written, by the server's clock.
    pub written: SystemTime,
    /// What it says, or why it cannot be read, as [harmless](crate::harmless) text.
    pub record: Result<PositionRecord, String>,
}

/// What a stream of messages holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnds {
    /// When it was made, as its server says.
    pub created: Timestamp,
    /// The number of the first message that it still has.
    pub first: Sequence,
    /// The number of the last message that it was given, 0 if none was.
    pub last: Sequence,
}

/// All positions of a group, in the order of the partitions; `None` if it has no bucket of them.
pub(crate) async fn read_all(jetstream: &Context, group: &GroupName) -> Result<Option<Vec<PositionPicture>>, Error> {
    let names = Names::positions(group);
    if bucket::find(jetstream, &names).await?.is_none() {
        return Ok(None);
    }
    let failed = |error: async_nats::Error| store_error(&names, error);
    let bucket = jetstream.get_stream_no_info(&names.stream).await.map_err(|error| failed(error.into()))?;
    let prefix = format!("{}pos.", names.stored);
    let subjects = bucket.info_with_subjects(format!("{prefix}>")).await.map_err(|error| failed(error.into()))?;
    let partitions = subjects.try_filter_map(|(subject, _)| {
        let partition = subject.strip_prefix(&prefix).and_then(partition_of);
        std::future::ready(Ok(partition))
    });
    let partitions: Vec<PartitionId> = partitions.try_collect().await.map_err(|error| failed(error.into()))?;
    let read = partitions.into_iter().map(|partition| read(jetstream, &names, partition));
    let read: Vec<_> = stream::iter(read).buffer_unordered(READS_IN_FLIGHT).try_collect().await?;
    let mut found: Vec<_> = read.into_iter().flatten().collect();
    found.sort_by(|one, other| one.partition.cmp(&other.partition));
    Ok(Some(found))
}

/// One position; `None` if there is none.
async fn read(jetstream: &Context, names: &Names, partition: PartitionId) -> Result<Option<PositionPicture>, Error> {
    let failed = |error: async_nats::Error| store_error(names, error);
    let bucket = jetstream.get_stream_no_info(&names.stream).await.map_err(|error| failed(error.into()))?;
    let last = last_message(&bucket, &key(names, &partition)).await.map_err(|error| failed(error.into()))?;
    Ok(last.filter(|last| !is_marker(&last.headers)).map(|last| PositionPicture {
        partition,
        revision: Revision::new(last.sequence),
        written: last.time.into(),
        record: PositionRecord::decode(&last.payload).map_err(|error| harmless_words(&error.to_string())),
    }))
}

fn key(names: &Names, partition: &PartitionId) -> String {
    format!("{}pos.{}", names.stored, key_part(partition))
}

fn store_error(names: &Names, error: async_nats::Error) -> Error {
    let Names { bucket, stream, .. } = names.clone();
    Error::with_source(ErrorKind::Store { bucket, stream, attempt: "read" }, std::io::Error::other(error))
}

/// What a stream holds; `None` if there is no stream of that name.
pub(crate) async fn stream_ends(jetstream: &Context, name: &str) -> Result<Option<StreamEnds>, Error> {
    let stream = match jetstream.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => {
                    let stream = crate::harmless(name, 64);
                    Err(Error::with_source(
                        ErrorKind::Store { bucket: stream.clone(), stream, attempt: "looked at" },
                        error,
                    ))
                }
            };
        }
    };
    let info = stream.cached_info();
    Ok(Some(StreamEnds {
        created: Timestamp::new(clock::nanos_since_1970(info.created.into())),
        first: Sequence::new(info.state.first_sequence),
        last: Sequence::new(info.state.last_sequence),
    }))
}

/// Stores that the next message of a partition is `next`, or the first after it, if its position is still as it was seen.
pub(crate) async fn seek(
    jetstream: &Context,
    group: &GroupName,
    seen: &PositionPicture,
    ends: StreamEnds,
    next: Sequence,
) -> Result<Revision, Error> {
    let names = Names::positions(group);
    let what = format!("the position of {:?}", seen.partition);
    let before = seen
        .record
        .clone()
        .map_err(|why| Error::with_source(ErrorKind::Record { key: what.clone() }, std::io::Error::other(why)))?;
    // No message is named, so that it fits the stream whatever it has there.
    let through = Sequence::new(next.value().saturating_sub(1));
    let record = PositionRecord {
        created: ends.created,
        seq: Sequence::default(),
        at: Timestamp::default(),
        through,
        open: false,
        failed: None,
        ..before
    };
    let message = PublishMessage::build().payload(record.encode().into());
    let message = message.expected_last_subject_sequence(seen.revision.value());
    let written = async { jetstream.send_publish(key(&names, &seen.partition), message).await?.await };
    match written.await {
        Ok(stored) => Ok(Revision::new(stored.sequence)),
        Err(error) => Err(match refusal::meaning(&error) {
            Meaning::ConditionFailed => Error::new(ErrorKind::Conflict { what }),
            Meaning::Refused => Error::new(ErrorKind::Refused { what, said: error.to_string() }),
            Meaning::NotReady | Meaning::Unknown => Error::with_source(ErrorKind::OutcomeUnknown { what }, error),
        }),
    }
}
