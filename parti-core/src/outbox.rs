//! What the parts have decided, as actions, with fresh names for writes and watches.

use alloc::collections::VecDeque;

use crate::action::{Action, Notice, Request, Write};
use crate::ids::{OperationId, WatchId};
use crate::key::{Bucket, Interest};

/// The queue between the parts, which decide, and the caller, who acts.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    actions: VecDeque<Action>,
    last_operation: OperationId,
    last_watch: WatchId,
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
        self.push(Action::Kv(Request { operation: self.last_operation, write }));
        self.last_operation
    }

    pub(crate) fn watch(&mut self, bucket: Bucket, interest: Interest) -> WatchId {
        self.last_watch = self.last_watch.next();
        self.push(Action::Watch { watch: self.last_watch, bucket, interest });
        self.last_watch
    }
}
