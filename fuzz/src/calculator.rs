use std::num::NonZeroU32;

use parti_core::assign::{Balanced, ConsistentHash, Labels, Options, Plan, Problem, RoundRobin, Rule, Step, Strategy};
use parti_core::assign::{WorkerInput, audit, plan};
use parti_core::{Partition, PartitionId, PartitionList, Slot, Weight};

use crate::bytes::Bytes;

/// How many slots the workers and holders are from: a holder is often gone.
const SLOTS: u32 = 12;
/// How many rounds it may take until nothing moves any more.
const MAX_ROUNDS: usize = 400;

/// Any group at all gets a plan that passes the audit, keeps to the step and the budget, does not depend on the order of
/// the input, and leads to rest: nothing moves once no other round is asked for.
///
/// # Panics
///
/// If that is not so.
pub fn calculator(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(mut group) = Group::read(&mut bytes) else { return };
    let strategies: [&dyn Strategy; 3] = [&Balanced, &RoundRobin, &ConsistentHash { virtual_nodes: 20 }];
    let strategy = strategies[bytes.below(3).unwrap_or(0)];
    let first = group.plan(strategy);
    group.check(&first);
    assert_eq!(group.reversed().plan(strategy).owners, first.owners, "the order of the input matters");
    if group.options.step == Step::Emergency {
        return;
    }
    let mut last = first;
    for _ in 0..MAX_ROUNDS {
        group.holders.clone_from(&last.owners);
        let rests = !last.another_round;
        last = group.plan(strategy);
        group.check(&last);
        if rests {
            assert_eq!(last.moves, [], "something moves, though no other round was asked for");
            return;
        }
    }
    panic!("{MAX_ROUNDS} rounds lead to no rest");
}

/// A group of workers, its partitions, and who holds what.
struct Group {
    workers: Vec<WorkerInput>,
    partitions: PartitionList,
    holders: Vec<Option<Slot>>,
    rules: Vec<Rule>,
    options: Options,
}

impl Group {
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let options = Options {
            epsilon_permille: [0, 1, 50, 1_000][bytes.below(4)?],
            move_budget_percent: 1 + bytes.number(100)?,
            step: if bytes.below(4)? == 0 { Step::Emergency } else { Step::Planned },
            seed: u64::from(bytes.byte()?),
        };
        let mut workers: Vec<WorkerInput> = Vec::new();
        for _ in 0..bytes.below(SLOTS as usize)? {
            let worker = worker(bytes)?;
            if workers.iter().all(|other| other.slot != worker.slot) {
                workers.push(worker);
            }
        }
        let (mut partitions, mut holders, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..bytes.below(80)? {
            let id = PartitionId::new(format!("p{number:02}")).expect("a valid id");
            let weight = [1, 1, 1, 2, 5, 40, 1_000_000, u32::MAX][bytes.below(8)?];
            partitions.push(Partition::new(id).with_weight(Weight::new(weight).expect("not zero")));
            let holder = bytes.number(SLOTS + 2)?;
            holders.push((holder < SLOTS).then_some(Slot::new(holder)));
            match bytes.below(12)? {
                0 => rules.push(Rule { partition: number, requires: zone(bytes.byte()?), ..Rule::default() }),
                1 => {
                    let pin = Some(Slot::new(bytes.number(SLOTS)?));
                    rules.push(Rule { partition: number, pin, ..Rule::default() });
                }
                2 => {
                    let avoids = [bytes.number(SLOTS)?, bytes.number(SLOTS)?].map(Slot::new).into();
                    rules.push(Rule { partition: number, avoids, ..Rule::default() });
                }
                3 => rules.push(Rule { partition: number, prefers: zone(bytes.byte()?), ..Rule::default() }),
                4 => {
                    let (key, prefers) = (bytes.below(3)?, zone(bytes.byte()?));
                    let prefers = if bytes.below(2)? == 0 { prefers } else { Labels::new() };
                    rules.push(Rule { partition: number, apart: Some(format!("k{key}")), prefers, ..Rule::default() });
                }
                _ => {}
            }
        }
        let partitions = PartitionList::new(partitions).expect("each id once");
        Some(Self { workers, partitions, holders, rules, options })
    }

    fn problem(&self) -> Problem<'_> {
        let problem = Problem::new(&self.workers, &self.partitions, &self.holders).expect("one holder for each");
        problem.with_rules(&self.rules).expect("one rule for each").with_options(self.options)
    }

    fn plan(&self, strategy: &dyn Strategy) -> Plan {
        plan(strategy, &self.problem()).expect("our own strategies have an answer, and it passes the audit")
    }

    /// The same group, told in another order.
    fn reversed(&self) -> Self {
        let mut reversed = Self {
            workers: self.workers.clone(),
            partitions: self.partitions.clone(),
            holders: self.holders.clone(),
            rules: self.rules.clone(),
            options: self.options,
        };
        reversed.workers.reverse();
        reversed.rules.reverse();
        reversed
    }

    fn stays(&self, slot: Slot) -> bool {
        self.workers.iter().any(|worker| worker.slot == slot && !worker.draining)
    }

    fn check(&self, plan: &Plan) {
        let problem = self.problem();
        assert_eq!(audit(&problem, &plan.owners), Ok(()));
        let staying = self.holders.iter().flatten().filter(|slot| self.stays(**slot)).count();
        let moved = plan.moves.iter().filter(|step| step.from.is_some_and(|slot| self.stays(slot))).count();
        let budget = match self.options.move_budget_percent as usize {
            100.. => staying,
            percent => (staying * percent).saturating_sub(1) / 100,
        };
        let budget = budget.max(1);
        match self.options.step {
            Step::Planned => assert!(moved <= budget, "{moved} moved, the budget is {budget} of {staying}"),
            Step::Emergency => assert_eq!(moved, 0, "an emergency moves what stays"),
        }
        for (index, owner) in plan.owners.iter().enumerate() {
            let possible = self.workers.iter().any(|worker| worker.can_hold(problem.rule(index)));
            assert!(owner.is_some() || !possible, "partition {index} has no owner, but could have one");
        }
    }
}

fn worker(bytes: &mut Bytes<'_>) -> Option<WorkerInput> {
    Some(WorkerInput {
        slot: Slot::new(bytes.number(SLOTS)?),
        capacity: NonZeroU32::new([1, 1, 1, 2, 7, u32::MAX][bytes.below(6)?]).expect("not zero"),
        labels: zone(bytes.byte()?),
        draining: bytes.below(8)? == 0,
        ..WorkerInput::new(Slot::new(0))
    })
}

fn zone(byte: u8) -> Labels {
    let zone = ["a", "b", "c"][usize::from(byte) % 3];
    Labels::from([("zone".into(), zone.into())])
}
