//! Which partitions of a kind move, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::Table;
use super::level::{Kind, Step};

/// How many partitions of each kind leave and enter each worker.
#[derive(Debug)]
pub(super) struct Flows {
    leaving: Vec<Vec<Quota>>,
    entering: Vec<Vec<Quota>>,
}

/// So many partitions of a kind.
#[derive(Clone, Copy, Debug)]
struct Quota {
    kind: Kind,
    count: u32,
}

impl Flows {
    pub(super) fn new(workers: usize) -> Self {
        Self { leaving: vec![Vec::new(); workers], entering: vec![Vec::new(); workers] }
    }

    /// Partitions go from one worker to another.
    pub(super) fn record(&mut self, from: usize, step: &Step) {
        add(&mut self.leaving[from], step);
        add(&mut self.entering[step.to], step);
    }

    /// Puts the quotas of each worker in order, and cancels what both leaves and enters a worker.
    fn tidy(&mut self) {
        for (leaving, entering) in self.leaving.iter_mut().zip(&mut self.entering) {
            merge(leaving);
            merge(entering);
            for left in leaving.iter_mut() {
                if let Some(entered) = find(entering, left.kind) {
                    let both = left.count.min(entered.count);
                    left.count -= both;
                    entered.count -= both;
                }
            }
        }
    }
}

impl Table<'_> {
    /// Chooses the partitions: first those whose home takes one of their kind, then others, in the order of the list.
    pub(super) fn settle(&mut self, mut flows: Flows) {
        flows.tidy();
        let mut open = counts(&flows.entering);
        let entering = &mut flows.entering;
        self.settle_pass(&mut flows.leaving, |table, partition, kind| {
            let home = table.home(partition, kind.group());
            if open[home] == 0 {
                return None;
            }
            let quota = find(&mut entering[home], kind)?;
            quota.count -= 1;
            open[home] -= 1;
            Some(home)
        });
        let mut takers = takers(&flows.entering);
        self.settle_pass(&mut flows.leaving, |_, _, kind| {
            let workers = takers.get_mut(&kind)?;
            let (worker, count) = workers.last_mut()?;
            let worker = *worker;
            *count -= 1;
            if *count == 0 {
                workers.pop();
            }
            Some(worker)
        });
    }

    /// Offers every partition of a kind that still leaves its worker to `taker`, which answers where it goes.
    fn settle_pass(&mut self, leaving: &mut [Vec<Quota>], mut taker: impl FnMut(&Self, usize, Kind) -> Option<usize>) {
        let mut open = counts(leaving);
        let mut all_open = open.iter().map(|&count| u64::from(count)).sum::<u64>();
        for partition in 0..self.owners.len() {
            if all_open == 0 {
                break;
            }
            let from = self.owners[partition] as usize;
            if open.get(from).is_none_or(|&open| open == 0) {
                continue;
            }
            let kind = self.kind(partition);
            let Some(quota) = find(&mut leaving[from], kind) else { continue };
            let Some(to) = taker(self, partition, kind) else { continue };
            quota.count -= 1;
            open[from] -= 1;
            all_open -= 1;
            self.owners[partition] = to as u32;
        }
    }
}

/// How many partitions each worker's quotas are in sum.
fn counts(quotas: &[Vec<Quota>]) -> Vec<u32> {
    quotas.iter().map(|quotas| quotas.iter().map(|quota| quota.count).sum()).collect()
}

/// Who takes how many of each kind.
fn takers(entering: &[Vec<Quota>]) -> BTreeMap<Kind, Vec<(usize, u32)>> {
    let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (worker, entering) in entering.iter().enumerate() {
        for quota in entering.iter().filter(|quota| quota.count > 0) {
            takers.entry(quota.kind).or_default().push((worker, quota.count));
        }
    }
    takers
}

/// The quota of `kind`, if it is not used up. The quotas must be in order.
fn find(quotas: &mut [Quota], kind: Kind) -> Option<&mut Quota> {
    let at = match quotas {
        [only] if only.kind == kind => 0,
        _ => quotas.binary_search_by_key(&kind, |quota| quota.kind).ok()?,
    };
    Some(&mut quotas[at]).filter(|quota| quota.count > 0)
}

fn add(quotas: &mut Vec<Quota>, step: &Step) {
    match quotas.last_mut() {
        Some(last) if last.kind == step.kind => last.count += step.count,
        Some(_) | None => quotas.push(Quota { kind: step.kind, count: step.count }),
    }
}

/// Puts quotas in order, one for each kind.
fn merge(quotas: &mut Vec<Quota>) {
    quotas.sort_unstable_by_key(|quota| quota.kind);
    quotas.dedup_by(|next, kept| {
        let same = next.kind == kept.kind;
        kept.count += if same { next.count } else { 0 };
        same
    });
}
