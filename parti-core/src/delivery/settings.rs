//! The settings of message delivery, checked as a whole at construction.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;
use crate::duration::HumanDuration;
use crate::ids::Sequence;

/// The longest duration of a setting.
const LONGEST: Duration = Duration::from_secs(3600);

/// The settings of message delivery.
///
/// ```
/// use parti_core::delivery::DeliveryConfig;
///
/// let config = DeliveryConfig { max_tries: 3, ..DeliveryConfig::new("ORDERS") };
/// assert_eq!(config.validate(), Ok(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// The name of the stream.
    pub stream: String,
    /// How messages are read, which is decided by the stream's retention; from one that keeps them by default.
    pub engine: Engine,
    /// Where a partition without a stored position begins; with the first message that the stream still has by default.
    pub start: StartAt,
    /// What to do where the stream is another one than the position was stored for; stop by default.
    pub made_anew: Policy,
    /// What to do where the stream ends before the position, or has another message there: it has lost its newest messages, and
    /// would give their numbers again; stop by default.
    pub lost_suffix: Policy,
    /// What to do where the stream's own limits have removed messages that were not finished; stop by default.
    pub gap: Policy,
    /// After how many finished messages of a partition its position is stored; 1 000 by default.
    ///
    /// Choose fewer where repeating work after a crash is dear. Each partition has one write on its way at a time, so fewer
    /// than what is finished during one write changes nothing.
    pub commit_after: u32,
    /// The longest that a finished message of a partition waits until its position is stored; 1 s by default.
    ///
    /// Too short, and each message costs a write; too long, and a crash repeats more.
    #[serde(with = "duration")]
    pub commit_interval: Duration,
    /// Whether the application stores by itself how far it has come, each time together with the effect of a message; false by
    /// default. See [`Order::WritePosition`](super::Order::WritePosition) for what the place of the positions must then do.
    ///
    /// What is finished is then not stored once more. Only for a stream that keeps its messages.
    pub own_positions: bool,
    /// How many messages of one partition are held ready at most; 256 by default.
    pub buffer_messages: u32,
    /// How many bytes of one partition are held ready at most; 1 MiB by default. One message is taken whatever its size.
    pub buffer_bytes: usize,
    /// How many messages of one partition may be handed out and not be finished; 10 000 by default. Then nothing more is
    /// handed out, which is said.
    pub max_unfinished: u32,
    /// How often a message is tried before it goes to the dead letters; 5 by default. Without dead letters it is tried for ever.
    pub max_tries: u32,
    /// Whether there is a place for dead letters; false by default.
    pub dead_letters: bool,
    /// The wait after the first failure of a message, doubled with each further one; 100 ms by default.
    #[serde(with = "duration")]
    pub back_off: Duration,
    /// The longest wait after a failure; 10 s by default.
    #[serde(with = "duration")]
    pub max_back_off: Duration,
    /// How many partitions are caught up at a time; 8 by default.
    pub parallel_reads: u32,
    /// How many partitions one question for their last messages names at most; 250 by default. 0 where the server cannot
    /// answer it (before 2.11).
    pub ask_at_once: u32,
    /// The shortest time from one tail to the next; 250 ms by default. A partition that has just come waits no longer than ten
    /// times as long as the server took to open the last one.
    #[serde(with = "duration")]
    pub tail_interval: Duration,
    /// After which silence a tail is made anew; 3 s by default. Whoever runs this makes the server say something more often.
    #[serde(with = "duration")]
    pub silence: Duration,
    /// After which time without a message a partition is looked at, and the stream anyway; 5 s by default.
    #[serde(with = "duration")]
    pub check_interval: Duration,
    /// The wait before a request that failed is sent again; 250 ms by default.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// How long the server keeps a request for messages of a partition; 5 s by default. Of no meaning for a stream that keeps
    /// its messages.
    ///
    /// Choose no more than half of the worker's lease: a process that is frozen has taken its partitions' last messages by the
    /// time that others have them. Too short, and quiet partitions cost requests.
    #[serde(with = "duration")]
    pub pull_time: Duration,
}

/// How the messages of a stream are read, and what is stored of those that are finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// From a stream that keeps its messages until its limits remove them: by one consumer for each worker, and with positions
    /// of our own.
    #[default]
    Log,
    /// From a stream that removes what is acknowledged (a work queue) or what nobody waits for (interest): by one durable
    /// consumer for each partition.
    Queue,
}

/// Where a partition without a stored position begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With the first message that the stream still has.
    #[default]
    Earliest,
    /// With the first message that is stored after the partition was first owned.
    Latest,
    /// With the first message that has this number or a greater one.
    Sequence(Sequence),
}

/// What to do where a position does not fit the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Deliver nothing of the partition, and say so, until a person has decided.
    #[default]
    Stop,
    /// Go on with the first message that the stream has.
    Earliest,
    /// Go on with what is stored from now on.
    Latest,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self::new("")
    }
}

impl DeliveryConfig {
    /// The defaults, for this stream.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            engine: Engine::Log,
            start: StartAt::Earliest,
            made_anew: Policy::Stop,
            lost_suffix: Policy::Stop,
            gap: Policy::Stop,
            commit_after: 1_000,
            commit_interval: Duration::from_secs(1),
            own_positions: false,
            buffer_messages: 256,
            buffer_bytes: 1 << 20,
            max_unfinished: 10_000,
            max_tries: 5,
            dead_letters: false,
            back_off: Duration::from_millis(100),
            max_back_off: Duration::from_secs(10),
            parallel_reads: 8,
            ask_at_once: 250,
            tail_interval: Duration::from_millis(250),
            silence: Duration::from_secs(3),
            check_interval: Duration::from_secs(5),
            retry: Duration::from_millis(250),
            pull_time: Duration::from_secs(5),
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    ///
    /// [`DeliveryConfigError`], with the rule, the value and the fix, for the first rule that does not hold.
    pub fn validate(&self) -> Result<(), DeliveryConfigError> {
        if self.stream.is_empty() {
            return Err(DeliveryConfigError::NoStream);
        }
        for (field, value) in [
            ("commit_after", self.commit_after),
            ("buffer_messages", self.buffer_messages),
            ("max_unfinished", self.max_unfinished),
            ("max_tries", self.max_tries),
            ("parallel_reads", self.parallel_reads),
        ] {
            if value == 0 {
                return Err(DeliveryConfigError::Zero { field });
            }
        }
        let least = Duration::from_millis(1);
        for (field, value) in [
            ("commit_interval", self.commit_interval),
            ("back_off", self.back_off),
            ("max_back_off", self.max_back_off),
            ("tail_interval", self.tail_interval),
            ("silence", self.silence),
            ("check_interval", self.check_interval),
            ("retry", self.retry),
            ("pull_time", self.pull_time),
        ] {
            if value < least || value > LONGEST {
                return Err(DeliveryConfigError::Duration { field, value, least });
            }
        }
        if self.back_off > self.max_back_off {
            return Err(DeliveryConfigError::BackOff { first: self.back_off, longest: self.max_back_off });
        }
        if self.own_positions && self.engine != Engine::Log {
            return Err(DeliveryConfigError::OwnPositions);
        }
        Ok(())
    }

    /// How long a message waits that has failed `times` times.
    pub(super) fn back_off_after(&self, times: u32) -> Duration {
        let doubled = self.back_off.saturating_mul(1 << times.saturating_sub(1).min(20));
        doubled.min(self.max_back_off)
    }
}

/// A setting of message delivery that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryConfigError {
    /// The stream is not named.
    #[error("stream must name the stream whose messages are delivered, but is empty: give its name")]
    NoStream,
    /// A number is zero that must not be.
    #[error("{field} must be at least 1, but is 0: choose a greater one")]
    Zero {
        /// Which setting.
        field: &'static str,
    },
    /// A duration is out of range.
    #[error(
        "{field} must be from {} to {}, but is {}: choose one in that range",
        HumanDuration(*least), HumanDuration(LONGEST), HumanDuration(*value)
    )]
    Duration {
        /// Which setting.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The least that is allowed.
        least: Duration,
    },
    /// The first wait after a failure is longer than the longest.
    #[error(
        "back_off must not be longer than max_back_off, but {} > {}: shorten the one or lengthen the other",
        HumanDuration(*first), HumanDuration(*longest)
    )]
    BackOff {
        /// The first.
        first: Duration,
        /// The longest.
        longest: Duration,
    },
    /// A stream that removes what is acknowledged has no positions to store elsewhere.
    #[error(
        "own_positions must be false for a stream that removes what is acknowledged, but is true: leave it out, or use a stream with retention limits"
    )]
    OwnPositions,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn each_rule_names_the_setting_its_value_and_the_fix() {
        let valid = DeliveryConfig::new("ORDERS");
        assert_eq!(valid.validate(), Ok(()));
        let wrong = [
            (DeliveryConfig::default(), "stream must name"),
            (DeliveryConfig { max_tries: 0, ..valid.clone() }, "max_tries must be at least 1"),
            (
                DeliveryConfig { commit_interval: Duration::ZERO, ..valid.clone() },
                "commit_interval must be from 1ms to 1h, but is 0s",
            ),
            (DeliveryConfig { back_off: Duration::from_secs(11), ..valid.clone() }, "11s > 10s"),
            (DeliveryConfig { engine: Engine::Queue, own_positions: true, ..valid }, "own_positions must be false"),
        ];
        for (config, says) in wrong {
            let error = config.validate().expect_err("a rule is broken").to_string();
            assert!(error.contains(says) && error.contains(": "), "{error}");
        }
    }

    #[test]
    fn the_wait_after_a_failure_doubles_up_to_the_longest() {
        let config = DeliveryConfig::new("ORDERS");
        let waits = [1, 2, 3, 8, 1_000].map(|times| config.back_off_after(times).as_millis());
        assert_eq!(waits, [100, 200, 400, 10_000, 10_000]);
    }
}
