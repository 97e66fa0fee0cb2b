//! How heavy the partitions of a worker are, as its member record says it.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::partition::{PartitionId, PartitionList, Places, Weight};
use crate::stored::record::AssignmentRecord;

/// The most that a partition can weigh by reports, in units of the user's choice.
pub const MAX_LOAD: u32 = 1_000_000_000;
/// The most partitions that a worker names with their loads.
pub const MAX_NAMED_LOADS: usize = 128;
/// What a named partition takes besides its id, in bytes, at most.
const BYTES_OF_LOAD: usize = 16;
/// A load differs by more than nothing where it does by a fifth.
const FIFTH: u64 = 5;
/// What is a hundredth of all that a worker has matters.
pub(crate) const HUNDREDTH: u64 = 100;
const THOUSAND: u64 = 1_000;

/// The loads of the measured partitions that a worker has, stored as `{"list":17,"rate":100000,"of":[["p7",1300]]}`:
/// those that are about as heavy as their weights in the list say are not named.
///
/// Nor is any whose difference is less than a hundredth of all. It is bounded by [`MAX_NAMED_LOADS`]; of more, those are named
/// that differ most, and the sum is right all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredLoad {
    /// The [digest](PartitionList::digest) of the list by which the worker measures. By another one, other partitions may be
    /// measured, and weigh something else.
    pub list: u64,
    /// The load of what is not named, for each unit of weight in the list, in thousandths.
    pub rate: u64,
    /// The load of each that is named, in order of the ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<(PartitionId, Weight)>,
}

/// What is measured of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Measure<'a> {
    pub(crate) partition: &'a PartitionId,
    /// Its weight in the list.
    pub(crate) weight: Weight,
    /// Its load; none before it is known.
    pub(crate) load: Option<Weight>,
}

impl MeasuredLoad {
    /// Whether it tells of the partitions that this list measures. O(1).
    pub fn is_by(&self, list: &PartitionList) -> bool {
        self.list == list.digest()
    }

    /// What this says of a partition that has this weight in the list.
    pub fn load_of(&self, partition: &PartitionId, weight: Weight) -> Weight {
        self.named(partition).unwrap_or_else(|| at_rate(self.rate, weight))
    }

    /// The load of a partition that is named. O(log n).
    pub(crate) fn named(&self, partition: &PartitionId) -> Option<Weight> {
        let at = self.of.binary_search_by(|(id, _)| id.cmp(partition)).ok()?;
        Some(self.of[at].1)
    }

    /// Tells `measures`, which are in order of the ids, by the list of this digest in about `limit` bytes; nothing as long as
    /// the load of more than half of them is not known. O(n log n).
    pub(crate) fn telling(list: u64, measures: &[Measure<'_>], limit: usize) -> Option<Self> {
        let known = || measures.iter().filter_map(|measure| Some((measure, measure.load?)));
        let mut rates: Vec<u64> = known().map(|(measure, load)| rate(load, measure.weight)).collect();
        if rates.is_empty() || 2 * rates.len() < measures.len() {
            return None;
        }
        let middle = rates.len() / 2;
        let typical = *rates.select_nth_unstable(middle).1;
        let all: u64 = known().map(|(_, load)| u64::from(load.get())).sum();
        let mut apart: Vec<(u64, &PartitionId, Weight)> = known()
            .filter_map(|(measure, load)| {
                let unnamed = at_rate(typical, measure.weight).get();
                let by = u64::from(load.get().abs_diff(unnamed));
                let matters = differs(load.get(), unnamed) || by > all / HUNDREDTH;
                matters.then_some((by, measure.partition, load))
            })
            .collect();
        apart.sort_unstable_by_key(|(by, partition, _)| (Reverse(*by), *partition));
        let mut room = limit;
        let fits = |(_, partition, _): &&(u64, &PartitionId, Weight)| {
            let bytes = partition.as_str().len() + BYTES_OF_LOAD;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let named = apart.iter().take(MAX_NAMED_LOADS).take_while(fits);
        let mut of: Vec<(PartitionId, Weight)> = named.map(|(_, id, load)| ((*id).clone(), *load)).collect();
        of.sort_unstable();
        let mut told = Self { list, rate: typical, of };
        let rest = || known().filter(|(measure, _)| told.named(measure.partition).is_none());
        let (load, weight) = rest().fold((0_u64, 0_u64), |(load, weight), (measure, of)| {
            (load + u64::from(of.get()), weight + u64::from(measure.weight.get()))
        });
        told.rate = load.saturating_mul(THOUSAND).checked_div(weight).unwrap_or(typical);
        Some(told)
    }

    /// As it is read: in order, each partition once, and no more than may be written.
    pub(crate) fn put_in_order(&mut self) {
        self.of.sort_unstable();
        self.of.dedup_by(|later, kept| later.0 == kept.0);
        self.of.truncate(MAX_NAMED_LOADS);
        for (_, load) in &mut self.of {
            *load = bounded(load.get().into());
        }
    }
}

/// The weights by which a list is divided that measures some of its partitions: what a leader knows of them, or anybody who
/// reads what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredWeights {
    /// By place in the list: the load, where it is known.
    known: Vec<Option<Weight>>,
}

impl MeasuredWeights {
    /// Nothing is known yet.
    pub fn new(list: &PartitionList) -> Self {
        Self { known: vec![None; if list.measures() { list.len() } else { 0 }] }
    }

    /// Whether the list measures anything.
    pub(crate) fn are_measured(&self) -> bool {
        !self.known.is_empty()
    }

    /// Takes in assignments, each with what its worker tells, if it has applied just that and measures
    /// [by this list](MeasuredLoad::is_by): of what it was given since it knows nothing, nor of what only this list measures.
    /// A grant that names another weight than the list was measured before. O(P).
    pub fn observe<'a>(
        &mut self,
        list: &PartitionList,
        assigned: impl Iterator<Item = (&'a AssignmentRecord, Option<&'a MeasuredLoad>)>,
    ) {
        if !self.are_measured() {
            return;
        }
        let places = Places::new(list);
        for (assignment, told) in assigned {
            for grant in &assignment.owned {
                let Some(at) = places.find(&grant.partition) else { continue };
                let of = &list.as_slice()[at];
                let told = told.map(|told| told.load_of(&of.id, of.weight));
                let granted = Some(grant.weight).filter(|weight| *weight != of.weight);
                if of.is_measured() {
                    self.known[at] = told.or(self.known[at]).or(granted);
                }
            }
        }
    }

    /// The list with these weights. What is not measured weighs as much as what is measured of others does on average for
    /// its weight. O(P).
    #[must_use]
    pub fn weighed(&self, list: &PartitionList) -> PartitionList {
        let listed = || list.as_slice().iter().map(|partition| partition.weight);
        let known = || self.known.iter().zip(listed()).filter_map(|(known, weight)| Some(((*known)?, weight)));
        let sum = |(load, weight): (u64, u64), (of, for_weight): (Weight, Weight)| {
            (load + u64::from(of.get()), weight + u64::from(for_weight.get()))
        };
        let (load, weight) = known().fold((0, 0), sum);
        if weight == 0 {
            return list.clone();
        }
        let rate = load.saturating_mul(THOUSAND) / weight;
        let weight_of = |(known, of): (&Option<Weight>, Weight)| known.unwrap_or_else(|| at_rate(rate, of));
        list.weighed(&self.known.iter().zip(listed()).map(weight_of).collect::<Vec<_>>())
    }
}

/// The load for each unit of weight, in thousandths.
pub(crate) fn rate(load: Weight, weight: Weight) -> u64 {
    u64::from(load.get()) * THOUSAND / u64::from(weight.get())
}

/// The load of a partition of this weight.
pub(crate) fn at_rate(rate: u64, weight: Weight) -> Weight {
    bounded(rate.saturating_mul(weight.get().into()) / THOUSAND)
}

/// At least 1, and at most [`MAX_LOAD`].
pub(crate) fn bounded(load: u64) -> Weight {
    let load = u32::try_from(load).unwrap_or(MAX_LOAD).min(MAX_LOAD);
    Weight::new(load).unwrap_or(Weight::MIN)
}

/// Whether a load is another one than `told`, and not only about the same.
pub(crate) fn differs(load: u32, told: u32) -> bool {
    u64::from(load.abs_diff(told)) * FIFTH >= u64::from(told).max(1)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<PartitionId> {
        (0..count).map(|at| PartitionId::new(format!("p{at:04}")).expect("a valid id")).collect()
    }

    fn weight(of: u32) -> Weight {
        Weight::new(of).expect("at least 1")
    }

    fn told(ids: &[PartitionId], loads: &[u32]) -> Option<MeasuredLoad> {
        let measure = |(partition, load): (_, &u32)| Measure { partition, weight: weight(1), load: Weight::new(*load) };
        let measures: Vec<_> = ids.iter().zip(loads).map(measure).collect();
        MeasuredLoad::telling(1, &measures, usize::MAX)
    }

    #[test]
    fn what_is_about_as_heavy_as_most_is_not_named() {
        let ids = ids(4);
        let told = told(&ids, &[100, 105, 95, 1_000]).expect("all are known");
        assert_eq!(told.of, [(ids[3].clone(), weight(1_000))]);
        assert_eq!(told.load_of(&ids[0], weight(1)), weight(100));
        assert_eq!(told.load_of(&ids[0], weight(3)), weight(300), "by the weight in the list");
    }

    #[test]
    fn a_difference_that_matters_to_the_worker_is_named_however_small_it_is_for_the_partition() {
        let ids = ids(3);
        let told = told(&ids, &[100, 105, 90]).expect("all are known");
        assert_eq!(told.of, [(ids[1].clone(), weight(105)), (ids[2].clone(), weight(90))]);
    }

    #[test]
    fn nothing_is_told_before_half_is_known() {
        let ids = ids(4);
        assert_eq!(told(&ids, &[100, 0, 0, 0]), None);
        let told = told(&ids, &[100, 100, 0, 0]).expect("half is enough");
        assert_eq!(told.load_of(&ids[3], weight(1)), weight(100));
    }

    #[test]
    fn no_more_is_named_than_the_room_allows() {
        let ids = ids(100);
        let loads: Vec<u32> = (0..100).map(|at| 1 + at * at).collect();
        let measures: Vec<_> = ids
            .iter()
            .zip(&loads)
            .map(|(partition, load)| Measure { partition, weight: weight(1), load: Weight::new(*load) })
            .collect();
        let told = MeasuredLoad::telling(1, &measures, 10 * (BYTES_OF_LOAD + 5)).expect("all are known");
        assert_eq!(told.of.len(), 10);
        assert_eq!(told.of[9], (ids[99].clone(), weight(1 + 99 * 99)), "those that differ most");
    }

    proptest! {
        #[test]
        fn the_sum_is_right_and_what_is_not_named_is_about_right(
            loads in proptest::collection::vec(1_u32..=MAX_LOAD, 1..200),
        ) {
            let ids = ids(loads.len());
            let told = told(&ids, &loads).expect("all are known");
            prop_assert!(told.of.len() <= MAX_NAMED_LOADS);
            let said: u64 = ids.iter().map(|id| u64::from(told.load_of(id, weight(1)).get())).sum();
            let is: u64 = loads.iter().map(|load| u64::from(*load)).sum();
            prop_assert!(said.abs_diff(is) <= 1 + loads.len() as u64, "{} and not {}", said, is);
            if told.of.len() < MAX_NAMED_LOADS {
                for (id, load) in ids.iter().zip(&loads) {
                    let said = told.load_of(id, weight(1)).get();
                    let by = u64::from(said.abs_diff(*load));
                    prop_assert!(by * 2 <= u64::from(*load).max(4), "{} and not {}", said, load);
                    prop_assert!(by <= 2 * (is / HUNDREDTH) + 2, "{} and not {}", said, load);
                }
            }
        }
    }
}
