//! How a partition list is stored: as one value, or, past the payload limit, in chunks that a head names.
//!
//! The key `list` has the head. A short list stands in it: `{"v":1,"digest":…,"partitions":[["orders-0",1],…]}`. A long
//! one is under `chunk.<edit>.<n>`, written before the head that names them, under a name that nobody else uses. So
//! whoever wins the conditional write of the head has changed the list as a whole, and nobody ever sees half of it.

use parti_core::{Partition, PartitionError, PartitionList};
use serde::{Deserialize, Serialize};

/// The format version that this library writes.
const VERSION: u32 = 1;
/// The most chunks that are read.
const MAX_CHUNKS: u32 = 4_096;

/// What is stored under `list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    v: u32,
    /// That of the whole list, if it was written by this library: tells whether the chunks are those of this head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunks: Option<Chunks>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Partition>,
}

/// Where the chunks of a list are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunks {
    /// Names the edit that wrote them, in 16 hexadecimal digits.
    pub(crate) edit: String,
    pub(crate) count: u32,
}

/// One chunk.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    partitions: Vec<Partition>,
}

/// A stored list cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoredError {
    #[error("not a partition list: {0}")]
    Malformed(String),
    #[error("format version {0} of the partition list is not known here (known: {VERSION}): upgrade this program")]
    Version(u32),
    #[error("a partition list must have at most {MAX_CHUNKS} chunks, but has {0}")]
    TooManyChunks(u32),
    #[error("the chunks of the list are not those that its head speaks of: write the list again")]
    Digest,
    #[error(transparent)]
    Partitions(#[from] PartitionError),
}

impl Chunks {
    /// The keys of the chunks.
    pub(crate) fn keys(&self) -> Vec<String> {
        (0..self.count).map(|number| format!("chunk.{}.{number}", self.edit)).collect()
    }

    fn check(&self) -> Result<(), StoredError> {
        if self.edit.is_empty() || !self.edit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(StoredError::Malformed("the name of an edit must be hexadecimal digits".into()));
        }
        if self.count > MAX_CHUNKS {
            return Err(StoredError::TooManyChunks(self.count));
        }
        Ok(())
    }
}

/// A list as it is to be written: the head, and the chunks that must be there before it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) head: Head,
    pub(crate) bytes: Vec<u8>,
    /// By key.
    pub(crate) chunks: Vec<(String, Vec<u8>)>,
}

/// Encodes `list` so that no value has more than `limit` bytes; `edit` names the chunks, if there are any.
pub(crate) fn encode(list: &PartitionList, limit: usize, edit: u64) -> Written {
    let entries = list.as_slice().to_vec();
    let whole = Head { v: VERSION, digest: Some(list.digest()), chunks: None, partitions: entries };
    let bytes = json(&whole);
    if bytes.len() <= limit {
        return Written { head: whole, bytes, chunks: Vec::new() };
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    divide(&whole.partitions, limit, &mut parts);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let chunks = Chunks { edit: format!("{edit:016x}"), count };
    let parts = chunks.keys().into_iter().zip(parts).collect();
    let head = Head { v: VERSION, digest: whole.digest, chunks: Some(chunks), partitions: Vec::new() };
    Written { bytes: json(&head), head, chunks: parts }
}

/// Halves what is too long until each part is short enough, or a single entry.
fn divide(entries: &[Partition], limit: usize, parts: &mut Vec<Vec<u8>>) {
    let bytes = json(&Chunk { partitions: entries.to_vec() });
    if bytes.len() <= limit || entries.len() == 1 {
        return parts.push(bytes);
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    divide(first, limit, parts);
    divide(second, limit, parts);
}

/// Reads a head.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, StoredError> {
    let head: Head = parse(bytes)?;
    if head.v != VERSION {
        return Err(StoredError::Version(head.v));
    }
    head.chunks.as_ref().map_or(Ok(()), Chunks::check)?;
    Ok(head)
}

/// Reads the list of `head`, whose chunks, if it has any, hold `chunks`.
pub(crate) fn decode(head: Head, chunks: &[impl AsRef<[u8]>]) -> Result<PartitionList, StoredError> {
    let mut entries = head.partitions;
    for chunk in chunks {
        entries.extend(parse::<Chunk>(chunk.as_ref())?.partitions);
    }
    let list = PartitionList::new(entries)?;
    // A person who edits a short list need not know its digest.
    if head.chunks.is_some() && head.digest != Some(list.digest()) {
        return Err(StoredError::Digest);
    }
    Ok(list)
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a list has no value that JSON lacks")
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoredError> {
    serde_json::from_slice(bytes).map_err(|error| StoredError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use parti_core::PartitionId;

    use super::*;

    fn list(count: u32) -> PartitionList {
        let id = |number| PartitionId::new(format!("orders-{number:05}")).expect("a valid id");
        PartitionList::new((0..count).map(|number| Partition::new(id(number))).collect()).expect("different ids")
    }

    #[test]
    fn a_short_list_stands_in_its_head_as_a_person_would_write_it() {
        let written = encode(&list(2), 1_000, 7);
        let text = String::from_utf8(written.bytes.clone()).expect("JSON");
        assert!(text.ends_with(r#""partitions":[["orders-00000",1],["orders-00001",1]]}"#), "{text}");
        let by_hand = br#"{"v":1,"partitions":[["b",3],["a",1]]}"#;
        let read = decode(decode_head(by_hand).expect("a head"), &[] as &[Vec<u8>]).expect("a list");
        assert_eq!(read.as_slice().iter().map(|partition| partition.weight.get()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_long_list_is_read_back_from_its_chunks_and_from_no_others() {
        let written = encode(&list(1_000), 4_096, 7);
        assert!(written.chunks.len() > 4 && written.chunks.iter().all(|(_, bytes)| bytes.len() <= 4_096));
        assert_eq!(written.chunks[1].0, "chunk.0000000000000007.1");
        let chunks: Vec<_> = written.chunks.iter().map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(decode(written.head.clone(), &chunks).expect("a list"), list(1_000));
        assert!(matches!(decode(written.head, &chunks[1..]), Err(StoredError::Digest)));
    }

    #[test]
    fn what_is_no_list_is_an_error_that_says_why() {
        let errors = [
            &b"nonsense"[..],
            br#"{"v":2}"#,
            br#"{"v":1,"partitions":[["a",0]]}"#,
            br#"{"v":1,"partitions":[["",1]]}"#,
            br#"{"v":1,"partitions":[["a",1],["a",1]]}"#,
            br#"{"v":1,"chunks":{"edit":"a.>","count":1}}"#,
            br#"{"v":1,"chunks":{"edit":"a","count":4000000000}}"#,
        ]
        .map(|bytes| decode_head(bytes).and_then(|head| decode(head, &[] as &[Vec<u8>])).expect_err("no list"));
        let parts = [
            "not a partition",
            "version 2",
            "at least 1, but that of \"a\" is 0",
            "must not be empty",
            "twice",
            "hexadecimal",
            "at most 4096",
        ];
        for (error, part) in errors.iter().zip(parts) {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
