//! Where positions are kept: in a bucket of their own, or in a database of the application.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use parti_core::delivery::{PositionRecord, Sequence, Timestamp};
use parti_core::{Outcome, PartitionId, Revision, Token};

use crate::bucket::Names;
use crate::delivery::template::key_part;
use crate::kv::{is_marker, last_message};
use crate::panics::caught;
use crate::refusal::{self, Meaning};

/// How often a write begins anew that the application came before. It is then looked at as any other that is in doubt.
const TRIES: u32 = 8;

/// Where an application keeps the positions of partitions, so that it can store one in the same transaction as the effect of
/// the message: then each message has its effect exactly once. A bucket of the group is what is used otherwise.
///
/// Keep one row for each partition:
///
/// ```sql
/// CREATE TABLE positions (
///     partition TEXT PRIMARY KEY,
///     token     BLOB NOT NULL,    -- Token::to_bytes
///     created   BIGINT NOT NULL,  -- when the stream was made
///     sequence  BIGINT NOT NULL,
///     timestamp BIGINT NOT NULL,
///     notes     TEXT NOT NULL
/// )
/// ```
///
/// Delivery [reads](Self::read) a row when a partition is acquired, and [claims](Self::replace) it under its own token. From
/// then on the handler moves the position, in one transaction with whatever else it writes for the message:
///
/// ```sql
/// UPDATE positions SET sequence = :sequence, timestamp = :timestamp
/// WHERE partition = :partition AND token = :token AND created = :created AND sequence < :sequence
/// ```
///
/// with what [`Delivered`](crate::Delivered) says of the message. *If that changes no row, roll the transaction back, and fail*:
/// another worker has the partition, the stream was made anew, or the message was stored before and its handler was interrupted.
/// Delivery then reads the row again, and knows which. After the transaction, [commit](crate::Messages::commit) the message, or
/// return from the handler: nothing more is stored for that.
///
/// Messages that were committed and never moved in a transaction count as finished when the partition is let go, and come again
/// after a crash. The position of a database that was restored from a backup goes back, as its effects do: stop the workers
/// meanwhile.
///
/// # Errors
///
/// An error or a panic of [`read`](Self::read) or [`replace`](Self::replace), or a call that takes longer than 5 s, holds up its
/// partition and no other, is logged, and is tried again 250 ms later. A row whose `notes` cannot be read stops its partition.
///
/// # Cost
///
/// One read when a partition is acquired. A read and a `replace` when it is claimed, when it is let go, and each time that
/// there is something to remember: a message that fails, or has become a dead letter. For a message that is finished, nothing
/// but the `UPDATE` in the handler's own transaction.
///
/// # Example
///
/// A lock stands for the database here: what is done under it is one transaction. The example
/// [`fenced-sql`](https://github.com/parti-rs/parti/blob/main/examples/fenced-sql/src/ledger.rs) does the same with SQL.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex};
///
/// use parti_nats::{Delivered, Delivery, KeptPosition, PartitionId, PositionStore, PositionStoreError};
///
/// #[derive(Default)]
/// struct Tables {
///     positions: BTreeMap<PartitionId, KeptPosition>,
///     bytes: BTreeMap<PartitionId, usize>,
/// }
///
/// #[derive(Default)]
/// struct Database(Mutex<Tables>);
///
/// impl PositionStore for Database {
///     async fn read(&self, partition: &PartitionId) -> Result<Option<KeptPosition>, PositionStoreError> {
///         let tables = self.0.lock().map_err(|_| "a handler has panicked")?;
///         Ok(tables.positions.get(partition).cloned())
///     }
///
///     async fn replace(
///         &self,
///         partition: &PartitionId,
///         expected: Option<KeptPosition>,
///         new: KeptPosition,
///     ) -> Result<bool, PositionStoreError> {
///         let mut tables = self.0.lock().map_err(|_| "a handler has panicked")?;
///         let is_expected = tables.positions.get(partition) == expected.as_ref();
///         if is_expected {
///             tables.positions.insert(partition.clone(), new);
///         }
///         Ok(is_expected)
///     }
/// }
///
/// impl Database {
///     /// Position and effect of a message, both or neither: to be called by its handler, which fails if this does.
///     fn count(&self, message: &Delivered) -> Result<(), &'static str> {
///         let mut tables = self.0.lock().map_err(|_| "a handler has panicked")?;
///         let Tables { positions, bytes } = &mut *tables;
///         let row = positions.get_mut(message.partition()).ok_or("nobody has claimed it")?;
///         let is_claim = (row.token, row.created) == (message.token(), message.stream_created());
///         if !is_claim || row.sequence >= message.sequence() {
///             return Err("it has another owner or another stream, or is counted already");
///         }
///         (row.sequence, row.timestamp) = (message.sequence(), message.timestamp());
///         *bytes.entry(message.partition().clone()).or_default() += message.payload().len();
///         Ok(())
///     }
/// }
///
/// let database = Arc::new(Database::default());
/// let delivery = Delivery::new("ORDERS", "orders.{partition}").positions(Arc::clone(&database));
/// ```
pub trait PositionStore: Send + Sync + 'static {
    /// The row of a partition; none if there is none. It must be what was last committed, not what a replica has.
    ///
    /// # Errors
    ///
    /// Whatever stands between. It is tried again.
    fn read(
        &self,
        partition: &PartitionId,
    ) -> impl Future<Output = Result<Option<KeptPosition>, PositionStoreError>> + Send;

    /// In one transaction: where the row of a partition is `expected`, or is not there if that is none, makes it `new`. Returns
    /// whether it was.
    ///
    /// # Errors
    ///
    /// Whatever stands between. What has become of the row is then read.
    fn replace(
        &self,
        partition: &PartitionId,
        expected: Option<KeptPosition>,
        new: KeptPosition,
    ) -> impl Future<Output = Result<bool, PositionStoreError>> + Send;
}

impl<S: PositionStore> PositionStore for Arc<S> {
    fn read(
        &self,
        partition: &PartitionId,
    ) -> impl Future<Output = Result<Option<KeptPosition>, PositionStoreError>> + Send {
        S::read(self, partition)
    }

    fn replace(
        &self,
        partition: &PartitionId,
        expected: Option<KeptPosition>,
        new: KeptPosition,
    ) -> impl Future<Output = Result<bool, PositionStoreError>> + Send {
        S::replace(self, partition, expected, new)
    }
}

/// Why a [`PositionStore`] could not be read or written.
pub type PositionStoreError = Box<dyn Error + Send + Sync>;

/// The row of a partition in a [`PositionStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPosition {
    /// The token of the worker that has claimed it last.
    pub token: Token,
    /// When the stream was made for which it was claimed, in nanoseconds since 1970.
    pub created: Timestamp,
    /// The last message that is finished; 0 if none is.
    pub sequence: Sequence,
    /// When the stream stored that message; 0 if there is none.
    pub timestamp: Timestamp,
    /// What delivery remembers beside it: text, a few hundred bytes, which nobody else is to change.
    pub notes: String,
}

/// A place whose type does not matter any more.
pub(crate) trait AnyStore: Send + Sync + 'static {
    fn read<'a>(&'a self, partition: &'a PartitionId) -> Answered<'a, Option<KeptPosition>>;
    fn replace<'a>(
        &'a self,
        partition: &'a PartitionId,
        expected: Option<KeptPosition>,
        new: KeptPosition,
    ) -> Answered<'a, bool>;
}

type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, PositionStoreError>> + Send + 'a>>;

impl<S: PositionStore> AnyStore for S {
    fn read<'a>(&'a self, partition: &'a PartitionId) -> Answered<'a, Option<KeptPosition>> {
        Box::pin(PositionStore::read(self, partition))
    }

    fn replace<'a>(
        &'a self,
        partition: &'a PartitionId,
        expected: Option<KeptPosition>,
        new: KeptPosition,
    ) -> Answered<'a, bool> {
        Box::pin(PositionStore::replace(self, partition, expected, new))
    }
}

/// A database of the application, as its settings have it.
#[derive(Clone)]
pub(crate) struct Given(pub(crate) Arc<dyn AnyStore>);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PositionStore")
    }
}

/// Where the positions are.
#[derive(Debug)]
pub(crate) enum Kept {
    InBucket(Box<Bucket>),
    ByApplication(Beside),
}

/// What is there, and its revision; an error in it means that the value cannot be read.
pub(crate) type Found = Option<(Result<PositionRecord, parti_core::RecordError>, Revision)>;

impl Kept {
    pub(crate) async fn read(&self, partition: &PartitionId) -> Result<Found, String> {
        match self {
            Self::InBucket(bucket) => bucket.read(partition).await,
            Self::ByApplication(beside) => beside.read(partition).await,
        }
    }

    pub(crate) async fn write(
        &self,
        partition: &PartitionId,
        expected: Option<Revision>,
        record: &PositionRecord,
        claims: bool,
    ) -> Outcome {
        match self {
            Self::InBucket(bucket) => bucket.write(partition, expected, record).await,
            Self::ByApplication(beside) => match beside.write(partition, expected, record, claims).await {
                Ok(outcome) => outcome,
                Err(reason) => {
                    tracing::warn!(event = "position_refused", %partition, reason, "the application's own store of positions has failed");
                    Outcome::Unknown
                }
            },
        }
    }
}

/// The bucket of positions of a group.
#[derive(Debug)]
pub(crate) struct Bucket {
    context: Context,
    names: Names,
    /// The revisions of the delete markers of positions that somebody has removed: to write one again depends on them.
    markers: Mutex<BTreeMap<PartitionId, Revision>>,
}

impl Bucket {
    pub(crate) fn new(context: Context, names: Names) -> Self {
        Self { context, names, markers: Mutex::default() }
    }

    async fn read(&self, partition: &PartitionId) -> Result<Found, String> {
        let bucket = self.context.get_stream_no_info(&self.names.stream).await.map_err(|error| error.to_string())?;
        let last = last_message(&bucket, &self.key(partition)).await.map_err(|error| error.to_string())?;
        let marker = last.as_ref().filter(|last| is_marker(&last.headers)).map(|last| Revision::new(last.sequence));
        match marker {
            Some(revision) => _ = locked(&self.markers).insert(partition.clone(), revision),
            None => _ = locked(&self.markers).remove(partition),
        }
        let last = last.filter(|_| marker.is_none());
        Ok(last.map(|last| (PositionRecord::decode(&last.payload), Revision::new(last.sequence))))
    }

    async fn write(&self, partition: &PartitionId, expected: Option<Revision>, record: &PositionRecord) -> Outcome {
        let expected = expected.or_else(|| locked(&self.markers).get(partition).copied()).unwrap_or_default();
        let message =
            PublishMessage::build().payload(record.encode().into()).expected_last_subject_sequence(expected.value());
        let published = self.context.send_publish(self.key(partition), message);
        match async { published.await?.await }.await {
            Ok(stored) => Outcome::Committed(Revision::new(stored.sequence)),
            Err(error) => match refusal::meaning(&error) {
                Meaning::ConditionFailed => Outcome::Conflict,
                Meaning::Refused => {
                    tracing::warn!(event = "position_refused", %partition, %error, "the server refuses to store a position");
                    Outcome::Refused
                }
                Meaning::NotReady | Meaning::Unknown => Outcome::Unknown,
            },
        }
    }

    fn key(&self, partition: &PartitionId) -> String {
        format!("{}pos.{}", self.names.stored, key_part(partition))
    }
}

/// A database in which the application moves positions, and delivery writes beside it.
#[derive(Debug)]
pub(crate) struct Beside {
    store: Given,
    /// What was last read or written of each partition, by a number of its own: rows have no revisions.
    known: Mutex<BTreeMap<PartitionId, (Revision, Option<KeptPosition>)>>,
    last: AtomicU64,
}

impl Beside {
    pub(crate) fn new(store: Given) -> Self {
        Self { store, known: Mutex::default(), last: AtomicU64::new(0) }
    }

    async fn read(&self, partition: &PartitionId) -> Result<Found, String> {
        let row = asked(self.store.0.read(partition)).await?;
        let revision = self.remember(partition, row.clone());
        Ok(row.map(|row| (record_of(&row), revision)))
    }

    async fn write(
        &self,
        partition: &PartitionId,
        expected: Option<Revision>,
        record: &PositionRecord,
        claims: bool,
    ) -> Result<Outcome, String> {
        for _ in 0..TRIES {
            let stored = asked(self.store.0.read(partition)).await?;
            // A write that comes late does not open what its hold has let go.
            let is_closed = |row: &KeptPosition| record_of(row).is_ok_and(|stored| !stored.open);
            let is_own = |row: &KeptPosition| {
                !claims && (row.token, row.created) == (record.token, record.created) && !is_closed(row)
            };
            let Some(row) = stored.filter(is_own) else {
                return self.claim(partition, expected, row_of(record, None)).await;
            };
            let new = row_of(record, Some(&row));
            if let Some(outcome) = self.replace(partition, Some(row), new).await? {
                return Ok(outcome);
            }
        }
        Err(format!("the application has written {TRIES} times in between"))
    }

    /// Writes over what was read as `expected`, and over nothing else: so nobody has finished anything since.
    async fn claim(
        &self,
        partition: &PartitionId,
        expected: Option<Revision>,
        new: KeptPosition,
    ) -> Result<Outcome, String> {
        let is_it = |(revision, row): &&(Revision, Option<KeptPosition>)| {
            row.is_none() == expected.is_none() && expected.is_none_or(|expected| expected == *revision)
        };
        let Some((_, row)) = locked(&self.known).get(partition).filter(is_it).cloned() else {
            return Ok(Outcome::Conflict);
        };
        Ok(self.replace(partition, row, new).await?.unwrap_or(Outcome::Conflict))
    }

    /// Returns none if the row was another one.
    async fn replace(
        &self,
        partition: &PartitionId,
        row: Option<KeptPosition>,
        new: KeptPosition,
    ) -> Result<Option<Outcome>, String> {
        let is_done = asked(self.store.0.replace(partition, row, new.clone())).await?;
        Ok(is_done.then(|| Outcome::Committed(self.remember(partition, Some(new)))))
    }

    fn remember(&self, partition: &PartitionId, row: Option<KeptPosition>) -> Revision {
        let revision = Revision::new(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        locked(&self.known).insert(partition.clone(), (revision, row));
        revision
    }
}

/// What the application's code comes to. A panic in it is an error.
async fn asked<T>(answered: Answered<'_, T>) -> Result<T, String> {
    match caught(answered).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("it has panicked: {panic}")),
    }
}

/// What a row says: how far the application has come counts, whatever delivery has noted.
fn record_of(row: &KeptPosition) -> Result<PositionRecord, parti_core::RecordError> {
    let noted = PositionRecord::decode(row.notes.as_bytes())?;
    Ok(PositionRecord {
        token: row.token,
        created: row.created,
        seq: row.sequence,
        at: row.timestamp,
        through: noted.through.max(row.sequence),
        failed: noted.failed.filter(|failed| failed.seq > row.sequence),
        ..noted
    })
}

/// The row to write, where the application may have come further in the `other` one, which is of the same hold.
fn row_of(record: &PositionRecord, other: Option<&KeptPosition>) -> KeptPosition {
    let notes = String::from_utf8_lossy(&record.encode()).into_owned();
    let further = other.filter(|other| other.sequence > record.seq);
    let (sequence, timestamp) = further.map_or((record.seq, record.at), |other| (other.sequence, other.timestamp));
    KeptPosition { token: record.token, created: record.created, sequence, timestamp, notes }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use parti_core::Generation;

    use super::*;

    /// One row, as a database has it.
    #[derive(Default)]
    struct Row(Mutex<Option<KeptPosition>>);

    impl Row {
        /// What the statement of an application comes to.
        fn advance(&self, (token, created): (u64, u64), sequence: u64) -> bool {
            let mut row = locked(&self.0);
            let claim = (self::token(token), Timestamp::new(created));
            let is_claim =
                |row: &&mut KeptPosition| (row.token, row.created) == claim && row.sequence.value() < sequence;
            let Some(row) = row.as_mut().filter(is_claim) else { return false };
            (row.sequence, row.timestamp) = (Sequence::new(sequence), Timestamp::new(sequence));
            true
        }
    }

    impl PositionStore for Row {
        async fn read(&self, _: &PartitionId) -> Result<Option<KeptPosition>, PositionStoreError> {
            Ok(locked(&self.0).clone())
        }

        async fn replace(
            &self,
            _: &PartitionId,
            expected: Option<KeptPosition>,
            new: KeptPosition,
        ) -> Result<bool, PositionStoreError> {
            let mut row = locked(&self.0);
            let is_expected = *row == expected;
            if is_expected {
                *row = Some(new);
            }
            Ok(is_expected)
        }
    }

    fn token(epoch: u64) -> Token {
        Token { epoch: Generation::new(epoch), ..Token::default() }
    }

    fn record(epoch: u64, created: u64, seq: u64) -> PositionRecord {
        let (created, seq) = (Timestamp::new(created), Sequence::new(seq));
        PositionRecord { token: token(epoch), created, seq, through: seq, open: true, ..PositionRecord::default() }
    }

    fn revision(outcome: &Result<Outcome, String>) -> Revision {
        match outcome {
            Ok(Outcome::Committed(revision)) => *revision,
            other => panic!("it is not committed: {other:?}"),
        }
    }

    async fn found(beside: &Beside, one: &PartitionId) -> (PositionRecord, Option<Revision>) {
        let (record, revision) = beside.read(one).await.expect("it can be read").expect("it is there");
        (record.expect("delivery has written it"), Some(revision))
    }

    #[tokio::test]
    async fn a_claim_depends_on_what_was_read_and_later_writes_leave_the_position_where_it_is() {
        let (row, one) = (Arc::new(Row::default()), PartitionId::new("one").expect("a valid id"));
        let [former, next] = [0, 1].map(|_| Beside::new(Given(Arc::new(Arc::clone(&row)))));
        assert_eq!(former.read(&one).await, Ok(None));
        let claimed = Some(revision(&former.write(&one, None, &record(1, 7, 0), true).await));
        let (_, read) = found(&next, &one).await;
        assert!(row.advance((1, 7), 3));
        assert_eq!(next.write(&one, read, &record(2, 7, 0), true).await, Ok(Outcome::Conflict));
        revision(&former.write(&one, claimed, &record(1, 7, 0), false).await);
        let (stored, read) = found(&next, &one).await;
        assert_eq!((stored.seq, stored.at, stored.through), (Sequence::new(3), Timestamp::new(3), Sequence::new(3)));
        revision(&next.write(&one, read, &record(2, 7, 3), true).await);
        assert!(!row.advance((1, 7), 4), "it has another owner");
        assert_eq!(former.write(&one, claimed, &record(1, 7, 9), false).await, Ok(Outcome::Conflict));
        assert!(row.advance((2, 7), 4) && !row.advance((2, 7), 4));
    }

    #[tokio::test]
    async fn a_write_that_comes_late_does_not_open_what_was_let_go() {
        let (row, one) = (Arc::new(Row::default()), PartitionId::new("one").expect("a valid id"));
        let beside = Beside::new(Given(Arc::new(Arc::clone(&row))));
        assert_eq!(beside.read(&one).await, Ok(None));
        let claimed = Some(revision(&beside.write(&one, None, &record(1, 7, 0), true).await));
        let closed = PositionRecord { open: false, ..record(1, 7, 3) };
        revision(&beside.write(&one, claimed, &closed, false).await);
        assert_eq!(beside.write(&one, claimed, &record(1, 7, 2), false).await, Ok(Outcome::Conflict));
        assert_eq!(found(&beside, &one).await.0, closed);
    }

    #[tokio::test]
    async fn a_row_of_a_former_life_of_the_stream_is_replaced_whole_and_only_as_it_was_read() {
        let (row, one) = (Arc::new(Row::default()), PartitionId::new("one").expect("a valid id"));
        let beside = Beside::new(Given(Arc::new(Arc::clone(&row))));
        assert_eq!(beside.read(&one).await, Ok(None));
        let before = Some(revision(&beside.write(&one, None, &record(1, 7, 9), true).await));
        assert!(!row.advance((1, 8), 10), "its numbers are those of another stream");
        let now = Some(revision(&beside.write(&one, before, &record(1, 8, 2), false).await));
        assert_eq!(found(&beside, &one).await.0, record(1, 8, 2));
        // A late write for the former life.
        assert_eq!(beside.write(&one, now, &record(1, 7, 9), false).await, Ok(Outcome::Conflict));
        assert!(row.advance((1, 8), 3));
    }
}
