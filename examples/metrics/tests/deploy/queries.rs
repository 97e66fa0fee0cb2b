//! What alerts and the dashboard ask for is there.

use std::collections::BTreeSet;

use parti_nats::{DELIVERY_METRICS, METRICS, Metric, MetricKind};
use serde_json::Value;

use crate::yaml::{documents, read};

/// What a query names, each with the labels that it is filtered or grouped by left out.
fn named(query: &str) -> BTreeSet<&str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("parti_")).collect()
}

fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(DELIVERY_METRICS)
}

/// Whether a query may name this: a metric as it is, or what Prometheus makes of a histogram.
fn exists(name: &str) -> bool {
    all().any(|metric| match metric.kind {
        MetricKind::Histogram => {
            name.strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
        }
        MetricKind::Counter | MetricKind::Gauge => name == metric.name,
    })
}

fn alerts() -> Vec<Value> {
    let [file] = documents("prometheus/alerts.yaml").try_into().expect("one document");
    file["groups"][0]["rules"].as_array().expect("rules").clone()
}

/// All queries of the dashboard, with the titles of their panels.
pub(crate) fn dashboard() -> Vec<(String, String)> {
    let board: Value = serde_json::from_str(&read("grafana/parti.json")).expect("JSON");
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), target["expr"].as_str().expect("a query").to_owned()));
        }
        assert!(
            panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
            "{title}"
        );
    }
    queries
}

#[test]
fn every_metric_that_an_alert_or_the_dashboard_names_is_there() {
    let alerts = alerts();
    let of_alerts =
        alerts.iter().map(|alert| (alert["alert"].to_string(), alert["expr"].as_str().expect("a query").to_owned()));
    for (name, query) in of_alerts.chain(dashboard()) {
        let metrics = named(&query);
        assert!(!metrics.is_empty(), "{name}: {query}");
        for metric in metrics {
            assert!(exists(metric), "{name}: there is no {metric}");
        }
        // Counters are asked for their growth, since they begin anew with each process.
        for metric in named(&query).into_iter().filter(|metric| metric.ends_with("_total")) {
            assert!(query.contains("rate(") || query.contains("increase("), "{name}: {metric}");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let queries: String = dashboard().into_iter().map(|(_, query)| query + "\n").collect();
    let shown = named(&queries);
    for metric in all() {
        let is_shown = shown.contains(metric.name) || shown.contains(format!("{}_bucket", metric.name).as_str());
        assert!(is_shown, "{} is on no panel", metric.name);
    }
}

#[test]
fn every_alert_has_a_story_is_silent_in_a_rolling_update_and_is_in_the_book() {
    let [stories] = documents("prometheus/alerts_test.yaml").try_into().expect("one document");
    let book = std::fs::read_to_string(crate::yaml::root().join("docs/src/monitoring.md")).expect("the page");
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        assert!(["page", "look"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
        assert!(book.contains(&format!("| `{name}` |")), "the book does not have {name}");
        let (mut fires, mut silent) = (0, 0);
        for story in stories["tests"].as_array().expect("stories") {
            for check in story["alert_rule_test"].as_array().expect("checks") {
                if check["alertname"] == name {
                    let expected = check["exp_alerts"].as_array().expect("a list").len();
                    *(if expected > 0 { &mut fires } else { &mut silent }) += 1;
                }
            }
        }
        assert!(fires > 0 && silent > 3, "{name}: fires {fires} times, and is silent {silent} times");
    }
}
