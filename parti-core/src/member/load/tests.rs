use alloc::format;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::ids::{Generation, Incarnation, Revision, Tenure, Term};
use crate::partition::Partition;
use crate::rng::Rng;
use crate::stored::record::Grant;

const SECOND: Duration = Duration::from_secs(1);

/// A worker's loads, and all that they are told of.
struct Bench {
    context: Context,
    loads: Loads,
    list: PartitionList,
    assignment: AssignmentRecord,
    at: Position,
}

fn id(at: usize) -> PartitionId {
    PartitionId::new(format!("p{at:03}")).expect("a valid id")
}

impl Bench {
    /// Of so many measured partitions, all granted with the weights of the list.
    fn new(count: usize) -> Self {
        let list = PartitionList::new((0..count).map(|at| Partition::new(id(at)).measured()).collect());
        let grant = |at| Grant { partition: id(at), weight: Weight::MIN, epoch: Generation::new(1) };
        let assignment = AssignmentRecord {
            term: Term::new(1),
            generation: Generation::new(1),
            era: Incarnation::new(1),
            tenure: Tenure::default(),
            owned: (0..count).map(grant).collect(),
            releasing: vec![],
            incoming: vec![],
        };
        Self {
            context: Context::at(Instant::ORIGIN),
            loads: Loads::default(),
            list: list.expect("a valid list"),
            assignment,
            at: Position { incarnation: Incarnation::new(1), revision: Revision::new(1) },
        }
    }

    fn tell(&mut self) -> Option<MeasuredLoad> {
        self.loads.tell(&self.context, (self.at, &self.assignment), Some(&self.list), usize::MAX)
    }

    /// Reports once a second for so long, and tells as often; what was told, each once.
    fn report(&mut self, seconds: u64, mut load: impl FnMut(usize) -> u64) -> Vec<Option<MeasuredLoad>> {
        let mut told = vec![self.tell()];
        for _ in 0..seconds {
            self.context.now = self.context.now + SECOND;
            for at in 0..self.assignment.owned.len() {
                self.loads.observe_report(&self.context, &id(at), load(at));
            }
            told.push(self.tell());
            told.dedup();
        }
        told
    }

    fn load(&mut self, at: usize) -> u32 {
        self.tell().expect("something is told").load_of(&id(at), Weight::MIN).get()
    }
}

/// A fifth more or less.
fn noisy(rng: &mut Rng, load: u64) -> u64 {
    load * (80 + rng.below(41)) / 100
}

#[test]
fn nothing_is_told_before_a_half_life_of_reports() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.report(55, |_| 100), [None]);
    bench.report(20, |_| 100);
    assert_eq!(bench.load(0), 100);
}

#[test]
fn a_change_counts_half_after_a_half_life_and_three_quarters_after_two() {
    let mut bench = Bench::new(1);
    bench.report(600, |_| 100);
    for (seconds, expected) in [(60, 550), (60, 775), (600, 1_000)] {
        bench.report(seconds, |_| 1_000);
        let load = bench.loads.meters[&id(0)].load().expect("known").get();
        assert!(load.abs_diff(expected) < 60, "{load} and not {expected}");
    }
}

#[test]
fn noise_of_a_fifth_is_told_once_in_a_day() {
    let (mut bench, mut rng) = (Bench::new(20), Rng::new(7));
    let told = bench.report(86_400, |_| noisy(&mut rng, 100));
    assert_eq!(told.len(), 2, "nothing, then one load for all: {told:?}");
    let told = told[1].as_ref().expect("it is told");
    assert_eq!(told.of, [], "nobody is named");
    assert!(told.rate.abs_diff(100_000) < 3_000, "{}", told.rate);
}

#[test]
fn no_load_and_an_absurd_one_change_nothing_and_are_counted() {
    let mut bench = Bench::new(1);
    bench.report(120, |_| 100);
    let before = bench.tell();
    bench.report(600, |_| 0);
    bench.report(600, |_| u64::from(MAX_LOAD) + 1);
    assert_eq!(bench.tell(), before);
    let status = bench.loads.status();
    assert_eq!(status, LoadStatus { measured: 1, silent: 1, refused: 1_200 });
}

#[test]
fn what_comes_from_another_worker_brings_its_load_along() {
    let mut bench = Bench::new(4);
    bench.report(120, |_| 100);
    bench.assignment.owned.push(Grant {
        partition: id(4),
        weight: Weight::new(1_000).expect("at least 1"),
        epoch: Generation::new(2),
    });
    bench.list = PartitionList::new((0..5).map(|at| Partition::new(id(at)).measured()).collect()).expect("valid");
    bench.at.revision = bench.at.revision.next();
    assert_eq!((bench.load(4), bench.load(0)), (1_000, 100));
    assert_eq!(bench.report(600, |at| if at == 4 { 1_000 } else { 100 }).len(), 1, "and that is what it measures");
}

#[test]
fn what_nobody_reports_keeps_its_estimate_whoever_has_it_and_whatever_else_they_have() {
    let mut bench = Bench::new(4);
    bench.report(120, |at| if at < 3 { 100 } else { 0 });
    assert_eq!(bench.load(3), 100, "as the others");
    bench.report(1_200, |at| if at < 3 { 1_000 } else { 0 });
    assert!(bench.load(0) > 900);
    assert_eq!(bench.load(3), 100);
    // Where it comes to others, it is granted with that.
    let mut grant = bench.assignment.owned.pop().expect("there are four");
    grant.weight = Weight::new(100).expect("at least 1");
    let mut next = Bench::new(4);
    next.assignment.owned.pop();
    next.report(120, |_| 3_000);
    next.assignment.owned.push(grant);
    next.at.revision = next.at.revision.next();
    assert_eq!((next.load(0), next.load(3)), (3_000, 100));
}

#[test]
fn a_successor_goes_on_with_what_its_predecessor_has_told() {
    let mut bench = Bench::new(4);
    bench.report(120, |at| if at == 0 { 1_000 } else { 100 });
    let told = bench.tell();
    bench.loads = Loads::default();
    bench.loads.inherit(bench.at, told.clone());
    assert_eq!(bench.tell(), told);
    assert_eq!(bench.report(300, |at| if at == 0 { 1_000 } else { 100 }), [told]);
}

#[test]
fn where_the_list_measures_nothing_nothing_is_told() {
    let mut bench = Bench::new(2);
    bench.list = PartitionList::from_pairs([("p000", 1), ("p001", 1)]).expect("a valid list");
    assert_eq!(bench.report(600, |_| 100), [None]);
}

#[test]
fn without_reports_a_partition_counts_as_silent() {
    let mut bench = Bench::new(3);
    bench.report(600, |at| if at == 0 { 0 } else { 5 });
    let status = bench.loads.status();
    assert_eq!((status.measured, status.silent), (3, 1));
}

proptest! {
    /// Whatever is reported and whenever: the smoothed load lies within what was reported.
    #[test]
    fn a_smoothed_load_is_within_the_reports(
        reports in proptest::collection::vec((0_u64..20_000, 1_u64..=MAX_LOAD.into()), 1..200),
    ) {
        let mut meter = Meter::new(Instant::ORIGIN);
        let mut now = Instant::ORIGIN;
        for (after_ms, units) in &reports {
            now = now + Duration::from_millis(*after_ms);
            meter.observe(now, Duration::from_millis(7_500), *units);
        }
        if let Some(load) = meter.load() {
            let units = reports.iter().map(|(_, units)| *units);
            let (least, most) = (units.clone().min().unwrap_or(0), units.max().unwrap_or(0));
            prop_assert!((least..=most).contains(&load.get().into()), "{} is not in {} to {}", load, least, most);
        }
    }
}

#[test]
fn what_is_told_is_by_the_list_that_the_worker_has() {
    let mut bench = Bench::new(3);
    bench.report(100, |_| 100);
    let told = bench.tell().expect("all are known");
    assert!(told.is_by(&bench.list));
    let other = (0..2).map(|at| Partition::new(id(at)).measured()).collect();
    let former = core::mem::replace(&mut bench.list, PartitionList::new(other).expect("a valid list"));
    let told = bench.tell().expect("all of the other list are known");
    assert!(told.is_by(&bench.list) && !told.is_by(&former), "it is told anew once there is another list: {told:?}");
}
