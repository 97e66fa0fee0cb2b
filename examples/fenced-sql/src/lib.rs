//! Work whose effect and position are written to a database in one transaction: each unit of work has its effect exactly
//! once, whatever happens to the workers. A former owner of a partition, such as a process that was frozen in the middle
//! of its work, is refused by the statement itself, which compares tokens.

mod database;
mod ledger;
mod totals;

use std::sync::Arc;
use std::time::Duration;

use parti_nats::PartitionGuard;

pub use ledger::Ledger;
pub use totals::{Totals, TotalsError};

/// How long one unit of work takes.
const UNIT: Duration = Duration::from_millis(20);

/// The handler: runs in a service, and in the test kit.
///
/// # Errors
///
/// [`TotalsError`] if the database fails; not if the partition has another owner.
pub async fn work(guard: impl PartitionGuard, totals: Arc<Totals>) -> Result<(), TotalsError> {
    match work_on(&guard, &totals).await {
        Err(TotalsError::Fenced { .. }) => Ok(()), // it is somebody else's by now
        ended => ended,
    }
}

async fn work_on(guard: &impl PartitionGuard, totals: &Totals) -> Result<(), TotalsError> {
    if !guard.may_work().await {
        return Ok(());
    }
    // The first write under a token: from here on, what a former owner still writes is refused.
    let mut done = totals.claim(guard.partition(), guard.token())?;
    while guard.may_work().await {
        if guard.unless_interrupted(guard.sleep(UNIT)).await.is_none() {
            continue; // unfinished: nothing of it was written
        }
        totals.note(guard.partition(), guard.token(), done + 1, 1)?;
        done += 1;
    }
    Ok(())
}
