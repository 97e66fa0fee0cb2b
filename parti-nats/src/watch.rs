//! Watches: what a bucket holds, and then each change of it.
//!
//! A bucket's stream repeats each accepted write to a plain subject. That subscription is the doorbell: no consumer
//! stands behind it that could be lost with a server. What it may miss is found and read again from the store: after
//! each break of the connection, on a gap in the sequence numbers, and from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::message::StreamMessage;
use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use parti_core::{Bucket, Event, GroupName, Incarnation, Interest, Key, KvEvent, Revision};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bucket::{self, Names};
use crate::clock::jittered;
use crate::connection::Connection;
use crate::kv::is_marker;
use crate::snapshot::{self, Change, Head, Request, Snapshot, number};

/// How soon after a sign of loss the store is read again; several signs are answered by one reading.
const AFTER_LOSS: Duration = Duration::from_millis(50);
/// How soon after a failed reading the next is tried.
const AFTER_FAILURE: Duration = Duration::from_millis(150);
/// How soon after a subscription the store is read once more: in a cluster the interest of a new subscriber takes a
/// moment to get around.
const AFTER_SUBSCRIBING: Duration = Duration::from_millis(500);

/// How often the store is read while news do not come by the doorbell.
const WHILE_SILENT: Duration = Duration::from_millis(400);
/// How often the doorbell is hung up anew meanwhile: the right to listen may have been taken away and given back.
const BETWEEN_SUBSCRIPTIONS: Duration = Duration::from_secs(3);
/// How many readings in a row must show what did not ring before the doorbell counts as silent: one may be quicker.
const SILENT_READINGS: u32 = 2;

/// How many changes may wait for one before them; what comes then is read from the store.
const MAX_AHEAD: usize = 10_000;

/// One watch of one bucket.
#[derive(Debug)]
pub(crate) struct Watch {
    connection: Connection,
    names: Names,
    request: Request,
    events: mpsc::Sender<Event>,
    /// How many copies to keep of the bucket if it has to be made anew; `None` if that is left to others.
    replicas: Option<usize>,
    /// The mean time from one reading of the store to the next where nothing is lost.
    interval: Duration,
    /// How often the connection had broken when the store was last read.
    breaks: u64,
    /// Which life of the bucket was read last; `None` if nothing is known, or no longer.
    incarnation: Option<Incarnation>,
    /// The greatest number of a life of the bucket that was read.
    greatest: Incarnation,
    /// The last revision shown of each key.
    shown: BTreeMap<Key, u64>,
    /// Every change up to this revision of the bucket is accounted for, by a reading or by the doorbell.
    heard: u64,
    /// Changes beyond it that the doorbell has told of, where all keys are of interest; nothing for a key that is not
    /// one of ours. They wait until the one that is missing before them has come: who has seen a change has seen all
    /// before it, and a leader appends on the strength of that.
    ahead: BTreeMap<u64, Option<Change>>,
    /// Whether the doorbell shows that something was missed since the last reading began.
    missed: bool,
    /// When the doorbell was hung up, and when it last rang.
    hung_at: Instant,
    rang_at: Instant,
    /// How many readings in a row have shown something that did not ring.
    silent_readings: u32,
    /// Where it is noted when each key was written, if anybody wants to know.
    written: Option<Arc<Written>>,
}

/// When each key was last written, by the clock of the server that took it: noted before the change is shown.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<BTreeMap<Key, SystemTime>>);

impl Written {
    pub(crate) fn of(&self, key: Key) -> Option<SystemTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    fn note(&self, key: Key, time: Option<SystemTime>) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match time {
            Some(time) => times.insert(key, time),
            None => times.remove(&key),
        };
    }
}

/// The subscriptions to the subjects of all keys of interest.
type Doorbell = SelectAll<Subscriber>;

impl Watch {
    pub(crate) fn new(
        connection: Connection,
        group: &GroupName,
        request: Request,
        events: mpsc::Sender<Event>,
        interval: Duration,
    ) -> Self {
        let names = Names::new(group, request.bucket);
        Self {
            connection,
            names,
            request,
            events,
            replicas: None,
            interval,
            breaks: 0,
            incarnation: None,
            greatest: Incarnation::default(),
            shown: BTreeMap::new(),
            heard: 0,
            ahead: BTreeMap::new(),
            missed: false,
            hung_at: Instant::now(),
            rang_at: Instant::now(),
            silent_readings: 0,
            written: None,
        }
    }

    /// The same, and it is noted there when each key was written.
    pub(crate) fn dated(self, written: Arc<Written>) -> Self {
        Self { written: Some(written), ..self }
    }

    /// The same, and a bucket that was deleted is created again, with `replicas` copies: whoever notices first does it,
    /// since the server lets one win, and all see a new life of the bucket.
    pub(crate) fn recreating(self, replicas: usize) -> Self {
        Self { replicas: Some(replicas), ..self }
    }

    /// Runs until the connection is closed for good or nobody wants to hear.
    pub(crate) async fn run(mut self) {
        // `None` says just that.
        let _ = self.run_until_closed().await;
    }

    async fn run_until_closed(&mut self) -> Option<()> {
        if self.request.bucket == Bucket::Members {
            let signs = &self.connection.signs;
            signs.unknown_wishes.forget(&signs.warnings);
        }
        let mut doorbell = self.subscribe().await?;
        loop {
            let fresh = self.incarnation.is_none();
            self.read(&mut doorbell).await?;
            let pause = match (fresh, self.is_silent()) {
                (true, _) => AFTER_SUBSCRIBING,
                (false, true) => WHILE_SILENT,
                (false, false) => self.interval,
            };
            if self.is_silent() && self.hung_at.elapsed() > BETWEEN_SUBSCRIPTIONS {
                doorbell = self.subscribe().await?;
                self.hung_at = Instant::now();
            }
            self.follow(&mut doorbell, Instant::now() + jittered(pause)).await?;
        }
    }

    async fn subscribe(&self) -> Option<Doorbell> {
        let prefix = &self.names.repeated;
        let subjects = match &self.request.interest {
            Interest::All => vec![format!("{prefix}>")],
            Interest::Keys(keys) => keys.iter().map(|key| format!("{prefix}{key}")).collect(),
        };
        let mut doorbell = Doorbell::new();
        for subject in subjects {
            doorbell.push(self.connection.client.subscribe(subject).await.ok()?);
        }
        Some(doorbell)
    }

    /// Reads the store, however many tries that takes, and shows what is new; meanwhile goes on with the doorbell.
    async fn read(&mut self, doorbell: &mut Doorbell) -> Option<()> {
        loop {
            if !self.connection.wait_until_up().await {
                return None;
            }
            self.breaks = self.connection.breaks();
            let (heard_before, missed_before) = (self.heard, self.has_missed());
            self.missed = false;
            // Whatever is real of it is in the store by now, and is read.
            self.ahead.clear();
            let (connection, names, request) = (self.connection.clone(), self.names.clone(), self.request.clone());
            if !missed_before && self.has_heard_all(doorbell).await? {
                return self.tell_caught_up().await;
            }
            let reading = snapshot::read(&connection, &names, &request);
            match self.meanwhile(doorbell, reading).await? {
                Ok(snapshot) if self.is_another_life(&snapshot, heard_before) => self.lose().await?,
                Ok(snapshot) => {
                    if self.show_all(snapshot, doorbell).await? {
                        return Some(());
                    }
                }
                Err(error) => {
                    tracing::debug!(bucket = self.names.bucket, error, "a bucket could not be read, trying again");
                    self.tell_unread(&error.to_string()).await;
                    tokio::time::sleep(jittered(AFTER_FAILURE)).await;
                }
            }
        }
    }

    /// What comes of `reading`, while the doorbell is listened to.
    async fn meanwhile<T>(
        &mut self,
        doorbell: &mut Doorbell,
        reading: impl Future<Output = Result<T, async_nats::Error>>,
    ) -> Option<Result<T, async_nats::Error>> {
        let (mut reading, connection) = (pin!(reading), self.connection.clone());
        loop {
            tokio::select! {
                read = &mut reading => return Some(read),
                message = ring(doorbell) => self.hear(message).await?,
                () = connection.broken_since(self.breaks) => return Some(Err("the connection broke".into())),
            }
        }
    }

    /// Whether there is nothing to read: the bucket is still in the life that is known, and each of its changes has
    /// been heard, or is at once. So it can only be where each is of interest, and nothing contradicts what was heard.
    async fn has_heard_all(&mut self, doorbell: &mut Doorbell) -> Option<bool> {
        let Some(known) = self.incarnation.filter(|_| self.request.interest == Interest::All) else {
            return Some(false);
        };
        let (connection, names, keys) = (self.connection.clone(), self.names.clone(), self.shown.len());
        let is_as_known = |head: &Head, heard| {
            let is_purged = usize::try_from(head.messages).is_ok_and(|messages| messages < keys);
            head.incarnation == known && heard <= head.last && !is_purged
        };
        match self.meanwhile(doorbell, snapshot::head(&connection, &names)).await? {
            Ok(found) if is_as_known(&found, self.heard) => {
                let heard = self.hear_until(doorbell, found.last).await? && !self.has_missed();
                if heard {
                    self.compare_with_doorbell(false);
                }
                Some(heard)
            }
            Ok(_) | Err(_) => Some(false),
        }
    }

    /// Listens until everything up to this revision is accounted for; false if it does not come.
    async fn hear_until(&mut self, doorbell: &mut Doorbell, revision: u64) -> Option<bool> {
        let patience = Instant::now() + AFTER_LOSS;
        while self.heard < revision {
            tokio::select! {
                message = ring(doorbell) => self.hear(message).await?,
                () = tokio::time::sleep_until(patience) => return Some(false),
            }
        }
        Some(true)
    }

    /// Whether the doorbell shows that something was missed, or that something known is no longer so.
    fn has_missed(&self) -> bool {
        self.missed || !self.ahead.is_empty()
    }

    /// The bucket could not be read: it is made anew if it is gone, or it is said why that cannot be done.
    async fn tell_unread(&self, why: &str) {
        if !self.connection.is_up() {
            return; // that is told by others
        }
        let created = match self.replicas {
            Some(replicas) => {
                bucket::ensure_after(&self.connection.jetstream, &self.names, replicas, self.greatest).await
            }
            None => Ok(()),
        };
        let why = created.map_or_else(|error| format!("{why}; {error}"), |()| why.to_owned());
        let signs = &self.connection.signs;
        signs.upkeep.unread(&self.names.bucket, &why, self.interval, &signs.warnings);
    }

    /// Whether changes do not come by the doorbell, so that the store has to be read again and again.
    fn is_silent(&self) -> bool {
        self.silent_readings >= SILENT_READINGS || !self.connection.signs.upkeep.is_repeated(&self.names.bucket)
    }

    /// The store was read, and `unheard` says whether it shows what did not ring.
    fn compare_with_doorbell(&mut self, unheard: bool) {
        self.silent_readings = if unheard { self.silent_readings.saturating_add(1) } else { self.silent_readings };
        let signs = &self.connection.signs;
        signs.upkeep.read(&self.names.bucket, &signs.warnings);
        signs.upkeep.silent(&self.names.bucket, self.is_silent(), &signs.warnings);
    }

    /// When the store has to be read though nothing seems lost, because the doorbell should have rung by then: every
    /// watch of the members has that of this worker among them, which it renews all the time.
    fn silence_ends(&self) -> Option<Instant> {
        (self.request.bucket == Bucket::Members && !self.is_silent()).then(|| self.rang_at + self.interval / 2)
    }

    /// Shows changes as the doorbell tells of them, until it is time to read the store again.
    async fn follow(&mut self, doorbell: &mut Doorbell, mut read_at: Instant) -> Option<()> {
        self.rang_at = Instant::now();
        loop {
            read_at = self.silence_ends().map_or(read_at, |at| read_at.min(at));
            if self.has_missed() {
                read_at = read_at.min(Instant::now() + jittered(AFTER_LOSS));
            }
            tokio::select! {
                message = ring(doorbell) => self.hear(message).await?,
                () = tokio::time::sleep_until(read_at) => return Some(()),
                () = self.connection.broken_since(self.breaks) => return self.lose().await,
            }
        }
    }

    /// Whether the bucket was made anew or purged, or has lost writes, since it was last read. A record that was shown
    /// leaves at least a marker, unless somebody purges.
    fn is_another_life(&self, snapshot: &Snapshot, heard_before: u64) -> bool {
        let listed: BTreeSet<Key> = snapshot.values.iter().map(|change| change.key).collect();
        let is_gone = |(key, revision): (&Key, &u64)| *revision <= snapshot.complete_to && !listed.contains(key);
        snapshot.is_of_another_life(self.incarnation, heard_before) || self.shown.iter().any(is_gone)
    }

    /// Says that the watch has broken, and forgets everything, so that the next reading shows everything.
    async fn lose(&mut self) -> Option<()> {
        self.incarnation = None;
        self.shown.clear();
        self.heard = 0;
        self.ahead.clear();
        self.send(KvEvent::WatchLost { watch: self.request.watch }).await
    }

    /// Shows what was read, and says so. False if what it lacks does not come by the doorbell, so that it has to be read
    /// again.
    async fn show_all(&mut self, snapshot: Snapshot, doorbell: &mut Doorbell) -> Option<bool> {
        let Snapshot { incarnation, last, complete_to, values } = snapshot;
        let is_news = |change: &Change| self.shown.get(&change.key).is_none_or(|shown| change.revision > *shown);
        let unheard = self.incarnation == Some(incarnation) && values.iter().any(is_news);
        self.compare_with_doorbell(unheard);
        self.heard = self.heard.max(complete_to);
        let mut newest = self.heard.max(last);
        for change in values {
            match self.request.interest {
                // It was written while others were read, and so were others perhaps that this reading does not show:
                // it comes by the doorbell, in its order.
                Interest::All if change.revision > self.heard => newest = newest.max(change.revision),
                Interest::All | Interest::Keys(_) => self.show(change).await?,
            }
        }
        self.incarnation = Some(incarnation);
        self.greatest = self.greatest.max(incarnation);
        self.ahead = self.ahead.split_off(&(self.heard + 1));
        self.show_ahead().await?;
        if !self.hear_until(doorbell, newest).await? {
            return Some(false);
        }
        self.tell_caught_up().await.map(|()| true)
    }

    async fn tell_caught_up(&mut self) -> Option<()> {
        let (watch, last) = (self.request.watch, Revision::new(self.heard));
        let incarnation = self.incarnation.expect("it was read");
        self.send(KvEvent::CaughtUp { watch, incarnation, last }).await
    }

    /// Shows what follows without a gap on what is accounted for.
    async fn show_ahead(&mut self) -> Option<()> {
        while let Some(change) = self.ahead.remove(&(self.heard + 1)) {
            self.heard += 1;
            if let Some(change) = change {
                self.show(change).await?;
            }
        }
        Some(())
    }

    async fn show(&mut self, change: Change) -> Option<()> {
        let Change { key, revision, written, event } = change;
        if self.shown.get(&key).is_some_and(|&shown| revision <= shown) {
            return Some(());
        }
        if let Some(times) = &self.written {
            times.note(key, written);
        }
        self.shown.insert(key, revision);
        self.send(event).await
    }

    /// Takes in what the doorbell says: shows it, and notes whether something before it was missed.
    async fn hear(&mut self, message: Message) -> Option<()> {
        self.rang_at = Instant::now();
        self.silent_readings = 0;
        let Some(revision) = number(&message, "Nats-Sequence") else {
            tracing::warn!(subject = %message.subject, "ignored a message that does not come from the bucket's stream");
            return Some(());
        };
        let name = message.subject.strip_prefix(self.names.repeated.as_str());
        let key = name.and_then(|name| Key::parse(self.request.bucket, name));
        let shown = key.and_then(|key| self.shown.get(&key).copied());
        // A revision below what was shown is either late news or that of another life of the bucket.
        self.missed |= shown.is_some_and(|shown| revision < shown);
        let deleted = message.headers.as_ref().is_some_and(is_marker);
        if let (Bucket::Members, Interest::All, None, Some(name)) =
            (self.request.bucket, &self.request.interest, key, name)
        {
            let signs = &self.connection.signs;
            signs.unknown_wishes.observe(name, deleted, &signs.warnings);
        }
        let written = self.written.as_ref().and_then(|_| time_of(&message));
        let change = key.map(|key| {
            let change = Change::new(self.request.watch, key, revision, deleted, &message.payload);
            Change { written, ..change }
        });
        match (&self.request.interest, change) {
            (Interest::All, change) => {
                if revision <= self.heard {
                    // Either it was read already, or it has taken the place of another one that the bucket has lost.
                    self.missed |= change.is_some() && shown < Some(revision);
                } else if self.ahead.len() < MAX_AHEAD {
                    self.ahead.insert(revision, change);
                }
                self.show_ahead().await
            }
            (Interest::Keys(_), Some(change)) => {
                let (previous, shown) = (number(&message, "Nats-Last-Sequence").unwrap_or(0), shown.unwrap_or(0));
                self.missed |= previous > shown;
                if revision > shown && previous < shown {
                    // It does not follow what was shown: the bucket was made anew, or has lost that.
                    self.missed = true;
                    return Some(());
                }
                self.heard = self.heard.max(revision);
                self.show(change).await
            }
            (Interest::Keys(_), None) => Some(()),
        }
    }

    async fn send(&self, event: KvEvent) -> Option<()> {
        self.events.send(Event::Kv(event)).await.ok()
    }
}

/// When the server took what a message of the doorbell repeats.
fn time_of(message: &Message) -> Option<SystemTime> {
    StreamMessage::try_from(message.clone()).ok().map(|stored| stored.time.into())
}

/// The next message of the doorbell. One that has ended never rings; the end of the connection is seen elsewhere.
async fn ring(doorbell: &mut Doorbell) -> Message {
    match doorbell.next().await {
        Some(message) => message,
        None => std::future::pending().await,
    }
}
