//! Conditional writes, each with one of three outcomes.

use std::error::Error as _;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, header};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parti_core::{Bucket, Event, GroupName, Key, KvEvent, Outcome, Request, Revision, Write};
use tokio::sync::mpsc;

use crate::bucket::Names;
use crate::clock;
use crate::connection::Connection;

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
}

/// Ties appends together that are sent without waiting for the answer to the one before.
///
/// The number of the expected revision is not enough: if another writer's append takes the place of the first of a
/// chain, the second finds just the number that it expects. So each that follows on one that is not yet acknowledged
/// also names the message that it follows on.
#[derive(Debug)]
struct Chain {
    /// Different for each life of each writer.
    writer: u64,
    sent: u64,
    /// The revision that the last append will have, and the id of its message, until it is known to be stored.
    last: Option<(Revision, String)>,
}

impl Chain {
    fn new() -> Self {
        Self { writer: clock::random_seed(), sent: 0, last: None }
    }

    fn link(&mut self, write: &Write, message: PublishMessage) -> PublishMessage {
        let Write::Append { expected_last, .. } = write else { return message };
        let message = match &self.last {
            Some((revision, id)) if revision == expected_last => message.expected_last_message_id(id),
            Some(_) | None => message,
        };
        self.sent += 1;
        let id = format!("{:016x}-{}", self.writer, self.sent);
        let message = message.message_id(&id);
        self.last = Some((expected_last.next(), id));
        message
    }

    fn observe(&mut self, write: &Write, outcome: Outcome) {
        match (write, outcome) {
            (Write::Append { .. }, Outcome::Committed(stored)) => {
                self.last.take_if(|(revision, _)| *revision == stored);
            }
            // What follows on a failed one may be on its way here, and has to fail too.
            (Write::Append { .. }, Outcome::Conflict | Outcome::Unknown) => {}
            (Write::Create { .. } | Write::Update { .. } | Write::Delete { .. }, _) => {}
        }
    }
}

/// What the server said to one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Stored(Revision),
    ConditionFailed,
    /// Not stored, but for a reason that passes.
    NotReady,
    None,
}

impl Store {
    pub(crate) fn new(connection: Connection, group: &GroupName) -> Self {
        let [members, plan] = [Bucket::Members, Bucket::Plan].map(|bucket| Names::new(group, bucket));
        Self { connection, members, plan }
    }

    /// Executes requests until their sender is gone, and reports the outcome of each.
    ///
    /// They are sent in the order in which they come, from this one task: appends that follow on each other arrive in
    /// order. Their answers are collected apart, so that none waits for another.
    pub(crate) async fn execute_all(self, mut requests: mpsc::UnboundedReceiver<Request>, events: mpsc::Sender<Event>) {
        let mut open = FuturesUnordered::new();
        let mut chain = Chain::new();
        let mut closed = false;
        while !closed || !open.is_empty() {
            let done = tokio::select! {
                biased;
                Some(done) = open.next() => done,
                request = requests.recv(), if !closed => {
                    match request {
                        Some(request) => {
                            let message = chain.link(&request.write, message(&request.write, None));
                            let sent = self.send(request.write.key(), message).await;
                            open.push(self.settle(request, sent));
                        }
                        None => closed = true,
                    }
                    continue;
                }
            };
            let (Request { operation, write }, outcome) = done;
            chain.observe(&write, outcome);
            if events.send(Event::Kv(KvEvent::Done { operation, outcome })).await.is_err() {
                return;
            }
        }
    }

    /// Executes one write; used where order does not matter.
    #[cfg(test)]
    pub(crate) async fn execute(&self, write: Write) -> Outcome {
        let request = Request { operation: parti_core::OperationId::new(0), write };
        let sent = self.send(request.write.key(), message(&request.write, None)).await;
        self.settle(request, sent).await.1
    }

    /// Follows a write whose first message was `sent` to its outcome.
    async fn settle(&self, request: Request, sent: Option<PublishAckFuture>) -> (Request, Outcome) {
        let write = &request.write;
        let answer = match (write, self.answer_when_ready(write, None, sent).await) {
            (Write::Create { key, .. }, Answer::ConditionFailed) => self.create_over_marker(*key, write).await,
            (_, answer) => answer,
        };
        let outcome = match answer {
            Answer::Stored(revision) => Outcome::Committed(revision),
            Answer::ConditionFailed => Outcome::Conflict,
            Answer::NotReady | Answer::None => Outcome::Unknown,
        };
        (request, outcome)
    }

    /// A create that met a key that was there: only a delete marker, perhaps, which is as good as nothing.
    async fn create_over_marker(&self, key: Key, create: &Write) -> Answer {
        match self.marker(key).await {
            Ok(Some(marker)) => {
                let sent = self.send(key, message(create, Some(marker))).await;
                self.answer_when_ready(create, Some(marker), sent).await
            }
            Ok(None) => Answer::ConditionFailed,
            // Not created, but it is not known either that the key is there.
            Err(_) => Answer::None,
        }
    }

    /// The answer to what was `sent`, or to a later try where the server was not ready for it.
    async fn answer_when_ready(
        &self,
        write: &Write,
        marker: Option<Revision>,
        sent: Option<PublishAckFuture>,
    ) -> Answer {
        let mut answer = self.answer(sent).await;
        for _ in 0..MAX_RETRIES {
            // A later try of an append would come after those that were sent behind it.
            if answer != Answer::NotReady || matches!(write, Write::Append { .. }) {
                break;
            }
            tokio::time::sleep(clock::jittered(self.connection.request_timeout / 20)).await;
            let sent = self.send(write.key(), message(write, marker)).await;
            answer = self.answer(sent).await;
        }
        answer
    }

    /// Sends a message, or says `None` if that is certain to be in vain now.
    async fn send(&self, key: Key, message: PublishMessage) -> Option<PublishAckFuture> {
        // What is sent while disconnected waits in the client, and would arrive long after its time.
        if !self.connection.is_up() {
            return None;
        }
        let sent = self.connection.jetstream.send_publish(self.subject(key), message).await;
        sent.inspect_err(|error| tracing::warn!(%key, %error, "a write could not be sent")).ok()
    }

    async fn answer(&self, sent: Option<PublishAckFuture>) -> Answer {
        let Some(sent) = sent else { return Answer::None };
        let answer = tokio::select! {
            answer = sent => answer,
            // The answer to what was sent over a connection that broke will not come.
            () = self.connection.broken_since(self.connection.breaks()) => return Answer::None,
        };
        match answer {
            Ok(stored) => Answer::Stored(Revision::new(stored.sequence)),
            Err(error) => refusal(&error),
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

/// What the refusal of a publish means. Decided by the code alone: the client sorts the same refusal by different
/// servers into different kinds.
fn refusal(error: &PublishError) -> Answer {
    let source = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match source.map(jetstream::Error::error_code) {
        Some(
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
            | ErrorCode::STREAM_WRONG_LAST_MESSAGE_ID,
        ) => Answer::ConditionFailed,
        Some(ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY) => Answer::NotReady,
        Some(_) | None => {
            tracing::debug!(%error, "the outcome of a write is unknown");
            Answer::None
        }
    }
}
