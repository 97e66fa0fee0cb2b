//! The loop: feed the core, drain it, do what it asks for.

use std::collections::BTreeMap;

use parti_core::{Action, Bucket, Config, Event, GroupName, KvEvent, PartitionId, Request, Token, Worker};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::application::Application;
use crate::connection::{Connection, News};
use crate::error::{Error, ErrorKind};
use crate::kv::Store;
use crate::publisher::Publisher;
use crate::watch::{self as watching, Watch};
use crate::{clock, notice, probe};

/// How many pieces of news from the store may wait.
const EVENT_QUEUE: usize = 1024;

/// What comes from the application.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the core.
    Event(Event),
    /// A guard was dropped.
    Finished { partition: PartitionId, token: Token },
}

/// What a worker is made of before there is a connection.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) worker: Worker,
    pub(crate) config: Config,
    pub(crate) group: GroupName,
    pub(crate) application: Application,
    pub(crate) publisher: Publisher,
}

/// One worker and everything that it acts through.
#[derive(Debug)]
pub(crate) struct Driver {
    parts: Parts,
    connection: Connection,
    news: News,
    store: Store,
    inputs: mpsc::UnboundedReceiver<Input>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    watches: BTreeMap<Bucket, AbortHandle>,
    /// Everything that runs beside the loop, and ends with it.
    tasks: JoinSet<()>,
}

impl Driver {
    pub(crate) fn new(parts: Parts, connection: Connection, inputs: mpsc::UnboundedReceiver<Input>) -> Self {
        let (store, news) = (Store::new(connection.clone(), &parts.group), connection.news());
        let (events, watches, tasks) = (mpsc::channel(EVENT_QUEUE), BTreeMap::new(), JoinSet::new());
        Self { parts, connection, news, store, inputs, events, watches, tasks }
    }

    /// Runs until the core halts.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let (client, instance) = (self.connection.client.clone(), self.parts.worker.status().instance);
        let questions = probe::listen(&client, &self.parts.group, instance).await;
        let questions = questions.map_err(|error| Error::with_source(ErrorKind::ConnectionClosed, error))?;
        self.tasks.spawn(probe::answer(client, questions));
        while !self.act() {
            match self.next_input().await? {
                Input::Event(event) => self.parts.worker.handle(clock::now(), event),
                Input::Finished { partition, token } => self.parts.application.finished(&partition, token),
            }
            while let Some(ended) = self.tasks.try_join_next() {
                // A worker without its watches or its writes would do harm by doing nothing.
                if let Err(error) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        Ok(())
    }

    async fn next_input(&mut self) -> Result<Input, Error> {
        tokio::select! {
            biased;
            news = self.news.next() => news.map(|news| Input::Event(Event::Kv(news))),
            Some(input) = self.inputs.recv() => Ok(input),
            Some(event) = self.events.1.recv() => Ok(Input::Event(event)),
            () = clock::sleep_until(self.parts.worker.poll_timeout()) => Ok(Input::Event(Event::Timeout)),
        }
    }

    /// Does everything that the core asks for. Whether it has halted.
    fn act(&mut self) -> bool {
        let actions: Vec<Action> = std::iter::from_fn(|| self.parts.worker.poll_action()).collect();
        // First the right to act, then what is done by it.
        self.parts.publisher.publish(self.parts.worker.status());
        let mut halted = false;
        let application = &mut self.parts.application;
        for action in actions {
            match action {
                Action::Kv(Request { operation, write }) => {
                    let store = self.store.clone();
                    let done = async move { store.execute(&write).await };
                    spawn(&mut self.tasks, &self.events.0, done, move |outcome| {
                        Event::Kv(KvEvent::Done { operation, outcome })
                    });
                }
                Action::Watch { watch, bucket, interest } => {
                    let request = watching::Request { watch, bucket, interest };
                    let (connection, events) = (self.connection.clone(), self.events.0.clone());
                    let watch = Watch::new(connection, &self.parts.group, request, events, self.parts.config.lease);
                    if let Some(older) = self.watches.insert(bucket, self.tasks.spawn(watch.run())) {
                        older.abort();
                    }
                }
                Action::Probe { slot, instance } => {
                    let timeout = self.parts.config.probe_interval.min(self.connection.request_timeout);
                    let question = probe::ask(self.connection.clone(), self.parts.group.clone(), instance, timeout);
                    spawn(&mut self.tasks, &self.events.0, question, move |outcome| Event::Probed {
                        slot,
                        instance,
                        outcome,
                    });
                }
                Action::Acquire { partition, token } => application.acquire(partition, token),
                Action::Prepare { partition } => application.prepare(partition),
                Action::Release { partition, token, reason } => application.release(&partition, token, reason),
                Action::Cancel { partition, token } => application.cancel(partition, token),
                Action::Suspend { reason } => application.suspend(reason),
                Action::Resume => application.resume(),
                Action::Notice(notice) => notice::log(&self.parts.group, &notice),
                Action::Halt => halted = true,
            }
        }
        application.tell();
        halted
    }
}

/// Runs `work` beside the loop, and reports what comes of it.
fn spawn<T: 'static>(
    tasks: &mut JoinSet<()>,
    events: &mpsc::Sender<Event>,
    work: impl Future<Output = T> + Send + 'static,
    event: impl FnOnce(T) -> Event + Send + 'static,
) {
    let events = events.clone();
    tasks.spawn(async move {
        let event = event(work.await);
        // An error means that the core is gone.
        let _ = events.send(event).await;
    });
}
