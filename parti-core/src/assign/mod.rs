//! Who gets what: the assignment calculator, a pure function that is useful alone.
//!
//! Describe what is there in a [`Problem`], choose a [`Strategy`], and [`plan`] answers with a [`Plan`]: the owner of
//! every partition, each move with its reason, and figures. Same input, same plan, on every machine: integers only, and
//! the order in which workers, partitions and rules are given does not matter.
//!
//! # An example: 3 workers, 6 partitions
//!
//! Partitions `a` to `f` all weigh 1, so that the *share* of each of the three workers is 2, and its *bounds* are 2 and 2.
//!
//! | Plan | Worker 0 | Worker 1 | Worker 2 | What happens |
//! | --- | --- | --- | --- | --- |
//! | 1 | `e f` | `a c` | `b d` | Nobody held anything, so that all were *unassigned*: each goes to its *home* if there is room, else to where there is most. |
//! | 2 | `d e f` | `a b c` | | Worker 2 has crashed: what it held is unassigned, and nothing else moves. The share is now 3. |
//! | 3 | `e f` | `a b c` | `d` | It is back, and 2 below its lower bound: two *transfers* of one partition each, but the *move budget* allows one. As `d` has its home there, it goes before `e` and `f`. |
//! | 4 | `e f` | `a c` | `b d` | Another *round*, and every worker is within its bounds. |
//!
//! ```
//! use parti_core::assign::{Balanced, Options, Plan, Problem, Step, WorkerInput, plan};
//! use parti_core::{Partition, PartitionId, PartitionList, Slot};
//!
//! let ids = ["a", "b", "c", "d", "e", "f"].map(|id| Partition::new(PartitionId::new(id).unwrap()));
//! let partitions = PartitionList::new(ids.to_vec())?;
//! let workers = [0, 1, 2].map(|slot| WorkerInput::new(Slot::new(slot)));
//! let owners = |plan: &Plan| plan.owners.iter().map(|owner| owner.unwrap().value()).collect::<Vec<_>>();
//!
//! let first = plan(&Balanced, &Problem::new(&workers, &partitions, &[None; 6])?)?;
//! assert_eq!(owners(&first), [1, 2, 1, 2, 0, 0]);
//!
//! let emergency = Options { step: Step::Emergency, ..Options::default() };
//! let without = plan(&Balanced, &Problem::new(&workers[..2], &partitions, &first.owners)?.with_options(emergency))?;
//! assert_eq!(owners(&without), [1, 1, 1, 0, 0, 0]);
//! assert_eq!((without.moves.len(), without.figures.staying_moved), (2, 0));
//!
//! let back = plan(&Balanced, &Problem::new(&workers, &partitions, &without.owners)?)?;
//! assert_eq!(owners(&back), [1, 1, 1, 2, 0, 0]);
//! assert!(back.another_round && back.figures.least_moves == 2);
//!
//! let last = plan(&Balanced, &Problem::new(&workers, &partitions, &back.owners)?)?;
//! assert_eq!(owners(&last), owners(&first));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The words
//!
//! | Word | Meaning |
//! | --- | --- |
//! | holder, owner | the worker that has a partition now; the one that a plan gives it to |
//! | staying | a worker that is there and not leaving, and a partition that such a worker holds |
//! | assigned, unassigned | whether a staying worker holds, or is to own, a partition |
//! | worker index | the place of a staying worker in the order of slots; `NOBODY` stands for no worker |
//! | weight, load | how much work a partition is; the sum of the weights of what a worker has |
//! | relative load | load per unit of capacity |
//! | share | the load that a worker would have if all relative loads were equal |
//! | bounds | the least and the greatest load that counts as balanced; *inner* bounds are half as wide |
//! | granule | the greatest common divisor of all weights: no load is between its multiples |
//! | limit, room | the most that a worker can take, whatever the balance; how much of it is left |
//! | displaced | taken from a worker for lack of room, mostly by a more important partition |
//! | giant | a partition that weighs more than its worker's upper bound |
//! | large, light | heavier than the lightest partition; as heavy as it |
//! | pool | the workers that may hold a partition, by its labels |
//! | preferred, spilled | with a worker of those that the partition prefers, with another |
//! | key, crowded | what partitions share that are to be on different workers; said of one that is not |
//! | home | the worker that a partition chooses by hash |
//! | free | said of partitions that move in any case, so that the owner may still change at no cost |
//! | weight class, or class | partitions of one pool and one weight that are all free or all not: interchangeable |
//! | movable | so many partitions of one class on one worker |
//! | transfer | so many partitions of one class from one worker, the giver, to another, the receiver |
//! | least-loaded heap | the workers of a pool in order of relative load, those below their bounds first |
//! | pass | transfers are found by class, then partitions are chosen for them; a partition moves once in a pass |
//! | round | one plan of several, each of which is planned from the result of the one before |
//! | move | a partition whose owner is not its holder |
//!
//! # Where to look
//!
//! `problem` is the question and `plan` the answer. `current` turns the question into numbers, `pools` and `bounds` say
//! what is allowed, `room` who goes without where workers have limits, `least` how few moves can do it. [`Balanced`] has a file for each of its steps (`unassigned`,
//! `transfers` with `large`, `choose`; `preferred` for what partitions prefer, `separate` for those that are to be apart), and the data that these work on in `class`, `home` and `heap`.

mod apart;
mod balanced;
mod bounds;
mod class;
mod current;
mod display;
mod error;
mod figures;
mod home;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod laws_of_keys;
#[cfg(test)]
mod laws_of_preference;
#[cfg(test)]
mod laws_of_room;
mod least;
mod plan;
mod pools;
mod problem;
#[cfg(test)]
mod reference;
mod ring;
mod room;
mod round_robin;
#[cfg(test)]
mod testing;

pub use crate::labels::Labels;
pub use balanced::Balanced;
pub use error::{AuditError, PlanError, ProblemError, StrategyError};
pub use figures::{Figures, Spread};
pub use least::least_moves;
pub use plan::{Answer, Fit, Move, MoveReason, Plan, Strategy, audit, plan};
pub use problem::{Options, Problem, Rule, Step, WorkerInput};
pub use ring::ConsistentHash;
pub use round_robin::RoundRobin;
