//! Whether a worker should be restarted, and whether others may count on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parti_core::{Instant, Status, SuspendReason, WorkerState};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock;
use crate::error::Error;
use crate::login::{LOGIN_REFUSED, Login};
use crate::metrics::Metrics;
use crate::refusal::{Forbidden, RefusedWrites, WRITE_REFUSED};
use crate::upkeep::{BUCKET_UNREAD, UnknownWishes, Upkeep};
use crate::warnings::{Warning, Warnings};

/// The warning that this worker does not hear itself.
pub(crate) const NOT_PRESENT: &str = "not_present";

/// How a worker is, for the questions of a platform such as Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether the process should be left alone. Bad if the worker has ended with an error, or its task has not run
    /// when it should have, or the server has refused its credentials for longer than a lease: only a restart helps. An
    /// outage of the store is no reason for one.
    pub live: Verdict,
    /// Whether the worker takes part, or would as soon as there is work. Good for one that stands by for a slot, since a
    /// rolling update with surge goes on only when the new process is ready. Bad before the store was heard, while it
    /// is out of reach, and from the wish to stop on.
    pub ready: Verdict,
    /// What somebody should look at though the worker is live and ready.
    pub warnings: Vec<Warning>,
}

/// An answer with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether all is well.
    pub good: bool,
    /// Why, for people.
    pub reason: String,
}

/// Answers for a worker's health; cheap to clone, to be asked from anywhere.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) end: watch::Receiver<Option<Result<(), Error>>>,
    pub(crate) signs: Arc<Signs>,
    pub(crate) lease: Duration,
}

/// What the worker's tasks leave for whoever asks.
#[derive(Debug)]
pub(crate) struct Signs {
    /// When the driver's task has to run again, by its own timer.
    due: AtomicU64,
    /// How late it may be, in nanoseconds.
    patience: AtomicU64,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) warnings: Warnings,
    /// Whether the server lets this client in.
    pub(crate) login: Login,
    /// What is wrong with the buckets.
    pub(crate) upkeep: Upkeep,
    /// Which wishes of operators mean nothing.
    pub(crate) unknown_wishes: UnknownWishes,
    /// Which writes the server refuses.
    pub(crate) writes: RefusedWrites,
    /// What else the server refuses.
    pub(crate) forbidden: Forbidden,
}

impl Signs {
    pub(crate) fn new(group: &str) -> Self {
        Self {
            metrics: None,
            due: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            warnings: Warnings::new(group),
            login: Login::default(),
            writes: RefusedWrites::default(),
            forbidden: Forbidden::default(),
            upkeep: Upkeep::default(),
            unknown_wishes: UnknownWishes::default(),
        }
    }

    /// The same, and what happens is counted.
    pub(crate) fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The driver runs now, and will again at `due`; `patience` is how late that may be.
    pub(crate) fn runs_until(&self, due: Option<Instant>, patience: Duration) {
        self.patience.store(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.due.store(due.map_or(u64::MAX, Instant::as_nanos), Ordering::Relaxed);
    }

    /// What keeps the worker from its work, in the words of whoever refuses it, if somebody does.
    fn trouble(&self, why: Option<SuspendReason>) -> String {
        let warning = |name| self.warnings.get(name);
        let refused = match why {
            Some(SuspendReason::ConnectionLost) => warning(LOGIN_REFUSED),
            Some(SuspendReason::WritesRefused) => warning(WRITE_REFUSED),
            Some(SuspendReason::NotPresent) => warning(NOT_PRESENT),
            Some(_) => warning(WRITE_REFUSED).or_else(|| warning(BUCKET_UNREAD)),
            None => None,
        };
        refused.or_else(|| why.map(|why| why.to_string())).unwrap_or_else(|| "the store is of no use".into())
    }

    /// By how much the driver is later than it may be.
    fn overdue(&self, now: Instant) -> Option<Duration> {
        let due = self.due.load(Ordering::Relaxed);
        if due == 0 || due == u64::MAX {
            return None;
        }
        let allowed = Instant::from_nanos(due) + Duration::from_nanos(self.patience.load(Ordering::Relaxed));
        (now > allowed).then(|| now.since(Instant::from_nanos(due)))
    }
}

impl HealthCheck {
    /// How the worker is at this moment. Cheap.
    pub fn check(&self) -> Health {
        let status = self.status.borrow().clone();
        let end = self.end.borrow().clone();
        Health {
            live: live(end.as_ref(), self.signs.overdue(clock::now()), self.locked_out()),
            ready: ready(&status, end.as_ref(), &self.signs),
            warnings: self.signs.warnings.list(),
        }
    }
}

impl HealthCheck {
    /// Why only another process may be let in, if the server has refused this one for longer than a lease: whoever starts
    /// it gives it what it needs.
    fn locked_out(&self) -> Option<String> {
        let (since, why) = self.signs.login.refused_since()?;
        let refused_for = clock::now().since(since);
        (refused_for > self.lease).then(|| format!("for {} s, {why}", refused_for.as_secs()))
    }
}

fn live(end: Option<&Result<(), Error>>, overdue: Option<Duration>, locked_out: Option<String>) -> Verdict {
    match (end, overdue, locked_out) {
        (Some(Err(error)), _, _) => bad(format!("the worker has ended: {error}")),
        (Some(Ok(())), _, _) => good("the worker has stopped as it was told to"),
        (None, Some(overdue), _) => bad(format!("the worker's task should have run {overdue:?} ago")),
        (None, None, Some(why)) => bad(why),
        (None, None, None) => good("the worker's task runs"),
    }
}

fn ready(status: &Status, end: Option<&Result<(), Error>>, signs: &Signs) -> Verdict {
    if end.is_some() {
        return bad("the worker has ended");
    }
    let reason = |what: &str| format!("{what} (state {})", status.state);
    match status.state {
        WorkerState::Init => bad(reason("nothing was heard from the store yet")),
        WorkerState::Degraded => bad(reason(&signs.trouble(status.degraded))),
        WorkerState::Shutdown => bad(reason("the worker was told to stop")),
        WorkerState::ClaimingId => good(reason("the worker stands by for a slot")),
        WorkerState::Election
        | WorkerState::WaitingAssignment
        | WorkerState::Stable
        | WorkerState::Scaling
        | WorkerState::Rebalancing
        | WorkerState::Emergency => good(reason("the worker takes part")),
    }
}

fn good(reason: impl Into<String>) -> Verdict {
    Verdict { good: true, reason: reason.into() }
}

fn bad(reason: impl Into<String>) -> Verdict {
    Verdict { good: false, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_task_that_is_late_or_has_failed_is_not_live() {
        let signs = Signs::new("orders");
        let now = Instant::from_millis(10_000);
        assert_eq!(signs.overdue(now), None, "it has not begun");
        signs.runs_until(Some(Instant::from_millis(9_000)), Duration::from_secs(2));
        assert_eq!(signs.overdue(now), None);
        signs.runs_until(Some(Instant::from_millis(7_000)), Duration::from_secs(2));
        assert_eq!(signs.overdue(now), Some(Duration::from_secs(3)));
        signs.runs_until(None, Duration::ZERO);
        assert_eq!(signs.overdue(now), None, "it waits for something else");
        assert!(!live(None, Some(Duration::from_secs(3)), None).good);
        assert!(!live(Some(&Err(Error::new(ErrorKind::ConnectionClosed))), None, None).good);
        assert!(live(Some(&Ok(())), None, None).good);
    }

    #[test]
    fn who_has_not_heard_the_store_or_is_to_stop_is_not_ready() {
        let worker = parti_core::Worker::new(parti_core::Config::default(), 1, Instant::ORIGIN).expect("valid");
        let status = |state| Status { state, ..worker.status() };
        for state in WorkerState::ALL {
            let expected = !matches!(state, WorkerState::Init | WorkerState::Degraded | WorkerState::Shutdown);
            let verdict = ready(&status(state), None, &Signs::new("orders"));
            assert_eq!(verdict.good, expected, "{verdict:?}");
            assert!(verdict.reason.contains(&state.to_string()), "{verdict:?}");
        }
    }
}
