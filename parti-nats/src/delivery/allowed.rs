//! What a client must be allowed to do for delivery, tried before it begins: what a server refuses has no answer, and would
//! be waited for in silence.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Request, RequestErrorKind, header};
use futures_util::future::join_all;

use crate::delivery::error::DeliveryError;
use crate::permissions::Permissions;

/// How long an answer is waited for. What is silent is asked once more.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last part of a subject that is asked on, where any may be: nothing has this name.
const NOBODY: &str = "parti-check";
/// A revision that nothing will ever have: a write that expects it is refused.
const NEVER: u64 = i64::MAX as u64;
/// What none of the requests understands, so that nothing is done.
const NONSENSE: &str = "?";

/// Looks whether this client is allowed to use those of the subjects for which `is_asked`.
///
/// Where nothing is answered at all, the server may be away: that is for others to find out.
///
/// # Errors
///
/// [`DeliveryError::NotAllowed`] names the first subject on which there was no answer, though there was one on others.
pub(super) async fn check(
    client: &Client,
    allowed: &Permissions,
    is_asked: impl Fn(&str) -> bool,
) -> Result<(), DeliveryError> {
    // A bucket is created only where it is missing; and no server answers to the reset of a consumer that is not there.
    let is_answered_to =
        |subject: &str| ![".STREAM.CREATE.", ".CONSUMER.RESET."].iter().any(|part| subject.contains(part));
    let is_asked = |subject: &str| is_answered_to(subject) && is_asked(subject);
    let subjects = allowed.publish.iter().filter(|subject| is_asked(subject));
    let answers = join_all(subjects.map(|subject| async move { (subject, is_answered(client, subject).await) })).await;
    let is_heard = answers.iter().any(|(_, is_answered)| *is_answered);
    for (subject, is_answered_first) in answers {
        if is_heard && !is_answered_first && !is_answered(client, subject).await {
            return Err(DeliveryError::NotAllowed { subject: subject.clone() });
        }
    }
    Ok(())
}

/// Whether anything is answered: also that this is wrong, or that nobody is there, which a server says of a subject that
/// may be asked on.
async fn is_answered(client: &Client, subject: &str) -> bool {
    let one = |part: &str| if part == "*" || part == ">" { NOBODY.to_owned() } else { part.to_owned() };
    let concrete: Vec<_> = subject.split('.').map(one).collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, NEVER.to_string().as_str());
    let request = Request::new().payload(NONSENSE.into()).timeout(Some(PATIENCE));
    // A stream takes no message on this condition; the servers' own subjects know nothing of it.
    let request = if subject.starts_with("$JS.") { request } else { request.headers(headers) };
    match client.send_request(concrete.join("."), request).await {
        Ok(_) => true,
        Err(error) => error.kind() == RequestErrorKind::NoResponders,
    }
}
