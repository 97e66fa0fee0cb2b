//! Messages read from a stream one after another, without a consumer.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::{Client, HeaderMap, Message as NatsMessage};
use futures_util::StreamExt;
use parti_core::delivery::{Ends, Fetched, Message, Sequence, Timestamp};
use serde::Serialize;

use crate::clock;
use crate::delivery::message::Body;
use crate::delivery::template::{Parts, Template};
use crate::snapshot::{number, number_in};

/// The headers that a server adds to a stored message that it answers with.
const SAID: &[&str] =
    &["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence"];
/// What the server says at the end of an answer of many.
const END: u16 = 204;
/// There is no such message.
const NOTHING: u16 = 404;
/// The request makes no sense to this server.
const BAD_REQUEST: u16 = 408;
/// Nobody answers there.
const NOBODY: u16 = 503;

/// Reads a stream directly: any server that has a copy of it may answer.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    client: Client,
    subject: String,
    timeout: Duration,
}

/// The next messages of one subject.
#[derive(Serialize)]
struct Next<'a> {
    seq: u64,
    #[serde(rename = "next_by_subj")]
    subject: &'a str,
    batch: u32,
    max_bytes: usize,
}

/// The last message of each of these subjects.
#[derive(Serialize)]
struct Last<'a> {
    multi_last: &'a [String],
}

/// What came of a question for last messages.
#[derive(Debug)]
pub(crate) enum LastMessages {
    Ends(Ends),
    /// This server cannot answer it.
    CannotTell,
}

impl Direct {
    pub(crate) fn new(client: Client, stream: &str, timeout: Duration) -> Self {
        Self { client, subject: format!("$JS.API.DIRECT.GET.{stream}"), timeout }
    }

    /// Reads the messages of `subject` from `from` on, in order, without holes.
    pub(crate) async fn next(
        &self,
        subject: &str,
        from: Sequence,
        most: u32,
        bytes: usize,
    ) -> Result<Fetched<Body>, String> {
        let wanted = Next { seq: from.value().max(1), subject, batch: most, max_bytes: bytes };
        let mut answers = self.ask(&wanted).await?;
        let mut fetched = Fetched { messages: Vec::new(), pending: 0 };
        let mut last = 0;
        loop {
            let answer = self.answer(&mut answers).await?;
            match status(&answer) {
                None => {}
                Some(END) => {
                    fetched.pending = number(&answer, "Nats-Num-Pending").unwrap_or(0);
                    return Ok(fetched);
                }
                Some(NOTHING) => return Ok(fetched),
                Some(other) => return Err(refused(other, &answer)),
            }
            let message: StreamMessage = answer.try_into().map_err(|error| format!("{error}"))?;
            let (pending, follows) =
                (number_in(&message.headers, "Nats-Num-Pending"), number_in(&message.headers, "Nats-Last-Sequence"));
            if pending.is_some() && follows != Some(last) {
                // One was lost on the way: what came before it is whole.
                fetched.pending = 1;
                return Ok(fetched);
            }
            last = message.sequence;
            fetched.messages.push(stored(message));
            if pending.is_none() {
                // A server that is older than 2.11 reads one message at a time, and does not say how many follow.
                fetched.pending = 1;
                return Ok(fetched);
            }
            fetched.pending = pending.unwrap_or(0);
        }
    }

    /// The last message of each of these partitions, in one copy at one moment.
    pub(crate) async fn last(
        &self,
        subjects: &[String],
        template: &Template,
        parts: &Parts,
    ) -> Result<LastMessages, String> {
        let mut answers = self.ask(&Last { multi_last: subjects }).await?;
        let mut found: std::collections::BTreeMap<_, Sequence> = std::collections::BTreeMap::new();
        let (mut count, mut announced) = (0, None);
        loop {
            let answer = self.answer(&mut answers).await?;
            match status(&answer) {
                None => {
                    count += 1;
                    if announced.is_none() {
                        announced = number(&answer, "Nats-Num-Pending").map(|pending| pending + 1);
                    }
                    let sequence = number(&answer, "Nats-Sequence").ok_or("a message has no number")?;
                    let subject = answer.headers.as_ref().and_then(|headers| headers.get_last("Nats-Subject"));
                    let part = subject.and_then(|subject| template.part_of(subject.as_str()));
                    if let Some(partition) = part.and_then(|part| parts.get(part)) {
                        let last = found.entry(partition.clone()).or_default();
                        *last = Sequence::new(sequence).max(*last);
                    }
                }
                Some(END) => {
                    if announced != Some(count) {
                        return Err("a part of the answer was lost".into());
                    }
                    let through =
                        number(&answer, "Nats-UpTo-Sequence").ok_or("the answer does not say how far it goes")?;
                    let last = found.into_iter().collect();
                    return Ok(LastMessages::Ends(Ends { last, through: Sequence::new(through) }));
                }
                // None of them has a message, in a copy that does not say how far it goes.
                Some(NOTHING) => {
                    return Ok(LastMessages::Ends(Ends { last: Vec::new(), through: Sequence::default() }));
                }
                Some(BAD_REQUEST) => return Ok(LastMessages::CannotTell),
                Some(other) => return Err(refused(other, &answer)),
            }
        }
    }

    async fn ask(&self, wanted: &impl Serialize) -> Result<async_nats::Subscriber, String> {
        let request = serde_json::to_vec(wanted).map_err(|error| error.to_string())?;
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let sent = self.client.publish_with_reply(self.subject.clone(), inbox, request.into()).await;
        sent.map_err(|error| error.to_string())?;
        Ok(answers)
    }

    async fn answer(&self, answers: &mut async_nats::Subscriber) -> Result<NatsMessage, String> {
        let answer = tokio::time::timeout(self.timeout, answers.next()).await;
        answer.map_err(|_| "no answer came in time")?.ok_or_else(|| "the connection was closed".into())
    }
}

/// The status of an answer that is not a message. What has a number in the stream is one, whatever its headers say.
fn status(answer: &NatsMessage) -> Option<u16> {
    let is_message = number(answer, "Nats-Sequence").is_some();
    answer.status.filter(|_| !is_message).map(|status| status.as_u16())
}

fn refused(status: u16, answer: &NatsMessage) -> String {
    match status {
        NOBODY => {
            "no server answers direct gets of this stream: see that allow_direct is set and this client may ask".into()
        }
        _ => format!("the server says {status} {}", answer.description.as_deref().unwrap_or_default()),
    }
}

/// A message as it is stored, without what the server says of it in the headers of an answer.
fn stored(message: StreamMessage) -> Message<Body> {
    let timestamp = Timestamp::new(clock::nanos_since_1970(message.time.into()));
    let headers = without_said(&message.headers);
    let body = Body { subject: message.subject, headers, payload: message.payload };
    Message { sequence: Sequence::new(message.sequence), timestamp, bytes: body.bytes(), body }
}

/// The headers that were stored: without the last value of each header that a server adds to its answer.
fn without_said(headers: &HeaderMap) -> Option<HeaderMap> {
    let mut stored = HeaderMap::new();
    for (name, values) in headers.iter() {
        let count = values.len() - usize::from(SAID.contains(&name.to_string().as_str()));
        for value in values.iter().take(count) {
            stored.append(name.clone(), value.clone());
        }
    }
    (!stored.is_empty()).then_some(stored)
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderValue;

    use super::*;

    #[test]
    fn what_a_server_says_of_a_message_is_not_shown_as_its_headers() {
        let mut headers = HeaderMap::new();
        for said in SAID {
            headers.append(*said, "1");
        }
        assert!(without_said(&headers).is_none());
        // A copy of a message that was read like this has them as its own.
        let mut headers = HeaderMap::new();
        headers.append("Nats-Sequence", "7");
        headers.append("Nats-Sequence", "9");
        headers.append("Kind", "order");
        let stored = without_said(&headers).expect("some are left");
        assert_eq!((stored.get_last("Nats-Sequence").map(HeaderValue::as_str), stored.len()), (Some("7"), 2));
    }
}
