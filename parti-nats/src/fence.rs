//! Writes that a former owner of a partition cannot make any more.

use std::time::Duration;

use async_nats::jetstream::kv;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::{self, context::PublishError};
use bytes::Bytes;
use parti_core::{Revision, Token, TokenError};

use crate::clock;
use crate::kv::{is_marker, last_message};
use crate::refusal::{self, Meaning};

/// The header in which a fenced write carries its token.
pub const TOKEN_HEADER: &str = "Parti-Token";

/// How often a write is tried that other writes keep coming before.
const MAX_TRIES: u32 = 16;
/// The pause before the next try where the server was not ready to judge a write.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes under one token: what an owner with a higher token has written, they do not overwrite or follow.
///
/// The token of the last write is kept beside it, in the header [`TOKEN_HEADER`]. A write looks at it, and is then
/// conditional on nothing having come in between, so that it is the server that decides. Any number of owners may try
/// at once. What was written without a token may be overwritten by everyone, and so may a deleted key: who deletes lets
/// go of the fence. One write costs two round trips.
///
/// ```no_run
/// # async fn example(
/// #     guard: parti_nats::Guard,
/// #     jetstream: parti_nats::async_nats::jetstream::Context,
/// #     totals: parti_nats::async_nats::jetstream::kv::Store,
/// # ) -> Result<(), parti_nats::FenceError> {
/// use parti_nats::{Fence, FenceError};
///
/// let fence = Fence::new(jetstream, guard.token());
/// match fence.put(&totals, guard.partition().as_str(), "42").await {
///     Err(FenceError::Fenced { .. }) => guard.finish(), // another worker has the partition by now
///     other => drop(other?),
/// }
/// # Ok(())
/// # }
/// ```
///
/// A partition's worth of state is begun with [`claim`](Self::claim); [`Guard`](crate::Guard) has a worked example. Where the
/// sink is a database, keep the token in a column, as [`Token::to_bytes`] or [`Token::to_integers`], and compare it in the
/// statement itself: the example `fenced-sql` shows it whole. See also Kleppmann, "How to do distributed locking" (2016).
#[derive(Clone, Debug)]
pub struct Fence {
    jetstream: jetstream::Context,
    token: Token,
}

/// Why a fenced write was not made, or is not known to have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// An owner with a higher token has written: whoever has the lower one no longer owns the partition.
    #[error(
        "{subject:?} was written under the token {stored}, which is higher than {own}: stop the work on this partition"
    )]
    Fenced {
        /// The subject of the write.
        subject: String,
        /// The higher token.
        stored: Token,
        /// The token of this write.
        own: Token,
    },
    /// The last write has a header that is no token.
    #[error(
        "the last write of {subject:?} must have a token in its header {TOKEN_HEADER}, or none: delete it or write it anew"
    )]
    UnreadableToken {
        /// The subject of the write.
        subject: String,
        /// What is wrong with it.
        source: TokenError,
    },
    /// A key that a bucket cannot have.
    #[error("a key must be of A-Z a-z 0-9 - / _ = . without a dot at either end, but is {key:?}: encode it")]
    Key {
        /// The key.
        key: String,
    },
    /// The bucket is reached through a domain, or through a mirror.
    #[error(
        "the bucket {bucket:?} must be written directly, but is reached through a JetStream domain or a mirror: use a context of its own domain"
    )]
    Indirect {
        /// The bucket.
        bucket: String,
    },
    /// Others wrote each time in between.
    #[error("{subject:?} was written by others {MAX_TRIES} times in between: let one task write for one partition")]
    Contended {
        /// The subject of the write.
        subject: String,
    },
    /// The last write could not be read; nothing was written.
    #[error("the last write of {subject:?} could not be read, so nothing was written: try again")]
    Unread {
        /// The subject of the write.
        subject: String,
        /// What the server or the client said.
        source: async_nats::Error,
    },
    /// The server refuses the write; nothing was written.
    #[error("the server refuses to store {subject:?}: change what it complains of")]
    Refused {
        /// The subject of the write.
        subject: String,
        /// What it said.
        source: PublishError,
    },
    /// The answer did not come: it may have been written.
    #[error("whether {subject:?} was written is not known: look, or write again what may be written twice")]
    Unknown {
        /// The subject of the write.
        subject: String,
        /// What the server or the client said.
        source: PublishError,
    },
}

impl Fence {
    /// Writes under `token`, such as that of a [`Guard`](crate::Guard).
    pub fn new(jetstream: jetstream::Context, token: Token) -> Self {
        Self { jetstream, token }
    }

    /// Sets a key of a bucket. Use one key, or several, per partition, and never one for two partitions: tokens of
    /// different partitions say nothing about each other. Returns the revision.
    ///
    /// # Errors
    ///
    /// [`FenceError`]; after [`Unknown`](FenceError::Unknown) the same value can be put again.
    pub async fn put(&self, bucket: &kv::Store, key: &str, value: impl Into<Bytes>) -> Result<Revision, FenceError> {
        self.append(&bucket.stream_name, subject(bucket, key)?, value).await
    }

    /// Writes a key's value back under this token and returns it; empty if there was none. From then on a former owner
    /// cannot change it: what is read so is where to go on from.
    ///
    /// # Errors
    ///
    /// [`FenceError`]; it can be tried again after each but [`Fenced`](FenceError::Fenced).
    pub async fn claim(&self, bucket: &kv::Store, key: &str) -> Result<Bytes, FenceError> {
        let subject = subject(bucket, key)?;
        let keep = |last: Option<&StreamMessage>| {
            last.filter(|last| !is_marker(&last.headers)).map(|last| last.payload.clone()).unwrap_or_default()
        };
        self.write(&bucket.stream_name, subject, keep).await.map(|(_, value)| value)
    }

    /// Appends a message under `subject`, which must be one of `stream`'s and belong to the partition alone. Returns its
    /// sequence.
    ///
    /// # Errors
    ///
    /// [`FenceError`]; after [`Unknown`](FenceError::Unknown) a second try may store the message twice.
    pub async fn append(
        &self,
        stream: &str,
        subject: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Result<Revision, FenceError> {
        let payload = payload.into();
        self.write(stream, subject.into(), |_| payload.clone()).await.map(|(revision, _)| revision)
    }

    /// Writes what `value` makes of the last message, provided that nothing comes in between; tells what it was.
    async fn write(
        &self,
        stream: &str,
        subject: String,
        value: impl Fn(Option<&StreamMessage>) -> Bytes,
    ) -> Result<(Revision, Bytes), FenceError> {
        for _ in 0..MAX_TRIES {
            let last = self.last(stream, &subject).await?;
            let value = value(last.as_ref());
            let message = PublishMessage::build()
                .payload(value.clone())
                .header(TOKEN_HEADER, self.token.to_string())
                .expected_last_subject_sequence(last.map_or(0, |last| last.sequence));
            let published = self.jetstream.send_publish(subject.clone(), message);
            match async { published.await?.await }.await {
                Ok(stored) => return Ok((Revision::new(stored.sequence), value)),
                Err(source) => match refusal::meaning(&source) {
                    // Somebody was faster, under which token the next look tells.
                    Meaning::ConditionFailed => {}
                    Meaning::NotReady => tokio::time::sleep(clock::jittered(PAUSE)).await,
                    Meaning::Refused => return Err(FenceError::Refused { subject, source }),
                    Meaning::Unknown => return Err(FenceError::Unknown { subject, source }),
                },
            }
        }
        Err(FenceError::Contended { subject })
    }

    /// The last message under `subject`, unless it bears a higher token.
    async fn last(&self, stream: &str, subject: &str) -> Result<Option<StreamMessage>, FenceError> {
        let unread = |source| FenceError::Unread { subject: subject.to_owned(), source };
        // The leader of the stream is asked, since a replica may not know yet what it has stored. If that is a former
        // leader, the condition of the write fails.
        let stream = self.jetstream.get_stream_no_info(stream).await.map_err(|error| unread(error.into()))?;
        let last = last_message(&stream, subject).await.map_err(|error| unread(error.into()))?;
        if let Some(token) = last.as_ref().and_then(|last| last.headers.get(TOKEN_HEADER)) {
            let unreadable = |source| FenceError::UnreadableToken { subject: subject.to_owned(), source };
            let stored: Token = token.as_str().parse().map_err(unreadable)?;
            if stored > self.token {
                return Err(FenceError::Fenced { subject: subject.to_owned(), stored, own: self.token });
            }
        }
        Ok(last)
    }
}

/// Under what a bucket stores a key.
fn subject(bucket: &kv::Store, key: &str) -> Result<String, FenceError> {
    if !is_key(key) {
        return Err(FenceError::Key { key: key.escape_debug().take(128).collect() });
    }
    if bucket.use_jetstream_prefix || bucket.put_prefix.is_some() {
        return Err(FenceError::Indirect { bucket: bucket.name.clone() });
    }
    Ok(format!("{}{key}", bucket.prefix))
}

/// Whether a bucket takes this key.
fn is_key(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
    let is_dotted_at_an_end = key.starts_with('.') || key.ends_with('.');
    !key.is_empty() && !is_dotted_at_an_end && key.chars().all(allowed)
}
