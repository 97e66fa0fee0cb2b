//! Virtual time: that of the world, and each worker's own clock, which may run fast, slow, or stand still.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use parti_core::Instant;

/// A point in the world's time, in nanoseconds since the run began. No worker ever sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// When the run begins.
    pub const START: Self = Self(0);
    /// Later than everything.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the start, for people.
    #[expect(clippy::cast_precision_loss, reason = "for display only")]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// The nanoseconds of a duration, as far as 64 bits go.
pub(crate) fn nanos(duration: Duration) -> u64 {
    saturated(duration.as_nanos())
}

const MILLION: u64 = 1_000_000;

fn saturated(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// One worker's own monotonic clock: an origin of its own, and a rate that differs from the world's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerClock {
    /// What the clock shows at the world's start.
    origin: u64,
    /// How many nanoseconds it counts while the world's million pass.
    per_million: u64,
}

impl WorkerClock {
    /// A clock that shows `origin` nanoseconds at the start and runs `ppm` parts in a million too fast (or too slow).
    pub(crate) fn new(origin: u64, ppm: i32) -> Self {
        let per_million = MILLION.saturating_add_signed(i64::from(ppm)).max(1);
        Self { origin, per_million }
    }

    /// The same clock when it has jumped forward. It never goes back.
    pub(crate) fn stepped(self, forward: Duration) -> Self {
        Self { origin: self.origin.saturating_add(nanos(forward)), ..self }
    }

    /// What the clock shows at `moment`.
    pub(crate) fn at(self, moment: Moment) -> Instant {
        let elapsed = match moment.0.checked_mul(self.per_million) {
            Some(product) => product / MILLION,
            None => saturated(u128::from(moment.0) * u128::from(self.per_million) / u128::from(MILLION)),
        };
        Instant::from_nanos(self.origin.saturating_add(elapsed))
    }

    /// The first moment at which the clock shows `instant` or later.
    pub(crate) fn when(self, instant: Instant) -> Moment {
        let shown = instant.as_nanos();
        if shown == u64::MAX {
            return Moment::NEVER;
        }
        let elapsed = shown.saturating_sub(self.origin);
        Moment(match elapsed.checked_mul(MILLION) {
            Some(product) => product.div_ceil(self.per_million),
            None => saturated((u128::from(elapsed) * u128::from(MILLION)).div_ceil(u128::from(self.per_million))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_an_instant_at_the_first_moment_that_shows_it() {
        for ppm in [-50_000, 0, 1, 50_000] {
            let clock = WorkerClock::new(77, ppm);
            for nanos in [77, 78, 1_000_003, 10_000_000_077, 30_000_000_000_000] {
                let instant = Instant::from_nanos(nanos);
                let moment = clock.when(instant);
                assert!(clock.at(moment) >= instant, "{ppm} {nanos}");
                assert!(moment == Moment::START || clock.at(Moment(moment.0 - 1)) < instant, "{ppm} {nanos}");
            }
        }
    }
}
