//! What registries and visitors see.

use std::fs;

use crate::page::root;

/// Each crate that is published, in the order in which that has to be done.
const CRATES: [(&str, &str); 4] = [
    ("parti-core", "parti-core"),
    ("parti-sim", "parti-sim"),
    ("parti-nats", "parti-nats"),
    ("parti-cli", "parti-nats/cli"),
];

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_crate_says_what_it_is_and_under_which_license() {
    let license = fs::read(root().join("LICENSE")).expect("the license");
    for (name, folder) in CRATES {
        let package = &manifest(folder)["package"];
        assert_eq!(package["name"].as_str(), Some(name));
        for shared in ["version", "edition", "rust-version", "license", "repository", "keywords"] {
            assert_eq!(package[shared]["workspace"].as_bool(), Some(true), "{name}: {shared}");
        }
        assert!(package["description"].as_str().is_some_and(|text| text.len() > 20), "{name} has no description");
        assert!(package["categories"].as_array().is_some_and(|list| !list.is_empty()), "{name} has no categories");
        assert!(package.get("publish").is_none(), "{name} is not published");
        let folder = root().join(folder);
        let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(readme.starts_with(&format!("# {name}\n")), "{name} has no README.md of its own");
        assert!(
            fs::read(folder.join("LICENSE")).is_ok_and(|own| own == license),
            "{name} has no LICENSE, or another one"
        );
    }
}

#[test]
fn every_other_crate_stays_at_home() {
    let members = manifest("")["workspace"]["members"].clone();
    for member in members.as_array().expect("members").iter().filter_map(|member| member.as_str()) {
        let folders: Vec<String> = match member.strip_suffix("/*") {
            Some(parent) => {
                let entries = fs::read_dir(root().join(parent)).expect("a folder");
                entries.map(|entry| format!("{parent}/{}", entry.expect("one").file_name().to_string_lossy())).collect()
            }
            None => vec![member.to_owned()],
        };
        for folder in folders {
            let is_published = CRATES.iter().any(|(_, published)| *published == folder);
            let publish = manifest(&folder)["package"].get("publish").cloned();
            assert_eq!(publish.is_none(), is_published, "{folder}: {publish:?}");
        }
    }
}

#[test]
fn the_workflow_builds_with_the_oldest_rust_and_runs_what_is_there() {
    let oldest = manifest("")["workspace"]["package"]["rust-version"].as_str().expect("a version").to_owned();
    let text = fs::read_to_string(root().join(".github/workflows/test.yaml")).expect("the workflow");
    let workflow: serde_json::Value = serde_yaml_ng::from_str(&text).expect("YAML");
    let jobs = workflow["jobs"].as_object().expect("jobs");
    let steps = jobs.values().flat_map(|job| job["steps"].as_array().expect("steps"));
    let commands: Vec<&str> = steps.filter_map(|step| step["run"].as_str()).collect();
    assert!(commands.iter().any(|command| command.starts_with(&format!("cargo +{oldest} check"))), "{commands:?}");
    let scripts = commands.iter().filter_map(|command| command.split(' ').find(|word| word.starts_with("scripts/")));
    let scripts: Vec<_> = scripts.collect();
    assert!(scripts.contains(&"scripts/test"), "{scripts:?}");
    assert!(scripts.iter().all(|script| root().join(script).is_file()), "{scripts:?}");
}
