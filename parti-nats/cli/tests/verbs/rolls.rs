//! `status` tells a rolling update step by step, as the work itself tells it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::fleet::{DEADLINE, Fleet, list};

const SLOTS: [u32; 3] = [0, 1, 2];

#[test]
fn the_status_in_a_rolling_update_is_what_the_work_says() {
    let mut fleet = Fleet::settled(&list(12), &SLOTS.map(|slot| (slot, 1)));
    let before = worked_on(&fleet, &SLOTS);
    let generation = fleet.json(&["status"])["generation"].clone();
    for slot in SLOTS {
        fleet.restart(slot);
        let others: Vec<u32> = SLOTS.into_iter().filter(|other| *other != slot).collect();
        is_told(&fleet, &before, &others);
        let (text, code) = fleet.answer(&["status"]);
        let waits = format!("worker-{slot} has been restarting for ");
        assert!(text.contains(&waits) && text.contains("and its 4 partitions wait for it"), "{text}");
        assert_eq!(code, 0, "{text}");

        fleet.start(slot, 1, None);
        assert_eq!(worked_on(&fleet, &SLOTS), before, "nothing has moved");
        fleet.settle(SLOTS.len());
        is_told(&fleet, &before, &SLOTS);
        let status = fleet.json(&["status"]);
        assert_eq!((&status["settled"], &status["generation"]), (&true.into(), &generation), "{status}");
    }
}

/// Once just these workers work on as many partitions as they had: who works on what.
fn worked_on(fleet: &Fleet, slots: &[u32]) -> BTreeMap<String, u32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = fleet.journal.now();
        if slots.iter().all(|slot| now.values().filter(|owner| *owner == slot).count() == 4) {
            return now;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// `status`, `partitions` and the journal agree: of what each had `before`, just these workers work on theirs.
fn is_told(fleet: &Fleet, before: &BTreeMap<String, u32>, working: &[u32]) {
    let works = |slot: u32| working.contains(&slot);
    let mine = before.iter().filter(|(_, slot)| works(**slot)).map(|(id, slot)| (id.clone(), *slot));
    assert_eq!(worked_on(fleet, working), mine.collect::<BTreeMap<_, _>>(), "the work goes on where it was");

    let status = fleet.json(&["status"]);
    let count = |counted: &str| status[counted].as_u64();
    assert_eq!((count("unowned"), count("moving")), (Some(0), Some(0)), "{status}");
    let told = |worker: &Value| {
        (worker["slot"].as_u64(), worker["state"].as_str().map(str::to_owned), worker["owned"].as_u64())
    };
    let told: Vec<_> = status["workers"].as_array().expect("a list").iter().map(told).collect();
    let state = |slot| if works(slot) { "working" } else { "restarting" };
    let expected = SLOTS.map(|slot| (Some(u64::from(slot)), Some(state(slot).to_owned()), Some(4)));
    assert_eq!(told, expected, "{status}");

    let partitions = fleet.json(&["partitions"]);
    let owner =
        |one: &Value| Some((one["partition"].as_str()?.to_owned(), u32::try_from(one["owner"].as_u64()?).ok()?));
    let owners: Option<BTreeMap<_, _>> =
        partitions["partitions"].as_array().expect("a list").iter().map(owner).collect();
    assert_eq!(owners.as_ref(), Some(before), "{partitions}");
}
