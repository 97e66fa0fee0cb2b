//! What the records of `members` say, as the last that was seen of each.

use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ids::Revision;
use crate::planted::PlantedBug;
use crate::stored::record::{LeaderRecord, MemberRecord};
use crate::time::{Duration, Instant};

/// The last that was seen under `slot.<n>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) revision: Revision,
    pub(crate) content: MemberContent,
    /// When this revision arrived here.
    pub(crate) observed_at: Instant,
    /// For how long the holder may be silent before it has certainly stopped: the lease by which it acts, and the margin.
    pub(crate) observed_lease: Duration,
    /// Whether this is garbage, and the holder before it has certainly stopped: its tenure is over, since nobody can
    /// renew what nobody can read.
    pub(crate) broken: bool,
    /// Whether a write was seen since this worker began to listen, or the process has answered a probe.
    pub(crate) heard: bool,
    /// When its process has answered a probe last, since this record was seen.
    pub(crate) answered_at: Option<Instant>,
    /// When another process went on in this tenure in place of one that had not said that it stops, if that was seen.
    pub(crate) replaced_at: Option<Instant>,
    /// Whether the last complete listing has not shown this revision. If the store has lost it, then it gives it again, to
    /// who is alive: nothing is written on it.
    pub(super) unshown: bool,
    /// The revision that was shown since the last complete listing began; lower than what is known if the listing is
    /// stale or the store has lost writes.
    pub(super) shown: Option<Revision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberContent {
    Record(Arc<MemberRecord>),
    /// A delete marker: whatever tenure was there has ended.
    Deleted,
    /// Something that this version cannot read, and leaves alone.
    Unreadable {
        /// Whether it is from a newer version, whose worker may go on with it.
        newer: bool,
    },
}

/// What a worker's record says that it did not say before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberNews {
    /// Nothing: it is a plain renewal, or was known.
    None,
    /// The same process goes on as before, and has applied or released something, or its partitions weigh something else.
    Acknowledged,
    /// Something else, such as another process.
    Changed,
}

/// The last that was seen under `leader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaderKey {
    /// Never written, as far as this worker knows.
    #[default]
    Absent,
    Deleted {
        revision: Revision,
    },
    Held {
        revision: Revision,
        record: LeaderRecord,
    },
    /// Something that this version cannot read.
    Unreadable {
        revision: Revision,
        /// Whether it is from a newer version.
        newer: bool,
        /// When this revision arrived here.
        seen_at: Instant,
    },
}

/// What is known of a tenure that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenureState {
    /// The slot's record continues it.
    Continues,
    /// It has ended, and never returns.
    Ended,
    /// No record was seen, or only that an earlier one was deleted. That proves nothing.
    NoRecord,
    /// What was seen is older than the tenure, or cannot be read.
    Unclear,
}

impl Member {
    /// Whether nothing may be written on this record, since the last listing has not shown it.
    pub(crate) fn is_doubtful(&self, context: &Context) -> bool {
        self.unshown && !context.has(PlantedBug::WriteOnUnshown)
    }

    /// How long a newcomer listens before a record that was not renewed looks like that of a dead process: two renewals by
    /// the lease of that process, which are half of it.
    pub(crate) fn learning_time(&self) -> Duration {
        self.observed_lease * 4 / 9
    }

    /// Whether neither a write nor an answer has come for so long that the process has missed a renewal, as far as one who
    /// listens since that instant can tell.
    pub(crate) fn is_late(&self, now: Instant, listening_since: Instant) -> bool {
        let last = self.observed_at.max(listening_since).max(self.answered_at.unwrap_or_default());
        now >= last + self.learning_time()
    }

    pub(crate) fn record(&self) -> Option<&Arc<MemberRecord>> {
        match &self.content {
            MemberContent::Record(record) => Some(record),
            MemberContent::Deleted | MemberContent::Unreadable { .. } => None,
        }
    }
}

impl LeaderKey {
    pub(crate) fn revision(self) -> Revision {
        match self {
            Self::Absent => Revision::default(),
            Self::Deleted { revision } | Self::Held { revision, .. } | Self::Unreadable { revision, .. } => revision,
        }
    }

    pub(crate) fn record(self) -> Option<LeaderRecord> {
        match self {
            Self::Held { record, .. } => Some(record),
            Self::Absent | Self::Deleted { .. } | Self::Unreadable { .. } => None,
        }
    }
}
