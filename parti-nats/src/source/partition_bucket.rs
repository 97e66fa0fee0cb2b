//! A partition list that lives in the store: read and followed by workers, edited by applications and operators.

use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::{self, TryStreamExt};
use parti_core::{GroupName, Partition, PartitionId, PartitionList, Revision, Weight};

use super::stored::{self, Head, Written};
use super::{Source, SourceError};
use crate::bucket::{self, Names};
use crate::clock::{self, jittered};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::kv::{is_marker, last_message};
use crate::refusal::error_code;

/// The key of the head.
const HEAD: &str = "list";
/// How many bytes of a message are not for its value.
const RESERVED_BYTES: usize = 4 * 1024;
/// How many chunks are read or written at the same time.
const CHUNKS_IN_FLIGHT: usize = 16;
/// How often a list is read again that is replaced while it is read.
const MAX_READS: u32 = 5;
/// How often an edit is tried that meets other edits.
const MAX_TRIES: u32 = 20;
/// The mean wait between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// The mean time after which a worker looks again though nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The partition list of a group as it is kept in the bucket `parti_<group>_partitions`.
///
/// Every change is one conditional write: of two people who edit at the same time nobody undoes what the other did.
/// Workers that were built with [`Builder::partition_bucket`](crate::Builder::partition_bucket) follow within
/// milliseconds. A list of any length will do; past the payload limit of the server it is stored in chunks.
///
/// ```no_run
/// # async fn add() -> Result<(), Box<dyn std::error::Error>> {
/// use parti_nats::{GroupName, Partition, PartitionBucket, PartitionId};
///
/// let client = async_nats::connect("nats://localhost:4222").await?;
/// let bucket = PartitionBucket::open(client, &GroupName::new("orders")?, 1).await?;
/// bucket.add([Partition::new(PartitionId::new("orders-64")?)]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PartitionBucket {
    client: Client,
    jetstream: Context,
    names: Names,
}

/// A list and the write that made it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The list; empty if none was ever written.
    pub partitions: PartitionList,
    /// The revision of its head, 0 if none was ever written: what a [`PartitionBucket::replace`] depends on.
    pub revision: Revision,
}

/// What a reading of the list has found.
struct Found {
    /// None if there is none, since none was ever written or since it was deleted.
    list: Option<PartitionList>,
    revision: Revision,
    /// That of a list in chunks.
    digest: Option<u64>,
}

/// What is stored under the key of the head.
struct Stored {
    revision: u64,
    head: Option<Head>,
}

impl PartitionBucket {
    /// Opens the list of `group`; its bucket is created if it is not there, with `replicas` copies.
    ///
    /// # Errors
    ///
    /// What the server says if it neither has nor makes the bucket, or if that does not fit.
    pub async fn open(client: Client, group: &GroupName, replicas: usize) -> Result<Self, Error> {
        let bucket = Self::new(client.clone(), jetstream::new(client), group);
        bucket::ensure_one(&bucket.jetstream, &bucket.names, replicas).await?;
        Ok(bucket)
    }

    fn new(client: Client, jetstream: Context, group: &GroupName) -> Self {
        Self { client, jetstream, names: Names::partitions(group) }
    }

    /// The list as it is now, from the leader of the bucket's stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PartitionList`] if what is stored is no list, and what the server says if it does not answer.
    pub async fn read(&self) -> Result<Listed, Error> {
        let Found { list, revision, .. } = self.read_unless(None).await?;
        Ok(Listed { partitions: list.unwrap_or_default(), revision })
    }

    /// Replaces the whole list, if it is still the one of `expected`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if somebody has written since; [`ErrorKind::OutcomeUnknown`] if the server has not said
    /// whether the list was replaced; and what it says if it was not.
    pub async fn replace(&self, partitions: &PartitionList, expected: Revision) -> Result<Revision, Error> {
        let before = self.stored().await?;
        if before.revision != expected.value() {
            return Err(Error::new(ErrorKind::Conflict { what: "the partition list".into() }));
        }
        let limit = self.client.max_payload().saturating_sub(RESERVED_BYTES);
        let written = stored::encode(partitions, limit, clock::random_seed());
        self.write_chunks(&written).await?;
        let revision = self.write(HEAD, written.bytes, expected.value()).await;
        match &revision {
            Ok(_) => self.remove_chunks(before.head.as_ref()).await,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                self.remove_chunks(Some(&written.head)).await;
            }
            // The head may be there, or come yet: its chunks stay.
            Err(_) => {}
        }
        revision
    }

    /// Changes the list to what `change` makes of it, again if somebody else was faster.
    ///
    /// # Errors
    ///
    /// What `change` says; [`ErrorKind::Conflict`] if others were faster again and again; and what the server says.
    pub async fn edit(
        &self,
        mut change: impl FnMut(&PartitionList) -> Result<PartitionList, Error>,
    ) -> Result<Revision, Error> {
        let mut wanted: Option<PartitionList> = None;
        let mut last = Error::new(ErrorKind::Conflict { what: "the partition list".into() });
        for _ in 0..MAX_TRIES {
            let Listed { partitions, revision } = self.read().await?;
            // A try whose outcome was not known has succeeded after all.
            if wanted.as_ref() == Some(&partitions) {
                return Ok(revision);
            }
            let next = change(&partitions)?;
            match self.replace(&next, revision).await {
                Ok(revision) => return Ok(revision),
                Err(error) => match error.kind() {
                    ErrorKind::Conflict { .. } => last = error,
                    ErrorKind::OutcomeUnknown { .. } => (wanted, last) = (Some(next), error),
                    _ => return Err(error),
                },
            }
            tokio::time::sleep(jittered(BETWEEN_TRIES)).await;
        }
        Err(last)
    }

    /// Adds partitions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Partitions`] if one of them is there already; else as [`edit`](Self::edit).
    pub async fn add(&self, partitions: impl IntoIterator<Item = Partition>) -> Result<Revision, Error> {
        let new: Vec<_> = partitions.into_iter().collect();
        self.edit(|list| Ok(PartitionList::new(list.as_slice().iter().chain(&new).cloned().collect())?)).await
    }

    /// Removes partitions; those that are not there are removed already.
    ///
    /// # Errors
    ///
    /// As [`edit`](Self::edit).
    pub async fn remove(&self, ids: &[PartitionId]) -> Result<Revision, Error> {
        let stays = |partition: &&Partition| !ids.contains(&partition.id);
        self.edit(|list| Ok(PartitionList::new(list.as_slice().iter().filter(stays).cloned().collect())?)).await
    }

    /// Gives a partition another weight.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownPartition`] if it is not in the list; else as [`edit`](Self::edit).
    pub async fn set_weight(&self, id: &PartitionId, weight: Weight) -> Result<Revision, Error> {
        self.edit(|list| {
            let at = list.position(id).ok_or_else(|| Error::new(ErrorKind::UnknownPartition { id: id.clone() }))?;
            let mut partitions = list.as_slice().to_vec();
            partitions[at].weight = weight;
            Ok(PartitionList::new(partitions)?)
        })
        .await
    }

    /// The list; where it is still the `known` one, by its digest, its chunks are not read.
    async fn read_unless(&self, known: Option<(u64, &PartitionList)>) -> Result<Found, Error> {
        let mut last = None;
        for _ in 0..MAX_READS {
            let Stored { revision, head } = self.stored().await?;
            let revision = Revision::new(revision);
            let Some(head) = head else { return Ok(Found { list: None, revision, digest: None }) };
            let digest = head.digest.filter(|_| head.chunks.is_some());
            if let Some((_, partitions)) = known.filter(|(known, _)| Some(*known) == digest) {
                return Ok(Found { list: Some(partitions.clone()), revision, digest });
            }
            // Where some are missing, the list was replaced meanwhile, and its chunks removed.
            let Some(chunks) = self.read_chunks(&head).await? else { continue };
            match stored::decode(head, &chunks) {
                Ok(partitions) => return Ok(Found { list: Some(partitions), revision, digest }),
                Err(error) => last = Some(error),
            }
        }
        Err(self.unreadable(last.unwrap_or(stored::StoredError::Digest)))
    }

    async fn stored(&self) -> Result<Stored, Error> {
        let stream = self.jetstream.get_stream_no_info(&self.names.stream).await.map_err(|error| self.failed(error))?;
        match last_message(&stream, &self.subject(HEAD)).await.map_err(|error| self.failed(error))? {
            None => Ok(Stored { revision: 0, head: None }),
            Some(message) if is_marker(&message.headers) => Ok(Stored { revision: message.sequence, head: None }),
            Some(message) => {
                let head = stored::decode_head(&message.payload).map_err(|error| self.unreadable(error))?;
                Ok(Stored { revision: message.sequence, head: Some(head) })
            }
        }
    }

    /// What the chunks of `head` hold; `None` if one is not there.
    async fn read_chunks(&self, head: &Head) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let stream = self.jetstream.get_stream_no_info(&self.names.stream).await.map_err(|error| self.failed(error))?;
        let keys = head.chunks.as_ref().map(stored::Chunks::keys).unwrap_or_default();
        let read = |key: String| {
            let (stream, subject) = (&stream, self.subject(&key));
            async move { last_message(stream, &subject).await }
        };
        let chunks = stream::iter(keys.into_iter().map(read)).buffered(CHUNKS_IN_FLIGHT);
        let chunks: Vec<_> = chunks.try_collect().await.map_err(|error| self.failed(error))?;
        Ok(chunks.into_iter().map(|chunk| chunk.map(|message| message.payload.to_vec())).collect())
    }

    async fn write_chunks(&self, written: &Written) -> Result<(), Error> {
        let write = |(key, bytes): &(String, Vec<u8>)| {
            let (key, bytes) = (key.clone(), bytes.clone());
            async move { self.write(&key, bytes, 0).await.map(drop) }
        };
        stream::iter(written.chunks.iter().map(write)).buffered(CHUNKS_IN_FLIGHT).try_collect().await
    }

    /// Writes a key whose last revision is `expected`.
    async fn write(&self, key: &str, bytes: Vec<u8>, expected: u64) -> Result<Revision, Error> {
        let message = PublishMessage::build().payload(bytes.into()).expected_last_subject_sequence(expected);
        let written = async { self.jetstream.send_publish(self.subject(key), message).await?.await };
        match written.await {
            Ok(stored) => Ok(Revision::new(stored.sequence)),
            Err(error) => Err(match (error_code(&error), error.kind()) {
                (Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT), _) => {
                    Error::new(ErrorKind::Conflict { what: format!("the partition list ({key})") })
                }
                (Some(_), _) | (None, PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::StreamNotFound) => {
                    self.failed(error)
                }
                (None, _) => Error::with_source(ErrorKind::OutcomeUnknown { what: "the partition list".into() }, error),
            }),
        }
    }

    /// Removes chunks that no head names any more. If that fails, they are in nobody's way.
    async fn remove_chunks(&self, head: Option<&Head>) {
        let Some(chunks) = head.and_then(|head| head.chunks.as_ref()) else { return };
        let subject = self.subject(&format!("chunk.{}.>", chunks.edit));
        let removed = async {
            let stream = self.jetstream.get_stream_no_info(&self.names.stream).await?;
            stream.purge().filter(subject).await?;
            Ok::<_, async_nats::Error>(())
        };
        if let Err(error) = removed.await {
            tracing::debug!(%error, "chunks of an older partition list were left behind");
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.names.stored)
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        let Names { bucket, stream, .. } = self.names.clone();
        Error::with_source(ErrorKind::Store { bucket, stream, attempt: "read or written" }, error)
    }

    fn unreadable(&self, error: stored::StoredError) -> Error {
        Error::with_source(ErrorKind::PartitionList { bucket: self.names.bucket.clone() }, error)
    }
}

/// The list of the group, as a worker follows it.
#[derive(Debug)]
pub(crate) struct BucketSource {
    bucket: PartitionBucket,
    connection: Connection,
    doorbell: Option<Subscriber>,
    /// The last list that was stored in chunks, with its digest: so long a list is not read again for nothing.
    known: Option<(u64, PartitionList)>,
}

impl BucketSource {
    pub(crate) fn new(connection: Connection, group: &GroupName) -> Self {
        let bucket = PartitionBucket::new(connection.client.clone(), connection.jetstream.clone(), group);
        Self { bucket, connection, doorbell: None, known: None }
    }

    /// The list and the write that made it so, for whoever only looks; `None` if there is none, be it for want of a bucket.
    pub(crate) async fn listed(&mut self) -> Result<Option<Listed>, Error> {
        self.listen().await.map_err(|error| Error::with_source(ErrorKind::ConnectionClosed, error))?;
        if bucket::find(&self.bucket.jetstream, &self.bucket.names).await?.is_none() {
            return Ok(None);
        }
        let Found { list, revision, digest } = self.read_unless_known().await?;
        self.known = digest.zip(list.clone());
        Ok(list.map(|partitions| Listed { partitions, revision }))
    }

    async fn listen(&mut self) -> Result<(), async_nats::SubscribeError> {
        if self.doorbell.is_none() {
            let subject = format!("{}{HEAD}", self.bucket.names.repeated);
            self.doorbell = Some(self.connection.client.subscribe(subject).await?);
        }
        Ok(())
    }

    async fn read_unless_known(&self) -> Result<Found, Error> {
        let known = self.known.as_ref().map(|(digest, list)| (*digest, list));
        self.bucket.read_unless(known).await
    }
}

impl Source for BucketSource {
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        self.listen().await?;
        let Found { list, digest, .. } = self.read_unless_known().await?;
        // One that was deleted is not taken for an empty one, which would take everything from everyone.
        let Some(list) = list else {
            let bucket = &self.bucket.names.bucket;
            return Err(format!("{bucket} has no partition list: write one, be it empty").into());
        };
        self.known = digest.map(|digest| (digest, list.clone()));
        Ok(list)
    }

    /// The bell only says that something was written; what that is, is read from the store.
    async fn changed(&mut self) {
        let breaks = self.connection.breaks();
        let ring = async {
            match &mut self.doorbell {
                Some(doorbell) => doorbell.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = ring => {}
            () = self.connection.broken_since(breaks) => {
                self.connection.clone().wait_until_up().await;
            }
            () = tokio::time::sleep(jittered(LOOK_AGAIN)) => {}
        }
    }
}
