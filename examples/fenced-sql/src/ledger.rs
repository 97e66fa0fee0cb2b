//! The database of a handler of messages: what each message came to, and how far each partition has come.

use std::path::Path;

use parti_nats::{Delivered, KeptPosition, PartitionId, PositionStore, PositionStoreError, Sequence, Timestamp, Token};
use rusqlite::{Connection, OptionalExtension, params};

use crate::database::Database;
use crate::totals::TotalsError;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS positions (
        partition TEXT PRIMARY KEY,
        token     BLOB NOT NULL,
        created   INTEGER NOT NULL,
        sequence  INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        notes     TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS entries (
        partition TEXT NOT NULL,
        sequence  INTEGER NOT NULL,
        body      TEXT NOT NULL
    ) STRICT;";

/// Changes nothing where another worker has claimed the partition, where the stream was made anew since, or where the message
/// is finished already.
const ADVANCE: &str = "
    UPDATE positions SET sequence = ?4, timestamp = ?5
    WHERE partition = ?1 AND token = ?2 AND created = ?3 AND sequence < ?4";

/// An entry for each message, and the positions of the partitions, shared by the handlers of a process.
#[derive(Debug)]
pub struct Ledger(Database);

impl Ledger {
    /// Opens a database, and makes its tables if they are not there.
    ///
    /// # Errors
    ///
    /// [`TotalsError::Database`] if that cannot be.
    pub fn open(path: &Path) -> Result<Self, TotalsError> {
        Ok(Self(Database::open(path, TABLES)?))
    }

    /// Enters a message, and moves the position of its partition, in one transaction: neither is there without the other.
    ///
    /// # Errors
    ///
    /// [`TotalsError`]; nothing has changed then.
    pub fn enter(&self, message: &Delivered) -> Result<(), TotalsError> {
        let claim = (message.token(), message.stream_created());
        let at = (message.sequence(), message.timestamp());
        self.enter_as(message.partition(), claim, at, &String::from_utf8_lossy(message.payload()))
    }

    /// The same, of what a message says: under which token it is worked on, and when its stream was made.
    ///
    /// # Errors
    ///
    /// [`TotalsError`]; nothing has changed then.
    pub fn enter_as(
        &self,
        partition: &PartitionId,
        (token, created): (Token, Timestamp),
        (sequence, timestamp): (Sequence, Timestamp),
        body: &str,
    ) -> Result<(), TotalsError> {
        self.0.write(|transaction| {
            transaction.execute(
                "INSERT INTO entries VALUES (?1, ?2, ?3)",
                params![partition.as_str(), sequence.value(), body],
            )?;
            let (id, bytes, created) = (partition.as_str(), token.to_bytes(), created.value());
            let place = params![id, bytes, created, sequence.value(), timestamp.value()];
            match transaction.execute(ADVANCE, place)? {
                0 => Err(TotalsError::NotEntered { partition: partition.clone(), token, sequence }),
                _ => Ok(()),
            }
        })
    }

    /// The sequence and the body of each entry, in the order in which they came, with its partition.
    ///
    /// # Errors
    ///
    /// [`TotalsError::Database`].
    pub fn entries(&self) -> Result<Vec<(String, u64, String)>, TotalsError> {
        let connection = self.0.connection();
        let mut all = connection.prepare("SELECT partition, sequence, body FROM entries ORDER BY rowid")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl PositionStore for Ledger {
    async fn read(&self, partition: &PartitionId) -> Result<Option<KeptPosition>, PositionStoreError> {
        Ok(row(&self.0.connection(), partition)?)
    }

    async fn replace(
        &self,
        partition: &PartitionId,
        expected: Option<KeptPosition>,
        new: KeptPosition,
    ) -> Result<bool, PositionStoreError> {
        Ok(self.0.write(|transaction| {
            if row(transaction, partition)? != expected {
                return Ok(false);
            }
            let KeptPosition { token, created, sequence, timestamp, notes } = new;
            let (token, created) = (token.to_bytes(), created.value());
            let place = params![partition.as_str(), token, created, sequence.value(), timestamp.value(), notes];
            transaction.execute("INSERT OR REPLACE INTO positions VALUES (?1, ?2, ?3, ?4, ?5, ?6)", place)?;
            Ok(true)
        })?)
    }
}

fn row(connection: &Connection, partition: &PartitionId) -> Result<Option<KeptPosition>, rusqlite::Error> {
    let mut found = connection
        .prepare_cached("SELECT token, created, sequence, timestamp, notes FROM positions WHERE partition = ?1")?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(KeptPosition {
            token: Token::from_bytes(row.get(0)?),
            created: Timestamp::new(row.get(1)?),
            sequence: Sequence::new(row.get(2)?),
            timestamp: Timestamp::new(row.get(3)?),
            notes: row.get(4)?,
        })
    };
    found.query_row([partition.as_str()], read).optional()
}
