//! Names of buckets and keys.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::Slot;
use crate::text_name::text_name;

/// The longest group name, in bytes.
pub const MAX_GROUP_NAME_BYTES: usize = 64;

/// The workers that share one list of partitions: 1 to [`MAX_GROUP_NAME_BYTES`] of `A-Z a-z 0-9 - _`.
///
/// ```
/// use parti_core::{Bucket, GroupName, GroupNameError};
///
/// let group: GroupName = "orders".parse()?;
/// assert_eq!(group.bucket_name(Bucket::Plan), "parti_orders_plan");
/// assert!(GroupName::try_from("the orders").is_err());
/// # Ok::<(), GroupNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

impl GroupName {
    /// Checks `name` against the rule.
    ///
    /// # Errors
    ///
    /// [`GroupNameError`] if the name is empty, too long, or has another character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, GroupNameError> {
        let name = name.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > MAX_GROUP_NAME_BYTES || !name.chars().all(allowed) {
            return Err(GroupNameError { name: name.escape_debug().take(128).collect() });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of one of the group's buckets, such as `parti_orders_members`.
    pub fn bucket_name(&self, bucket: Bucket) -> String {
        format!("parti_{}_{bucket}", self.0)
    }
}

text_name!(GroupName, GroupNameError);

/// A group name that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a group name must be 1 to {MAX_GROUP_NAME_BYTES} letters, digits, '-' or '_', but is \"{name}\": rename the group"
)]
pub struct GroupNameError {
    /// The name, escaped.
    pub name: String,
}

/// A key-value store of a group, with one revision counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bucket {
    /// Who is there: a record per slot, the leader, and the operators' wishes.
    Members,
    /// Who owns what: a log with one writer at a time.
    Plan,
}

impl Bucket {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Members, Self::Plan];
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Members => "members",
            Self::Plan => "plan",
        })
    }
}

/// The name of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `slot.<n>` in `members`: the member record of slot n.
    Slot(Slot),
    /// `leader` in `members`: who leads.
    Leader,
    /// `control.*` in `members`: what operators want.
    Control(Control),
    /// `assign.<n>` in `plan`: the assignment record of slot n.
    Assign(Slot),
    /// `cluster` in `plan`: the term, and a summary for observers.
    Cluster,
}

impl Key {
    /// The bucket that holds this key.
    pub const fn bucket(self) -> Bucket {
        match self {
            Self::Slot(_) | Self::Leader | Self::Control(_) => Bucket::Members,
            Self::Assign(_) | Self::Cluster => Bucket::Plan,
        }
    }

    /// Reads the name of a key of `bucket`; `None` if it is not one of ours.
    pub fn parse(bucket: Bucket, name: &str) -> Option<Self> {
        match (bucket, name) {
            (Bucket::Members, "leader") => Some(Self::Leader),
            (Bucket::Members, _) => match name.strip_prefix("control.") {
                Some(control) => Control::parse(control).map(Self::Control),
                None => parse_slot(name.strip_prefix("slot.")?).map(Self::Slot),
            },
            (Bucket::Plan, "cluster") => Some(Self::Cluster),
            (Bucket::Plan, _) => parse_slot(name.strip_prefix("assign.")?).map(Self::Assign),
        }
    }
}

/// Only the canonical spelling: `slot.07` and `slot.+7` are not keys of ours.
fn parse_slot(digits: &str) -> Option<Slot> {
    let canonical = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    if canonical { digits.parse().ok().map(Slot::new) } else { None }
}

/// By its name, as it is shown.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // No name is one of both buckets.
        let key = Bucket::ALL.into_iter().find_map(|bucket| Self::parse(bucket, &name));
        key.ok_or_else(|| D::Error::custom(format_args!("{name:?} is no key")))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot.{slot}"),
            Self::Leader => f.write_str("leader"),
            Self::Control(control) => write!(f, "control.{control}"),
            Self::Assign(slot) => write!(f, "assign.{slot}"),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

/// A wish of an operator: it holds while its record is there, and survives changes of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Control {
    /// `control.drain.<n>`: the worker in slot n is to own nothing.
    Drain(Slot),
    /// `control.pause`: nothing moves for the sake of balance.
    Pause,
    /// `control.maintenance`: workers that are gone are expected back, and their partitions are held for them.
    Maintenance,
    /// `control.rebalance`: each write of it asks for a plan now.
    Rebalance,
}

impl Control {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "pause" => Some(Self::Pause),
            "maintenance" => Some(Self::Maintenance),
            "rebalance" => Some(Self::Rebalance),
            _ => parse_slot(name.strip_prefix("drain.")?).map(Self::Drain),
        }
    }
}

/// By its name, as it is shown.
impl Serialize for Control {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Control {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| D::Error::custom(format_args!("{name:?} is no wish")))
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(slot) => write!(f, "drain.{slot}"),
            Self::Pause => f.write_str("pause"),
            Self::Maintenance => f.write_str("maintenance"),
            Self::Rebalance => f.write_str("rebalance"),
        }
    }
}

/// Which keys of a bucket a watch is to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interest {
    /// Every key.
    All,
    /// These keys only.
    Keys(BTreeSet<Key>),
}

impl Interest {
    /// Whether a watch with this interest shows `key`.
    pub fn covers(&self, key: Key) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(&key),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_key_reads_back_from_its_name() {
        let slot = Slot::new(7);
        let controls =
            [Control::Drain(slot), Control::Pause, Control::Maintenance, Control::Rebalance].map(Key::Control);
        let others = [Key::Slot(Slot::new(0)), Key::Slot(slot), Key::Leader, Key::Assign(slot), Key::Cluster];
        for key in controls.into_iter().chain(others) {
            assert_eq!(Key::parse(key.bucket(), &key.to_string()), Some(key));
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_not_a_key() {
        for name in ["slot.", "slot.07", "slot.+7", "slot.-1", "slot.4294967296", "slot.1.2", "Leader", "cluster", ""] {
            assert_eq!(Key::parse(Bucket::Members, name), None, "{name}");
        }
    }

    #[test]
    fn a_group_name_is_checked() {
        assert_eq!(GroupName::new("orders").expect("valid").bucket_name(Bucket::Plan), "parti_orders_plan");
        for name in ["", "a.b", "a b", "ä", &"x".repeat(65)] {
            assert!(GroupName::new(name).is_err(), "{name}");
        }
    }
}
