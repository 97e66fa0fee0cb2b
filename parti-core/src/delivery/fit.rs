//! A stored position beside the stream that is there now.

use super::event::StreamState;
use super::order::Misfit;
use super::position::PositionRecord;
use super::settings::{DeliveryConfig, Policy, StartAt};
use crate::ids::{Sequence, Timestamp};

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoOn {
    /// The last message that is finished, and when it was stored.
    pub(super) seq: Sequence,
    pub(super) at: Timestamp,
    /// The first message that is not finished has this number or a greater one.
    pub(super) next: Sequence,
}

/// Where a partition without a stored position begins.
pub(super) fn begin(start: StartAt, stream: StreamState) -> GoOn {
    let next = match start {
        StartAt::Earliest => stream.first,
        StartAt::Latest => stream.last.next(),
        StartAt::Sequence(sequence) => sequence.max(stream.first),
    };
    GoOn { seq: Sequence::default(), at: Timestamp::default(), next }
}

/// Looks whether the position was stored for this stream. `at` is when the message was stored that is at the position
/// now; none if there is none.
///
/// When a stream was made does not identify it alone: some servers change that. What was stored at the position does.
pub(super) fn judge(
    record: &PositionRecord,
    at: Option<Timestamp>,
    stream: StreamState,
    config: &DeliveryConfig,
) -> Result<GoOn, Misfit> {
    let has_message = record.seq > Sequence::default();
    let is_same_message = has_message && at == Some(record.at);
    let is_other_message = has_message && at.is_some_and(|at| at != record.at);
    if record.stream != config.stream || (record.created != stream.created && !is_same_message) {
        return Err(Misfit::MadeAnew);
    }
    if is_other_message || record.through > stream.last {
        return Err(Misfit::LostSuffix);
    }
    gap(record.through.next(), stream)?;
    Ok(GoOn { seq: record.seq, at: record.at, next: record.through.next() })
}

/// Looks whether the stream still has what may come next.
pub(super) fn gap(next: Sequence, stream: StreamState) -> Result<(), Misfit> {
    let at_most = stream.first.value().saturating_sub(next.value());
    if at_most > 0 { Err(Misfit::Gap { at_most }) } else { Ok(()) }
}

/// Where the policy says that a partition goes on whose position does not fit; none if it says to stop.
///
/// In a stream that is the same, what is finished stays finished: its numbers go on from there.
pub(super) fn go_on(misfit: Misfit, position: GoOn, stream: StreamState, config: &DeliveryConfig) -> Option<GoOn> {
    let (policy, is_same) = match misfit {
        Misfit::MadeAnew => (config.made_anew, false),
        Misfit::LostSuffix => (config.lost_suffix, false),
        Misfit::Gap { .. } => (config.gap, true),
    };
    let next = match policy {
        Policy::Stop => return None,
        Policy::Earliest => stream.first,
        Policy::Latest => stream.last.next(),
    };
    let (seq, at) = if is_same { (position.seq, position.at) } else { (Sequence::default(), Timestamp::default()) };
    Some(GoOn { seq, at, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamState =
        StreamState { created: Timestamp::new(7), first: Sequence::new(10), last: Sequence::new(90) };

    fn record(seq: u64, through: u64) -> PositionRecord {
        PositionRecord {
            stream: "ORDERS".into(),
            created: Timestamp::new(7),
            seq: Sequence::new(seq),
            at: Timestamp::new(1_000 + seq),
            through: Sequence::new(through),
            ..PositionRecord::default()
        }
    }

    fn judged(record: &PositionRecord, at: Option<u64>) -> Result<u64, Misfit> {
        let at = at.map(Timestamp::new);
        judge(record, at, STREAM, &DeliveryConfig::new("ORDERS")).map(|go_on| go_on.next.value())
    }

    #[test]
    fn a_position_that_fits_goes_on_behind_what_is_finished() {
        assert_eq!(judged(&record(20, 35), Some(1_020)), Ok(36));
        assert_eq!(judged(&record(0, 35), None), Ok(36));
        // The message at the position may be gone: the limits remove the finished ones as well.
        assert_eq!(judged(&record(9, 9), None), Ok(10));
        // Some servers change the time at which a stream was made.
        let stamped = PositionRecord { created: Timestamp::new(6), ..record(20, 20) };
        assert_eq!(judged(&stamped, Some(1_020)), Ok(21));
    }

    #[test]
    fn each_misfit_has_its_name() {
        let other = PositionRecord { created: Timestamp::new(6), ..record(20, 20) };
        assert_eq!(judged(&other, Some(5)), Err(Misfit::MadeAnew));
        assert_eq!(judged(&other, None), Err(Misfit::MadeAnew));
        assert_eq!(
            judged(&PositionRecord { stream: "OTHER".into(), ..record(20, 20) }, Some(1_020)),
            Err(Misfit::MadeAnew)
        );
        assert_eq!(judged(&record(20, 20), Some(5)), Err(Misfit::LostSuffix));
        assert_eq!(judged(&record(91, 91), None), Err(Misfit::LostSuffix));
        assert_eq!(judged(&record(20, 91), Some(1_020)), Err(Misfit::LostSuffix));
        assert_eq!(judged(&record(4, 5), None), Err(Misfit::Gap { at_most: 4 }));
    }

    #[test]
    fn the_policy_says_where_it_goes_on() {
        let position = GoOn { seq: Sequence::new(4), at: Timestamp::new(1_004), next: Sequence::new(5) };
        let earliest =
            DeliveryConfig { gap: Policy::Earliest, made_anew: Policy::Latest, ..DeliveryConfig::new("ORDERS") };
        let gap = go_on(Misfit::Gap { at_most: 5 }, position, STREAM, &earliest).expect("it goes on");
        assert_eq!((gap.seq.value(), gap.next.value()), (4, 10));
        let anew = go_on(Misfit::MadeAnew, position, STREAM, &earliest).expect("it goes on");
        assert_eq!((anew.seq.value(), anew.next.value()), (0, 91));
        assert_eq!(go_on(Misfit::LostSuffix, position, STREAM, &earliest), None);
    }

    #[test]
    fn a_partition_without_a_position_begins_where_the_settings_say() {
        let starts = [
            StartAt::Earliest,
            StartAt::Latest,
            StartAt::Sequence(Sequence::new(3)),
            StartAt::Sequence(Sequence::new(50)),
        ];
        assert_eq!(starts.map(|start| begin(start, STREAM).next.value()), [10, 91, 10, 50]);
    }
}
