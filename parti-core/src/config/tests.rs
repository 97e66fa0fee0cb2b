use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;

#[test]
fn the_default_is_valid() {
    assert_eq!(Config::default().validate(), Ok(()));
}

fn errors(broken: impl IntoIterator<Item = Config>) -> String {
    let errors = broken.into_iter().map(|config| config.validate().expect_err("a broken rule").to_string());
    errors.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_range_of_durations_names_itself_the_values_and_the_fix() {
    let (default, long) = (Config::default, MAX_DURATION + Duration::from_nanos(1));
    insta::assert_snapshot!(errors([
        Config { lease: Duration::ZERO, ..default() },
        Config { lease: long, ..default() },
        Config { settle_window: long, ..default() },
        Config { cold_start_window: long, ..default() },
        Config { planned_scale_window: long, ..default() },
        Config { rebalance_interval: Duration::ZERO, ..default() },
        Config { rebalance_interval: long, ..default() },
        Config { restart_hold: long, ..default() },
        Config { surge_wait: long, ..default() },
        Config { release_timeout: Duration::ZERO, ..default() },
        Config { release_timeout: long, ..default() },
        Config { probe_interval: Duration::ZERO, ..default() },
    ]));
}

#[test]
fn each_contradiction_of_durations_names_itself_the_values_and_the_fix() {
    let default = Config::default;
    insta::assert_snapshot!(errors([
        Config { settle_window: Duration::from_secs(31), planned_scale_window: MAX_DURATION, ..default() },
        Config { settle_window: Duration::from_secs(11), ..default() },
        Config { probe_confirm: Some(Duration::from_millis(100)), ..default() },
        Config { probe_confirm: Some(Duration::from_secs(11)), ..default() },
        Config { expected_workers: Some(2), settle_window: Duration::ZERO, ..default() },
    ]));
}

#[test]
fn each_other_rule_names_itself_the_values_and_the_fix() {
    let (default, slot) = (Config::default, Slot::new);
    let label = |name: &str, value: &str| BTreeMap::from([(name.into(), value.into())]);
    insta::assert_snapshot!(errors([
        Config { slots: (slot(4), slot(3)), ..default() },
        Config { slots: (slot(u32::MAX), slot(0)), ..default() },
        Config { slots: (slot(0), slot(u32::MAX)), ..default() },
        Config { slots: (slot(0), slot(65_536)), ..default() },
        Config { preferred_slot: Some(slot(1024)), ..default() },
        Config { predecessor_is_dead: true, ..default() },
        Config { expected_workers: Some(0), ..default() },
        Config { expected_workers: Some(1025), ..default() },
        Config { capacity: 0, ..default() },
        Config { max_load: Some(0), ..default() },
        Config { max_partitions: Some(0), ..default() },
        Config { max_load: Some(1), strategy: StrategyChoice::RoundRobin, ..default() },
        Config { move_budget_percent: 0, ..default() },
        Config { move_budget_percent: 101, ..default() },
        Config { restart_detection_percent: 0, ..default() },
        Config { restart_detection_percent: 101, ..default() },
        Config { strategy: StrategyChoice::ConsistentHash { virtual_nodes: 0 }, ..default() },
        Config { strategy: StrategyChoice::ConsistentHash { virtual_nodes: 10_001 }, ..default() },
        Config { labels: (0..33).map(|n| (n.to_string(), String::new())).collect(), ..default() },
        Config { labels: label(&"n".repeat(129), ""), ..default() },
        Config { labels: label("zone", "a\nb"), ..default() },
        Config { software: "x".repeat(129), ..default() },
    ]));
}

#[test]
fn the_extremes_of_each_range_are_valid() {
    let slot = Slot::new;
    let least = Config {
        lease: MIN_LEASE,
        slots: (slot(7), slot(7)),
        preferred_slot: Some(slot(7)),
        predecessor_is_dead: true,
        expected_workers: Some(1),
        settle_window: Duration::ZERO,
        cold_start_window: Duration::ZERO,
        planned_scale_window: Duration::ZERO,
        rebalance_interval: MIN_REBALANCE_INTERVAL,
        restart_hold: Duration::ZERO,
        surge_wait: Duration::ZERO,
        release_timeout: MIN_RELEASE_TIMEOUT,
        probe_interval: MIN_PROBE_INTERVAL,
        probe_confirm: Some(MIN_PROBE_INTERVAL),
        max_load: Some(1),
        max_partitions: Some(1),
        move_budget_percent: 1,
        restart_detection_percent: 1,
        ..Config::default()
    };
    assert_eq!(least.validate(), Ok(()));
    let most = Config {
        lease: MAX_DURATION,
        slots: (slot(u32::MAX - MAX_SLOTS + 1), slot(u32::MAX)),
        preferred_slot: Some(slot(u32::MAX)),
        expected_workers: Some(MAX_SLOTS),
        settle_window: MAX_DURATION,
        cold_start_window: MAX_DURATION,
        planned_scale_window: MAX_DURATION,
        rebalance_interval: MAX_DURATION,
        restart_hold: MAX_DURATION,
        surge_wait: MAX_DURATION,
        release_timeout: MAX_DURATION,
        probe_interval: MAX_DURATION,
        probe_confirm: Some(MAX_DURATION),
        capacity: u32::MAX,
        max_load: Some(u64::MAX),
        max_partitions: Some(u32::MAX),
        labels: (0..MAX_LABELS).map(|n| (n.to_string(), "v".repeat(MAX_TEXT_BYTES))).collect(),
        software: "x".repeat(MAX_TEXT_BYTES),
        move_budget_percent: 100,
        restart_detection_percent: 100,
        ..Config::default()
    };
    assert_eq!(most.validate(), Ok(()));
}

fn read(text: &str) -> Result<Config, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn a_config_reads_back_from_json() {
    let config = Config {
        mode: Mode::Available,
        slots: (Slot::new(3), Slot::new(9)),
        preferred_slot: Some(Slot::new(5)),
        predecessor_is_dead: true,
        expected_workers: Some(4),
        settle_window: Duration::from_millis(1_500),
        surge_wait: Duration::from_secs(5_400),
        probe_confirm: None,
        max_load: Some(400),
        max_partitions: Some(20),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        software: "1.2".into(),
        strategy: StrategyChoice::ConsistentHash { virtual_nodes: 99 },
        ..Config::default()
    };
    let text = serde_json::to_string_pretty(&config).expect("a config has no map keys but text");
    insta::assert_snapshot!(text);
    assert_eq!(read(&text), Ok(config));
    let default = serde_json::to_string(&Config::default()).expect("a config has no map keys but text");
    assert_eq!(read(&default), Ok(Config::default()));
}

#[test]
fn a_strategy_is_chosen_by_name() {
    let read = |strategy: &str| read(&format!(r#"{{"strategy": {strategy}}}"#)).map(|config| config.strategy);
    assert_eq!(read(r#""balanced""#), Ok(StrategyChoice::Balanced));
    assert_eq!(read(r#""round-robin""#), Ok(StrategyChoice::RoundRobin));
    let ring = |virtual_nodes| Ok(StrategyChoice::ConsistentHash { virtual_nodes });
    assert_eq!(read(r#"{"consistent-hash": {}}"#), ring(150));
    assert_eq!(read(r#"{"consistent-hash": {"virtual_nodes": 7}}"#), ring(7));
}

#[test]
fn a_missing_key_has_its_default() {
    assert_eq!(read("{}"), Ok(Config::default()));
    assert_eq!(read(r#"{"lease": "1m30s"}"#), Ok(Config { lease: Duration::from_secs(90), ..Config::default() }));
}

#[test]
fn what_has_the_wrong_shape_is_refused_with_what_would_fit() {
    let texts = [
        r#"{"leese": "10s"}"#,
        r#"{"lease": 10}"#,
        r#"{"lease": "10"}"#,
        r#"{"probe_confirm": null}"#,
        r#"{"probe_confirm": "of"}"#,
        r#"{"slots": 7}"#,
        r#"{"slots": {"first": 0}}"#,
        r#"{"slots": {"first": 0, "last": 7, "step": 2}}"#,
        r#"{"mode": "lenient"}"#,
        r#"{"capacity": -1}"#,
        r#"{"strategy": "best"}"#,
        r#"{"strategy": {"consistent-hash": {"nodes": 7}}}"#,
        r#"{"lease": "10s", "lease": "20s"}"#,
    ];
    let errors = texts.map(|text| format!("{text}\n    {}", read(text).expect_err(text)));
    insta::assert_snapshot!(errors.join("\n"));
}
