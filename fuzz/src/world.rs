use parti_sim::swarm::{self, Plan};

/// How far apart two neighbouring values of a byte put an act, in milliseconds.
const STEP_MS: u64 = 400;

/// Whole random worlds: eight bytes choose the seed, the others when things happen and how many of them, and the
/// invariants judge. In every other world the store loses writes.
///
/// # Panics
///
/// If an invariant does not hold.
pub fn world(data: &[u8]) {
    let Some((seed, rest)) = data.split_first_chunk::<8>() else { return };
    let seed = u64::from_le_bytes(*seed);
    let mut plan = Plan::random(seed, None, seed % 2 == 0);
    for (act, byte) in plan.acts.iter_mut().zip(rest) {
        act.at_ms = u64::from(*byte) * STEP_MS;
    }
    plan.acts.sort_by_key(|act| act.at_ms);
    let kept = rest.get(plan.acts.len()).map_or(plan.acts.len(), |byte| usize::from(*byte));
    plan.acts.truncate(kept);
    if let Some(violation) = swarm::run(&plan, false).violation {
        panic!("{violation}");
    }
}
