//! What the server has refused to this client, in its own words.

use tokio::sync::watch;

use crate::error::{Error, ErrorKind};

/// How many refusals of the server are remembered.
const MAX_REFUSALS: usize = 32;

/// What the server has refused to this client, as it says it.
#[derive(Clone, Debug)]
pub(crate) struct Refusals(watch::Receiver<Said>);

/// What the server has said, the oldest first, each with how much it had said by then. What is said again counts as new.
#[derive(Debug, Default)]
pub(crate) struct Said {
    count: u64,
    refusals: Vec<(String, u64)>,
}

impl Refusals {
    /// The refusals, and where to note them.
    pub(crate) fn new() -> (watch::Sender<Said>, Self) {
        let (sender, refusals) = watch::channel(Said::default());
        (sender, Self(refusals))
    }

    /// Notes what the server says, if that is a refusal.
    pub(crate) fn note(said: &watch::Sender<Said>, message: &str) {
        if !message.to_ascii_lowercase().starts_with("permissions violation") {
            return;
        }
        said.send_modify(|said| {
            said.count += 1;
            said.refusals.retain(|(known, _)| known != message);
            if said.refusals.len() == MAX_REFUSALS {
                said.refusals.remove(0);
            }
            said.refusals.push((message.to_owned(), said.count));
        });
    }

    /// How much the server has refused so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.borrow().count
    }

    /// The error that says what is missing, if anything was refused; `source` is what came of that.
    pub(crate) fn error(&self, source: Option<Error>) -> Option<Error> {
        let missing: Vec<_> = self.0.borrow().refusals.iter().map(|(said, _)| said.clone()).collect();
        if missing.is_empty() {
            return None;
        }
        let kind = ErrorKind::Permission { missing };
        Some(source.map_or_else(|| Error::new(kind.clone()), |source| Error::with_source(kind.clone(), source)))
    }

    /// Returns once something that has to do with `subject` was refused after the first `before` refusals, and what the
    /// server said.
    pub(crate) async fn of(&self, subject: &str, before: u64) -> String {
        let quoted = format!("\"{subject}\"");
        let found = |said: &Said| {
            let of_subject = |(refusal, at): &&(String, u64)| *at > before && refusal.contains(&quoted);
            said.refusals.iter().find(of_subject).map(|(refusal, _)| refusal.clone())
        };
        let mut refusals = self.0.clone();
        let said = refusals.wait_for(|said| found(said).is_some()).await.ok().and_then(|said| found(&said));
        match said {
            Some(said) => said,
            // The client's events are not heard here; the missing answer must do.
            None => std::future::pending().await,
        }
    }
}
