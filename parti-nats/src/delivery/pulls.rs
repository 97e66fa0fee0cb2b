//! The pulls of a worker that are open, and how to acknowledge what they have shown.

use std::collections::BTreeMap;
use std::convert::Infallible;

use async_nats::Subject;
use parti_core::PartitionId;
use parti_core::delivery::{Answer, CallId, Pulled, Sequence};
use tokio::sync::{mpsc, oneshot};

use crate::delivery::message::Body;
use crate::delivery::pull::{self, News, Wanted};

/// How many pieces of all pulls wait to be taken in.
const QUEUE: usize = 16;

/// The pulls that are open.
pub(crate) struct Pulls {
    /// Each pull is closed when its sender is dropped.
    open: BTreeMap<CallId, oneshot::Sender<Infallible>>,
    /// Where each message that was shown is acknowledged, by its last delivery.
    replies: BTreeMap<PartitionId, BTreeMap<Sequence, Subject>>,
    /// The acknowledgements that are on their way.
    acknowledging: BTreeMap<CallId, (PartitionId, Vec<Sequence>)>,
    news: mpsc::Receiver<News>,
    newsroom: mpsc::Sender<News>,
}

impl Pulls {
    pub(crate) fn new() -> Self {
        let (newsroom, news) = mpsc::channel(QUEUE);
        Self { open: BTreeMap::new(), replies: BTreeMap::new(), acknowledging: BTreeMap::new(), news, newsroom }
    }

    /// What a pull shows next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }

    pub(crate) fn begin(&mut self, wanted: Wanted) {
        let (open, closed) = oneshot::channel();
        self.open.insert(wanted.call, open);
        tokio::spawn(pull::run(wanted, self.newsroom.clone(), closed));
    }

    /// Ends a pull. It says when it is over.
    pub(crate) fn end(&mut self, pull: CallId) {
        self.open.remove(&pull);
    }

    /// A pull is over.
    pub(crate) fn forget(&mut self, pull: CallId) {
        self.open.remove(&pull);
    }

    /// Keeps how to acknowledge what was shown, and returns that.
    pub(crate) fn keep(&mut self, partition: &PartitionId, shown: Vec<(Pulled<Body>, Subject)>) -> Vec<Pulled<Body>> {
        let replies = self.replies.entry(partition.clone()).or_default();
        let keep = |(pulled, reply): (Pulled<Body>, Subject)| {
            replies.insert(pulled.message.sequence, reply);
            pulled
        };
        shown.into_iter().map(keep).collect()
    }

    /// Where these messages are acknowledged, until the answer to this call has come.
    pub(crate) fn acknowledging(
        &mut self,
        call: CallId,
        partition: &PartitionId,
        messages: Vec<Sequence>,
    ) -> Vec<Subject> {
        let replies = self.replies(partition, &messages);
        self.acknowledging.insert(call, (partition.clone(), messages));
        replies
    }

    /// The answer to an acknowledgement has come, whatever it is.
    pub(crate) fn observe_answer(&mut self, call: CallId, answer: &Answer<Body>) {
        let Some((partition, messages)) = self.acknowledging.remove(&call) else { return };
        if let (Answer::Acknowledged, Some(replies)) = (answer, self.replies.get_mut(&partition)) {
            for message in messages {
                replies.remove(&message);
            }
        }
    }

    /// Where these messages are acknowledged.
    pub(crate) fn replies(&self, partition: &PartitionId, messages: &[Sequence]) -> Vec<Subject> {
        let replies = self.replies.get(partition);
        messages.iter().filter_map(|message| replies?.get(message).cloned()).collect()
    }

    /// Nothing more of a partition is acknowledged.
    pub(crate) fn drop_replies(&mut self, partition: &PartitionId) {
        self.replies.remove(partition);
    }
}
