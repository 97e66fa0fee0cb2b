//! Conditional writes, each with one outcome.

use std::sync::Arc;

use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind, Stream};
use async_nats::{HeaderMap, header};
use parti_core::{Bucket, GroupName, Key, Outcome, Revision, Write};

use crate::bucket::Names;
use crate::clock;
use crate::connection::Connection;
use crate::health::Signs;
use crate::metrics::Metrics;
use crate::refusal::{self, Meaning};

/// The header by which a key-value bucket marks a deletion.
const KV_OPERATION: &str = "KV-Operation";
/// How often a write is sent again because the server was not ready for it.
const MAX_RETRIES: u32 = 3;

/// The two buckets of a group, for writing.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    connection: Connection,
    members: Names,
    plan: Names,
    signs: Arc<Signs>,
    metrics: Option<Arc<Metrics>>,
}

/// What the server said to one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Stored(Revision),
    ConditionFailed,
    /// Not stored, but for a reason that passes.
    NotReady,
    /// Not stored, and not because of what is there.
    Refused,
    None,
}

impl Store {
    pub(crate) fn new(connection: Connection, group: &GroupName) -> Self {
        let [members, plan] = [Bucket::Members, Bucket::Plan].map(|bucket| Names::new(group, bucket));
        let signs = Arc::clone(&connection.signs);
        Self { connection, members, plan, signs, metrics: None }
    }

    /// The same, and what it does is measured.
    pub(crate) fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Executes one write to its outcome. Writes do not wait for each other.
    pub(crate) async fn execute(&self, write: &Write) -> Outcome {
        let begun = clock::now();
        let outcome = self.try_until_settled(write).await;
        if let Outcome::Committed(_) | Outcome::Conflict = outcome {
            self.signs.writes.accepted(write.key().bucket(), &self.signs.warnings);
        }
        if let Some(metrics) = &self.metrics {
            metrics.wrote(write.key().bucket(), outcome, clock::now().since(begun));
        }
        outcome
    }

    async fn try_until_settled(&self, write: &Write) -> Outcome {
        let answer = match (write, self.answer_when_ready(write, None).await) {
            (Write::Create { key, .. }, Answer::ConditionFailed) => self.create_over_marker(*key, write).await,
            (_, answer) => answer,
        };
        match answer {
            Answer::Stored(revision) => Outcome::Committed(revision),
            Answer::ConditionFailed => Outcome::Conflict,
            Answer::Refused => Outcome::Refused,
            Answer::NotReady | Answer::None => Outcome::Unknown,
        }
    }

    /// A create that met a key that was there: only a delete marker, perhaps, which is as good as nothing.
    async fn create_over_marker(&self, key: Key, create: &Write) -> Answer {
        match self.marker(key).await {
            Ok(Some(marker)) => self.answer_when_ready(create, Some(marker)).await,
            Ok(None) => Answer::ConditionFailed,
            // Not created, but it is not known either that the key is there.
            Err(_) => Answer::None,
        }
    }

    /// The server's answer to a write, or to a later try where the server was not ready for it.
    async fn answer_when_ready(&self, write: &Write, marker: Option<Revision>) -> Answer {
        let mut answer = self.answer(write, marker).await;
        for _ in 0..MAX_RETRIES {
            if answer != Answer::NotReady {
                break;
            }
            tokio::time::sleep(clock::jittered(self.connection.request_timeout / 20)).await;
            answer = self.answer(write, marker).await;
        }
        answer
    }

    async fn answer(&self, write: &Write, marker: Option<Revision>) -> Answer {
        let (breaks, refusals) = (self.connection.breaks(), self.connection.refusals.count());
        // What is sent while disconnected waits in the client, and would arrive long after its time.
        if !self.connection.is_up() {
            return Answer::None;
        }
        let subject = self.subject(write.key());
        let published = self.connection.jetstream.send_publish(subject.clone(), message(write, marker));
        let answer = async { published.await?.await };
        let answer = tokio::select! {
            answer = answer => answer,
            // The answer to what was sent over a connection that broke will not come.
            () = self.connection.broken_since(breaks) => return Answer::None,
            // Nor that to what the server does not take from this client.
            said = self.connection.refusals.of(&subject, refusals) => {
                self.signs.writes.forbidden(write.key(), &said, &self.signs.warnings);
                return Answer::Refused;
            }
        };
        match answer {
            Ok(stored) => Answer::Stored(Revision::new(stored.sequence)),
            Err(error) => match refusal::meaning(&error) {
                Meaning::ConditionFailed => Answer::ConditionFailed,
                Meaning::NotReady => Answer::NotReady,
                Meaning::Refused => {
                    self.signs.writes.refused(write.key(), &error, &self.signs.warnings);
                    Answer::Refused
                }
                Meaning::Unknown => {
                    tracing::debug!(key = %write.key(), %error, "the outcome of a write is unknown");
                    Answer::None
                }
            },
        }
    }

    /// The revision of the delete marker that is the last message of `key`; `None` if that is a value.
    async fn marker(&self, key: Key) -> Result<Option<Revision>, async_nats::Error> {
        let stream = self.connection.jetstream.get_stream_no_info(&self.names(key.bucket()).stream).await?;
        match last_message(&stream, &self.subject(key)).await? {
            Some(last) if is_marker(&last.headers) => Ok(Some(Revision::new(last.sequence))),
            // It can have been purged in between; then the condition of the first try holds again.
            None => Ok(Some(Revision::new(0))),
            Some(_) => Ok(None),
        }
    }

    fn names(&self, bucket: Bucket) -> &Names {
        match bucket {
            Bucket::Members => &self.members,
            Bucket::Plan => &self.plan,
        }
    }

    fn subject(&self, key: Key) -> String {
        format!("{}{key}", self.names(key.bucket()).stored)
    }
}

/// The message that carries out a write. A create expects `marker`, if there is one.
fn message(write: &Write, marker: Option<Revision>) -> PublishMessage {
    let message = PublishMessage::build();
    match write {
        Write::Create { record, .. } => {
            let expected = marker.map_or(0, Revision::value);
            message.payload(record.encode().into()).expected_last_subject_sequence(expected)
        }
        Write::Update { record, expected, .. } => {
            message.payload(record.encode().into()).expected_last_subject_sequence(expected.value())
        }
        Write::Delete { expected, .. } => {
            message.header(KV_OPERATION, "DEL").expected_last_subject_sequence(expected.value())
        }
        Write::Append { record, expected_last, .. } => {
            message.payload(record.encode().into()).expected_last_sequence(expected_last.value())
        }
    }
}

/// The last message under `subject`, read from the stream's leader; `None` if there is none.
pub(crate) async fn last_message(
    stream: &Stream<()>,
    subject: &str,
) -> Result<Option<StreamMessage>, LastRawMessageError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a message with these headers marks a deletion: one by a client, or one by the server itself.
pub(crate) fn is_marker(headers: &HeaderMap) -> bool {
    let deleted = headers.get(KV_OPERATION).is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"));
    deleted || headers.get(header::NATS_MARKER_REASON).is_some()
}
