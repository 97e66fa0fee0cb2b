//! What the documents tell their readers to type is understood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_command_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs/src")).expect("the book").map(|entry| entry.expect("a page").path());
    let mut documents: Vec<PathBuf> = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    documents.extend(["README.md", "CONTRIBUTING.md", "parti-sim/README.md"].map(|name| root.join(name)));
    let scenarios = answer(&["scenario", "list"]);
    let mut tried = 0;
    for path in documents {
        let text = fs::read_to_string(&path).expect("a document");
        for arguments in commands(&text) {
            let words: Vec<&str> = arguments.split_whitespace().filter(|word| *word != "TRACE").collect();
            answer(&[words.as_slice(), &["--help"]].concat());
            if let ["scenario", name, ..] = words.as_slice() {
                let is_known = ["list", "all"].contains(name) || scenarios.contains(name);
                assert!(is_known, "{}: there is no scenario {name:?}", path.display());
            }
            tried += 1;
        }
    }
    assert!(tried > 8, "only {tried} commands were found");
}

/// The arguments of each command in a document: what follows `parti-sim --` in a line of a shell, or `parti-sim` in a
/// sentence.
fn commands(text: &str) -> Vec<String> {
    let after = |line: &str| {
        let line = line.trim().trim_start_matches('`');
        let rest = line.split_once("-p parti-sim -- ").map(|(_, rest)| rest);
        let rest = rest.or_else(|| line.strip_prefix("parti-sim "))?;
        let rest = rest.split(['#', '`', '>']).next().unwrap_or_default().trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    let fenced = text.split("```sh\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap_or_default().lines());
    let spans = text.split('`').skip(1).step_by(2).filter(|span| !span.contains('\n'));
    fenced.chain(spans).filter_map(after).collect()
}

/// What the command prints; it must be content.
fn answer(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_parti-sim")).args(arguments).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "parti-sim {}: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("UTF-8")
}
