//! A point in time that the caller makes: the core has no clock of its own.

use core::ops::Add;
pub use core::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// A point on one worker's own monotonic clock, in nanoseconds since an origin of the caller's choice.
///
/// Instants of two workers are never compared. The clock behind it must go on while the machine sleeps
/// (`CLOCK_BOOTTIME` on Linux): a lease that a sleeping machine does not count is not safe.
/// Serialized as nanoseconds since the origin; a [`Status`](crate::Status) tells its instants in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The earliest of these, if there is any: when a part is to be asked again.
pub(crate) fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    let mut earliest = None;
    for time in times {
        earliest = match (earliest, time) {
            (Some(one), Some(other)) => Some(Instant::min(one, other)),
            (one, other) => one.or(other),
        };
    }
    earliest
}

/// Serializes an instant that may be missing, as whole milliseconds since the origin.
#[expect(clippy::ref_option, reason = "serde passes a field like this")]
pub(crate) fn in_millis<S: Serializer>(instant: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    instant.map(|instant| instant.0 / 1_000_000).serialize(serializer)
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Stays at the end of time rather than wrap around.
    fn add(self, duration: Duration) -> Self {
        let nanos = duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into());
        Self(self.0.saturating_add(nanos))
    }
}
