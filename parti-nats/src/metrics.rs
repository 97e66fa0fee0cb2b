//! The metrics of a worker, all names in one place.
//!
//! They go through the `metrics` facade: install a recorder before the first worker starts, or they go nowhere.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use parti_core::{Bucket, Instant, Notice, Outcome, ReleaseReason, Status, SuspendReason, WorkerState};

/// What kind of metric one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// What is now.
    Gauge,
    /// A distribution, of seconds.
    Histogram,
}

/// Bounds for the buckets of every histogram, in seconds: histograms with the same bounds add up over workers, which
/// quantiles do not. From half a millisecond, a quick write, to a minute, a slow drain.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];

/// One metric: its name, its kind, its label besides `group`, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, which does not change from one version to the next.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// The label that it has besides `group`; empty if none.
    pub label: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// What its numbers count: seconds, or things.
    pub fn unit(&self) -> Unit {
        if self.name.ends_with("_seconds") || self.name.ends_with("_seconds_total") {
            Unit::Seconds
        } else {
            Unit::Count
        }
    }
}

/// Tells the recorder the unit and the help text of every metric. Install the recorder first.
///
/// ```
/// use metrics::NoopRecorder;
///
/// // In a service that of an exporter, such as `metrics-exporter-prometheus`: see the example `metrics`.
/// metrics::set_global_recorder(NoopRecorder).expect("there is no other recorder");
/// parti_nats::describe_metrics();
/// ```
pub fn describe_metrics() {
    for metric in METRICS.iter().chain(DELIVERY_METRICS) {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.unit(), metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.unit(), metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.unit(), metric.help),
        }
    }
}

macro_rules! metrics_table {
    ($(#[$doc:meta])* $table:ident: $($constant:ident = $name:literal, $kind:ident, $label:literal, $help:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*

        $(#[$doc])*
        pub const $table: &[Metric] = &[
            $(Metric { name: $name, kind: MetricKind::$kind, label: $label, help: $help },)*
        ];
    };
}

metrics_table! {
    /// Every metric of a worker, in the order in which the documentation lists them.
    METRICS:
    WORKERS = "parti_workers", Gauge, "", "workers that share the work; 0 unless this worker leads";
    RESTING = "parti_slots_resting", Gauge, "", "slots whose processes die soon after their start, so that they get no new work for now; 0 unless this worker leads";
    PARTITIONS = "parti_partitions", Gauge, "", "partitions in the list; 0 unless this worker leads";
    UNOWNED = "parti_partitions_unowned", Gauge, "", "partitions that nobody holds; 0 unless this worker leads";
    WITHOUT_ROOM = "parti_partitions_without_room", Gauge, "", "partitions that nobody holds since no worker has room for them within its limit; 0 unless this worker leads";
    UNOWNED_SECONDS = "parti_unowned_partition_seconds_total", Counter, "", "seconds without an owner, over all partitions, while this worker led";
    OWNED = "parti_partitions_owned", Gauge, "", "partitions that this worker holds and is to keep";
    RELEASING = "parti_partitions_releasing", Gauge, "", "partitions that this worker is giving up";
    MEASURED = "parti_partitions_measured", Gauge, "", "partitions of this worker whose weight is measured";
    LOAD_SILENT = "parti_partitions_load_silent", Gauge, "", "those of them whose load nobody has reported for four half-lives";
    LOADS_REFUSED = "parti_load_reports_refused_total", Counter, "", "reports of load that changed nothing, since they were 0 or absurd";
    ABANDONED = "parti_partitions_abandoned", Gauge, "", "partitions that this worker holds and nobody works on, since their handlers have stopped unasked";
    GUARDS_DROPPED = "parti_guards_dropped_total", Counter, "", "times that a handler has stopped unasked";
    CHANGES_UNREAD = "parti_changes_unread", Gauge, "", "batches of changes that the application has not read";
    BLOCKED = "parti_runtime_blocked_seconds", Histogram, "", "by how much the worker's task ran too late, each time that it was much";
    STATE = "parti_state", Gauge, "state", "1 for the state that this worker is in, 0 for the others";
    LEADER = "parti_leader", Gauge, "", "1 if this worker leads, else 0";
    SUSPENDED = "parti_suspended", Gauge, "", "1 if this worker's work is suspended, else 0";
    REBALANCES = "parti_rebalances_total", Counter, "reason", "plans that this worker has published, by what made them necessary";
    MOVES = "parti_moves_total", Counter, "", "partitions that these plans take from a worker that stays";
    PLACEMENTS = "parti_placements_total", Counter, "", "partitions without an owner that these plans place";
    REFUSED = "parti_plans_refused_total", Counter, "", "plans that were not published, because there is none or its records are too large";
    EVICTIONS = "parti_evictions_total", Counter, "reason", "tenures of others that this worker has ended";
    ACQUISITIONS = "parti_acquisitions_total", Counter, "", "partitions that have come to this worker";
    RELEASES = "parti_releases_total", Counter, "reason", "partitions that this worker was told to give up";
    SUSPENSIONS = "parti_suspensions_total", Counter, "reason", "times that all work was suspended";
    HANDOFF = "parti_handoff_seconds", Histogram, "", "from the announcement that a partition will come until it comes";
    DRAIN = "parti_drain_seconds", Histogram, "", "from the word to give a partition up until its handler has stopped";
    LEASE_MARGIN = "parti_lease_margin_seconds", Histogram, "", "what was left of the lease when it was renewed";
    PRESENCE_MARGIN = "parti_presence_margin_seconds", Histogram, "", "what was left of the presence when a check came back";
    STORE_WRITE = "parti_store_write_seconds", Histogram, "bucket", "from a write to its outcome";
    CONFLICTS = "parti_store_conflicts_total", Counter, "bucket", "writes that were refused, since somebody else was faster";
    WRITES_REFUSED = "parti_store_refused_total", Counter, "bucket", "writes that the server refused for a reason of its own, such as that it is full";
    UNKNOWN = "parti_store_unknown_total", Counter, "bucket", "writes without a certain outcome";
    LOGINS_REFUSED = "parti_logins_refused_total", Counter, "", "times that the server did not let this client in";
    SOURCE_ERRORS = "parti_source_errors_total", Counter, "", "failed readings of the partition list";
    RECORDING_ERRORS = "parti_recording_errors_total", Counter, "", "times that what this worker is told could not be recorded";
    WARNING = "parti_warning", Gauge, "name", "1 while the health of this worker has the warning of this name, else 0";
}

metrics_table! {
    /// Every metric of the delivery of messages, beside those of its worker.
    DELIVERY_METRICS:
    DELIVERED = "parti_messages_delivered_total", Counter, "", "messages that were handed to the application, those that came again included";
    REPEATED = "parti_messages_repeated_total", Counter, "", "messages that were handed out again after they had failed, or after a process that may have been ended by them";
    FAILED = "parti_messages_failed_total", Counter, "", "times that the work on a message failed";
    DEAD_LETTERS = "parti_dead_letters_total", Counter, "", "messages that were given up and stored as dead letters";
    POSITIONS_STORED = "parti_positions_stored_total", Counter, "", "writes of positions that were accepted";
    POSITIONS_FENCED = "parti_positions_fenced_total", Counter, "", "positions that could not be stored, since another owner has the partition";
    MESSAGES_REMOVED = "parti_messages_removed_total", Counter, "", "at most so many messages that the stream's limits have removed before they were finished";
    DELIVERY_STOPPED = "parti_delivery_stopped_total", Counter, "", "times that delivery to a partition has stopped, since its position does not fit or cannot be read";
    TAILS_LOST = "parti_tails_lost_total", Counter, "", "consumers that were made anew, since they were silent, gone or had passed over a message";
    CONSUMERS_RESTORED = "parti_consumers_restored_total", Counter, "", "times that a partition's consumer had delivered to somebody else, or was changed, and was brought back to its floor";
    LAG = "parti_messages_lag", Gauge, "", "messages of this worker's partitions that are known and not finished";
    LAG_MAX = "parti_messages_lag_max", Gauge, "", "the most of them that one partition has";
    LAG_SECONDS = "parti_messages_lag_seconds", Gauge, "", "for how long the oldest of them has been stored";
    CATCHING_UP = "parti_partitions_catching_up", Gauge, "", "partitions of this worker that are not at the end of the stream";
}

/// The metrics of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    group: String,
    workers: Gauge,
    resting: Gauge,
    partitions: Gauge,
    unowned: Gauge,
    without_room: Gauge,
    unowned_seconds: Counter,
    owned: Gauge,
    releasing: Gauge,
    /// In the order of [`WorkerState::ALL`].
    states: Vec<Gauge>,
    measured: Gauge,
    load_silent: Gauge,
    loads_refused: Counter,
    abandoned: Gauge,
    guards_dropped: Counter,
    changes_unread: Gauge,
    blocked: Histogram,
    leader: Gauge,
    suspended: Gauge,
    moves: Counter,
    placements: Counter,
    refused: Counter,
    acquisitions: Counter,
    handoff: Histogram,
    drain: Histogram,
    lease_margin: Histogram,
    presence_margin: Histogram,
    logins_refused: Counter,
    source_errors: Counter,
    recording_errors: Counter,
    /// In the order of [`Bucket::ALL`].
    stores: [StoreMetrics; 2],
    /// Partition-nanoseconds without an owner that do not make up a second yet.
    rest: AtomicU64,
}

/// What is measured of the writes to one bucket.
#[derive(Debug)]
struct StoreMetrics {
    seconds: Histogram,
    conflicts: Counter,
    refused: Counter,
    unknown: Counter,
}

impl Metrics {
    /// Registers the metrics of a worker of `group`, those at 0 included whose labels are known.
    pub(crate) fn new(group: &str) -> Self {
        let own = || group.to_owned();
        let stores = Bucket::ALL.map(|bucket| StoreMetrics {
            seconds: histogram!(STORE_WRITE, "group" => own(), "bucket" => bucket.to_string()),
            refused: counter!(WRITES_REFUSED, "group" => own(), "bucket" => bucket.to_string()),
            conflicts: counter!(CONFLICTS, "group" => own(), "bucket" => bucket.to_string()),
            unknown: counter!(UNKNOWN, "group" => own(), "bucket" => bucket.to_string()),
        });
        let state = |state: WorkerState| gauge!(STATE, "group" => own(), "state" => label_value(&state));
        Self {
            group: own(),
            workers: gauge!(WORKERS, "group" => own()),
            resting: gauge!(RESTING, "group" => own()),
            partitions: gauge!(PARTITIONS, "group" => own()),
            unowned: gauge!(UNOWNED, "group" => own()),
            without_room: gauge!(WITHOUT_ROOM, "group" => own()),
            unowned_seconds: counter!(UNOWNED_SECONDS, "group" => own()),
            owned: gauge!(OWNED, "group" => own()),
            releasing: gauge!(RELEASING, "group" => own()),
            states: WorkerState::ALL.map(state).into(),
            measured: gauge!(MEASURED, "group" => own()),
            load_silent: gauge!(LOAD_SILENT, "group" => own()),
            loads_refused: counter!(LOADS_REFUSED, "group" => own()),
            abandoned: gauge!(ABANDONED, "group" => own()),
            guards_dropped: counter!(GUARDS_DROPPED, "group" => own()),
            changes_unread: gauge!(CHANGES_UNREAD, "group" => own()),
            blocked: histogram!(BLOCKED, "group" => own()),
            leader: gauge!(LEADER, "group" => own()),
            suspended: gauge!(SUSPENDED, "group" => own()),
            moves: counter!(MOVES, "group" => own()),
            placements: counter!(PLACEMENTS, "group" => own()),
            refused: counter!(REFUSED, "group" => own()),
            acquisitions: counter!(ACQUISITIONS, "group" => own()),
            handoff: histogram!(HANDOFF, "group" => own()),
            drain: histogram!(DRAIN, "group" => own()),
            lease_margin: histogram!(LEASE_MARGIN, "group" => own()),
            presence_margin: histogram!(PRESENCE_MARGIN, "group" => own()),
            logins_refused: counter!(LOGINS_REFUSED, "group" => own()),
            source_errors: counter!(SOURCE_ERRORS, "group" => own()),
            recording_errors: counter!(RECORDING_ERRORS, "group" => own()),
            stores,
            rest: AtomicU64::new(0),
        }
    }

    /// Takes in what the worker says of itself now, `passed` after it last said `before`.
    pub(crate) fn observe(&self, before: &Status, status: &Status, now: Instant, passed: Duration) {
        if let Some(fleet) = before.fleet {
            self.count_unowned(fleet.unowned, passed);
        }
        let fleet = status.fleet.unwrap_or_default();
        self.workers.set(number(fleet.workers));
        self.resting.set(number(status.resting.len()));
        self.partitions.set(number(fleet.partitions));
        self.unowned.set(number(fleet.unowned));
        self.without_room.set(number(fleet.without_room));
        self.owned.set(number(status.owned));
        self.releasing.set(number(status.releasing));
        self.measured.set(number(status.load.measured));
        self.load_silent.set(number(status.load.silent));
        self.loads_refused.increment(status.load.refused.saturating_sub(before.load.refused));
        self.leader.set(number(usize::from(status.leader)));
        self.suspended.set(number(usize::from(status.suspended)));
        for (state, gauge) in WorkerState::ALL.iter().zip(&self.states) {
            gauge.set(number(usize::from(*state == status.state)));
        }
        record_margin(&self.lease_margin, before.lease_end, status.lease_end, now);
        record_margin(&self.presence_margin, before.presence_end, status.presence_end, now);
    }

    fn count_unowned(&self, partitions: usize, passed: Duration) {
        const SECOND: u64 = 1_000_000_000;
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(partitions as u64);
        // Only the driver counts here.
        let rest = self.rest.load(Ordering::Relaxed).saturating_add(nanos);
        self.unowned_seconds.increment(rest / SECOND);
        self.rest.store(rest % SECOND, Ordering::Relaxed);
    }

    pub(crate) fn noticed(&self, notice: &Notice) {
        match notice {
            Notice::Planned { reason, moved, placed, .. } => {
                self.by_reason(REBALANCES, reason);
                self.moves.increment(*moved as u64);
                self.placements.increment(*placed as u64);
            }
            Notice::PlanRefused { .. } => self.refused.increment(1),
            Notice::Evicted { reason, .. } => self.by_reason(EVICTIONS, reason),
            // The others are for the log.
            _ => {}
        }
    }

    pub(crate) fn acquired(&self, announced: Option<Duration>) {
        self.acquisitions.increment(1);
        if let Some(since) = announced {
            self.handoff.record(since);
        }
    }

    pub(crate) fn told_to_release(&self, reason: ReleaseReason) {
        self.by_reason(RELEASES, &reason);
    }

    pub(crate) fn released(&self, after: Duration) {
        self.drain.record(after);
    }

    pub(crate) fn suspended(&self, reason: SuspendReason) {
        self.by_reason(SUSPENSIONS, &reason);
    }

    pub(crate) fn wrote(&self, bucket: Bucket, outcome: Outcome, took: Duration) {
        let [members, plan] = &self.stores;
        let store = match bucket {
            Bucket::Members => members,
            Bucket::Plan => plan,
        };
        store.seconds.record(took);
        match outcome {
            Outcome::Committed(_) => {}
            Outcome::Conflict => store.conflicts.increment(1),
            Outcome::Refused => store.refused.increment(1),
            Outcome::Unknown => store.unknown.increment(1),
        }
    }

    pub(crate) fn login_refused(&self) {
        self.logins_refused.increment(1);
    }

    pub(crate) fn abandoned(&self, partitions: usize) {
        self.abandoned.set(number(partitions));
    }

    pub(crate) fn guard_dropped(&self) {
        self.guards_dropped.increment(1);
    }

    pub(crate) fn changes_unread(&self, batches: usize) {
        self.changes_unread.set(number(batches));
    }

    pub(crate) fn runtime_blocked(&self, late: Duration) {
        self.blocked.record(late);
    }

    pub(crate) fn source_failed(&self) {
        self.source_errors.increment(1);
    }

    pub(crate) fn recording_failed(&self) {
        self.recording_errors.increment(1);
    }

    /// Reasons are rare, so that their counters need not be kept.
    fn by_reason(&self, name: &'static str, reason: &impl fmt::Debug) {
        counter!(name, "group" => self.group.clone(), "reason" => label_value(reason)).increment(1);
    }
}

/// The name of a variant in snake case, as label values are written.
fn label_value(variant: &impl fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let mut value = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            value.push('_');
        }
        value.push(letter.to_ascii_lowercase());
    }
    value
}

/// What was left of a right when it was made longer.
fn record_margin(margin: &Histogram, before: Option<Instant>, after: Option<Instant>, now: Instant) {
    if let (Some(until), Some(renewed)) = (before, after)
        && renewed > until
    {
        margin.record(until.since(now));
    }
}

#[allow(clippy::cast_precision_loss)] // far fewer than 2⁵² of anything
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use parti_core::PlanReason;

    use super::*;

    #[test]
    fn label_values_are_in_snake_case_and_the_same_as_in_json() {
        let is_value = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for state in WorkerState::ALL {
            let value = label_value(&state);
            assert!(is_value(&value), "{value}");
            assert_eq!(serde_json::to_value(state).expect("plain data"), value);
        }
        assert_eq!(label_value(&PlanReason::WorkersJoined), "workers_joined");
        assert_eq!(label_value(&SuspendReason::LeaseRanOut), "lease_ran_out");
    }

    #[test]
    fn times_are_in_seconds_and_all_else_is_counted() {
        let seconds = METRICS.iter().filter(|metric| metric.unit() == Unit::Seconds);
        let histograms = METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram);
        assert_eq!(seconds.clone().count(), histograms.count() + 1);
        assert!(seconds.map(|metric| metric.name).any(|name| name == UNOWNED_SECONDS));
        assert!(SECONDS_BUCKETS.is_sorted());
    }

    #[test]
    fn the_documentation_has_every_metric() {
        let documented: Vec<_> =
            include_str!("../OPERATIONS.md").lines().filter(|line| line.starts_with("| `parti_")).collect();
        let row = |metric: &Metric| {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let label = if metric.label.is_empty() { String::new() } else { format!("`{}` ", metric.label) };
            format!("| `{}` | {kind} | {label}| {} |", metric.name, metric.help)
        };
        assert_eq!(documented, METRICS.iter().chain(DELIVERY_METRICS).map(row).collect::<Vec<_>>());
    }
}
