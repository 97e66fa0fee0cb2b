//! How the workers of one group differ.

use parti_core::{Mode, PartitionList, Slot, StrategyChoice};
use serde::{Deserialize, Serialize};

use crate::setting::birth::Birth;
use crate::told::fact::PartitionIndex;

/// Each how-manieth partition a differing list lacks.
const LACKS_EVERY: usize = 5;
/// Among how many of the lowest slots pins choose.
const PINNED_SLOTS: u32 = 4;

/// Each how-manieth partition prefers no zone where others do.
const ANYWHERE_EVERY: u32 = 5;

/// How the workers of one group differ, by their numbers in order of the starts; and what partitions ask of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// The strategies, each that of every so-manieth worker; none for the one that is the default.
    pub strategies: Vec<StrategyChoice>,
    /// Whether a user's own strategy stands in for all of them.
    #[serde(skip)]
    pub own_strategy: bool,
    /// Every so-manieth worker has the mode [`Mode::Available`]; 0 for none.
    pub available_every: u32,
    /// The capacities go from 1 to this, around and around; 0 for 1.
    pub capacities: u32,
    /// How many different lists of partitions the workers have: all but the first lack some; 0 for one.
    pub lists: u32,
    /// Every so-manieth partition is pinned to one of the lowest slots; 0 for none.
    pub pins_every: u32,
    /// How many zones there are that partitions prefer, each one of them, in turn, and some none; 0 if none prefers any.
    pub preferred_zones: u32,
    /// How many partitions in a row are to be apart from each other; 0 for none.
    pub keyed: u32,
    /// The limit of each worker's load; 0 for none.
    pub max_load: u32,
    /// The limit of each worker's partitions; 0 for none.
    pub max_partitions: u32,
    /// The priorities of the partitions go from 0 on, as many as this, around and around; 0 for none.
    pub priorities: u8,
    /// Whether workers have slots of their own that nobody else ever asks for, and the successor of one that has crashed
    /// knows that it is dead.
    pub dead_predecessors: bool,
}

impl Mix {
    /// Makes a newcomer, the `number`th, differ from others as this says. `zones` is how many zones there are.
    pub(crate) fn apply(&self, birth: Birth, number: u32, zones: u32) -> Birth {
        let place = |count: usize| number as usize % count.max(1);
        let is_available = number.checked_rem(self.available_every) == Some(0);
        let labels = number.checked_rem(zones.max(self.preferred_zones)).map(|zone| ("zone".into(), zone.to_string()));
        Birth {
            strategy: self.strategies.get(place(self.strategies.len())).copied(),
            mode: is_available.then_some(Mode::Available),
            capacity: number.checked_rem(self.capacities).map_or(birth.capacity, |capacity| capacity + 1),
            list: number.checked_rem(self.lists).unwrap_or(0),
            labels: birth.labels.into_iter().chain(labels).collect(),
            ..birth
        }
    }

    /// Whether the list of this number has a partition.
    pub(crate) const fn is_in_list(list: u32, partition: PartitionIndex) -> bool {
        list == 0 || !(partition.index() + list as usize).is_multiple_of(LACKS_EVERY)
    }

    /// Whether every worker's list has a partition, if the group's has it.
    pub(crate) fn is_in_all_lists(&self, partition: PartitionIndex) -> bool {
        (1..self.lists).all(|list| Self::is_in_list(list, partition))
    }

    /// The slot to which the `number`th partition is pinned.
    pub(crate) fn pin(&self, number: u32) -> Option<Slot> {
        (number.checked_rem(self.pins_every) == Some(0)).then(|| Slot::new(number / self.pins_every % PINNED_SLOTS))
    }

    /// The zone that the `number`th partition prefers.
    pub(crate) fn preferred_zone(&self, number: u32) -> Option<u32> {
        number.checked_rem(self.preferred_zones).filter(|_| !(number + 1).is_multiple_of(ANYWHERE_EVERY))
    }

    /// What the `number`th partition has in common with those from which it is to be apart.
    pub(crate) fn key(&self, number: u32) -> Option<String> {
        number.checked_div(self.keyed).map(|key| format!("tenant-{key}"))
    }

    /// The priority of the `number`th partition.
    pub(crate) fn priority(&self, number: u32) -> u8 {
        number.checked_rem(self.priorities.into()).and_then(|priority| u8::try_from(priority).ok()).unwrap_or(0)
    }

    /// Whether workers have limits, so that there may be too little room.
    pub(crate) const fn has_limits(&self) -> bool {
        self.max_load > 0 || self.max_partitions > 0
    }

    /// Whether a worker may have so many partitions that weigh so much.
    pub(crate) fn is_within_limits(&self, partitions: usize, load: u64) -> bool {
        (self.max_load == 0 || load <= u64::from(self.max_load))
            && (self.max_partitions == 0 || partitions <= self.max_partitions as usize)
    }

    /// Whether each leader may want the partitions elsewhere than the one before.
    pub(crate) const fn leaders_differ(&self) -> bool {
        self.strategies.len() > 1 || self.lists > 1
    }

    /// Whether all workers divide the partitions as it is the default.
    pub(crate) fn is_balanced(&self) -> bool {
        !self.own_strategy && self.strategies.iter().all(|strategy| *strategy == StrategyChoice::Balanced)
    }
}

/// What the list of this number has of `list`, where `all` are the partitions that a run ever has.
pub(crate) fn list_of(number: u32, list: &PartitionList, all: &PartitionList) -> PartitionList {
    if number == 0 {
        return list.clone();
    }
    let kept = list.as_slice().iter().filter(|partition| {
        let index = all.position(&partition.id).map(PartitionIndex::new);
        index.is_some_and(|index| Mix::is_in_list(number, index))
    });
    PartitionList::new(kept.cloned().collect()).expect("part of a list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_differs_unless_it_is_asked_for() {
        let mix = Mix::default();
        for number in 0..10 {
            assert_eq!(mix.apply(Birth::default(), number, 0), Birth::default());
            assert_eq!((mix.pin(number), mix.preferred_zone(number), mix.key(number)), (None, None, None));
            assert_eq!((mix.priority(number), mix.has_limits()), (0, false));
        }
        assert!(mix.is_in_all_lists(PartitionIndex::new(5)) && mix.is_balanced() && !mix.leaders_differ());
    }

    #[test]
    fn workers_differ_by_their_numbers() {
        let mix = Mix { capacities: 3, lists: 2, available_every: 2, ..Mix::default() };
        let births: Vec<_> = (0..4).map(|number| mix.apply(Birth::default(), number, 2)).collect();
        assert_eq!(births.iter().map(|birth| birth.capacity).collect::<Vec<_>>(), [1, 2, 3, 1]);
        assert_eq!(births.iter().map(|birth| birth.list).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(births.iter().filter(|birth| birth.mode == Some(Mode::Available)).count(), 2);
        assert_eq!(births[3].labels["zone"], "1");
    }
}
