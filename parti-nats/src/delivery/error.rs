//! What keeps messages from being delivered.

use parti_core::delivery::{DeliveryConfigError, Engine};

use crate::error::Error;

/// Why delivery cannot begin, or has ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(#[from] DeliveryConfigError),
    /// The template of subjects breaks a rule.
    #[error("a template of subjects must {rule}, but is {template:?}: give one such as orders.{{partition}}")]
    Template {
        /// The template.
        template: String,
        /// The rule.
        rule: &'static str,
    },
    /// There is no such stream.
    #[error(
        "the stream {stream} must be there before its messages can be delivered, but is not: create it with a subject that has {filter}"
    )]
    NoStream {
        /// Its name.
        stream: String,
        /// What it should have.
        filter: String,
    },
    /// The stream's retention asks for another engine.
    #[error(
        "the stream {stream} must have the retention that the engine {engine:?} is for, but its retention is {retention}: ask for no engine, or for the other one, or use a stream with retention {wanted}"
    )]
    Engine {
        /// Its name.
        stream: String,
        /// What was asked for.
        engine: Engine,
        /// Its retention.
        retention: &'static str,
        /// What retention the engine is for.
        wanted: &'static str,
    },
    /// A stream that removes what nobody waits for needs a newer server.
    #[error(
        "the stream {stream} has retention interest, for which a server must be able to bring a consumer back to its floor, but {server} runs {version}: run nats-server 2.14.6 or newer, or use a stream with retention workqueue or limits"
    )]
    Interest {
        /// Its name.
        stream: String,
        /// The server.
        server: String,
        /// Its version.
        version: String,
    },
    /// A stream that removes what is acknowledged has one beginning.
    #[error(
        "partitions of the stream {stream} must begin with the first message that it has, since its retention is {retention}, but were to begin elsewhere: leave out start_at, or use a stream with retention limits"
    )]
    Start {
        /// Its name.
        stream: String,
        /// Its retention.
        retention: &'static str,
    },
    /// The stream takes fewer consumers than there are partitions.
    #[error(
        "the stream {stream} must take a consumer for each of {partitions} partitions, but takes {most}: {fix}, or let the stream map its subjects to 64 to 512 lanes, and give these as partitions"
    )]
    TooFewConsumers {
        /// Its name.
        stream: String,
        /// How many partitions there are.
        partitions: usize,
        /// How many consumers it takes: its `max_consumers`, or without that what servers from 2.15 on allow.
        most: usize,
        /// How it comes to take more.
        fix: &'static str,
    },
    /// The stream has fewer copies than were asked for.
    #[error(
        "the stream {stream} must have at least {wanted} copies, since its consumers have as many as it has, but has {replicas}: set num_replicas, or ask for fewer"
    )]
    TooFewReplicas {
        /// Its name.
        stream: String,
        /// How many copies it has.
        replicas: usize,
        /// How many [were asked for](crate::Delivery::replicas).
        wanted: usize,
    },
    /// The stream has other subjects.
    #[error(
        "the stream {stream} must have every subject {filter}, but has {subjects}: correct the template, or add the subject to the stream"
    )]
    Subject {
        /// Its name.
        stream: String,
        /// The subjects that are asked for.
        filter: String,
        /// The subjects that it has.
        subjects: String,
    },
    /// Messages cannot be read directly.
    #[error("the stream {stream} must allow direct gets, but does not: set allow_direct")]
    NoDirectGet {
        /// Its name.
        stream: String,
    },
    /// The client may not do what delivery needs.
    #[error(
        "the server must answer requests to {subject}, but nobody did, while others were answered: allow this client to publish there, see Delivery::permissions"
    )]
    NotAllowed {
        /// The subject, as [`Delivery::permissions`](crate::Delivery::permissions) lists it.
        subject: String,
    },
    /// The stream could not be looked at, or the bucket of positions not be made ready.
    #[error("delivery cannot begin: {source}")]
    NotReady {
        /// What the server or the client said.
        source: Error,
    },
    /// The stream could not be looked at.
    #[error(
        "the stream {stream} could not be looked at, since {reason}: see what the server says, and that this client is allowed to ask"
    )]
    Unanswered {
        /// Its name.
        stream: String,
        /// What came back.
        reason: String,
    },
}

impl DeliveryError {
    /// Whether trying again can help without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotReady { source } => source.is_transient(),
            Self::Unanswered { .. } => true,
            Self::Config(_)
            | Self::Template { .. }
            | Self::NoStream { .. }
            | Self::Engine { .. }
            | Self::Interest { .. }
            | Self::Start { .. }
            | Self::TooFewConsumers { .. }
            | Self::TooFewReplicas { .. }
            | Self::Subject { .. }
            | Self::NotAllowed { .. }
            | Self::NoDirectGet { .. } => false,
        }
    }
}
