//! What is wrong with a bucket that is there.

/// One setting of an existing stream that has to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("set {setting} to {needed}, it is {found}")]
pub struct Mismatch {
    /// The setting, as the server names it.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it has to be.
    pub needed: String,
}
