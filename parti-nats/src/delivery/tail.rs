//! One tail: a consumer that lives as long as somebody reads it.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::{Client, Message as NatsMessage, Subscriber};
use futures_util::{FutureExt, StreamExt};
use parti_core::delivery::{CallId, Message, Sequence, TailNews};
use tokio::sync::mpsc;

use crate::clock;
use crate::delivery::message::Body;
use crate::delivery::pull::Told;
use crate::delivery::template::{Parts, Template};

/// How many messages one request asks for; the next one is sent when half of them have come.
const BATCH: usize = 2_000;
/// How many bytes one request asks for: what is on the way is kept in memory.
const BATCH_BYTES: usize = 8 << 20;
/// How long a request waits for messages.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is there, while it has nothing to show. Several times in the silence after which a
/// tail is given up.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After this the server forgets a consumer that nobody reads.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// The most messages that are handed on in one piece.
const PIECE: usize = 256;

/// A heartbeat.
const ALIVE: u16 = 100;
/// The most literal subjects that one consumer filters by.
pub(crate) const MAX_FILTERS: usize = 100;

/// What a tail shows, in order.
pub(crate) type News = (CallId, Vec<TailNews<Body>>);

/// What a tail is opened for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) tail: CallId,
    pub(crate) stream: String,
    pub(crate) from: Sequence,
    /// One or more subjects that have those of all partitions.
    pub(crate) filters: Vec<String>,
    pub(crate) template: Template,
    pub(crate) parts: Parts,
    pub(crate) timeout: Duration,
}

/// A tail that is open.
#[derive(Debug)]
pub(crate) struct Tail {
    wanted: Wanted,
    client: Client,
    context: Context,
    consumer: String,
    inbox: String,
    messages: Subscriber,
    /// How many messages were asked for and have not come.
    outstanding: usize,
}

impl Tail {
    /// Opens it: whatever is stored from its first number on is shown.
    pub(crate) async fn open(context: Context, wanted: Wanted) -> Result<Self, String> {
        let client = context.client();
        let name = format!("parti-tail-{:016x}", clock::random_seed());
        let config = pull::Config {
            name: Some(name.clone()),
            description: Some("shows a parti worker what is stored for its partitions".into()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: wanted.from.value().max(1) },
            ack_policy: AckPolicy::None,
            filter_subjects: if wanted.filters.len() > 1 { wanted.filters.clone() } else { Vec::new() },
            filter_subject: if wanted.filters.len() == 1 { wanted.filters[0].clone() } else { String::new() },
            num_replicas: 1,
            memory_storage: true,
            inactive_threshold: FORGOTTEN_AFTER,
            max_waiting: 16,
            ..pull::Config::default()
        };
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let created = context.create_consumer_on_stream(config, wanted.stream.clone());
        let created = tokio::time::timeout(wanted.timeout, created).await;
        created.map_err(|_| "no answer came in time")?.map_err(|error| error.to_string())?;
        let mut tail = Self { wanted, client, context, consumer: name, inbox, messages, outstanding: 0 };
        tail.ask().await?;
        Ok(tail)
    }

    /// Hands on what it shows, until it is closed or is no more.
    pub(crate) async fn run(mut self, news: mpsc::Sender<News>, closed: impl Future) {
        let shows = async {
            loop {
                let mut piece = Vec::new();
                let ended = self.read(&mut piece).await;
                if let Err(reason) = &ended {
                    piece.push(TailNews::Lost { reason: reason.clone() });
                }
                if news.send((self.wanted.tail, piece)).await.is_err() || ended.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = shows => {}
            _ = closed => {}
        }
        // The server forgets it by itself, but not at once.
        let _ = self.context.delete_consumer_from_stream(&self.consumer, &self.wanted.stream).await;
    }

    /// Waits for something, and takes what else has come.
    async fn read(&mut self, piece: &mut Vec<TailNews<Body>>) -> Result<(), String> {
        let first = self.messages.next().await.ok_or("the connection was closed")?;
        self.observe(first, piece)?;
        while piece.len() < PIECE {
            let Some(Some(message)) = self.messages.next().now_or_never() else { break };
            self.observe(message, piece)?;
        }
        if self.outstanding <= BATCH / 2 {
            self.ask().await?;
        }
        Ok(())
    }

    fn observe(&mut self, message: NatsMessage, piece: &mut Vec<TailNews<Body>>) -> Result<(), String> {
        let Some(Told { sequence, timestamp, .. }) = message.reply.as_deref().and_then(Told::of) else {
            return self.observe_status(&message, piece);
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        let part = self.wanted.template.part_of(&message.subject);
        match part.and_then(|part| self.wanted.parts.get(part)) {
            Some(partition) => {
                let body = Body { subject: message.subject, headers: message.headers, payload: message.payload };
                let message = Message { sequence, timestamp, bytes: body.bytes(), body };
                piece.push(TailNews::Message { partition: partition.clone(), message });
            }
            None => match piece.last_mut() {
                Some(TailNews::Passed { sequence: passed }) => *passed = sequence,
                _ => piece.push(TailNews::Passed { sequence }),
            },
        }
        Ok(())
    }

    /// What the server says that is no message.
    fn observe_status(&mut self, said: &NatsMessage, piece: &mut Vec<TailNews<Body>>) -> Result<(), String> {
        let Some(status) = said.status.map(|status| status.as_u16()) else { return Ok(()) };
        if status != ALIVE {
            // A request is over: it says how much of it was left.
            let headers = said.headers.as_ref();
            let pending = headers.and_then(|headers| headers.get_last("Nats-Pending-Messages"));
            let Some(pending) = pending.and_then(|pending| pending.as_str().parse::<usize>().ok()) else {
                return Err(format!("the server says {status} {}", said.description.as_deref().unwrap_or_default()));
            };
            self.outstanding = self.outstanding.saturating_sub(pending);
        }
        piece.push(TailNews::Alive);
        Ok(())
    }

    /// Asks for more.
    async fn ask(&mut self) -> Result<(), String> {
        let request = serde_json::json!({
            "batch": BATCH,
            "max_bytes": BATCH_BYTES,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.wanted.stream, self.consumer);
        let sent = self.client.publish_with_reply(subject, self.inbox.clone(), request.to_string().into()).await;
        self.outstanding += BATCH;
        sent.map_err(|error| error.to_string())
    }
}
