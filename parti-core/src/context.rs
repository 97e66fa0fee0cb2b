//! What every part is told of the moment and of its worker.

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Timing};
use crate::planted::{Planted, PlantedBug};
use crate::time::{Duration, Instant};

/// The settings of a worker, and the time. The worker owns it and lends it to each part that is asked something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    /// The time of the event that is being handled.
    pub(crate) now: Instant,
    pub(crate) config: Config,
    pub(crate) timing: Timing,
    #[serde(skip)]
    pub(crate) planted: Planted,
    /// What the calendar said at some time, since 1970, where that is known: for people only.
    pub(crate) calendar: Option<(Instant, Duration)>,
}

impl Context {
    pub(crate) fn new(config: Config, now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { now, timing: Timing::new(&config), config, planted: Planted::default(), calendar: None })
    }

    /// The time by the calendar, in milliseconds since 1970; 0 where nobody has told.
    pub(crate) fn calendar_ms(&self) -> u64 {
        let since_1970 = self.calendar.map(|(at, said)| said.saturating_add(self.now.since(at)));
        since_1970.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether the rule that this bug breaks is broken on purpose.
    pub(crate) fn has(&self, bug: PlantedBug) -> bool {
        self.planted.has(bug)
    }

    /// The default settings, at this time.
    #[cfg(test)]
    pub(crate) fn at(now: Instant) -> Self {
        Self::new(Config::default(), now).expect("the default is valid")
    }
}
