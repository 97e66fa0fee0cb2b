//! Why a partition is where it is.

use parti_nats::{MoveCause, PartitionId, Slot};

use crate::fleet::{Fleet, list};

/// The causes of the moves of a partition, the newest first, as the command tells them.
fn causes(fleet: &Fleet, partition: &str) -> Vec<String> {
    let account = fleet.json(&["explain", partition]);
    let moves = account["moves"].as_array().expect("a list");
    moves.iter().map(|told| told["cause"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_drain_a_crash_and_a_rebalance_are_told_in_order() {
    let mut fleet = Fleet::settled(&list(12), &[(0, 1), (1, 1), (2, 1)]);
    let partition = fleet.json(&["partitions", "--owner", "1"])["partitions"][0]["partition"].clone();
    let partition = partition.as_str().expect("text");
    assert_eq!(causes(&fleet, partition), ["list"]);

    fleet.parti(&["drain", "1", "--wait", "--force"]).assert().success();
    assert_eq!(causes(&fleet, partition), ["drain", "list"]);
    fleet.parti(&["undrain", "1", "--force"]).assert().success();
    let picture = fleet.settle(3);
    let id = PartitionId::new(partition).expect("a valid id");
    let owner = picture.partitions().into_iter().find(|one| one.id == id).and_then(|one| one.owner).expect("owned");

    fleet.kill(owner.slot.value());
    fleet.settle(2);
    let told = causes(&fleet, partition);
    assert_eq!(told[..2], ["crash", told[1].as_str()], "{told:?}");
    assert!(told.ends_with(&["drain".to_owned(), "list".to_owned()]), "{told:?}");
    let (text, code) = fleet.answer(&["explain", partition]);
    assert_eq!(code, 0);
    let gone = format!("worker-{} was gone and had not handed it over, and it went to worker-", owner.slot);
    assert!(text.starts_with(&format!("{partition} is with worker-")) && text.contains(&gone), "{text}");

    fleet.start(owner.slot.value(), 1, None);
    let picture = fleet.settle(3);
    let history = &picture.head.as_ref().expect("a head").moves;
    let newest = |id: &PartitionId| history.of(id).next().map(|(_, cause, moved)| (cause, moved.to));
    let mut balanced = 0;
    for partition in picture.partitions() {
        let (cause, to) = newest(&partition.id).expect("every partition was placed once");
        assert_eq!(to, partition.owner.map(|owner| owner.slot), "{}", partition.id);
        balanced += u32::from(cause == MoveCause::Balance && to == Some(Slot::new(owner.slot.value())));
    }
    assert!(balanced > 0, "the one that came back was given something");
    let made_at = history.plans().iter().map(|plan| plan.at_ms);
    assert!(made_at.clone().all(|at| at > 1_700_000_000_000) && made_at.is_sorted(), "{history:?}");
    fleet.parti(&["explain", "nothing"]).assert().code(4);
}
