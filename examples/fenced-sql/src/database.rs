//! A database that several processes write, each change in a transaction of its own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::totals::TotalsError;

/// How long a write waits for those of other processes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database, shared by the handlers of a process.
#[derive(Debug)]
pub(crate) struct Database(Mutex<Connection>);

impl Database {
    /// Opens a database, and makes these tables if they are not there.
    pub(crate) fn open(path: &Path, tables: &str) -> Result<Self, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power failure may take the last transactions, each of them whole; they are then done again.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(tables)?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Commits what `change` does, or rolls it back if it fails.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, TotalsError>,
    ) -> Result<T, TotalsError> {
        let mut connection = self.connection();
        // Nobody writes between what is read and what is written.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// A transaction that a panic has cut short was rolled back.
    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
