//! What somebody should look at though the worker is live and ready.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use serde::Serialize;

use crate::metrics::WARNING;

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its name, which does not change from one version to the next: also that of the log event, where there is one,
    /// and the label of the metric `parti_warning`.
    pub name: &'static str,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// The warnings of one worker: each holds from [`set`](Self::set) to [`clear`](Self::clear), in health and as a metric.
#[derive(Debug)]
pub(crate) struct Warnings {
    group: String,
    now: Mutex<BTreeMap<&'static str, String>>,
}

impl Warnings {
    pub(crate) fn new(group: &str) -> Self {
        Self { group: group.to_owned(), now: Mutex::default() }
    }

    /// Says so from now on, in place of what the warning of that name has said. True if there was none of that name.
    pub(crate) fn set(&self, name: &'static str, text: impl Into<String>) -> bool {
        let is_new = self.now().insert(name, text.into()).is_none();
        if is_new {
            self.measure(name, 1.0);
        }
        is_new
    }

    /// It is no longer so. True if it was.
    pub(crate) fn clear(&self, name: &'static str) -> bool {
        let was_set = self.now().remove(name).is_some();
        if was_set {
            self.measure(name, 0.0);
        }
        was_set
    }

    /// What the warning of this name says, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.now().get(name).cloned()
    }

    /// All that hold now, in the order of their names.
    pub(crate) fn list(&self) -> Vec<Warning> {
        self.now().iter().map(|(name, text)| Warning { name, text: text.clone() }).collect()
    }

    fn measure(&self, name: &'static str, value: f64) {
        gauge!(WARNING, "group" => self.group.clone(), "name" => name).set(value);
    }

    /// What is held there is whole at every moment, even if somebody has panicked.
    fn now(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_holds_until_it_is_cleared_and_the_last_text_counts() {
        let warnings = Warnings::new("orders");
        assert!(warnings.set("b", "first"));
        assert!(!warnings.set("b", "second"));
        assert!(warnings.set("a", "third"));
        let shown: Vec<_> = warnings.list().iter().map(|warning| format!("{}: {warning}", warning.name)).collect();
        assert_eq!(shown, ["a: third", "b: second"]);
        assert!(warnings.clear("b") && !warnings.clear("b"));
        assert_eq!(warnings.list().len(), 1);
    }
}
