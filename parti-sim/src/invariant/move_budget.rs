//! G4: a planned rebalance moves at most the budget, and an emergency moves nothing that has an owner.

use std::collections::BTreeMap;

use parti_core::{Action, Generation, Notice, PlanReason};

use super::plan_view::PlanView;
use super::{Breach, Invariant, Scene};
use crate::fact::{Fact, Topic};
use crate::options::{Options, WorkerOptions};
use crate::plant::Around;

/// How many generations are remembered.
const REMEMBERED: usize = 8;

/// What the records of one generation take away from workers that stay is within the budget of that generation.
#[derive(Clone, Debug)]
pub(super) struct MoveBudget {
    percent: usize,
    plan: PlanView,
    generations: BTreeMap<Generation, Counted>,
    /// Whether the store has ever forgotten something: then the plan is made anew.
    regressed: bool,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    moved: usize,
    /// How many partitions there were, when the first of them moved: no fewer than had an owner that stays.
    staying: usize,
    emergency: bool,
}

impl MoveBudget {
    pub(super) fn new(options: &Options) -> Self {
        let promised = WorkerOptions::default();
        let worker = if options.has(Around::BudgetIgnored) { &promised } else { &options.worker };
        let percent = worker.move_budget_percent;
        Self { percent: percent as usize, plan: PlanView::default(), generations: BTreeMap::new(), regressed: false }
    }

    fn counted(&mut self, generation: Generation) -> &mut Counted {
        if self.generations.len() > REMEMBERED {
            self.generations.pop_first();
        }
        self.generations.entry(generation).or_default()
    }

    fn check(&self, generation: Generation) -> Result<(), Breach> {
        let Counted { moved, staying, emergency } = self.generations[&generation];
        let budget = if emergency { 0 } else { (staying * self.percent).div_ceil(100).max(1) };
        if moved <= budget {
            return Ok(());
        }
        let kind = if emergency { "an emergency" } else { "a planned rebalance" };
        Err(Breach::new(format!(
            "generation {generation}, {kind}, takes {moved} partitions from workers that stay, but may take {budget} of {staying}"
        )))
    }
}

impl Invariant for MoveBudget {
    fn name(&self) -> &'static str {
        "move-budget"
    }

    fn guarantee(&self) -> &'static str {
        "G4"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Noticed | Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::PlanRegressed { .. } = fact {
            self.regressed = true;
        }
        if self.regressed {
            return Ok(());
        }
        if let Fact::Asked { action: Action::Notice(Notice::Planned { generation, reason, .. }), .. } = fact
            && *reason == PlanReason::Emergency
        {
            self.counted(*generation).emergency = true;
            return self.check(*generation);
        }
        let Some(moves) = self.plan.observe(fact, scene) else { return Ok(()) };
        let counted = self.counted(moves.generation);
        if counted.moved == 0 {
            counted.staying = scene.ownership.listed(); // those on their way count for who gets them
        }
        counted.moved += moves.partitions.len();
        self.check(moves.generation)
    }
}
