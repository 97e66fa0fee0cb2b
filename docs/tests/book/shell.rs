//! Commands that the book tells its readers to type.

use std::fs;
use std::path::{Path, PathBuf};

use crate::page::{Page, root};

/// What is wrong with a command is a panic. Those of `parti` and `parti-sim` are tried by their own tests.
pub(crate) fn check(page: &Page, text: &str) {
    for line in text.replace("\\\n", " ").lines() {
        let words = shlex::split(line).unwrap_or_else(|| panic!("{}: {line}", page.name()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["parti" | "export", ..] => {}
            ["cargo", verb, rest @ ..] => cargo(page, line, verb, rest),
            ["kubectl" | "docker", rest @ ..] => files(page, line, rest),
            [script, ..] if script.starts_with("scripts/") => {
                assert!(root().join(script).is_file(), "{}: {line}", page.name());
            }
            _ => panic!("{}: nobody tries {line:?}", page.name()),
        }
    }
}

/// The package, and what is to be built or run of it, is there.
fn cargo(page: &Page, line: &str, verb: &str, words: &[&str]) {
    let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    let said = || format!("{}: {line}", page.name());
    match verb {
        "run" => {
            let package = package(after("-p").unwrap_or_else(|| panic!("{}: of which package?", said())));
            let of = package.join(match (after("--example"), after("--bin")) {
                (Some(example), _) => format!("examples/{example}.rs"),
                (_, Some(binary)) => format!("src/bin/{binary}"),
                _ => "src/main.rs".to_owned(),
            });
            assert!(of.exists() || of.with_extension("rs").exists(), "{}: {} is missing", said(), of.display());
        }
        "install" => drop(package(words.last().unwrap_or_else(|| panic!("{}: what?", said())))),
        "test" => {}
        _ => panic!("{}: nobody tries it", said()),
    }
}

/// The folder of the package of this name.
fn package(name: &str) -> PathBuf {
    let folders = [
        "parti-core",
        "parti-nats",
        "parti-nats/cli",
        "parti-sim",
        "benches",
        "examples/metrics",
        "examples/fenced-sql",
        "examples/services",
    ];
    let is_it = |folder: &Path| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        manifest.contains(&format!("\nname = \"{name}\"\n"))
    };
    let found = folders.map(|folder| root().join(folder)).into_iter().find(|folder| is_it(folder));
    found.unwrap_or_else(|| panic!("there is no package {name}"))
}

/// The files that it is given are there.
fn files(page: &Page, line: &str, words: &[&str]) {
    for pair in words.windows(2).filter(|pair| ["-f", "-k"].contains(&pair[0])) {
        assert!(root().join(pair[1]).exists(), "{}: {line}: {} is missing", page.name(), pair[1]);
    }
}
