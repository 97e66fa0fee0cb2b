//! Every example in the book is looked at by somebody.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parti_core::{Config, LAST_WAIT};
use serde::de::Deserialize as _;

use crate::page::{Block, Page, book, root};
use crate::shell;

#[test]
fn every_example_is_compiled_run_or_read() {
    let mut seen = 0;
    for page in book() {
        for block in &page.blocks {
            check(&page, block);
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} examples were found");
}

fn check(page: &Page, block: &Block) {
    let said = |what: &dyn std::fmt::Display| format!("{}: {what}: {}", page.name(), block.text);
    match block.language() {
        // What is included is compiled where it comes from.
        "rust" => {
            let name = page.name();
            let file = name.rsplit('/').next().unwrap_or_default();
            let operations = fs::read_to_string(root().join("parti-nats/OPERATIONS.md")).expect("the reference");
            let is_included = operations.contains(&block.text)
                || programs().any(|program| program.trim_end() == block.text.trim_end());
            assert!(parti_book::PAGES.contains(&file) || is_included, "{name} is missing in docs/lib.rs");
            assert!(!block.info.contains("ignore"), "{}", said(&"it is not compiled"));
        }
        "sh" => shell::check(page, &block.text),
        // The command's own tests run them: `verbs/book.rs`.
        "console" => assert!(block.text.starts_with("$ parti "), "{}", said(&"nobody runs it")),
        "toml" => {
            let read = block.text.parse::<toml::Table>();
            assert!(read.is_ok(), "{}", said(&format!("{read:?}")));
        }
        "yaml" => {
            for document in serde_yaml_ng::Deserializer::from_str(&block.text) {
                let read = serde_yaml_ng::Value::deserialize(document);
                assert!(read.is_ok(), "{}", said(&format!("{read:?}")));
            }
        }
        "json" => {
            let read = serde_json::from_str::<serde_json::Value>(&block.text);
            assert!(read.is_ok(), "{}", said(&format!("{read:?}")));
        }
        // The example's own tests run it.
        "sql" => {
            let said = said(&"no example runs it");
            assert!(statements().any(|program| words(&program).contains(&words(&block.text))), "{said}");
        }
        "ini" => assert!(grace(&block.text) > stop(), "{}", said(&"it is killed before it has stopped")),
        "text" => {}
        other => panic!("{}", said(&format!("nobody looks at {other:?}"))),
    }
}

/// What the small services of `examples/services` are made of. Their own tests run them.
fn programs() -> impl Iterator<Item = String> {
    let bin = root().join("examples/services/src/bin");
    let entries = |folder: &Path| {
        let entries: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
        entries.into_iter()
    };
    let (folders, files): (Vec<_>, Vec<_>) = entries(&bin).partition(|path| path.is_dir());
    let files = files.into_iter().chain(folders.into_iter().flat_map(move |folder| entries(&folder)));
    files.map(|file| fs::read_to_string(file).expect("a source"))
}

/// Where the statements of the book are from.
fn statements() -> impl Iterator<Item = String> {
    let sources = fs::read_dir(root().join("examples/fenced-sql/src")).expect("a folder");
    let sources = sources.map(|entry| entry.expect("one").path()).filter(|path| path.is_file());
    sources.map(|file| fs::read_to_string(file).expect("a source"))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How long a stop takes at most, with the default settings.
fn stop() -> Duration {
    Config::default().release_timeout * 2 + LAST_WAIT
}

/// How long systemd waits before it kills.
fn grace(unit: &str) -> Duration {
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    Duration::from_secs(seconds.expect("a unit says it").parse().expect("seconds"))
}
