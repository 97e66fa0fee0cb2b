//! What would move: the calculator asked with a group as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use parti_core::assign::{
    self, Balanced, ConsistentHash, Figures, Fit, MoveReason, Options, PlanError, Problem, RoundRobin, Rule, Step,
    Strategy, WorkerInput,
};
use parti_core::{
    Control, MemberPhase, Partition, PartitionId, PartitionList, Placement, Slot, StrategyChoice, Weight,
};

use super::picture::{PartitionPicture, Picture, Presence};

/// After so many rounds a forecast ends, whatever there is left to move.
const MAX_ROUNDS: usize = 100;

/// A change to a group, of which a [forecast](Picture::forecast) says what would come of it. The default is none: what
/// moves as the group is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatIf {
    /// Workers that join, each with its capacity, and without limits.
    pub add: BTreeMap<Slot, u32>,
    /// Workers that leave, or are drained.
    pub remove: BTreeSet<Slot>,
    /// Other weights.
    pub weights: BTreeMap<PartitionId, Weight>,
    /// Another strategy for all.
    pub strategy: Option<StrategyChoice>,
    /// The leader's `move_budget_percent`, which no record tells: 20 is the default of both.
    pub move_budget_percent: u32,
}

impl Default for WhatIf {
    fn default() -> Self {
        Self {
            add: BTreeMap::new(),
            remove: BTreeSet::new(),
            weights: BTreeMap::new(),
            strategy: None,
            move_budget_percent: Options::default().move_budget_percent,
        }
    }
}

/// What would move, round by round.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forecast {
    /// Each plan that the leader would publish, in order; none if nothing moves.
    pub rounds: Vec<Round>,
    /// Whether more would follow after those.
    pub is_cut: bool,
    /// The owners in the end, in the order of the list.
    pub owners: BTreeMap<PartitionId, Option<Slot>>,
}

/// One plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Round {
    /// What moves, in the order of the list.
    pub moves: Vec<ForecastMove>,
    /// How good it is, what it costs, and the least that it could cost.
    pub figures: Figures,
    /// How many partitions have no owner after it for lack of room, by priority, the highest first.
    pub without_room: Vec<(u8, usize)>,
}

/// One partition that changes hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForecastMove {
    /// Which partition.
    pub partition: PartitionId,
    /// Who should own it before, if anybody.
    pub from: Option<Slot>,
    /// Who should own it after; none where no worker may.
    pub to: Option<Slot>,
    /// Why it moves.
    pub reason: MoveReason,
    /// Whether its owner after is one that it prefers; none where it prefers nobody.
    pub fit: Option<Fit>,
}

/// There is no forecast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastError {
    /// A worker that is to leave is not there.
    #[error("worker-{slot} must be there to leave, but nobody has slot {slot}: name a worker of the group")]
    NoWorker {
        /// Its slot.
        slot: Slot,
    },
    /// A worker that is to join is there.
    #[error("a worker can join in a free slot only, but slot {slot} has one: name another slot")]
    SlotTaken {
        /// Its slot.
        slot: Slot,
    },
    /// A weight is given for a partition that is not known.
    #[error("{id:?} is not a partition of the group: correct the name, or add it to the list first")]
    UnknownPartition {
        /// Its name.
        id: PartitionId,
    },
    /// The group has a strategy of its own.
    #[error("the group's strategy is {name}, which is not one of the library's: name one that is to take its place")]
    OwnStrategy {
        /// What the workers call it.
        name: String,
    },
    /// The calculator has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// The question: who shares what, and who is to have what by the plan so far.
struct Question {
    workers: Vec<WorkerInput>,
    /// Those that keep what they have and get nothing more.
    away: BTreeSet<Slot>,
    list: PartitionList,
    owners: Vec<Option<Slot>>,
    strategy: Box<dyn Strategy>,
    /// Whom partitions avoid, since their applications cannot work on them.
    refusers: BTreeMap<PartitionId, BTreeSet<Slot>>,
    budget: u32,
}

/// One plan, over the whole list.
struct Planned {
    owners: Vec<Option<Slot>>,
    moves: Vec<ForecastMove>,
    figures: Figures,
    without_room: Vec<(u8, usize)>,
    another_round: bool,
}

impl Picture {
    /// What the leader would move if this came to be, and nothing else happened: the same calculator, asked with what the
    /// records say. O(rounds · P log P).
    ///
    /// What no record tells is taken as it is by default: the leader's `move_budget_percent` is part of the question,
    /// workers that rest since they die again and again count as any other, and what partitions ask for is known only
    /// where the list is in the store.
    ///
    /// # Errors
    ///
    /// [`ForecastError`] if the question makes no sense, or the calculator has no answer.
    pub fn forecast(&self, what_if: &WhatIf) -> Result<Forecast, ForecastError> {
        let mut question = self.question(what_if)?;
        let (mut rounds, mut is_cut) = (Vec::new(), false);
        // What somebody who leaves has, or nobody, is placed at once; the balance follows.
        let leaves = |owner: &Option<Slot>| {
            owner.is_none_or(|slot| !question.workers.iter().any(|worker| worker.slot == slot && !worker.draining))
        };
        let is_running = question.owners.iter().any(Option::is_some);
        let mut step = if is_running && question.owners.iter().any(leaves) { Step::Emergency } else { Step::Planned };
        for number in 0.. {
            let plan = question.plan(step)?;
            let goes_on = plan.another_round || step == Step::Emergency;
            step = Step::Planned;
            is_cut = number >= MAX_ROUNDS;
            if !plan.moves.is_empty() {
                question.owners.clone_from(&plan.owners);
                rounds.push(Round { moves: plan.moves, figures: plan.figures, without_room: plan.without_room });
            }
            if !goes_on || is_cut {
                break;
            }
        }
        let ids = question.list.iter().map(|partition| partition.id.clone());
        Ok(Forecast { rounds, is_cut, owners: ids.zip(question.owners).collect() })
    }

    fn question(&self, what_if: &WhatIf) -> Result<Question, ForecastError> {
        let workers = self.roster(what_if)?;
        let list = self.weighed_for(what_if)?;
        let mut owners = vec![None; list.len()];
        for (&slot, assignment) in self.assignments.iter().filter(|(slot, assignment)| self.is_held(**slot, assignment))
        {
            let record = &assignment.record;
            let owned = record.owned.iter().map(|grant| &grant.partition);
            for at in owned.chain(&record.incoming).filter_map(|id| list.position(id)) {
                owners[at] = owners[at].or(Some(slot));
            }
        }
        let is_away = |presence| matches!(presence, Presence::Restarting | Presence::Silent);
        let away = self.workers.values().filter(|worker| is_away(self.presence(worker))).map(|worker| worker.slot);
        let away = away.filter(|slot| !what_if.remove.contains(slot)).collect();
        let (strategy, refusers) = (self.strategy(what_if)?, self.refusers());
        Ok(Question { workers, away, list, owners, strategy, refusers, budget: what_if.move_budget_percent })
    }

    fn roster(&self, what_if: &WhatIf) -> Result<Vec<WorkerInput>, ForecastError> {
        if let Some(slot) = what_if.remove.iter().find(|slot| !self.workers.contains_key(slot)) {
            return Err(ForecastError::NoWorker { slot: *slot });
        }
        if let Some(slot) = what_if.add.keys().find(|slot| self.workers.contains_key(slot)) {
            return Err(ForecastError::SlotTaken { slot: *slot });
        }
        let input = |slot, capacity| WorkerInput {
            capacity: NonZeroU32::new(capacity).unwrap_or(NonZeroU32::MIN),
            ..WorkerInput::new(slot)
        };
        let present = self.workers.values().map(|worker| {
            let slot = worker.slot;
            let is_drained = self.wishes.contains_key(&Control::Drain(slot)) || what_if.remove.contains(&slot);
            WorkerInput {
                draining: is_drained || worker.record.phase == MemberPhase::Draining,
                labels: worker.record.labels.clone(),
                max_load: worker.record.max_load,
                max_partitions: worker.record.max_partitions,
                ..input(slot, worker.record.capacity)
            }
        });
        Ok(present.chain(what_if.add.iter().map(|(slot, capacity)| input(*slot, *capacity))).collect())
    }

    /// The list as it would be: that of the store, or what assignments tell of it.
    fn weighed_for(&self, what_if: &WhatIf) -> Result<PartitionList, ForecastError> {
        let stored = self.weighed();
        let known = |partition: PartitionPicture| Partition::new(partition.id).with_weight(partition.weight);
        let mut partitions: Vec<Partition> =
            stored.map_or_else(|| self.partitions().into_iter().map(known).collect(), Vec::from);
        for (id, weight) in &what_if.weights {
            let found = partitions.binary_search_by(|partition| partition.id.cmp(id));
            let at = found.map_err(|_| ForecastError::UnknownPartition { id: id.clone() })?;
            partitions[at].weight = *weight;
        }
        Ok(PartitionList::new(partitions).expect("it was a list, or has each id once"))
    }

    fn strategy(&self, what_if: &WhatIf) -> Result<Box<dyn Strategy>, ForecastError> {
        match what_if.strategy {
            Some(StrategyChoice::Balanced) => return Ok(Box::new(Balanced)),
            Some(StrategyChoice::RoundRobin) => return Ok(Box::new(RoundRobin)),
            Some(StrategyChoice::ConsistentHash { virtual_nodes }) => {
                return Ok(Box::new(ConsistentHash { virtual_nodes }));
            }
            None => {}
        }
        let leader = self.acting_leader().or_else(|| self.workers.values().next());
        let name = leader.and_then(|leader| Some(leader.record.shared.as_ref()?.strategy.as_str())).unwrap_or_default();
        let ring = name.strip_prefix("ConsistentHash { virtual_nodes: ").and_then(|rest| rest.strip_suffix(" }"));
        match (name, ring.and_then(|nodes| nodes.parse().ok())) {
            ("" | "Balanced", _) => Ok(Box::new(Balanced)),
            ("RoundRobin", _) => Ok(Box::new(RoundRobin)),
            (_, Some(virtual_nodes)) => Ok(Box::new(ConsistentHash { virtual_nodes })),
            (own, None) => Err(ForecastError::OwnStrategy { name: super::picture::harmless_words(own) }),
        }
    }

    /// Which workers partitions are not to be with, since their applications cannot work on them.
    fn refusers(&self) -> BTreeMap<PartitionId, BTreeSet<Slot>> {
        let mut refusers: BTreeMap<PartitionId, BTreeSet<Slot>> = BTreeMap::new();
        for worker in self.workers.values() {
            for id in &worker.record.unwanted {
                refusers.entry(id.clone()).or_default().insert(worker.slot);
            }
        }
        refusers
    }
}

impl Question {
    /// The next plan, as the leader would make it: who is away keeps what it has, which is left out where anything else is
    /// to move.
    fn plan(&self, step: Step) -> Result<Planned, ForecastError> {
        if self.away.is_empty() {
            return self.divide(&BTreeSet::new(), step);
        }
        if step == Step::Planned {
            let among_all = self.divide(&BTreeSet::new(), step)?;
            if among_all.moves.is_empty() {
                return Ok(among_all);
            }
        }
        self.divide(&self.away, step)
    }

    fn divide(&self, absent: &BTreeSet<Slot>, step: Step) -> Result<Planned, ForecastError> {
        let stays = |at: &usize| self.owners[*at].is_some_and(|slot| absent.contains(&slot));
        let places: Vec<usize> = (0..self.owners.len()).filter(|at| !stays(at)).collect();
        let part = places.iter().map(|at| self.list.as_slice()[*at].clone()).collect();
        let part = PartitionList::new(part).expect("a part of a list is a list");
        let holders: Vec<_> = places.iter().map(|at| self.owners[*at]).collect();
        let workers: Vec<_> = self.workers.iter().filter(|worker| !absent.contains(&worker.slot)).cloned().collect();
        let rules = self.rules(&part);
        let options = Options { move_budget_percent: self.budget, step, ..Options::default() };
        let problem = Problem::new(&workers, &part, &holders).expect("each slot once, and an owner per place");
        let problem = problem.with_rules(&rules).expect("one rule for a partition").with_options(options);
        let plan = assign::plan(&*self.strategy, &problem)?;
        let mut owners = self.owners.clone();
        for (at, owner) in places.into_iter().zip(&plan.owners) {
            owners[at] = *owner;
        }
        let id = |at: usize| part.as_slice()[at].id.clone();
        let moves = plan.moves.into_iter();
        let moves = moves.map(|one| ForecastMove {
            partition: id(one.partition),
            from: one.from,
            to: one.to,
            reason: one.reason,
            fit: one.fit,
        });
        let assign::Plan { figures, without_room, another_round, .. } = plan;
        Ok(Planned { owners, moves: moves.collect(), figures, without_room, another_round })
    }

    /// What the partitions of a list ask for, and whom they avoid.
    fn rules(&self, list: &PartitionList) -> Vec<Rule> {
        let rule = |(partition, of): (usize, &Partition)| {
            let avoids = self.refusers.get(&of.id).filter(|avoids| self.has_other_taker(of, avoids));
            if of.placement.is_none() && avoids.is_none() {
                return None;
            }
            let placement = of.placement.as_deref().cloned().unwrap_or_default();
            let avoids = avoids.cloned().unwrap_or_default();
            let Placement { requires, prefers, apart, pin, priority: _, measured: _ } = placement;
            Some(Rule { partition, requires, prefers, apart, pin, avoids })
        };
        list.iter().enumerate().filter_map(rule).collect()
    }

    /// Whether anybody else could have what some have given up: else it stays where it is.
    fn has_other_taker(&self, partition: &Partition, refusers: &BTreeSet<Slot>) -> bool {
        let requires = partition.placement.as_deref().map(|placement| placement.requires.clone()).unwrap_or_default();
        let rule = Rule { requires, ..Rule::default() };
        let is_taker = |worker: &&WorkerInput| worker.can_hold(Some(&rule)) && !self.away.contains(&worker.slot);
        self.workers.iter().filter(is_taker).any(|worker| !refusers.contains(&worker.slot))
    }
}
