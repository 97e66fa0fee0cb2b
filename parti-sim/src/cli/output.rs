//! What the commands say alike.

/// How many lines of the trace are printed after a failure.
pub(super) const TRACE_LINES: usize = 40;
/// The exit code for a wrong command line.
pub(super) const USAGE: u8 = 2;

pub(super) fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string(data).expect("plain data has no value that JSON lacks")
}
