//! Partitions on which nobody works, since a handler has stopped though nobody has asked it to.

use std::sync::Arc;

use parti_core::{HandlerEnd, Instant, PartitionId, Retries, RetryPolicy, Stopped};

use crate::health::Signs;
use crate::metrics::Metrics;

/// The warning that nobody works on some partitions.
const GUARD_DROPPED: &str = "guard_dropped";
/// How many partitions a warning names.
const NAMED: usize = 8;

/// The partitions on which nobody works, or lately did not: says which.
#[derive(Debug)]
pub(crate) struct Abandoned {
    retries: Retries,
    signs: Arc<Signs>,
    metrics: Arc<Metrics>,
}

impl Abandoned {
    pub(crate) fn new(policy: Option<RetryPolicy>, signs: Arc<Signs>, metrics: Arc<Metrics>) -> Self {
        Self { retries: Retries::new(policy), signs, metrics }
    }

    /// The handler of a partition that stays has stopped. True if another worker should be asked to take it.
    pub(crate) fn stopped(&mut self, now: Instant, partition: &PartitionId, end: HandlerEnd) -> bool {
        let Stopped { reason, failures, wait, hands_over } = self.retries.stopped(now, partition, end);
        tracing::warn!(
            event = GUARD_DROPPED, %partition, reason, failures, hands_over, offered_again_in = ?wait,
            "nobody works on a partition that stays with this worker"
        );
        self.metrics.guard_dropped();
        self.say(Some(&reason));
        hands_over
    }

    /// The handler of a partition has stopped, which is no trouble: the worker is about to stop.
    pub(crate) fn stopped_in_time(&mut self, partition: &PartitionId) {
        self.retries.stopped_in_time(partition);
    }

    /// Where warnings are left.
    pub(crate) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// The partitions that are to be offered again now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PartitionId> {
        let due = self.retries.due(now);
        for partition in &due {
            tracing::info!(event = "guard_offered", %partition, "a partition that nobody works on is offered again");
        }
        if !due.is_empty() {
            self.say(None);
        }
        due
    }

    /// When the next partition is offered again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retries.deadline()
    }

    /// Whether nobody works on it.
    pub(crate) fn is_idle(&self, partition: &PartitionId) -> bool {
        self.retries.is_idle(partition)
    }

    /// The partition is no longer here, or is about to go.
    pub(crate) fn gone(&mut self, partition: &PartitionId) {
        if self.retries.gone(partition) {
            self.say(None);
        }
    }

    /// Shows how many there are, and which; the `newest` reason, where there is a new one.
    fn say(&self, newest: Option<&str>) {
        let idle: Vec<_> = self.retries.idle().collect();
        self.metrics.abandoned(idle.len());
        let Some((_, last)) = idle.last() else {
            self.signs.warnings.clear(GUARD_DROPPED);
            return;
        };
        let reason = newest.unwrap_or(last);
        let names: Vec<_> = idle.iter().take(NAMED).map(|(partition, _)| partition.as_str()).collect();
        let more = if idle.len() > NAMED { format!(" and {} more", idle.len() - NAMED) } else { String::new() };
        self.signs.warnings.set(
            GUARD_DROPPED,
            format!(
                "nobody works on {}{more}, though this worker has them ({reason}): mend the handler; see RetryPolicy",
                names.join(", ")
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_works_on_is_said_until_it_is_offered_again_or_gone() {
        let signs = Arc::new(Signs::new("orders"));
        let policy = Some(RetryPolicy::default());
        let mut abandoned = Abandoned::new(policy, Arc::clone(&signs), Arc::new(Metrics::new("orders")));
        let partition = PartitionId::new("p").expect("a valid id");
        abandoned.stopped(Instant::from_millis(1), &partition, HandlerEnd::Failed("a bug".into()));
        let text = signs.warnings.get(GUARD_DROPPED).expect("it is said");
        assert!(text.contains("nobody works on p") && text.contains("a bug"), "{text}");
        assert!(abandoned.is_idle(&partition));
        let due = abandoned.deadline().expect("it is offered again");
        assert_eq!(abandoned.due(due), std::slice::from_ref(&partition));
        assert_eq!((abandoned.is_idle(&partition), signs.warnings.get(GUARD_DROPPED)), (false, None));
        abandoned.stopped(due, &partition, HandlerEnd::Dropped);
        assert!(signs.warnings.get(GUARD_DROPPED).is_some());
        abandoned.gone(&partition);
        assert_eq!((abandoned.deadline(), signs.warnings.get(GUARD_DROPPED)), (None, None));
    }
}
