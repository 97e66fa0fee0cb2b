//! What the server's refusal of a write means, and how it is made known.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use parti_core::{Bucket, Instant, Key};

use crate::clock;
use crate::warnings::Warnings;

/// The warning that the server refuses writes.
pub(crate) const WRITE_REFUSED: &str = "write_refused";

/// The warning that the server does not let this client do something.
const PERMISSION_REFUSED: &str = "permission_refused";
/// How many of the server's refusals are kept.
const MAX_FORBIDDEN: usize = 32;
/// After this a refusal that was not repeated is no longer shown: whatever is forbidden is tried again before.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(20);

/// Codes for which the client has no name, or another name in each of its versions.
mod code {
    /// The stream's leader is not ready to judge the condition.
    pub(super) const NOT_READY: u64 = 10_163;
    /// The servers of the cluster are choosing who answers, or are too few.
    pub(super) const NO_ANSWER: [u64; 6] = [10_004, 10_005, 10_006, 10_007, 10_008, 10_009];
    /// The stream's servers are gone.
    pub(super) const OFFLINE: [u64; 3] = [10_118, 10_119, 10_194];
    pub(super) const CONDITION: [u64; 2] = [10_071, 10_164];
    pub(super) const STORAGE: [u64; 5] = [10_002, 10_023, 10_028, 10_047, 10_077];
    pub(super) const DISABLED: [u64; 2] = [10_039, 10_076];
    pub(super) const TOO_LARGE: [u64; 2] = [10_054, 10_097];
    pub(super) const SEALED: u64 = 10_109;
}

/// What the server said to one publish, other than that it has stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Its condition did not hold.
    ConditionFailed,
    /// Not stored, for a reason that passes within moments.
    NotReady,
    /// Not stored, for a reason that has nothing to do with what is there.
    Refused,
    /// Nothing that can be relied on.
    Unknown,
}

/// The code with which the server refused a publish, if it was the server that did.
pub(crate) fn error_code(error: &PublishError) -> Option<ErrorCode> {
    let source = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    source.map(jetstream::Error::error_code)
}

/// What the refusal of a publish means. Decided by the code alone, where there is one: the client sorts the same refusal
/// by different servers into different kinds.
pub(crate) fn meaning(error: &PublishError) -> Meaning {
    match (error_code(error), error.kind()) {
        (Some(code), _) => of_code(code.0),
        // The client itself does not send it.
        (None, PublishErrorKind::MaxPayloadExceeded) => Meaning::Refused,
        (None, _) => Meaning::Unknown,
    }
}

fn of_code(code: u64) -> Meaning {
    match code {
        code if code::CONDITION.contains(&code) => Meaning::ConditionFailed,
        code::NOT_READY => Meaning::NotReady,
        code if code::NO_ANSWER.contains(&code) || code::OFFLINE.contains(&code) => Meaning::Unknown,
        _ => Meaning::Refused,
    }
}

/// What to do about a refusal.
fn fix(error: &PublishError) -> &'static str {
    match error_code(error).map(|code| code.0) {
        Some(code) if code::STORAGE.contains(&code) => {
            "make room: free disk space, raise the storage limit of the server or the account, or delete other streams"
        }
        Some(code) if code::DISABLED.contains(&code) => "enable JetStream on the server and for the account",
        Some(code::SEALED) => "the stream was sealed, which cannot be undone: delete it, and it is made anew",
        Some(code) if code::TOO_LARGE.contains(&code) => "raise max_msg_size of the stream",
        None => "raise max_payload of the server",
        Some(_) => "change what the server complains of",
    }
}

/// Which buckets the server refuses to write, and what it says.
#[derive(Debug, Default)]
pub(crate) struct RefusedWrites(Mutex<BTreeMap<Bucket, String>>);

impl RefusedWrites {
    /// A write was refused with this error: said once for each thing that the server says.
    pub(crate) fn refused(&self, key: Key, error: &PublishError, warnings: &Warnings) {
        self.told(key, &error.to_string(), fix(error), warnings);
    }

    /// The server says that this client may not write.
    pub(crate) fn forbidden(&self, key: Key, said: &str, warnings: &Warnings) {
        self.told(key, said, "give this client's user the permissions of parti_nats::permissions", warnings);
    }

    fn told(&self, key: Key, said: &str, fix: &str, warnings: &Warnings) {
        let mut buckets = self.buckets();
        if buckets.get(&key.bucket()).is_some_and(|known| known == said) {
            return;
        }
        buckets.insert(key.bucket(), said.to_owned());
        tracing::warn!(event = WRITE_REFUSED, %key, error = said, fix, "the server refuses to store what this worker writes");
        let all = buckets.iter().map(|(bucket, said)| format!("{bucket}: {said}")).collect::<Vec<_>>().join("; ");
        warnings.set(WRITE_REFUSED, format!("the server refuses writes ({all}): {fix}"));
    }

    /// A write to this bucket was judged as it should be.
    pub(crate) fn accepted(&self, bucket: Bucket, warnings: &Warnings) {
        let mut buckets = self.buckets();
        if buckets.remove(&bucket).is_some() && buckets.is_empty() {
            warnings.clear(WRITE_REFUSED);
            tracing::info!(event = "write_accepted", "the server stores what this worker writes again");
        }
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<Bucket, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the server does not let this client do, as long as it says so now and then.
#[derive(Debug, Default)]
pub(crate) struct Forbidden(Mutex<BTreeMap<String, Instant>>);

impl Forbidden {
    /// Takes in what the server says; it is said once.
    pub(crate) fn observe(&self, said: &str, warnings: &Warnings) {
        let lower = said.to_ascii_lowercase();
        if !["permissions violation", "maximum subscriptions"].iter().any(|refusal| lower.starts_with(refusal)) {
            return;
        }
        let mut all = self.all();
        if all.len() >= MAX_FORBIDDEN || all.insert(said.to_owned(), clock::now()).is_some() {
            return;
        }
        tracing::warn!(event = PERMISSION_REFUSED, message = said, "the server refuses something to this client");
        tell(&all, warnings);
    }

    /// What was not said again for a while may be allowed by now.
    pub(crate) fn forget(&self, warnings: &Warnings) {
        let (mut all, now) = (self.all(), clock::now());
        let before = all.len();
        all.retain(|_, said_at| now.since(*said_at) < FORGOTTEN_AFTER);
        if all.len() < before {
            tell(&all, warnings);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(all: &BTreeMap<String, Instant>, warnings: &Warnings) {
    if all.is_empty() {
        warnings.clear(PERMISSION_REFUSED);
        return;
    }
    let said = all.keys().cloned().collect::<Vec<_>>().join("; ");
    let fix = "give this client's user the permissions of parti_nats::permissions, and enough subscriptions";
    warnings.set(PERMISSION_REFUSED, format!("the server refuses what this worker has to do ({said}): {fix}"));
}

#[cfg(test)]
mod tests {
    use parti_core::Slot;

    use super::*;

    fn answer(code: u64) -> PublishError {
        let text = format!(r#"{{"code":503,"err_code":{code},"description":"says {code}"}}"#);
        let source: jetstream::Error = serde_json::from_str(&text).expect("as a server says it");
        PublishError::with_source(PublishErrorKind::Other, source)
    }

    #[test]
    fn every_kind_of_refusal_has_its_outcome() {
        let expected = [
            (Meaning::ConditionFailed, vec![10_071, 10_164]),
            (Meaning::NotReady, vec![10_163]),
            (Meaning::Unknown, vec![10_004, 10_005, 10_006, 10_007, 10_008, 10_009, 10_118, 10_119, 10_194]),
            // Storage, JetStream off, sealed, too large, limits, and whatever comes later.
            (
                Meaning::Refused,
                vec![10_002, 10_023, 10_028, 10_047, 10_077, 10_039, 10_076, 10_109, 10_054, 10_053, 19_999],
            ),
        ];
        for (meaning, codes) in expected {
            for code in codes {
                assert_eq!(super::meaning(&answer(code)), meaning, "{code}");
            }
        }
        let kinds = [
            (PublishErrorKind::MaxPayloadExceeded, Meaning::Refused),
            (PublishErrorKind::TimedOut, Meaning::Unknown),
            (PublishErrorKind::BrokenPipe, Meaning::Unknown),
            // Nobody answers: JetStream is off, or its stream is choosing a leader.
            (PublishErrorKind::StreamNotFound, Meaning::Unknown),
            (PublishErrorKind::Other, Meaning::Unknown),
        ];
        for (kind, meaning) in kinds {
            assert_eq!(super::meaning(&PublishError::new(kind)), meaning, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_is_a_warning_with_the_servers_words_and_a_fix_until_a_write_gets_through() {
        let (refused, warnings) = (RefusedWrites::default(), Warnings::new("orders"));
        let key = Key::Slot(Slot::new(1));
        refused.refused(key, &answer(10_047), &warnings);
        refused.forbidden(Key::Cluster, "Permissions Violation for Publish", &warnings);
        let text = warnings.list()[0].text.clone();
        for part in ["members: ", "says 10047", "plan: Permissions Violation", "parti_nats::permissions"] {
            assert!(text.contains(part), "{text}");
        }
        refused.accepted(Bucket::Plan, &warnings);
        assert_eq!(warnings.list().len(), 1);
        refused.accepted(Bucket::Members, &warnings);
        assert_eq!(warnings.list(), []);
    }
}
