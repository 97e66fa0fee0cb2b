//! Each cell of the table of guarantees is linked to what holds it, and that is there.

use std::fs;

use crate::page::{Page, REPOSITORY, root};

/// What has to be in the table, as the first words of a row.
const FAULTS: [&str; 24] = [
    "worker killed",
    "worker frozen, for less than its lease",
    "worker frozen, for longer than its lease",
    "worker cut off",
    "packets of one worker vanish",
    "handler slow",
    "handler panics",
    "leader killed",
    "leader cut off",
    "leader dies",
    "server restarted",
    "server gone",
    "store answers nobody",
    "node lost",
    "majority of the cluster gone",
    "partitioned cluster",
    "bucket deleted",
    "store rolled back",
    "disk full",
    "wall clock",
    "clock wrong: rates",
    "bad record",
    "record of a newer version",
    "configs that differ",
];

fn page() -> Page {
    Page::read(&root().join("docs/src/guarantees.md"))
}

#[test]
fn every_test_that_a_guarantee_is_linked_to_is_there() {
    let mut seen = 0;
    for link in page().links {
        let (Some(path), label) = (link.target.strip_prefix(REPOSITORY), link.label.as_str()) else {
            panic!("{} is no file of the project", link.target)
        };
        let text = || fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        if let Some(scenario) = label.strip_prefix("scenario-") {
            assert!(path.starts_with("parti-sim/src/scenario/"), "{path}");
            assert!(text().contains(&format!("\"{scenario}\"")), "{path} has no scenario {scenario}");
        } else if label.contains('_') {
            assert!(is_test(&text(), label), "{path} has no test {label}");
        } else {
            continue;
        }
        seen += 1;
    }
    assert!(seen > 90, "only {seen} links to tests");
}

#[test]
fn every_fault_has_an_outcome_in_every_mode() {
    let text = fs::read_to_string(root().join("docs/src/guarantees.md")).expect("the page");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for row in &rows {
        assert!([3, 4].contains(&row.len()) && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let is_head = row[0] == "Fault";
        assert!(is_head || row[1].contains("]["), "nothing holds the first cell of {:?}", row[0]);
    }
    for fault in FAULTS {
        assert!(rows.iter().any(|row| row[0].starts_with(fault)), "the table says nothing of {fault:?}");
    }
}

/// Whether there is a function of this name that a test runner runs.
fn is_test(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        // Its attributes are in the lines before, after an empty line or the end of another function.
        let before =
            text[..at].trim_end().lines().rev().take(5).take_while(|line| !line.trim().is_empty() && *line != "}");
        before.collect::<Vec<_>>().iter().any(|line| line.contains("test]"))
    })
}
