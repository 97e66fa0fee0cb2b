//! What went wrong, and the exit code that says so.

use std::fmt;

use parti_nats::{Error, ErrorKind, ForecastError};

/// All is well, or the answer is yes.
pub(crate) const FINE: u8 = 0;
/// The answer is no.
pub(crate) const NO: u8 = 1;
/// The command was not understood, or was not confirmed.
pub(crate) const USAGE: u8 = 2;
/// It could not be found out, or it is not known whether it was done.
pub(crate) const CANNOT_TELL: u8 = 3;
/// What was asked for is not there.
pub(crate) const NOTHING_THERE: u8 = 4;

/// A command that has no answer: what was tried, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: USAGE, text: text.into() }
    }

    pub(crate) fn cannot_tell(text: impl Into<String>) -> Self {
        Self { code: CANNOT_TELL, text: text.into() }
    }

    pub(crate) fn nothing_there(text: impl Into<String>) -> Self {
        Self { code: NOTHING_THERE, text: text.into() }
    }

    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self { code: NO, text: text.into() }
    }

    /// The same, and what was tried when it happened.
    pub(crate) fn trying(self, what: &str) -> Self {
        Self { text: format!("tried to {what}: {}", self.text), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NoGroup { .. } => NOTHING_THERE,
            ErrorKind::Conflict { .. } | ErrorKind::Refused { .. } | ErrorKind::UnknownPartition { .. } => NO,
            ErrorKind::Group(_) | ErrorKind::Partitions(_) | ErrorKind::Config(_) | ErrorKind::Url { .. } => USAGE,
            _ => CANNOT_TELL,
        };
        Self { code, text: error.to_string() }
    }
}

impl From<ForecastError> for Failure {
    fn from(error: ForecastError) -> Self {
        let code = match &error {
            ForecastError::Plan(_) => CANNOT_TELL,
            _ => USAGE,
        };
        Self { code, text: error.to_string() }
    }
}
