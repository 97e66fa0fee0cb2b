//! The stored values and their versioned encoding.
//!
//! Records are JSON objects with a format version `v`: readable with any key-value tool. Unknown fields are ignored. A
//! record of a newer version is kept and reported, never deleted or overwritten.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{Generation, Heard, Incarnation, Instance, Position, Revision, ServerId, Slot, Tenure, Term};
use crate::partition::{PartitionId, Weight};
use crate::state::PlannerPhase;
use crate::stored::history::PlanHistory;
use crate::stored::key::Key;
use crate::stored::load::MeasuredLoad;
use crate::stored::settings::SharedSettings;

/// The format version that this library writes.
pub const FORMAT_VERSION: u32 = 1;

/// The largest record that is decoded, in bytes.
pub const MAX_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// The most partitions that a worker can have given up at a time.
pub const MAX_UNWANTED: usize = 64;

/// A stored value. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Stored under [`Key::Slot`].
    Member(Arc<MemberRecord>),
    /// Stored under [`Key::Leader`].
    Leader(LeaderRecord),
    /// Stored under [`Key::Control`].
    Control(Arc<ControlRecord>),
    /// Stored under [`Key::Assign`].
    Assignment(Arc<AssignmentRecord>),
    /// Stored under [`Key::Cluster`].
    Cluster(Arc<ClusterRecord>),
}

/// What a worker says of itself; each write of it is a heartbeat, a renewal and an acknowledgement in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The tenure that this record continues; none in the record that begins one, whose own revision names it.
    pub tenure: Option<Tenure>,
    /// The process that holds the slot.
    pub instance: Instance,
    /// What the worker is about to do.
    pub phase: MemberPhase,
    /// The write of the assignment record that the worker has fully applied.
    pub applied: Position,
    /// The newest plan that the process has seen: tokens grow from there even if the plan is lost.
    #[serde(default)]
    pub generation: Generation,
    /// The greatest life or era of the store that the process has heard of; 0 in the records of older versions.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub era: Incarnation,
    /// The partitions that it has been told to give up and still holds, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releasing: Vec<PartitionId>,
    /// The lease by which the process acts, in milliseconds: others judge its silence by this, never by their own. None in
    /// the record of an older worker, which is judged by the lease of whoever judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How much load it can take compared with other workers.
    pub capacity: u32,
    /// The most load that it takes; none if there is no limit, as in the record of an older worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_load: Option<u64>,
    /// The most partitions that it takes; none if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_partitions: Option<u32>,
    /// Free labels, for placement.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The version of the user's software.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub software: String,
    /// The partitions that its application cannot work on and that should be elsewhere, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwanted: Vec<PartitionId>,
    /// What all workers of a group must agree on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedSettings>,
    /// Counts the writes of this process.
    pub beat: u64,
    /// The server at which this process listens for probes, as a check of its own has shown before this was written. None
    /// where that is not known or its tenure is not to be ended early: then only its lease decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Over how long nobody must have listened there before others may end its tenure early, in milliseconds: by this the
    /// process judges its own presence. Given where `server` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_ms: Option<u64>,
    /// A leader's: the slots whose workers are to see whether it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deputies: Vec<Slot>,
    /// How heavy its partitions are, where the list [measures](crate::Partition::measured) them and enough was reported.
    /// It is about what was assigned as of `applied`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "load_if_any")]
    pub load: Option<MeasuredLoad>,
}

/// A load that cannot be read, be it because a newer version writes it otherwise, is none: the record stands without it.
fn load_if_any<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<MeasuredLoad>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl MemberRecord {
    /// The claim of a slot by a process that says nothing else: active, of capacity 1, without labels.
    pub fn new(instance: Instance) -> Self {
        Self {
            tenure: None,
            instance,
            phase: MemberPhase::Active,
            applied: Position::default(),
            generation: Generation::default(),
            era: Incarnation::default(),
            releasing: Vec::new(),
            lease_ms: None,
            capacity: 1,
            max_load: None,
            max_partitions: None,
            labels: BTreeMap::new(),
            software: String::new(),
            unwanted: Vec::new(),
            shared: None,
            beat: 0,
            server: None,
            confirm_ms: None,
            deputies: Vec::new(),
            load: None,
        }
    }

    /// How far plans have come, as far as the process has heard.
    pub(crate) fn heard(&self) -> Heard {
        Heard { era: self.era, generation: self.generation }
    }

    /// The tenure that this record continues, or begins if it was written there.
    pub fn tenure_if_written(&self, at: Position) -> Tenure {
        // Each claim of a process counts as one of its writes, so no two have the same beat.
        let writer = self.instance.value().wrapping_add(self.beat);
        self.tenure.unwrap_or(Tenure::new(at).with_writer(writer))
    }
}

/// What a worker is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberPhase {
    /// It works and takes partitions.
    Active,
    /// It is leaving: it gives up its partitions as others take them.
    Draining,
    /// It has released everything and stopped; its successor takes over the slot and the partitions.
    Restarting,
}

/// Who leads. The lease behind it is that of the member record that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The leader's slot.
    pub slot: Slot,
    /// The leader's tenure of it.
    pub tenure: Tenure,
    /// The leader's process.
    pub instance: Instance,
}

/// What an operator wants; what it is, the key says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Who wants it, for people to read.
    #[serde(default)]
    pub by: String,
    /// Why, for people to read.
    #[serde(default)]
    pub reason: String,
    /// In a maintenance: how long a worker that is gone is waited for, in milliseconds; without end if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
}

/// What one tenure of a slot may hold: `owned`, and what is left of `releasing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// The leadership that wrote it.
    pub term: Term,
    /// The plan that it belongs to.
    pub generation: Generation,
    /// The first part of the tokens of what it grants; 0 in the records of older versions, where the life of the store
    /// takes its place.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub era: Incarnation,
    /// The tenure that it is for; nobody else may act on it.
    pub tenure: Tenure,
    /// The partitions that the tenure owns, in order of their ids.
    pub owned: Vec<Grant>,
    /// The partitions that it was told to give up and that are not yet known to be released, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releasing: Vec<PartitionId>,
    /// The partitions that will come to it once their holders have let go, in order; gives no right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incoming: Vec<PartitionId>,
}

/// One partition in an assignment, stored as `[id, weight, epoch]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(PartitionId, Weight, Generation)", into = "(PartitionId, Weight, Generation)")]
pub struct Grant {
    /// Which partition.
    pub partition: PartitionId,
    /// Its weight when it was granted.
    pub weight: Weight,
    /// The generation in which it was granted.
    pub epoch: Generation,
}

impl From<(PartitionId, Weight, Generation)> for Grant {
    fn from((partition, weight, epoch): (PartitionId, Weight, Generation)) -> Self {
        Self { partition, weight, epoch }
    }
}

impl From<Grant> for (PartitionId, Weight, Generation) {
    fn from(grant: Grant) -> Self {
        (grant.partition, grant.weight, grant.epoch)
    }
}

/// The head of the plan: who writes it, and a summary for observers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The leadership that wrote it.
    pub term: Term,
    /// The latest plan.
    pub generation: Generation,
    /// The era of the plan; 0 in the records of older versions.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub era: Incarnation,
    /// The slot of the leader.
    pub leader: Slot,
    /// The process of the leader.
    pub instance: Instance,
    /// What the leader is doing.
    pub phase: PlannerPhase,
    /// How many workers share the work.
    pub workers: u32,
    /// How many partitions there are.
    pub partitions: u32,
    /// The last write of `control.rebalance` that was acted on.
    #[serde(default)]
    pub rebalanced: Revision,
    /// The life of `members` in which that write was; 0 in the records of older versions.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub rebalanced_in: Incarnation,
    /// The digest of the partition list, see [`PartitionList::digest`](crate::partition::PartitionList::digest).
    pub digest: u64,
    /// What the last plans moved, and why: for people; nothing is decided by it. Older versions leave it out.
    #[serde(default, skip_serializing_if = "is_empty", deserialize_with = "history_if_any")]
    pub moves: PlanHistory,
}

/// A history that cannot be read, be it because a newer version writes it otherwise, is none: the plan stands without it.
fn history_if_any<'a, D: Deserializer<'a>>(deserializer: D) -> Result<PlanHistory, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn is_empty(history: &PlanHistory) -> bool {
    history.plans().is_empty()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_unknown(incarnation: &Incarnation) -> bool {
    *incarnation == Incarnation::default()
}

/// A record with its format version around it.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

/// Only the version, to find out whether the rest can be read.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object with a format version `v`")]
struct Version {
    v: u32,
}

impl Record {
    /// The record as it is stored.
    ///
    /// # Panics
    ///
    /// Never: the types of records have no value that JSON lacks.
    pub fn encode(&self) -> Vec<u8> {
        fn json<T: Serialize>(record: &T) -> Vec<u8> {
            let versioned = Versioned { v: FORMAT_VERSION, record };
            serde_json::to_vec(&versioned).expect("records have no value that JSON lacks")
        }
        match self {
            Self::Member(record) => json(record),
            Self::Leader(record) => json(record),
            Self::Control(record) => json(record),
            Self::Assignment(record) => json(record),
            Self::Cluster(record) => json(record),
        }
    }

    /// Reads what is stored under `key`.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the value is too large, not a record of that key, or of a newer format version.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes: bytes.len() });
        }
        let Version { v } = parse(bytes)?;
        if v != FORMAT_VERSION {
            return Err(RecordError::UnknownVersion { version: v });
        }
        Ok(match key {
            Key::Slot(_) => {
                let mut record: MemberRecord = parse(bytes)?;
                record.releasing.sort_unstable();
                record.unwanted.truncate(MAX_UNWANTED);
                if let Some(load) = &mut record.load {
                    load.put_in_order();
                }
                Self::Member(Arc::new(record))
            }
            Key::Leader => Self::Leader(parse(bytes)?),
            Key::Control(_) => Self::Control(Arc::new(parse(bytes)?)),
            Key::Assign(_) => {
                let mut record: AssignmentRecord = parse(bytes)?;
                record.sort()?;
                Self::Assignment(Arc::new(record))
            }
            Key::Cluster => Self::Cluster(Arc::new(parse(bytes)?)),
        })
    }
}

impl AssignmentRecord {
    /// Puts the lists in order, which a person who edited the record may not have kept, and refuses one that
    /// contradicts itself.
    /// How far plans have come, as this record tells.
    pub(crate) fn heard(&self) -> Heard {
        Heard { era: self.era, generation: self.generation }
    }

    fn sort(&mut self) -> Result<(), RecordError> {
        self.owned.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        self.releasing.sort_unstable();
        self.incoming.sort_unstable();
        let twice_owned = self.owned.windows(2).find(|pair| pair[0].partition == pair[1].partition);
        let twice_released = self.releasing.windows(2).find(|pair| pair[0] == pair[1]);
        match (twice_owned.map(|pair| &pair[0].partition), twice_released.map(|pair| &pair[0])) {
            (Some(id), _) | (_, Some(id)) => Err(RecordError::PartitionTwice { partition: id.clone() }),
            (None, None) => Ok(()),
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    serde_json::from_slice(bytes).map_err(|error| RecordError::Malformed { reason: error.to_string() })
}

/// Why a stored value could not be read. The value is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`MAX_RECORD_BYTES`].
    #[error("a record must have at most {MAX_RECORD_BYTES} bytes, but has {bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or not the fields of this record.
    #[error("not a record: {reason}")]
    Malformed {
        /// What the decoder met, and where.
        reason: String,
    },
    /// Written by a newer version of this library, or not by it.
    #[error("format version {version} is not known here (known: {FORMAT_VERSION}): upgrade this worker")]
    UnknownVersion {
        /// The version found.
        version: u32,
    },
    /// A partition stands in one list twice.
    #[error("{partition:?} stands in the record twice")]
    PartitionTwice {
        /// Which one.
        partition: PartitionId,
    },
}
