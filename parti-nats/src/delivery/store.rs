//! The stream and the bucket of positions, as delivery asks for them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{HeaderMap, ServerInfo, header};
use parti_core::delivery::{
    Answer, CallId, DeliveryConfigError, Engine, Message, Order, PositionRecord, Sequence, StartAt, StoredPosition,
    StreamState, Timestamp,
};
use parti_core::{GroupName, Outcome, PartitionId, Revision};

use crate::bucket::{Names, ensure_one};
use crate::clock;
use crate::delivery::direct::{Direct, LastMessages};
use crate::delivery::durable::Durables;
use crate::delivery::error::DeliveryError;
use crate::delivery::kept::{Beside, Bucket, Kept};
use crate::delivery::message::Body;
use crate::delivery::settings::Delivery;
use crate::delivery::tail::{MAX_FILTERS, Tail, Wanted};
use crate::delivery::template::{Parts, Template, covers};
use crate::server;

/// As many consumers as a stream should have.
const MANY_CONSUMERS: usize = 512;

/// Carries out what delivery asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    stream: String,
    engine: Engine,
    template: Template,
    dead_letters: Option<Template>,
    positions: Kept,
    direct: Direct,
    durables: Durables,
    timeout: Duration,
}

impl Store {
    /// Looks whether the stream fits, and makes sure that the bucket of positions is there. So many partitions are known of.
    pub(crate) async fn open(
        context: &Context,
        (group, partitions): (&GroupName, usize),
        settings: &Delivery,
        template: &Template,
        dead_letters: Option<&Template>,
    ) -> Result<(Self, Engine), DeliveryError> {
        let stream = settings.config.stream.clone();
        let engine = check_stream(context, settings, template, partitions).await?;
        let positions = if let Some(given) = &settings.positions {
            Kept::ByApplication(Beside::new(given.clone()))
        } else {
            let names = Names::positions(group);
            let not_ready = |source| DeliveryError::NotReady { source };
            ensure_one(context, &names, settings.replicas).await.map_err(not_ready)?;
            Kept::InBucket(Box::new(Bucket::new(context.clone(), names)))
        };
        let direct = Direct::new(context.client(), &stream, settings.timeout);
        let timeout = settings.timeout;
        let durables = Durables::new(context, &stream, group, template, timeout);
        let (context, template, dead_letters) = (context.clone(), template.clone(), dead_letters.cloned());
        let inner = Inner { context, stream, engine, template, dead_letters, positions, direct, durables, timeout };
        Ok((Self(Arc::new(inner)), engine))
    }

    /// The consumers of partitions.
    pub(crate) fn durables(&self) -> &Durables {
        &self.0.durables
    }

    /// The answer to an order that is answered, and to whom; none to one that is not for the store.
    pub(crate) async fn answer(&self, order: Order<Body>) -> Option<(CallId, Answer<Body>)> {
        Some(match order {
            Order::ReadPosition { call, partition } => (call, said(self.read(&partition).await.map(Answer::Position))),
            Order::WritePosition { call, partition, expected, record, claims } => {
                (call, Answer::Written(self.write(&partition, expected, &record, claims).await))
            }
            Order::Inspect { call } => (call, self.inspect().await),
            Order::Ask { call, partitions } => (call, self.ask(&partitions).await),
            Order::Fetch { call, partition, from, most, bytes } => {
                let subject = self.0.template.subject(&partition);
                let fetched = match self.connected() {
                    Ok(()) => self.0.direct.next(&subject, from, most, bytes).await,
                    Err(reason) => Err(reason),
                };
                (call, said(fetched.map(Answer::Fetched)))
            }
            Order::DeadLetter { call, partition, message, tries, reason } => {
                let is_stored = self.bury(&partition, &message, tries, reason.as_deref()).await;
                (call, if is_stored { Answer::Buried } else { Answer::NotBuried(message) })
            }
            order @ (Order::FindConsumer { call, .. }
            | Order::CreateConsumer { call, .. }
            | Order::RestoreConsumer { call, .. }) => match self.connected() {
                Ok(()) => return self.0.durables.answer(order).await,
                Err(reason) => (call, Answer::Failed { reason }),
            },
            Order::Pull { .. }
            | Order::EndPull { .. }
            | Order::Acknowledge { .. }
            | Order::Extend { .. }
            | Order::OpenTail { .. }
            | Order::CloseTail { .. }
            | Order::Hand { .. }
            | Order::LetGo { .. }
            | Order::Stop { .. }
            | Order::Notice(_) => return None,
        })
    }

    /// Opens a tail of these partitions.
    pub(crate) async fn open_tail(
        &self,
        tail: CallId,
        from: Sequence,
        partitions: &[PartitionId],
    ) -> Result<Tail, String> {
        self.connected()?;
        let Inner { context, stream, template, timeout, .. } = &*self.0;
        let can_filter = server::filters_well(&context.client().server_info());
        let filters = if can_filter && partitions.len() <= MAX_FILTERS {
            partitions.iter().map(|partition| template.subject(partition)).collect()
        } else {
            vec![template.any()]
        };
        let parts = Parts::new(partitions);
        let (stream, template, timeout) = (stream.clone(), template.clone(), *timeout);
        Tail::open(context.clone(), Wanted { tail, stream, from, filters, template, parts, timeout }).await
    }

    async fn read(&self, partition: &PartitionId) -> Result<StoredPosition, String> {
        if let Kept::InBucket(_) = self.0.positions {
            self.connected()?;
        }
        let found = self.in_time(self.0.positions.read(partition)).await.ok_or("no answer came in time")??;
        Ok(match found {
            None => StoredPosition::Missing,
            Some((Ok(record), revision)) => {
                // Where each partition has a consumer, nothing is read from the position on.
                let at = match self.0.engine {
                    Engine::Log => self.stored_at(record.seq).await?,
                    Engine::Queue => None,
                };
                StoredPosition::Found { record, revision, at }
            }
            Some((Err(error), _)) => StoredPosition::Unreadable { error },
        })
    }

    /// When the stream stored the message that it has at this number; none if it has none.
    async fn stored_at(&self, sequence: Sequence) -> Result<Option<Timestamp>, String> {
        if sequence == Sequence::default() {
            return Ok(None);
        }
        let Inner { context, stream, .. } = &*self.0;
        let stream = context.get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
        match stream.get_raw_message(sequence.value()).await {
            Ok(message) => Ok(Some(timestamp(message.time.into()))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn write(
        &self,
        partition: &PartitionId,
        expected: Option<Revision>,
        record: &PositionRecord,
        claims: bool,
    ) -> Outcome {
        let is_sent = matches!(self.0.positions, Kept::ByApplication(_)) || self.connected().is_ok();
        let written = self.0.positions.write(partition, expected, record, claims);
        if is_sent { self.in_time(written).await.unwrap_or(Outcome::Unknown) } else { Outcome::Unknown }
    }

    async fn inspect(&self) -> Answer<Body> {
        let failed = |reason: String| Answer::Failed { reason };
        if let Err(reason) = self.connected() {
            return failed(reason);
        }
        match self.in_time(self.0.context.get_stream(&self.0.stream)).await {
            Some(Ok(stream)) => {
                let info = stream.cached_info();
                let (first, last) = (info.state.first_sequence, info.state.last_sequence);
                Answer::Stream(StreamState {
                    created: timestamp(info.created.into()),
                    // An empty stream says that its first message is the next one, or 0 if it never had one.
                    first: Sequence::new(first.max(1)),
                    last: Sequence::new(last),
                })
            }
            Some(Err(error)) => match error.kind() {
                GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Answer::NoStream
                }
                _ => failed(error.to_string()),
            },
            None => failed("no answer came in time".into()),
        }
    }

    async fn ask(&self, partitions: &[PartitionId]) -> Answer<Body> {
        let subjects: Vec<_> = partitions.iter().map(|partition| self.0.template.subject(partition)).collect();
        let parts = Parts::new(partitions);
        let asked = match self.connected() {
            Ok(()) => self.0.direct.last(&subjects, &self.0.template, &parts).await,
            Err(reason) => Err(reason),
        };
        said(asked.map(|last| match last {
            LastMessages::Ends(ends) => Answer::Ends(ends),
            LastMessages::CannotTell => Answer::CannotTell,
        }))
    }

    /// Stores a message where dead letters go. Once, even if it is tried again: the server knows it by its id.
    async fn bury(&self, partition: &PartitionId, message: &Message<Body>, tries: u32, reason: Option<&str>) -> bool {
        let Some(template) = self.0.dead_letters.as_ref().filter(|_| self.connected().is_ok()) else { return false };
        let mut headers = HeaderMap::new();
        for (name, values) in message.body.headers.iter().flat_map(HeaderMap::iter) {
            // What a server reads in a message that is published is not to be repeated.
            let is_for_servers = name.to_string().to_ascii_lowercase().starts_with("nats-");
            for value in values.iter().filter(|_| !is_for_servers) {
                headers.append(name.clone(), value.clone());
            }
        }
        let id = format!("{}:{}:{}", self.0.stream, message.sequence, message.timestamp);
        headers.insert(header::NATS_MESSAGE_ID, id.as_str());
        headers.insert("Parti-Partition", single_line(partition.as_str()).as_str());
        headers.insert("Parti-Stream", self.0.stream.as_str());
        headers.insert("Parti-Subject", message.body.subject.as_str());
        headers.insert("Parti-Sequence", message.sequence.to_string().as_str());
        headers.insert("Parti-Tries", tries.to_string().as_str());
        headers.insert("Parti-Error", single_line(reason.unwrap_or("its process ended")).as_str());
        let letter = PublishMessage::build().payload(message.body.payload.clone()).headers(headers);
        let published = self.0.context.send_publish(template.subject(partition), letter);
        match self.in_time(async { published.await?.await }).await {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                tracing::warn!(event = "dead_letter_refused", %partition, sequence = message.sequence.value(), %error, "a dead letter was not stored: see that a stream has its subject");
                false
            }
            None => false,
        }
    }

    /// Why nothing can be sent: what is sent while disconnected waits in the client, and would arrive long after its time.
    pub(crate) fn connected(&self) -> Result<(), String> {
        match self.0.context.client().connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err("there is no connection".into()),
        }
    }

    async fn in_time<F: Future>(&self, asked: F) -> Option<F::Output> {
        tokio::time::timeout(self.0.timeout, asked).await.ok()
    }
}

/// Looks whether the stream fits. Returns the engine that its retention asks for.
async fn check_stream(
    context: &Context,
    settings: &Delivery,
    template: &Template,
    partitions: usize,
) -> Result<Engine, DeliveryError> {
    let (stream, filter) = (settings.config.stream.clone(), template.any());
    let found = context.get_stream(&stream).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            DeliveryError::NoStream { stream: stream.clone(), filter: filter.clone() }
        }
        _ => DeliveryError::Unanswered { stream: stream.clone(), reason: error.to_string() },
    })?;
    let config = &found.cached_info().config;
    let (retention, engine) = match config.retention {
        RetentionPolicy::Limits => ("limits", Engine::Log),
        RetentionPolicy::WorkQueue => ("workqueue", Engine::Queue),
        RetentionPolicy::Interest => ("interest", Engine::Queue),
    };
    if let Some(asked) = settings.engine.filter(|asked| *asked != engine) {
        let wanted = if asked == Engine::Log { "limits" } else { "workqueue or interest" };
        return Err(DeliveryError::Engine { stream, engine: asked, retention, wanted });
    }
    if !config.subjects.iter().any(|subject| covers(subject, &filter)) && !is_transformed_to(config, &filter) {
        return Err(DeliveryError::Subject { stream, filter, subjects: config.subjects.join(", ") });
    }
    match engine {
        Engine::Log if !config.allow_direct => return Err(DeliveryError::NoDirectGet { stream }),
        Engine::Queue if settings.config.start != StartAt::Earliest => {
            return Err(DeliveryError::Start { stream, retention });
        }
        Engine::Queue if settings.positions.is_some() => return Err(DeliveryConfigError::OwnPositions.into()),
        Engine::Log | Engine::Queue => {}
    }
    let server = context.client().server_info();
    if config.retention == RetentionPolicy::Interest && !server::resets_consumers(&server) {
        let (server, version) = (server::address(&server), server.version);
        return Err(DeliveryError::Interest { stream, server, version });
    }
    if engine == Engine::Queue {
        check_room(config, settings, partitions, &server)?;
        let limits = limits_that_remove(config);
        if !limits.is_empty() {
            tracing::warn!(
                event = "limits_remove_unread",
                stream,
                limits = limits.join(", "),
                "the stream removes messages that nobody has worked on, and nobody can tell how many: raise its limits, or let it refuse new messages instead (discard: new)"
            );
        }
    }
    Ok(engine)
}

/// The limits of a stream that remove messages whether they were worked on or not, as they are named in its configuration.
fn limits_that_remove(config: &stream::Config) -> Vec<&'static str> {
    let removes_old = config.discard == DiscardPolicy::Old;
    let limits = [
        ("max_age", !config.max_age.is_zero()),
        ("max_msgs", config.max_messages > 0 && removes_old),
        ("max_bytes", config.max_bytes > 0 && removes_old),
        ("max_msgs_per_subject", config.max_messages_per_subject > 0 && !config.discard_new_per_subject),
    ];
    limits.into_iter().filter(|(_, removes)| *removes).map(|(name, _)| name).collect()
}

/// Looks whether the stream takes a consumer for each partition. It has as many copies as the stream.
fn check_room(
    config: &stream::Config,
    settings: &Delivery,
    partitions: usize,
    server: &ServerInfo,
) -> Result<(), DeliveryError> {
    let (stream, replicas) = (config.name.clone(), config.num_replicas);
    if replicas < settings.replicas {
        return Err(DeliveryError::TooFewReplicas { stream, replicas, wanted: settings.replicas });
    }
    if let Some(most) = server::most_consumers(server, config.max_consumers).filter(|most| partitions > *most) {
        let fix = if server::changes_max_consumers(server) {
            "raise its max_consumers"
        } else {
            "make it anew with a greater max_consumers"
        };
        return Err(DeliveryError::TooFewConsumers { stream, partitions, most, fix });
    }
    if partitions > MANY_CONSUMERS {
        tracing::warn!(
            event = "many_consumers",
            stream,
            partitions,
            "each partition has a consumer of its own: let the stream map its subjects to 64 to 512 lanes, and give these as partitions"
        );
    }
    Ok(())
}

/// Whether the stream stores its messages under such subjects.
fn is_transformed_to(config: &stream::Config, filter: &str) -> bool {
    config.subject_transform.as_ref().is_some_and(|transform| {
        // What stands for parts of the subject that was published, such as {{partition(8,1)}}, is one part of the other.
        let stored: Vec<_> =
            transform.destination.split('.').map(|part| if part.contains("{{") { "*" } else { part }).collect();
        covers(&stored.join("."), filter)
    })
}

fn said(answer: Result<Answer<Body>, String>) -> Answer<Body> {
    answer.unwrap_or_else(|reason| Answer::Failed { reason })
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::new(clock::nanos_since_1970(time))
}

/// As the value of a header, which ends with its line.
fn single_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_dead_letter_stays_in_its_header() {
        assert_eq!(single_line("a\r\nNats-Rollup: all"), "a  Nats-Rollup: all");
        assert_eq!(single_line(&"x".repeat(9_999)).len(), 1_024);
    }
}
