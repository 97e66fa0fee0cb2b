//! A message, as far as its delivery is decided.

use crate::ids::{Sequence, Timestamp};

/// One stored message of one partition. The body is whatever the caller keeps; nothing here looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<M> {
    /// Its number in the stream.
    pub sequence: Sequence,
    /// When the stream stored it.
    pub timestamp: Timestamp,
    /// How many bytes it takes while it is held ready.
    pub bytes: usize,
    /// What it says.
    pub body: M,
}

/// A message that is handed to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed<M> {
    /// The message.
    pub message: Message<M>,
    /// How often it was tried before, as far as is known.
    pub tries: u32,
    /// When the stream was made, as the position says that was claimed: numbers of messages are those of that stream.
    pub created: Timestamp,
}
