//! Whole random worlds: the bytes choose the seed and change when things happen, the invariants judge.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parti_sim::swarm::{self, Plan};

fuzz_target!(|data: &[u8]| {
    let Some((seed, rest)) = data.split_first_chunk::<8>() else { return };
    let mut plan = Plan::random(u64::from_le_bytes(*seed), None, false);
    for (act, byte) in plan.acts.iter_mut().zip(rest) {
        act.at_ms = u64::from(*byte) * 400;
    }
    plan.acts.sort_by_key(|act| act.at_ms);
    let kept = rest.get(plan.acts.len()).map_or(plan.acts.len(), |byte| usize::from(*byte));
    plan.acts.truncate(kept);
    if let Some(violation) = swarm::run(&plan, false).violation {
        panic!("{violation}");
    }
});
