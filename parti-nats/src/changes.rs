//! What changes for the application, and the queue of it, which knows how much of it is read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parti_core::{Instant, PartitionId, ReleaseReason, SuspendReason, Token};
use tokio::sync::mpsc;

use crate::clock;
use crate::guard::Guard;

/// Something that has changed for the application, in the order in which it happened.
#[non_exhaustive]
pub enum Change {
    /// A partition has come, or is offered again after its handler has stopped unasked: work on it as long as the guard
    /// allows, then drop the guard.
    Acquired(Guard),
    /// A partition will probably come: warm up, but do no work on it.
    Prepare {
        /// Which one.
        partition: PartitionId,
    },
    /// A partition is to be given up: finish its work, then drop its guard. The guard says so too.
    Releasing {
        /// Which one.
        partition: PartitionId,
        /// The token of its guard.
        token: Token,
        /// Why.
        reason: ReleaseReason,
    },
    /// The work on a partition that was to be given up had to end before it was finished.
    Cancelled {
        /// Which one.
        partition: PartitionId,
        /// The token of its guard.
        token: Token,
    },
    /// All work is to stop for now; the guards are invalid until [`Resumed`](Self::Resumed).
    Suspended {
        /// Why.
        reason: SuspendReason,
    },
    /// Work may go on, with the same guards.
    Resumed,
}

/// For people: tokens are shown as they are logged.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquired(guard) => f.debug_tuple("Acquired").field(guard).finish(),
            Self::Prepare { partition } => f.debug_struct("Prepare").field("partition", partition).finish(),
            Self::Releasing { partition, token, reason } => f
                .debug_struct("Releasing")
                .field("partition", partition)
                .field("token", &format_args!("{token}"))
                .field("reason", reason)
                .finish(),
            Self::Cancelled { partition, token } => f
                .debug_struct("Cancelled")
                .field("partition", partition)
                .field("token", &format_args!("{token}"))
                .finish(),
            Self::Suspended { reason } => f.debug_struct("Suspended").field("reason", reason).finish(),
            Self::Resumed => f.write_str("Resumed"),
        }
    }
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: mpsc::UnboundedSender<Vec<Change>>,
    read: Arc<AtomicU64>,
    told: u64,
    /// The number of each batch that may be unread, and when it was told.
    unread: VecDeque<(u64, Instant)>,
}

/// The application's end.
#[derive(Debug)]
pub(crate) struct Receiver {
    queue: mpsc::UnboundedReceiver<Vec<Change>>,
    read: Arc<AtomicU64>,
}

pub(crate) fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let read = Arc::<AtomicU64>::default();
    let told = Sender { queue: sender, read: Arc::clone(&read), told: 0, unread: VecDeque::new() };
    (told, Receiver { queue: receiver, read })
}

impl Sender {
    /// Tells what has happened. Where nobody listens any more the changes, and the guards in them, are dropped.
    pub(crate) fn send(&mut self, batch: Vec<Change>) {
        self.forget_read();
        self.told += 1;
        if self.queue.send(batch).is_ok() {
            self.unread.push_back((self.told, clock::now()));
        }
    }

    /// Since when the oldest unread batch waits, and how many do.
    pub(crate) fn unread(&mut self) -> Option<(Instant, usize)> {
        self.forget_read();
        self.unread.front().map(|(_, since)| (*since, self.unread.len()))
    }

    fn forget_read(&mut self) {
        let read = self.read.load(Ordering::Relaxed);
        while self.unread.front().is_some_and(|(number, _)| *number <= read) {
            self.unread.pop_front();
        }
    }
}

impl Receiver {
    /// The next batch. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Vec<Change>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Change>>> {
        let batch = self.queue.poll_recv(context);
        if let Poll::Ready(Some(_)) = &batch {
            self.read.fetch_add(1, Ordering::Relaxed);
        }
        batch
    }

    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Result<Vec<Change>, mpsc::error::TryRecvError> {
        let batch = self.queue.try_recv()?;
        self.read.fetch_add(1, Ordering::Relaxed);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_no_longer_unread() {
        let (mut sender, mut receiver) = queue();
        assert_eq!(sender.unread(), None);
        sender.send(vec![Change::Resumed]);
        sender.send(vec![Change::Resumed]);
        let (first, count) = sender.unread().expect("nobody has read");
        assert_eq!(count, 2);
        receiver.try_recv().expect("told");
        let (second, count) = sender.unread().expect("one is left");
        assert!(second >= first && count == 1);
        receiver.try_recv().expect("told");
        assert_eq!(sender.unread(), None);
        drop(receiver);
        sender.send(vec![Change::Resumed]);
        assert_eq!(sender.unread(), None);
    }
}
