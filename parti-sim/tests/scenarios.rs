//! Every scenario holds: the first ones in the setting of the original design, all in a smaller one with other seeds.

use parti_sim::{Keep, Outcome, Plain, Scenario};

fn play(name: &str, seed: u64, size: Option<(u32, u32)>) -> Outcome {
    let scenario = Scenario::named(name).unwrap_or_else(|| panic!("there is a scenario {name}"));
    let options = scenario.options(seed, size.map(|size| size.0), size.map(|size| size.1));
    scenario.run(&options, Keep::default())
}

fn must_hold(name: &str, seed: u64, size: Option<(u32, u32)>) -> Outcome {
    let outcome = play(name, seed, size);
    assert_eq!(outcome.exit_code(), 0, "{name} --seed {seed} {size:?}\n{}", Plain(&outcome));
    outcome
}

#[test]
fn a_cold_start_divides_the_work_evenly() {
    let figures = must_hold("cold-start", 1, None).figures;
    assert!(figures.held && figures.plans == 1 && figures.peak_mean <= 1.05, "{figures:?}");
}

#[test]
fn half_as_many_workers_more_take_their_share_in_rounds() {
    let figures = must_hold("scale-up", 1, None).figures;
    assert!(figures.rounds == 2 && figures.moved <= 803 && figures.peak_mean <= 1.05, "{figures:?}");
}

#[test]
fn a_third_of_the_workers_hand_over_and_leave() {
    let figures = must_hold("scale-down", 1, None).figures;
    assert!(figures.moved == 0 && figures.max_orphan_s < 0.3, "{figures:?}");
}

#[test]
fn a_crash_hurts_only_the_partitions_of_the_one_who_crashed() {
    for name in ["crash", "leader-crash"] {
        let figures = must_hold(name, 1, None).figures;
        assert!(figures.max_orphan_s < 1.5, "probes tell: {figures:?}");
    }
}

#[test]
fn a_rolling_update_moves_nothing() {
    let figures = must_hold("rolling-update", 1, None).figures;
    assert_eq!((figures.moved, figures.plans), (0, 0));
}

#[test]
fn every_scenario_holds_in_small_too() {
    for scenario in Scenario::all() {
        for seed in [2, 3] {
            must_hold(scenario.name, seed, Some((9, 180)));
        }
    }
}

#[test]
fn a_scenario_that_does_not_reach_what_it_is_about_says_so() {
    // One worker alone has no follower that could crash.
    let outcome = play("crash", 1, Some((1, 10)));
    assert_eq!(outcome.exit_code(), 4, "{}", Plain(&outcome));
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_does_not() {
    let scenario = Scenario::named("crash-during-handoff").expect("it is listed");
    let lines = |seed| {
        let options = scenario.options(seed, Some(6), Some(60));
        let trace = scenario.run(&options, Keep { trace: true, recording: false }).trace.expect("it was asked for");
        trace.lines().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let first = lines(5);
    assert!(first.len() > 1_000, "something happened");
    assert!(first == lines(5), "two runs of one seed");
    assert!(first != lines(6), "two seeds");
}
