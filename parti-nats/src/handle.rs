//! What a service holds while its worker runs.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parti_core::{Command, Event, GroupName, PartitionId, PartitionList, Status, Token, WorkerState};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

use crate::changes::{self, Change};
use crate::error::{Error, ErrorKind};
use crate::health::{Health, HealthCheck};
use crate::input::Input;

/// A running worker.
///
/// ```no_run
/// # async fn look() -> Result<(), parti_nats::Error> {
/// use std::time::Duration;
/// use parti_nats::{Builder, Change, WorkerState};
///
/// let mut worker = Builder::new("orders").partition_ids(["eu", "us"]).start()?;
/// worker.wait_for_state(WorkerState::Stable, Duration::from_secs(30)).await?;
/// println!("owns {:?}", worker.assignment());
/// worker.stop();
/// while let Some(change) = worker.next_change().await {
///     if let Change::Releasing { partition, .. } = change {
///         println!("gives up {partition}"); // whoever has its guard drops it
///     }
/// }
/// worker.finished().await
/// # }
/// ```
///
/// Dropping it lets the worker leave in the background, as [`stop`](Self::stop) does, as long as the runtime goes on.
#[derive(Debug)]
pub struct Handle {
    pub(crate) group: GroupName,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) changes: changes::Receiver,
    pub(crate) waiting: VecDeque<Change>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) assignment: Arc<ArcSwap<Assignment>>,
    pub(crate) health: HealthCheck,
    pub(crate) refresh: Arc<Notify>,
    /// How the worker ended, once it has.
    pub(crate) end: watch::Receiver<Option<Result<(), Error>>>,
    /// How many partitions were given once and for all; 0 where the list is read.
    pub(crate) listed: usize,
}

/// The partitions that a worker holds and is to keep, with their tokens. Serialized as a map from id to token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Assignment(BTreeMap<PartitionId, Token>);

impl Assignment {
    pub(crate) fn new(partitions: BTreeMap<PartitionId, Token>) -> Self {
        Self(partitions)
    }

    /// The token of `partition`, if it is among them.
    pub fn token(&self, partition: impl AsRef<str>) -> Option<Token> {
        self.0.get(partition.as_ref()).copied()
    }

    /// Whether `partition` is among them.
    pub fn contains(&self, partition: impl AsRef<str>) -> bool {
        self.0.contains_key(partition.as_ref())
    }

    /// The partitions in order of their ids, with their tokens.
    pub fn iter(&self) -> AssignmentIter<'_> {
        AssignmentIter(self.0.iter())
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Assignment {
    type Item = (&'a PartitionId, Token);
    type IntoIter = AssignmentIter<'a>;

    fn into_iter(self) -> AssignmentIter<'a> {
        self.iter()
    }
}

impl IntoIterator for Assignment {
    type Item = (PartitionId, Token);
    type IntoIter = btree_map::IntoIter<PartitionId, Token>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The partitions of an [`Assignment`] in order of their ids, with their tokens.
#[derive(Clone, Debug)]
pub struct AssignmentIter<'a>(btree_map::Iter<'a, PartitionId, Token>);

impl<'a> Iterator for AssignmentIter<'a> {
    type Item = (&'a PartitionId, Token);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(partition, token)| (partition, *token))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for AssignmentIter<'_> {}

/// Reads a worker's assignment from anywhere; cheap to clone.
#[derive(Clone, Debug)]
pub struct AssignmentReader(Arc<ArcSwap<Assignment>>);

impl AssignmentReader {
    /// The partitions that the worker holds and is to keep, without a lock.
    pub fn read(&self) -> Arc<Assignment> {
        self.0.load_full()
    }
}

/// Stops a worker from anywhere, such as from a task that waits for signals; cheap to clone. See [`Handle::stopper`].
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::UnboundedSender<Input>);

impl Stopper {
    /// As [`Handle::stop`].
    pub fn stop(&self) {
        self.send(Command::Leave);
    }

    /// As [`Handle::restart`].
    pub fn restart(&self) {
        self.send(Command::Restart);
    }

    fn send(&self, command: Command) {
        // An error means that the worker has stopped already.
        let _ = self.0.send(Input::Event(Event::Command(command)));
    }
}

impl Handle {
    /// The next thing that has changed for the application; `None` once the worker has stopped. Cancel-safe.
    ///
    /// Take them promptly: a partition counts as held from its [`Change::Acquired`] on, read or not.
    pub async fn next_change(&mut self) -> Option<Change> {
        while self.waiting.is_empty() {
            self.waiting = self.changes.recv().await?.into();
        }
        self.waiting.pop_front()
    }

    /// Like [`next_change`](Self::next_change), but all that came of one event at once; never empty. Cancel-safe.
    pub async fn next_changes(&mut self) -> Option<Vec<Change>> {
        if self.waiting.is_empty() { self.changes.recv().await } else { Some(std::mem::take(&mut self.waiting).into()) }
    }

    /// The partitions that this worker holds and is to keep. Cheap, and without a lock; whether work on one is allowed
    /// at this moment, its guard knows.
    pub fn assignment(&self) -> Arc<Assignment> {
        self.assignment.load_full()
    }

    /// The group that the worker takes part in.
    pub fn group(&self) -> &GroupName {
        &self.group
    }

    /// What is needed to read the [`assignment`](Self::assignment) anywhere else, such as in a request handler.
    pub fn assignment_reader(&self) -> AssignmentReader {
        AssignmentReader(Arc::clone(&self.assignment))
    }

    /// How the worker is at this moment, for a platform that asks. Cheap.
    pub fn health(&self) -> Health {
        self.health.check()
    }

    /// What is needed to ask for the [`health`](Self::health) anywhere else.
    pub fn health_check(&self) -> HealthCheck {
        self.health.clone()
    }

    /// What the worker is doing. Cheap.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Follows the status: its value changes whenever anything but the end of the lease does.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the worker is in `state`. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if that takes longer than `timeout`, and what ended the worker if it ends before.
    pub async fn wait_for_state(&self, state: WorkerState, timeout: Duration) -> Result<Status, Error> {
        self.wait_for(&format!("state {state}"), timeout, |status| status.state == state).await
    }

    /// Waits until the worker's status is as `wanted`; `what` names that in the error. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if that takes longer than `timeout`, and what ended the worker if it ends before.
    pub async fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status, Error> {
        let mut status = self.status.clone();
        let reached = async { status.wait_for(|status| wanted(status)).await.map(|status| status.clone()) };
        tokio::select! {
            biased;
            Ok(status) = reached => Ok(status),
            ended = self.finished() => Err(ended.err().unwrap_or(Error::new(ErrorKind::Stopped))),
            () = tokio::time::sleep(timeout) => {
                let state = self.status.borrow().state;
                Err(Error::new(ErrorKind::TimedOut { what: what.into(), waited: timeout, state }))
            }
        }
    }

    /// Reads the partition list again now, where it comes from a bucket or from a [`Source`](crate::Source) of one's
    /// own. Returns at once.
    pub fn refresh_partitions(&self) {
        self.refresh.notify_one();
    }

    /// Replaces the list of partitions to divide, where it was given as such. All workers of the group should be given
    /// the same list.
    pub fn update_partitions(&self, partitions: PartitionList) {
        self.send(Event::Partitions(partitions));
    }

    /// Lets the worker hand everything over to others and leave. Returns at once; see [`finished`](Self::finished).
    pub fn stop(&self) {
        self.send(Event::Command(Command::Leave));
    }

    /// Lets the worker stop, and its slot and partitions wait for its successor: for a restart that moves nothing.
    /// Returns at once; see [`finished`](Self::finished).
    pub fn restart(&self) {
        self.send(Event::Command(Command::Restart));
    }

    /// What is needed to stop this worker from anywhere else.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.inputs.clone())
    }

    /// Lets the worker hand everything over to others, but stay: for maintenance of what it depends on. It takes part
    /// again after [`undrain`](Self::undrain), and so does its successor. Returns at once; it is done when the
    /// [`assignment`](Self::assignment) is empty. A worker that nobody is there to take over from keeps everything.
    pub fn drain(&self) {
        self.send(Event::Command(Command::Drain));
    }

    /// Lets the worker take part again after [`drain`](Self::drain). Returns at once.
    pub fn undrain(&self) {
        self.send(Event::Command(Command::Undrain));
    }

    /// Asks for another worker to have `partition`, which this one holds. Returns at once. It is worked on here until
    /// [`Change::Releasing`], which comes only where there is another worker that may have it and has not given it back
    /// itself; it does not come back for a minute. One whose handler cannot go on at all is better given back by
    /// [`Guard::give_back`](crate::Guard::give_back).
    pub fn give_back(&self, partition: &PartitionId) {
        // An error means that the worker has stopped already, and holds nothing.
        let _ = self.inputs.send(Input::GiveBack { partition: partition.clone() });
    }

    /// Lets the worker plan now, if it leads, without waiting for a window or an interval.
    pub fn rebalance_now(&self) {
        self.send(Event::Command(Command::RebalanceNow));
    }

    /// Waits until the worker has stopped. Cancel-safe.
    ///
    /// # Errors
    ///
    /// What made it stop, if nobody asked it to.
    pub async fn finished(&self) -> Result<(), Error> {
        ended(&self.end).await
    }

    fn send(&self, event: Event) {
        // An error means that the worker has stopped already, and `finished` says why.
        let _ = self.inputs.send(Input::Event(event));
    }
}

/// Waits until a worker has ended, and tells how.
pub(crate) async fn ended(end: &watch::Receiver<Option<Result<(), Error>>>) -> Result<(), Error> {
    let mut end = end.clone();
    let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
    // An error means that the runtime has dropped the worker.
    ended.ok().flatten().unwrap_or(Err(Error::new(ErrorKind::Stopped)))
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_looked_up_by_name_walked_and_shown_as_one_line_of_json() {
        let ids = ["b", "a"].map(|id| PartitionId::new(id).expect("a valid id"));
        let assignment = Assignment::new(ids.clone().map(|id| (id, Token::default())).into());
        assert!(assignment.contains("a") && assignment.contains(&ids[0]) && !assignment.contains("c"));
        assert_eq!((assignment.token("b"), assignment.token("c")), (Some(Token::default()), None));
        assert_eq!((&assignment).into_iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let token = Token::default();
        assert_eq!(
            serde_json::to_string(&assignment).expect("plain data"),
            format!(r#"{{"a":"{token}","b":"{token}"}}"#)
        );
    }
}
