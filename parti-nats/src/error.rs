//! What can go wrong from outside.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use parti_core::{ConfigError, GroupNameError, PartitionError};

use crate::mismatch::Mismatch;

/// What went wrong, and what lay beneath it. Cheap to clone.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(ConfigError),
    /// The group name breaks a rule.
    #[error(transparent)]
    Group(GroupNameError),
    /// A partition id or the list of partitions breaks a rule.
    #[error(transparent)]
    Partitions(PartitionError),
    /// No NATS server let this client in.
    #[error(
        "no NATS server could be reached at {servers}: start one, correct the URL or the credentials, or let the worker keep trying with retry_first_connection"
    )]
    Connect {
        /// What was tried.
        servers: String,
    },
    /// The server does not let this client in.
    #[error(
        "the NATS server at {servers} refuses this client's credentials: renew or correct them; Builder::credentials_file reads the file anew at each connect"
    )]
    Login {
        /// What was tried.
        servers: String,
    },
    /// A URL of a server cannot be read.
    #[error(
        "a server URL must look like nats://host:4222, but the one at place {place} of the list does not: correct it"
    )]
    Url {
        /// Which one, counted from 1; the URL itself may hold a password.
        place: usize,
    },
    /// The server is too old.
    #[error(
        "nats-server must be 2.10.26 or newer, but {server} runs {version}, which parti was not tried with, and whose conditional writes may not exclude each other in a cluster: upgrade it, best to 2.12.15, 2.14.6, 2.15.0 or newer"
    )]
    ServerVersion {
        /// The server.
        server: String,
        /// Its version.
        version: String,
    },
    /// The server or the account has no JetStream.
    #[error(
        "JetStream must be enabled, but is not on {server} for this account: start nats-server with -js, or enable it for the account"
    )]
    JetStreamDisabled {
        /// The server.
        server: String,
    },
    /// The server refuses something that this client has to do.
    #[error(
        "this client must be allowed what the group needs, but the server says: {}: give its user the permissions of parti_nats::permissions",
        .missing.join("; ")
    )]
    Permission {
        /// What was refused, as the server says it.
        missing: Vec<String>,
    },
    /// Nobody has answered on a subject on which the server should have.
    #[error(
        "the server must answer requests to {subject}, but nobody did: allow this client to publish there and to subscribe to its inbox, see parti_nats::permissions, or let the worker keep trying with retry_first_connection"
    )]
    Unanswered {
        /// Which subject.
        subject: String,
    },
    /// A bucket has settings that the protocol cannot work with.
    #[error("the stream {stream} of bucket {bucket} does not fit: {}", list(.mismatches))]
    Bucket {
        /// The bucket.
        bucket: String,
        /// The stream behind it.
        stream: String,
        /// What has to change.
        mismatches: Vec<Mismatch>,
    },
    /// There is no group of this name.
    #[error(
        "there is no group {group} on this server, since it has no stream {stream}: correct the name, or start a worker of it"
    )]
    NoGroup {
        /// The name.
        group: parti_core::GroupName,
        /// The stream that every group has.
        stream: String,
    },
    /// The buckets of a group are there, but could not be read.
    #[error(
        "the group {group} could not be read within {waited:?}: {said}: look at the server's log, and at who leads its streams"
    )]
    Unread {
        /// The group.
        group: parti_core::GroupName,
        /// How long that was tried.
        waited: Duration,
        /// What is known of it.
        said: String,
    },
    /// What an [`Observer`](crate::Observer) waited for did not happen in time.
    #[error("what was waited for was not seen within {waited:?}: look at the group, or wait longer")]
    NotObserved {
        /// How long.
        waited: Duration,
    },
    /// The server has refused a write.
    #[error("{what} was not written, since the server refuses it: {said}")]
    Refused {
        /// What was to be written.
        what: String,
        /// What the server says.
        said: String,
    },
    /// What is stored under a key is no record.
    #[error("what is stored under {key} cannot be read: look at it, and delete it by hand if nobody needs it")]
    Record {
        /// The key.
        key: String,
    },
    /// A bucket could not be created or looked at.
    #[error(
        "the stream {stream} of bucket {bucket} could not be {attempt}: see the source of this error for what the server answered"
    )]
    Store {
        /// The bucket.
        bucket: String,
        /// The stream behind it.
        stream: String,
        /// What was tried: `created` or `looked at`.
        attempt: &'static str,
    },
    /// What is stored as the group's partition list is none.
    #[error("the partition list in bucket {bucket} cannot be read: see the source of this error, and write it again")]
    PartitionList {
        /// The bucket.
        bucket: String,
    },
    /// Somebody else has written meanwhile.
    #[error("{what} has changed since it was read: read it again, or use PartitionBucket::edit, which does")]
    Conflict {
        /// What has changed.
        what: String,
    },
    /// The server has not said whether it has stored a write; it may still do so.
    #[error("it is not known whether {what} was written: read it again, or use PartitionBucket::edit, which does")]
    OutcomeUnknown {
        /// What was to be written.
        what: String,
    },
    /// A partition is not in the list.
    #[error("{id:?} is not in the partition list: add it first")]
    UnknownPartition {
        /// Which one.
        id: parti_core::PartitionId,
    },
    /// The connection was closed for good, by its owner or by the client library.
    #[error("the connection to NATS was closed for good: start the worker again")]
    ConnectionClosed,
    /// What was waited for did not happen in time.
    #[error(
        "{what} was not reached within {waited:?}, the worker is in state {state}: look at its log, or wait longer"
    )]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The state of the worker at the end.
        state: parti_core::WorkerState,
    },
    /// The worker has ended by a panic.
    #[error(
        "the worker has ended, since its loop has panicked: {message}: start another, and report this as a bug of parti"
    )]
    Panicked {
        /// What the panic has said.
        message: String,
    },
    /// The worker has stopped, so what was waited for cannot happen.
    #[error("the worker has stopped: start another")]
    Stopped,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn with_source(kind: ErrorKind, source: impl error::Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Some(Arc::new(source)) }
    }

    /// Which kind of error it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether trying again can help without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Connect { .. }
            | ErrorKind::Login { .. }
            | ErrorKind::JetStreamDisabled { .. }
            | ErrorKind::Unanswered { .. }
            | ErrorKind::Store { .. } => true,
            ErrorKind::Config(_)
            | ErrorKind::Group(_)
            | ErrorKind::Partitions(_)
            | ErrorKind::Url { .. }
            | ErrorKind::ServerVersion { .. }
            | ErrorKind::Permission { .. }
            | ErrorKind::Bucket { .. }
            | ErrorKind::NoGroup { .. }
            | ErrorKind::Unread { .. }
            | ErrorKind::Refused { .. }
            | ErrorKind::Record { .. }
            | ErrorKind::NotObserved { .. }
            | ErrorKind::PartitionList { .. }
            | ErrorKind::Conflict { .. }
            | ErrorKind::OutcomeUnknown { .. }
            | ErrorKind::UnknownPartition { .. }
            | ErrorKind::ConnectionClosed
            | ErrorKind::TimedOut { .. }
            | ErrorKind::Panicked { .. }
            | ErrorKind::Stopped => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

/// The same words, since this is what a `main` that returns an error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn error::Error + 'static))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::new(ErrorKind::Config(error))
    }
}

impl From<GroupNameError> for Error {
    fn from(error: GroupNameError) -> Self {
        Self::new(ErrorKind::Group(error))
    }
}

impl From<PartitionError> for Error {
    fn from(error: PartitionError) -> Self {
        Self::new(ErrorKind::Partitions(error))
    }
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
