//! What operators do to a group: wishes, and the end of a tenure that nobody keeps up.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use parti_core::delivery::Sequence;
use parti_core::{
    Bucket, Config, Control, ControlRecord, GroupName, Key, MemberPhase, Outcome, Record, Revision, Slot, Write,
};

use crate::bucket::{self, Names};
use crate::clock;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::health::Signs;
use crate::kv::{Store, is_marker, last_message};
use crate::positions::{self, PositionPicture, StreamEnds};

/// How often a write is tried that meets other writes.
const MAX_TRIES: u32 = 8;
/// How often a silent record is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// By which lease a worker is judged whose record names none, as [`Config::lease`] is by default.
const LEASE_OF_OLD_RECORDS: Duration = Duration::from_secs(10);

/// Writes and takes back what operators want of a group. Wishes hold while they are there, whoever leads.
///
/// What it must be allowed is [`Role::Operator`](crate::Role::Operator), and for [`evict`](Self::evict) more than that.
///
/// ```no_run
/// # async fn drain() -> Result<(), Box<dyn std::error::Error>> {
/// use parti_nats::{Control, ControlRecord, GroupName, Operator, Slot};
///
/// let client = async_nats::connect("nats://localhost:4222").await?;
/// let operator = Operator::open(client, &GroupName::new("orders")?).await?;
/// let wish = ControlRecord { by: "ada".into(), reason: "new disks".into(), ..ControlRecord::default() };
/// operator.wish(Control::Drain(Slot::new(7)), wish).await?;
/// operator.withdraw(Control::Drain(Slot::new(7))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Operator {
    group: GroupName,
    connection: Connection,
    members: Names,
    store: Store,
}

/// What became of an [eviction](Operator::evict).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The tenure has ended: what it had goes to others.
    Done,
    /// The worker is alive, as a write of it shows: nothing was done. It can be drained.
    Alive,
    /// Nobody has the slot.
    Nobody,
}

/// What is stored under a key.
struct Stored {
    revision: Revision,
    /// None if it was deleted.
    record: Option<Record>,
}

impl Operator {
    /// Begins to operate on `group`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoGroup`] if there is none of that name; and what the server says.
    pub async fn open(client: Client, group: &GroupName) -> Result<Self, Error> {
        Self::open_in(client, group, None).await
    }

    /// The same where the group's buckets are in a `JetStream` domain, such as that of a leaf node.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_in_domain(client: Client, group: &GroupName, domain: &str) -> Result<Self, Error> {
        Self::open_in(client, group, Some(domain)).await
    }

    async fn open_in(client: Client, group: &GroupName, domain: Option<&str>) -> Result<Self, Error> {
        let signs = Arc::new(Signs::new(group.as_str()));
        let connection = Connection::adopt(client, &Config::default(), signs).await?;
        let connection = connection.in_domain(domain).patient();
        bucket::assert_group(&connection.jetstream, group).await?;
        let (members, store) = (Names::new(group, Bucket::Members), Store::new(connection.clone(), group));
        Ok(Self { group: group.clone(), connection, members, store })
    }

    /// Wants something, in place of what was wanted under the same key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutcomeUnknown`] if the server has not said whether it was stored, as where a permission is missing;
    /// [`ErrorKind::Refused`] if it says that it was not; [`ErrorKind::Conflict`] if others were faster again and again.
    pub async fn wish(&self, control: Control, wish: ControlRecord) -> Result<Revision, Error> {
        let (key, record) = (Key::Control(control), Record::Control(Arc::new(wish)));
        for _ in 0..MAX_TRIES {
            let write = match self.stored(key).await? {
                None => Write::Create { key, record: record.clone() },
                Some(Stored { revision, .. }) => Write::Update { key, record: record.clone(), expected: revision },
            };
            if let Some(revision) = self.execute(&write).await? {
                return Ok(revision);
            }
        }
        Err(Error::new(ErrorKind::Conflict { what: key.to_string() }))
    }

    /// Wants that no longer; false if it was not wanted.
    ///
    /// # Errors
    ///
    /// As [`wish`](Self::wish).
    pub async fn withdraw(&self, control: Control) -> Result<bool, Error> {
        let key = Key::Control(control);
        for _ in 0..MAX_TRIES {
            let Some(Stored { revision, record: Some(_) }) = self.stored(key).await? else { return Ok(false) };
            if self.execute(&Write::Delete { key, expected: revision }).await?.is_some() {
                return Ok(true);
            }
        }
        Err(Error::new(ErrorKind::Conflict { what: key.to_string() }))
    }

    /// Ends the tenure of a worker that is gone: waits until its record has not changed for its lease and an eighth of it,
    /// by the clock of this machine, and then deletes it on the condition that it still has not. A leader does the same by
    /// itself; this is for where none does, or where a [maintenance](Control::Maintenance) holds what the worker had.
    ///
    /// # Errors
    ///
    /// As [`wish`](Self::wish); and [`ErrorKind::Record`] if the record cannot be read, so that nobody knows its lease.
    pub async fn evict(&self, slot: Slot) -> Result<Eviction, Error> {
        let key = Key::Slot(slot);
        let Some(Stored { revision, record: Some(Record::Member(record)) }) = self.stored(key).await? else {
            return Ok(Eviction::Nobody);
        };
        let lease = record.lease_ms.map_or(LEASE_OF_OLD_RECORDS, Duration::from_millis);
        // Who restarts has released everything already.
        let patience = match record.phase {
            MemberPhase::Restarting => Duration::ZERO,
            MemberPhase::Active | MemberPhase::Draining => lease.saturating_add(lease / 8),
        };
        let seen_at = clock::now();
        while clock::now().since(seen_at) < patience {
            tokio::time::sleep(LOOK).await;
            match self.stored(key).await? {
                Some(now) if now.revision == revision => {}
                Some(Stored { record: Some(_), .. }) => return Ok(Eviction::Alive),
                Some(Stored { record: None, .. }) | None => return Ok(Eviction::Nobody),
            }
        }
        let deleted = self.execute(&Write::Delete { key, expected: revision }).await?;
        Ok(if deleted.is_some() { Eviction::Done } else { Eviction::Alive })
    }

    /// Stores that the next message of a partition is the one of this number, or the first after it, if its position is
    /// still as it was `seen` in a stream with these `ends`. An owner that has the position open is stopped by it, and
    /// goes on there only when it takes the partition again: ask for a position that is not open.
    ///
    /// It must be allowed to publish to `$KV.parti_<group>_positions.pos.>`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the position was written since; [`ErrorKind::Record`] if it cannot be read; and as
    /// [`wish`](Self::wish).
    pub async fn seek(&self, seen: &PositionPicture, ends: StreamEnds, next: Sequence) -> Result<Revision, Error> {
        positions::seek(&self.connection.jetstream, &self.group, seen, ends, next).await
    }

    /// What the stream's leader has under `key`; `None` if nothing was ever written there.
    async fn stored(&self, key: Key) -> Result<Option<Stored>, Error> {
        let Names { bucket, stream, stored, .. } = &self.members;
        let failed = |error: async_nats::Error| {
            let (bucket, stream) = (bucket.clone(), stream.clone());
            let source = std::io::Error::other(error);
            Error::with_source(ErrorKind::Store { bucket, stream, attempt: "read" }, source)
        };
        let opened =
            self.connection.jetstream.get_stream_no_info(stream).await.map_err(|error| failed(error.into()))?;
        let last = last_message(&opened, &format!("{stored}{key}")).await.map_err(|error| failed(error.into()))?;
        let Some(message) = last else { return Ok(None) };
        let revision = Revision::new(message.sequence);
        if is_marker(&message.headers) {
            return Ok(Some(Stored { revision, record: None }));
        }
        match (Record::decode(key, &message.payload), key) {
            (Ok(record), _) => Ok(Some(Stored { revision, record: Some(record) })),
            // Whatever somebody has written there is wanted no more, or something else instead.
            (Err(_), Key::Control(_)) => {
                let record = Some(Record::Control(Arc::default()));
                Ok(Some(Stored { revision, record }))
            }
            (Err(error), _) => Err(Error::with_source(ErrorKind::Record { key: key.to_string() }, error)),
        }
    }

    /// The revision of a write that has committed; `None` if somebody else was faster.
    async fn execute(&self, write: &Write) -> Result<Option<Revision>, Error> {
        let what = write.key().to_string();
        match self.store.execute(write).await {
            Outcome::Committed(revision) => Ok(Some(revision)),
            Outcome::Conflict => Ok(None),
            Outcome::Unknown => Err(Error::new(ErrorKind::OutcomeUnknown { what })),
            Outcome::Refused => {
                let said = self.connection.signs.warnings.list().into_iter().map(|warning| warning.text);
                Err(Error::new(ErrorKind::Refused { what, said: said.collect::<Vec<_>>().join("; ") }))
            }
        }
    }
}
