//! Users' handlers of messages, in a world under test.

use std::sync::Arc;

use parti_core::delivery::{Event, Message, Request, Sequence};
use parti_core::{PartitionId, Token};

use super::{Delivering, Messages};
use crate::kit::{Mail, Say, TaskId};
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;
use crate::world::event::What;

impl Messages {
    /// From the beginning on messages go to users' handlers, and only a test publishes any.
    pub(crate) fn serve(&mut self, mail: Arc<Mail>) {
        (self.mail, self.closes_at) = (Some(mail), Moment::START);
    }

    /// Where users' handlers get their messages, if there are any.
    pub(crate) fn mail(&self) -> Option<Arc<Mail>> {
        self.mail.clone()
    }
}

impl Delivering<'_> {
    /// The handler of a partition that was stopped and is held still begins anew.
    pub(crate) fn offered(&mut self, process: ProcessId, partition: &PartitionId, (task, token): (TaskId, Token)) {
        if let Some(partition) = self.ground.observers.index_of(partition) {
            self.hold(process, partition, token, Some(task));
        }
    }

    /// A handler says something of its messages. Returns the process that a message has ended.
    pub(crate) fn said(&mut self, task: TaskId, say: Say) -> Option<ProcessId> {
        let (process, partition) = self.messages.posts.get(&task).copied()?;
        self.hand(process, partition).filter(|hand| hand.post == Some(task) && !hand.left)?;
        let most = self.options().batch;
        match say {
            Say::Want => self.want(process, partition),
            Say::Begun(sequence, tries) => {
                let number = self.number_of(process, partition, sequence)?;
                self.tell(Some(process), Some(partition), &MessageFact::Begun { sequence, number, tries, most });
            }
            say @ (Say::Finish(_) | Say::Store) if !self.ground.process(process).app.works() => {
                self.messages.late.push((task, say));
            }
            Say::Finish(through) => {
                for Message { sequence, body: number, .. } in self.queue(process, partition) {
                    if sequence <= through {
                        self.tell(Some(process), Some(partition), &MessageFact::Finished { sequence, number });
                    }
                }
                self.finish(process, partition, Some(through));
            }
            Say::Store => {
                let partition = self.id_of(partition);
                self.deliver(process, Event::Application(Request::Commit { partition }));
            }
            Say::Return { from, failed } => self.give_back(process, partition, from, failed),
            Say::Dies(sequence) => {
                let number = self.number_of(process, partition, sequence)?;
                self.tell(Some(process), Some(partition), &MessageFact::Kills { number });
                return Some(process);
            }
        }
        None
    }

    /// What was said to be finished by handlers that might not work counts once they may again, if they have the partition
    /// still.
    pub(crate) fn catch_up(&mut self) {
        for (task, say) in std::mem::take(&mut self.messages.late) {
            // A process does not end of what it has finished.
            let _ = self.said(task, say);
        }
    }

    fn number_of(&mut self, process: ProcessId, partition: PartitionIndex, sequence: Sequence) -> Option<u64> {
        let queue = self.queue(process, partition);
        queue.iter().find(|message| message.sequence == sequence).map(|message| message.body)
    }

    fn give_back(&mut self, process: ProcessId, partition: PartitionIndex, from: Sequence, failed: Option<String>) {
        let Some(hand) = self.hand(process, partition) else { return };
        let (kept, messages) = hand.queue.drain(..).partition(|message| message.sequence < from);
        hand.queue = kept;
        self.tell(Some(process), Some(partition), &MessageFact::Returned { from, failed: failed.is_some() });
        let partition = self.id_of(partition);
        self.deliver(process, Event::Application(Request::Return { partition, messages: messages.into(), failed }));
    }

    /// Users' handlers hear up to where their messages are stored as finished.
    pub(super) fn tell_stored(&self, process: ProcessId) {
        let (Some(mail), Some(member)) = (&self.messages.mail, self.messages.members.get(&process)) else { return };
        for (partition, hand) in &member.hands {
            let lane = member.delivery.lane(&self.id_of(*partition));
            if let (Some(post), Some(lane)) = (hand.post, lane) {
                mail.store(post, lane.stored);
            }
        }
    }

    /// Nothing can be stored under a hold any more.
    pub(super) fn close(&self, post: Option<TaskId>, reason: &str) {
        if let (Some(post), Some(mail)) = (post, &self.messages.mail) {
            mail.close(post, reason);
        }
    }

    /// The last write of a hold is done.
    pub(super) fn let_go(&self, post: Option<TaskId>) {
        if let (Some(post), Some(mail)) = (post, &self.messages.mail) {
            mail.let_go(post);
        }
    }

    /// A handler has ended: the partition is to be released, or it `stays` and may be offered again.
    pub(crate) fn handler_ended(&mut self, process: ProcessId, partition: &PartitionId, token: Token, stays: bool) {
        let Some(partition) = self.ground.observers.index_of(partition) else { return };
        let Some(hand) = self.hand(process, partition).filter(|hand| hand.token == token) else {
            if !stays {
                self.ground.schedule.push(self.ground.now, What::Drained { process, partition, token });
            }
            return;
        };
        (hand.stays, hand.leaving) = (stays, true);
        if hand.drop_all() {
            self.tell(Some(process), Some(partition), &MessageFact::Dropped);
        }
        self.leave(process, partition);
    }

    /// Stores a message.
    pub(crate) fn publish_to(&mut self, partition: PartitionIndex, payload: &[u8]) -> Sequence {
        let (sequence, number) = self.messages.stream.publish(partition, self.ground.now.as_nanos());
        if let Some(mail) = &self.messages.mail {
            mail.publish(number, payload);
        }
        self.tell(None, Some(partition), &MessageFact::Stored { sequence, number });
        self.wake_tails();
        self.serve(partition);
        sequence
    }
}
