//! What somebody should look at that shows only as time passes: the runtime is blocked, the application does not read,
//! there is nothing to divide, settings differ, records cannot be read.

use std::time::Duration;

use parti_core::{Difference, Instant, Key, LoadStatus, MAX_LOAD, Slot, Status};

use crate::publisher::Publisher;

/// The warning that this process, or its runtime, did not run.
const RUNTIME_BLOCKED: &str = "runtime_blocked";
/// The warning that the application does not read its changes.
const CHANGES_UNREAD: &str = "changes_unread";
/// The warning that there are no partitions.
const NO_PARTITIONS: &str = "no_partitions";
/// The warning that this worker has other settings than its leader.
const SETTINGS_DIFFER: &str = "settings_differ";
/// The warning that processes die again and again.
const RESTING: &str = "resting";
/// The warning that records cannot be read.
const UNDECODABLE: &str = "undecodable";
/// The warning that loads are measured and not reported.
const LOAD_UNREPORTED: &str = "load_unreported";
/// The warning that reports of load are refused.
const LOAD_REFUSED: &str = "load_refused";
/// For how long a block is warned of after its end.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The shortest block that is told of.
const SHORTEST_BLOCK: Duration = Duration::from_millis(250);

/// What the driver notices of itself and of what it is told.
#[derive(Debug)]
pub(crate) struct Attention {
    /// How long something may last before it is said.
    patience: Duration,
    /// How long the driver may be late.
    block: Duration,
    /// When the driver has to run again.
    due: Option<Instant>,
    /// Until when a block is warned of.
    blocked_until: Option<Instant>,
    /// Since when there has been nothing to divide.
    empty_since: Option<Instant>,
    unread: bool,
    differences: Vec<Difference>,
    resting: Vec<Slot>,
    load: LoadStatus,
    unreadable: Vec<Key>,
}

impl Attention {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            patience: lease,
            block: (lease / 8).max(SHORTEST_BLOCK),
            due: None,
            blocked_until: None,
            empty_since: None,
            unread: false,
            differences: Vec::new(),
            resting: Vec::new(),
            load: LoadStatus::default(),
            unreadable: Vec::new(),
        }
    }

    /// The driver has done all that it had to by `now`, and waits until `due`.
    pub(crate) fn waits(&mut self, now: Instant, due: Option<Instant>) {
        self.due = due.map(|due| due.max(now));
    }

    /// The driver runs again. Where that is far too late, something has kept it, and with it this whole runtime.
    pub(crate) fn woke(&mut self, now: Instant, publisher: &Publisher) {
        let Some(late) = self.due.take().map(|due| now.since(due)).filter(|late| *late >= self.block) else { return };
        tracing::warn!(
            event = RUNTIME_BLOCKED,
            seconds = late.as_secs_f64(),
            "this process or its runtime did not run: no handler of the application may block a thread of the runtime"
        );
        publisher.metrics.runtime_blocked(late);
        let seconds = late.as_secs_f64();
        publisher.signs.warnings.set(
            RUNTIME_BLOCKED,
            format!(
                "this process or its runtime did not run for {seconds:.1} s: move what blocks to spawn_blocking, or give the worker a runtime of its own"
            ),
        );
        self.blocked_until = Some(now + REMEMBERED);
    }

    /// Looks at what is so now. `unread` is since when the application has not read a change, and how many there are.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        status: &Status,
        unread: Option<(Instant, usize)>,
        publisher: &Publisher,
    ) {
        let warnings = &publisher.signs.warnings;
        if self.blocked_until.take_if(|until| *until <= now).is_some() {
            warnings.clear(RUNTIME_BLOCKED);
        }
        publisher.metrics.changes_unread(unread.map_or(0, |(_, count)| count));
        self.look_at_unread(now, unread, publisher);
        self.look_at_list(now, status, publisher);
        self.look_at_loads(status.load, publisher);
        if self.differences != status.differences {
            self.differences.clone_from(&status.differences);
            let text: Vec<_> = self.differences.iter().map(ToString::to_string).collect();
            warn(publisher, SETTINGS_DIFFER, text.join("; "));
        }
        if self.resting != status.resting {
            self.resting.clone_from(&status.resting);
            let slots: Vec<_> = self.resting.iter().map(ToString::to_string).collect();
            let fix = |slots: String| {
                format!(
                    "what runs in slot {slots} dies soon after its start, so it gets no new work for a while: its own log says why"
                )
            };
            warn(publisher, RESTING, if slots.is_empty() { String::new() } else { fix(slots.join(", ")) });
        }
        if self.unreadable != status.unreadable {
            self.unreadable.clone_from(&status.unreadable);
            let keys: Vec<_> = self.unreadable.iter().map(ToString::to_string).collect();
            let fix =
                |keys: String| format!("cannot read {keys}: write or delete what is there; the log says what is wrong");
            warn(publisher, UNDECODABLE, if keys.is_empty() { String::new() } else { fix(keys.join(", ")) });
        }
    }

    fn look_at_unread(&mut self, now: Instant, unread: Option<(Instant, usize)>, publisher: &Publisher) {
        let late = unread.filter(|(since, _)| now.since(*since) >= self.patience);
        match (late, std::mem::replace(&mut self.unread, late.is_some())) {
            (Some((since, changes)), false) => {
                let seconds = now.since(since).as_secs();
                tracing::warn!(
                    event = CHANGES_UNREAD,
                    changes,
                    seconds,
                    "the application does not read its changes: its partitions count as held, and nobody works on them"
                );
                let fix = "call Handle::next_change all the time, and do the work elsewhere";
                let text = format!("the application has not read its changes for {seconds} s: {fix}");
                publisher.signs.warnings.set(CHANGES_UNREAD, text);
            }
            (None, true) => {
                publisher.signs.warnings.clear(CHANGES_UNREAD);
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Reports are absent, or are no loads.
    fn look_at_loads(&mut self, load: LoadStatus, publisher: &Publisher) {
        let before = std::mem::replace(&mut self.load, load);
        if before.silent != load.silent {
            let text = format!(
                "the load of {} of {} measured partitions is not reported: call Guard::report_load in their handlers, or take measured from the list",
                load.silent, load.measured
            );
            if before.silent == 0 {
                tracing::warn!(event = LOAD_UNREPORTED, "{text}");
            }
            warn(publisher, LOAD_UNREPORTED, if load.silent == 0 { String::new() } else { text });
        }
        if before.refused == load.refused {
            return;
        }
        let text = format!("{} reports of load changed nothing: report from 1 to {MAX_LOAD}", load.refused);
        if publisher.signs.warnings.set(LOAD_REFUSED, text.clone()) {
            tracing::warn!(event = LOAD_REFUSED, "{text}");
        }
    }

    fn look_at_list(&mut self, now: Instant, status: &Status, publisher: &Publisher) {
        let is_empty = status.fleet.is_some_and(|fleet| fleet.partitions == 0);
        if !is_empty {
            if self.empty_since.take().is_some() {
                publisher.signs.warnings.clear(NO_PARTITIONS);
            }
            return;
        }
        let since = *self.empty_since.get_or_insert(now);
        let text = "there are no partitions to divide: give workers a list, or write one into its bucket";
        if now.since(since) >= self.patience && publisher.signs.warnings.set(NO_PARTITIONS, text) {
            tracing::warn!(event = NO_PARTITIONS, "{text}");
        }
    }
}

/// Warns of `text`, or no longer if it is empty.
fn warn(publisher: &Publisher, name: &'static str, text: String) {
    if text.is_empty() {
        publisher.signs.warnings.clear(name);
    } else {
        publisher.signs.warnings.set(name, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parti_core::{Config, Fleet, Mode, Setting, Worker};
    use tokio::sync::watch;

    use super::*;
    use crate::health::Signs;
    use crate::metrics::Metrics;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn world() -> (Attention, Publisher, Status) {
        let config = Config::default();
        let status = Worker::new(config.clone(), 1, at(0)).expect("valid").status();
        let publisher = Publisher {
            mode: Mode::Strict,
            lease: Arc::default(),
            status: watch::channel(status.clone()).0,
            signs: Arc::new(Signs::new("orders")),
            metrics: Arc::new(Metrics::new("orders")),
            last: at(0),
        };
        (Attention::new(config.lease), publisher, status)
    }

    fn warned(publisher: &Publisher) -> Vec<&'static str> {
        publisher.signs.warnings.list().iter().map(|warning| warning.name).collect()
    }

    #[test]
    fn a_driver_that_is_late_says_so_for_a_while() {
        let (mut attention, publisher, status) = world();
        attention.waits(at(1_000), Some(at(500)));
        attention.woke(at(1_200), &publisher);
        assert_eq!(warned(&publisher), [""; 0], "it was busy itself");
        attention.waits(at(2_000), Some(at(2_500)));
        attention.woke(at(7_600), &publisher);
        attention.look(at(7_600), &status, None, &publisher);
        let text = publisher.signs.warnings.get(RUNTIME_BLOCKED).expect("it is said");
        assert!(text.contains("5.1 s"), "{text}");
        attention.look(at(67_600), &status, None, &publisher);
        assert_eq!(warned(&publisher), [""; 0]);
    }

    #[test]
    fn what_lasts_for_a_lease_is_said_until_it_is_over() {
        let (mut attention, publisher, status) = world();
        let empty = Status { fleet: Some(Fleet::default()), ..status.clone() };
        let since = Some((at(1_000), 3));
        attention.look(at(1_000), &empty, since, &publisher);
        attention.look(at(10_900), &empty, since, &publisher);
        assert_eq!(warned(&publisher), [""; 0]);
        attention.look(at(11_000), &empty, since, &publisher);
        assert_eq!(warned(&publisher), [CHANGES_UNREAD, NO_PARTITIONS]);
        attention.look(at(11_100), &status, None, &publisher);
        assert_eq!(warned(&publisher), [""; 0]);
    }

    #[test]
    fn what_differs_or_cannot_be_read_is_named() {
        let (mut attention, publisher, status) = world();
        let difference = Difference { setting: Setting::List, own: "a".into(), leaders: "b".into() };
        let resting = vec![Slot::new(3), Slot::new(5)];
        let odd = Status { differences: vec![difference], resting, unreadable: vec![Key::Leader], ..status.clone() };
        attention.look(at(0), &odd, None, &publisher);
        assert_eq!(warned(&publisher), [RESTING, SETTINGS_DIFFER, UNDECODABLE]);
        assert!(publisher.signs.warnings.get(RESTING).expect("one").contains("slot 3, 5"));
        assert!(publisher.signs.warnings.get(UNDECODABLE).expect("one").contains("leader"));
        attention.look(at(0), &status, None, &publisher);
        assert_eq!(warned(&publisher), [""; 0]);
    }
    #[test]
    fn loads_that_nobody_reports_and_reports_that_are_refused_are_said() {
        let (mut attention, publisher, status) = world();
        let with = |load| Status { load, ..status.clone() };
        attention.look(at(0), &with(LoadStatus { measured: 3, silent: 2, refused: 0 }), None, &publisher);
        assert_eq!(warned(&publisher), [LOAD_UNREPORTED]);
        let text = publisher.signs.warnings.get(LOAD_UNREPORTED).expect("it is said");
        assert!(text.contains('2') && text.contains("report_load"), "{text}");
        attention.look(at(0), &with(LoadStatus { measured: 3, silent: 0, refused: 7 }), None, &publisher);
        assert_eq!(warned(&publisher), [LOAD_REFUSED]);
        let text = publisher.signs.warnings.get(LOAD_REFUSED).expect("it is said");
        assert!(text.starts_with("7 reports"), "{text}");
    }
}
