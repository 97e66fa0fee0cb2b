//! What the last plans moved, and why: for people who ask. Nothing is decided by it.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Slot};
use crate::partition::PartitionId;

/// Of how many plans it is remembered what they moved.
pub const MAX_REMEMBERED_PLANS: usize = 32;
/// The most bytes that the memory of plans takes as it is stored.
pub const MAX_HISTORY_BYTES: usize = 64 * 1024;
/// What a plan and each of its causes take besides their moves, at most.
const BYTES_OF_FRAME: usize = 96;
/// What a move takes besides the id of its partition, at most: two slots, and what stands between them.
const BYTES_OF_MOVE: usize = 28;

/// What the last plans moved, and why; the oldest plan first.
///
/// It is bounded: the oldest plans are forgotten first, and of a plan that moves very much not every move is named, though
/// each is counted. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanHistory(Arc<[PlanMoves]>);

/// What one plan moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMoves {
    /// Which plan.
    pub generation: Generation,
    /// When it was made, by the clock of the machine that its leader ran on, in milliseconds since 1970; 0 where that is
    /// not known.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub at_ms: u64,
    /// Its moves by cause, each cause once.
    pub causes: Vec<CausedMoves>,
}

/// The moves of a plan that have one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CausedMoves {
    /// Why.
    pub cause: MoveCause,
    /// How many there are.
    pub count: u64,
    /// Those that are named: all of them, unless they are too many; in order of the partitions.
    pub moves: Vec<MovedPartition>,
}

/// One partition that changes hands, stored as `[id, from, to]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(PartitionId, Option<Slot>, Option<Slot>)", into = "(PartitionId, Option<Slot>, Option<Slot>)")]
pub struct MovedPartition {
    /// Which one.
    pub partition: PartitionId,
    /// The slot whose worker had it, or was to get it; none if nobody was.
    pub from: Option<Slot>,
    /// The slot whose worker gets it; none if nobody can have it. It may be the same, where another process has begun in the
    /// slot of one that died.
    pub to: Option<Slot>,
}

/// Why a partition moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MoveCause {
    /// The worker that had it is gone and has not handed it over: it died, was cut off for longer than its lease, did not
    /// come back from a restart in time, or had to begin anew.
    Crash,
    /// The worker that has it is leaving.
    Leave,
    /// An operator drains the worker that has it.
    Drain,
    /// The processes of the worker that has it die soon after each start, so it gets work later.
    CrashLoop,
    /// The application of the worker that has it cannot work on it.
    GivenUp,
    /// The worker that was to get it is away for a restart.
    Away,
    /// The list pins it to a worker.
    Pin,
    /// The worker that has it lacks a label that the list asks for.
    Label,
    /// The list prefers workers such as the one that gets it, and the one that has it is none.
    Preference,
    /// The list keeps it apart from another that the worker that has it also has.
    Apart,
    /// The worker that has it has no room for it: a more important one takes its place, or the worker's limit is lower than
    /// it was.
    Room,
    /// An operator asked for a plan, and the load was uneven.
    Operator,
    /// The load is uneven: a worker came or went, or weights or capacities have changed.
    Balance,
    /// The load that is measured has become uneven.
    Load,
    /// Nobody had it: it is new in the list, no worker could take it before, or the group has just begun.
    List,
    /// A cause that this version does not know.
    #[serde(other)]
    Unknown,
}

impl PlanHistory {
    /// The plans, the oldest first.
    pub fn plans(&self) -> &[PlanMoves] {
        &self.0
    }

    /// The moves of a partition that are remembered, the newest first, each with its plan and its cause.
    pub fn of<'a>(
        &'a self,
        partition: &'a PartitionId,
    ) -> impl Iterator<Item = (&'a PlanMoves, MoveCause, &'a MovedPartition)> {
        let causes = self.0.iter().rev().flat_map(|plan| plan.causes.iter().map(move |caused| (plan, caused)));
        causes.filter_map(|(plan, caused)| {
            let at = caused.moves.binary_search_by(|moved| moved.partition.cmp(partition)).ok()?;
            Some((plan, caused.cause, &caused.moves[at]))
        })
    }

    /// The same without the moves that were told and never begun, since their leader ended before it could write them: of
    /// each partition the last one goes, as long as it `is_begun` by no record. O(moves).
    #[must_use]
    pub(crate) fn begun(&self, is_begun: impl Fn(&MovedPartition) -> bool) -> Self {
        let mut begun: BTreeSet<PartitionId> = BTreeSet::new();
        let mut plans = self.0.to_vec();
        for caused in plans.iter_mut().rev().flat_map(|plan| &mut plan.causes) {
            let told = caused.moves.len();
            caused.moves.retain(|moved| {
                let stays = begun.contains(&moved.partition) || is_begun(moved);
                if stays {
                    begun.insert(moved.partition.clone());
                }
                stays
            });
            caused.count = caused.count.saturating_sub((told - caused.moves.len()) as u64);
        }
        for plan in &mut plans {
            plan.causes.retain(|caused| caused.count > 0);
        }
        Self(plans.into())
    }

    /// The same, with another plan at its end, in at most `limit` bytes.
    #[must_use]
    pub(crate) fn with(&self, mut plan: PlanMoves, limit: usize) -> Self {
        let limit = limit.min(MAX_HISTORY_BYTES);
        plan.cut_to(limit);
        let mut room = limit.saturating_sub(plan.bytes());
        let fits = |earlier: &&PlanMoves| {
            let bytes = earlier.bytes();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let newest = self.0.iter().rev().take(MAX_REMEMBERED_PLANS - 1).take_while(fits);
        let mut kept: Vec<PlanMoves> = newest.cloned().collect();
        kept.reverse();
        kept.push(plan);
        kept.retain(|plan| plan.bytes() <= limit); // where not even its frame fits, nothing is remembered
        Self(kept.into())
    }
}

/// As they were made, the oldest first.
impl FromIterator<PlanMoves> for PlanHistory {
    fn from_iter<T: IntoIterator<Item = PlanMoves>>(plans: T) -> Self {
        Self(plans.into_iter().collect())
    }
}

/// It decides nothing and says much: whoever looks at a record asks for [`plans`](PlanHistory::plans).
impl fmt::Debug for PlanHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanHistory(..)")
    }
}

impl PlanMoves {
    /// How many partitions it moves.
    pub fn count(&self) -> u64 {
        self.causes.iter().fold(0, |sum, caused| sum.saturating_add(caused.count))
    }

    /// How many of them it does not name.
    pub fn unnamed(&self) -> u64 {
        let named: usize = self.causes.iter().map(|caused| caused.moves.len()).sum();
        self.count().saturating_sub(named as u64)
    }

    /// What it takes as it is stored, at most.
    fn bytes(&self) -> usize {
        let of_moves: usize = self.causes.iter().flat_map(|caused| &caused.moves).map(MovedPartition::bytes).sum();
        BYTES_OF_FRAME * (1 + self.causes.len()) + of_moves
    }

    /// Leaves the names of moves out that do not fit; they stay counted.
    fn cut_to(&mut self, limit: usize) {
        let mut room = limit.saturating_sub(BYTES_OF_FRAME * (1 + self.causes.len()));
        for caused in &mut self.causes {
            let fits = |moved: &&MovedPartition| {
                let bytes = moved.bytes();
                let fits = bytes <= room;
                room = if fits { room - bytes } else { 0 };
                fits
            };
            let named = caused.moves.iter().take_while(fits).count();
            caused.moves.truncate(named);
        }
    }
}

impl MovedPartition {
    /// What it takes as it is stored, at most: each byte of the id may have to be escaped.
    fn bytes(&self) -> usize {
        self.partition.as_str().len() * 2 + BYTES_OF_MOVE
    }
}

impl From<(PartitionId, Option<Slot>, Option<Slot>)> for MovedPartition {
    fn from((partition, from, to): (PartitionId, Option<Slot>, Option<Slot>)) -> Self {
        Self { partition, from, to }
    }
}

impl From<MovedPartition> for (PartitionId, Option<Slot>, Option<Slot>) {
    fn from(moved: MovedPartition) -> Self {
        (moved.partition, moved.from, moved.to)
    }
}

impl MoveCause {
    /// As it is stored and shown, such as `crash`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Leave => "leave",
            Self::Drain => "drain",
            Self::CrashLoop => "crash_loop",
            Self::GivenUp => "given_up",
            Self::Load => "load",
            Self::Away => "away",
            Self::Pin => "pin",
            Self::Label => "label",
            Self::Preference => "preference",
            Self::Apart => "apart",
            Self::Room => "room",
            Self::Operator => "operator",
            Self::Balance => "balance",
            Self::List => "list",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for MoveCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_unknown(at_ms: &u64) -> bool {
    *at_ms == 0
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn moved(n: usize) -> MovedPartition {
        let partition = PartitionId::new(format!("orders-{n:05}")).expect("a valid id");
        MovedPartition { partition, from: Some(Slot::new(u32::MAX)), to: Some(Slot::new(u32::MAX - 1)) }
    }

    fn plan(generation: u64, moves: usize) -> PlanMoves {
        let moves: Vec<_> = (0..moves).map(moved).collect();
        let causes = vec![CausedMoves { cause: MoveCause::CrashLoop, count: moves.len() as u64, moves }];
        PlanMoves { generation: Generation::new(generation), at_ms: u64::MAX, causes }
    }

    fn stored(history: &PlanHistory) -> usize {
        serde_json::to_vec(history).expect("it is JSON").len()
    }

    #[test]
    fn the_oldest_plans_are_forgotten_first() {
        let limit = usize::MAX;
        let history = (1..=100).fold(PlanHistory::default(), |history, n| history.with(plan(n, 1), limit));
        let generations: Vec<u64> = history.plans().iter().map(|plan| plan.generation.value()).collect();
        assert_eq!(generations, (69..=100).collect::<Vec<_>>());
        let of_partition: Vec<u64> =
            history.of(&moved(0).partition).map(|(plan, ..)| plan.generation.value()).collect();
        assert_eq!(of_partition, (69..=100).rev().collect::<Vec<_>>(), "the newest first");
        assert_eq!(history.of(&moved(1).partition).count(), 0);
    }

    #[test]
    fn it_never_takes_more_bytes_than_it_may() {
        for limit in [0, 50, 191, 192, 500, 5_000, usize::MAX] {
            let mut history = PlanHistory::default();
            for (generation, moves) in [(1, 3), (2, 10_000), (3, 7), (4, 900), (5, 20_000), (6, 0)] {
                history = history.with(plan(generation, moves), limit);
                let most = limit.clamp(2, MAX_HISTORY_BYTES);
                assert!(stored(&history) <= most, "{} of {most} bytes", stored(&history));
            }
        }
    }

    #[test]
    fn what_was_told_last_and_never_begun_is_taken_back() {
        let to = |generation, slot: u32| {
            let moves = vec![MovedPartition { to: Some(Slot::new(slot)), ..moved(0) }, moved(1)];
            let causes = vec![CausedMoves { cause: MoveCause::Balance, count: 2, moves }];
            PlanMoves { generation: Generation::new(generation), at_ms: 0, causes }
        };
        let history: PlanHistory = [to(1, 7), to(2, 8), to(3, 9), to(4, 10)].into_iter().collect();
        let told_of = |history: &PlanHistory, n| {
            history.of(&moved(n).partition).map(|(plan, ..)| plan.generation.value()).collect::<Vec<_>>()
        };
        let begun = |slot: Option<u32>| {
            let is_other = |told: &MovedPartition| told.partition != moved(0).partition || slot.is_none();
            history.begun(|told| is_other(told) || told.to == slot.map(Slot::new))
        };
        assert_eq!(told_of(&begun(Some(8)), 0), [2, 1]);
        assert_eq!(told_of(&begun(Some(8)), 1), [4, 3, 2, 1], "nothing is known of it");
        assert_eq!(told_of(&begun(Some(10)), 0), [4, 3, 2, 1]);
        assert_eq!(begun(Some(8)).plans()[3].count(), 1);
        assert_eq!(begun(None), history);
    }

    #[test]
    fn what_is_not_named_is_counted() {
        let history = PlanHistory::default().with(plan(1, 10_000), usize::MAX);
        let plan = &history.plans()[0];
        assert_eq!(plan.count(), 10_000);
        let named = plan.causes[0].moves.len() as u64;
        assert!(named > 1_000, "{named}");
        assert_eq!(plan.unnamed(), 10_000 - named);
    }

    #[test]
    fn a_cause_is_stored_as_it_is_shown_and_one_of_a_newer_version_can_be_read() {
        let every = [
            MoveCause::Crash,
            MoveCause::Leave,
            MoveCause::Drain,
            MoveCause::CrashLoop,
            MoveCause::GivenUp,
            MoveCause::Away,
            MoveCause::Pin,
            MoveCause::Label,
            MoveCause::Preference,
            MoveCause::Apart,
            MoveCause::Operator,
            MoveCause::Balance,
            MoveCause::List,
            MoveCause::Unknown,
        ];
        for cause in every {
            let json = serde_json::to_string(&cause).expect("it is JSON");
            assert_eq!(json, format!("\"{cause}\""));
            assert_eq!(serde_json::from_str::<MoveCause>(&json).ok(), Some(cause));
        }
        assert_eq!(serde_json::from_str::<MoveCause>("\"moon_phase\"").ok(), Some(MoveCause::Unknown));
        assert_eq!(MoveCause::GivenUp.to_string(), "given_up");
    }
}
