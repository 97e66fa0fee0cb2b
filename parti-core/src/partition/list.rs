//! The list of partitions, what it hashes to, and how ids are found in it.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::config::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::labels::Labels;
use crate::partition::{MAX_PARTITIONS, Partition, PartitionError, PartitionId, Weight};

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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Partition>", into = "Vec<Partition>")]
pub struct PartitionList {
    partitions: Arc<[Partition]>,
    /// Of each id: lists change seldom, and every plan needs hashes.
    hashes: Arc<[u64]>,
    /// Of each partition, close together, for the same reason.
    weights: Arc<[u32]>,
    /// The priority of each partition; empty where all have the lowest.
    priorities: Arc<[u8]>,
    /// Whether the weight of any of them is measured.
    measures: bool,
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
        let priority = |partition: &Partition| partition.placement.as_ref().map_or(0, |placement| placement.priority);
        let has_any = partitions.iter().any(|partition| priority(partition) > 0);
        let priorities = partitions.iter().filter(|_| has_any).map(priority).collect();
        let measures = partitions.iter().any(Partition::is_measured);
        let digest = digest(&partitions);
        Ok(Self { digest, hashes, weights, priorities, measures, partitions: partitions.into() })
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

    /// The priority of each partition, in the order of the list; empty where all have the lowest.
    pub(crate) fn priorities(&self) -> &[u8] {
        &self.priorities
    }

    /// Whether the weight of any of them is measured.
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// The same list for the calculator, with these weights in the order of the list. Its digest stays: it is what a group
    /// shares, and this is not. O(n).
    pub(crate) fn weighed(&self, weights: &[Weight]) -> Self {
        let weighed = self.partitions.iter().zip(weights);
        let partitions = weighed.map(|(partition, weight)| partition.clone().with_weight(*weight)).collect();
        let weights = weights.iter().map(|weight| weight.get()).collect();
        Self { partitions, weights, ..self.clone() }
    }

    /// The priority of the partition with this place. O(1).
    pub(crate) fn priority(&self, place: u32) -> u8 {
        self.priorities.get(place as usize).copied().unwrap_or(0)
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

impl From<PartitionList> for Vec<Partition> {
    fn from(list: PartitionList) -> Self {
        list.partitions.to_vec()
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
        let all_possible = |labels: &Labels| {
            labels.len() <= MAX_LABELS && labels.iter().all(|(name, value)| possible(name) && possible(value))
        };
        all_possible(&placement.requires)
            && all_possible(&placement.prefers)
            && placement.apart.as_ref().is_none_or(possible)
    })
}

fn hash_of(id: &PartitionId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

/// Tell in the digest what follows from the length of an id.
const PREFERS: u8 = 1;
const APART: u8 = 2;
const PRIORITY: u8 = 3;
const MEASURED: u8 = 4;

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
            // What is not there leaves the digest as it was before it could be there.
            for text in placement.prefers.iter().flat_map(|(name, value)| [name, value]) {
                hash.update(&[PREFERS]);
                hash.update(&text.len().to_le_bytes());
                hash.update(text.as_bytes());
            }
            if let Some(key) = &placement.apart {
                hash.update(&[APART]);
                hash.update(&key.len().to_le_bytes());
                hash.update(key.as_bytes());
            }
            if placement.priority > 0 {
                hash.update(&[PRIORITY, placement.priority]);
            }
            if placement.measured {
                hash.update(&[MEASURED]);
            }
        }
    }
    hash.digest()
}

impl Default for PartitionList {
    /// No partitions.
    fn default() -> Self {
        Self::new(Vec::new()).expect("no partition breaks a rule")
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
