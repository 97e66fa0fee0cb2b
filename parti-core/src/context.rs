//! What every part is told of the moment and of its worker.

use crate::config::{Config, ConfigError, Timing};
use crate::planted::{Planted, PlantedBug};
use crate::time::Instant;

/// The settings of a worker, and the time. The worker owns it and lends it to each part that is asked something.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The time of the event that is being handled.
    pub(crate) now: Instant,
    pub(crate) config: Config,
    pub(crate) timing: Timing,
    pub(crate) planted: Planted,
}

impl Context {
    pub(crate) fn new(config: Config, now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { now, timing: Timing::new(&config), config, planted: Planted::default() })
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
