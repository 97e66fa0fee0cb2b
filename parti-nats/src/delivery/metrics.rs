//! What is measured of delivery; the names are with all others in `metrics.rs`.

use std::time::SystemTime;

use metrics::{Counter, Gauge, counter, gauge};
use parti_core::delivery::LaneStatus;

use crate::clock;
use crate::metrics::{
    CATCHING_UP, CONSUMERS_RESTORED, DEAD_LETTERS, DELIVERED, DELIVERY_STOPPED, FAILED, LAG, LAG_MAX, LAG_SECONDS,
    MESSAGES_REMOVED, POSITIONS_FENCED, POSITIONS_STORED, REPEATED, TAILS_LOST,
};

/// The metrics of one worker's delivery.
pub(crate) struct Metrics {
    pub(crate) delivered: Counter,
    pub(crate) repeated: Counter,
    pub(crate) failed: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) stored: Counter,
    pub(crate) fenced: Counter,
    pub(crate) removed: Counter,
    pub(crate) stopped: Counter,
    pub(crate) tails_lost: Counter,
    pub(crate) restored: Counter,
    lag: Gauge,
    lag_max: Gauge,
    lag_seconds: Gauge,
    catching_up: Gauge,
}

impl Metrics {
    pub(crate) fn new(group: &str) -> Self {
        let count = |name: &'static str| counter!(name, "group" => group.to_owned());
        let measure = |name: &'static str| gauge!(name, "group" => group.to_owned());
        Self {
            delivered: count(DELIVERED),
            repeated: count(REPEATED),
            failed: count(FAILED),
            dead_letters: count(DEAD_LETTERS),
            stored: count(POSITIONS_STORED),
            fenced: count(POSITIONS_FENCED),
            removed: count(MESSAGES_REMOVED),
            stopped: count(DELIVERY_STOPPED),
            tails_lost: count(TAILS_LOST),
            restored: count(CONSUMERS_RESTORED),
            lag: measure(LAG),
            lag_max: measure(LAG_MAX),
            lag_seconds: measure(LAG_SECONDS),
            catching_up: measure(CATCHING_UP),
        }
    }

    /// How far behind this worker is now.
    pub(crate) fn observe<'a>(&self, lanes: impl Iterator<Item = LaneStatus<'a>>) {
        let (mut lag, mut most, mut oldest, mut catching_up) = (0, 0, u64::MAX, 0_u32);
        for lane in lanes {
            let of_lane = lane.pending + (lane.ready + lane.unfinished) as u64;
            lag += of_lane;
            most = of_lane.max(most);
            oldest = lane.oldest.map_or(oldest, |stored| oldest.min(stored.value()));
            catching_up += u32::from(!lane.is_on_tail);
        }
        self.lag.set(number(lag));
        self.lag_max.set(number(most));
        self.lag_seconds.set(seconds_since(oldest));
        self.catching_up.set(catching_up);
    }
}

/// For how many seconds something has been stored, by this machine's clock; 0 if nothing is.
fn seconds_since(stored: u64) -> f64 {
    let nanos = clock::nanos_since_1970(SystemTime::now()).saturating_sub(stored);
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and nobody counts beyond 2^52 messages")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stored_has_no_age() {
        assert!(seconds_since(u64::MAX).abs() < f64::EPSILON);
        assert!(seconds_since(0) > 1e9);
    }
}
