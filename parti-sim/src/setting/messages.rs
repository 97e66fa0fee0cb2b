//! A stream whose messages follow the assignment: what is published, what handlers do, and what goes wrong on the way.

use parti_core::delivery::DeliveryConfig;
use serde::{Deserialize, Serialize};

/// A stream whose messages follow the assignment. Each pair is the least and the most; frequencies in parts per million.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageOptions {
    /// From one publication to the next.
    pub every_ms: (u64, u64),
    /// How many messages a publication has at most.
    pub burst: u32,
    /// How long messages are kept; 0 for ever.
    pub kept_ms: u64,
    /// How long a handler works on one message.
    pub work_ms: (u64, u64),
    /// Every so-manieth partition takes ten times as long; 0 for none.
    pub slow_every: u32,
    /// How many messages a handler asks for at once.
    pub batch: u32,
    /// How many tries fail.
    pub fails_ppm: u32,
    /// The message with this number, and the one with twice as much, end the process that works on them, until all faults
    /// are over; 0 for none.
    pub poison_at: u64,
    /// How many reads a replica answers that is behind.
    pub lagging_ppm: u32,
    /// How many messages it is behind at most.
    pub lag: u64,
    /// Whether tails see what is of other workers' partitions, and say that they passed over it.
    pub tails_see_all: bool,
    /// Whether the server can bring a consumer back to its floor, without deleting it.
    pub resets: bool,
    /// Whether what no consumer waits for is removed at once.
    pub interest: bool,
    /// After this a consumer delivers again what is not acknowledged.
    pub ack_wait_ms: u64,
    /// The settings of the delivery.
    pub delivery: DeliveryConfig,
}

impl Default for MessageOptions {
    fn default() -> Self {
        Self {
            every_ms: (1, 20),
            burst: 1,
            kept_ms: 0,
            work_ms: (1, 10),
            slow_every: 0,
            batch: 1,
            fails_ppm: 0,
            poison_at: 0,
            lagging_ppm: 0,
            lag: 0,
            tails_see_all: false,
            resets: true,
            interest: false,
            ack_wait_ms: 60_000,
            delivery: DeliveryConfig::new("MESSAGES"),
        }
    }
}

impl MessageOptions {
    /// Whether a message ends the process that works on it.
    pub(crate) const fn is_poison(&self, number: u64) -> bool {
        self.poison_at > 0 && (number == self.poison_at || number == 2 * self.poison_at)
    }

    /// Nothing goes wrong any more.
    pub(crate) fn end_faults(&mut self) {
        (self.fails_ppm, self.poison_at, self.lagging_ppm) = (0, 0, 0);
    }
}
