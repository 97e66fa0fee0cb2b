//! Panics of what a user has brought, or of this library, turned into errors that are said.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use parti_core::assign::{Answer, Problem, Strategy, StrategyError};

/// A strategy whose panics are answers: no plan, and why.
#[derive(Debug)]
pub(crate) struct Caught(pub(crate) Arc<dyn Strategy>);

impl Strategy for Caught {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        // What it may have left half done is its own: it is asked for whole answers, and they are checked.
        catch_unwind(AssertUnwindSafe(|| self.0.assign(problem))).unwrap_or_else(|panic| {
            Err(StrategyError { reason: format!("it has panicked: {}: correct it", message(&*panic)) })
        })
    }
}

/// What `work` comes to, or what it has said when it panicked.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| message(&*panic).to_owned())
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use parti_core::PartitionList;
    use parti_core::assign::Balanced;

    use super::*;

    #[derive(Debug)]
    struct Panics;

    impl Strategy for Panics {
        fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
            panic!("has a bug with {} workers", problem.workers().len());
        }
    }

    #[test]
    fn a_strategy_that_panics_has_no_answer_and_says_why() {
        let list = PartitionList::default();
        let problem = Problem::new(&[], &list, &[]).expect("a problem");
        let error = Caught(Arc::new(Panics)).assign(&problem).expect_err("it panics");
        assert!(error.to_string().contains("has a bug with 0 workers"), "{error}");
        assert_eq!(Caught(Arc::new(Balanced)).assign(&problem), Balanced.assign(&problem));
    }

    #[tokio::test]
    async fn a_panic_of_a_task_is_its_outcome() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let panics = async { std::panic::panic_any(7) };
        assert_eq!(caught::<()>(panics).await, Err("without a word".to_owned()));
    }
}
