//! The messages of one partition, as the application gets them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use parti_core::delivery::{Handed, Lost, PartitionMessages, Request, Sequence};
use parti_core::{PartitionId, Token};
use tokio::sync::{mpsc, oneshot};

use crate::delivery::message::{Body, Delivered};
use crate::guard::Guard;

/// How many messages are asked for at once, so that the task does not wait for each of them.
const AT_ONCE: u32 = 64;

/// What the application says to delivery.
#[derive(Debug)]
pub(crate) enum Call {
    Request(Request<Body>),
    /// Nothing more is wanted for now. The answer is [`News::Settled`], after everything that was handed out before.
    Settle(PartitionId),
    /// To be told when everything up to here is stored as finished.
    Stored(PartitionId, Sequence, oneshot::Sender<()>),
    /// The application is done. With it, how its work ended, and whom to tell that the last write is done.
    Leave(PartitionId, Token, End, Option<oneshot::Sender<()>>),
}

/// How the application's work on a partition ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Failed(String),
}

/// What delivery says to the application.
#[derive(Debug)]
pub(crate) enum News {
    Handed(Vec<Handed<Body>>),
    Settled,
}

/// The messages of one partition, in stream order: one after another, or in batches.
///
/// A message is finished once it is [committed](Self::commit), and every one before it. What is finished is stored within a
/// second or so, and always before the partition moves; what is not comes again, here or elsewhere.
///
/// State that belongs to the partition is a local variable of the task that has this. Dropping it ends the work.
#[derive(Debug)]
pub struct Messages {
    /// None once the work has ended: it goes before delivery is told so.
    guard: Option<Arc<Guard>>,
    partition: PartitionId,
    token: Token,
    calls: mpsc::UnboundedSender<Call>,
    news: mpsc::UnboundedReceiver<News>,
    ready: VecDeque<Handed<Body>>,
    /// Whether messages were asked for and have not come.
    wants: bool,
    over: Arc<OnceLock<String>>,
    end: End,
}

impl Messages {
    pub(crate) fn new(
        guard: Arc<Guard>,
        calls: mpsc::UnboundedSender<Call>,
        news: mpsc::UnboundedReceiver<News>,
        over: Arc<OnceLock<String>>,
    ) -> Self {
        let (partition, token) = (guard.partition().clone(), guard.token());
        let (ready, wants, end) = (VecDeque::new(), false, End::Finished);
        Self { guard: Some(guard), partition, token, calls, news, ready, wants, over, end }
    }

    /// Which partition.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// The fencing token to send along with each write that the work makes.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The next message; `None` when the work is to end: the partition moves, is another's, or its position cannot be stored. Then finish
    /// what is to be finished, commit it, and call [`finish`](Self::finish). Waits out suspensions. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivered> {
        self.fill().await?;
        let handed = self.ready.pop_front()?;
        Some(Delivered::new(&self.partition, self.token, handed))
    }

    /// The next messages, at least one and at most `most`; none when the work is to end, as with [`next`](Self::next).
    /// Cancel-safe.
    pub async fn next_batch(&mut self, most: usize) -> Vec<Delivered> {
        if self.fill().await.is_none() {
            return Vec::new();
        }
        let count = most.max(1).min(self.ready.len());
        self.ready.drain(..count).map(|handed| Delivered::new(&self.partition, self.token, handed)).collect()
    }

    /// Waits until a message is ready and work on it may begin.
    async fn fill(&mut self) -> Option<()> {
        loop {
            let guard = self.guard.as_ref()?;
            if !guard.may_work().await {
                return None;
            }
            if !self.ready.is_empty() {
                return Some(());
            }
            if !self.wants {
                self.wants = true;
                let want = Request::Want { partition: self.partition.clone(), most: AT_ONCE };
                self.calls.send(Call::Request(want)).ok()?;
            }
            tokio::select! {
                news = self.news.recv() => match news? {
                    News::Handed(messages) => {
                        self.wants = false;
                        self.ready.extend(messages);
                    }
                    News::Settled => self.wants = false,
                },
                // An ended hold has no reason any more.
                _ = guard.released() => return None,
            }
        }
    }

    /// The message and all before it are finished. Returns at once: it is stored a little later, see
    /// [`stored`](Self::stored).
    ///
    /// # Errors
    ///
    /// [`Lost`] if it can never be stored: the partition is another's, or its position is.
    pub fn commit(&mut self, message: &Delivered) -> Result<(), Lost> {
        let finish = Request::Finish { partition: self.partition.clone(), through: message.sequence() };
        match self.calls.send(Call::Request(finish)) {
            Ok(()) if self.over.get().is_none() => Ok(()),
            Ok(()) | Err(_) => Err(self.lost()),
        }
    }

    /// Stores what is committed now, and waits until that is done. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it can never be stored.
    pub async fn stored(&mut self, message: &Delivered) -> Result<(), Lost> {
        let (sender, stored) = oneshot::channel();
        let partition = self.partition.clone();
        let asked = self.calls.send(Call::Request(Request::Commit { partition: partition.clone() }));
        let told = asked.and_then(|()| self.calls.send(Call::Stored(partition, message.sequence(), sender)));
        match told {
            Ok(()) => stored.await.map_err(|_| self.lost()),
            Err(_) => Err(self.lost()),
        }
    }

    /// The work on a message failed: it is tried again after a while, before all that follow, or goes to the dead letters.
    /// What was handed out behind it comes again as well.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the partition is another's by now.
    pub async fn retry(&mut self, message: Delivered, reason: impl Into<String>) -> Result<(), Lost> {
        self.hand_back(message, Some(reason.into())).await
    }

    /// The work on a message was interrupted: it comes again, before all that follow, and does not count as failed.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the partition is another's by now.
    pub async fn put_back(&mut self, message: Delivered) -> Result<(), Lost> {
        self.hand_back(message, None).await
    }

    async fn hand_back(&mut self, message: Delivered, failed: Option<String>) -> Result<(), Lost> {
        // What is on the way has to be here before anything is given back: the rest comes back as a whole.
        if self.wants {
            self.calls.send(Call::Settle(self.partition.clone())).map_err(|_| self.lost())?;
            while self.wants {
                match self.news.recv().await {
                    Some(News::Handed(messages)) => self.ready.extend(messages),
                    Some(News::Settled) => self.wants = false,
                    None => return Err(self.lost()),
                }
            }
        }
        let messages = [message.message].into_iter().chain(self.ready.drain(..).map(|handed| handed.message));
        let request = Request::Return { partition: self.partition.clone(), messages: messages.collect(), failed };
        self.calls.send(Call::Request(request)).map_err(|_| self.lost())
    }

    /// Returns as soon as the work must stop at once: work is suspended, or the partition is no longer this worker's.
    /// Cancel-safe. [`next`](Self::next) waits until it may go on, or says that it is over.
    pub async fn interrupted(&self) {
        if let Some(guard) = &self.guard {
            guard.interrupted().await;
        }
    }

    /// Whether work is allowed at this very moment. Cheap, and without a lock.
    pub fn is_valid(&self) -> bool {
        self.over.get().is_none() && self.guard.as_ref().is_some_and(|guard| guard.is_valid())
    }

    /// Ends the work: what is committed is stored, and then the partition may go.
    ///
    /// # Errors
    ///
    /// [`Lost`] if it was not stored: the partition was another's before. What was not stored comes again there.
    pub async fn finish(mut self) -> Result<(), Lost> {
        let (sender, done) = oneshot::channel();
        self.leave(Some(sender));
        done.await.map_err(|_| self.lost())
    }

    /// Says that the work cannot go on, and why, for people: the partition is offered again, or handed over, as
    /// [`Builder::retry`](crate::Builder::retry) says. What is committed is stored.
    pub fn fail(mut self, reason: impl Into<String>) {
        self.end = End::Failed(reason.into());
    }

    fn leave(&mut self, told: Option<oneshot::Sender<()>>) {
        if self.guard.take().is_some() {
            let end = match std::mem::replace(&mut self.end, End::Finished) {
                End::Finished if std::thread::panicking() => End::Failed("its handler has panicked".into()),
                end @ (End::Finished | End::Failed(_)) => end,
            };
            // An error means that delivery has ended, and stores nothing any more.
            let _ = self.calls.send(Call::Leave(self.partition.clone(), self.token, end, told));
        }
    }

    fn lost(&self) -> Lost {
        let reason = self.over.get().cloned().unwrap_or_else(|| "the hold of the partition has ended".into());
        Lost { partition: self.partition.clone(), reason }
    }
}

impl PartitionMessages for Messages {
    type Message = Delivered;

    fn partition(&self) -> &PartitionId {
        self.partition()
    }

    fn token(&self) -> Token {
        self.token()
    }

    async fn next(&mut self) -> Option<Delivered> {
        self.next().await
    }

    async fn next_batch(&mut self, most: usize) -> Vec<Delivered> {
        self.next_batch(most).await
    }

    fn commit(&mut self, message: &Delivered) -> Result<(), Lost> {
        self.commit(message)
    }

    async fn stored(&mut self, message: &Delivered) -> Result<(), Lost> {
        self.stored(message).await
    }

    async fn retry(&mut self, message: Delivered, reason: String) -> Result<(), Lost> {
        self.retry(message, reason).await
    }

    async fn put_back(&mut self, message: Delivered) -> Result<(), Lost> {
        self.put_back(message).await
    }

    async fn interrupted(&self) {
        self.interrupted().await;
    }

    fn is_valid(&self) -> bool {
        self.is_valid()
    }

    async fn finish(self) -> Result<(), Lost> {
        self.finish().await
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.leave(None);
    }
}
