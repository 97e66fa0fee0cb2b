//! Tells whether another worker's process is there, answers when others ask, and asks itself.
//!
//! Each process listens on a subject of its own. What it hears there is a question without content, which it answers; the
//! wish of another process that it ask for a third, since it is at another server; or a check of its own.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Request, RequestErrorKind, Subscriber};
use futures_util::StreamExt;
use parti_core::{CheckId, Event, GroupName, Instance, ProbeOutcome, ServerId, Session};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connection::{Connection, Place};

/// The subject at which the process `name` answers.
pub(crate) fn subject(group: &GroupName, name: impl Display) -> String {
    format!("parti.{group}.probe.{name}")
}

/// Answers everyone who asks, until the connection is closed for good.
pub(crate) async fn answer(client: Client, mut questions: Subscriber) {
    while let Some(question) = questions.next().await {
        let Some(reply) = question.reply else { continue };
        if client.publish(reply, "".into()).await.is_err() {
            return;
        }
    }
}

/// Asks whether processes are there.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    pub(crate) connection: Connection,
    pub(crate) group: GroupName,
    /// How long it waits for an answer.
    pub(crate) timeout: Duration,
}

/// What came back, and from which server, if that is known.
pub(crate) type Answer = (ProbeOutcome, Option<ServerId>);

impl Prober {
    /// Asks whether the process `instance` is there.
    pub(crate) async fn ask(&self, instance: Instance) -> Answer {
        self.request(instance, String::new()).await.map_or_else(|answer| answer, |(_, place)| answered(place))
    }

    /// Asks the process `helper` to ask. What it does not answer, not even by being there, says nothing.
    pub(crate) async fn ask_through(&self, helper: Instance, instance: Instance) -> Answer {
        match self.request(helper, Words::Ask(instance).to_string()).await {
            Ok((message, _)) => read_answer(&message.payload).unwrap_or((ProbeOutcome::TimedOut, None)),
            Err(_) => (ProbeOutcome::TimedOut, None),
        }
    }

    /// The answer and where this connection ended meanwhile; or what it means that there is none.
    async fn request(&self, instance: Instance, payload: String) -> Result<(Message, Option<Place>), Answer> {
        // Without a connection nothing is known of the other side.
        if !self.connection.is_up() {
            return Err((ProbeOutcome::TimedOut, None));
        }
        let before = self.connection.place();
        let request = Request::new().timeout(Some(self.timeout)).payload(payload.into());
        let answer = self.connection.client.send_request(subject(&self.group, instance), request).await;
        let place = Some(before).filter(|before| *before == self.connection.place());
        match answer {
            Ok(message) => Ok((message, place)),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => (ProbeOutcome::NobodyListens, place.map(|place| place.server)),
                RequestErrorKind::TimedOut
                | RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => (ProbeOutcome::TimedOut, None),
            }),
        }
    }
}

fn answered(place: Option<Place>) -> Answer {
    (ProbeOutcome::Answered, place.map(|place| place.server))
}

/// This process's own subject: it listens there, and asks itself whether it does.
#[derive(Clone, Debug)]
pub(crate) struct Ear {
    prober: Prober,
    instance: Instance,
    /// Tells its own checks from whatever else is sent there.
    nonce: u64,
    now: Arc<Mutex<Now>>,
    events: mpsc::Sender<Event>,
}

/// The session that is now, and where its connection ends.
#[derive(Debug, Default)]
struct Now {
    session: Session,
    place: Option<Place>,
}

impl Ear {
    pub(crate) fn new(prober: Prober, instance: Instance, nonce: u64, events: mpsc::Sender<Event>) -> Self {
        Self { prober, instance, nonce, now: Arc::default(), events }
    }

    /// Listens, in a new session, until the connection is closed for good. Dropped, it no longer does.
    pub(crate) async fn listen(self) {
        let client = &self.prober.connection.client;
        let Ok(mut messages) = client.subscribe(subject(&self.prober.group, self.instance)).await else { return };
        self.begin(|_| true).await;
        let mut link = self.prober.connection.link.clone();
        let mut asking = JoinSet::new();
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.hear(message, &mut asking).await,
                    None => return,
                },
                // The client subscribes anew on another connection by itself.
                changed = link.changed() => match changed {
                    Ok(()) => self.notice_reconnect().await,
                    Err(_) => return,
                },
            }
            while asking.try_join_next().is_some() {}
        }
    }

    /// Asks itself, if this is still the session.
    pub(crate) async fn check(self, session: Session, check: CheckId) {
        self.notice_reconnect().await;
        if self.session() == session {
            let payload = Words::Check { nonce: self.nonce, session, check }.to_string();
            let subject = subject(&self.prober.group, self.instance);
            // An error means that the connection is closed for good.
            let _ = self.prober.connection.client.publish(subject, payload.into()).await;
        }
    }

    async fn hear(&self, message: Message, asking: &mut JoinSet<()>) {
        match (Words::read(&message.payload), message.reply) {
            (Some(Words::Check { nonce, session, check }), _) if nonce == self.nonce => {
                // It went out and came back through the same connection, which is still this session's.
                self.notice_reconnect().await;
                if self.session() == session {
                    self.tell(Event::Present { session, check }).await;
                }
            }
            (Some(Words::Ask(instance)), Some(reply)) => {
                // Whoever waits for the answer must get it before giving up.
                let prober = Prober { timeout: self.prober.timeout / 2, ..self.prober.clone() };
                asking.spawn(async move {
                    let answer = write_answer(&prober.ask(instance).await);
                    let _ = prober.connection.client.publish(reply, answer.into()).await;
                });
            }
            (None, Some(reply)) => {
                let _ = self.prober.connection.client.publish(reply, "".into()).await;
            }
            (_, None) | (Some(Words::Check { .. }), _) => {}
        }
    }

    fn session(&self) -> Session {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).session
    }

    async fn notice_reconnect(&self) {
        if self.prober.connection.is_up() {
            self.begin(|moved| moved).await;
        }
    }

    /// Begins another session, if `when` says so of whether the connection is another one.
    async fn begin(&self, when: impl Fn(bool) -> bool) {
        let place = self.prober.connection.place();
        let listening = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            if !when(now.place.as_ref() != Some(&place)) {
                return;
            }
            now.session = now.session.next();
            now.place = Some(place.clone());
            Event::Listening { session: now.session, server: place.server }
        };
        self.tell(listening).await;
    }

    async fn tell(&self, event: Event) {
        // An error means that the core is gone.
        let _ = self.events.send(event).await;
    }
}

/// What is said on a probe subject, but for a question without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// Ask whether this process is there.
    Ask(Instance),
    /// A process asks itself.
    Check { nonce: u64, session: Session, check: CheckId },
}

impl Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ask(instance) => write!(f, "ask {instance}"),
            Self::Check { nonce, session, check } => write!(f, "check {nonce} {session} {check}"),
        }
    }
}

impl Words {
    fn read(payload: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        match kind {
            "ask" => Some(Self::Ask(Instance::new(number()?))),
            "check" => {
                let (nonce, session, check) = (number()?, number()?, number()?);
                Some(Self::Check { nonce, session: Session::new(session), check: CheckId::new(check) })
            }
            _ => None,
        }
    }
}

/// What a helper has found out, as text.
fn write_answer((outcome, server): &Answer) -> String {
    let outcome = match outcome {
        ProbeOutcome::Answered => "answered",
        ProbeOutcome::NobodyListens => "nobody",
        ProbeOutcome::TimedOut => "silence",
    };
    server.as_ref().map_or_else(|| outcome.to_owned(), |server| format!("{outcome} {server}"))
}

fn read_answer(payload: &[u8]) -> Option<Answer> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    let outcome = match words.next()? {
        "answered" => ProbeOutcome::Answered,
        "nobody" => ProbeOutcome::NobodyListens,
        "silence" => ProbeOutcome::TimedOut,
        _ => return None,
    };
    Some((outcome, words.next().map(ServerId::new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_as_what_it_was() {
        let check = Words::Check { nonce: 7, session: Session::new(2), check: CheckId::new(u64::MAX) };
        for words in [Words::Ask(Instance::new(u64::MAX)), check] {
            assert_eq!(Words::read(words.to_string().as_bytes()), Some(words));
        }
        let server = ServerId::new("NDQ4Y6");
        for answer in [(ProbeOutcome::NobodyListens, Some(server)), (ProbeOutcome::TimedOut, None)] {
            assert_eq!(read_answer(write_answer(&answer).as_bytes()), Some(answer));
        }
    }

    #[test]
    fn what_else_is_said_is_no_word_and_no_answer() {
        for payload in ["", "ask", "ask -1", "check 1 2", "check 1 2 x", "anything"] {
            assert_eq!(Words::read(payload.as_bytes()), None, "{payload}");
        }
        // An older worker answers whatever it is asked with nothing.
        assert_eq!(read_answer(b""), None);
    }
}
