//! Whether the server lets this client in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Auth, AuthError, ClientError, ConnectOptions, Event, ServerError};
use nkeys::KeyPair;
use parti_core::Instant;

use crate::clock;
use crate::metrics::Metrics;
use crate::warnings::Warnings;

/// The warning that the server does not let this client in.
pub(crate) const LOGIN_REFUSED: &str = "login_refused";

/// The wait after the first refusal; it doubles with each further one.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait after a refusal: credentials that were renewed are tried that soon.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// `ConnectOptions` with the credentials in the file at `path`, which is read anew at every connect: a file that a
/// sidecar renews is used as soon as the server asks. (`ConnectOptions::credentials_file` reads it once.)
///
/// It may be any file of the format that the NATS tools write: a user's JWT and its seed.
#[must_use]
pub fn credentials_file(path: impl Into<PathBuf>) -> ConnectOptions {
    let path = Arc::new(path.into());
    ConnectOptions::with_auth_callback(move |nonce| {
        let path = Arc::clone(&path);
        async move {
            let read = read_credentials(&path, &nonce).await;
            read.map_err(|error| {
                let path = path.display();
                tracing::warn!(event = "credentials_unreadable", %path, %error, "the credentials cannot be read");
                AuthError::new(format!("{path}: {error}"))
            })
        }
    })
}

async fn read_credentials(path: &Path, nonce: &[u8]) -> io::Result<Auth> {
    let text = tokio::fs::read_to_string(path).await?;
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it has no {what}"));
    let jwt = block(&text, "USER JWT").ok_or_else(|| invalid("user JWT"))?;
    let seed = block(&text, "USER NKEY SEED").ok_or_else(|| invalid("nkey seed"))?;
    let key = KeyPair::from_seed(seed).map_err(|_| invalid("valid nkey seed"))?;
    let signature = key.sign(nonce).map_err(|_| invalid("seed to sign with"))?;
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.to_owned());
    auth.signature = Some(signature);
    Ok(auth)
}

/// The first line that is not empty after the one that begins this block.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begins = |line: &str| line.starts_with("---") && line.contains("BEGIN") && line.contains(name);
    let mut lines = text.lines().map(str::trim).skip_while(|line| !begins(line));
    lines.next()?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

/// Counts how often the server has refused this client since it last let it in.
#[derive(Debug, Default)]
pub(crate) struct Login(Mutex<Option<Refused>>);

#[derive(Clone, Debug)]
struct Refused {
    since: Instant,
    tries: u32,
    why: String,
}

impl Login {
    /// Takes in what the client says of its connection.
    pub(crate) fn observe(&self, event: &Event, warnings: &Warnings, metrics: Option<&Metrics>) {
        match event {
            Event::Connected if self.refused().take().is_some() => {
                warnings.clear(LOGIN_REFUSED);
                tracing::info!(event = "login_accepted", "the server lets this client in again");
            }
            Event::ServerError(error @ ServerError::AuthorizationViolation) => {
                self.refuse(&error.to_string(), warnings, metrics);
            }
            Event::ClientError(ClientError::Other(error)) if is_refusal(error) => {
                self.refuse(error, warnings, metrics);
            }
            _ => {}
        }
    }

    fn refuse(&self, why: &str, warnings: &Warnings, metrics: Option<&Metrics>) {
        let mut refused = self.refused();
        let begun = refused.as_ref().map_or_else(clock::now, |refused| refused.since);
        let tries = refused.as_ref().map_or(0, |refused| refused.tries) + 1;
        let is_new = refused.as_ref().is_none_or(|refused| refused.why != why);
        *refused = Some(Refused { since: begun, tries, why: why.to_owned() });
        if let Some(metrics) = metrics {
            metrics.login_refused();
        }
        if is_new {
            tracing::warn!(event = LOGIN_REFUSED, why, "the server refuses this client's credentials");
            warnings.set(LOGIN_REFUSED, wording(why));
        }
    }

    /// How long to wait before the next try to connect; none while nothing was refused.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let tries = self.refused().as_ref()?.tries;
        let doublings = tries.saturating_sub(1).min(8);
        Some(clock::jittered((SHORTEST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT * 2 / 3)))
    }

    /// Since when the server has refused this client, and why, if it does.
    pub(crate) fn refused_since(&self) -> Option<(Instant, String)> {
        self.refused().as_ref().map(|refused| (refused.since, wording(&refused.why)))
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wording(why: &str) -> String {
    format!(
        "the server refuses this client's credentials ({why}): renew them; a file given with credentials_file is read anew at each try"
    )
}

/// Whether this is what the client says when the server has not let it in, or when it has nothing to show.
fn is_refusal(error: &str) -> bool {
    let refusals = [
        async_nats::ConnectErrorKind::AuthorizationViolation.to_string(),
        async_nats::ConnectErrorKind::Authentication.to_string(),
    ];
    refusals.iter().any(|refusal| error.contains(refusal.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_credentials_file_are_found_whatever_is_around_them() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0.a-b_c\n------END NATS USER JWT------\n\n****\nNKEY Seed printed below\n\n-----BEGIN USER NKEY SEED-----\r\nSUAIO\r\n------END USER NKEY SEED------\n";
        assert_eq!((block(text, "USER JWT"), block(text, "USER NKEY SEED")), (Some("eyJ0.a-b_c"), Some("SUAIO")));
        for text in
            ["", "-----BEGIN NATS USER JWT-----", "-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------"]
        {
            assert_eq!(block(text, "USER JWT"), None, "{text:?}");
        }
    }

    #[test]
    fn refusals_are_said_once_and_tried_more_slowly_until_the_server_lets_in() {
        let (login, warnings) = (Login::default(), Warnings::new("orders"));
        assert_eq!(login.wait(), None);
        let refused = Event::ClientError(ClientError::Other("authorization violation".into()));
        login.observe(&refused, &warnings, None);
        assert!(login.wait().expect("a wait") < SHORTEST_WAIT * 2);
        let since = login.refused_since().expect("it is refused").0;
        for _ in 0..100 {
            login.observe(&refused, &warnings, None);
        }
        let wait = login.wait().expect("a wait");
        assert!((LONGEST_WAIT / 4..=LONGEST_WAIT).contains(&wait), "{wait:?}");
        assert_eq!(login.refused_since().expect("it is refused").0, since);
        assert_eq!(warnings.list().len(), 1);
        login.observe(&Event::ClientError(ClientError::Other("IO error".into())), &warnings, None);
        assert!(login.wait().is_some(), "unreachable is another matter");
        login.observe(&Event::Connected, &warnings, None);
        assert_eq!((login.wait(), login.refused_since(), warnings.list()), (None, None, Vec::new()));
    }
}
