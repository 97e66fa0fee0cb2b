//! How heavy this worker's partitions are: smooths what the application reports, and says what has changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ids::Position;
use crate::partition::{PartitionId, PartitionList, Weight};
use crate::stored::load::{HUNDREDTH, MAX_LOAD, Measure, MeasuredLoad, bounded, differs};
use crate::stored::record::AssignmentRecord;
use crate::time::{Duration, Instant};

/// How often within a half-life the reports since the last time are taken together.
const LOOKS: u32 = 8;
/// What one look counts: 1 − 2^(−1/8), in 1/65536.
const SHARE: u64 = 5_439;
const ONE: u64 = 1 << 16;
/// From so many looks on the older ones fade; until then each counts the same.
const FULL: u64 = ONE / SHARE + 1;
/// Loads take at most this part of what a record may have.
const SHARE_OF_RECORD: usize = 8;
/// After so many half-lives without a report a partition counts as silent.
const SILENT_AFTER: u32 = 4;

/// What is measured of the partitions that this worker owns, while the list asks for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Loads {
    meters: BTreeMap<PartitionId, Meter>,
    /// What the tenure had told before this process, and the assignment that it had applied.
    inherited: Option<(Position, MeasuredLoad)>,
    /// The assignment that the meters are of, and the digest of the list.
    of: Option<(Position, u64)>,
    told: Option<MeasuredLoad>,
    refused: u64,
    status: LoadStatus,
}

/// Smooths the reports of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meter {
    /// In 1/65536 of a unit.
    smoothed: u64,
    /// How many looks it is made of, up to [`FULL`].
    looks: u64,
    /// The sum and the number of the reports since the last look.
    sum: u64,
    count: u64,
    /// When the look under way is over.
    look_at: Option<Instant>,
    reported_at: Instant,
    /// What counts as its load before it is measured.
    estimate: Option<Weight>,
    /// The load that was told last.
    told: Option<Weight>,
}

/// What measuring has come to, for metrics and health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// How many of the worker's partitions are [measured](crate::Partition::measured).
    pub measured: usize,
    /// How many of them nobody has reported anything of for four half-lives.
    pub silent: usize,
    /// How many reports were refused since the start: of no load, or of more than [`MAX_LOAD`].
    pub refused: u64,
}

impl Loads {
    /// This process goes on in a tenure that has told this, when it had applied that assignment.
    pub(crate) fn inherit(&mut self, applied: Position, told: Option<MeasuredLoad>) {
        let refused = self.refused;
        *self = Self { inherited: told.clone().map(|told| (applied, told)), told, refused, ..Self::default() };
    }

    /// What was told last.
    pub(crate) fn told(&self) -> Option<MeasuredLoad> {
        self.told.clone()
    }

    /// The application says how heavy a partition is that it holds and that is measured. What is no load changes nothing.
    pub(crate) fn observe_report(&mut self, context: &Context, partition: &PartitionId, units: u64) {
        if units == 0 || units > MAX_LOAD.into() {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let every = context.config.load_half_life / LOOKS;
        let meter = self.meters.entry(partition.clone()).or_insert_with(|| Meter::new(context.now));
        meter.observe(context.now, every, units);
    }

    /// What the next record says of the loads of what is assigned; nothing where the list measures nothing of it. `limit`
    /// is how many bytes a record may have. O(owned) where it measures.
    pub(crate) fn tell(
        &mut self,
        context: &Context,
        (at, assignment): (Position, &AssignmentRecord),
        list: Option<&PartitionList>,
        limit: usize,
    ) -> Option<MeasuredLoad> {
        let owned = measured(assignment, list);
        if owned.is_empty() {
            let Self { refused, .. } = *self;
            *self = Self { refused, ..Self::default() };
            return None;
        }
        let list = list?;
        let moved = self.of != Some((at, list.digest()));
        if moved {
            self.take_over(context.now, at, list, &owned);
        }
        self.look_for_silent(context, &owned);
        if self.update_told() || moved {
            let told = |id| self.meters.get(id).and_then(|meter: &Meter| meter.told);
            let measures: Vec<Measure<'_>> = owned
                .iter()
                .map(|of| Measure { partition: of.partition, weight: of.weight, load: told(of.partition) })
                .collect();
            // What was told once stays until there is something better.
            self.told = MeasuredLoad::telling(list.digest(), &measures, limit / SHARE_OF_RECORD).or(self.told.take());
            self.keep_estimates(list, &owned);
        }
        self.told.clone()
    }

    /// What is told of a partition that is not measured counts as its load from then on, here and with whoever has it next:
    /// an estimate that differed from owner to owner could make it move for ever.
    fn keep_estimates(&mut self, list: &PartitionList, owned: &[Owned<'_>]) {
        let Some(told) = self.told.as_ref().filter(|told| told.is_by(list)) else { return };
        for of in owned {
            if let Some(meter) = self.meters.get_mut(of.partition).filter(|meter| meter.load().is_none()) {
                meter.estimate = Some(told.load_of(of.partition, of.weight));
                meter.told = meter.estimate;
            }
        }
    }

    /// Another assignment: of what has come the load comes with it, and what is gone is forgotten.
    fn take_over(&mut self, now: Instant, at: Position, list: &PartitionList, owned: &[Owned<'_>]) {
        let mut before = core::mem::take(&mut self.meters);
        for of in owned {
            let carried = || {
                let inherited = self.inherited.as_ref();
                let same = inherited.filter(|(applied, told)| *applied == at && told.is_by(list));
                let named = inherited.and_then(|(_, told)| told.named(of.partition));
                let load = same.map(|(_, told)| told.load_of(of.partition, of.weight)).or(named).or(of.granted);
                load.map(|load| Meter::carried(now, load))
            };
            let meter = before.remove(of.partition).or_else(carried).unwrap_or_else(|| Meter::new(now));
            self.meters.insert(of.partition.clone(), meter);
        }
        self.inherited = None;
        self.of = Some((at, list.digest()));
    }

    /// Where enough has changed, what is told is what is measured; true if it is.
    fn update_told(&mut self) -> bool {
        let (mut changed, mut total) = (0_u64, 0_u64);
        for meter in self.meters.values() {
            let Some(load) = meter.load() else { continue };
            let told = meter.told.map_or(0, Weight::get);
            total += u64::from(load.get());
            if differs(load.get(), told) {
                changed += u64::from(load.get().abs_diff(told));
            }
        }
        let is_news = changed > 0 && changed.saturating_mul(HUNDREDTH) >= total;
        if is_news {
            for meter in self.meters.values_mut() {
                meter.told = meter.load().or(meter.told);
            }
        }
        is_news
    }

    /// What measuring had come to when something was told last.
    pub(crate) fn status(&self) -> LoadStatus {
        LoadStatus { refused: self.refused, ..self.status }
    }

    fn look_for_silent(&mut self, context: &Context, owned: &[Owned<'_>]) {
        let patience = context.config.load_half_life * SILENT_AFTER;
        let is_silent = |meter: &&Meter| context.now >= meter.reported_at + patience;
        let silent = owned.iter().filter_map(|of| self.meters.get(of.partition)).filter(is_silent).count();
        self.status = LoadStatus { measured: owned.len(), silent, ..self.status };
    }
}

/// A measured partition that is assigned to this worker.
struct Owned<'a> {
    partition: &'a PartitionId,
    /// Its weight in the list.
    weight: Weight,
    /// The load that it was granted with, if it had been measured.
    granted: Option<Weight>,
}

/// Those of the assignment that the list measures, in order.
fn measured<'a>(assignment: &'a AssignmentRecord, list: Option<&'a PartitionList>) -> Vec<Owned<'a>> {
    let Some(list) = list.filter(|list| list.measures()) else { return Vec::new() };
    let owned = assignment.owned.iter().filter_map(|grant| {
        let of = &list.as_slice()[list.position(&grant.partition)?];
        let granted = Some(grant.weight).filter(|weight| *weight != of.weight);
        of.is_measured().then_some(Owned { partition: &grant.partition, weight: of.weight, granted })
    });
    owned.collect()
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self { smoothed: 0, looks: 0, sum: 0, count: 0, look_at: None, reported_at: now, estimate: None, told: None }
    }

    /// One whose load another has measured.
    fn carried(now: Instant, load: Weight) -> Self {
        Self { smoothed: u64::from(load.get()) * ONE, looks: FULL, told: Some(load), ..Self::new(now) }
    }

    /// Reports between two looks count as one, of their mean: however often an application reports, a load has to last to
    /// count.
    fn observe(&mut self, now: Instant, every: Duration, units: u64) {
        self.reported_at = now;
        let look_at = *self.look_at.get_or_insert(now + every);
        if now >= look_at && self.count > 0 {
            self.look();
            self.look_at = Some(now + every);
        }
        self.sum = self.sum.saturating_add(units);
        self.count += 1;
    }

    fn look(&mut self) {
        let mean = u128::from(self.sum) * u128::from(ONE) / u128::from(self.count);
        let mean = u64::try_from(mean).unwrap_or(u64::MAX).min(u64::from(MAX_LOAD) * ONE);
        (self.sum, self.count) = (0, 0);
        self.looks = (self.looks + 1).min(FULL);
        let share = (ONE / self.looks).max(SHARE);
        let step = |by: u64| by * share / ONE;
        self.smoothed = if mean >= self.smoothed {
            self.smoothed + step(mean - self.smoothed)
        } else {
            self.smoothed - step(self.smoothed - mean)
        };
    }

    /// The smoothed load; before there are reports of a half-life what is estimated, if it is.
    fn load(&self) -> Option<Weight> {
        let is_measured = self.looks >= LOOKS.into();
        if is_measured { Some(bounded((self.smoothed + ONE / 2) / ONE)) } else { self.estimate }
    }
}

#[cfg(test)]
mod tests;
