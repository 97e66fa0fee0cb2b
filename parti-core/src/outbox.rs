//! What the parts have decided, as actions, with fresh names for writes and watches.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Notice, Request, Write};
use crate::ids::{OperationId, WatchId};
use crate::stored::key::{Bucket, Interest, Key};

/// The queue between the parts, which decide, and the caller, who acts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    actions: VecDeque<Action>,
    last_operation: OperationId,
    last_watch: WatchId,
    /// The keys that are being written, in order: one key has one write in flight, and the plan one append. They are few.
    writing: Vec<(Key, OperationId)>,
}

impl Outbox {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.push(Action::Notice(notice));
    }

    pub(crate) fn request(&mut self, write: Write) -> OperationId {
        self.last_operation = self.last_operation.next();
        let key = write.key();
        self.writing.retain(|(writing, _)| *writing != key);
        let place = self.writing.partition_point(|(writing, _)| *writing < key);
        self.writing.insert(place, (key, self.last_operation));
        self.push(Action::Kv(Request { operation: self.last_operation, write }));
        self.last_operation
    }

    /// Whether the outcome of a write of `key` is still to come.
    pub(crate) fn is_writing(&self, key: Key) -> bool {
        self.writing.iter().any(|(writing, _)| *writing == key)
    }

    /// Whether the outcome of an append is still to come.
    pub(crate) fn is_appending(&self) -> bool {
        self.writing.iter().any(|(key, _)| key.bucket() == Bucket::Plan)
    }

    /// The outcome of a write has come.
    pub(crate) fn observe_done(&mut self, operation: OperationId) {
        self.writing.retain(|(_, writing)| *writing != operation);
    }

    pub(crate) fn watch(&mut self, bucket: Bucket, interest: Interest) -> WatchId {
        self.last_watch = self.last_watch.next();
        self.push(Action::Watch { watch: self.last_watch, bucket, interest });
        self.last_watch
    }
}
