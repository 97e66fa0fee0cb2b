//! Newtypes for every number that could be swapped with another.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the bare number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The bare number.
            pub const fn value(self) -> $inner {
                self.0
            }

            /// The number after this one; stays at the largest.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The stable numbered identity that a worker holds, shown as `worker-7`.
    Slot(u32)
}
number! {
    /// One process life, chosen at random by the process.
    Instance(u64)
}
number! {
    /// The store's sequence number of one write, counted per bucket.
    Revision(u64)
}
number! {
    /// One leadership; only grows.
    Term(u64)
}
number! {
    /// One published plan; only grows.
    Generation(u64)
}
number! {
    /// One life of a bucket, by a number that its creator chose. A later life has a greater one as far as its creator knew
    /// of the earlier ones; where it did not, or an earlier life came back, the numbers say only that two lives differ.
    ///
    /// The same scale counts *eras*: a leader writes into the plan an era that is as great as every life and every era
    /// that any record, bucket or process has told it of.
    Incarnation(u64)
}
number! {
    /// Names one write that the core has asked for, until its outcome is known.
    OperationId(u64)
}
number! {
    /// Names one watch that the core has asked for.
    WatchId(u64)
}
number! {
    /// Names one probe that the core has asked for.
    ProbeId(u64)
}
number! {
    /// Names one check of a worker's own presence.
    CheckId(u64)
}
number! {
    /// Names one request that message delivery has asked for, until its answer is known.
    CallId(u64)
}
number! {
    /// The number that a stream gave to one message. Streams count from 1; 0 stands before the first message.
    Sequence(u64)
}
number! {
    /// The number that a consumer gave to one delivery of a message. Each delivery has the number after that of the one before,
    /// whoever it goes to; 0 stands before the first one.
    Place(u64)
}
number! {
    /// A time by the clock of a server, in nanoseconds since 1970. It identifies what the server has stored and is never
    /// compared with a clock of this process.
    Timestamp(u64)
}
number! {
    /// One subscription of a worker's probe subject on one connection, numbered by whoever runs the worker: each one
    /// that follows has a greater number, also one that the client library has made by itself.
    Session(u64)
}

impl Sequence {
    /// The number before this one; stays at 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The server that a connection ends at, as that server calls itself. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// The server with this id.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Its id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ServerId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.0.as_ref().into()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A write in one life of a bucket: of two writes in one life the later one has the greater revision. Stored as `[incarnation, revision]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(Incarnation, Revision)", into = "(Incarnation, Revision)")]
pub struct Position {
    /// Which life of the bucket.
    pub incarnation: Incarnation,
    /// The revision of the write.
    pub revision: Revision,
}

impl Position {
    /// Whether it is this write or a later one of the same life.
    pub(crate) fn has_reached(self, other: Self) -> bool {
        self.incarnation == other.incarnation && self.revision >= other.revision
    }

    /// Whether it is a later write of the same life.
    pub(crate) fn is_after(self, other: Self) -> bool {
        self != other && self.has_reached(other)
    }
}

/// How far plans have come, as far as somebody has heard: tokens grow from there even if the plan is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// The greatest life or era.
    pub(crate) era: Incarnation,
    /// The newest plan.
    pub(crate) generation: Generation,
}

impl Heard {
    /// What both have heard together.
    #[must_use]
    pub(crate) fn max(self, other: Self) -> Self {
        Self { era: self.era.max(other.era), generation: self.generation.max(other.generation) }
    }

    /// Of a bucket in this life.
    pub(crate) fn of_life(incarnation: Incarnation) -> Self {
        Self { era: incarnation, ..Self::default() }
    }
}

impl From<(Incarnation, Revision)> for Position {
    fn from((incarnation, revision): (Incarnation, Revision)) -> Self {
        Self { incarnation, revision }
    }
}

impl From<Position> for (Incarnation, Revision) {
    fn from(position: Position) -> Self {
        (position.incarnation, position.revision)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

/// One unbroken hold of a slot, named by the write in `members` that began it.
///
/// A store that has lost writes gives their revisions again. So the name also says whose write it was: no two tenures
/// ever have the same name. Stored as `[incarnation, revision, writer]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "StoredTenure", into = "StoredTenure")]
pub struct Tenure {
    begun: Position,
    writer: u64,
}

/// A tenure as it is stored: one whose writer is not known is stored without.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredTenure {
    Named(Incarnation, Revision, u64),
    Begun(Position),
}

impl From<StoredTenure> for Tenure {
    fn from(stored: StoredTenure) -> Self {
        match stored {
            StoredTenure::Named(incarnation, revision, writer) => {
                Self { begun: Position { incarnation, revision }, writer }
            }
            StoredTenure::Begun(begun) => Self::new(begun),
        }
    }
}

impl From<Tenure> for StoredTenure {
    fn from(Tenure { begun, writer }: Tenure) -> Self {
        if writer == 0 { Self::Begun(begun) } else { Self::Named(begun.incarnation, begun.revision, writer) }
    }
}

impl Tenure {
    /// The tenure that this write began.
    pub const fn new(begun: Position) -> Self {
        Self { begun, writer: 0 }
    }

    /// The same, begun by a certain claim of a certain process.
    #[must_use]
    pub const fn with_writer(self, writer: u64) -> Self {
        Self { writer, ..self }
    }

    /// The write that began it.
    pub const fn begun(self) -> Position {
        self.begun
    }
}

impl fmt::Display for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.begun.fmt(f)
    }
}

impl Slot {
    /// The name under which people know the worker in this slot: `worker-7`.
    pub fn worker_name(self) -> alloc::string::String {
        alloc::format!("worker-{}", self.0)
    }
}

/// The fencing token of one hold of one partition.
///
/// For one partition the tokens of successive holders strictly increase: first by the era of the plan, which is as great
/// as the number of each life of the store that anybody has heard of, then by the plan generation in which the partition
/// was granted (its epoch), then by the revision at which the holding process took its slot, so that a process that
/// restarts in its slot, and keeps the grant, still gets a higher token than its predecessor. A store that refuses a write whose token is lower than the highest that it has seen for the partition
/// cannot be corrupted by an owner that has lost the partition and does not know it yet (Kleppmann, 2016, "How to do
/// distributed locking").
///
/// Every form that a store may keep has the tokens' own order: as text ([`Display`](fmt::Display) prints 48 hexadecimal
/// digits in three groups, [`FromStr`](core::str::FromStr) reads them), as [bytes](Self::to_bytes) and as three
/// [integers](Self::to_integers) that a SQL column can hold.
///
/// ```
/// use parti_core::{Generation, Incarnation, Revision, Token};
///
/// let [old, new] = [41, 42].map(|epoch| Token {
///     incarnation: Incarnation::new(7),
///     epoch: Generation::new(epoch),
///     claim: Revision::new(9),
/// });
/// assert!(old < new && old.to_string() < new.to_string());
/// assert!(old.to_bytes() < new.to_bytes() && old.to_integers() < new.to_integers());
/// assert_eq!(new.to_string().parse(), Ok(new));
/// assert_eq!((Token::from_bytes(new.to_bytes()), Token::from_integers(new.to_integers())), (new, new));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token {
    /// The era of the plan: as great as each life of the store that was known.
    pub incarnation: Incarnation,
    /// The generation in which the partition was granted.
    pub epoch: Generation,
    /// The revision at which the holding instance took its slot.
    pub claim: Revision,
}

impl Token {
    /// As 24 bytes, whose order is the tokens' order, for a column such as `BLOB` or `BYTEA`.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (chunk, part) in bytes.chunks_exact_mut(8).zip(self.parts()) {
            chunk.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// The token of these [bytes](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let mut parts = [0_u64; 3];
        for (part, chunk) in parts.iter_mut().zip(bytes.chunks_exact(8)) {
            *part = chunk.iter().fold(0, |part, byte| (part << 8) | u64::from(*byte));
        }
        Self::of_parts(parts)
    }

    /// As three signed integers, whose order one after another is the tokens' order, for `BIGINT` columns that are
    /// compared as a row: `(a, b, c) <= (?, ?, ?)`. The smallest token is three times [`i64::MIN`].
    pub fn to_integers(self) -> [i64; 3] {
        // With its first bit turned over, an unsigned number sorts as a signed one.
        self.parts().map(|part| (part ^ FIRST_BIT).cast_signed())
    }

    /// The token of these [integers](Self::to_integers).
    pub fn from_integers(integers: [i64; 3]) -> Self {
        Self::of_parts(integers.map(|integer| integer.cast_unsigned() ^ FIRST_BIT))
    }

    const fn parts(self) -> [u64; 3] {
        [self.incarnation.0, self.epoch.0, self.claim.0]
    }

    const fn of_parts([incarnation, epoch, claim]: [u64; 3]) -> Self {
        Self { incarnation: Incarnation(incarnation), epoch: Generation(epoch), claim: Revision(claim) }
    }
}

/// That of a 64-bit number, which is the sign of a signed one.
const FIRST_BIT: u64 = 1 << 63;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{:016x}", self.incarnation.0, self.epoch.0, self.claim.0)
    }
}

impl core::str::FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let error = || TokenError { text: text.escape_debug().take(64).collect() };
        let part = |part: &str| {
            let is_hexadecimal = part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(part, 16).ok().filter(|_| is_hexadecimal)
        };
        let mut parts = [0; 3];
        let mut rest = text.split('-');
        for slot in &mut parts {
            *slot = rest.next().and_then(part).ok_or_else(error)?;
        }
        if rest.next().is_some() { Err(error()) } else { Ok(Self::of_parts(parts)) }
    }
}

impl TryFrom<&str> for Token {
    type Error = TokenError;

    fn try_from(text: &str) -> Result<Self, TokenError> {
        text.parse()
    }
}

impl TryFrom<String> for Token {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        alloc::format!("{token}")
    }
}

/// Text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token must be three groups of 16 hexadecimal digits with '-' between, but is \"{text}\": give what a token is shown as"
)]
pub struct TokenError {
    /// How the text begins, escaped.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn token(incarnation: u64, epoch: u64, claim: u64) -> Token {
        Token { incarnation: Incarnation::new(incarnation), epoch: Generation::new(epoch), claim: Revision::new(claim) }
    }

    #[test]
    fn the_text_of_tokens_sorts_as_the_tokens_do() {
        let ascending = [token(1, 2, 900), token(1, 3, 7), token(1, 3, 80), token(1, 0x100, 1), token(2, 1, 1)];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
    }

    #[test]
    fn every_form_of_a_token_reads_back_and_has_the_tokens_order() {
        let edges = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX];
        let tokens = edges.map(|a| edges.map(|b| edges.map(|c| token(a, b, c)))).concat().concat();
        for pair in tokens.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes(), "{pair:?}");
            assert!(pair[0].to_integers() < pair[1].to_integers(), "{pair:?}");
        }
        for token in tokens {
            assert_eq!(Token::from_bytes(token.to_bytes()), token);
            assert_eq!(Token::from_integers(token.to_integers()), token);
            let json = serde_json::to_string(&token).expect("plain data");
            assert_eq!(
                (json, serde_json::from_str(&alloc::format!("\"{token}\"")).ok()),
                (alloc::format!("\"{token}\""), Some(token))
            );
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused_with_the_rule_and_the_fix() {
        let token = token(1, 2, 3).to_string();
        for wrong in [
            "",
            "1-2-3",
            &token[1..],
            &token.replace('1', "g"),
            &token.replace("01", "+1"),
            &alloc::format!("{token}-"),
        ] {
            let error = wrong.parse::<Token>().expect_err("no token").to_string();
            assert!(error.contains("16 hexadecimal digits") && error.contains(wrong), "{error}");
        }
    }
}
