//! How watchers learn what is in the store: snapshots, changes, and what can go wrong with both.

use std::time::Duration;

use parti_core::{AssignmentRecord, Bucket, Generation, Interest, Key, KvEvent, Record, Revision, WatchId};

use super::event::{Shown, What};
use super::requests::AtStore;
use super::store::Entry;
use super::watches::Watch;
use crate::check::mark::Mark;
use crate::fault::around::Around;
use crate::setting::options::NetworkOptions;
use crate::told::fact::{Fact, Mishap, ProcessId};

/// How soon a watch that broke is opened again.
const REOPENED_AFTER: Duration = Duration::from_millis(50);
/// How many writes a stale read may be behind.
const MAX_BEHIND: u64 = 20;
/// How many keys a partial listing lacks, in parts per million.
const LACKING_PPM: u32 = 300_000;
/// How often a planted bug shows old news as new, in parts per million.
const OLD_NEWS_PPM: u32 = 50_000;

/// What of a watch's message a worker hears.
pub(super) enum Heard {
    Nothing,
    One(KvEvent),
    Listing {
        /// The watch broke.
        before: Option<KvEvent>,
        entries: Vec<KvEvent>,
        end: KvEvent,
        /// It is of the watch that the worker has, so that its end may wait in the queue.
        current: bool,
    },
}

impl AtStore<'_> {
    /// A worker asks for a watch, in place of the one that it had.
    pub(crate) fn open_watch(&mut self, process: ProcessId, watch: WatchId, bucket: Bucket, interest: Interest) {
        self.watchers.of_mut(bucket).insert(process, Watch::new(watch, interest));
        self.schedule_snapshot(process, bucket, watch);
    }

    /// A worker's adapter reads everything that it watches anew.
    pub(crate) fn reread(&mut self, process: ProcessId) {
        for bucket in Bucket::ALL {
            if let Some(watch) = self.watchers.of(bucket).get(process).map(|watch| watch.id) {
                self.schedule_snapshot(process, bucket, watch);
            }
        }
    }

    pub(crate) fn schedule_reread(&mut self, process: ProcessId) {
        let (least, most) = self.ground.options.network.reread_ms;
        let pause = Duration::from_millis(self.network.rng.between(least, most));
        self.ground.schedule.push(self.ground.now + pause, What::Reread { process });
    }

    fn schedule_snapshot(&mut self, process: ProcessId, bucket: Bucket, watch: WatchId) {
        let reads = self.ground.now + self.network.one_way(&self.ground.options);
        self.ground.schedule.push(reads, What::ReadSnapshot { process, bucket, watch });
    }

    /// The store reads the current values for a watch. A connection that is gone needs no answer: another reading
    /// follows when it is back.
    pub(crate) fn read_snapshot(&mut self, process: ProcessId, bucket: Bucket, watch: WatchId) {
        if !self.watchers.is_current(process, bucket, watch) {
            return;
        }
        let link = &self.ground.process(process).link;
        if link.broken || link.closed {
            self.ground.process_mut(process).link.held.push(What::ReadSnapshot { process, bucket, watch });
            return;
        }
        if self.ground.now < self.network.store_down_until {
            self.ground.schedule.push(self.network.store_down_until, What::ReadSnapshot { process, bucket, watch });
            return;
        }
        let away_until = self.ground.process(process).link.store_away_until;
        if self.ground.now < away_until {
            self.ground.tell(&Fact::Reached { process, mark: Mark::StoreAwayForOne });
            self.ground.schedule.push(away_until, What::ReadSnapshot { process, bucket, watch });
            return;
        }
        let stale = self.network.rng.chance(self.ground.options.network.stale_read_ppm);
        let behind = if stale { self.network.rng.between(1, MAX_BEHIND) } else { 0 };
        let partial_ppm = match bucket {
            Bucket::Members => self.ground.options.network.partial_members_ppm,
            Bucket::Plan => self.ground.options.network.partial_plan_ppm,
        };
        let partial = self.network.rng.chance(partial_ppm);
        if stale {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::StaleRead });
        }
        if partial {
            self.ground.tell(&Fact::Mishap { process, mishap: Mishap::PartialListing });
        }
        let interest = self.watch_of(process, bucket).interest.clone();
        let entries = self.kept.store.snapshot(bucket, &interest, usize::try_from(behind).unwrap_or(0));
        let mut last = self.kept.store.last_revision(bucket).value().saturating_sub(behind);
        let mut shown = Vec::with_capacity(entries.len());
        let entries = self.mixed_with_older(process, bucket, &interest, entries, &mut last);
        for (key, entry) in entries {
            if !partial || !self.network.rng.chance(LACKING_PPM) {
                shown.push(entry.shown(watch, key));
                continue;
            }
            last = last.min(entry.revision.value() - 1); // it says how far it is complete
            if self.ground.options.has(Around::AbsenceIsDeletion) {
                shown.push(KvEvent::Deleted { watch, key, revision: entry.revision.next() });
            }
        }
        let life = self.kept.store.life(bucket);
        let arrives = self.ground.now + self.network.notify_delay(&self.ground.options);
        let watch = self.watch_of(process, bucket);
        watch.open = true;
        watch.front = watch.front.max(arrives);
        watch.key_fronts.clear();
        watch.missed.clear();
        let (at, watch) = (watch.front, watch.id);
        self.ground
            .schedule
            .push(at, What::Show { process, bucket, watch, shown: Shown::Snapshot(shown, life, Revision::new(last)) });
    }

    /// The same entries, or some of them as a replica has them that is behind. Who watches some keys reads each by itself,
    /// and is told the last revision of the bucket; who watches all is told up to which one nothing is lacking.
    fn mixed_with_older(
        &mut self,
        process: ProcessId,
        bucket: Bucket,
        interest: &Interest,
        mut entries: Vec<(Key, Entry)>,
        last: &mut u64,
    ) -> Vec<(Key, Entry)> {
        if !self.network.rng.chance(self.ground.options.network.mixed_listing_ppm) {
            return entries;
        }
        let behind = usize::try_from(self.network.rng.between(1, MAX_BEHIND)).unwrap_or(0);
        let older = self.kept.store.snapshot(bucket, interest, behind);
        let count = entries.len();
        entries.retain_mut(|(key, entry)| {
            let before = older.binary_search_by_key(&&*key, |(other, _)| other).ok().map(|place| &older[place].1);
            if before == Some(&*entry) || !self.network.rng.chance(LACKING_PPM) {
                return true;
            }
            if *interest == Interest::All {
                *last = (*last).min(entry.revision.value() - 1);
            }
            before.inspect(|before| entry.clone_from(before)).is_some()
        });
        if entries.len() < count || !older.is_empty() {
            self.ground.tell(&Fact::Reached { process, mark: Mark::MixedListing });
        }
        entries
    }

    /// Shows the last write of `key` to everyone who watches it.
    pub(crate) fn notify(&mut self, key: Key) {
        let bucket = key.bucket();
        let Some(written) = self.kept.store.entry(key).cloned() else { return };
        for process in self.watchers.of(bucket).watchers(key) {
            let watch = self.watch_of(process, bucket);
            let (open, silent_until) = (watch.open, watch.silent_until);
            if !open || self.ground.process(process).link.noticed {
                continue;
            }
            if self.network.rng.chance(self.ground.options.network.missed_ppm) {
                self.watch_of(process, bucket).missed.insert(key);
            } else if silent_until <= self.ground.now {
                if self.watch_of(process, bucket).missed.remove(&key) {
                    self.ground.tell(&Fact::Reached { process, mark: Mark::MissedChange });
                }
                self.show_change(process, key, &written);
            } else {
                self.ground.tell(&Fact::Mishap { process, mishap: Mishap::Unheard });
            }
        }
    }

    fn show_change(&mut self, process: ProcessId, key: Key, written: &Entry) {
        let bucket = key.bucket();
        let arrives = self.ground.now + self.network.notify_delay(&self.ground.options);
        let reorder = self.ground.options.network.reorder;
        let watch = self.watch_of(process, bucket);
        let front = if reorder { watch.key_fronts.entry(key).or_insert(watch.front) } else { &mut watch.front };
        *front = arrives.max(*front);
        let (at, watch) = (*front, watch.id);
        let change = written.shown(watch, key);
        let life = self.kept.store.incarnation(bucket);
        let twice = self.network.rng.chance(self.ground.options.network.shown_twice_ppm);
        if twice {
            let shown = Shown::Change(change.clone(), life);
            self.ground.schedule.push(at, What::Show { process, bucket, watch, shown });
        }
        if self.ground.options.has(Around::OldNewsAsNew)
            && let Some(old) = old_news(&change)
            && self.network.rng.chance(OLD_NEWS_PPM)
        {
            for change in [change, old] {
                let shown = Shown::Change(change, life);
                self.ground.schedule.push(at, What::Show { process, bucket, watch, shown });
            }
            return;
        }
        self.ground.schedule.push(at, What::Show { process, bucket, watch, shown: Shown::Change(change, life) });
    }

    /// A watch's message reaches the process; what its worker hears.
    pub(super) fn reaches(&mut self, process: ProcessId, bucket: Bucket, watch: WatchId, shown: Shown) -> Heard {
        if let Shown::End(incarnation, last, epoch) = shown {
            if self.ground.process(process).link.epoch != epoch {
                self.ground.tell(&Fact::Mishap { process, mishap: Mishap::OldNews });
            }
            return Heard::One(KvEvent::CaughtUp { watch, incarnation, last });
        }
        if !self.watchers.is_current(process, bucket, watch) {
            return self.reaches_late(process, watch, shown);
        }
        let waits_until = self.watch_of(process, bucket).waits_until;
        if waits_until > self.ground.now {
            self.ground.schedule.push(waits_until, What::Show { process, bucket, watch, shown });
            return Heard::Nothing;
        }
        let link = &mut self.ground.process_mut(process).link;
        if link.noticed || (link.closed && !link.broken) {
            return Heard::Nothing; // the subscription is gone; another reading follows
        }
        if link.broken {
            link.held.push(What::Show { process, bucket, watch, shown });
            return Heard::Nothing;
        }
        match shown {
            Shown::Change(change, life) => match &mut self.watch_of(process, bucket).heard {
                // Each change says which one of the key it follows: here not the one that was shown.
                Some(((known, _), _)) if *known != life => {
                    self.schedule_snapshot(process, bucket, watch);
                    Heard::Nothing
                }
                heard => {
                    if let Some((_, heard)) = heard {
                        *heard = (*heard).max(revision(&change).unwrap_or_default());
                    }
                    Heard::One(change)
                }
            },
            Shown::Lost => Heard::One(KvEvent::WatchLost { watch }),
            Shown::Snapshot(entries, life @ (incarnation, _), last) => {
                let before = self.watch_of(process, bucket).heard.replace((life, last));
                // The bucket was made anew or purged, has lost writes, or a replica lags: who reads it cannot tell.
                let is_lost = before.is_some_and(|(known, heard)| known != life || heard > last);
                let before = is_lost.then_some(KvEvent::WatchLost { watch });
                Heard::Listing { before, entries, end: KvEvent::CaughtUp { watch, incarnation, last }, current: true }
            }
            Shown::End(..) => unreachable!("it was told above"),
        }
    }

    /// What a replaced watch had under way may still reach the worker.
    fn reaches_late(&mut self, process: ProcessId, watch: WatchId, shown: Shown) -> Heard {
        if !self.ground.process(process).link.is_up() {
            return Heard::Nothing;
        }
        self.ground.tell(&Fact::Mishap { process, mishap: Mishap::ReplacedWatch });
        match shown {
            Shown::Change(change, _) => Heard::One(change),
            Shown::Lost => Heard::One(KvEvent::WatchLost { watch }),
            Shown::Snapshot(entries, (incarnation, _), last) => {
                let end = KvEvent::CaughtUp { watch, incarnation, last };
                Heard::Listing { before: None, entries, end, current: false }
            }
            Shown::End(..) => unreachable!("no watch is too old for it"),
        }
    }

    /// The end of a snapshot may wait in the worker's queue, and what comes after it does too; whether it waits.
    pub(super) fn waits(&mut self, process: ProcessId, bucket: Bucket, end: &KvEvent) -> bool {
        let KvEvent::CaughtUp { watch, incarnation, last } = *end else { return false };
        if !self.network.rng.chance(self.ground.options.network.waits_in_queue_ppm) {
            return false;
        }
        let waits = Duration::from_millis(self.network.rng.below(NetworkOptions::WAITS_MS));
        let until = self.ground.now + waits;
        let shown = Shown::End(incarnation, last, self.ground.process(process).link.epoch);
        // What was listed may have made the worker ask for another one.
        if let Some(watch) = self.watchers.of_mut(bucket).get_mut(process).filter(|current| current.id == watch) {
            watch.waits_until = until;
        }
        self.ground.schedule.push(until, What::Show { process, bucket, watch, shown });
        true
    }

    /// A watch breaks, says so, and is opened again with a snapshot.
    pub(crate) fn break_watch(&mut self, process: ProcessId, bucket: Bucket) {
        let now = self.ground.now;
        let Some(watch) = self.watchers.of_mut(bucket).get_mut(process) else { return };
        watch.open = false;
        let (at, watch) = (watch.front.max(now), watch.id);
        self.ground.schedule.push(at, What::Show { process, bucket, watch, shown: Shown::Lost });
        self.ground.schedule.push(at + REOPENED_AFTER, What::ReadSnapshot { process, bucket, watch });
    }

    /// The watch of a process that has one.
    fn watch_of(&mut self, process: ProcessId, bucket: Bucket) -> &mut Watch {
        self.watchers.of_mut(bucket).get_mut(process).expect("it has one")
    }
}

/// An assignment of an earlier generation, which owns nothing, as if it had been written after `change`.
fn old_news(change: &KvEvent) -> Option<KvEvent> {
    let KvEvent::Entry { watch, key, revision, record: Record::Assignment(record) } = change else { return None };
    let generation = Generation::new(record.generation.value().saturating_sub(1));
    let old = AssignmentRecord { generation, owned: Vec::new(), ..(**record).clone() };
    let revision = Revision::new(revision.value() + 1);
    Some(KvEvent::Entry { watch: *watch, key: *key, revision, record: Record::Assignment(old.into()) })
}

fn revision(event: &KvEvent) -> Option<Revision> {
    match event {
        KvEvent::Entry { revision, .. } | KvEvent::Deleted { revision, .. } | KvEvent::Undecodable { revision, .. } => {
            Some(*revision)
        }
        KvEvent::CaughtUp { .. }
        | KvEvent::WatchLost { .. }
        | KvEvent::Done { .. }
        | KvEvent::Lost
        | KvEvent::Restored => None,
    }
}
