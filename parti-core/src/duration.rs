//! Durations as people write them: `10s`, `250ms`, `1m30s`.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that is written and read as text: one or more whole numbers with a unit each, from the largest unit to
/// the smallest, without spaces. The units are `h`, `m`, `s`, `ms`, `us` and `ns`.
///
/// Exact both ways: what [`Display`](fmt::Display) prints reads back as the same duration.
///
/// ```
/// use std::time::Duration;
/// use parti_core::HumanDuration;
///
/// assert_eq!("1m30s".parse(), Ok(HumanDuration(Duration::from_secs(90))));
/// assert_eq!(HumanDuration(Duration::from_millis(1_250)).to_string(), "1s250ms");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// Each unit and its length in nanoseconds, from the largest to the smallest.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// How much of a text an error shows, in characters.
const MAX_SHOWN: usize = 64;

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let shown = || text.escape_debug().take(MAX_SHOWN).collect();
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut units = UNITS.iter();
        while !rest.is_empty() || text.is_empty() {
            let (digits, tail) = split(rest, |c| c.is_ascii_digit());
            let (unit, tail) = split(tail, |c| !c.is_ascii_digit());
            match (digits, unit) {
                ("", _) => return Err(DurationError::NoNumber { text: shown() }),
                (_, "") => return Err(DurationError::NoUnit { text: shown() }),
                (_, _) if !UNITS.iter().any(|(name, _)| *name == unit) => {
                    return Err(DurationError::UnknownUnit { text: shown() });
                }
                (_, _) => {}
            }
            let Some((_, nanos)) = units.find(|(name, _)| *name == unit) else {
                return Err(DurationError::UnitOrder { text: shown() });
            };
            let part = digits.parse().ok().and_then(|number| times(*nanos, number));
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| DurationError::TooLong { text: shown() })?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

/// The longest start of `text` whose characters are all `wanted`, and the rest.
fn split(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// `number` times a unit of `nanos` nanoseconds, if that is a duration.
fn times(nanos: u64, number: u64) -> Option<Duration> {
    const SECOND: u128 = 1_000_000_000;
    let total = u128::from(nanos) * u128::from(number);
    let seconds = u64::try_from(total / SECOND).ok()?;
    Some(Duration::new(seconds, u32::try_from(total % SECOND).ok()?))
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_nanos();
        for (name, nanos) in UNITS {
            let count = rest / u128::from(nanos);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
            rest %= u128::from(nanos);
        }
        Ok(())
    }
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// A unit stands without a number, or there is nothing at all.
    #[error("a duration must have a whole number before each unit, but is \"{text}\": write it like 10s or 1m30s")]
    NoNumber {
        /// The text, escaped and shortened.
        text: String,
    },
    /// A number stands without a unit.
    #[error("a duration must have a unit after each number, but is \"{text}\": add h, m, s, ms, us or ns")]
    NoUnit {
        /// The text, escaped and shortened.
        text: String,
    },
    /// What follows a number is not a unit.
    #[error(
        "a duration must be whole numbers with the units h, m, s, ms, us or ns and no spaces, but is \"{text}\": write \
         it like 10s or 1s500ms"
    )]
    UnknownUnit {
        /// The text, escaped and shortened.
        text: String,
    },
    /// A unit comes twice, or after a smaller one.
    #[error(
        "a duration must have each unit once and the larger one first, but is \"{text}\": write it like 1h30m or 1m30s"
    )]
    UnitOrder {
        /// The text, escaped and shortened.
        text: String,
    },
    /// More than can be counted.
    #[error("a duration must be shorter than 2^64 seconds, but is \"{text}\": shorten it")]
    TooLong {
        /// The text, escaped and shortened.
        text: String,
    },
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// For fields: `#[serde(with = "duration")]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    HumanDuration(*duration).serialize(serializer)
}

/// For fields: `#[serde(with = "duration")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    HumanDuration::deserialize(deserializer).map(|human| human.0)
}

/// For fields that can be turned off: `#[serde(with = "duration::or_off")]`. `off` is text rather than a null, which some
/// formats do not have.
pub(crate) mod or_off {
    use super::{Deserializer, Duration, HumanDuration, Serialize, Serializer, TextOrOff};

    #[allow(clippy::ref_option)] // The signature that serde asks for.
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => HumanDuration(*duration).serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_str(TextOrOff)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = HumanDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10s\" or \"1m30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<HumanDuration, E> {
        text.parse().map_err(E::custom)
    }
}

struct TextOrOff;

impl Visitor<'_> for TextOrOff {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"750ms\", or \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Duration>, E> {
        if text == "off" { Ok(None) } else { Text.visit_str(text).map(|human| Some(human.0)) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_exactly() {
        for (text, nanos) in [
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("250ms", 250_000_000),
            ("1m30s", 90_000_000_000),
            ("90s", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ] {
            assert_eq!(text.parse(), Ok(HumanDuration(Duration::from_nanos(nanos))), "{text}");
        }
        assert_eq!("18446744073709551615s".parse(), Ok(HumanDuration(Duration::from_secs(u64::MAX))));
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_the_rule_and_the_fix() {
        let long = "9".repeat(100) + "s";
        let texts = [
            "",
            "s",
            "-1s",
            "10",
            "1m30",
            "1.5s",
            "1m 30s",
            "3d",
            "10S",
            "30s1m",
            "1s1s",
            "18446744073709551615h",
            &long,
        ];
        let errors = texts.map(|text| text.parse::<HumanDuration>().expect_err(text).to_string());
        insta::assert_snapshot!(errors.join("\n"));
    }

    proptest! {
        #[test]
        fn every_duration_reads_back_from_its_text(seconds: u64, nanos in 0_u32..1_000_000_000) {
            let duration = HumanDuration(Duration::new(seconds, nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn whatever_is_read_means_what_its_text_means(text in "([0-9]{1,21}|h|m|s|ms|us|ns|[ .-]){0,8}") {
            if let Ok(duration) = text.parse::<HumanDuration>() {
                let again = duration.to_string().parse();
                prop_assert_eq!(again, Ok(duration), "{}", format!("{text:?}"));
            }
        }
    }
}
