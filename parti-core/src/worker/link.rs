//! The way to the store, and a watch of each bucket.

use serde::{Deserialize, Serialize};

use crate::ids::{Revision, WatchId};
use crate::outbox::Outbox;
use crate::stored::key::{Bucket, Interest, Key};
use crate::time::Instant;

/// The way to the store, and what this worker watches of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) connected: bool,
    /// Whether the connection was lost or the right to act was over, and the members have not been listed since: a store
    /// that has lost writes may have given the revision of this worker's last one to another process.
    pub(super) was_cut_off: bool,
    /// The end of the right to act after which this worker has last doubted that its record is still its own.
    pub(super) doubted_after: Option<Instant>,
    pub(super) members: Option<Watched>,
    pub(super) plan: Option<Watched>,
    /// When to list the plan again, since the last listing has shown less than is known.
    pub(super) read_plan_at: Option<Instant>,
}

impl Default for Link {
    fn default() -> Self {
        Self { connected: true, was_cut_off: false, doubted_after: None, members: None, plan: None, read_plan_at: None }
    }
}

/// A watch of one bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) watch: WatchId,
    /// Up to which revision it has shown everything; none before the first complete listing.
    pub(super) listed_to: Option<Revision>,
    pub(super) interest: Interest,
    pub(super) needs: Needs,
}

/// The keys of a bucket that a role needs to see. It is compared after every event, and so costs nothing to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Needs {
    All,
    Keys([Option<Key>; 3]),
}

impl Needs {
    /// Whether a watch for these will do for others: it may show some keys more, but not all.
    pub(super) fn will_do_for(self, others: Self) -> bool {
        match (self, others) {
            (Self::All, Self::All) => true,
            (Self::Keys(keys), Self::Keys(others)) => others.iter().flatten().all(|other| keys.contains(&Some(*other))),
            (Self::All, Self::Keys(_)) | (Self::Keys(_), Self::All) => false,
        }
    }
}

impl Watched {
    pub(super) fn open(bucket: Bucket, needs: Needs, outbox: &mut Outbox) -> Self {
        let interest = match needs {
            Needs::All => Interest::All,
            Needs::Keys(keys) => Interest::Keys(keys.into_iter().flatten().collect()),
        };
        Self { watch: outbox.watch(bucket, interest.clone()), listed_to: None, interest, needs }
    }

    /// Everything up to this revision has been shown. True if nothing was before.
    pub(super) fn observe_listed(&mut self, last: Revision) -> bool {
        let is_first = self.listed_to.is_none();
        self.listed_to = self.listed_to.max(Some(last));
        is_first
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed_to.is_some()
    }

    /// Whether every key has been listed.
    pub(super) fn has_listed_all(&self) -> bool {
        self.is_listed() && self.interest == Interest::All
    }

    /// Whether every key has been listed, but not as far as this revision.
    pub(super) fn is_behind(&self, revision: Revision) -> bool {
        self.has_listed_all() && self.listed_to < Some(revision)
    }
}
