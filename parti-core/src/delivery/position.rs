//! How far a partition's messages are finished, as it is stored.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Sequence, Timestamp, Token};
use crate::stored::record::{FORMAT_VERSION, MAX_RECORD_BYTES, RecordError};

/// How far the messages of one partition are finished.
///
/// Each write depends on the revision that the writer has seen, so of two owners only one can write. What the record says
/// of the stream identifies it: `created` is when the stream was made, `at` when the message at `seq` was stored. Unknown
/// fields are ignored.
///
/// ```
/// use parti_core::delivery::{PositionRecord, Sequence};
///
/// let seq = Sequence::new(17);
/// let record = PositionRecord { seq, through: seq, ..PositionRecord::default() };
/// assert_eq!(PositionRecord::decode(&record.encode()), Ok(record));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRecord {
    /// The name of the stream.
    pub stream: String,
    /// When the stream was made, as its server says.
    pub created: Timestamp,
    /// The last message of the partition that is finished; 0 if none is.
    pub seq: Sequence,
    /// When the stream stored that message; 0 if there is none.
    pub at: Timestamp,
    /// Every message of the partition up to here is finished: at least `seq`, and more where nothing of the partition
    /// followed.
    pub through: Sequence,
    /// The token of the hold that wrote this.
    pub token: Token,
    /// Whether the hold that wrote this has not let the partition go in good order: true from its first write to its last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
    /// The message that has failed most recently and is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// A message that was tried and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which message.
    pub seq: Sequence,
    /// How often.
    pub times: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    record: &'a PositionRecord,
}

impl PositionRecord {
    /// The stored form: a JSON object with the format version as `v`.
    ///
    /// # Panics
    ///
    /// Never: the record has no value that JSON lacks.
    pub fn encode(&self) -> Vec<u8> {
        let versioned = Versioned { v: FORMAT_VERSION, record: self };
        serde_json::to_vec(&versioned).expect("records have no value that JSON lacks")
    }

    /// Reads the stored form. A `through` below `seq` counts as `seq`.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the value is too large, no such record, or of a newer format version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes: bytes.len() });
        }
        let malformed = |error: serde_json::Error| RecordError::Malformed { reason: error.to_string() };
        let Version { v } = serde_json::from_slice(bytes).map_err(malformed)?;
        if v != FORMAT_VERSION {
            return Err(RecordError::UnknownVersion { version: v });
        }
        let mut record: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        record.through = record.through.max(record.seq);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_stored_as_people_read_it_and_reads_back() {
        let record = PositionRecord {
            stream: "ORDERS".to_string(),
            created: Timestamp::new(1_700),
            seq: Sequence::new(17),
            at: Timestamp::new(1_800),
            through: Sequence::new(20),
            token: Token::default(),
            open: true,
            failed: Some(Failed { seq: Sequence::new(18), times: 2 }),
        };
        let text = String::from_utf8(record.encode()).expect("JSON is UTF-8");
        assert_eq!(
            text,
            r#"{"v":1,"stream":"ORDERS","created":1700,"seq":17,"at":1800,"through":20,"token":"0000000000000000-0000000000000000-0000000000000000","open":true,"failed":{"seq":18,"times":2}}"#
        );
        assert_eq!(PositionRecord::decode(text.as_bytes()), Ok(record));
    }

    #[test]
    fn what_is_no_position_is_refused_with_the_reason() {
        let newer = PositionRecord::decode(br#"{"v":9,"seq":"later"}"#);
        assert_eq!(newer, Err(RecordError::UnknownVersion { version: 9 }));
        for garbage in [&b""[..], b"{}", b"[]", b"\xff", br#"{"v":1}"#, br#"{"v":1,"seq":-1}"#] {
            assert!(matches!(PositionRecord::decode(garbage), Err(RecordError::Malformed { .. })), "{garbage:?}");
        }
    }

    #[test]
    fn a_position_never_reads_as_less_finished_than_its_last_message() {
        let mut record = PositionRecord { seq: Sequence::new(9), ..PositionRecord::default() };
        let decoded = PositionRecord::decode(&record.encode());
        record.through = Sequence::new(9);
        assert_eq!(decoded, Ok(record));
    }
}
