//! What all workers of a group must agree on, and who does not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::assign::Strategy;
use crate::config::Config;
use crate::ids::Slot;

/// The longest name of a strategy, in characters.
const MAX_NAME: usize = 64;

/// The settings that a worker and its leader must share, as a member record says them. The lease is not among them: each
/// worker is judged by its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSettings {
    /// How partitions are divided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// What becomes of the work when the lease runs out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The first and the last slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<(Slot, Slot)>,
    /// The digest of the partition list, once one has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<u64>,
}

/// One of the [`SharedSettings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The strategy.
    Strategy,
    /// The mode.
    Mode,
    /// The range of slots.
    Slots,
    /// The partition list.
    List,
}

/// A setting in which a worker differs from its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which setting.
    pub setting: Setting,
    /// What this worker has.
    pub own: String,
    /// What the leader has.
    pub leaders: String,
}

impl SharedSettings {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            strategy: format!("{:?}", config.strategy),
            mode: format!("{:?}", config.mode),
            slots: Some(config.slots),
            list: None,
        }
    }

    /// The same with a user's strategy, which is known by the name of its type.
    pub(crate) fn with_strategy(self, strategy: &dyn Strategy) -> Self {
        let shown = format!("{strategy:?}");
        let is_of_name = |c: &char| c.is_alphanumeric() || *c == '_';
        Self { strategy: shown.chars().take_while(is_of_name).take(MAX_NAME).collect(), ..self }
    }

    /// In what this differs from what the leader has. What either of them does not say, it does not differ in.
    pub(crate) fn differences(&self, leader: &Self) -> Vec<Difference> {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let slots = |slots: Option<(Slot, Slot)>| slots.map(|(first, last)| format!("{first} to {last}"));
        let list = |list: Option<u64>| list.map(|digest| format!("digest {digest:016x}"));
        let pairs = [
            (Setting::Strategy, text(&self.strategy), text(&leader.strategy)),
            (Setting::Mode, text(&self.mode), text(&leader.mode)),
            (Setting::Slots, slots(self.slots), slots(leader.slots)),
            (Setting::List, list(self.list), list(leader.list)),
        ];
        let differs = |(setting, own, leaders): (Setting, Option<String>, Option<String>)| {
            let (own, leaders) = own.zip(leaders)?;
            (own != leaders).then_some(Difference { setting, own, leaders })
        };
        pairs.into_iter().filter_map(differs).collect()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strategy => "strategy",
            Self::Mode => "mode",
            Self::Slots => "range of slots",
            Self::List => "partition list",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, own, leaders } = self;
        write!(f, "its {setting} must be that of the leader, but is {own} and not {leaders}: give all workers the same")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::assign::Balanced;
    use crate::config::Mode;

    #[test]
    fn what_differs_is_named_and_what_is_not_said_does_not_differ() {
        let own = SharedSettings::new(&Config::default());
        let other = SharedSettings::new(&Config { mode: Mode::Available, ..Config::default() });
        assert_eq!(own.differences(&SharedSettings::default()), []);
        let listed = |list| SharedSettings { list: Some(list), ..other.clone() };
        let differences = SharedSettings { list: Some(1), ..own.clone() }.differences(&listed(2));
        let told: Vec<_> = differences.iter().map(|difference| difference.setting).collect();
        assert_eq!(told, [Setting::Mode, Setting::List]);
        assert_eq!(
            differences[0].to_string(),
            "its mode must be that of the leader, but is Strict and not Available: give all workers the same"
        );
        assert_eq!(own.clone().with_strategy(&Balanced), own);
    }
}
