//! The image, and a group on a laptop.

use std::process::Command;

use serde_json::Value;

use crate::yaml::{documents, read, root, stop, texts};

#[test]
fn the_image_is_built_in_stages_and_runs_as_nobody_in_particular() {
    let text = read("Dockerfile");
    let from: Vec<&str> = text.lines().filter(|line| line.starts_with("FROM ")).collect();
    let [build, last] = from.as_slice() else { panic!("two stages: {from:?}") };
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let version = build.split([':', '-']).nth(1).expect("a version");
    assert!(manifest.contains(&format!("rust-version = \"{version}\"")), "it is built with the oldest Rust: {build}");
    assert!(last.contains("distroless") && last.ends_with(":nonroot"), "{last}");
    let user = text.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id != 0)), "{user}");
    for package in ["parti-example-metrics", "parti-cli"] {
        assert!(text.contains(&format!("-p {package}")), "{package} is not built");
    }
    assert!(text.contains("ENTRYPOINT [\"/usr/local/bin/parti-example-metrics\"]"), "{text}");
}

#[test]
fn compose_starts_a_server_three_workers_and_who_watches_them() {
    let [file] = documents("compose.yaml").try_into().expect("one document");
    let services = file["services"].as_object().expect("services");
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["grafana", "nats", "prometheus", "worker"]);

    let worker = &services["worker"];
    assert_eq!(worker["deploy"]["replicas"], 3);
    let grace = worker["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s')).expect("seconds");
    assert!(grace.parse::<u64>().expect("a number") > stop().as_secs(), "{grace}");
    let arguments = texts(&worker["command"]);
    let output = Command::new(env!("CARGO_BIN_EXE_parti-example-metrics")).args(arguments).arg("--help").output();
    assert!(output.expect("it runs").status.success());

    let deploy = root().join("deploy");
    for (name, service) in services {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} listens to other machines: {port}");
        }
        for volume in texts(&service["volumes"]).into_iter().filter(|volume| volume.starts_with('.')) {
            let path = volume.split(':').next().unwrap_or_default();
            assert!(deploy.join(path).exists(), "{name}: {path} is missing");
        }
        if let Some(build) = service.get("build") {
            let context = deploy.join(build["context"].as_str().expect("a folder"));
            assert!(context.join(build["dockerfile"].as_str().expect("a file")).is_file(), "{name}");
        }
    }
}

#[test]
fn prometheus_and_grafana_find_what_they_are_given() {
    let [prometheus] = documents("prometheus/prometheus.yaml").try_into().expect("one document");
    for file in texts(&prometheus["rule_files"]) {
        assert!(root().join("deploy/prometheus").join(file).is_file(), "{file}");
    }
    let [compose] = documents("compose.yaml").try_into().expect("one document");
    let found = &prometheus["scrape_configs"][0]["dns_sd_configs"][0];
    assert!(compose["services"].get(texts(&found["names"])[0]).is_some(), "{found}");
    let listens = texts(&compose["services"]["worker"]["command"])[0].rsplit(':').next().expect("a port").to_owned();
    assert_eq!(found["port"].to_string(), listens);

    let [sources] = documents("grafana/provisioning/datasources/prometheus.yaml").try_into().expect("one document");
    assert_eq!(sources["datasources"][0]["url"], "http://prometheus:9090");
    let [providers] = documents("grafana/provisioning/dashboards/parti.yaml").try_into().expect("one document");
    let path = providers["providers"][0]["options"]["path"].as_str().expect("a folder");
    let mounted = |volume: &&str| volume.contains(&format!(":{path}/parti.json"));
    assert!(texts(&compose["services"]["grafana"]["volumes"]).iter().any(mounted), "{path}");
    let home = &compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home, &Value::from(format!("{path}/parti.json")));
}
