//! G4: a planned rebalance moves at most the budget, and an emergency moves nothing that has an owner.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::{ClusterRecord, Generation, MoveCause, Outcome, PartitionId, PlannerPhase, Record, Term, Write};

use super::plan_view::PlanView;
use super::{Breach, Invariant, Scene};
use crate::fault::around::Around;
use crate::setting::options::{Options, WorkerOptions};
use crate::told::fact::{Fact, Topic};

/// How many plans are remembered.
const REMEMBERED: usize = 8;

/// A plan: who goes on as a leader without knowing better numbers its plans like its successor does.
type Plan = (Term, Generation);

/// What the records of one plan take away from workers that stay is within the budget of that plan.
#[derive(Clone, Debug)]
pub(super) struct MoveBudget {
    percent: usize,
    plan: PlanView,
    plans: BTreeMap<Plan, Counted>,
    /// Whether the store has ever forgotten something: then the plan is made anew.
    regressed: bool,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    moved: usize,
    /// How many partitions there were, when the first of them moved: no fewer than had an owner that stays.
    staying: usize,
    emergency: bool,
    /// What it takes away for lack of room, which is not held up by the budget; nothing is known of it where not every move
    /// is named.
    displaced: Option<BTreeSet<PartitionId>>,
}

impl MoveBudget {
    pub(super) fn new(options: &Options) -> Self {
        let promised = WorkerOptions::default();
        let worker = if options.has(Around::BudgetIgnored) { &promised } else { &options.worker };
        let percent = worker.move_budget_percent;
        Self { percent: percent as usize, plan: PlanView::default(), plans: BTreeMap::new(), regressed: false }
    }

    fn counted(&mut self, plan: Plan) -> &mut Counted {
        if self.plans.len() > REMEMBERED {
            self.plans.pop_first();
        }
        self.plans.entry(plan).or_default()
    }

    fn check(&self, plan: Plan) -> Result<(), Breach> {
        let Counted { moved, staying, emergency, .. } = self.plans[&plan];
        let budget = if emergency { 0 } else { (staying * self.percent).div_ceil(100).max(1) };
        if moved <= budget {
            return Ok(());
        }
        let kind = if emergency { "an emergency" } else { "a planned rebalance" };
        Err(Breach::new(format!(
            "generation {}, {kind}, takes {moved} partitions from workers that stay, but may take {budget} of {staying}",
            plan.1
        )))
    }
}

/// What the newest plan takes from workers for lack of room, if the head of the plan names all that it moves.
fn displaced(head: &ClusterRecord) -> Option<BTreeSet<PartitionId>> {
    let Some(plan) = head.moves.plans().last().filter(|plan| plan.generation == head.generation) else {
        return Some(BTreeSet::new());
    };
    let displaced = plan.causes.iter().filter(|caused| caused.cause == MoveCause::Room);
    let named = displaced.flat_map(|caused| &caused.moves).map(|moved| moved.partition.clone());
    (plan.unnamed() == 0).then(|| named.collect())
}

impl Invariant for MoveBudget {
    fn name(&self) -> &'static str {
        "move-budget"
    }

    fn guarantee(&self) -> &'static str {
        "G4"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::PlanRegressed { .. } = fact {
            self.regressed = true;
        }
        if self.regressed {
            return Ok(());
        }
        if let Fact::Stored { write: Write::Append { record: Record::Cluster(head), .. }, outcome, .. } = fact
            && matches!(outcome, Outcome::Committed(_))
        {
            let counted = self.counted((head.term, head.generation));
            counted.emergency |= head.phase == PlannerPhase::Emergency;
            counted.displaced = displaced(head);
        }
        let Some(mut moves) = self.plan.observe(fact, scene) else { return Ok(()) };
        let counted = self.counted(moves.plan);
        if scene.options.mix.has_limits() {
            let displaced = counted.displaced.as_ref();
            moves.partitions.retain(|moved| displaced.is_some_and(|all| !all.contains(scene.name(*moved))));
        }
        if counted.moved == 0 {
            counted.staying = scene.ownership.listed(); // those on their way count for who gets them
        }
        counted.moved += moves.partitions.len();
        self.check(moves.plan)
    }
}
