//! The loop: feed the core, drain it, do what it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parti_core::{
    Action, Bucket, Config, Event, GroupName, Instance, KvEvent, Mode, PartitionId, Slot, Status, Token, Worker,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::application::Application;
use crate::connection::{Connection, Link};
use crate::error::{Error, ErrorKind};
use crate::guard::Lease;
use crate::kv::{Store, Writer};
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

/// One worker and everything that it acts through.
#[derive(Debug)]
pub(crate) struct Driver {
    worker: Worker,
    config: Config,
    group: GroupName,
    connection: Connection,
    seen: Link,
    application: Application,
    lease: Arc<Lease>,
    status: watch::Sender<Status>,
    inputs: mpsc::UnboundedReceiver<Input>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    writer: Writer,
    watches: BTreeMap<Bucket, AbortHandle>,
    /// Everything that runs beside the loop, and ends with it.
    tasks: JoinSet<()>,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) worker: Worker,
    pub(crate) config: Config,
    pub(crate) group: GroupName,
    pub(crate) application: Application,
    pub(crate) lease: Arc<Lease>,
    pub(crate) status: watch::Sender<Status>,
}

impl Driver {
    pub(crate) fn new(start: Start, connection: Connection, inputs: mpsc::UnboundedReceiver<Input>) -> Self {
        let Start { worker, config, group, application, lease, status } = start;
        let events = mpsc::channel(EVENT_QUEUE);
        let writer = Writer::new(Store::new(connection.clone(), &group), events.0.clone());
        let (seen, watches) = (*connection.link.borrow(), BTreeMap::new());
        Self {
            worker,
            config,
            group,
            connection,
            seen,
            application,
            lease,
            status,
            inputs,
            events,
            writer,
            watches,
            tasks: JoinSet::new(),
        }
    }

    /// Runs until the core halts.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let questions = probe::listen(&self.connection.client, &self.group, self.worker.status().instance).await;
        let questions = questions.map_err(|error| Error::with_source(ErrorKind::ConnectionClosed, error))?;
        self.tasks.spawn(probe::answer(self.connection.client.clone(), questions));
        while !self.act() {
            match self.next_input().await? {
                Input::Event(event) => {
                    self.writer.observe(&event, &mut self.tasks);
                    self.worker.handle(clock::now(), event);
                }
                Input::Finished { partition, token } => self.application.finished(&partition, token),
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
            link = self.connection.link.wait_for(|link| *link != self.seen) => {
                let link = *link.map_err(|error| Error::with_source(ErrorKind::ConnectionClosed, error))?;
                // A break comes before the return that ended it, however quick that was.
                let news = if link.breaks > self.seen.breaks {
                    self.seen = Link { up: false, breaks: link.breaks };
                    KvEvent::Lost
                } else {
                    self.seen = link;
                    if link.up { KvEvent::Restored } else { KvEvent::Lost }
                };
                Ok(Input::Event(Event::Kv(news)))
            }
            Some(input) = self.inputs.recv() => Ok(input),
            Some(event) = self.events.1.recv() => Ok(Input::Event(event)),
            () = clock::sleep_until(self.worker.poll_timeout()) => Ok(Input::Event(Event::Timeout)),
        }
    }

    /// Does everything that the core asks for. Whether it has halted.
    fn act(&mut self) -> bool {
        let actions: Vec<Action> = std::iter::from_fn(|| self.worker.poll_action()).collect();
        // First the right to act, then what is done by it.
        self.publish();
        let mut halted = false;
        for action in actions {
            match action {
                Action::Kv(request) => self.writer.execute(request, &mut self.tasks),
                Action::Watch { watch, bucket, interest } => {
                    self.watch(watching::Request { watch, bucket, interest });
                }
                Action::Probe { slot, instance } => self.probe(slot, instance),
                Action::Acquire { partition, token } => self.application.acquire(partition, token),
                Action::Prepare { partition } => self.application.prepare(partition),
                Action::Release { partition, token, reason } => self.application.release(partition, token, reason),
                Action::Cancel { partition, token } => self.application.cancel(partition, token),
                Action::Suspend { reason } => self.application.suspend(reason),
                Action::Resume => self.application.resume(),
                Action::Notice(notice) => notice::log(&self.group, &notice),
                Action::Halt => halted = true,
            }
        }
        self.application.tell();
        halted
    }

    fn publish(&self) {
        let status = self.worker.status();
        let until = match self.config.mode {
            Mode::Strict => status.lease_until.filter(|_| !status.suspended),
            Mode::Available => status.slot.map(|_| parti_core::Instant::from_nanos(u64::MAX)),
        };
        self.lease.set(until);
        self.status.send_if_modified(|known| {
            let renewed = Status { lease_until: status.lease_until, ..known.clone() } == status;
            *known = status;
            !renewed
        });
    }

    fn watch(&mut self, request: watching::Request) {
        let (bucket, interval) = (request.bucket, self.config.lease);
        let watch = Watch::new(self.connection.clone(), &self.group, request, self.events.0.clone(), interval);
        if let Some(older) = self.watches.insert(bucket, self.tasks.spawn(watch.run())) {
            older.abort();
        }
    }

    fn probe(&mut self, slot: Slot, instance: Instance) {
        let (connection, group, timeout) = (self.connection.clone(), self.group.clone(), self.probe_timeout());
        let events = self.events.0.clone();
        self.tasks.spawn(async move {
            let outcome = probe::ask(&connection, &group, instance, timeout).await;
            let _ = events.send(Event::Probed { slot, instance, outcome }).await; // fails only when nobody cares
        });
    }

    fn probe_timeout(&self) -> Duration {
        self.config.probe_interval.min(self.connection.request_timeout)
    }
}
