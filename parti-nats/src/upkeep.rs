//! What is wrong with the buckets while workers run: somebody has edited them, they cannot be read, their news do not
//! come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parti_core::Instant;

use crate::clock;
use crate::mismatch::Mismatch;
use crate::warnings::Warnings;

/// The warning that a bucket cannot be read.
pub(crate) const BUCKET_UNREAD: &str = "bucket_unread";
/// The warning that a bucket was edited while workers run.
const BUCKET_EDITED: &str = "bucket_edited";
/// The warning that a bucket may be purged.
const BUCKET_PURGEABLE: &str = "bucket_purgeable";
/// The warning that the news of a bucket do not come to this worker.
const NEWS_MISSING: &str = "news_missing";

/// The warning that an operator's wish has a name that means nothing.
const WISH_UNKNOWN: &str = "wish_unknown";

/// The keys under `control.` that mean nothing, as the worker that reads all keys has seen them.
#[derive(Debug, Default)]
pub(crate) struct UnknownWishes(Mutex<BTreeSet<String>>);

impl UnknownWishes {
    /// A key that this version does not know was written, or deleted. One that is no wish is somebody's own.
    pub(crate) fn observe(&self, key: &str, deleted: bool, warnings: &Warnings) {
        if !key.starts_with("control.") {
            return;
        }
        let mut unknown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if deleted { unknown.remove(key) } else { unknown.insert(key.to_owned()) };
        if !changed {
            return;
        }
        let fix = "delete it, and write control.drain.<slot>, control.pause, control.maintenance or control.rebalance";
        if !deleted {
            tracing::warn!(event = WISH_UNKNOWN, key, fix, "an operator's wish has a name that means nothing");
        }
        let names = unknown.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        warn(warnings, WISH_UNKNOWN, &names, fix);
    }

    /// This worker no longer reads all keys, or begins to.
    pub(crate) fn forget(&self, warnings: &Warnings) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        warnings.clear(WISH_UNKNOWN);
    }
}

/// What is known of the buckets of a group, each by its name.
#[derive(Debug, Default)]
pub(crate) struct Upkeep(Mutex<BTreeMap<String, Bucket>>);

#[derive(Debug, Default)]
struct Bucket {
    /// Since when it could not be read.
    unread_since: Option<Instant>,
    /// Why, as it was said.
    unread: Option<String>,
    /// What does not fit of its settings.
    edited: Option<String>,
    /// Whether it may be purged.
    purgeable: bool,
    /// Whether the server repeats its changes.
    repeated: bool,
    /// Whether they do not come.
    silent: bool,
}

impl Upkeep {
    /// A bucket could not be read. Said once that has been so for longer than `patience`: servers may be choosing a
    /// leader.
    pub(crate) fn unread(&self, bucket: &str, why: &str, patience: Duration, warnings: &Warnings) {
        let mut buckets = self.buckets();
        let known = buckets.entry(bucket.to_owned()).or_default();
        let since = *known.unread_since.get_or_insert_with(clock::now);
        if clock::now().since(since) < patience || known.unread.is_some() {
            return;
        }
        known.unread = Some(why.to_owned());
        tracing::warn!(event = BUCKET_UNREAD, bucket, error = why, "a bucket cannot be read, trying on");
        let fix = "see that JetStream is on and its servers are up, and that this client has the permissions of parti_nats::permissions";
        warn(warnings, BUCKET_UNREAD, &all(&buckets, |bucket| bucket.unread.clone()), fix);
    }

    /// A bucket was read.
    pub(crate) fn read(&self, bucket: &str, warnings: &Warnings) {
        let mut buckets = self.buckets();
        let known = buckets.entry(bucket.to_owned()).or_default();
        known.unread_since = None;
        if known.unread.take().is_some() {
            tracing::info!(event = "bucket_read", bucket, "a bucket can be read again");
            warn(warnings, BUCKET_UNREAD, &all(&buckets, |bucket| bucket.unread.clone()), "");
        }
    }

    /// The settings of a bucket were looked at.
    pub(crate) fn checked(&self, bucket: &str, mismatches: &[Mismatch], warnings: &Warnings) {
        let mut buckets = self.buckets();
        let known = buckets.entry(bucket.to_owned()).or_default();
        known.repeated = mismatches.iter().all(|mismatch| mismatch.setting != "republish");
        let text = mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let edited = Some(text).filter(|text| !text.is_empty());
        if known.edited == edited {
            return;
        }
        if let Some(fix) = &edited {
            tracing::warn!(event = BUCKET_EDITED, bucket, fix, "somebody has edited a bucket: no worker can start");
        } else {
            tracing::info!(event = "bucket_mended", bucket, "a bucket that was edited fits again");
        }
        known.edited = edited;
        let fix = "set its stream back; until then no worker can start, and this one may miss news or lose records";
        warn(warnings, BUCKET_EDITED, &all(&buckets, |bucket| bucket.edited.clone()), fix);
    }

    /// Whether a bucket may be purged, which it should not.
    pub(crate) fn purgeable(&self, bucket: &str, purgeable: bool, warnings: &Warnings) {
        let mut buckets = self.buckets();
        let known = buckets.entry(bucket.to_owned()).or_default();
        if std::mem::replace(&mut known.purgeable, purgeable) == purgeable {
            return;
        }
        let fix = "set deny_purge of its stream to true and allow_rollup_hdrs to false, once no worker of an older version is left";
        if purgeable {
            tracing::warn!(event = BUCKET_PURGEABLE, bucket, fix, "a purge would take the work from all workers");
        }
        let text =
            |bucket: &Bucket| bucket.purgeable.then(|| "a purge would take the work from all workers".to_owned());
        warn(warnings, BUCKET_PURGEABLE, &all(&buckets, text), fix);
    }

    /// Whether the server repeats the changes of a bucket, by its settings.
    pub(crate) fn is_repeated(&self, bucket: &str) -> bool {
        self.buckets().get(bucket).is_none_or(|known| known.repeated)
    }

    /// The news of a bucket do not come to this worker, or do again.
    pub(crate) fn silent(&self, bucket: &str, silent: bool, warnings: &Warnings) {
        let mut buckets = self.buckets();
        let known = buckets.entry(bucket.to_owned()).or_default();
        if std::mem::replace(&mut known.silent, silent) == silent {
            return;
        }
        if silent {
            tracing::warn!(event = NEWS_MISSING, bucket, "the news of a bucket do not come: it is read more often");
        } else {
            tracing::info!(event = "news_back", bucket, "the news of a bucket come again");
        }
        let fix = "let this client subscribe to the subjects in parti_nats::permissions, and keep republish of the stream as it was; the bucket is read more often meanwhile";
        let text = |bucket: &Bucket| bucket.silent.then(|| "its news do not come to this worker".to_owned());
        warn(warnings, NEWS_MISSING, &all(&buckets, text), fix);
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be said of each bucket.
fn all(buckets: &BTreeMap<String, Bucket>, text: impl Fn(&Bucket) -> Option<String>) -> String {
    let said = buckets.iter().filter_map(|(name, bucket)| Some(format!("{name}: {}", text(bucket)?)));
    said.collect::<Vec<_>>().join("; ")
}

fn warn(warnings: &Warnings, name: &'static str, what: &str, fix: &str) {
    if what.is_empty() {
        warnings.clear(name);
    } else {
        warnings.set(name, format!("{what}: {fix}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(warnings: &Warnings) -> Vec<&'static str> {
        warnings.list().iter().map(|warning| warning.name).collect()
    }

    #[test]
    fn a_wish_that_means_nothing_is_said_until_it_is_deleted() {
        let (wishes, warnings) = (UnknownWishes::default(), Warnings::new("orders"));
        wishes.observe("somebody.elses", false, &warnings);
        assert_eq!(names(&warnings), [""; 0]);
        wishes.observe("control.drian.3", false, &warnings);
        assert!(warnings.get(WISH_UNKNOWN).expect("it is said").contains("control.drian.3"));
        wishes.observe("control.drian.3", true, &warnings);
        assert_eq!(names(&warnings), [""; 0]);
    }

    #[test]
    fn what_is_wrong_with_a_bucket_is_said_until_it_is_over() {
        let (upkeep, warnings) = (Upkeep::default(), Warnings::new("orders"));
        upkeep.unread("members", "no responders", Duration::from_secs(60), &warnings);
        assert_eq!(names(&warnings), [""; 0], "it may be short");
        upkeep.unread("members", "no responders", Duration::ZERO, &warnings);
        let mismatch = Mismatch { setting: "republish", found: "None".into(), needed: "Some".into() };
        assert!(upkeep.is_repeated("plan"));
        upkeep.checked("plan", &[mismatch], &warnings);
        assert!(!upkeep.is_repeated("plan"));
        upkeep.silent("plan", true, &warnings);
        upkeep.purgeable("plan", true, &warnings);
        assert_eq!(names(&warnings), [BUCKET_EDITED, BUCKET_PURGEABLE, BUCKET_UNREAD, NEWS_MISSING]);
        assert!(warnings.get(BUCKET_EDITED).expect("one").contains("plan: set republish to Some"));
        upkeep.checked("plan", &[], &warnings);
        upkeep.silent("plan", false, &warnings);
        upkeep.purgeable("plan", false, &warnings);
        upkeep.read("members", &warnings);
        assert_eq!(names(&warnings), [""; 0]);
    }
}
