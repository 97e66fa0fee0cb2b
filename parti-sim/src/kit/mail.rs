//! Messages under virtual time: what a user's handlers are handed, and what they say.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use parti_core::delivery::{Handed, Lost, PartitionMessage, PartitionMessages, Sequence};
use parti_core::{PartitionGuard, PartitionId, Token};

use super::guard::{Guard, TaskId};
use super::seen::Life;

/// One message of one partition in a simulated cluster: the same as `parti_nats::Delivered`, under virtual time. See
/// [`PartitionMessage`].
#[derive(Clone)]
pub struct Message {
    guard: Arc<Guard>,
    sequence: Sequence,
    tries: u32,
    payload: Arc<[u8]>,
    mail: Arc<Mail>,
}

impl Message {
    /// In which process of the cluster it is.
    pub fn life(&self) -> Life {
        self.guard.life()
    }

    /// Ends the process that works on it, as a message does that no handler survives; another one is started soon. Never
    /// returns.
    pub async fn end_process(&self) {
        self.mail.books().said.push((self.guard.task(), Say::Dies(self.sequence)));
        std::future::pending::<()>().await;
    }
}

impl PartitionMessage for Message {
    fn partition(&self) -> &PartitionId {
        self.guard.partition()
    }

    fn token(&self) -> Token {
        self.guard.token()
    }

    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn tries(&self) -> u32 {
        self.tries
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }

    async fn sleep(&self, time: Duration) {
        self.guard.sleep(time).await;
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = String::from_utf8_lossy(&self.payload);
        write!(f, "{} of {}: {payload:?}", self.sequence, self.partition())
    }
}

/// The messages of one partition in a simulated cluster: the same as `parti_nats::Messages`, under virtual time. See
/// [`PartitionMessages`].
#[derive(Debug)]
pub struct Messages {
    /// None once the work has ended.
    guard: Option<Arc<Guard>>,
    partition: PartitionId,
    token: Token,
    task: TaskId,
    mail: Arc<Mail>,
}

impl Messages {
    pub(super) fn new(guard: Guard, mail: Arc<Mail>) -> Self {
        let (partition, token, task) = (guard.partition().clone(), guard.token(), guard.task());
        Self { guard: Some(Arc::new(guard)), partition, token, task, mail }
    }

    /// In which process of the cluster they are.
    ///
    /// # Panics
    ///
    /// Never: the guard goes when the work ends.
    pub fn life(&self) -> Life {
        self.guard.as_ref().expect("the work has not ended").life()
    }

    fn say(&self, say: Say) -> Result<(), Lost> {
        let mut books = self.mail.books();
        match books.posts.get(&self.task).map(|post| post.over.clone()) {
            Some(None) => {
                books.said.push((self.task, say));
                Ok(())
            }
            Some(Some(reason)) => Err(Lost { partition: self.partition.clone(), reason }),
            None => {
                Err(Lost { partition: self.partition.clone(), reason: "the hold of the partition has ended".into() })
            }
        }
    }

    /// Waits until something is handed out, or nothing will be any more.
    async fn arrives(&self) {
        poll_fn(|context| {
            let mut books = self.mail.books();
            let Books { posts, said, .. } = &mut *books;
            let Some(post) = posts.get_mut(&self.task).filter(|post| post.over.is_none() && post.ready.is_empty())
            else {
                return Poll::Ready(());
            };
            post.waiting = Some(context.waker().clone());
            if !std::mem::replace(&mut post.wants, true) {
                said.push((self.task, Say::Want));
            }
            Poll::Pending
        })
        .await;
    }

    fn take(&self, guard: &Arc<Guard>) -> Option<Message> {
        let mut books = self.mail.books();
        let post = books.posts.get_mut(&self.task).filter(|post| post.over.is_none())?;
        let Handed { message, tries, .. } = post.ready.pop_front()?;
        books.said.push((self.task, Say::Begun(message.sequence, tries)));
        let payload = books.payloads.get(&message.body).cloned().unwrap_or_default();
        let (guard, mail) = (Arc::clone(guard), Arc::clone(&self.mail));
        Some(Message { guard, sequence: message.sequence, tries, payload, mail })
    }

    /// Waits until a message is ready and work on it may begin; none when the work is to end.
    async fn first(&self) -> Option<(Message, Arc<Guard>)> {
        let guard = Arc::clone(self.guard.as_ref()?);
        loop {
            if !guard.may_work().await {
                return None;
            }
            if let Some(message) = self.take(&guard) {
                return Some((message, guard));
            }
            if self.mail.is_over(self.task) {
                return None;
            }
            let (mut released, mut arrives) = (pin!(guard.released()), pin!(self.arrives()));
            poll_fn(|context| {
                let is_over = released.as_mut().poll(context).is_ready();
                if is_over { Poll::Ready(()) } else { arrives.as_mut().poll(context) }
            })
            .await;
        }
    }

    fn hand_back(&self, message: &Message, failed: Option<String>) -> Result<(), Lost> {
        if let Some(post) = self.mail.books().posts.get_mut(&self.task) {
            post.ready.clear(); // What was handed out behind it comes again as well.
        }
        self.say(Say::Return { from: message.sequence, failed })
    }

    /// Drops the guard: the work has ended.
    fn leave(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let over = self.mail.books().posts.get(&self.task).and_then(|post| post.over.clone());
        // Where a handler has kept a message, the guard goes with that.
        if let (Some(guard), Some(reason)) = (Arc::into_inner(guard), over) {
            guard.fail(reason);
        }
    }
}

impl PartitionMessages for Messages {
    type Message = Message;

    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn token(&self) -> Token {
        self.token
    }

    async fn next(&mut self) -> Option<Message> {
        Some(self.first().await?.0)
    }

    async fn next_batch(&mut self, most: usize) -> Vec<Message> {
        let Some((first, guard)) = self.first().await else { return Vec::new() };
        let more = std::iter::from_fn(|| self.take(&guard)).take(most.saturating_sub(1));
        std::iter::once(first).chain(more).collect()
    }

    fn commit(&mut self, message: &Message) -> Result<(), Lost> {
        self.say(Say::Finish(message.sequence))
    }

    async fn stored(&mut self, message: &Message) -> Result<(), Lost> {
        self.say(Say::Store)?;
        let stored = poll_fn(|context| self.mail.is_stored(self.task, message.sequence, context.waker())).await;
        stored.map_err(|reason| Lost { partition: self.partition.clone(), reason })
    }

    async fn retry(&mut self, message: Message, reason: String) -> Result<(), Lost> {
        self.hand_back(&message, Some(reason))
    }

    async fn put_back(&mut self, message: Message) -> Result<(), Lost> {
        self.hand_back(&message, None)
    }

    async fn interrupted(&self) {
        if let Some(guard) = &self.guard {
            guard.interrupted().await;
        }
    }

    fn is_valid(&self) -> bool {
        !self.mail.is_over(self.task) && self.guard.as_ref().is_some_and(|guard| guard.is_valid())
    }

    async fn finish(mut self) -> Result<(), Lost> {
        self.leave();
        let task = self.task;
        let end = poll_fn(|context| self.mail.end_of(task, context.waker())).await;
        end.map_err(|reason| Lost { partition: self.partition.clone(), reason })
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a handler says of its messages.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// It waits for more.
    Want,
    /// It begins with this one, which was tried so often.
    Begun(Sequence, u32),
    /// Everything up to here is finished.
    Finish(Sequence),
    /// What is finished is to be stored now.
    Store,
    /// From here on nothing is finished.
    Return { from: Sequence, failed: Option<String> },
    /// This message ends its process.
    Dies(Sequence),
}

/// A message that was given up, as [`Cluster::dead_letters`](super::Cluster::dead_letters) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which partition it was of.
    pub partition: PartitionId,
    /// Its number in the stream.
    pub sequence: Sequence,
    /// What it says.
    pub payload: Vec<u8>,
    /// How often it was tried.
    pub tries: u32,
    /// Why it failed the last time; none if its process ended.
    pub reason: Option<String>,
}

/// Where messages wait for handlers, and what these say waits for the world. Never locked while a handler runs.
#[derive(Debug, Default)]
pub(crate) struct Mail(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    posts: BTreeMap<TaskId, Post>,
    said: Vec<(TaskId, Say)>,
    /// What each message says, by its number in the order of publications.
    payloads: BTreeMap<u64, Arc<[u8]>>,
    dead: Vec<DeadLetter>,
}

/// The messages of one hold of one partition.
#[derive(Debug, Default)]
struct Post {
    ready: VecDeque<Handed<u64>>,
    wants: bool,
    waiting: Option<Waker>,
    /// Why nothing can be stored any more.
    over: Option<String>,
    /// Everything up to here is stored as finished.
    stored: Sequence,
    /// Whether the last write is done.
    let_go: bool,
}

impl Mail {
    /// Nobody panics while they have it.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hold of a partition begins.
    pub(crate) fn open(&self, task: TaskId) {
        self.books().posts.insert(task, Post::default());
    }

    /// Messages are handed out.
    pub(crate) fn hand(&self, task: TaskId, messages: &[Handed<u64>]) {
        self.change(task, |post| {
            post.wants = false;
            post.ready.extend(messages.iter().copied());
        });
    }

    /// Everything up to here is stored as finished.
    pub(crate) fn store(&self, task: TaskId, through: Sequence) {
        if self.books().posts.get(&task).is_some_and(|post| post.stored < through) {
            self.change(task, |post| post.stored = through);
        }
    }

    /// The last write of a hold is done.
    pub(crate) fn let_go(&self, task: TaskId) {
        self.change(task, |post| post.let_go = true);
    }

    /// Nothing can be stored under a hold any more.
    pub(crate) fn close(&self, task: TaskId, reason: &str) {
        self.change(task, |post| _ = post.over.get_or_insert_with(|| reason.to_owned()));
    }

    fn change(&self, task: TaskId, change: impl FnOnce(&mut Post)) {
        let mut books = self.books();
        let Some(post) = books.posts.get_mut(&task) else { return };
        change(post);
        let waiting = post.waiting.take();
        drop(books); // who is woken may look at it
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn is_over(&self, task: TaskId) -> bool {
        self.books().posts.get(&task).is_none_or(|post| post.over.is_some())
    }

    fn is_stored(&self, task: TaskId, through: Sequence, waker: &Waker) -> Poll<Result<(), String>> {
        let mut books = self.books();
        let gone = || Poll::Ready(Err("the hold of the partition has ended".into()));
        let Some(post) = books.posts.get_mut(&task) else { return gone() };
        if post.stored >= through {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &post.over {
            return Poll::Ready(Err(reason.clone()));
        }
        post.waiting = Some(waker.clone());
        Poll::Pending
    }

    fn end_of(&self, task: TaskId, waker: &Waker) -> Poll<Result<(), String>> {
        let mut books = self.books();
        let Some(post) = books.posts.get_mut(&task) else { return Poll::Ready(Ok(())) };
        match (&post.over, post.let_go) {
            (Some(reason), _) => Poll::Ready(Err(reason.clone())),
            (None, true) => Poll::Ready(Ok(())),
            (None, false) => {
                post.waiting = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// What was said since the last time.
    pub(crate) fn take_said(&self) -> Vec<(TaskId, Say)> {
        std::mem::take(&mut self.books().said)
    }

    /// What a message says.
    pub(crate) fn publish(&self, number: u64, payload: &[u8]) {
        self.books().payloads.insert(number, payload.into());
    }

    /// A message is given up.
    pub(crate) fn bury(&self, partition: PartitionId, handed: (Sequence, u64), tries: u32, reason: Option<String>) {
        let (sequence, number) = handed;
        let mut books = self.books();
        let payload = books.payloads.get(&number).map(|payload| payload.to_vec()).unwrap_or_default();
        books.dead.push(DeadLetter { partition, sequence, payload, tries, reason });
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.books().dead.clone()
    }
}
