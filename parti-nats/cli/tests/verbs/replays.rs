//! What a worker was told, from its flight recording.

use std::path::Path;

use parti_nats::{Builder, Change, RecordLimits};
use snapbox::cmd::Command;

use crate::fleet::{Fleet, parti};
use crate::support::{folder, quick};

/// A worker that owns two partitions, and stops. It is recorded there.
fn fly(fleet: &Fleet, path: &Path) {
    fleet.run(async |_| {
        let builder = Builder::new("orders").server(fleet.server.url()).config(quick()).partition_ids(["eu", "us"]);
        let mut worker = builder.record(path, RecordLimits::default()).start().expect("valid settings");
        let mut guards = Vec::new();
        while let Some(change) = worker.next_change().await {
            match change {
                Change::Acquired(guard) => guards.push(guard),
                Change::Releasing { .. } => guards.clear(),
                _ => {}
            }
            if guards.len() == 2 {
                worker.stop();
            }
        }
        worker.finished().await.expect("it works");
    });
}

/// The command, which finds no server.
fn replay(arguments: &[&str]) -> Command {
    parti("nats://127.0.0.1:1", &[&["replay"], arguments].concat())
}

fn said(command: Command, code: i32) -> (String, String) {
    let output = command.output().expect("it runs");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[test]
fn a_recording_is_shown_without_a_server_and_decided_again() {
    let (fleet, folder) = (Fleet::new(), folder());
    let path = folder.join("worker.rec");
    fly(&fleet, &path);
    fly(&fleet, &path); // of another process, which leaves what the first one has written
    let file = path.to_str().expect("UTF-8");
    let older = format!("{file}.1");

    let (text, _) = said(replay(&[file]), 0);
    assert!(text.starts_with("## orders, process ") && text.contains(": segment 0, from event 0 on\n"), "{text}");
    assert!(text.contains("Z 0.000000s <- ") && text.contains("s -> acquire eu with "), "{text}");
    assert!(text.contains("=> Stable (worker-") && text.contains("s -> notice LeadershipGained {"), "{text}");
    assert!(text.contains("s -> halt\n") && text.ends_with(" events, and it decides as it did then\n"), "{text}");

    let (both, _) = said(replay(&[file, &older]), 0);
    let heads: Vec<_> = both.lines().filter(|line| line.starts_with("## ")).collect();
    assert!(heads.len() == 2 && both.ends_with(&text[text.len() - 20..]), "{both}");
    assert!(heads[1] == text.lines().next().expect("a line") && both.contains("\n!! it does not go on from"), "{both}");

    let (few, _) = said(replay(&[file, "--grep", "acquire us"]), 0);
    let shown: Vec<_> = few.lines().collect();
    assert!(shown.len() == 3 && shown[1].contains(" -> acquire us with "), "{few}");
    let (none, _) = said(replay(&[file, "--from", "2999-01-01"]), 0);
    assert_eq!(none.lines().count(), 2, "{none}");
    let (first, _) = said(replay(&[file, "--until", "0s"]), 0);
    assert!(first.lines().count() < 12 && first.contains(" 0.000000s <- "), "{first}");

    let (document, _) = said(replay(&[file, "--grep", "acquire", "--json"]), 0);
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(
        (&document["v"], &document["kind"], &document["group"]),
        (&1.into(), &"replay".into(), &"orders".into())
    );
    assert!(document["events"].as_u64() > Some(20) && document["differs_at"].is_null(), "{document}");
    let step = &document["steps"][0];
    assert!(step["agrees"] == true && step["lines"][0].as_str().is_some_and(|line| line.starts_with("-> acquire ")));
    assert!(step["at"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 24), "{step}");
    std::fs::remove_dir_all(folder).expect("its own");
}

#[test]
fn what_is_no_recording_or_not_whole_is_said_with_the_place() {
    let (fleet, folder) = (Fleet::new(), folder());
    let path = folder.join("worker.rec");
    fly(&fleet, &path);
    let file = path.to_str().expect("UTF-8");
    let whole = std::fs::read(&path).expect("it was written");
    let begins = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(9).expect("ten lines").0 + 1;

    std::fs::write(&path, &whole[..begins + 5]).expect("its own");
    let (text, error) = said(replay(&[file]), 3);
    let place = format!("line 11, at byte {begins}");
    assert!(error.contains(&format!("it is cut off in {place}")) && text.contains("8 events, "), "{text}{error}");

    let mut damaged = whole.clone();
    damaged[begins + 5] ^= 4;
    std::fs::write(&path, &damaged).expect("its own");
    let (document, _) = said(replay(&[file, "--json"]), 3);
    assert!(document.contains(&format!("it is damaged in {place}")), "{document}");

    std::fs::write(&path, "hello").expect("its own");
    let (_, error) = said(replay(&[file]), 2);
    assert!(error.contains("not a recording") && error.contains("Builder::record"), "{error}");
    let (_, error) = said(replay(&["/nowhere/worker.rec"]), 4);
    assert!(error.starts_with("parti: tried to read /nowhere/worker.rec: "), "{error}");
    let (_, error) = said(replay(&[file, "--from", "yesterday"]), 2);
    assert!(error.contains("write it like 12.4s or 2026-11-30T17:05"), "{error}");
    let help = said(replay(&["--help"]), 0).0;
    assert!(help.contains("parti replay worker.rec --grep orders-17"), "{help}");
    std::fs::remove_dir_all(folder).expect("its own");
}
