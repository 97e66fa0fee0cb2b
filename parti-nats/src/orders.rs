//! What the core asks for, in the one order in which it may be done.

use parti_core::{
    Action, Bucket, CheckId, Instance, Interest, Notice, ProbeId, Request, Session, Status, WatchId, WorkerState,
};

use crate::application::Application;
use crate::clock;
use crate::publisher::Publisher;

/// What is asked of others than the application.
#[derive(Debug)]
pub(crate) enum Outside {
    Write(Request),
    Watch(WatchId, Bucket, Interest),
    Listen,
    Check(Session, CheckId),
    Probe(ProbeId, Instance, Option<Instance>),
    Notice(Notice),
    Halt,
}

/// Does everything that the core asks for at one time, by which its status has become `status`.
///
/// 1. A right to act that ends is ended, and no right is given yet.
/// 2. Guards are suspended, released, resumed, made, as the core says, while none is valid that was not before.
/// 3. Everything else is done: what others hear of is true by then.
/// 4. The right to act that there is now begins, and then the application is told: what it hears of is valid.
pub(crate) fn carry_out(
    actions: Vec<Action>,
    status: Status,
    publisher: &mut Publisher,
    application: &mut Application,
    mut outside: impl FnMut(&Publisher, Outside),
) {
    publisher.end(&status);
    application.observe_stopping(status.state == WorkerState::Shutdown);
    let others: Vec<_> = actions.into_iter().filter_map(|action| apply(action, application)).collect();
    for other in others {
        outside(publisher, other);
    }
    publisher.publish(status);
    application.offer_again(clock::now());
    application.tell();
}

/// Does what concerns the application, and gives back what does not.
fn apply(action: Action, application: &mut Application) -> Option<Outside> {
    match action {
        Action::Acquire { partition, token } => application.acquire(partition, token),
        Action::Prepare { partition } => application.prepare(partition),
        Action::Release { partition, token, reason } => application.release(&partition, token, reason),
        Action::Cancel { partition, token } => application.cancel(partition, token),
        Action::Suspend { reason } => application.suspend(reason),
        Action::Resume => application.resume(),
        Action::Kv(request) => return Some(Outside::Write(request)),
        Action::Watch { watch, bucket, interest } => return Some(Outside::Watch(watch, bucket, interest)),
        Action::Listen => return Some(Outside::Listen),
        Action::Check { session, check } => return Some(Outside::Check(session, check)),
        Action::Probe { probe, instance, through, .. } => return Some(Outside::Probe(probe, instance, through)),
        Action::Notice(notice) => return Some(Outside::Notice(notice)),
        Action::Halt => return Some(Outside::Halt),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use parti_core::{
        Config, Instant, Mode, Partition, PartitionId, ReleaseReason, SuspendReason, Term, Token, Worker,
    };
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::abandoned::Abandoned;
    use crate::changes;
    use crate::changes::Change;
    use crate::guard::{Guard, Lease};
    use crate::health::Signs;
    use crate::metrics::Metrics;

    struct World {
        status: Status,
        publisher: Publisher,
        application: Application,
        changes: changes::Receiver,
    }

    fn world() -> World {
        let status = Worker::new(Config::default(), 1, clock::now()).expect("valid").status();
        let (lease, metrics) = (Arc::<Lease>::default(), Arc::new(Metrics::new("orders")));
        let (changes_in, changes) = changes::queue();
        let signs = Arc::new(Signs::new("orders"));
        let publisher = Publisher {
            mode: Mode::Strict,
            lease: Arc::clone(&lease),
            status: watch::channel(status.clone()).0,
            signs: Arc::clone(&signs),
            metrics: Arc::clone(&metrics),
            last: clock::now(),
        };
        let abandoned = Abandoned::new(None, signs, Arc::clone(&metrics));
        let inputs = mpsc::unbounded_channel().0;
        let application = Application::new(lease, inputs, changes_in, Arc::default(), abandoned, metrics);
        World { status, publisher, application, changes }
    }

    impl World {
        /// Does `actions`, and returns what `look` sees while anything is done outside.
        fn carry_out(&mut self, until: Option<Instant>, actions: Vec<Action>, look: impl Fn() -> bool) -> Vec<bool> {
            self.status.lease_until = until;
            let mut seen = Vec::new();
            carry_out(actions, self.status.clone(), &mut self.publisher, &mut self.application, |_, _| {
                seen.push(look());
            });
            seen
        }

        fn guard(&mut self, until: Instant, id: &str) -> Guard {
            let partition = Partition::new(PartitionId::new(id).expect("a valid id"));
            let acquire = Action::Acquire { partition, token: Token::default() };
            self.carry_out(Some(until), vec![acquire], || true);
            match self.changes.try_recv().expect("told").pop() {
                Some(Change::Acquired(guard)) => guard,
                other => panic!("expected a guard, got {other:?}"),
            }
        }
    }

    /// Something done outside of the application.
    fn outside() -> Action {
        Action::Notice(Notice::LeadershipGained { term: Term::default() })
    }

    fn later(seconds: u64) -> Instant {
        clock::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn the_end_of_a_right_comes_before_anything_that_others_hear_of() {
        let mut world = world();
        let guard = world.guard(later(600), "a");
        assert!(guard.is_valid());
        let seen = world.carry_out(None, vec![outside(), outside()], || guard.is_valid());
        assert_eq!(seen, [false, false]);
    }

    #[test]
    fn a_suspension_or_a_release_comes_before_a_write_that_was_asked_for_earlier() {
        for suspends in [true, false] {
            let mut world = world();
            let guard = world.guard(later(600), "a");
            let partition = guard.partition().clone();
            let ends = if suspends {
                Action::Suspend { reason: SuspendReason::LeaseRanOut }
            } else {
                Action::Release { partition, token: guard.token(), reason: ReleaseReason::Evicted }
            };
            let seen = world.carry_out(Some(later(600)), vec![outside(), ends], || guard.is_valid());
            assert_eq!(seen, [false]);
        }
    }

    #[test]
    fn a_right_begins_when_all_else_is_done() {
        let mut world = world();
        let guard = world.guard(clock::now(), "a");
        assert!(!guard.is_valid());
        let seen = world.carry_out(Some(later(600)), vec![outside()], || guard.is_valid());
        assert_eq!(seen, [false]);
        assert!(guard.is_valid());
    }

    /// Wakes nobody, but looks.
    struct Looks(AtomicBool, Mutex<Option<Guard>>);

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let guard = self.1.lock().expect("no panic");
            self.0.store(guard.as_ref().is_some_and(Guard::is_valid), Ordering::Relaxed);
        }
    }

    #[test]
    fn the_application_hears_of_a_right_that_has_begun() {
        let mut world = world();
        let guard = world.guard(clock::now(), "a");
        let looks = Arc::new(Looks(AtomicBool::new(false), Mutex::new(Some(guard))));
        let waker = Waker::from(Arc::clone(&looks));
        assert!(world.changes.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        world.carry_out(Some(later(600)), vec![Action::Resume], || true);
        assert!(looks.0.load(Ordering::Relaxed));
    }
}
