//! A failure with less in it: fewer acts, fewer kinds of trouble, smaller.

use super::{Plan, Run, run};
use crate::check::invariant::Violation;
use crate::setting::mix::Mix;

/// How many runs may be spent on it.
const MAX_RUNS: u32 = 400;

/// A smaller plan that breaks the same invariant.
#[derive(Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// How it ends.
    pub violation: Violation,
    /// How many runs were spent on it.
    pub runs: u32,
}

/// Takes away from `plan` what is not needed to break the invariant that `violation` says it breaks.
pub fn shrink(plan: &Plan, violation: &Violation) -> Shrunk {
    let mut shrunk = Shrunk { plan: plan.clone(), violation: violation.clone(), runs: 0 };
    loop {
        let before = shrunk.plan.clone();
        shrunk.drop_acts();
        for simpler in SIMPLER {
            let mut plan = shrunk.plan.clone();
            simpler(&mut plan);
            shrunk.keep_if_broken(plan);
        }
        if shrunk.plan == before || shrunk.runs >= MAX_RUNS {
            return shrunk;
        }
    }
}

/// Ways to make a plan simpler, each tried by itself.
const SIMPLER: &[fn(&mut Plan)] = &[
    |plan| plan.options.network.slow_ppm = 0,
    |plan| plan.options.network.request_lost_ppm = 0,
    |plan| plan.options.network.reply_lost_ppm = 0,
    |plan| plan.options.network.probe_lost_ppm = 0,
    |plan| plan.options.network.shown_twice_ppm = 0,
    |plan| plan.options.network.stale_read_ppm = 0,
    |plan| plan.options.network.refused_ppm = 0,
    |plan| plan.options.network.false_conflict_ppm = 0,
    |plan| plan.options.network.waits_in_queue_ppm = 0,
    |plan| plan.options.network.listens_late_ppm = 0,
    |plan| plan.options.network.partial_members_ppm = 0,
    |plan| plan.options.network.partial_plan_ppm = 0,
    |plan| plan.options.network.mixed_listing_ppm = 0,
    |plan| plan.options.network.missed_ppm = 0,
    |plan| plan.options.record_limit = 0,
    |plan| (plan.options.encoded, plan.options.record_limit) = (false, 0),
    |plan| plan.options.mix = Mix::default(),
    |plan| plan.options.mix.strategies = Vec::new(),
    |plan| plan.options.mix.available_every = 0,
    |plan| plan.options.mix.capacities = 0,
    |plan| plan.options.mix.lists = 0,
    |plan| plan.options.mix.pins_every = 0,
    |plan| plan.options.mix.preferred_zones = 0,
    |plan| plan.options.mix.keyed = 0,
    |plan| (plan.options.mix.max_load, plan.options.mix.max_partitions) = (0, 0),
    |plan| plan.options.mix.priorities = 0,
    |plan| plan.options.zones = 0,
    |plan| plan.options.loads = crate::setting::loads::LoadOptions::default(),
    |plan| plan.options.network.reorder = false,
    |plan| plan.options.clock_ppm = 0,
    |plan| plan.options.worker.other_lease_ms = 0,
    |plan| plan.options.worker.probe_confirm_ms = 0,
    |plan| plan.options.worker.expected_workers = None,
    |plan| plan.options.weights = crate::setting::options::Weights::Equal,
    |plan| plan.ordinals = false,
    |plan| plan.options.workers = (plan.options.workers / 2).max(1),
    |plan| plan.options.workers = (plan.options.workers - 1).max(1),
    |plan| plan.options.partitions = (plan.options.partitions / 2).max(1),
    |plan| plan.options.partitions = (plan.options.partitions - 1).max(1),
    |plan| plan.options.spare_partitions = 0,
    |plan| plan.lingers_ms = 0,
    |plan| plan.start_gap_ms = 0,
];

impl Shrunk {
    /// Drops each act that is not needed, the last ones first.
    fn drop_acts(&mut self) {
        for index in (0..self.plan.acts.len()).rev() {
            let mut plan = self.plan.clone();
            plan.acts.remove(index);
            self.keep_if_broken(plan);
        }
    }

    fn keep_if_broken(&mut self, plan: Plan) {
        if plan == self.plan || self.runs >= MAX_RUNS || plan.options.config().validate().is_err() {
            return;
        }
        self.runs += 1;
        if let Run { violation: Some(violation), .. } = run(&plan, false)
            && violation.invariant == self.violation.invariant
        {
            self.plan = plan;
            self.violation = violation;
        }
    }
}
