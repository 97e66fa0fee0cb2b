//! A worker as text, from which the same worker is made again.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::Worker;
use super::mind::Mind;
use crate::outbox::Outbox;
use crate::time::Instant;

/// All of a worker but its strategy, which is code.
#[derive(Serialize)]
struct Saved<'a> {
    mind: &'a Mind,
    outbox: &'a Outbox,
    decisions: u64,
    due_at: Option<Instant>,
}

/// The same, read.
#[derive(Deserialize)]
struct Restored {
    mind: Mind,
    outbox: Outbox,
    decisions: u64,
    due_at: Option<Instant>,
}

impl Worker {
    /// Everything that it knows, as one line of JSON.
    pub(crate) fn save(&self) -> String {
        let Self { mind, outbox, decisions, due_at } = self;
        let saved = Saved { mind, outbox, decisions: *decisions, due_at: *due_at };
        serde_json::to_string(&saved).expect("text for keys, and no number that JSON lacks")
    }

    /// The worker that was saved, with the strategy that its config names.
    pub(crate) fn restore(json: &[u8]) -> Result<Self, serde_json::Error> {
        let Restored { mut mind, outbox, decisions, due_at } = serde_json::from_slice(json)?;
        mind.task.strategy = mind.context.config.strategy.strategy();
        Ok(Self { mind, outbox, decisions, due_at })
    }

    /// Whether it divides by one of the strategies that come with the library.
    pub(crate) fn has_known_strategy(&self) -> bool {
        let own = &self.mind.own.shared;
        own.strategy == crate::SharedSettings::new(&self.mind.context.config).strategy
    }
}
