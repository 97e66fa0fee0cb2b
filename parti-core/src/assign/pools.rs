//! Which workers may hold which partitions, and which should.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::class::ANYWHERE;
use super::current::NOBODY;
use super::{Labels, Problem, Rule, WorkerInput};
use crate::ids::Slot;

/// The workers that may hold a partition are its *pool*; partitions that ask for the same labels and avoid the
/// same workers share one. Those of them that it prefers are another, smaller one.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    /// The pool of each partition; empty where there are no rules, so that they cost nothing then.
    of: Vec<u32>,
    /// The pool that each partition prefers, or [`NOBODY`]; empty where none has any.
    preferred: Vec<u32>,
    /// The partitions that prefer workers that are there, in order.
    preferring: Vec<usize>,
    /// Those that prefer workers none of which is there, in order.
    unmet: Vec<usize>,
    /// For each pool, the one in which its partitions are counted that have to leave workers that they prefer; it has the
    /// same workers.
    spilling: BTreeMap<u32, u32>,
    /// The workers in each pool, in order.
    members: Vec<Vec<u32>>,
    /// The partitions whose pinned worker can hold them, and that worker.
    pins: BTreeMap<usize, u32>,
    /// The partitions whose pool is empty, in order.
    impossible: Vec<usize>,
}

/// What makes a pool: the labels that its workers have, those that they also have, and the slots that it is without.
type Wanted<'r> = (&'r Labels, &'r Labels, &'r BTreeSet<Slot>);

/// The pools that are made, by a hash of what makes them: to compare labels for every partition takes far longer.
type Known<'r> = BTreeMap<u64, Vec<(Wanted<'r>, u32)>>;

fn hash((requires, prefers, avoids): Wanted<'_>) -> u64 {
    let texts = requires.iter().chain(prefers).flat_map(|(name, value)| [name, value]);
    let hash = texts.fold(0, |hash, text| xxh3_64_with_seed(text.as_bytes(), hash));
    avoids.iter().fold(hash, |hash, slot| xxh3_64_with_seed(&slot.value().to_le_bytes(), hash))
}

impl Pools {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let workers = &problem.current().workers;
        let mut pools = Self {
            of: Vec::new(),
            preferred: Vec::new(),
            preferring: Vec::new(),
            unmet: Vec::new(),
            spilling: BTreeMap::new(),
            members: vec![(0..).take(workers.len()).collect()],
            pins: BTreeMap::new(),
            impossible: Vec::new(),
        };
        if problem.rules().is_empty() {
            return pools;
        }
        pools.of = vec![ANYWHERE; problem.holders().len()];
        let anything = Labels::new();
        let mut known = Known::new();
        let labelled = Labelled::new(problem);
        for rule in problem.rules() {
            if let Some(worker) = problem.pinned(rule) {
                pools.pins.insert(rule.partition, workers.index(worker.slot));
            }
            let pool = if rule.requires.is_empty() && rule.avoids.is_empty() {
                ANYWHERE
            } else {
                pools.get_or_make(&mut known, &labelled, (&rule.requires, &anything, &rule.avoids))
            };
            pools.of[rule.partition] = pool;
            if pools.members(pool).is_empty() {
                pools.impossible.push(rule.partition);
            } else if !rule.prefers.is_empty() {
                let preferred = pools.get_or_make(&mut known, &labelled, (&rule.requires, &rule.prefers, &rule.avoids));
                pools.prefer(rule, pool, preferred);
            }
        }
        pools
    }

    fn get_or_make<'r>(&mut self, known: &mut Known<'r>, labelled: &Labelled<'_>, wanted: Wanted<'r>) -> u32 {
        let same = known.entry(hash(wanted)).or_default();
        if let Some((_, pool)) = same.iter().find(|(known, _)| *known == wanted) {
            return *pool;
        }
        let pool = u32::try_from(self.members.len()).unwrap_or(NOBODY);
        same.push((wanted, pool));
        self.members.push(labelled.workers_with(wanted));
        pool
    }

    /// Notes which of the workers of its pool a partition prefers, if any of them is there.
    fn prefer(&mut self, rule: &Rule, pool: u32, preferred: u32) {
        if self.members(preferred).is_empty() {
            return self.unmet.push(rule.partition);
        }
        if self.preferred.is_empty() {
            self.preferred = vec![NOBODY; self.of.len()];
        }
        self.preferred[rule.partition] = preferred;
        self.preferring.push(rule.partition);
        if !self.spilling.contains_key(&pool) {
            self.spilling.insert(pool, u32::try_from(self.members.len()).unwrap_or(NOBODY));
            self.members.push(self.members(pool).to_vec());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether every partition may be anywhere.
    pub(super) fn is_free(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn of(&self, partition: usize) -> u32 {
        self.of.get(partition).copied().unwrap_or(ANYWHERE)
    }

    /// The workers that a partition prefers, where any of these are there.
    #[inline]
    pub(super) fn preferred(&self, partition: usize) -> Option<u32> {
        self.preferred.get(partition).copied().filter(|&pool| pool != NOBODY)
    }

    /// The partitions that prefer workers that are there, in order.
    pub(super) fn preferring(&self) -> &[usize] {
        &self.preferring
    }

    /// The partitions that would be with workers that they do not prefer if these were the owners.
    pub(super) fn spilled<'s>(&'s self, owners: &'s [u32]) -> impl Iterator<Item = usize> + 's {
        let is_spilled = |&partition: &usize| !self.allows(self.preferred[partition], owners[partition]);
        let spilled = self.preferring.iter().copied().filter(is_spilled).chain(self.unmet.iter().copied());
        spilled.filter(|&partition| owners[partition] != NOBODY)
    }

    /// The pool in which a partition is counted that has to leave workers that it prefers.
    pub(super) fn spilling(&self, partition: usize) -> u32 {
        let pool = self.of(partition);
        self.spilling.get(&pool).copied().unwrap_or(pool)
    }

    /// The workers in a pool, in order.
    pub(super) fn members(&self, pool: u32) -> &[u32] {
        &self.members[pool as usize]
    }

    /// The partitions that no worker can hold, in order.
    pub(super) fn impossible(&self) -> &[usize] {
        &self.impossible
    }

    pub(super) fn allows(&self, pool: u32, worker: u32) -> bool {
        pool == ANYWHERE || self.members(pool).binary_search(&worker).is_ok()
    }

    /// The pinned partitions whose worker can hold them, in order, and that worker.
    pub(super) fn pins(&self) -> impl Iterator<Item = (usize, u32)> {
        self.pins.iter().map(|(&partition, &worker)| (partition, worker))
    }

    pub(super) fn pin(&self, partition: usize) -> Option<u32> {
        self.pins.get(&partition).copied()
    }
}

/// The workers that stay by label, so that a pool of few workers is made without a look at all.
struct Labelled<'p> {
    /// By worker index.
    staying: Vec<&'p WorkerInput>,
    by_label: BTreeMap<(&'p str, &'p str), Vec<u32>>,
}

impl<'p> Labelled<'p> {
    fn new(problem: &Problem<'p>) -> Self {
        let staying: Vec<_> = problem.workers().iter().copied().filter(|worker| !worker.draining).collect();
        let mut by_label: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for (index, worker) in (0..).zip(&staying) {
            for (name, value) in &worker.labels {
                by_label.entry((name.as_str(), value.as_str())).or_default().push(index);
            }
        }
        Self { staying, by_label }
    }

    /// In order.
    fn with<'a>(&'a self, name: &'a str, value: &'a str) -> &'a [u32] {
        self.by_label.get(&(name, value)).map_or(&[], Vec::as_slice)
    }

    /// In order.
    fn workers_with(&self, (requires, prefers, avoids): Wanted<'_>) -> Vec<u32> {
        let labels = || requires.iter().chain(prefers);
        let fits = |&index: &u32| {
            let worker = self.staying[index as usize];
            labels().all(|(name, value)| worker.labels.get(name) == Some(value)) && !avoids.contains(&worker.slot)
        };
        match labels().map(|(name, value)| self.with(name, value)).min_by_key(|workers| workers.len()) {
            Some(fewest) => fewest.iter().copied().filter(fits).collect(),
            None => (0..).take(self.staying.len()).filter(fits).collect(),
        }
    }
}
