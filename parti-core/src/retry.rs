//! What becomes of a partition whose handler has stopped though nobody has asked it to.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::handler::HandlerEnd;
use crate::partition::PartitionId;
use crate::time::{Duration, Instant};

/// What becomes of a partition whose handler has stopped though nobody has asked it to: by a failure, by a panic, or by
/// dropping its guard.
///
/// It is offered again, as a new guard with the same token: the hold is the same, and so is the process. After `tries`
/// failures in a row another worker is asked to take it, once for each partition in the life of a process, so that what
/// nobody can handle does not go around; meanwhile, and where there is no other worker, it is offered again here.
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

/// The partitions of one process on which nobody works, or lately did not: for whoever runs workers and their handlers.
#[derive(Clone, Debug)]
pub struct Retries {
    /// Whether and how partitions are offered again.
    policy: Option<RetryPolicy>,
    known: BTreeMap<PartitionId, Failing>,
    /// For which another worker was asked.
    handed_over: BTreeSet<PartitionId>,
}

#[derive(Clone, Debug)]
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

/// What follows when a handler has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Why, in words.
    pub reason: String,
    /// How many times in a row.
    pub failures: u32,
    /// After what time the partition is offered again, if it is.
    pub wait: Option<Duration>,
    /// Whether another worker is to have the partition: report [`Event::GivenUp`](crate::Event::GivenUp).
    pub hands_over: bool,
}

impl Retries {
    /// Nobody has stopped yet. Without a policy nothing is offered again, or handed over unless it was given back.
    pub const fn new(policy: Option<RetryPolicy>) -> Self {
        Self { policy, known: BTreeMap::new(), handed_over: BTreeSet::new() }
    }

    /// The handler of a partition that stays has stopped.
    pub fn stopped(&mut self, now: Instant, partition: &PartitionId, end: HandlerEnd) -> Stopped {
        let fresh = Failing { failures: 0, idle: None, offer_at: None, offered_at: now };
        let failing = self.known.entry(partition.clone()).or_insert(fresh);
        let longest = self.policy.map_or(Duration::MAX, |policy| policy.longest);
        if now.since(failing.offered_at) > longest {
            failing.failures = 0;
        }
        failing.failures += 1;
        let wait = self.policy.map(|policy| match end {
            HandlerEnd::GivenBack => policy.longest,
            HandlerEnd::Dropped | HandlerEnd::Failed(_) => {
                let doublings = (failing.failures - 1).min(16);
                (policy.first * 2_u32.pow(doublings)).min(policy.longest)
            }
        });
        failing.offer_at = wait.map(|wait| now + wait);
        let tired = self.policy.and_then(|policy| policy.tries).is_some_and(|tries| failing.failures >= tries);
        let gives_back = end == HandlerEnd::GivenBack;
        let reason = match end {
            HandlerEnd::Dropped => "its guard was dropped".to_string(),
            HandlerEnd::Failed(reason) => reason,
            HandlerEnd::GivenBack => "it was given back".to_string(),
        };
        failing.idle = Some(reason.clone());
        let failures = failing.failures;
        let hands_over = gives_back || tired && self.handed_over.insert(partition.clone());
        Stopped { reason, failures, wait, hands_over }
    }

    /// The handler of a partition has stopped, which is no trouble: the worker is about to stop.
    pub fn stopped_in_time(&mut self, partition: &PartitionId) {
        let idle = Some("this worker is about to stop".to_string());
        let failing = Failing { failures: 0, idle, offer_at: None, offered_at: Instant::ORIGIN };
        self.known.insert(partition.clone(), failing);
    }

    /// The partitions that are to be offered again now, in order. They count as worked on from here on.
    pub fn due(&mut self, now: Instant) -> Vec<PartitionId> {
        let mut due = Vec::new();
        for (partition, failing) in &mut self.known {
            if failing.offer_at.take_if(|at| *at <= now).is_some() {
                failing.idle = None;
                failing.offered_at = now;
                due.push(partition.clone());
            }
        }
        due
    }

    /// When the next partition is offered again.
    pub fn deadline(&self) -> Option<Instant> {
        self.known.values().filter_map(|failing| failing.offer_at).min()
    }

    /// Whether nobody works on it.
    pub fn is_idle(&self, partition: &PartitionId) -> bool {
        self.known.get(partition).is_some_and(|failing| failing.idle.is_some())
    }

    /// The partition is no longer here, or is about to go. True if it was among these.
    pub fn gone(&mut self, partition: &PartitionId) -> bool {
        self.known.remove(partition).is_some()
    }

    /// The partitions that nobody works on, in order, and why.
    pub fn idle(&self) -> impl Iterator<Item = (&PartitionId, &str)> {
        self.known.iter().filter_map(|(partition, failing)| Some((partition, failing.idle.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn failed() -> HandlerEnd {
        HandlerEnd::Failed("a bug".into())
    }

    fn partition() -> PartitionId {
        PartitionId::new("p").expect("a valid id")
    }

    #[test]
    fn what_fails_is_offered_later_and_later_and_handed_over_once() {
        let (mut retries, partition) = (Retries::new(Some(RetryPolicy::default())), partition());
        let mut now = at(100);
        let mut waits = Vec::new();
        let mut handed_over = Vec::new();
        for failures in 1..=8 {
            let stopped = retries.stopped(now, &partition, failed());
            assert_eq!((stopped.reason.as_str(), stopped.failures), ("a bug", failures));
            handed_over.push(stopped.hands_over);
            assert!(retries.is_idle(&partition));
            assert_eq!(retries.idle().collect::<Vec<_>>(), [(&partition, "a bug")]);
            let due = retries.deadline().expect("it is offered again");
            assert_eq!(stopped.wait, Some(due.since(now)));
            assert_eq!(retries.due(now), []);
            assert_eq!(retries.due(due), core::slice::from_ref(&partition));
            assert!(!retries.is_idle(&partition));
            waits.push(due.since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(handed_over.iter().filter(|over| **over).count(), 1);
        assert!(handed_over[2]);
        // After a long time without trouble it begins to count anew.
        retries.stopped(now + Duration::from_secs(3_600), &partition, failed());
        assert_eq!(retries.deadline(), Some(now + Duration::from_secs(3_601)));
        assert!(retries.gone(&partition) && !retries.gone(&partition));
        assert_eq!(retries.deadline(), None);
    }

    #[test]
    fn without_a_policy_nothing_is_offered_and_what_is_given_back_is_always_handed_over() {
        let (mut retries, partition) = (Retries::new(None), partition());
        assert!(!retries.stopped(at(1), &partition, HandlerEnd::Dropped).hands_over);
        assert!(retries.stopped(at(2), &partition, HandlerEnd::GivenBack).hands_over);
        assert_eq!(retries.deadline(), None);
    }
}
