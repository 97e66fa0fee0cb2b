//! The contexts of the `nats` tool: files that say where a server is and who one is there.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::failure::Failure;

/// A context, as far as it is used here. Its values may be secrets: it is never shown.
#[derive(Default)]
pub(crate) struct Context {
    fields: Map<String, Value>,
}

/// What a value of a context or a flag stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The value itself, or the path of a file.
    Plain(String),
    /// What was read: from a variable, or from the value.
    Content(String),
}

impl Context {
    /// The context of this name, or the selected one; the empty one if none is selected.
    pub(crate) fn load(name: Option<&str>) -> Result<Self, Failure> {
        let Some(folder) = folder() else {
            return match name {
                None => Ok(Self::default()),
                Some(name) => Err(missing(name, Path::new("~/.config/nats"))),
            };
        };
        let selected = || std::fs::read_to_string(folder.join("context.txt")).ok();
        let chosen = name.map(str::to_owned).or_else(selected);
        let Some(chosen) = chosen.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        if chosen.contains(['/', '\\']) || chosen.contains("..") {
            return Err(Failure::usage("a context must be named as `nats context ls` shows it, without a path"));
        }
        let path = folder.join("context").join(format!("{chosen}.json"));
        let Ok(text) = std::fs::read_to_string(&path) else { return Err(missing(&chosen, &folder)) };
        match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => Self { fields }.supported(),
            // What it says may be a secret: only where it is goes into the message.
            Ok(_) | Err(_) => Err(Failure::usage(format!(
                "the context {} must be a JSON object: write it anew with `nats context save`",
                path.display()
            ))),
        }
    }

    /// The same context, if all that it says about the way in is understood here: else a login without that would fail for
    /// no reason that anybody sees.
    fn supported(self) -> Result<Self, Failure> {
        let instead = [
            ("nsc", "asks the program nsc for a secret, and parti runs no other program: name a file with --creds"),
            ("user_jwt", "holds a login of its own: write JWT and seed into a file, and name that with --creds"),
            ("socks_proxy", "goes through a proxy, which parti does not: name a server that is reached without one"),
            ("jetstream_api_prefix", "has a prefix of its own for JetStream: name a domain with --js-domain instead"),
        ];
        match instead.iter().find(|(field, _)| self.text(field).is_some()) {
            Some((field, why)) => Err(Failure::usage(format!("the context has {field}, and so {why}"))),
            None => Ok(self),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        self.fields.get(field).and_then(Value::as_bool).unwrap_or(false)
    }
}

fn missing(name: &str, folder: &Path) -> Failure {
    let name = parti_nats::harmless(name, 64);
    Failure::usage(format!(
        "there is no context {name} in {}: see `nats context ls`, or name a server with --server",
        folder.join("context").display()
    ))
}

/// Where the `nats` tool keeps its contexts.
fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("nats"))
}

/// Reads what a value stands for: `file://` is a path, `env://` a variable, `data:` is in the value itself. `what` names the
/// value without showing it.
pub(crate) fn resolve(what: &str, value: &str) -> Result<Given, Failure> {
    for (scheme, tool) in [("op://", "op"), ("nsc://", "nsc")] {
        if value.starts_with(scheme) {
            return Err(Failure::usage(format!(
                "{what} begins with {scheme}, which asks the program {tool} for a secret, and parti runs no other program: \
                 write the secret into a file or a variable, and name that with file:// or env://"
            )));
        }
    }
    if let Some(path) = value.strip_prefix("file://") {
        return Ok(Given::Plain(path.to_owned()));
    }
    if let Some(name) = value.strip_prefix("env://") {
        let unset = || Failure::usage(format!("{what} names the variable {name}, which is not set: set it"));
        return std::env::var(name).map(Given::Content).map_err(|_| unset());
    }
    let Some(data) = value.strip_prefix("data:") else { return Ok(Given::Plain(expand(value))) };
    let bad =
        || Failure::usage(format!("{what} begins with data: and must go on with ;base64, and Base64: correct it"));
    match data.split_once(',') {
        Some((kind, encoded)) if kind.ends_with(";base64") => {
            let text = base64(encoded).and_then(|bytes| String::from_utf8(bytes).ok());
            text.map(Given::Content).ok_or_else(bad)
        }
        Some((_, plain)) => Ok(Given::Content(plain.to_owned())),
        None => Err(bad()),
    }
}

/// A path that begins in the home directory.
fn expand(value: &str) -> String {
    match (value.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => value.to_owned(),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("8 bits"));
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_where_it_says() {
        let plain = |text: &str| Given::Plain(text.to_owned());
        let content = |text: &str| Given::Content(text.to_owned());
        let resolved = |value| resolve("creds", value).expect("readable");
        assert_eq!(resolved("/etc/a.creds"), plain("/etc/a.creds"));
        assert_eq!(resolved("file:///etc/a.creds"), plain("/etc/a.creds"));
        assert_eq!(resolved("data:text/plain;base64,c2VjcmV0IQ=="), content("secret!"));
        assert_eq!(resolved("data:,plain"), content("plain"));
        let home = std::env::var("PATH").expect("every process has one");
        assert_eq!(resolved("env://PATH"), content(&home));
    }

    #[test]
    fn what_would_run_another_program_is_refused_without_showing_it() {
        for value in ["op://vault/item/hunter2", "nsc://operator/hunter2", "data:hunter2", "data:;base64,hunter%2"] {
            let failure = resolve("password", value).expect_err("refused").text;
            assert!(failure.starts_with("password ") && !failure.contains("hunter"), "{failure}");
        }
    }
}
