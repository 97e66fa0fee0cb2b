//! Partitions, the rules for their ids, and the list of them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::num::NonZeroU32;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::config::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::ids::Slot;
use crate::labels::Labels;
use crate::text_name::text_name;

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

/// Where a partition may or should be, such as `{"requires":{"zone":"a"},"pin":3}`.
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
        f.write_str(r#"[id, weight] or [id, weight, {"requires": …, "pin": …}]"#)
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

/// The partitions to divide: sorted by id, each id once. Cheap to clone.
///
/// ```
/// use parti_core::{Partition, PartitionError, PartitionList};
///
/// let list = PartitionList::from_pairs([("eu", 3), ("us", 5)])?;
/// assert_eq!((list.len(), list.iter().map(|partition| partition.weight.get()).sum::<u32>()), (2, 8));
///
/// let ids = ["eu".parse()?, "us".parse()?];
/// let plain = ids.into_iter().map(Partition::new).collect::<Result<PartitionList, PartitionError>>()?;
/// assert!(plain.contains("us") && plain != list);
/// # Ok::<(), PartitionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PartitionList {
    partitions: Arc<[Partition]>,
    /// Of each id: lists change seldom, and every plan needs hashes.
    hashes: Arc<[u64]>,
    /// Of each partition, close together, for the same reason.
    weights: Arc<[u32]>,
    digest: u64,
}

impl PartitionList {
    /// Sorts `partitions` and checks that no id comes twice. O(n log n).
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if an id comes twice, there are more than [`MAX_PARTITIONS`], or one asks for more than
    /// [`MAX_LABELS`] labels or for one that no worker may have.
    pub fn new(mut partitions: Vec<Partition>) -> Result<Self, PartitionError> {
        if partitions.len() > MAX_PARTITIONS {
            return Err(PartitionError::TooMany { count: partitions.len() });
        }
        partitions.sort_unstable();
        if let Some(pair) = partitions.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(PartitionError::DuplicateId { id: pair[0].id.clone() });
        }
        if let Some(partition) = partitions.iter().find(|partition| !asks_for_possible_labels(partition)) {
            return Err(PartitionError::Labels { id: partition.id.clone() });
        }
        let hashes = partitions.iter().map(|partition| hash_of(&partition.id)).collect();
        let weights = partitions.iter().map(|partition| partition.weight.get()).collect();
        Ok(Self { digest: digest(&partitions), hashes, weights, partitions: partitions.into() })
    }

    /// The list of these ids with these weights. O(n log n).
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if an id breaks a rule or comes twice, a weight is 0, or there are more than
    /// [`MAX_PARTITIONS`].
    pub fn from_pairs(pairs: impl IntoIterator<Item = (impl AsRef<str>, u32)>) -> Result<Self, PartitionError> {
        let partition = |(id, weight)| {
            let id = PartitionId::new(id)?;
            let Some(checked) = Weight::new(weight) else {
                return Err(PartitionError::Weight { id, weight: weight.to_string() });
            };
            Ok(Partition::new(id).with_weight(checked))
        };
        pairs.into_iter().map(partition).collect::<Result<Vec<_>, _>>().and_then(Self::new)
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partitions in order of their ids.
    pub fn iter(&self) -> core::slice::Iter<'_, Partition> {
        self.partitions.iter()
    }

    /// Whether a partition of this name is among them. O(log n).
    pub fn contains(&self, id: &str) -> bool {
        self.partitions.binary_search_by(|partition| partition.id.as_str().cmp(id)).is_ok()
    }

    /// The partitions in order of their ids.
    pub fn as_slice(&self) -> &[Partition] {
        &self.partitions
    }

    /// A hash of each id (XXH3, 64 bits), in the order of the list.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The weight of each partition, in the order of the list.
    pub(crate) fn weights(&self) -> &Arc<[u32]> {
        &self.weights
    }

    /// The place of `id` in the list. O(log n).
    pub fn position(&self, id: &PartitionId) -> Option<usize> {
        self.partitions.binary_search_by(|partition| partition.id.cmp(id)).ok()
    }

    /// A hash of all ids, weights and placements (XXH3, 64 bits): two workers with the same digest have the same list. O(1).
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// The list of these partitions, by [`collect`](Iterator::collect), or why they are none.
impl FromIterator<Partition> for Result<PartitionList, PartitionError> {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        PartitionList::new(partitions.into_iter().collect())
    }
}

impl TryFrom<Vec<Partition>> for PartitionList {
    type Error = PartitionError;

    fn try_from(partitions: Vec<Partition>) -> Result<Self, PartitionError> {
        Self::new(partitions)
    }
}

impl<'a> IntoIterator for &'a PartitionList {
    type Item = &'a Partition;
    type IntoIter = core::slice::Iter<'a, Partition>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn asks_for_possible_labels(partition: &Partition) -> bool {
    let possible = |text: &String| text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    partition.placement.as_ref().is_none_or(|placement| {
        let labels = &placement.requires;
        labels.len() <= MAX_LABELS && labels.iter().all(|(name, value)| possible(name) && possible(value))
    })
}

fn hash_of(id: &PartitionId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

fn digest(partitions: &[Partition]) -> u64 {
    let mut hash = Xxh3::new();
    for partition in partitions {
        hash.update(&partition.id.as_str().len().to_le_bytes());
        hash.update(partition.id.as_str().as_bytes());
        hash.update(&partition.weight.get().to_le_bytes());
        if let Some(placement) = &partition.placement {
            for text in placement.requires.iter().flat_map(|(name, value)| [name, value]) {
                hash.update(&text.len().to_le_bytes());
                hash.update(text.as_bytes());
            }
            // Not the length of anything: a slot's number, with a mark that there is one.
            let pin = placement.pin.map_or(0, |slot| (1 << 32) | u64::from(slot.value()));
            hash.update(&(!pin).to_le_bytes());
        }
    }
    hash.digest()
}

impl Default for PartitionList {
    /// No partitions.
    fn default() -> Self {
        Self { partitions: Arc::default(), hashes: Arc::default(), weights: Arc::default(), digest: digest(&[]) }
    }
}

impl PartialEq for PartitionList {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.partitions, &other.partitions)
            || self.digest == other.digest && self.partitions == other.partitions
    }
}

impl Eq for PartitionList {}

/// Finds ids in a sorted list, where they are asked for in order: each look goes on from the last. O(n) for all.
pub(crate) struct InOrder<'a, T> {
    rest: &'a [T],
    id_of: fn(&T) -> &PartitionId,
}

impl<'a, T> InOrder<'a, T> {
    pub(crate) fn new(list: &'a [T], id_of: fn(&T) -> &PartitionId) -> Self {
        Self { rest: list, id_of }
    }

    /// The entry of `id`, which must not come before the one that was asked for last.
    pub(crate) fn find(&mut self, id: &PartitionId) -> Option<&'a T> {
        while let Some((first, rest)) = self.rest.split_first() {
            match (self.id_of)(first).cmp(id) {
                Ordering::Less => self.rest = rest,
                Ordering::Equal => return Some(first),
                Ordering::Greater => return None,
            }
        }
        None
    }
}

/// Finds places in a list by hash: for many ids at once this is several times faster than
/// [`position`](PartitionList::position).
#[derive(Debug)]
pub(crate) struct Places<'a> {
    partitions: &'a [Partition],
    /// Open addressing: a place, or [`EMPTY`].
    cells: Vec<u32>,
}

/// Marks a cell that holds no place; lists are far shorter.
const EMPTY: u32 = u32::MAX;

impl<'a> Places<'a> {
    /// O(n).
    pub(crate) fn new(list: &'a PartitionList) -> Self {
        let partitions = list.as_slice();
        let mut places = Self { partitions, cells: vec![EMPTY; (2 * partitions.len()).next_power_of_two()] };
        for (place, &hash) in (0..).zip(list.hashes()) {
            let mut cell = places.first_cell(hash);
            while places.cells[cell] != EMPTY {
                cell = (cell + 1) % places.cells.len();
            }
            places.cells[cell] = place;
        }
        places
    }

    /// The place of `id` in the list. O(1).
    pub(crate) fn find(&self, id: &PartitionId) -> Option<usize> {
        let mut cell = self.first_cell(hash_of(id));
        while self.cells[cell] != EMPTY {
            let place = self.cells[cell] as usize;
            if self.partitions[place].id == *id {
                return Some(place);
            }
            cell = (cell + 1) % self.cells.len();
        }
        None
    }

    fn first_cell(&self, hash: u64) -> usize {
        // There is a power of two of cells, and the low bits are enough.
        usize::try_from(hash & (self.cells.len() as u64 - 1)).unwrap_or(0)
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
         and no control characters, but {id:?} asks for others: remove or shorten them"
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

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn partition(id: &str) -> Partition {
        Partition::new(PartitionId::new(id).expect("a valid id"))
    }

    #[test]
    fn an_invalid_id_is_refused_with_the_rule_and_the_fix() {
        let errors = ["", &"x".repeat(256), "a\nb"].map(|id| PartitionId::new(id).expect_err("invalid").to_string());
        insta::assert_snapshot!(errors.join("\n"), @r#"
        a partition id must not be empty: give every partition a name
        a partition id must have at most 255 bytes, but the one that starts with "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" has 256: shorten it, or use a hash of it
        a partition id must not have control characters, but "a\nb" has one at character 1: remove it
        "#);
    }

    #[test]
    fn a_list_is_sorted_and_refuses_an_id_that_comes_twice() {
        let list = PartitionList::new(vec![partition("b"), partition("a")]).expect("two ids");
        assert_eq!(list.position(&list.as_slice()[1].id), Some(1));
        let error = PartitionList::new(vec![partition("a"), partition("a")]).expect_err("one id twice");
        assert!(error.to_string().contains("\"a\" comes twice"), "{error}");
    }

    #[test]
    fn places_are_found_by_hash_as_by_search() {
        for count in [0, 1, 2, 1_000] {
            let list = PartitionList::new((0..count).map(|n| partition(&alloc::format!("p{n}"))).collect());
            let list = list.expect("each id once");
            let places = Places::new(&list);
            for n in 0..count + 10 {
                let id = PartitionId::new(alloc::format!("p{n}")).expect("a valid id");
                assert_eq!(places.find(&id), list.position(&id), "{id} of {count}");
            }
        }
    }

    #[test]
    fn a_partition_reads_back_from_what_is_stored_of_it() {
        let plain = partition("a");
        let weight = Weight::new(3).expect("not zero");
        let placed = partition("b").with_weight(weight).requiring("zone", "a").pinned_to(Slot::new(7));
        let text = serde_json::to_string(&[&plain, &placed]).expect("plain data");
        assert_eq!(text, r#"[["a",1],["b",3,{"requires":{"zone":"a"},"pin":7}]]"#);
        assert_eq!(serde_json::from_str::<Vec<Partition>>(&text).expect("its own text"), [plain.clone(), placed]);
        let by_hand = serde_json::from_str::<Partition>(r#"["a", 1, {"later": true}]"#);
        assert_eq!(by_hand.expect("what it does not know is ignored"), plain);
        let error = serde_json::from_str::<Partition>(r#"["a"]"#).expect_err("no weight").to_string();
        assert!(error.contains("[id, weight]"), "{error}");
    }

    #[test]
    fn labels_that_no_worker_may_have_are_refused() {
        let many = (0..=MAX_LABELS).fold(partition("a"), |all, n| all.requiring(alloc::format!("l{n}"), ""));
        for wrong in [partition("a").requiring("zone", "a\nb"), partition("a").requiring("z".repeat(129), ""), many] {
            let error = PartitionList::new(vec![wrong]).expect_err("an impossible label").to_string();
            assert!(error.contains("at most 32 labels") && error.contains("\"a\" asks for others"), "{error}");
        }
    }

    #[test]
    fn the_digest_depends_on_ids_weights_and_placements_only() {
        let list = |ids: &[&str]| PartitionList::new(ids.iter().map(|id| partition(id)).collect()).expect("valid");
        assert_eq!(list(&["a", "b"]).digest(), list(&["b", "a"]).digest());
        assert_ne!(list(&["a", "b"]).digest(), list(&["ab"]).digest());
        let heavy = PartitionList::new(vec![partition("a").with_weight(Weight::MAX), partition("b")]).expect("valid");
        assert_ne!(list(&["a", "b"]).digest(), heavy.digest());
        let one = |partition| PartitionList::new(vec![partition]).expect("valid").digest();
        let all = [
            partition("a"),
            partition("a").requiring("zone", "a"),
            partition("a").requiring("zone", "b"),
            partition("a").pinned_to(Slot::new(0)),
        ];
        assert_eq!(all.map(one).into_iter().collect::<alloc::collections::BTreeSet<_>>().len(), 4);
    }
}
