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
        self.settle_pass(&mut flows, |table, flows, partition, kind| {
            let home = table.home(partition, kind.group());
            find(&mut flows.entering[home], kind).map(|entering| {
                entering.count -= 1;
                home
            })
        });
        let mut takers = takers(&flows);
        self.settle_pass(&mut flows, |_, _, _, kind| {
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
    fn settle_pass(
        &mut self,
        flows: &mut Flows,
        mut taker: impl FnMut(&Self, &mut Flows, usize, Kind) -> Option<usize>,
    ) {
        let count = |quotas: &Vec<Quota>| quotas.iter().map(|quota| quota.count).sum::<u32>();
        let mut left: Vec<_> = flows.leaving.iter().map(count).collect();
        let mut all_left = left.iter().map(|&count| u64::from(count)).sum::<u64>();
        for partition in 0..self.owners.len() {
            if all_left == 0 {
                break;
            }
            let from = self.owners[partition] as usize;
            if left.get(from).is_none_or(|&left| left == 0) {
                continue;
            }
            let kind = self.kind(partition);
            if find(&mut flows.leaving[from], kind).is_none() {
                continue;
            }
            let Some(to) = taker(self, flows, partition, kind) else { continue };
            if let Some(leaving) = find(&mut flows.leaving[from], kind) {
                leaving.count -= 1;
            }
            left[from] -= 1;
            all_left -= 1;
            self.owners[partition] = to as u32;
        }
    }
}

/// Who takes how many of each kind.
fn takers(flows: &Flows) -> BTreeMap<Kind, Vec<(usize, u32)>> {
    let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (worker, entering) in flows.entering.iter().enumerate() {
        for quota in entering.iter().filter(|quota| quota.count > 0) {
            takers.entry(quota.kind).or_default().push((worker, quota.count));
        }
    }
    takers
}

/// The quota of `kind`, if it is not used up. The quotas must be in order.
fn find(quotas: &mut [Quota], kind: Kind) -> Option<&mut Quota> {
    let at = quotas.binary_search_by_key(&kind, |quota| quota.kind).ok()?;
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
