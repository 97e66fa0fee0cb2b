//! The buckets of a group: created as the protocol needs them, or checked.

use async_nats::Client;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy};
use async_nats::jetstream::{self, Context, ErrorCode};
use parti_core::{Bucket, GroupName, Incarnation};

use crate::clock;

use crate::error::{Error, ErrorKind};
use crate::mismatch::Mismatch;

/// How many watches of other tools a bucket admits; some servers allow only 1 000 unless told otherwise. The workers
/// themselves need none.
const MAX_CONSUMERS: i32 = 100_000;

/// The key in a stream's metadata under which its creator has named its life, see [`life_of`].
const INCARNATION: &str = "parti_incarnation";

/// The last part of the name of the bucket that keeps a partition list.
const LIST: &str = "partitions";

/// The last part of the name of the bucket that keeps how far messages are finished.
const POSITIONS: &str = "positions";

/// Which life of a bucket this is: the number that its creator chose. The time of creation that the server tells is none:
/// where several founded the group at once, it differs from server to server, and changes when they restart. It is
/// taken for the buckets of older versions, which have no other.
pub(crate) fn life_of(info: &Info) -> Incarnation {
    let named = info.config.metadata.get(INCARNATION).and_then(|life| life.parse().ok());
    Incarnation::new(named.unwrap_or_else(|| clock::nanos_since_1970(info.created.into())))
}

/// The stream and the subjects behind one bucket of a group.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) bucket: String,
    pub(crate) stream: String,
    /// What the subject of a stored key starts with.
    pub(crate) stored: String,
    /// What the subject starts with under which the server repeats each accepted write.
    pub(crate) repeated: String,
    /// Whether nobody is ever to purge it: only an operator's list and positions are theirs to clear.
    pub(crate) denies_purge: bool,
}

impl Names {
    pub(crate) fn new(group: &GroupName, bucket: Bucket) -> Self {
        Self::of(group, &bucket.to_string())
    }

    /// The bucket of a partition list that is kept in the store.
    pub(crate) fn partitions(group: &GroupName) -> Self {
        Self::of(group, LIST)
    }

    /// The bucket of how far the messages of each partition are finished.
    pub(crate) fn positions(group: &GroupName) -> Self {
        Self::of(group, POSITIONS)
    }

    fn of(group: &GroupName, kind: &str) -> Self {
        let bucket = format!("parti_{group}_{kind}");
        Self {
            stream: format!("KV_{bucket}"),
            stored: format!("$KV.{bucket}."),
            repeated: format!("parti.{group}.{kind}."),
            denies_purge: kind != LIST && kind != POSITIONS,
            bucket,
        }
    }
}

/// Creates the buckets of `group`, that of its partition list included, where they are not there yet: for an operator,
/// so that workers need no permission to. `replicas` is the least number of copies to keep of each.
///
/// # Errors
///
/// [`ErrorKind::Bucket`] if one is there with settings that the protocol cannot work with, and what the server says if
/// it creates none.
pub async fn create_buckets(client: &Client, group: &GroupName, replicas: usize) -> Result<(), Error> {
    let jetstream = jetstream::new(client.clone());
    ensure(&jetstream, group, replicas).await?;
    ensure_one(&jetstream, &Names::partitions(group), replicas).await
}

/// Makes sure that both buckets of `group` are there and fit. `replicas` is the least number of copies to keep.
pub(crate) async fn ensure(jetstream: &Context, group: &GroupName, replicas: usize) -> Result<(), Error> {
    for bucket in Bucket::ALL {
        ensure_one(jetstream, &Names::new(group, bucket), replicas).await?;
    }
    Ok(())
}

/// Makes sure that one bucket is there and fits. Whoever is first creates it; the server lets one win.
pub(crate) async fn ensure_one(jetstream: &Context, names: &Names, replicas: usize) -> Result<(), Error> {
    ensure_after(jetstream, names, replicas, Incarnation::default()).await
}

/// The same, by who knows that the bucket has had a life of this number before.
pub(crate) async fn ensure_after(
    jetstream: &Context,
    names: &Names,
    replicas: usize,
    before: Incarnation,
) -> Result<(), Error> {
    let found = match find(jetstream, names).await? {
        Some(found) => found,
        None => create(jetstream, names, replicas, before).await?,
    };
    let mismatches = mismatches(&found, names, replicas);
    if mismatches.is_empty() {
        return Ok(());
    }
    let Names { bucket, stream, .. } = names.clone();
    Err(Error::new(ErrorKind::Bucket { bucket, stream, mismatches }))
}

/// Makes sure that there is a group of this name.
pub(crate) async fn assert_group(jetstream: &Context, group: &GroupName) -> Result<(), Error> {
    for bucket in Bucket::ALL {
        let names = Names::new(group, bucket);
        if find(jetstream, &names).await?.is_none() {
            return Err(Error::new(ErrorKind::NoGroup { group: group.clone(), stream: names.stream }));
        }
    }
    Ok(())
}

/// How the stream behind a bucket is set up; `None` if there is none.
pub(crate) async fn find(jetstream: &Context, names: &Names) -> Result<Option<Config>, Error> {
    let error = match jetstream.get_stream(&names.stream).await {
        Ok(stream) => return Ok(Some(stream.cached_info().config.clone())),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        GetStreamErrorKind::JetStream(answer) if is_disabled(answer.error_code()) => Err(disabled(jetstream)),
        GetStreamErrorKind::Request if nobody_responds(&error) => Err(disabled(jetstream)),
        _ => Err(Error::with_source(store_error(names, "looked at"), error)),
    }
}

async fn create(jetstream: &Context, names: &Names, replicas: usize, before: Incarnation) -> Result<Config, Error> {
    let life = clock::new_life(before);
    let metadata = [(INCARNATION.to_owned(), life.to_string())].into();
    let error = match jetstream.create_stream(Config { metadata, ..wanted(names, replicas) }).await {
        Ok(stream) => return Ok(stream.cached_info().config.clone()),
        Err(error) => error,
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NAME_EXIST => {
            // Another worker was faster: with another life, if nothing else.
            let found = find(jetstream, names).await?;
            found.ok_or_else(|| Error::with_source(store_error(names, "created"), error))
        }
        CreateStreamErrorKind::JetStream(answer) if is_disabled(answer.error_code()) => Err(disabled(jetstream)),
        CreateStreamErrorKind::JetStreamUnavailable => Err(disabled(jetstream)),
        _ => Err(Error::with_source(store_error(names, "created"), error)),
    }
}

/// A proper key-value bucket, whose accepted writes are also repeated to plain subjects.
fn wanted(names: &Names, replicas: usize) -> Config {
    Config {
        name: names.stream.clone(),
        subjects: vec![format!("{}>", names.stored)],
        max_messages_per_subject: 1,
        max_messages: -1,
        max_bytes: -1,
        max_message_size: -1,
        max_consumers: MAX_CONSUMERS,
        discard: DiscardPolicy::New,
        // A server that is to deny purges has to deny what replaces all messages of a subject as well.
        allow_rollup: !names.denies_purge,
        deny_purge: names.denies_purge,
        deny_delete: true,
        allow_direct: true,
        num_replicas: replicas,
        republish: Some(republish(names)),
        ..Config::default()
    }
}

pub(crate) fn republish(names: &Names) -> Republish {
    let [source, destination] = [&names.stored, &names.repeated].map(|prefix| format!("{prefix}>"));
    Republish { source, destination, headers_only: false }
}

/// What somebody has changed of a bucket in use, so that the protocol cannot work with it. How many copies there are is
/// not looked at: that may be changed at any time.
pub(crate) fn edits(found: &Config, names: &Names) -> Vec<Mismatch> {
    mismatches(found, names, 1)
}

/// Whether a bucket may be purged that should not: one of an older version, or of somebody's own making.
pub(crate) fn is_purgeable(found: &Config, names: &Names) -> bool {
    names.denies_purge && !found.deny_purge
}

fn mismatches(found: &Config, names: &Names, replicas: usize) -> Vec<Mismatch> {
    let wanted = wanted(names, replicas);
    let unlimited = |limit: i64| limit <= 0;
    let way = |republish: &Option<Republish>| match republish {
        Some(Republish { source, destination, headers_only: false }) => format!("{source} -> {destination}"),
        Some(Republish { source, destination, .. }) => format!("{source} -> {destination}, headers only"),
        None => "none".to_owned(),
    };
    let checks = [
        ("subjects", found.subjects == wanted.subjects, text(&found.subjects), text(&wanted.subjects)),
        ("republish", found.republish == wanted.republish, way(&found.republish), way(&wanted.republish)),
        (
            "retention",
            found.retention == RetentionPolicy::Limits,
            text(&found.retention),
            text(&RetentionPolicy::Limits),
        ),
        (
            "max_msgs_per_subject",
            (1..=64).contains(&found.max_messages_per_subject),
            text(&found.max_messages_per_subject),
            "1".into(),
        ),
        (
            "discard_new_per_subject",
            !found.discard_new_per_subject,
            text(&found.discard_new_per_subject),
            "false".into(),
        ),
        ("max_msgs", unlimited(found.max_messages), text(&found.max_messages), "-1".into()),
        ("max_bytes", unlimited(found.max_bytes), text(&found.max_bytes), "-1".into()),
        ("max_msg_size", unlimited(found.max_message_size.into()), text(&found.max_message_size), "-1".into()),
        ("max_age", found.max_age.is_zero(), text(&found.max_age), "0 (no limit)".into()),
        ("num_replicas", found.num_replicas >= replicas, text(&found.num_replicas), format!("at least {replicas}")),
        ("no_ack", !found.no_ack, text(&found.no_ack), "false".into()),
        ("sealed", !found.sealed, text(&found.sealed), "false".into()),
        ("mirror", found.mirror.is_none(), "set".into(), "none".into()),
        ("sources", found.sources.as_ref().is_none_or(Vec::is_empty), "set".into(), "none".into()),
        ("subject_transform", found.subject_transform.is_none(), "set".into(), "none".into()),
    ];
    checks
        .into_iter()
        .filter(|(_, fits, _, _)| !fits)
        .map(|(setting, _, found, needed)| Mismatch { setting, found, needed })
        .collect()
}

fn text(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn store_error(names: &Names, attempt: &'static str) -> ErrorKind {
    ErrorKind::Store { bucket: names.bucket.clone(), stream: names.stream.clone(), attempt }
}

fn disabled(jetstream: &Context) -> Error {
    let info = jetstream.client().server_info();
    Error::new(ErrorKind::JetStreamDisabled { server: format!("{}:{}", info.host, info.port) })
}

fn is_disabled(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)
}

fn nobody_responds(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let request = error.downcast_ref::<async_nats::jetstream::context::RequestError>();
        if request.is_some_and(|request| request.kind() == RequestErrorKind::NoResponders) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(&GroupName::new("orders").expect("a valid name"), Bucket::Members)
    }

    #[test]
    fn a_stream_that_was_made_as_wanted_fits() {
        assert_eq!(mismatches(&wanted(&names(), 3), &names(), 3), []);
        assert_eq!(mismatches(&wanted(&names(), 3), &names(), 1), []);
    }

    #[test]
    fn each_setting_that_does_not_fit_is_named_with_what_to_change() {
        let found = Config {
            max_age: std::time::Duration::from_secs(60),
            republish: None,
            retention: RetentionPolicy::Interest,
            max_bytes: 1_000,
            sealed: true,
            ..wanted(&names(), 1)
        };
        let found: Vec<_> = mismatches(&found, &names(), 3).iter().map(ToString::to_string).collect();
        let expected = [
            "set republish to $KV.parti_orders_members.> -> parti.orders.members.>, it is none",
            "set retention to Limits, it is Interest",
            "set max_bytes to -1, it is 1000",
            "set max_age to 0 (no limit), it is 60s",
            "set num_replicas to at least 3, it is 1",
            "set sealed to false, it is true",
        ];
        assert_eq!(found, expected);
    }
}
