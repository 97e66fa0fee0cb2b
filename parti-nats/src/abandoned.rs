//! Partitions on which nobody works, since a handler has stopped though nobody has asked it to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parti_core::{Instant, PartitionId};

use crate::health::Signs;
use crate::input::GuardEnd;
use crate::metrics::Metrics;

/// The warning that nobody works on some partitions.
const GUARD_DROPPED: &str = "guard_dropped";
/// How many partitions a warning names.
const NAMED: usize = 8;

/// What becomes of a partition whose handler has stopped though nobody has asked it to: by [`Guard::fail`], by a panic,
/// or by dropping its guard.
///
/// It is offered again, as a new [`Guard`] with the same token in another [`Change::Acquired`]: the hold is the same, and
/// so is the process. After `tries` failures in a row another worker is asked to take it, once for each partition in the
/// life of a process, so that what nobody can handle does not go around; meanwhile, and where there is no other worker,
/// it is offered again here.
///
/// [`Guard`]: crate::Guard
/// [`Guard::fail`]: crate::Guard::fail
/// [`Change::Acquired`]: crate::Change::Acquired
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long to wait before it is offered again for the first time; the wait doubles from failure to failure. 1 s by
    /// default.
    pub first: Duration,
    /// The longest wait; a handler that has worked for longer than this begins to count anew. 60 s by default.
    pub longest: Duration,
    /// After how many failures in a row another worker is to have it; never if `None`. 3 by default.
    pub tries: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), tries: Some(3) }
    }
}

/// The partitions on which nobody works, or lately did not.
#[derive(Debug)]
pub(crate) struct Abandoned {
    /// Whether and how partitions are offered again.
    policy: Option<RetryPolicy>,
    known: BTreeMap<PartitionId, Failing>,
    /// For which another worker was asked.
    handed_over: BTreeSet<PartitionId>,
    signs: Arc<Signs>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Failing {
    /// In a row.
    failures: u32,
    /// Why nobody works on it, while that is so.
    idle: Option<String>,
    /// When it is offered again.
    offer_at: Option<Instant>,
    /// When it was offered last.
    offered_at: Instant,
}

impl Abandoned {
    pub(crate) fn new(policy: Option<RetryPolicy>, signs: Arc<Signs>, metrics: Arc<Metrics>) -> Self {
        Self { policy, known: BTreeMap::new(), handed_over: BTreeSet::new(), signs, metrics }
    }

    /// The handler of a partition that stays has stopped. True if another worker should be asked to take it.
    pub(crate) fn stopped(&mut self, now: Instant, partition: &PartitionId, end: GuardEnd) -> bool {
        let fresh = Failing { failures: 0, idle: None, offer_at: None, offered_at: now };
        let failing = self.known.entry(partition.clone()).or_insert(fresh);
        let longest = self.policy.map_or(Duration::MAX, |policy| policy.longest);
        if now.since(failing.offered_at) > longest {
            failing.failures = 0;
        }
        failing.failures += 1;
        let wait = self.policy.map(|policy| match end {
            GuardEnd::GivenBack => policy.longest,
            GuardEnd::Dropped | GuardEnd::Failed(_) => {
                let doublings = (failing.failures - 1).min(16);
                (policy.first * 2_u32.pow(doublings)).min(policy.longest)
            }
        });
        failing.offer_at = wait.map(|wait| now + wait);
        let tired = self.policy.and_then(|policy| policy.tries).is_some_and(|tries| failing.failures >= tries);
        let gives_back = end == GuardEnd::GivenBack;
        let reason = match end {
            GuardEnd::Dropped => "its guard was dropped".to_owned(),
            GuardEnd::Failed(reason) => reason,
            GuardEnd::GivenBack => "it was given back".to_owned(),
        };
        let hands_over = gives_back || tired && self.handed_over.insert(partition.clone());
        let failures = failing.failures;
        tracing::warn!(
            event = GUARD_DROPPED, %partition, reason, failures, hands_over, offered_again_in = ?wait,
            "nobody works on a partition that stays with this worker"
        );
        failing.idle = Some(reason);
        self.metrics.guard_dropped();
        self.say();
        hands_over
    }

    /// The handler of a partition has stopped, which is no trouble: the worker is about to stop.
    pub(crate) fn stopped_in_time(&mut self, partition: &PartitionId) {
        let idle = Some("this worker is about to stop".to_owned());
        let failing = Failing { failures: 0, idle, offer_at: None, offered_at: Instant::ORIGIN };
        self.known.insert(partition.clone(), failing);
    }

    /// Where warnings are left.
    pub(crate) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// The partitions that are to be offered again now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PartitionId> {
        let mut due = Vec::new();
        for (partition, failing) in &mut self.known {
            if failing.offer_at.take_if(|at| *at <= now).is_some() {
                failing.idle = None;
                failing.offered_at = now;
                tracing::info!(event = "guard_offered", %partition, "a partition that nobody works on is offered again");
                due.push(partition.clone());
            }
        }
        if !due.is_empty() {
            self.say();
        }
        due
    }

    /// When the next partition is offered again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.known.values().filter_map(|failing| failing.offer_at).min()
    }

    /// Whether nobody works on it.
    pub(crate) fn is_idle(&self, partition: &PartitionId) -> bool {
        self.known.get(partition).is_some_and(|failing| failing.idle.is_some())
    }

    /// The partition is no longer here, or is about to go.
    pub(crate) fn gone(&mut self, partition: &PartitionId) {
        if self.known.remove(partition).is_some() {
            self.say();
        }
    }

    /// Shows how many there are, and which.
    fn say(&self) {
        let idle: Vec<_> =
            self.known.iter().filter_map(|(partition, failing)| Some((partition, failing.idle.as_ref()?))).collect();
        self.metrics.abandoned(idle.len());
        let Some((_, reason)) = idle.last() else {
            self.signs.warnings.clear(GUARD_DROPPED);
            return;
        };
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

    fn abandoned(policy: Option<RetryPolicy>) -> (Abandoned, Arc<Signs>) {
        let signs = Arc::new(Signs::new("orders"));
        (Abandoned::new(policy, Arc::clone(&signs), Arc::new(Metrics::new("orders"))), signs)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn failed() -> GuardEnd {
        GuardEnd::Failed("a bug".into())
    }

    #[test]
    fn what_fails_is_offered_later_and_later_and_handed_over_once() {
        let (mut abandoned, signs) = abandoned(Some(RetryPolicy::default()));
        let partition = PartitionId::new("p").expect("a valid id");
        let mut now = at(100);
        let mut waits = Vec::new();
        let mut handed_over = Vec::new();
        for _ in 0..8 {
            handed_over.push(abandoned.stopped(now, &partition, failed()));
            assert!(abandoned.is_idle(&partition));
            let text = signs.warnings.get(GUARD_DROPPED).expect("it is said");
            assert!(text.contains("nobody works on p") && text.contains("a bug"), "{text}");
            let due = abandoned.deadline().expect("it is offered again");
            assert_eq!(abandoned.due(now), []);
            assert_eq!(abandoned.due(due), std::slice::from_ref(&partition));
            assert_eq!((abandoned.is_idle(&partition), signs.warnings.get(GUARD_DROPPED)), (false, None));
            waits.push(due.since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(handed_over.iter().filter(|over| **over).count(), 1);
        assert!(handed_over[2]);
        // After a long time without trouble it begins to count anew.
        abandoned.stopped(now + Duration::from_secs(3_600), &partition, failed());
        assert_eq!(abandoned.deadline(), Some(now + Duration::from_secs(3_601)));
        abandoned.gone(&partition);
        assert_eq!((abandoned.deadline(), signs.warnings.get(GUARD_DROPPED)), (None, None));
    }

    #[test]
    fn without_a_policy_it_is_only_said_and_what_is_given_back_is_always_handed_over() {
        let (mut abandoned, signs) = abandoned(None);
        let partition = PartitionId::new("p").expect("a valid id");
        assert!(!abandoned.stopped(at(1), &partition, GuardEnd::Dropped));
        assert!(abandoned.stopped(at(2), &partition, GuardEnd::GivenBack));
        assert_eq!(abandoned.deadline(), None);
        assert!(signs.warnings.get(GUARD_DROPPED).is_some());
    }
}
