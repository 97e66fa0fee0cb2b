//! The only call to a real clock, and the only draw of real randomness.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parti_core::{Incarnation, Instant};

/// The longest single wait: timers of the runtime stand still while the machine sleeps, the clock of [`now`] does not,
/// so a longer one could end that much too late.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Now, by a clock that goes on while the machine sleeps.
#[cfg(unix)]
pub(crate) fn now() -> Instant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    // Elsewhere the monotonic clock already counts sleep.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

    let time = rustix::time::clock_gettime(CLOCK);
    let since_boot = Duration::try_from(time).unwrap_or_default();
    Instant::ORIGIN + since_boot
}

/// Now, by a clock that goes on while the machine sleeps.
#[cfg(not(unix))]
pub(crate) fn now() -> Instant {
    static ORIGIN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    Instant::ORIGIN + ORIGIN.elapsed()
}

/// Returns at `deadline`, or never if there is none; after a sleep of the machine at most `late` after it.
pub(crate) async fn sleep_until(deadline: Option<Instant>, late: Duration) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    loop {
        let left = deadline.since(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(late)).await;
    }
}

/// A seed from the randomness of the operating system.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Each `RandomState` has keys that come from the operating system; the hash of nothing under them is as random.
    RandomState::new().hash_one(())
}

/// How long ago 1970 began, by the calendar of this machine.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time of day, such as a server tells, in nanoseconds since 1970.
pub(crate) fn nanos_since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The number of a new life of a bucket that had this one before, if any: greater than that, and as a rule than all others,
/// being the time in nanoseconds since 1970, with chance in its last digits, so that no two lives have the same.
pub(crate) fn new_life(before: Incarnation) -> Incarnation {
    const CHANCE_BITS: u32 = 20; // a millisecond
    let time = nanos_since_1970(SystemTime::now()) >> CHANCE_BITS;
    let later = time.max((before.value() >> CHANCE_BITS).saturating_add(1));
    let chance = random_seed() >> (u64::BITS - CHANCE_BITS);
    Incarnation::new(later.checked_mul(1 << CHANCE_BITS).map_or(u64::MAX, |time| time | chance))
}

/// A duration between half of `mean` and one and a half of it, so that many workers do not act in step.
pub(crate) fn jittered(mean: Duration) -> Duration {
    let thousandths = u32::try_from(random_seed() % 1000).unwrap_or(0);
    mean / 2 + mean * thousandths / 1000
}

/// What comes of `future`, or a failed test where it does not come soon: a broken rule is not to hang.
#[cfg(test)]
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    const SOON: Duration = Duration::from_secs(20);
    let Ok(output) = tokio::time::timeout(SOON, future).await else { panic!("nothing came of it within {SOON:?}") };
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_life_is_greater_than_the_one_before_whatever_the_clock_says() {
        let first = new_life(Incarnation::default());
        assert!(new_life(first) > first);
        let ahead = Incarnation::new(first.value() + (1 << 50));
        assert!(new_life(ahead) > ahead);
        assert_eq!(new_life(Incarnation::new(u64::MAX)), Incarnation::new(u64::MAX));
    }

    #[test]
    fn time_goes_on_and_jitter_stays_around_the_mean() {
        let before = now();
        assert!(before > Instant::ORIGIN);
        let mean = Duration::from_millis(100);
        let drawn: Vec<_> = (0..100).map(|_| jittered(mean)).collect();
        assert!(drawn.iter().all(|drawn| (mean / 2..mean * 3 / 2).contains(drawn)), "{drawn:?}");
        assert!(drawn.iter().any(|other| *other != drawn[0]), "{drawn:?}");
        assert!(now() >= before);
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_not_before() {
        let deadline = now() + Duration::from_millis(300);
        sleep_until(Some(deadline), LONGEST_WAIT).await;
        assert!(now() >= deadline);
    }
}
