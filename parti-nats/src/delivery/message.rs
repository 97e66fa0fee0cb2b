//! A message as the application gets it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use parti_core::delivery::{Handed, Message, PartitionMessage, Sequence, Timestamp};
use parti_core::{PartitionId, Token};

/// What a stored message says.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

impl Body {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self.headers.as_ref().map_or(0, |headers| headers.len() * 64);
        self.payload.len() + self.subject.len() + headers + 64
    }
}

/// One message of one partition, under the token of the worker's hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub(crate) partition: PartitionId,
    pub(crate) token: Token,
    pub(crate) message: Message<Body>,
    pub(crate) tries: u32,
    pub(crate) created: Timestamp,
}

impl Delivered {
    pub(crate) fn new(partition: &PartitionId, token: Token, handed: Handed<Body>) -> Self {
        let Handed { message, tries, created } = handed;
        Self { partition: partition.clone(), token, message, tries, created }
    }

    /// Which partition it is of.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// The token to send along with each write that the work makes.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Its number in the stream.
    pub fn sequence(&self) -> Sequence {
        self.message.sequence
    }

    /// When the stream stored it, by the server's clock.
    pub fn stored_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.message.timestamp.value())
    }

    /// The same, in nanoseconds since 1970: what a [`PositionStore`](crate::PositionStore) keeps.
    pub fn timestamp(&self) -> Timestamp {
        self.message.timestamp
    }

    /// When the stream was made that has numbered it, in nanoseconds since 1970: what a
    /// [`PositionStore`](crate::PositionStore) compares. A stream that was made anew gives the same numbers again.
    pub fn stream_created(&self) -> Timestamp {
        self.created
    }

    /// How often it was tried before, as far as is known. More than 0 after a failure, and after a process that may have
    /// been ended by it.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Under which subject it was published.
    pub fn subject(&self) -> &Subject {
        &self.message.body.subject
    }

    /// Its headers, if it has any.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.message.body.headers.as_ref()
    }

    /// What it says.
    pub fn payload(&self) -> &Bytes {
        &self.message.body.payload
    }
}

impl PartitionMessage for Delivered {
    fn partition(&self) -> &PartitionId {
        self.partition()
    }

    fn token(&self) -> Token {
        self.token()
    }

    fn sequence(&self) -> Sequence {
        self.sequence()
    }

    fn tries(&self) -> u32 {
        self.tries()
    }

    fn payload(&self) -> &[u8] {
        self.payload()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
