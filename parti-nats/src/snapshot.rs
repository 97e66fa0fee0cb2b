//! What a bucket holds, read from the store.

use std::time::SystemTime;

use crate::bucket::{self, Names};
use crate::connection::Connection;
use crate::kv::{is_marker, last_message};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;
use async_nats::{HeaderMap, Message};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parti_core::{Bucket, Incarnation, Interest, Key, KvEvent, Revision, WatchId};

/// How many keys are read at the same time.
const READS_IN_FLIGHT: usize = 64;
/// The status of the message that ends an answer of many.
const END: u16 = 204;

/// What the core wants to watch.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) watch: WatchId,
    pub(crate) bucket: Bucket,
    pub(crate) interest: Interest,
}

/// What the store held at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) incarnation: Incarnation,
    /// The bucket's last revision when the reading began, as the stream's leader said.
    pub(crate) last: u64,
    /// Up to this revision `values` lack nothing. A copy that is behind shows less than `last`.
    pub(crate) complete_to: u64,
    /// In order of their revisions.
    pub(crate) values: Vec<Change>,
}

/// A bucket, as the stream's leader describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) incarnation: Incarnation,
    /// The last revision.
    pub(crate) last: u64,
    /// How many messages it keeps: at least one for each key that was ever written, unless somebody has purged it.
    pub(crate) messages: u64,
}

/// One change of one key.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    /// When it was written, by the clock of the server that took it; `None` where nobody wants to know.
    pub(crate) written: Option<SystemTime>,
    pub(crate) event: KvEvent,
}

impl Snapshot {
    /// What was read between two looks at the bucket. It belongs to one life of it only if that is the same.
    fn new(before: Head, after: Head, complete_to: u64, mut values: Vec<Change>) -> Result<Self, async_nats::Error> {
        if before.incarnation != after.incarnation {
            return Err("the bucket was made anew while it was read".into());
        }
        values.sort_unstable_by_key(|change| change.revision);
        Ok(Self { incarnation: before.incarnation, last: before.last, complete_to, values })
    }

    /// Whether the bucket was made anew, or has lost writes, since it was known to be in this life, and to have had this
    /// revision.
    pub(crate) fn is_of_another_life(&self, known: Option<Incarnation>, heard: u64) -> bool {
        known.is_some_and(|known| known != self.incarnation) || self.last < heard
    }
}

impl Change {
    pub(crate) fn new(watch: WatchId, key: Key, revision: u64, deleted: bool, bytes: &[u8]) -> Self {
        let named = Revision::new(revision);
        let event = if deleted {
            KvEvent::Deleted { watch, key, revision: named }
        } else {
            KvEvent::from_stored(watch, key, named, bytes)
        };
        Self { key, revision, written: None, event }
    }

    fn stored(watch: WatchId, key: Key, message: &StreamMessage) -> Self {
        let change = Self::new(watch, key, message.sequence, is_marker(&message.headers), &message.payload);
        Self { written: Some(message.time.into()), ..change }
    }
}

/// Asks the stream's leader.
pub(crate) async fn head(connection: &Connection, names: &Names) -> Result<Head, async_nats::Error> {
    let info = connection.jetstream.get_stream_no_info(&names.stream).await?.get_info().await?;
    let signs = &connection.signs;
    signs.upkeep.checked(&names.bucket, &bucket::edits(&info.config, names), &signs.warnings);
    signs.upkeep.purgeable(&names.bucket, bucket::is_purgeable(&info.config, names), &signs.warnings);
    let (last, messages) = (info.state.last_sequence, info.state.messages);
    Ok(Head { incarnation: bucket::life_of(&info), last, messages })
}

/// Reads the last message of each key of interest.
pub(crate) async fn read(
    connection: &Connection,
    names: &Names,
    request: &Request,
) -> Result<Snapshot, async_nats::Error> {
    let stream = connection.jetstream.get_stream_no_info(&names.stream).await?;
    if request.interest == Interest::All
        && let Some(snapshot) = read_together(connection, &stream, names, request).await?
    {
        return Ok(snapshot);
    }
    let before = head(connection, names).await?;
    let keys = match &request.interest {
        Interest::Keys(keys) => keys.iter().copied().collect(),
        Interest::All => stored_keys(&stream, names, request.bucket).await?,
    };
    let values = read_each(&stream, names, request.watch, keys).await?;
    Snapshot::new(before, head(connection, names).await?, before.last, values)
}

/// Reads the last message of each of these keys from the stream's leader.
async fn read_each(
    stream: &Stream<()>,
    names: &Names,
    watch: WatchId,
    keys: Vec<Key>,
) -> Result<Vec<Change>, async_nats::Error> {
    let read_last = |key: Key| {
        let subject = format!("{}{key}", names.stored);
        async move {
            let last = last_message(stream, &subject).await?;
            Ok::<_, async_nats::Error>(last.map(|last| Change::stored(watch, key, &last)))
        }
    };
    let reads = stream::iter(keys.into_iter().map(read_last)).buffer_unordered(READS_IN_FLIGHT);
    reads.try_filter_map(async |change| Ok(change)).try_collect().await
}

/// Reads the last messages of all keys with one request. `None` if that cannot be had: the server is older than 2.11,
/// there are more than 1 024 keys, or the bucket has just changed.
///
/// Whichever server has a copy of the stream answers. One that is behind says so by the revision up to which it has
/// everything; one that has another life of the bucket does not have the leader's last message. What can be asked at the
/// same time is: whoever reads everything may be about to lead.
async fn read_together(
    connection: &Connection,
    stream: &Stream<()>,
    names: &Names,
    request: &Request,
) -> Result<Option<Snapshot>, async_nats::Error> {
    let (before, messages) = tokio::try_join!(head(connection, names), last_messages(connection, names))?;
    let Some((complete_to, messages)) = messages else { return Ok(None) };
    let Some(newest) = messages.last() else { return Ok(None) };
    let verified = async { Ok(is_of_leader(stream, newest).await) };
    let (after, verified) = tokio::try_join!(head(connection, names), verified)?;
    if !verified {
        return Ok(None);
    }
    // Others may keep keys of their own in the bucket.
    let change = |message: &StreamMessage| {
        let name = message.subject.strip_prefix(names.stored.as_str())?;
        let Some(key) = Key::parse(request.bucket, name) else {
            let signs = &connection.signs;
            signs.unknown_wishes.observe(name, is_marker(&message.headers), &signs.warnings);
            return None;
        };
        Some(Change::stored(request.watch, key, message))
    };
    Snapshot::new(before, after, complete_to, messages.iter().filter_map(change).collect()).map(Some)
}

/// The last messages of all keys in some copy of the stream, in their order, and up to which revision they lack nothing.
async fn last_messages(
    connection: &Connection,
    names: &Names,
) -> Result<Option<(u64, Vec<StreamMessage>)>, async_nats::Error> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let wanted = format!("{{\"multi_last\":[\"{}>\"]}}", names.stored);
    client.publish_with_reply(connection.in_api(read_together_subject(names)), inbox, wanted.into()).await?;
    let mut messages: Vec<StreamMessage> = Vec::new();
    loop {
        // The copy that was asked may have just been lost.
        let Ok(answer) = tokio::time::timeout(connection.request_timeout, answers.next()).await else {
            return Ok(None);
        };
        let answer = answer.ok_or("the connection was closed")?;
        match answer.status.map(|status| status.as_u16()) {
            None => messages.push(answer.try_into()?),
            Some(END) => {
                let complete_to = number(&answer, "Nats-UpTo-Sequence").filter(|_| is_whole(&messages));
                return Ok(complete_to.map(|complete_to| (complete_to, messages)));
            }
            Some(_) => return Ok(None),
        }
    }
}

/// The subject to ask for the last messages of many keys at once.
pub(crate) fn read_together_subject(names: &Names) -> String {
    format!("$JS.API.DIRECT.GET.{}", names.stream)
}

/// Whether these are all messages of an answer. The first one says that it follows none, and how many follow it.
fn is_whole(messages: &[StreamMessage]) -> bool {
    let Some(first) = messages.first() else { return true };
    let said = |name| number_in(&first.headers, name);
    let following = said("Nats-Num-Pending").and_then(|pending| usize::try_from(pending).ok());
    said("Nats-Last-Sequence") == Some(0) && following == Some(messages.len() - 1)
}

/// Whether the stream's leader has the very same message: no two lives of a bucket have one of the same number that was
/// stored in the same nanosecond.
pub(crate) async fn is_of_leader(stream: &Stream<()>, message: &StreamMessage) -> bool {
    let found = stream.get_raw_message(message.sequence).await;
    found.is_ok_and(|found| (found.time, found.subject) == (message.time, message.subject.clone()))
}

async fn stored_keys(stream: &Stream<()>, names: &Names, bucket: Bucket) -> Result<Vec<Key>, async_nats::Error> {
    let subjects = stream.info_with_subjects(format!("{}>", names.stored)).await?;
    let parse = |(subject, _): (String, usize)| {
        let name = subject.strip_prefix(names.stored.as_str());
        // Others may keep keys of their own in the bucket.
        std::future::ready(Ok(name.and_then(|name| Key::parse(bucket, name))))
    };
    Ok(subjects.try_filter_map(parse).try_collect().await?)
}

/// The number in a header that the server adds to what it has stored. A header of that name may have been stored too:
/// the server's is the last.
pub(crate) fn number(message: &Message, header: &str) -> Option<u64> {
    number_in(message.headers.as_ref()?, header)
}

pub(crate) fn number_in(headers: &HeaderMap, header: &str) -> Option<u64> {
    headers.get_last(header)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::iter;

    use async_nats::jetstream::message::StreamMessage;
    use parti_core::Slot;

    use super::*;

    /// One message of an answer of many: how many follow it, and which one it follows.
    fn message(sequence: u64, pending: &str, last: &str) -> StreamMessage {
        let mut headers = HeaderMap::new();
        headers.append("Nats-Num-Pending", pending);
        headers.append("Nats-Last-Sequence", last);
        let (subject, payload) = ("$KV.parti_orders_members.slot.1".into(), "".into());
        StreamMessage { subject, sequence, headers, payload, time: SystemTime::UNIX_EPOCH.into() }
    }

    #[test]
    fn an_answer_with_holes_is_not_taken_for_all() {
        let answer = || vec![message(3, "2", "0"), message(5, "1", "3"), message(9, "0", "5")];
        assert!(is_whole(&answer()) && is_whole(&[]));
        for missing in 0..answer().len() {
            let mut holed = answer();
            holed.remove(missing);
            assert!(!is_whole(&holed), "without message {missing}");
        }
        for (pending, last) in [("2", "1"), ("x", "0"), ("2", ""), ("3", "0"), ("1", "0")] {
            let first = iter::once(message(3, pending, last));
            let odd: Vec<_> = first.chain(answer().into_iter().skip(1)).collect();
            assert!(!is_whole(&odd), "{pending} follow, after {last}");
        }
    }

    /// What a key of the stored messages says of itself comes before what the server says of it.
    #[test]
    fn a_header_that_was_stored_does_not_pass_for_the_servers() {
        let mut headers = HeaderMap::new();
        headers.append("Nats-Num-Pending", "7");
        headers.append("Nats-Num-Pending", "2");
        assert_eq!(number_in(&headers, "Nats-Num-Pending"), Some(2));
    }

    fn at(incarnation: Incarnation, last: u64) -> Head {
        Head { incarnation, last, messages: last }
    }

    #[test]
    fn what_was_read_across_two_lives_is_of_none() {
        let [one, other] = [1, 2].map(Incarnation::new);
        let change = |slot, revision| {
            let key = Key::Slot(Slot::new(slot));
            Change::new(WatchId::new(7), key, revision, true, &[])
        };
        assert!(Snapshot::new(at(one, 9), at(other, 9), 9, Vec::new()).is_err());
        let whole = Snapshot::new(at(one, 9), at(one, 12), 8, vec![change(1, 8), change(2, 3)]).expect("one life");
        assert_eq!((whole.incarnation, whole.last, whole.complete_to), (one, 9, 8));
        assert!(whole.values.is_sorted_by_key(|change| change.revision));
    }

    #[test]
    fn a_life_that_lacks_what_was_heard_is_another_one() {
        let [one, other] = [1, 2].map(Incarnation::new);
        let snapshot = Snapshot::new(at(one, 9), at(one, 9), 9, Vec::new()).expect("one life");
        assert!(!snapshot.is_of_another_life(None, 0) && !snapshot.is_of_another_life(Some(one), 9));
        assert!(snapshot.is_of_another_life(Some(one), 10), "it has lost a write");
        assert!(snapshot.is_of_another_life(Some(other), 3), "made anew");
    }
}
