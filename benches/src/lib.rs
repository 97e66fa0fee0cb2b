//! What is measured: the cases of the assignment calculator, for the benches and the command `calculator`, and
//! [a leader of many workers](leader), for the bench and the command `leader`; and what a [process] takes.

pub mod leader;
pub mod process;

use std::num::NonZeroU32;

use parti_core::assign::{Balanced, Options, Plan, Problem, Rule, Step, Strategy, WorkerInput, plan};
use parti_core::{Partition, PartitionId, PartitionList, Slot};
use serde::Serialize;

/// How many partitions and workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// How many partitions.
    pub partitions: usize,
    /// How many workers.
    pub workers: u32,
}

/// The sizes that have bounds.
pub const SIZES: [Size; 3] = [
    Size { partitions: 10_000, workers: 200 },
    Size { partitions: 100_000, workers: 1_000 },
    Size { partitions: 1_000_000, workers: 1_000 },
];

/// How heavy partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// All weigh 1.
    Equal,
    /// One in ten weighs 5, the others 1.
    TenthFivefold,
    /// One in a hundred weighs 40, the others 1.
    HundredthFortyfold,
}

impl Weights {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Equal, Self::TenthFivefold, Self::HundredthFortyfold];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::TenthFivefold => "tenth-fivefold",
            Self::HundredthFortyfold => "hundredth-fortyfold",
        }
    }

    fn of(self, seed: u64) -> NonZeroU32 {
        let draw = mix(seed) % 100;
        let weight = match self {
            Self::Equal => 1,
            Self::TenthFivefold => 1 + 4 * u32::from(draw < 10),
            Self::HundredthFortyfold => 1 + 39 * u32::from(draw < 1),
        };
        NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN)
    }
}

/// What partitions ask of their workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asks {
    /// Nothing: all may be anywhere.
    Nothing,
    /// One in ten prefers one of three zones.
    TenthPrefersZone,
    /// One in ten prefers one worker, by a label that it alone has.
    TenthPrefersWorker,
    /// One in ten is to be apart from nine others of its key.
    TenthApart,
}

impl Asks {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::TenthPrefersZone, Self::TenthPrefersWorker, Self::TenthApart];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::TenthPrefersZone => "tenth-prefers-zone",
            Self::TenthPrefersWorker => "tenth-prefers-worker",
            Self::TenthApart => "tenth-apart",
        }
    }

    /// The rule of a partition that has one, in a group of so many workers.
    fn rule(self, partition: usize, workers: u32) -> Option<Rule> {
        let draw = mix(ASKS_SEED + partition as u64);
        let label = |name: &str, kinds: u64| [(name.into(), (draw / 10 % kinds).to_string())].into();
        let asks = draw.is_multiple_of(10);
        match self {
            Self::TenthPrefersZone if asks => {
                Some(Rule { partition, prefers: label("zone", ZONES), ..Rule::default() })
            }
            Self::TenthPrefersWorker if asks => {
                Some(Rule { partition, prefers: label("host", u64::from(workers)), ..Rule::default() })
            }
            Self::TenthApart if asks => {
                Some(Rule { partition, apart: Some(format!("tenant-{}", partition / 100)), ..Rule::default() })
            }
            Self::Nothing | Self::TenthPrefersZone | Self::TenthPrefersWorker | Self::TenthApart => None,
        }
    }
}

/// What happens to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Nobody holds anything yet.
    FromNothing,
    /// A worker joins.
    JoinOne,
    /// A worker leaves and says so.
    LeaveOne,
    /// A worker is gone: the emergency step.
    CrashOne,
    /// A worker that was gone, and whose partitions others took, is back.
    ReturnOne,
    /// Half as many workers join.
    JoinHalf,
    /// A third of the workers leaves.
    LeaveThird,
    /// One in ten partitions gets the weight of another.
    WeightsChanged,
    /// One in a hundred partitions is new.
    PartitionsAdded,
}

impl Event {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::FromNothing,
        Self::JoinOne,
        Self::LeaveOne,
        Self::CrashOne,
        Self::ReturnOne,
        Self::JoinHalf,
        Self::LeaveThird,
        Self::WeightsChanged,
        Self::PartitionsAdded,
    ];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FromNothing => "from-nothing",
            Self::JoinOne => "join-one",
            Self::LeaveOne => "leave-one",
            Self::CrashOne => "crash-one",
            Self::ReturnOne => "return-one",
            Self::JoinHalf => "join-half",
            Self::LeaveThird => "leave-third",
            Self::WeightsChanged => "weights-changed",
            Self::PartitionsAdded => "partitions-added",
        }
    }
}

/// Decides which weights change.
const CHANGE_SEED: u64 = 1 << 40;
/// Decides which partitions ask for something.
const ASKS_SEED: u64 = 1 << 41;
/// How many zones there are.
const ZONES: u64 = 3;

/// One case: what there is when the calculator is asked.
#[derive(Clone, Debug)]
pub struct Case {
    /// The workers.
    pub workers: Vec<WorkerInput>,
    /// The partitions.
    pub partitions: PartitionList,
    /// Who holds what.
    pub holders: Vec<Option<Slot>>,
    /// How far the plan may go.
    pub options: Options,
    /// What partitions ask for.
    pub rules: Vec<Rule>,
}

/// A group before and after it is balanced, to which events can happen.
#[derive(Clone, Debug)]
pub struct Group {
    size: Size,
    weights: Weights,
    asks: Asks,
    fresh: Case,
    balanced: Case,
}

impl Group {
    /// A group of this size, with these weights, whose partitions ask for nothing.
    ///
    /// # Panics
    ///
    /// If the calculator has no plan.
    pub fn new(size: Size, weights: Weights) -> Self {
        Self::asking(size, weights, Asks::Nothing)
    }

    /// A group of this size, with these weights, whose partitions ask for something.
    ///
    /// # Panics
    ///
    /// If the calculator has no plan.
    pub fn asking(size: Size, weights: Weights, asks: Asks) -> Self {
        let fresh = Case {
            rules: rules(size, asks, size.partitions),
            workers: (0..size.workers).map(worker).collect(),
            partitions: list((0..size.partitions).map(|n| (n, weights.of(n as u64)))),
            holders: vec![None; size.partitions],
            options: Options::default(),
        };
        let mut balanced = fresh.clone();
        balanced.settle();
        Self { size, weights, asks, fresh, balanced }
    }

    /// The case in which `event` has just happened to the balanced group.
    ///
    /// # Panics
    ///
    /// If the calculator has no plan.
    pub fn after(&self, event: Event) -> Case {
        let Self { size, weights, asks, .. } = *self;
        let mut case = self.balanced.clone();
        match event {
            Event::FromNothing => return self.fresh.clone(),
            Event::JoinOne => case.workers.push(worker(size.workers)),
            Event::LeaveOne => case.workers[size.workers as usize / 2].draining = true,
            Event::CrashOne => {
                case.workers.remove(size.workers as usize / 2);
                case.options.step = Step::Emergency;
            }
            Event::ReturnOne => {
                let gone = case.workers.remove(size.workers as usize / 2);
                case.settle();
                case.workers.push(gone);
            }
            Event::JoinHalf => case.workers.extend((size.workers..size.workers + size.workers / 2).map(worker)),
            Event::LeaveThird => case.workers.iter_mut().step_by(3).for_each(|worker| worker.draining = true),
            Event::WeightsChanged => {
                let changed =
                    |n: usize| if mix(CHANGE_SEED + n as u64).is_multiple_of(10) { n + size.partitions } else { n };
                case.partitions = list((0..size.partitions).map(|n| (n, weights.of(changed(n) as u64))));
            }
            Event::PartitionsAdded => {
                let all = size.partitions + size.partitions / 100;
                let known = case.partitions;
                case.partitions = list((0..all).map(|n| (n, weights.of(n as u64))));
                let holder = |partition: &Partition| known.position(&partition.id).and_then(|at| case.holders[at]);
                case.holders = case.partitions.as_slice().iter().map(holder).collect();
                case.rules = rules(size, asks, all);
            }
        }
        case
    }
}

impl Case {
    /// The plan for this case.
    ///
    /// # Panics
    ///
    /// If the calculator has no plan.
    pub fn plan(&self, strategy: &dyn Strategy) -> Plan {
        plan(strategy, &self.problem()).expect("a plan")
    }

    /// The question that this case is.
    ///
    /// # Panics
    ///
    /// If it is not a valid one.
    pub fn problem(&self) -> Problem<'_> {
        let problem = Problem::new(&self.workers, &self.partitions, &self.holders).expect("a valid case");
        problem.with_rules(&self.rules).expect("one rule for a partition").with_options(self.options)
    }

    /// Every round of the change.
    pub fn rounds(&mut self, strategy: &dyn Strategy) -> Vec<Plan> {
        let mut rounds = Vec::new();
        loop {
            let plan = self.plan(strategy);
            let again = plan.another_round && self.options.step == Step::Planned;
            self.holders.clone_from(&plan.owners);
            rounds.push(plan);
            if !again || rounds.len() >= 100 {
                return rounds;
            }
        }
    }

    fn settle(&mut self) {
        self.rounds(&Balanced);
    }
}

fn worker(slot: u32) -> WorkerInput {
    let label = |name: &str, value: u64| (name.to_owned(), value.to_string());
    let labels = [label("zone", u64::from(slot) % ZONES), label("host", u64::from(slot))].into();
    WorkerInput { labels, ..WorkerInput::new(Slot::new(slot)) }
}

fn rules(size: Size, asks: Asks, partitions: usize) -> Vec<Rule> {
    (0..partitions).filter_map(|partition| asks.rule(partition, size.workers)).collect()
}

fn list(partitions: impl Iterator<Item = (usize, NonZeroU32)>) -> PartitionList {
    let partition = |(n, weight)| {
        let id = PartitionId::new(format!("orders.eu-west.{n:07}")).expect("a valid id");
        Partition::new(id).with_weight(weight)
    };
    PartitionList::new(partitions.map(partition).collect()).expect("distinct ids")
}

/// Hashes every id once: what plans are compared with.
pub fn hash_all(partitions: &PartitionList) -> u64 {
    let hash = |partition: &Partition| xxhash_rust::xxh3::xxh3_64(partition.id.as_str().as_bytes());
    partitions.as_slice().iter().fold(0, |all, partition| all ^ hash(partition))
}

/// Spreads consecutive numbers.
fn mix(value: u64) -> u64 {
    parti_core::Rng::new(value).next_u64()
}
