//! Tells whether another worker's process is there, and answers when others ask.

use std::fmt::Display;
use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind, Subscriber};
use futures_util::StreamExt;
use parti_core::{GroupName, Instance, ProbeOutcome};

use crate::connection::Connection;

/// The subject at which the process `name` answers.
pub(crate) fn subject(group: &GroupName, name: impl Display) -> String {
    format!("parti.{group}.probe.{name}")
}

/// Opens the subscription by which others see that this process is there.
pub(crate) async fn listen(
    client: &Client,
    group: &GroupName,
    instance: Instance,
) -> Result<Subscriber, async_nats::SubscribeError> {
    client.subscribe(subject(group, instance)).await
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

/// Asks whether the process `instance` is there.
pub(crate) async fn ask(
    connection: Connection,
    group: GroupName,
    instance: Instance,
    timeout: Duration,
) -> ProbeOutcome {
    // Without a connection nothing is known of the other side.
    if !connection.is_up() {
        return ProbeOutcome::TimedOut;
    }
    let request = Request::new().timeout(Some(timeout));
    match connection.client.send_request(subject(&group, instance), request).await {
        Ok(_) => ProbeOutcome::Answered,
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => ProbeOutcome::NobodyListens,
            RequestErrorKind::TimedOut
            | RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => ProbeOutcome::TimedOut,
        },
    }
}
