//! What the core asks of the store and of other workers, carried out beside the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parti_core::{Bucket, CheckId, Event, GroupName, Instance, Interest, KvEvent, ProbeId, Request, Session, WatchId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;

use crate::clock;
use crate::connection::{Connection, News};
use crate::error::{Error, ErrorKind};
use crate::kv::Store;
use crate::metrics::Metrics;
use crate::probe::{Ear, Prober};
use crate::snapshot;
use crate::watch::Watch;

/// How many pieces of news from the store may wait.
const EVENT_QUEUE: usize = 1024;

/// How often the probe subject is subscribed in vain before the client connects anew.
const LISTENS_BEFORE_RECONNECT: u32 = 4;

/// Writes, watches and probes under way; what comes of them is news for the core.
#[derive(Debug)]
pub(crate) struct Transport {
    connection: Connection,
    group: GroupName,
    prober: Prober,
    ear: Ear,
    /// What listens on the own probe subject.
    listening: Option<AbortHandle>,
    /// How often it has listened anew without hearing itself.
    unheard_listens: u32,
    store: Store,
    /// How often a watch reads the store again though nothing seems lost.
    interval: Duration,
    /// How many copies to keep of a bucket that has to be made anew.
    replicas: usize,
    events: mpsc::Sender<Event>,
    /// Why the connection was closed for good, once it is.
    closed: oneshot::Receiver<Error>,
    watches: BTreeMap<Bucket, AbortHandle>,
    /// Everything that runs beside the loop, and ends with it.
    tasks: JoinSet<()>,
}

impl Transport {
    /// The transport, and what comes of all that it is asked for.
    pub(crate) fn new(
        connection: Connection,
        group: GroupName,
        config: &parti_core::Config,
        replicas: usize,
        metrics: Arc<Metrics>,
        instance: Instance,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, news) = mpsc::channel(EVENT_QUEUE);
        let store = Store::new(connection.clone(), &group).measured(metrics);
        let timeout = config.probe_interval.min(connection.request_timeout);
        let prober = Prober { connection: connection.clone(), group: group.clone(), timeout };
        let ear = Ear::new(prober.clone(), instance, clock::random_seed(), events.clone());
        let (interval, listening, watches, mut tasks) = (config.lease, None, BTreeMap::new(), JoinSet::new());
        let (closing, closed) = oneshot::channel();
        tasks.spawn(tell_of_connection(connection.news(), events.clone(), closing).in_current_span());
        let transport = Self {
            connection,
            group,
            prober,
            ear,
            listening,
            unheard_listens: 0,
            store,
            interval,
            replicas,
            events,
            closed,
            watches,
            tasks,
        };
        (transport, news)
    }

    /// Listens on the own probe subject, in place of what did before.
    pub(crate) fn listen(&mut self) {
        self.unheard_listens += 1;
        if self.unheard_listens > LISTENS_BEFORE_RECONNECT && self.connection.is_own {
            self.unheard_listens = 0;
            tracing::warn!(event = "reconnecting", "to listen anew has not helped: connecting anew");
            let client = self.connection.client.clone();
            self.tasks.spawn(async move {
                // An error means that the client is closed, which others notice.
                let _ = client.force_reconnect().await;
            });
        }
        let listening = self.tasks.spawn(self.ear.clone().listen().in_current_span());
        if let Some(older) = self.listening.replace(listening) {
            older.abort();
        }
    }

    /// It has heard itself.
    pub(crate) fn heard(&mut self) {
        self.unheard_listens = 0;
    }

    /// Asks itself whether it is there.
    pub(crate) fn check(&mut self, session: Session, check: CheckId) {
        self.tasks.spawn(self.ear.clone().check(session, check).in_current_span());
    }

    pub(crate) fn write(&mut self, request: Request) {
        let store = self.store.clone();
        let span = tracing::debug_span!("parti_write", key = %request.write.key());
        let done = async move {
            let outcome = store.execute(&request.write).await;
            tracing::trace!(event = "written", ?outcome, "a write has an outcome");
            Event::Kv(KvEvent::Done { operation: request.operation, outcome })
        };
        self.spawn(done.instrument(span));
    }

    /// Watches in place of what was watched in that bucket before.
    pub(crate) fn watch(&mut self, watch: WatchId, bucket: Bucket, interest: Interest) {
        let request = snapshot::Request { watch, bucket, interest };
        let (connection, events) = (self.connection.clone(), self.events.clone());
        let watch = Watch::new(connection, &self.group, request, events, self.interval).recreating(self.replicas);
        let span = tracing::debug_span!("parti_watch", %bucket);
        if let Some(older) = self.watches.insert(bucket, self.tasks.spawn(watch.run().instrument(span))) {
            older.abort();
        }
    }

    pub(crate) fn probe(&mut self, probe: ProbeId, instance: Instance, through: Option<Instance>) {
        let prober = self.prober.clone();
        self.spawn(async move {
            let (outcome, server) = match through {
                None => prober.ask(instance).await,
                Some(helper) => prober.ask_through(helper, instance).await,
            };
            Event::Probed { probe, outcome, server }
        });
    }

    /// Returns when the connection was closed for good. Not to be called again after that.
    pub(crate) async fn closed(&mut self) -> Error {
        let told = (&mut self.closed).await;
        told.unwrap_or_else(|_| Error::new(ErrorKind::ConnectionClosed))
    }

    /// Lets go of what has ended. A worker without its watches or its writes would do harm by doing nothing, so that a
    /// panic of one of them is one of the worker.
    pub(crate) fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Runs `work` beside the loop, and reports what comes of it.
    fn spawn(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        let report = async move {
            let event = work.await;
            // An error means that the core is gone.
            let _ = events.send(event).await;
        };
        self.tasks.spawn(report.in_current_span());
    }
}

/// Tells of each break and each return of the connection, on the same path as what is watched.
async fn tell_of_connection(mut news: News, events: mpsc::Sender<Event>, closing: oneshot::Sender<Error>) {
    loop {
        match news.next().await {
            Ok(news) => {
                if events.send(Event::Kv(news)).await.is_err() {
                    return; // the core is gone
                }
            }
            Err(error) => {
                // An error means the same.
                let _ = closing.send(error);
                return;
            }
        }
    }
}
