//! What happens to messages and to the positions of partitions.

use parti_core::delivery::{Notice, PositionRecord, Sequence, StopReason, Timestamp};
use parti_core::{Revision, Token};

/// What happens to messages. `number` counts all publications: no other message has it, whatever its stream loses.
#[derive(Clone, Debug)]
pub(crate) enum MessageFact {
    /// The stream has stored a message.
    Stored { sequence: Sequence, number: u64 },
    /// The stream's limits have removed everything before this number.
    Removed { before: Sequence },
    /// The stream has lost everything behind this number.
    SuffixLost { last: Sequence },
    /// The stream was deleted and made anew.
    MadeAnew { created: Timestamp },
    /// A message that a process has acknowledged is gone.
    Acknowledged { sequence: Sequence, number: u64 },
    /// A process has brought the consumer of a partition back to its floor.
    Restored,
    /// Somebody has deleted the consumer of a partition.
    ConsumerDeleted,
    /// The server has lost what it knew last of consumers.
    ConsumersLost,
    /// A process has stored a position.
    PositionStored { record: PositionRecord, revision: Revision },
    /// A process's write of a position was refused, since its condition did not hold.
    PositionRefused { token: Token },
    /// The bucket of positions has lost writes, or everything.
    PositionsLost,
    /// A handler begins to work on a message, having asked for so many at once.
    Begun { sequence: Sequence, number: u64, tries: u32, most: u32 },
    /// A handler has finished a message.
    Finished { sequence: Sequence, number: u64 },
    /// A handler hands back what it has from this message on.
    Returned { from: Sequence, failed: bool },
    /// A handler has dropped what it has.
    Dropped,
    /// A hold of a partition has ended without being let go, and its handler with it.
    HoldEnded,
    /// A message ends the process that works on it.
    Kills { number: u64 },
    /// A message is stored where dead letters go.
    Buried { sequence: Sequence, number: u64 },
    /// Delivery has something to say.
    Told(Notice),
    /// Nothing more is delivered of a partition.
    Stopped(StopReason),
    /// A partition may be released.
    LetGo,
    /// A reading was answered by a replica that is behind.
    Lagged,
}

impl MessageFact {
    /// In a few words.
    pub(crate) fn describe(&self, partition: &str) -> String {
        match self {
            Self::Stored { sequence, number } => format!("message {number} of {partition} is stored as {sequence}"),
            Self::Removed { before } => format!("the stream now begins with {before}"),
            Self::SuffixLost { last } => format!("the stream has lost what was behind {last}"),
            Self::MadeAnew { created } => format!("the stream is made anew at {created}"),
            Self::Acknowledged { sequence, number } => {
                format!("{partition} {sequence} (message {number}) is acknowledged, and gone")
            }
            Self::Restored => format!("brings the consumer of {partition} back to its floor"),
            Self::ConsumerDeleted => format!("the consumer of {partition} is deleted"),
            Self::ConsumersLost => "consumers have lost what was newest".into(),
            Self::PositionStored { record, revision } => format!(
                "== position of {partition}: {} through {} with {} open {} failed {:?}: committed as {revision}",
                record.seq,
                record.through,
                record.token,
                record.open,
                record.failed.map(|failed| (failed.seq.value(), failed.times))
            ),
            Self::PositionRefused { token } => format!("== position of {partition} with {token}: conflict"),
            Self::PositionsLost => "positions are lost".into(),
            Self::Begun { sequence, number, tries, .. } => {
                format!("begins {partition} {sequence} (message {number}, tried {tries} times)")
            }
            Self::Finished { sequence, number } => format!("finishes {partition} {sequence} (message {number})"),
            Self::Returned { from, failed } => {
                format!("hands back {partition} from {from} on{}", if *failed { ", which failed" } else { "" })
            }
            Self::HoldEnded => format!("has lost its hold of {partition}"),
            Self::Dropped => format!("drops what it has of {partition}"),
            Self::Kills { number } => format!("message {number} of {partition} ends its process"),
            Self::Buried { sequence, number } => format!("{partition} {sequence} (message {number}) is a dead letter"),
            Self::Told(notice) => format!("delivery: {notice:?}"),
            Self::Stopped(reason) => format!("stops to deliver {partition}: {reason}"),
            Self::LetGo => format!("lets {partition} go"),
            Self::Lagged => format!("{partition} is read from a replica that lags"),
        }
    }

    /// Whether a person who looks at the run should hear.
    pub(crate) const fn is_for_people(&self) -> bool {
        match self {
            Self::SuffixLost { .. }
            | Self::MadeAnew { .. }
            | Self::PositionsLost
            | Self::ConsumersLost
            | Self::ConsumerDeleted
            | Self::Kills { .. }
            | Self::Buried { .. }
            | Self::Told(Notice::WentOn { .. })
            | Self::PositionRefused { .. }
            | Self::Stopped(_) => true,
            Self::Stored { .. }
            | Self::Removed { .. }
            | Self::Acknowledged { .. }
            | Self::Restored
            | Self::PositionStored { .. }
            | Self::Begun { .. }
            | Self::Finished { .. }
            | Self::Returned { .. }
            | Self::Dropped
            | Self::HoldEnded
            | Self::Told(_)
            | Self::LetGo
            | Self::Lagged => false,
        }
    }
}
