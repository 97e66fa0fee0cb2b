//! Which subject belongs to which partition.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use parti_core::PartitionId;

use crate::delivery::error::DeliveryError;

/// What stands for the partition in a template.
const PLACEHOLDER: &str = "{partition}";

/// The subject of each partition, such as `orders.{partition}` or `orders.{partition}.>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// What stands before and behind the partition, the dots included.
    before: String,
    behind: String,
    /// Which part of the subject names the partition, counted from 0.
    place: usize,
}

impl Template {
    /// Reads a template: exactly one of its parts is `{partition}`.
    pub(crate) fn new(text: &str) -> Result<Self, DeliveryError> {
        let wrong = |rule| Err(DeliveryError::Template { template: text.escape_debug().take(128).collect(), rule });
        let parts: Vec<_> = text.split('.').collect();
        let named = parts.iter().filter(|part| **part == PLACEHOLDER).count();
        let Some(place) = parts.iter().position(|part| *part == PLACEHOLDER).filter(|_| named == 1) else {
            return wrong("have {partition} as one of its parts, once");
        };
        let is_last = |at: usize| at + 1 == parts.len();
        let is_well_formed = parts.iter().enumerate().all(|(at, part)| {
            let is_plain = !part.is_empty() && !part.contains(['*', '>', ' ', '\t', '\r', '\n']);
            *part == "*" || (*part == ">" && is_last(at)) || (is_plain && (at == place || !part.contains(['{', '}'])))
        });
        if !is_well_formed {
            return wrong("be a subject: parts with dots between, of which '*' and a '>' at the end stand for any");
        }
        if parts[..place].contains(&">") {
            return wrong("name the partition before '>'");
        }
        let (before, behind) = text.split_once(PLACEHOLDER).unwrap_or((text, ""));
        Ok(Self { before: before.to_owned(), behind: behind.to_owned(), place })
    }

    /// The subject of a partition.
    pub(crate) fn subject(&self, partition: &PartitionId) -> String {
        format!("{}{}{}", self.before, part(partition), self.behind)
    }

    /// The narrowest subject that has those of all partitions.
    pub(crate) fn any(&self) -> String {
        format!("{}*{}", self.before, self.behind)
    }

    /// What a subject calls the partition that it belongs to.
    pub(crate) fn part_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.split('.').nth(self.place)
    }
}

/// Which partition a part of a subject stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts(BTreeMap<String, PartitionId>);

impl Parts {
    pub(crate) fn new<'a>(partitions: impl IntoIterator<Item = &'a PartitionId>) -> Self {
        Self(partitions.into_iter().map(|partition| (part(partition).into_owned(), partition.clone())).collect())
    }

    pub(crate) fn get(&self, part: &str) -> Option<&PartitionId> {
        self.0.get(part)
    }
}

/// A partition's id as one part of a subject: what a subject cannot have there is written as `%` and two hexadecimal
/// digits for each byte, and so is `%` itself. See [`Delivery::subject_of`](crate::Delivery::subject_of).
fn part(partition: &PartitionId) -> Cow<'_, str> {
    escaped(partition.as_str(), '%', |c| !matches!(c, '.' | '*' | '>' | '%') && !c.is_whitespace() && !c.is_control())
}

/// A partition's id as part of a key of a bucket: what a key cannot have is written as `=` and two hexadecimal digits.
pub(crate) fn key_part(partition: &PartitionId) -> Cow<'_, str> {
    escaped(partition.as_str(), '=', |c| c.is_ascii_alphanumeric() || "-/_".contains(c))
}

/// A partition's id as part of the name of a consumer: what a name cannot have is written as `=` and two hexadecimal
/// digits.
pub(crate) fn name_part(partition: &PartitionId) -> Cow<'_, str> {
    escaped(partition.as_str(), '=', |c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// The partition whose id a part of a key is; none if it is no such part.
pub(crate) fn partition_of(part: &str) -> Option<PartitionId> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'=' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            byte
        });
    }
    let partition = PartitionId::new(String::from_utf8(bytes).ok()?).ok()?;
    (key_part(&partition) == part).then_some(partition)
}

fn escaped(text: &str, mark: char, is_plain: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a text cannot fail.
                let _ = write!(escaped, "{mark}{byte:02X}");
            }
        }
    }
    Cow::Owned(escaped)
}

/// Whether every subject that `filter` stands for is one that `wider` stands for.
pub(crate) fn covers(wider: &str, filter: &str) -> bool {
    let mut wider = wider.split('.');
    let mut filter = filter.split('.');
    loop {
        match (wider.next(), filter.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(part)) if part != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_its_partition_and_what_is_no_such_key_as_none() {
        for id in ["eu", "a b", "=x", "ä/ö.*>", "x=41"] {
            let partition = PartitionId::new(id).expect("a valid id");
            assert_eq!(partition_of(&key_part(&partition)), Some(partition), "{id}");
        }
        for part in ["", "=", "=4", "=4G", "=41", "a b", "=FF", "=e4"] {
            assert_eq!(partition_of(part), None, "{part}");
        }
    }

    fn id(text: &str) -> PartitionId {
        PartitionId::new(text).expect("a valid id")
    }

    #[test]
    fn each_partition_has_a_subject_of_its_own_whatever_it_is_called() {
        let template = Template::new("orders.{partition}.>").expect("a template");
        assert_eq!((template.subject(&id("eu")), template.any()), ("orders.eu.>".into(), "orders.*.>".into()));
        let odd = ["a.b", "a*b", "a>b", "a b", "a%2Eb", "ä", "a%b"].map(id);
        let subjects = odd.each_ref().map(|id| template.subject(id));
        assert_eq!(subjects[0], "orders.a%2Eb.>");
        assert_eq!(subjects[4], "orders.a%252Eb.>");
        assert_eq!(subjects[5], "orders.ä.>");
        assert!(subjects.iter().all(|subject| subject.split('.').count() == 3), "{subjects:?}");
        let parts = Parts::new(&odd);
        for id in &odd {
            let subject = template.subject(id).replace('>', "made.new");
            assert_eq!(template.part_of(&subject).and_then(|part| parts.get(part)), Some(id));
        }
        assert_eq!(key_part(&id("a.b/c ä")), "a=2Eb/c=20=C3=A4");
        assert_eq!(name_part(&id("a.b/c ä")), "a=2Eb=2Fc=20=C3=A4");
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_rule() {
        for wrong in [
            "",
            "orders",
            "orders.{partition}.{partition}",
            "orders.p-{partition}",
            "orders..{partition}",
            ">.{partition}",
            "o rders.{partition}",
            "orders.>.{partition}",
        ] {
            let error = Template::new(wrong).expect_err(wrong).to_string();
            assert!(error.contains("must") && error.contains(wrong), "{error}");
        }
        assert!(Template::new("*.{partition}.x.*").is_ok());
    }

    #[test]
    fn a_subject_covers_what_it_stands_for() {
        for (wider, filter) in [("orders.>", "orders.*.>"), ("orders.*", "orders.*"), (">", "a"), ("*.b", "a.b")] {
            assert!(covers(wider, filter), "{wider} {filter}");
        }
        for (wider, filter) in
            [("orders.*", "orders.>"), ("orders.*", "orders.*.x"), ("orders.a", "orders.*"), ("a.>", "a")]
        {
            assert!(!covers(wider, filter), "{wider} {filter}");
        }
    }
}
