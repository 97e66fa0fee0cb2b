//! What says where a worker is.

use alloc::collections::BTreeMap;
use alloc::string::String;

/// Labels of a worker, or labels that a partition asks for: name and value.
pub type Labels = BTreeMap<String, String>;
