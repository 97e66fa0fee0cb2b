//! The loop: feed the core, drain it, do what it asks for.

use parti_core::{Config, Event, GroupName, Instant, KvEvent};
use tokio::sync::mpsc;

use crate::application::Application;
use crate::attention::Attention;
use crate::connection::Connection;
use crate::error::Error;
use crate::input::Input;
use crate::orders::{Outside, carry_out};
use crate::publisher::Publisher;
use crate::recorder::Recorded;
use crate::transport::Transport;
use crate::{clock, notice};

/// What a worker is made of before there is a connection.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) worker: Recorded,
    pub(crate) config: Config,
    pub(crate) group: GroupName,
    pub(crate) replicas: usize,
    pub(crate) application: Application,
    pub(crate) publisher: Publisher,
}

/// One worker and everything that it acts through.
#[derive(Debug)]
pub(crate) struct Driver {
    parts: Parts,
    connection: Connection,
    attention: Attention,
    inputs: mpsc::UnboundedReceiver<Input>,
    transport: Transport,
    /// What comes from the store, in one order: what a watch shows never overtakes that the connection broke, nor the
    /// other way round.
    events: mpsc::Receiver<Event>,
}

impl Driver {
    pub(crate) fn new(parts: Parts, connection: Connection, inputs: mpsc::UnboundedReceiver<Input>) -> Self {
        let metrics = parts.publisher.metrics.clone();
        let (group, instance) = (parts.group.clone(), parts.worker.status().instance);
        let (transport, events) =
            Transport::new(connection.clone(), group, &parts.config, parts.replicas, metrics, instance);
        let attention = Attention::new(parts.config.lease);
        Self { parts, connection, attention, inputs, transport, events }
    }

    /// Runs until the core halts.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        self.transport.listen();
        self.tell_record_limit();
        while !self.act() {
            let input = self.next_input().await?;
            self.attention.woke(clock::now(), &self.parts.publisher);
            match input {
                Input::Event(event) => {
                    if let Event::Present { .. } = event {
                        self.transport.heard();
                    }
                    let restored = matches!(event, Event::Kv(KvEvent::Restored));
                    self.parts.worker.handle(clock::now(), event);
                    if restored {
                        self.tell_record_limit(); // it may be another server
                    }
                }
                Input::Finished { partition, token, end } => {
                    self.parts.application.finished(&partition, token, end);
                }
                Input::GiveBack { partition } => self.parts.application.give_back(&partition),
            }
            self.transport.reap();
        }
        self.parts.worker.close().await;
        Ok(())
    }

    fn tell_record_limit(&mut self) {
        let limit = Event::RecordLimit(self.connection.record_limit());
        self.parts.worker.handle(clock::now(), limit);
    }

    /// When there is something to do though nothing has come.
    fn due(&self) -> Option<Instant> {
        [self.parts.worker.poll_timeout(), self.parts.application.deadline()].into_iter().flatten().min()
    }

    async fn next_input(&mut self) -> Result<Input, Error> {
        let due = self.due();
        self.attention.waits(clock::now(), due);
        // Half of the margin by which others wait longer than this worker may act.
        let late = (self.parts.config.lease / 16).min(clock::LONGEST_WAIT);
        tokio::select! {
            biased;
            error = self.transport.closed() => Err(error),
            Some(input) = self.inputs.recv() => Ok(input),
            Some(event) = self.events.recv() => Ok(Input::Event(event)),
            () = clock::sleep_until(due, late) => Ok(Input::Event(Event::Timeout)),
        }
    }

    /// Does everything that the core asks for now; true once it has halted.
    fn act(&mut self) -> bool {
        let Parts { worker, application, publisher, group, config, .. } = &mut self.parts;
        let actions = worker.take_actions();
        publisher.signs.runs_until(worker.poll_timeout(), config.lease);
        let status = worker.status();
        self.attention.look(clock::now(), &status, application.unread(), publisher);
        let mut halted = false;
        carry_out(actions, status, publisher, application, |publisher, outside| match outside {
            Outside::Write(request) => self.transport.write(request),
            Outside::Watch(watch, bucket, interest) => self.transport.watch(watch, bucket, interest),
            Outside::Listen => self.transport.listen(),
            Outside::Check(session, check) => self.transport.check(session, check),
            Outside::Probe(probe, instance, through) => self.transport.probe(probe, instance, through),
            Outside::Notice(notice) => {
                notice::log(group, &notice);
                publisher.notice(&notice);
            }
            Outside::Halt => halted = true,
        });
        halted
    }
}
