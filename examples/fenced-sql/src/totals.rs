//! The database: what was done for each partition, how far its work has come, and under which token.

use std::path::Path;

use parti_nats::{PartitionId, Sequence, Token};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::database::Database;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS progress (
        partition TEXT PRIMARY KEY,
        token     BLOB NOT NULL, -- 24 bytes, which sort as tokens do
        position  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS effects (
        partition TEXT NOT NULL,
        position  INTEGER NOT NULL,
        amount    INTEGER NOT NULL,
        PRIMARY KEY (partition, position)
    ) STRICT;";

/// Changes nothing where a higher token has written.
const FENCED: &str = "
    INSERT INTO progress (partition, token, position) VALUES (?1, ?2, ?3)
    ON CONFLICT (partition) DO UPDATE SET token = excluded.token, position = excluded.position
    WHERE excluded.token >= progress.token";

/// The database, shared by the handlers of a process.
#[derive(Debug)]
pub struct Totals(Database);

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// Somebody with a higher token has written: the partition has another owner.
    #[error("{partition} has another owner: {token} is lower than the token that has written last")]
    Fenced {
        /// Which partition.
        partition: PartitionId,
        /// The token that was refused.
        token: Token,
    },
    /// It is not the next message of who has claimed the partition.
    #[error(
        "message {sequence} of {partition} is not entered: another worker has claimed the partition since {token}, the stream was made anew, or the message was entered before"
    )]
    NotEntered {
        /// Which partition.
        partition: PartitionId,
        /// The token of who wanted to enter it.
        token: Token,
        /// Which message.
        sequence: Sequence,
    },
    /// The database says no.
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
}

impl Totals {
    /// Opens a database, and makes its tables if they are not there.
    ///
    /// # Errors
    ///
    /// [`TotalsError::Database`] if that cannot be.
    pub fn open(path: &Path) -> Result<Self, TotalsError> {
        Ok(Self(Database::open(path, TABLES)?))
    }

    /// Takes over a partition: from here on, whoever had it before is refused. Says how far its work has come.
    ///
    /// # Errors
    ///
    /// [`TotalsError`].
    pub fn claim(&self, partition: &PartitionId, token: Token) -> Result<u64, TotalsError> {
        self.0.write(|transaction| {
            let position = position(transaction, partition)?;
            move_to(transaction, partition, token, position)?;
            Ok(position)
        })
    }

    /// Notes what a unit of work has come to, and that it is done, in one transaction: neither is there without the other.
    ///
    /// # Errors
    ///
    /// [`TotalsError`]; nothing has changed then.
    pub fn note(&self, partition: &PartitionId, token: Token, position: u64, amount: i64) -> Result<(), TotalsError> {
        self.0.write(|transaction| {
            let place = i64::try_from(position).unwrap_or(i64::MAX);
            transaction
                .execute("INSERT INTO effects VALUES (?1, ?2, ?3)", params![partition.as_str(), place, amount])?;
            move_to(transaction, partition, token, position)
        })
    }

    /// Of each partition: how far its work has come, how many effects there are, and what they add up to.
    ///
    /// # Errors
    ///
    /// [`TotalsError::Database`].
    pub fn all(&self) -> Result<Vec<(String, u64, u64, i64)>, TotalsError> {
        let connection = self.0.connection();
        let mut all = connection.prepare(
            "SELECT partition, progress.position, count(effects.position), coalesce(sum(amount), 0)
             FROM progress LEFT JOIN effects USING (partition) GROUP BY partition ORDER BY partition",
        )?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn position(transaction: &Transaction<'_>, partition: &PartitionId) -> Result<u64, TotalsError> {
    let found = transaction
        .query_row("SELECT position FROM progress WHERE partition = ?1", [partition.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// The statement that refuses: a lower token than the one that is there changes no row, and with that the transaction is
/// rolled back.
fn move_to(
    transaction: &Transaction<'_>,
    partition: &PartitionId,
    token: Token,
    position: u64,
) -> Result<(), TotalsError> {
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    let changed = transaction.execute(FENCED, params![partition.as_str(), token.to_bytes(), position])?;
    if changed == 0 {
        return Err(TotalsError::Fenced { partition: partition.clone(), token });
    }
    Ok(())
}
