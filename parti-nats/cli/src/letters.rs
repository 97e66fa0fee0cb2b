//! `parti dead-letters`: the messages that were given up, and another try for them.

use parti_nats::async_nats::HeaderMap;
use parti_nats::async_nats::jetstream::context::ContextBuilder;
use parti_nats::async_nats::jetstream::message::{PublishMessage, StreamMessage};
use parti_nats::async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use parti_nats::async_nats::jetstream::{self};
use serde_json::{Value, json};

use crate::arguments::{DeadLetters, Global};
use crate::ask::confirm;
use crate::connect::Link;
use crate::failure::{FINE, Failure, NO};
use crate::show::{Style, Table, Tone, print, print_json, rfc3339};

/// What is for servers, or about the letter, and no part of the message that was given up.
const NOT_REPEATED: [&str; 2] = ["nats-", "parti-"];

/// A message that was given up, as it was stored for people.
struct Letter {
    message: StreamMessage,
}

impl Letter {
    /// A header that parti has written; empty if there is none.
    fn told(&self, name: &str) -> &str {
        self.message.headers.get(name).map_or("", parti_nats::async_nats::HeaderValue::as_str)
    }

    fn json(&self) -> Value {
        json!({
            "letter": self.message.sequence,
            "at": rfc3339(self.message.time.into()),
            "partition": self.told("Parti-Partition"),
            "stream": self.told("Parti-Stream"),
            "subject": self.told("Parti-Subject"),
            "sequence": self.told("Parti-Sequence").parse::<u64>().ok(),
            "tries": self.told("Parti-Tries").parse::<u64>().ok(),
            "error": self.told("Parti-Error"),
            "bytes": self.message.payload.len(),
        })
    }
}

pub(crate) async fn dead_letters(global: &Global, verb: DeadLetters) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let context = ContextBuilder::new();
    let context = match &link.domain {
        Some(domain) => context.domain(domain).build(link.client.clone()),
        None => context.build(link.client.clone()),
    };
    match verb {
        DeadLetters::Ls { stream, last } => ls(global, &link, &open(&context, &stream).await?, last).await,
        DeadLetters::Replay { stream, letter, execute, force } => {
            let letter = read(&open(&context, &stream).await?, letter).await?;
            let Some(letter) = letter else {
                return Err(Failure::nothing_there(format!(
                    "tried to replay a letter of {stream}: it has none of that number"
                )));
            };
            confirm_replay(&letter)?;
            let (subject, from) = (letter.told("Parti-Subject").to_owned(), letter.told("Parti-Stream").to_owned());
            let shown = parti_nats::harmless(&subject, 200);
            let fields =
                json!({ "letter": letter.message.sequence, "subject": subject, "stream": from, "executed": execute });
            if !execute {
                let text = format!(
                    "letter {} would be published to {shown} again; --execute does it\n",
                    letter.message.sequence
                );
                return answer(global, &link, fields, &text).map(|()| NO);
            }
            confirm(force, &format!("publish letter {} to {shown} again", letter.message.sequence))?;
            replay(&context, &letter, subject, &from).await?;
            answer(
                global,
                &link,
                fields,
                &format!("letter {} was published to {shown} again\n", letter.message.sequence),
            )?;
            Ok(FINE)
        }
    }
}

fn answer(global: &Global, link: &Link, fields: Value, text: &str) -> Result<(), Failure> {
    if global.json { print_json("dead_letters", link.group.as_str(), fields) } else { print(text) }
}

async fn open(context: &jetstream::Context, name: &str) -> Result<Stream, Failure> {
    let opened = context.get_stream(name).await;
    opened.map_err(|error| {
        Failure::cannot_tell(format!(
            "tried to look at the stream {}: {error}: name the stream of the dead letters",
            parti_nats::harmless(name, 64)
        ))
    })
}

async fn ls(global: &Global, link: &Link, stream: &Stream, last: u64) -> Result<u8, Failure> {
    let state = &stream.cached_info().state;
    let mut letters = Vec::new();
    let mut number = state.last_sequence;
    while number >= state.first_sequence.max(1) && u64::try_from(letters.len()).unwrap_or(u64::MAX) < last {
        letters.extend(read(stream, number).await?);
        number -= 1;
    }
    if global.json {
        let letters: Vec<Value> = letters.iter().map(Letter::json).collect();
        return print_json("dead_letters", link.group.as_str(), json!({ "letters": letters })).map(|()| FINE);
    }
    let mut table = Table::new(&["LETTER", "AT", "PARTITION", "STREAM", "SEQUENCE", "TRIES", "ERROR"]);
    for letter in &letters {
        let plain = |text: &str| (text.to_owned(), Tone::Plain);
        table.row(vec![
            plain(&letter.message.sequence.to_string()),
            plain(&rfc3339(letter.message.time.into())),
            plain(letter.told("Parti-Partition")),
            plain(letter.told("Parti-Stream")),
            plain(letter.told("Parti-Sequence")),
            plain(letter.told("Parti-Tries")),
            (letter.told("Parti-Error").to_owned(), Tone::Bad),
        ]);
    }
    print(&table.text(Style::of_stdout())).map(|()| FINE)
}

/// A letter; `None` if the stream has no message of that number, or one that parti has not given up.
async fn read(stream: &Stream, number: u64) -> Result<Option<Letter>, Failure> {
    match stream.get_raw_message(number).await {
        Ok(message) => Ok(Some(Letter { message }).filter(|letter| !letter.told("Parti-Subject").is_empty())),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => {
            Err(Failure::cannot_tell(format!("tried to read message {number} of the dead letters: {error}: try again")))
        }
    }
}

/// What a letter says may have been written by anybody who may write there: only a plain subject is published to.
fn confirm_replay(letter: &Letter) -> Result<(), Failure> {
    let subject = letter.told("Parti-Subject");
    let is_plain = !subject.starts_with(['$', '_'])
        && !subject.contains(['*', '>'])
        && !subject.chars().any(|c| c.is_whitespace() || c.is_control());
    if is_plain && !letter.told("Parti-Stream").is_empty() {
        return Ok(());
    }
    Err(Failure::no(format!(
        "tried to replay letter {}: {} is no subject of an application: look at the letter, and publish it by hand",
        letter.message.sequence,
        parti_nats::harmless(subject, 64)
    )))
}

/// Publishes it again, to the stream that it came from and to no other; the same letter once within the window in which
/// that stream knows ids.
async fn replay(context: &jetstream::Context, letter: &Letter, subject: String, from: &str) -> Result<(), Failure> {
    let mut headers = HeaderMap::new();
    for (name, values) in letter.message.headers.iter() {
        let lower = name.to_string().to_ascii_lowercase();
        for value in values.iter().filter(|_| !NOT_REPEATED.iter().any(|prefix| lower.starts_with(prefix))) {
            headers.append(name.clone(), value.clone());
        }
    }
    let id = format!("parti-replay:{from}:{}", letter.message.sequence);
    let message = PublishMessage::build().payload(letter.message.payload.clone()).headers(headers);
    let message = message.message_id(id).expected_stream(from);
    let published = async { context.send_publish(subject, message).await?.await };
    published.await.map(drop).map_err(|error| {
        Failure::cannot_tell(format!(
            "tried to publish letter {} again: {error}: see that the stream takes its subject",
            letter.message.sequence
        ))
    })
}
