//! What is still to happen to messages, and to whom it goes.

use parti_core::Token;
use parti_core::delivery::{Answer, CallId, Order, PullEnd, Pulled};

use super::Delivering;
use super::durables::Puller;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::world::clock::Moment;

/// Something that is still to happen to messages.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// The next messages are published.
    Publish,
    /// The timer of a process's delivery fires, if it is still set to this moment.
    Timer { process: ProcessId },
    /// A request reaches the stream or the bucket of positions.
    Arrive { process: ProcessId, order: Box<Order<u64>>, sent: Sent },
    /// The answer reaches the process.
    Answer { process: ProcessId, call: CallId, answer: Box<Answer<u64>>, sent: Moment },
    /// A process waits no longer for an answer.
    GiveUp { process: ProcessId, call: CallId },
    /// A tail shows something, if it still is to at this moment.
    Show { process: ProcessId, tail: CallId },
    /// A tail is closed at the server.
    CloseTail { process: ProcessId, tail: CallId },
    /// The consumer of a partition sends what it has to those who wait.
    Serve { partition: PartitionIndex },
    /// The consumer of a partition delivers again what was not acknowledged in time.
    Expire { partition: PartitionIndex },
    /// The time of a pull is over at the server.
    PullEnds { by: Puller },
    /// A message reaches a process that has pulled it, by the connection that it was sent to.
    Pulled { process: ProcessId, pull: CallId, partition: PartitionIndex, pulled: Box<Pulled<u64>>, connection: u64 },
    /// A process learns that its pull is over, by the connection that this was sent to.
    PullOver { process: ProcessId, pull: CallId, end: Box<PullEnd>, connection: u64 },
    /// A handler that was handed messages while its process could not work begins with them.
    Begin { process: ProcessId, partition: PartitionIndex, attempt: u64 },
    /// A handler is done with what it has, in one way or another.
    Worked { process: ProcessId, partition: PartitionIndex, attempt: u64 },
    /// An application is done with a partition, apart from the message that it works on.
    Drained { process: ProcessId, partition: PartitionIndex, token: Token },
    /// A release that takes too long waits no longer.
    End { process: ProcessId, partition: PartitionIndex, token: Token },
    /// A partition that was stopped is delivered anew.
    Again { process: ProcessId, partition: PartitionIndex, token: Token },
}

/// When a request was sent, and what its sender knew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(super) at: Moment,
    /// When it had last read or written the position that it writes.
    pub(super) known_at: Option<Moment>,
}

impl Errand {
    /// The process that must run for this to happen; none for what happens elsewhere.
    pub(crate) const fn needs(&self) -> Option<ProcessId> {
        match self {
            Self::Timer { process }
            | Self::Answer { process, .. }
            | Self::GiveUp { process, .. }
            | Self::Show { process, .. }
            | Self::Pulled { process, .. }
            | Self::PullOver { process, .. }
            | Self::Begin { process, .. }
            | Self::Worked { process, .. }
            | Self::Drained { process, .. }
            | Self::End { process, .. }
            | Self::Again { process, .. } => Some(*process),
            Self::Publish
            | Self::Arrive { .. }
            | Self::CloseTail { .. }
            | Self::Serve { .. }
            | Self::Expire { .. }
            | Self::PullEnds { .. } => None,
        }
    }
}

impl Delivering<'_> {
    /// Lets something happen. Returns the process that a message has ended.
    pub(crate) fn happen(&mut self, errand: Errand) -> Option<ProcessId> {
        match errand {
            Errand::Publish => self.publish(),
            Errand::Timer { process } => self.fire(process),
            Errand::Arrive { process, order, sent } => self.arrive(process, order, sent),
            Errand::Answer { process, call, answer, sent } => self.answer(process, call, answer, sent),
            Errand::GiveUp { process, call } => self.give_up(process, call),
            Errand::Show { process, tail } => self.show(process, tail),
            Errand::CloseTail { process, tail } => self.close_tail(process, tail),
            Errand::Serve { partition } => self.serve(partition),
            Errand::Expire { partition } => self.deliver_again(partition),
            Errand::PullEnds { by } => self.pull_ends(by),
            Errand::Pulled { process, pull, partition, pulled, connection } => {
                self.pulled((process, pull), partition, pulled, connection);
            }
            Errand::PullOver { process, pull, end, connection } => self.pull_over((process, pull), end, connection),
            Errand::Begin { process, partition, attempt } => self.begin(process, partition, attempt),
            Errand::Worked { process, partition, attempt } => return self.worked(process, partition, attempt),
            Errand::Drained { process, partition, token } => self.drained(process, partition, token),
            Errand::End { process, partition, token } => self.end(process, partition, token),
            Errand::Again { process, partition, token } => self.again(process, partition, token),
        }
        None
    }
}
