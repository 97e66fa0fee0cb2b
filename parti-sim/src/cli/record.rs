//! `record`: writes into documents how far the swarm has searched.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

/// What stands before and behind the sentence, in a document.
const MARKS: (&str, &str) = ("<!-- swarm -->", "<!-- /swarm -->");

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// What `swarm --json` has printed.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The documents in which the sentence stands between `<!-- swarm -->` and `<!-- /swarm -->`.
    #[arg(long, required = true, num_args = 1.., value_name = "DOCUMENT")]
    into: Vec<PathBuf>,
}

/// What `swarm --json` tells of a run.
#[derive(Debug, Deserialize)]
struct Run {
    start: u64,
    worlds: u64,
    simulated_hours: f64,
    failures: Vec<serde_json::Value>,
}

pub(super) fn record(args: &RecordArgs, out: &mut impl Write) -> io::Result<u8> {
    let runs = args.runs.iter().map(|path| read(path)).collect::<io::Result<Vec<_>>>()?;
    let sentence = sentence(&runs).map_err(io::Error::other)?;
    for path in &args.into {
        let text = std::fs::read_to_string(path)?;
        let told = || io::Error::other(format!("{}: has no {} … {}", path.display(), MARKS.0, MARKS.1));
        std::fs::write(path, replaced(&text, &sentence).ok_or_else(told)?)?;
    }
    writeln!(out, "{sentence}")?;
    Ok(0)
}

fn read(path: &Path) -> io::Result<Run> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// How far the search came; refused if it found something.
fn sentence(runs: &[Run]) -> Result<String, String> {
    if let Some(run) = runs.iter().find(|run| !run.failures.is_empty()) {
        return Err(format!("the run from seed {} has failures: mend them, and let it run again", run.start));
    }
    let (worlds, hours) = runs.iter().fold((0, 0.0), |(w, h), run| (w + run.worlds, h + run.simulated_hours));
    let starts = runs.iter().map(|run| run.start.to_string()).collect::<Vec<_>>().join(" and ");
    Ok(format!("{worlds} random worlds, {hours:.0} simulated hours, from seed {starts}, without a failure"))
}

/// The document with another sentence between the marks; none if it lacks them.
fn replaced(text: &str, sentence: &str) -> Option<String> {
    let (before, rest) = text.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some(format!("{before}{}{sentence}{}{after}", MARKS.0, MARKS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, failures: usize) -> Run {
        let text = format!(
            r#"{{"start":{start},"worlds":500,"simulated_hours":20.6,"failures":{:?},"events":7}}"#,
            vec![0; failures]
        );
        serde_json::from_str(&text).expect("as swarm --json prints it")
    }

    #[test]
    fn runs_add_up_to_one_sentence_between_the_marks() {
        let sentence = sentence(&[run(7, 0), run(90, 0)]).expect("nothing was found");
        assert_eq!(sentence, "1000 random worlds, 41 simulated hours, from seed 7 and 90, without a failure");
        let before = "So far <!-- swarm -->nothing<!-- /swarm -->.\nMore.";
        let after = replaced(before, &sentence).expect("it has the marks");
        assert_eq!(after, format!("So far <!-- swarm -->{sentence}<!-- /swarm -->.\nMore."));
        assert_eq!(replaced("no marks", &sentence), None);
    }

    #[test]
    fn a_run_that_found_something_is_refused() {
        let refused = sentence(&[run(7, 0), run(90, 2)]).expect_err("it has failures");
        assert!(refused.contains("seed 90"), "{refused}");
    }

    #[test]
    fn the_documents_have_the_marks() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for name in ["README.md", "ARCHITECTURE.md"] {
            let text = std::fs::read_to_string(root.join(name)).expect("a document of the project");
            assert!(replaced(&text, "").is_some(), "{name}");
        }
    }
}
