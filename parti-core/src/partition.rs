//! Partitions, the rules for their ids, and the list of them.

mod list;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::num::NonZeroU32;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::ids::Slot;
use crate::labels::Labels;
use crate::text_name::text_name;

pub use list::PartitionList;
pub(crate) use list::{InOrder, Places};

/// The longest id, in bytes.
pub const MAX_PARTITION_ID_BYTES: usize = 255;

/// The largest list, in partitions.
pub const MAX_PARTITIONS: usize = 4_000_000;

/// The name of a unit of work: 1 to [`MAX_PARTITION_ID_BYTES`] bytes of UTF-8 without control characters.
///
/// Cheap to clone, and known by its text: a map by id can be asked with a `&str`.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use parti_core::PartitionId;
///
/// let id: PartitionId = "eu-west".parse()?;
/// let handlers = BTreeMap::from([(id, "a handler")]);
/// assert_eq!(handlers.get("eu-west"), Some(&"a handler"));
/// let error = PartitionId::try_from("").expect_err("the name is missing");
/// assert_eq!(error.to_string(), "a partition id must not be empty: give every partition a name");
/// # Ok::<(), parti_core::PartitionError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionId(Arc<str>);

impl PartitionId {
    /// Checks `id` against the rules.
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if the id is empty, too long, or has a control character.
    pub fn new(id: impl AsRef<str>) -> Result<Self, PartitionError> {
        let id = id.as_ref();
        if id.is_empty() {
            return Err(PartitionError::EmptyId);
        }
        if id.len() > MAX_PARTITION_ID_BYTES {
            let shown = id.chars().take(32).collect();
            return Err(PartitionError::IdTooLong { start: shown, bytes: id.len() });
        }
        if let Some(position) = id.chars().position(char::is_control) {
            return Err(PartitionError::ControlCharacter { id: id.escape_debug().collect(), position });
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for PartitionId {
    fn cmp(&self, other: &Self) -> Ordering {
        // Most that are compared in a row are the same in memory.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for PartitionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

text_name!(PartitionId, PartitionError);

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// How much work a partition is, in units of the user's choice; at least 1.
pub type Weight = NonZeroU32;

/// A unit of work, how much of it there is, and where it may be; stored as `[id, weight]`, or `[id, weight, placement]`
/// where it may not be anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Its name, unique in the list.
    pub id: PartitionId,
    /// Its share of the load.
    pub weight: Weight,
    /// Where it may or should be; anywhere if there is none.
    pub placement: Option<Arc<Placement>>,
}

/// Where a partition may or should be, and how important that is, such as `{"requires":{"zone":"a"},"pin":3,"priority":9}`.
/// A version that does not know one of the fields ignores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The labels that its worker must have. Where no worker has them all, nobody owns the partition, and the leader
    /// says so.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub requires: Labels,
    /// The slot that is to own it, whatever the balance. Where no worker that may own it is there, the partition is
    /// placed as if it had no pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Slot>,
    /// The labels that its worker should have: it is with a worker that has them all as long as one of these has room
    /// within its share of the load, and else with any that it may be with, until one has room again.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub prefers: Labels,
    /// What it has in common with others, such as the name of a tenant: those that have the same are with different
    /// workers, as long as there are enough and the load allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// How important it is where workers have limits and there is not room for all: those of the highest priority have
    /// owners first.
    #[serde(default, skip_serializing_if = "is_lowest")]
    pub priority: u8,
    /// Whether its weight is measured: what its application reports takes the place of the weight in the list.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub measured: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_lowest(priority: &u8) -> bool {
    *priority == 0
}

impl Placement {
    /// Whether it says anything of where the partition may or should be.
    pub(crate) fn asks_for_workers(&self) -> bool {
        *self != Self { priority: self.priority, measured: self.measured, ..Self::default() }
    }
}

impl Partition {
    /// A partition of weight 1 that may be anywhere.
    pub fn new(id: PartitionId) -> Self {
        Self { id, weight: Weight::MIN, placement: None }
    }

    /// The same partition with another weight.
    #[must_use]
    pub fn with_weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// The same partition, which only a worker with this label may own; each call asks for one more.
    #[must_use]
    pub fn requiring(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.placed(|placement| drop(placement.requires.insert(name.into(), value.into())))
    }

    /// The same partition, which a worker with this label is to own as long as one of these has room; each call asks for one
    /// more.
    ///
    /// Where none has room, the partition is exchanged for one that has no such wish, if the move budget allows two moves.
    ///
    /// ```
    /// use parti_core::assign::{Balanced, Fit, Problem, Rule, WorkerInput, plan};
    /// use parti_core::{Partition, PartitionList, Slot};
    ///
    /// let partition = Partition::new("orders-1".parse()?).preferring("zone", "a");
    /// let list = PartitionList::new(vec![partition])?;
    /// let rule = Rule { prefers: [("zone".into(), "a".into())].into(), ..Rule::default() };
    /// let mut workers = [0, 1].map(|slot| WorkerInput::new(Slot::new(slot)));
    /// workers[1].labels.insert("zone".into(), "a".into());
    /// let fit = |workers: &[WorkerInput]| {
    ///     let problem = Problem::new(workers, &list, &[None])?.with_rules(core::slice::from_ref(&rule))?;
    ///     Ok::<_, Box<dyn std::error::Error>>(plan(&Balanced, &problem)?.moves[0].fit)
    /// };
    /// assert_eq!(fit(&workers)?, Some(Fit::Preferred));
    /// assert_eq!(fit(&workers[..1])?, Some(Fit::Spilled)); // the zone is gone, and the partition is not
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn preferring(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.placed(|placement| drop(placement.prefers.insert(name.into(), value.into())))
    }

    /// The same partition, which is to be with another worker than the others of the same key, such as `tenant-7`.
    ///
    /// Where there are fewer workers than partitions of the key, each has as few of them as can be. The bounds of the load
    /// come first, and so does the move budget: to exchange two partitions takes two moves, which groups of ten
    /// partitions and fewer do not have by default.
    #[must_use]
    pub fn apart(self, key: impl Into<String>) -> Self {
        self.placed(|placement| placement.apart = Some(key.into()))
    }

    /// The same partition, with this priority instead of 0: where workers have limits
    /// ([`Config::max_load`](crate::Config::max_load), [`max_partitions`](crate::Config::max_partitions)) and there is not
    /// room for all, those of the highest priority have owners, and the rest have none.
    ///
    /// One that has no owner takes the place of less important ones, in an emergency, too. After a crash, the most
    /// important are granted first. Where there is room for all, priority moves nothing.
    ///
    /// ```
    /// use parti_core::assign::{Balanced, Problem, WorkerInput, plan};
    /// use parti_core::{Partition, PartitionList, Slot};
    ///
    /// let batch = Partition::new("batch".parse()?);
    /// let payments = Partition::new("payments".parse()?).priority(9);
    /// let list = PartitionList::new(vec![batch, payments])?;
    /// let worker = |slot| WorkerInput { max_partitions: Some(1), ..WorkerInput::new(Slot::new(slot)) };
    /// let both = plan(&Balanced, &Problem::new(&[0, 1].map(worker), &list, &[None, None])?)?;
    /// assert_eq!(both.figures.unassigned, 0);
    ///
    /// // The worker of `payments` dies: what the other has makes way.
    /// let left = [0, 1].map(worker).into_iter().find(|worker| Some(worker.slot) == both.owners[0]).unwrap();
    /// let one = plan(&Balanced, &Problem::new(&[left], &list, &both.owners)?)?;
    /// assert_eq!(one.owners, [None, both.owners[0]]);
    /// assert_eq!(one.without_room, [(0, 1)]); // one partition of priority 0
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.placed(|placement| placement.priority = priority)
    }

    /// The same partition, whose weight is measured: what its application reports takes the place of the weight in the list.
    ///
    /// Until there are reports, the partition counts by the weight in the list, as what is measured of others is on average
    /// for such a weight. What reports change moves a partition only where that is worth it, see
    /// [`Config::load_half_life`](crate::Config::load_half_life). A worker of a version that does not know this leads by
    /// the weights in the list, and so does one whose strategy is
    /// [`ConsistentHash`](crate::StrategyChoice::ConsistentHash): it would move something whenever a weight changes a little.
    ///
    /// ```
    /// use parti_core::{Partition, PartitionList};
    ///
    /// let list = PartitionList::new(vec![Partition::new("orders-1".parse()?).measured()])?;
    /// assert!(list.iter().all(Partition::is_measured));
    /// assert_eq!(serde_json::to_string(&list)?, r#"[["orders-1",1,{"measured":true}]]"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn measured(self) -> Self {
        self.placed(|placement| placement.measured = true)
    }

    /// Whether its weight is [measured](Self::measured).
    pub fn is_measured(&self) -> bool {
        self.placement.as_ref().is_some_and(|placement| placement.measured)
    }

    /// The same partition, which the worker in this slot is to own whenever it is there.
    #[must_use]
    pub fn pinned_to(self, slot: Slot) -> Self {
        self.placed(|placement| placement.pin = Some(slot))
    }

    fn placed(mut self, change: impl FnOnce(&mut Placement)) -> Self {
        change(Arc::make_mut(self.placement.get_or_insert_default()));
        self
    }
}

/// Stored as `[id, weight]`, or `[id, weight, placement]` where there is one.
impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.placement {
            None => (&self.id, self.weight).serialize(serializer),
            Some(placement) => (&self.id, self.weight, &**placement).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StoredPartition)
    }
}

/// Reads what a partition is stored as. (An untagged enum would do, but could not say what is wrong with an element.)
struct StoredPartition;

impl<'de> Visitor<'de> for StoredPartition {
    type Value = Partition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            r#"[id, weight] or [id, weight, {"requires": …, "prefers": …, "apart": …, "pin": …, "priority": …, "measured": …}]"#,
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Partition, A::Error> {
        let too_short = |len| A::Error::invalid_length(len, &self);
        let id = elements.next_element()?.ok_or_else(|| too_short(0))?;
        let weight: u32 = elements.next_element()?.ok_or_else(|| too_short(1))?;
        let weight = Weight::new(weight).ok_or_else(|| {
            A::Error::custom(format_args!("the weight of a partition must be at least 1, but that of {id:?} is 0"))
        })?;
        let placement = elements.next_element::<Placement>()?;
        let placement = placement.filter(|placement| *placement != Placement::default());
        Ok(Partition { id, weight, placement: placement.map(Arc::new) })
    }
}

/// Why a partition or a list of partitions was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// An id has no characters.
    #[error("a partition id must not be empty: give every partition a name")]
    EmptyId,
    /// An id is longer than [`MAX_PARTITION_ID_BYTES`].
    #[error(
        "a partition id must have at most {MAX_PARTITION_ID_BYTES} bytes, but the one that starts with {start:?} has \
         {bytes}: shorten it, or use a hash of it"
    )]
    IdTooLong {
        /// Its first characters.
        start: String,
        /// Its length.
        bytes: usize,
    },
    /// An id has a control character, which logs and terminals would act on.
    #[error("a partition id must not have control characters, but \"{id}\" has one at character {position}: remove it")]
    ControlCharacter {
        /// The id, escaped.
        id: String,
        /// Which character.
        position: usize,
    },
    /// An id stands in the list twice.
    #[error("a partition id must stand in the list once, but {id:?} comes twice: remove one")]
    DuplicateId {
        /// The id.
        id: PartitionId,
    },
    /// A weight is zero.
    #[error("a partition's weight must be from 1 to 4294967295, but {id:?} has {weight}: give it at least 1")]
    Weight {
        /// The id.
        id: PartitionId,
        /// The weight that was given.
        weight: String,
    },
    /// A partition asks for labels that no worker may have.
    #[error(
        "a partition may ask for at most {MAX_LABELS} labels, whose names and values have at most {MAX_TEXT_BYTES} bytes \
         and no control characters, and for a key to be apart by that is as short, but {id:?} asks for others: remove or \
         shorten them"
    )]
    Labels {
        /// The id.
        id: PartitionId,
    },
    /// The list is longer than [`MAX_PARTITIONS`].
    #[error("a list must have at most {MAX_PARTITIONS} partitions, but has {count}: use several groups")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}
