//! Files of `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parti_core::{Config, LAST_WAIT};
use serde::Deserialize as _;
use serde_json::Value;

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of `deploy/`.
pub(crate) fn read(path: &str) -> String {
    let path = root().join("deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents of a file of `deploy/`.
pub(crate) fn documents(path: &str) -> Vec<Value> {
    let text = read(path);
    let document = |document| Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_yaml_ng::Deserializer::from_str(&text).map(document).collect()
}

/// Texts in a list.
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// How long a stop takes at most, with the default settings.
pub(crate) fn stop() -> Duration {
    Config::default().release_timeout * 2 + LAST_WAIT
}
