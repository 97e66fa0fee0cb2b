//! Runs a service's handler: one task for each partition that this worker has.

use std::future::Future;

use parti_core::{HandlerEnd, HandlerResult};
use tokio::task::JoinSet;

use crate::changes::Change;
use crate::error::Error;
use crate::guard::Guard;
use crate::handle::Handle;

impl Handle {
    /// Runs `handler` for each partition that this worker has, each in a task of its own, until the worker has stopped.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use parti_nats::{Builder, PartitionGuard};
    ///
    /// async fn work(guard: impl PartitionGuard) {
    ///     while guard.may_work().await {
    ///         // One unit of work on guard.partition(); send guard.token() along with what it writes.
    ///         guard.sleep(Duration::from_secs(1)).await;
    ///     }
    /// }
    ///
    /// # async fn service() -> Result<(), parti_nats::Error> {
    /// let mut worker = Builder::new("orders").partition_ids(["eu", "us"]).start()?;
    /// let stopper = worker.stopper(); // for whoever waits for signals
    /// worker.run(work).await
    /// # }
    /// ```
    ///
    /// A handler ends by returning, which is what it does when [`Guard::may_work`] says no. If it returns an error, panics,
    /// or returns though nobody has asked it to, its partition is offered again, see [`Builder::retry`]. What it shares
    /// with others it is given by a closure: `worker.run(move |guard| work(guard, database.clone()))`.
    ///
    /// The same handler runs in `parti_sim::kit`, in a test without a server and without waiting.
    ///
    /// Not cancel-safe: the tasks are aborted, and what they had is offered to the next call. So are those that still run
    /// when the worker has stopped; their guards allow nothing any more.
    ///
    /// [`Builder::retry`]: crate::Builder::retry
    ///
    /// # Errors
    ///
    /// As [`finished`](Self::finished).
    pub async fn run<H, F>(&mut self, handler: H) -> Result<(), Error>
    where
        H: Fn(Guard) -> F,
        F: Future<Output: HandlerResult> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                change = self.next_change() => match change {
                    Some(Change::Acquired(guard)) => {
                        let farewell = guard.farewell();
                        let work = handler(guard);
                        tasks.spawn(async move {
                            if let Some(reason) = work.await.failure() {
                                farewell.say(HandlerEnd::Failed(reason));
                            }
                        });
                    }
                    // The guards know.
                    Some(
                        Change::Prepare { .. }
                        | Change::Releasing { .. }
                        | Change::Cancelled { .. }
                        | Change::Suspended { .. }
                        | Change::Resumed,
                    ) => {}
                    None => return self.finished().await,
                },
                // How a handler has ended, its guard has said.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}
