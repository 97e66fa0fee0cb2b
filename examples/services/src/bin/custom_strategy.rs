//! A strategy of one's own: each worker gets neighbours, a range of the sorted partitions, because neighbours share a cache.
//!
//! ```sh
//! cargo run -p parti-example-services --bin custom_strategy
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::sync::Arc;

use parti_nats::assign::{Answer, Problem, Strategy, StrategyError};
use parti_nats::{Builder, PartitionGuard, Slot};

/// Deals ranges of partitions to the workers.
///
/// It looks at the problem alone, so that whichever worker leads comes to the same answer. It need not think of move
/// budgets or emergencies: what would move too much at once, parti leaves for a later round. Weights, capacities and
/// labels it would have to heed by itself; an answer that breaks what a partition requires is refused.
#[derive(Debug)]
struct Neighbours;

impl Strategy for Neighbours {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let staying = problem.workers().iter().filter(|worker| !worker.draining);
        let slots: Vec<Slot> = staying.map(|worker| worker.slot).collect();
        let count = problem.partitions().as_slice().len();
        // Without a worker that stays there is no owner either.
        let owners = (0..count).map(|index| slots.get(index * slots.len() / count).copied());
        Ok(Answer::new(owners.collect()))
    }
}

#[tokio::main]
async fn main() -> Result<(), parti_nats::Error> {
    common::log();
    let url = common::server("One worker that gets a range of 12 partitions: start it several times");
    let shelves = (0..12).map(|number| format!("shelf-{number:02}"));
    let strategy = Arc::new(Neighbours);
    let mut worker = Builder::new("shelves").server(url).partition_ids(shelves).strategy(strategy).start()?;
    common::stop_when_told(&worker);
    worker.run(work).await
}

async fn work(guard: impl PartitionGuard) {
    println!("{} is mine", guard.partition());
    guard.released().await;
    println!("{} goes to another worker", guard.partition());
}
