//! What the book tells its readers to type is understood, and prints what the book says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fleet::{Fleet, list, parti};

#[test]
fn the_walk_through_the_command_prints_what_the_book_says() {
    let fleet = Fleet::settled(&list(12), &[(0, 1), (1, 1), (2, 1)]);
    let page = fs::read_to_string(docs().join("command.md")).expect("the page");
    let mut run = 0;
    for block in fenced(&page, "console") {
        fleet.settle(3); // as it is after a reader has read
        for step in steps(&block) {
            let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
            assert_eq!(words[0], "parti", "{block}");
            fleet.parti(&words[1..]).assert().code(step.code).stdout_eq(step.output);
            run += 1;
        }
    }
    assert!(run > 10, "only {run} commands were found");
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut documents: Vec<PathBuf> =
        fs::read_dir(docs()).expect("the book").map(|entry| entry.expect("a page").path()).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.push(docs().join("../../README.md"));
    documents.push(docs().join("../../parti-nats/OPERATIONS.md"));
    let mut tried = 0;
    for path in documents {
        let text = fs::read_to_string(&path).expect("a document");
        for words in commands(&text) {
            let words: Vec<&str> = words[1..].iter().map(String::as_str).chain(["--help"]).collect();
            let output = parti("nats://127.0.0.1:1", &words).output().expect("it runs");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {words:?}: {error}", path.display());
            tried += 1;
        }
    }
    assert!(tried > 40, "only {tried} commands were found");
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src")
}

/// What is between fences of this language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A command, and what should come of it.
struct Step {
    words: Vec<String>,
    code: i32,
    output: String,
}

/// A line with `$` is a command, one with `?` its exit code, and the others are what it prints.
fn steps(block: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let words = shlex::split(command).expect("a command");
            steps.push(Step { words, code: 0, output: String::new() });
            continue;
        }
        let step = steps.last_mut().expect("a block begins with a command");
        if let Some(code) = line.strip_prefix("? ") {
            step.code = code.parse().expect("an exit code");
        } else {
            step.output.push_str(line);
            step.output.push('\n');
        }
    }
    steps
}

/// Everything in a document that begins with `parti`: lines between fences, and code in sentences.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = ["sh", "text"].iter().flat_map(|language| fenced(text, language));
    let lines: Vec<String> = lines.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let spans = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let begins = |line: &String| line.starts_with("parti ") && !line.contains('\n');
    let split = |line: String| shlex::split(&line).unwrap_or_else(|| panic!("{line} is no command"));
    lines.into_iter().chain(spans).filter(begins).map(split).collect()
}
