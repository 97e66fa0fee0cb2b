//! A group as it is, for whoever only looks: no slot, no lease, and nothing is written.

mod content;
mod forecast;
mod picture;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::jetstream::response::Response;
use parti_core::{Bucket, Config, Event, GroupName, Instant, Interest, Key, Revision, Source, WatchId};
use serde::Deserialize;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::bucket::{self, Names};
use crate::clock;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::health::Signs;
use crate::permissions;
use crate::positions::{self, PositionPicture, StreamEnds};
use crate::server;
use crate::source::{BucketSource, Listed};
use crate::warnings::Warning;
use crate::watch::{Watch, Written};

use content::Content;
pub use forecast::{Forecast, ForecastError, ForecastMove, Round, WhatIf};
pub(crate) use picture::harmless_words;
pub use picture::{
    AssignmentPicture, BucketPicture, ListPicture, Ownership, PartitionPicture, Picture, Presence, Unreadable, Wish,
    WorkerPicture, harmless,
};
pub use waiting::Waiting;

/// How many pieces of news from the store may wait.
const EVENT_QUEUE: usize = 1024;
/// How many changes may wait for one that listens to them, before it is told that it has missed some.
const MAX_UNHEARD: usize = 4096;
/// How often a bucket is read again though nothing seems lost, and the server is asked for its time of day.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Follows a group from outside: what it reads is a [`Picture`] at any moment, and a stream of [`Observed`] changes.
///
/// It takes no slot and no lease, asks no worker, and writes nothing; what it must be allowed is
/// [`Role::Observer`](crate::Role::Observer). Dropping it ends it.
///
/// ```no_run
/// # async fn look() -> Result<(), Box<dyn std::error::Error>> {
/// use parti_nats::{GroupName, Observer};
///
/// let client = async_nats::connect("nats://localhost:4222").await?;
/// let observer = Observer::open(client, &GroupName::new("orders")?).await?;
/// let picture = observer.snapshot();
/// for partition in picture.partitions() {
///     println!("{} is with {:?}", partition.id, partition.owner);
/// }
/// let settled = |picture: &parti_nats::Picture| picture.waits_for().is_empty();
/// observer.wait_for(std::time::Duration::from_secs(30), settled).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Observer {
    group: GroupName,
    connection: Connection,
    content: Arc<Mutex<Content>>,
    observed: broadcast::Sender<Observed>,
    _tasks: JoinSet<()>,
}

/// What an [`Observer`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// A record was written, be it one that cannot be read.
    Written {
        /// Its key.
        key: Key,
        /// The write.
        revision: Revision,
    },
    /// A record was deleted.
    Deleted {
        /// Its key.
        key: Key,
        /// The deletion.
        revision: Revision,
    },
    /// A bucket was read again as a whole: what the picture shows of it is all there was.
    Read(Bucket),
    /// A bucket is not followed for now, since the connection broke or the bucket was made anew. The picture stays as it
    /// was until the bucket is [read](Self::Read) again.
    Lost(Bucket),
    /// The stored partition list has changed, or can be read again, or no longer.
    List,
    /// Whoever listens was too slow: so many changes were passed over. The picture lacks nothing.
    Missed(u64),
}

/// What a server has said to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAnswer {
    /// Its time of day.
    pub time: SystemTime,
    /// When it was asked, by the clock of this process.
    pub asked_at: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// The changes from the moment on when it was asked for, see [`Observer::changes`].
#[derive(Debug)]
pub struct ObservedChanges {
    receiver: broadcast::Receiver<Observed>,
}

impl ObservedChanges {
    /// The next change; `None` once the observer is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Observed> {
        match self.receiver.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Observed::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Observer {
    /// Begins to follow `group`, and returns when all of it has been read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoGroup`] if there is none of that name; [`ErrorKind::Unanswered`] if the server does not answer what
    /// an observer has to ask, which is how a missing permission shows; [`ErrorKind::Unread`] if the buckets cannot be
    /// read; and what the server says.
    pub async fn open(client: Client, group: &GroupName) -> Result<Self, Error> {
        Self::open_in(client, group, None).await
    }

    /// The same where the group's buckets are in a `JetStream` domain, such as that of a leaf node.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_in_domain(client: Client, group: &GroupName, domain: &str) -> Result<Self, Error> {
        Self::open_in(client, group, Some(domain)).await
    }

    async fn open_in(client: Client, group: &GroupName, domain: Option<&str>) -> Result<Self, Error> {
        let config = Config { lease: LOOK_AGAIN, ..Config::default() };
        let connection = Connection::adopt(client, &config, Arc::new(Signs::new(group.as_str()))).await?;
        let connection = connection.in_domain(domain);
        let patient = connection.patient();
        bucket::assert_group(&patient.jetstream, group).await?;
        permissions::check_reading(&patient, group).await?;
        let (news, _) = broadcast::channel(MAX_UNHEARD);
        let content = Arc::new(Mutex::new(Content::default()));
        lock(&content).clock = Some(server_time(&connection, group).await?);
        let mut tasks = JoinSet::new();
        follow(&mut tasks, &connection, group, &content, &news);
        let observer = Self { group: group.clone(), connection, content, observed: news, _tasks: tasks };
        observer.wait_until_read().await?;
        Ok(observer)
    }

    /// The group as it is at this moment, as far as it has been heard.
    ///
    /// What is shown of one bucket is what it held at one revision. The two buckets, and the list, are each read by
    /// itself: a change that concerns both may show in one of them first.
    pub fn snapshot(&self) -> Picture {
        lock(&self.content).picture(&self.group, clock::now())
    }

    /// Each change from now on.
    pub fn changes(&self) -> ObservedChanges {
        ObservedChanges { receiver: self.observed.subscribe() }
    }

    /// What is wrong with the buckets or their server, in words; empty where all is well.
    pub fn warnings(&self) -> Vec<Warning> {
        self.connection.signs.warnings.list()
    }

    /// Waits until the picture is as `wanted`, which is asked after each change and from time to time, for at most so long.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotObserved`] if it was not so in time.
    pub async fn wait_for(&self, at_most: Duration, wanted: impl Fn(&Picture) -> bool) -> Result<Picture, Error> {
        const ASK_AGAIN: Duration = Duration::from_millis(200);
        const TOGETHER: Duration = Duration::from_millis(5);
        let mut changes = self.changes();
        let asking = async {
            loop {
                let picture = self.snapshot();
                if wanted(&picture) {
                    return picture;
                }
                // Silence ends things too. An error means that there was no change.
                let _ = tokio::time::timeout(ASK_AGAIN, changes.next()).await;
                // What comes in one go is looked at once.
                tokio::time::sleep(TOGETHER).await;
                while changes.receiver.try_recv().is_ok() {}
            }
        };
        let picture = tokio::time::timeout(at_most, asking).await;
        picture.map_err(|_| Error::new(ErrorKind::NotObserved { waited: at_most }))
    }

    /// How far the messages of each partition are finished, read now, in the order of the partitions; `None` in a group
    /// that messages do not follow. O(P) requests.
    ///
    /// It must be allowed `$JS.API.STREAM.INFO` and `$JS.API.STREAM.MSG.GET` of `KV_parti_<group>_positions`, beside
    /// [`Role::Observer`](crate::Role::Observer).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] if the server does not answer.
    pub async fn positions(&self) -> Result<Option<Vec<PositionPicture>>, Error> {
        positions::read_all(&self.connection.patient().jetstream, &self.group).await
    }

    /// What a stream of messages holds; `None` if there is none of that name. It must be allowed `$JS.API.STREAM.INFO` of
    /// that stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] if the server does not answer.
    pub async fn stream_ends(&self, stream: &str) -> Result<Option<StreamEnds>, Error> {
        positions::stream_ends(&self.connection.patient().jetstream, stream).await
    }

    /// Which version of nats-server the connection ends at.
    pub fn server_version(&self) -> String {
        self.connection.client.server_info().version
    }

    /// What is known to be wrong with that version, and what to do; none if nothing is.
    pub fn server_doubt(&self) -> Option<String> {
        server::doubt(&self.connection.client.server_info())
    }

    /// Asks the server that keeps the members for its time of day.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] if it does not answer.
    pub async fn ask_server(&self) -> Result<ServerAnswer, Error> {
        let asked_at = clock::now();
        let (time, answered_at) = server_time(&self.connection, &self.group).await?;
        Ok(ServerAnswer { time, asked_at, took: answered_at.since(asked_at) })
    }

    async fn wait_until_read(&self) -> Result<(), Error> {
        const PATIENCE: Duration = Duration::from_secs(15);
        let read = self.wait_for(PATIENCE, |picture| picture.live && lock(&self.content).list_was_read).await;
        read.map(drop).map_err(|_| {
            let said: Vec<String> = self.warnings().into_iter().map(|warning| warning.text).collect();
            Error::new(ErrorKind::Unread { group: self.group.clone(), waited: PATIENCE, said: said.join("; ") })
        })
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts all that keeps `content` as the store is.
fn follow(
    tasks: &mut JoinSet<()>,
    connection: &Connection,
    group: &GroupName,
    content: &Arc<Mutex<Content>>,
    observed: &broadcast::Sender<Observed>,
) {
    let (events, news) = mpsc::channel(EVENT_QUEUE);
    let written = Bucket::ALL.map(|bucket| {
        let (watch, written) = (WatchId::new(bucket as u64), Arc::<Written>::default());
        let request = crate::snapshot::Request { watch, bucket, interest: Interest::All };
        let watch = Watch::new(connection.clone(), group, request, events.clone(), LOOK_AGAIN);
        tasks.spawn(watch.dated(Arc::clone(&written)).run().in_current_span());
        written
    });
    tasks.spawn(take_in(news, written, Arc::clone(content), observed.clone()).in_current_span());
    let list = BucketSource::new(connection.clone(), group);
    tasks.spawn(follow_list(list, Arc::clone(content), observed.clone()).in_current_span());
    tasks.spawn(follow_clock(connection.clone(), group.clone(), Arc::clone(content)).in_current_span());
}

async fn take_in(
    mut news: mpsc::Receiver<Event>,
    written: [Arc<Written>; 2],
    content: Arc<Mutex<Content>>,
    observed: broadcast::Sender<Observed>,
) {
    while let Some(event) = news.recv().await {
        let Event::Kv(event) = event else { continue };
        let time = |key: Key| written[key.bucket() as usize].of(key);
        if let Some(change) = lock(&content).observe(event, time) {
            // An error means that nobody listens.
            let _ = observed.send(change);
        }
    }
}

async fn follow_list(mut source: BucketSource, content: Arc<Mutex<Content>>, observed: broadcast::Sender<Observed>) {
    loop {
        let listed = source.listed().await;
        let listed = match listed {
            Ok(listed) => {
                listed.map(|Listed { partitions, revision }| ListPicture { revision, partitions: Ok(partitions) })
            }
            Err(error) => {
                let why = harmless_words(&error.to_string());
                Some(ListPicture { revision: Revision::default(), partitions: Err(why) })
            }
        };
        let is_news = {
            let mut content = lock(&content);
            content.list_was_read = true;
            let is_news = content.list != listed;
            content.list = listed;
            is_news
        };
        if is_news {
            // An error means that nobody listens.
            let _ = observed.send(Observed::List);
        }
        source.changed().await;
    }
}

async fn follow_clock(connection: Connection, group: GroupName, content: Arc<Mutex<Content>>) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        // Where the server does not answer, the clock here goes on from what it has said last.
        if let Ok(time) = server_time(&connection, &group).await {
            lock(&content).clock = Some(time);
        }
    }
}

/// The time of day of the server that has the members, and when it was asked for: by that, and not by the clock of this
/// machine, records are old or new.
async fn server_time(connection: &Connection, group: &GroupName) -> Result<(SystemTime, Instant), Error> {
    #[derive(Deserialize)]
    struct Stamped {
        ts: Option<String>,
    }
    let names = Names::new(group, Bucket::Members);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        let Names { bucket, stream, .. } = names.clone();
        let source = std::io::Error::other(error);
        Error::with_source(ErrorKind::Store { bucket, stream, attempt: "looked at" }, source)
    };
    let asked: Result<Response<Stamped>, _> =
        connection.jetstream.request(format!("STREAM.INFO.{}", names.stream), &()).await;
    let asked_at = clock::now();
    let stamp = match asked.map_err(|error| failed(error.into()))? {
        Response::Ok(Stamped { ts }) => ts,
        Response::Err { error } => return Err(failed(error.into())),
    };
    let told = stamp.and_then(|stamp| async_nats::datetime::parse_rfc3339(&stamp).ok());
    Ok((told.map_or_else(SystemTime::now, SystemTime::from), asked_at))
}
