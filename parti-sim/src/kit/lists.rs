//! Where the list of partitions of a cluster comes from, if it comes from a user's own source.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parti_core::{PartitionId, PartitionList, Source, SourceError};

use crate::told::fact::PartitionIndex;
use crate::world::clock::Moment;

/// How often a source is read.
pub(super) const READ_EVERY: Duration = Duration::from_secs(10);

/// Reads a source once.
type Read = Box<dyn FnMut() -> Result<PartitionList, SourceError>>;

/// A source that is read from time to time, and what came of it. In a world without one, the list changes only when it
/// is changed.
#[derive(Default)]
pub(crate) struct Lists {
    read: Option<Read>,
    next: Option<Moment>,
    /// A partition that nobody knew at the start.
    unknown: Option<PartitionId>,
    /// The last thing that went wrong.
    error: Option<String>,
}

impl Clone for Lists {
    /// A user's source has no copies: only worlds without one are ever copied.
    ///
    /// # Panics
    ///
    /// If there is one.
    fn clone(&self) -> Self {
        assert!(self.read.is_none(), "a world with a user's source is not copied");
        Self::default()
    }
}

impl Lists {
    /// Those of a user's source.
    pub(super) fn of(mut source: impl Source) -> Self {
        let read = move || {
            let reading = pin!(source.read());
            match reading.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(list) => list,
                Poll::Pending => Err("the source waits for something that a simulated cluster does not have".into()),
            }
        };
        Self { read: Some(Box::new(read)), ..Self::default() }
    }

    /// Reads the source for the first time; none if there is none.
    pub(super) fn begin(&mut self) -> Option<Result<PartitionList, SourceError>> {
        let read = self.read.as_mut()?;
        self.next = Some(Moment::START + READ_EVERY);
        Some(read())
    }

    /// The source is to be read now.
    pub(super) fn refresh(&mut self, now: Moment) {
        self.next = self.next.map(|_| now);
    }

    /// What the source said that nobody knew at the start.
    pub(super) fn unknown(&self) -> Option<&PartitionId> {
        self.unknown.as_ref()
    }

    /// What went wrong when the source was read last, if it did.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    pub(crate) const fn next_due(&self) -> Option<Moment> {
        self.next
    }

    /// Reads the source if it is time to; what is listed, if that could be read.
    pub(crate) fn read_if_due(
        &mut self,
        now: Moment,
        index: impl Fn(&PartitionId) -> Option<PartitionIndex>,
    ) -> Option<BTreeSet<PartitionIndex>> {
        self.next.filter(|at| *at <= now)?;
        self.next = Some(now + READ_EVERY);
        let list = match self.read.as_mut()?() {
            Ok(list) => list,
            Err(error) => {
                self.error = Some(error.to_string());
                return None;
            }
        };
        self.error = None;
        let mut listed = BTreeSet::new();
        for partition in list.as_slice() {
            match index(&partition.id) {
                Some(index) => {
                    listed.insert(index);
                }
                None => self.unknown = Some(partition.id.clone()),
            }
        }
        Some(listed)
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("next", &self.next).field("error", &self.error).finish_non_exhaustive()
    }
}
