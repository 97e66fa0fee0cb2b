//! The report page, looked at by a browser: what it draws and says, in light and dark, and by the keyboard alone.

#[path = "support/browser.rs"]
mod browser;

use std::path::{Path, PathBuf};

use parti_sim::{Keep, Plant, Scenario};
use serde_json::Value;

/// What the page is asked once it is drawn. It leaves the answers in an element of the page.
const QUESTIONS: &str = include_str!("report.js");

/// One run of the browser on a page, with arguments that say what for; what it prints.
fn browse(page: &Path, dark: bool, arguments: &[&str]) -> String {
    let profile = page.with_extension(if dark { "dark" } else { "light" });
    let arguments = [&["--window-size=1280,2300"], arguments].concat();
    browser::browse(&format!("file://{}", page.display()), &profile, dark, &arguments)
}

/// Writes the page of a scenario, and returns where it is.
fn page(name: &str, workers: u32, partitions: u32, plant: Option<Plant>) -> PathBuf {
    let scenario = Scenario::named(name).expect("it is listed");
    let mut options = scenario.options(1, Some(workers), Some(partitions));
    options.plant = plant;
    let outcome = scenario.run(&options, Keep { trace: false, recording: true });
    let file = format!("report-{name}-{workers}{}.html", if plant.is_some() { "-planted" } else { "" });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::write(&path, outcome.report(scenario.shows)).expect("the folder for tests can be written to");
    path
}

/// What the page answers.
fn ask(page: &Path, dark: bool) -> Value {
    let asked = page.with_extension(if dark { "dark.html" } else { "light.html" });
    let text = std::fs::read_to_string(page).expect("it was written");
    let with_questions = text.replace("</body>", &format!("<script>{QUESTIONS}</script></body>"));
    std::fs::write(&asked, with_questions).expect("the folder for tests can be written to");
    let shown = browse(&asked, dark, &["--virtual-time-budget=5000", "--dump-dom"]);
    let answers = shown.split("<pre id=\"answers\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let answers =
        answers.expect("the page has answered").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&answers).unwrap_or_else(|error| panic!("{error}: {answers}"))
}

#[test]
fn a_page_shows_all_of_it_in_light_and_dark_and_by_the_keyboard_alone() {
    let page = page("crash", 5, 60, None);
    for dark in [false, true] {
        let seen = ask(&page, dark);
        assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
        assert_eq!(seen["dark"], dark, "{seen:#}");
        assert_eq!(seen["verdict"], "held", "{seen:#}");
        let again = "cargo run -p parti-sim -- scenario crash --workers 5 --partitions 60 --seed 1 --report page.html";
        assert_eq!(seen["again"], again);
        // Everything that is drawn is in the legend, and both sides of each picture say what they are.
        assert_eq!(seen["unexplained"], Value::Array(Vec::new()), "{seen:#}");
        for (picture, title) in
            [("map", "60 partitions"), ("strips", "workers"), ("orphans", "partitions"), ("load", "load")]
        {
            assert_eq!(seen["titles"][picture], serde_json::json!(["time since the start", title]));
        }
        // Nobody's colour is far from that of each worker, of 200 of them, and it is there after the crash.
        assert!(seen["nearest_to_nobody"].as_f64() > Some(60.0), "{seen:#}");
        assert!(seen["pixels_of_nobody"].as_u64() > Some(20), "{seen:#}");
        assert_eq!(seen["workers_named"], 5, "{seen:#}");
        // A partition is found by its name, with who had it when.
        assert_eq!(seen["found"]["selected"], "p00042");
        assert!(seen["found"]["rows"].as_u64() >= Some(2), "{seen:#}");
        assert!(
            seen["found"]["part_of_a_name"].as_str().is_some_and(|hits| hits.contains("10 are called like that")),
            "{seen:#}"
        );
        assert!(seen["found"]["nothing"].as_str().is_some_and(|hits| hits.contains("no partition")), "{seen:#}");
        // Keys do what the mouse does.
        let keys = &seen["keys"];
        assert_eq!(keys["all"], serde_json::json!([0, 1]), "{seen:#}");
        assert_eq!(keys["closer"], serde_json::json!([0.25, 0.75]), "{seen:#}");
        assert!(keys["later"][0].as_f64() > Some(0.25) && keys["earlier"][0].as_f64() == Some(0.25), "{seen:#}");
        assert_eq!(keys["search_has_focus"], true);
        assert_eq!(
            (&keys["second_row"], &keys["escape"]),
            (&keys["expected_second_row"], &Value::from("")),
            "{seen:#}"
        );
        assert_eq!(keys["out_of_reach"], 0, "everything that can be clicked can be reached");
    }
}

#[test]
fn a_page_tells_why_it_did_not_hold_and_why_nothing_was_shown() {
    let nothing = ask(&page("crash", 1, 4, None), false);
    assert_eq!(nothing["verdict"], "NOTHING WAS SHOWN");
    let why = nothing["why"].as_str().expect("text");
    assert!(why.contains("a process crashed (Crashed)") && why.contains("give it 2 or more"), "{why}");

    let plant = Plant::try_from("release-before-drained".to_owned()).expect("there is such a bug");
    let broken = ask(&page("scale-up", 4, 40, Some(plant)), false);
    assert_eq!(broken["verdict"], "DID NOT HOLD");
    assert!(broken["why"].as_str().is_some_and(|why| why.contains("does not hold at")), "{broken:#}");
    assert!(
        broken["again"].as_str().is_some_and(|again| again.contains("--plant release-before-drained")),
        "{broken:#}"
    );
}

#[test]
fn pictures_of_the_page_are_there_for_a_person_to_look_at() {
    let page = page("rolling-update", 8, 120, None);
    for dark in [false, true] {
        let picture = page.with_extension(if dark { "dark.png" } else { "light.png" });
        browse(&page, dark, &["--virtual-time-budget=5000", &format!("--screenshot={}", picture.display())]);
        let bytes = std::fs::read(&picture).expect("the browser has made a picture");
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&bytes[16..24], [0, 0, 5, 0, 0, 0, 8, 252], "1280 by 2300");
        assert!(bytes.len() > 50_000, "it is not empty: {} bytes", bytes.len());
    }
}
