//! What would happen if: the rounds in which a group goes from one number of workers to another.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, ValueEnum};
use parti_core::assign::{
    Balanced, ConsistentHash, Figures, Options, PlanError, Problem, RoundRobin, Strategy, WorkerInput, least_moves,
    plan,
};
use parti_core::{Partition, PartitionError, PartitionId, PartitionList, Slot};
use serde::Serialize;

/// So many rounds end every change of a sensible size; more mean that the strategy does not come to rest.
const MAX_ROUNDS: usize = 1000;

/// Shows the rounds of a change: what moves, how even the load is, and how few moves would have done.
#[derive(Args, Clone, Debug)]
pub(super) struct PlanArgs {
    /// How many workers there are.
    #[arg(long, default_value_t = 30)]
    pub(super) workers: u32,
    /// How many there will be.
    #[arg(long, default_value_t = 45)]
    pub(super) to: u32,
    /// How many partitions they divide.
    #[arg(long, default_value_t = 2400, conflicts_with = "input")]
    pub(super) partitions: usize,
    /// How heavy the partitions are.
    #[arg(long, value_enum, default_value_t = Weights::Equal, conflicts_with = "input")]
    pub(super) weights: Weights,
    /// A list of partitions in place of made-up ones: a line for each, its id and its weight, which is 1 where none is
    /// given, as `parti list show` prints it.
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Who decides.
    #[arg(long, value_enum, default_value_t = StrategyName::Balanced)]
    pub(super) strategy: StrategyName,
    /// Show what each strategy would make of the change, side by side.
    #[arg(long, conflicts_with = "strategy")]
    pub(super) compare: bool,
    /// How far a load may be from its share, in thousandths of the share.
    #[arg(long, default_value_t = 50)]
    pub(super) epsilon_permille: u32,
    /// One round moves less than this share of the partitions, in percent.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) move_budget_percent: u32,
    /// Decides the hashes.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// How heavy partitions are.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Weights {
    /// All weigh 1.
    Equal,
    /// Every tenth weighs 5, the others 1.
    Skew,
    /// Every hundredth weighs 40, the others 1.
    Heavy,
}

/// A strategy of the calculator.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StrategyName {
    /// Keeps what it can.
    Balanced,
    /// A ring of hashes.
    ConsistentHash,
    /// Dealt in order.
    RoundRobin,
}

/// Why there is nothing to show.
#[derive(Debug)]
#[non_exhaustive]
pub(super) enum PlanCommandError {
    /// The file of partitions cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A line of the file is not an id and a weight.
    Line {
        /// Which line, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The partitions are refused.
    Partitions(PartitionError),
    /// There is no plan.
    Plan(PlanError),
}

impl std::fmt::Display for PlanCommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Line { number, reason } => {
                write!(f, "line {number} must be an id and a weight, such as `orders-7 3`: {reason}")
            }
            Self::Partitions(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PlanCommandError {}

/// The rounds of the change as text, or as JSON where `args` ask for it.
///
/// # Errors
///
/// [`PlanCommandError`] if there are too many partitions or the strategy has no plan.
pub(super) fn run(args: &PlanArgs) -> Result<String, PlanCommandError> {
    if args.compare {
        return compare(args);
    }
    let change = Change::new(args)?;
    Ok(if args.json { change.json() } else { change.text() })
}

/// What each strategy would make of the change.
fn compare(args: &PlanArgs) -> Result<String, PlanCommandError> {
    let of = |strategy: &StrategyName| Change::new(&PlanArgs { strategy: *strategy, ..args.clone() });
    let changes = StrategyName::value_variants().iter().map(of).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&changes).unwrap_or_default());
    }
    let mut text = changes.first().map(Change::title).unwrap_or_default();
    text.push_str("strategy         rounds   moved  least  highest load  lowest load\n");
    for change in &changes {
        let name = change.strategy.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let (peak, least) = change.rounds.last().map_or((0.0, 0.0), |last| (last.peak_to_mean, last.least_to_mean));
        let (moved, fewest) = (change.moved, change.least_moves);
        let rounds = change.rounds.len();
        let unfinished = if change.finished { "" } else { "  still not done" };
        let _ =
            writeln!(text, "{name:<15}  {rounds:>6}  {moved:>6}  {fewest:>5}  {peak:>12.3}  {least:>11.3}{unfinished}");
    }
    Ok(text)
}

/// A change and its rounds.
#[derive(Serialize)]
struct Change {
    workers: u32,
    to: u32,
    partitions: usize,
    /// None where the list was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Weights>,
    strategy: StrategyName,
    rounds: Vec<Round>,
    moved: usize,
    least_moves: usize,
    finished: bool,
}

/// What one round moves and reaches.
#[derive(Serialize)]
struct Round {
    moved: usize,
    /// In percent of the partitions whose worker stays.
    moved_percent: f64,
    budget: usize,
    peak_to_mean: f64,
    least_to_mean: f64,
}

impl Change {
    fn new(args: &PlanArgs) -> Result<Self, PlanCommandError> {
        let partitions = match &args.input {
            Some(path) => read(path)?,
            None => partitions(args).map_err(PlanCommandError::Partitions)?,
        };
        let mut holders = vec![None; partitions.len()];
        rounds(args, args.workers, &partitions, &mut holders)?;
        let least_moves = least_moves(&problem(args, &workers(args.to), &partitions, &holders));
        let (figures, finished) = rounds(args, args.to, &partitions, &mut holders)?;
        Ok(Self {
            workers: args.workers,
            to: args.to,
            partitions: partitions.len(),
            weights: args.input.is_none().then_some(args.weights),
            strategy: args.strategy,
            moved: figures.iter().map(|figures| figures.moved).sum(),
            least_moves,
            rounds: figures.iter().map(Round::new).collect(),
            finished,
        })
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn title(&self) -> String {
        format!("{} → {} workers, {} partitions\n", self.workers, self.to, self.partitions)
    }

    fn text(&self) -> String {
        let mut text = self.title();
        let _ = writeln!(text, "round   moved  of stayers  budget  highest load  lowest load");
        for (nth, round) in self.rounds.iter().enumerate() {
            let Round { moved, moved_percent, budget, peak_to_mean, least_to_mean } = round;
            let _ = writeln!(
                text,
                "{:>5}  {moved:>6}  {moved_percent:>9.2}%  {budget:>6}  {peak_to_mean:>12.3}  {least_to_mean:>11.3}",
                nth + 1,
            );
        }
        let _ = writeln!(text, "total  {:>6}  (no plan can do with less than {})", self.moved, self.least_moves);
        if !self.finished {
            let _ = writeln!(text, "still not done after {} rounds", self.rounds.len());
        }
        text
    }
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn new(figures: &Figures) -> Self {
        let staying = figures.partitions + figures.staying_moved - figures.moved;
        Self {
            moved: figures.moved,
            moved_percent: figures.staying_moved as f64 * 100.0 / staying.max(1) as f64,
            budget: figures.budget,
            peak_to_mean: figures.after.peak_permille as f64 / 1000.0,
            least_to_mean: figures.after.least_permille as f64 / 1000.0,
        }
    }
}

/// Plans for `workers` workers until no other round is needed; the figures of each round, and whether it came to that.
fn rounds(
    args: &PlanArgs,
    workers: u32,
    partitions: &PartitionList,
    holders: &mut Vec<Option<Slot>>,
) -> Result<(Vec<Figures>, bool), PlanCommandError> {
    let workers = self::workers(workers);
    let mut rounds = Vec::new();
    while rounds.len() < MAX_ROUNDS {
        let problem = problem(args, &workers, partitions, holders);
        let round = plan(strategy(args.strategy), &problem).map_err(PlanCommandError::Plan)?;
        *holders = round.owners;
        rounds.push(round.figures);
        if !round.another_round {
            return Ok((rounds, true));
        }
    }
    Ok((rounds, false))
}

fn workers(count: u32) -> Vec<WorkerInput> {
    (0..count).map(|slot| WorkerInput::new(Slot::new(slot))).collect()
}

fn problem<'a>(
    args: &PlanArgs,
    workers: &'a [WorkerInput],
    partitions: &'a PartitionList,
    holders: &'a [Option<Slot>],
) -> Problem<'a> {
    let problem = Problem::new(workers, partitions, holders).expect("distinct slots, and a holder per partition");
    problem.with_options(Options {
        epsilon_permille: args.epsilon_permille,
        move_budget_percent: args.move_budget_percent,
        seed: args.seed,
        ..Options::default()
    })
}

fn strategy(name: StrategyName) -> &'static dyn Strategy {
    const RING: ConsistentHash = ConsistentHash { virtual_nodes: 150 };
    match name {
        StrategyName::Balanced => &Balanced,
        StrategyName::ConsistentHash => &RING,
        StrategyName::RoundRobin => &RoundRobin,
    }
}

/// A list of partitions from a file.
fn read(path: &Path) -> Result<PartitionList, PlanCommandError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| PlanCommandError::Unreadable { path: path.to_owned(), error })?;
    let mut partitions = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let refused = |reason: String| PlanCommandError::Line { number, reason };
        let (id, weight) = line.trim().rsplit_once(char::is_whitespace).unwrap_or((line.trim(), "1"));
        let weight =
            weight.parse::<NonZeroU32>().map_err(|error| refused(format!("{weight:?} is no weight: {error}")))?;
        let id = PartitionId::new(id.trim()).map_err(|error| refused(error.to_string()))?;
        partitions.push(Partition::new(id).with_weight(weight));
    }
    PartitionList::new(partitions).map_err(PlanCommandError::Partitions)
}

fn partitions(args: &PlanArgs) -> Result<PartitionList, PartitionError> {
    let weight = |n: usize| match args.weights {
        Weights::Skew if n.is_multiple_of(10) => 5,
        Weights::Heavy if n.is_multiple_of(100) => 40,
        Weights::Equal | Weights::Skew | Weights::Heavy => 1,
    };
    let partition = |n: usize| {
        let id = PartitionId::new(format!("partition-{n:06}"))?;
        Ok(Partition::new(id).with_weight(NonZeroU32::new(weight(n)).unwrap_or(NonZeroU32::MIN)))
    };
    PartitionList::new((0..args.partitions).map(partition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> PlanArgs {
        PlanArgs {
            workers: 30,
            to: 45,
            partitions: 2400,
            weights: Weights::Equal,
            input: None,
            strategy: StrategyName::Balanced,
            compare: false,
            epsilon_permille: 50,
            move_budget_percent: 20,
            seed: 0,
            json: false,
        }
    }

    #[test]
    fn a_person_can_read_the_rounds() {
        insta::assert_snapshot!(run(&args()).expect("a plan"));
    }

    #[test]
    fn half_as_many_workers_again_takes_rounds_within_the_budget_and_no_more_moves_than_needed() {
        let change = Change::new(&args()).expect("a plan");
        assert!(change.finished && change.rounds.len() == 2);
        assert!(change.rounds.iter().all(|round| round.moved_percent < 20.0));
        assert!(change.moved * 100 <= change.least_moves * 105);
        assert!(change.rounds[1].peak_to_mean <= 1.05);
    }

    #[test]
    fn three_to_four_workers_move_less_than_a_fifth_in_the_first_round() {
        let change = Change::new(&PlanArgs { workers: 3, to: 4, ..args() }).expect("a plan");
        assert!(change.rounds[0].moved_percent < 20.0 && change.rounds.len() == 2);
        let text = change.text();
        assert!(!text.contains("20.0%"), "{text}");
    }

    #[test]
    fn unequal_weights_take_no_more_moves_than_needed_either() {
        let change = Change::new(&PlanArgs { weights: Weights::Skew, ..args() }).expect("a plan");
        assert!(change.moved * 100 <= change.least_moves * 105, "{}", change.text());
        assert!(change.rounds[change.rounds.len() - 1].peak_to_mean <= 1.05, "{}", change.text());
    }

    #[test]
    fn two_heavy_partitions_that_are_too_much_for_one_worker_are_parted() {
        let change = Change::new(&PlanArgs { weights: Weights::Heavy, ..args() }).expect("a plan");
        assert!(change.moved * 100 <= change.least_moves * 105, "{}", change.text());
        assert!(change.rounds[change.rounds.len() - 1].peak_to_mean <= 1.05, "{}", change.text());
    }

    #[test]
    fn strategies_are_compared_side_by_side() {
        insta::assert_snapshot!(run(&PlanArgs { compare: true, ..args() }).expect("a plan"));
        let json = run(&PlanArgs { compare: true, json: true, ..args() }).expect("a plan");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value.as_array().map(Vec::len), Some(StrategyName::value_variants().len()));
    }

    #[test]
    fn a_real_list_is_read_and_what_is_none_is_refused_with_its_line() {
        let path = std::env::temp_dir().join(format!("parti-list-{}", std::process::id()));
        let with = |text: &str| {
            fs::write(&path, text).expect("it is writable");
            Change::new(&PlanArgs { workers: 2, to: 3, input: Some(path.clone()), ..args() })
        };
        let change = with("orders 7 3\n\norders-8\nwith space 40\n").expect("a list");
        assert_eq!((change.partitions, change.weights), (3, None));
        let error = |text: &str| with(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            error("a 1\nb 0\n"),
            "line 2 must be an id and a weight, such as `orders-7 3`: \"0\" is no weight: number would be zero for non-zero type"
        );
        assert!(error("a 1\na 2\n").contains("\"a\""), "{}", error("a 1\na 2\n"));
        fs::remove_file(&path).expect("it is there");
        let missing = Change::new(&PlanArgs { input: Some(path), ..args() });
        assert!(missing.err().is_some_and(|error| error.to_string().contains("cannot be read: ")));
    }

    #[test]
    fn json_says_the_same() {
        let json = run(&PlanArgs { json: true, ..args() }).expect("a plan");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["rounds"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["strategy"], "balanced");
    }

    #[test]
    fn every_strategy_and_every_weight_comes_to_rest() {
        for &strategy in StrategyName::value_variants() {
            for &weights in Weights::value_variants() {
                let change = Change::new(&PlanArgs { weights, strategy, ..args() }).expect("a plan");
                assert!(change.finished, "{strategy:?} {weights:?}");
            }
        }
    }
}
