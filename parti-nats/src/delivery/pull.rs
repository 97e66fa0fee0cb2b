//! One request for messages of a partition's consumer, until it is over.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::{Client, Message as NatsMessage, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use parti_core::PartitionId;
use parti_core::delivery::{CallId, Message, Place, PullEnd, Pulled, Sequence, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::delivery::message::Body;

/// The most messages that are handed on in one piece.
const PIECE: usize = 256;
/// How much later than the request's end the server may say so.
const GRACE: Duration = Duration::from_secs(2);

/// The server's answer to a request that nobody takes.
const NOBODY: u16 = 503;
/// The time of a request is over, or there is nothing for one that does not wait.
const TIME_IS_OVER: [u16; 2] = [404, 408];

/// What a pull shows, in order.
#[derive(Debug)]
pub(crate) enum News {
    /// Messages, each with the subject to acknowledge it.
    Pulled(PartitionId, CallId, Vec<(Pulled<Body>, Subject)>),
    Over(CallId, PullEnd),
}

/// What is pulled.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) client: Client,
    pub(crate) call: CallId,
    pub(crate) partition: PartitionId,
    /// Where the server takes the request.
    pub(crate) subject: String,
    pub(crate) most: u32,
    pub(crate) bytes: Option<usize>,
    pub(crate) time: Duration,
    pub(crate) timeout: Duration,
}

/// Hands on what comes until the pull is over, or `closed` ends.
pub(crate) async fn run(wanted: Wanted, news: mpsc::Sender<News>, closed: oneshot::Receiver<Infallible>) {
    let end = match begin(&wanted).await {
        Ok(mut messages) => {
            let end = tokio::select! {
                biased;
                end = show(&wanted, &mut messages, &news) => Some(end),
                _ = closed => None,
            };
            if end.is_none() {
                // The server takes the request back as nobody listens: it has said so when it answers what follows.
                let _ = messages.unsubscribe().await;
                let _ = tokio::time::timeout(wanted.timeout, wanted.client.flush()).await;
            }
            end.unwrap_or(PullEnd::Done)
        }
        Err(reason) => PullEnd::Lost { reason },
    };
    // An error means that delivery has ended.
    let _ = news.send(News::Over(wanted.call, end)).await;
}

async fn begin(wanted: &Wanted) -> Result<Subscriber, String> {
    let inbox = wanted.client.new_inbox();
    let messages = wanted.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    let time = u64::try_from(wanted.time.as_nanos()).unwrap_or(u64::MAX);
    let request = match wanted.bytes {
        Some(bytes) => serde_json::json!({ "batch": wanted.most, "max_bytes": bytes, "expires": time }),
        None => serde_json::json!({ "batch": wanted.most, "expires": time }),
    };
    let sent = wanted.client.publish_with_reply(wanted.subject.clone(), inbox, request.to_string().into()).await;
    sent.map_err(|error| error.to_string())?;
    Ok(messages)
}

/// Hands on what comes, until the server says that the pull is over, or should have.
async fn show(wanted: &Wanted, messages: &mut Subscriber, news: &mpsc::Sender<News>) -> PullEnd {
    let ends = tokio::time::Instant::now() + wanted.time + GRACE;
    let mut left = wanted.most;
    while left > 0 {
        let Ok(mut next) = tokio::time::timeout_at(ends, messages.next()).await else {
            return PullEnd::Lost { reason: "the server has not said that its time is over".into() };
        };
        let (mut piece, mut end) = (Vec::new(), None);
        loop {
            match next.map(read) {
                Some(Ok(shown)) => piece.push(shown),
                Some(Err(over)) => end = Some(over),
                None => end = Some(PullEnd::Lost { reason: "the connection was closed".into() }),
            }
            left = left.saturating_sub(1);
            if end.is_some() || left == 0 || piece.len() == PIECE {
                break;
            }
            let Some(more) = messages.next().now_or_never() else { break };
            next = more;
        }
        if !piece.is_empty() {
            let shown = News::Pulled(wanted.partition.clone(), wanted.call, piece);
            if news.send(shown).await.is_err() {
                return PullEnd::Done;
            }
        }
        if let Some(end) = end {
            return end;
        }
    }
    PullEnd::Done
}

/// A delivery with the subject to acknowledge it, or how the pull has ended.
fn read(message: NatsMessage) -> Result<(Pulled<Body>, Subject), PullEnd> {
    let Some((reply, told)) = message.reply.clone().and_then(|reply| Some((reply.clone(), Told::of(&reply)?))) else {
        let status = message.status.map_or(0, |status| status.as_u16());
        let description = message.description.as_deref().unwrap_or_default();
        return Err(end_of(status, description));
    };
    let body = Body { subject: message.subject, headers: message.headers, payload: message.payload };
    let message = Message { sequence: told.sequence, timestamp: told.timestamp, bytes: body.bytes(), body };
    Ok((Pulled { message, place: told.place, pending: told.pending }, reply))
}

/// How a pull has ended, by what the server says.
fn end_of(status: u16, description: &str) -> PullEnd {
    let says = description.to_ascii_lowercase();
    match status {
        status if TIME_IS_OVER.contains(&status) => PullEnd::Done,
        NOBODY => PullEnd::Lost { reason: "nobody answers for the consumer".into() },
        _ if says.contains("maxbytes") => PullEnd::TooLarge,
        _ if says.contains("batch completed") => PullEnd::Done,
        _ => PullEnd::Lost { reason: format!("the server says {status} {description}") },
    }
}

/// What the subject to acknowledge a delivery tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) sequence: Sequence,
    pub(crate) place: Place,
    pub(crate) timestamp: Timestamp,
    pub(crate) pending: u64,
}

impl Told {
    pub(crate) fn of(reply: &str) -> Option<Self> {
        const PREFIX: &str = "$JS.ACK.";
        let parts: Vec<_> = reply.strip_prefix(PREFIX)?.split('.').collect();
        // Stream, consumer, tries, number, place, time, pending; in the longer form after domain and account.
        let skipped = if parts.len() >= 9 { 2 } else { 0 };
        let number = |at: usize| parts.get(skipped + at)?.parse().ok();
        Some(Self {
            sequence: Sequence::new(number(3)?),
            place: Place::new(number(4)?),
            timestamp: Timestamp::new(number(5)?),
            pending: number(6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_reply_tell_the_number_the_place_and_the_time() {
        let told =
            Told { sequence: Sequence::new(17), place: Place::new(3), timestamp: Timestamp::new(1_700), pending: 5 };
        assert_eq!(Told::of("$JS.ACK.ORDERS.tail.1.17.3.1700.5"), Some(told));
        assert_eq!(Told::of("$JS.ACK.hub.hash.ORDERS.tail.1.17.3.1700.5"), Some(told));
        assert_eq!(Told::of("$JS.ACK.hub.hash.ORDERS.tail.1.17.3.1700.5.token"), Some(told));
        assert_eq!(Told::of("_INBOX.x"), None);
        assert_eq!(Told::of("$JS.ACK.ORDERS.tail.1.x.3.1700.0"), None);
    }

    #[test]
    fn the_server_says_how_a_pull_has_ended() {
        assert_eq!(end_of(408, "Request Timeout"), PullEnd::Done);
        assert_eq!(end_of(409, "Message Size Exceeds MaxBytes"), PullEnd::TooLarge);
        for (status, says) in [(409, "Consumer Deleted"), (409, "Leadership Change"), (503, ""), (0, "")] {
            assert!(matches!(end_of(status, says), PullEnd::Lost { .. }), "{status} {says}");
        }
    }
}
