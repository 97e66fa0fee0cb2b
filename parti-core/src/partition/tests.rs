use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

fn partition(id: &str) -> Partition {
    Partition::new(PartitionId::new(id).expect("a valid id"))
}

#[test]
fn an_invalid_id_is_refused_with_the_rule_and_the_fix() {
    let errors = ["", &"x".repeat(256), "a\nb"].map(|id| PartitionId::new(id).expect_err("invalid").to_string());
    insta::assert_snapshot!(errors.join("\n"), @r#"
    a partition id must not be empty: give every partition a name
    a partition id must have at most 255 bytes, but the one that starts with "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" has 256: shorten it, or use a hash of it
    a partition id must not have control characters, but "a\nb" has one at character 1: remove it
    "#);
}

#[test]
fn a_list_is_sorted_and_refuses_an_id_that_comes_twice() {
    let list = PartitionList::new(vec![partition("b"), partition("a")]).expect("two ids");
    assert_eq!(list.position(&list.as_slice()[1].id), Some(1));
    let error = PartitionList::new(vec![partition("a"), partition("a")]).expect_err("one id twice");
    assert!(error.to_string().contains("\"a\" comes twice"), "{error}");
}

#[test]
fn places_are_found_by_hash_as_by_search() {
    for count in [0, 1, 2, 1_000] {
        let list = PartitionList::new((0..count).map(|n| partition(&alloc::format!("p{n}"))).collect());
        let list = list.expect("each id once");
        let places = Places::new(&list);
        for n in 0..count + 10 {
            let id = PartitionId::new(alloc::format!("p{n}")).expect("a valid id");
            assert_eq!(places.find(&id), list.position(&id), "{id} of {count}");
        }
    }
}

#[test]
fn a_partition_reads_back_from_what_is_stored_of_it() {
    let plain = partition("a");
    let weight = Weight::new(3).expect("not zero");
    let placed = partition("b").with_weight(weight).requiring("zone", "a").pinned_to(Slot::new(7));
    let text = serde_json::to_string(&[&plain, &placed]).expect("plain data");
    assert_eq!(text, r#"[["a",1],["b",3,{"requires":{"zone":"a"},"pin":7}]]"#);
    assert_eq!(serde_json::from_str::<Vec<Partition>>(&text).expect("its own text"), [plain.clone(), placed]);
    let preferring = partition("c").preferring("zone", "a").apart("tenant-7");
    let text = serde_json::to_string(&preferring).expect("plain data");
    assert_eq!(text, r#"["c",1,{"prefers":{"zone":"a"},"apart":"tenant-7"}]"#);
    assert_eq!(serde_json::from_str::<Partition>(&text).expect("its own text"), preferring);
    let important = partition("d").priority(200);
    let text = serde_json::to_string(&important).expect("plain data");
    assert_eq!(text, r#"["d",1,{"priority":200}]"#);
    assert_eq!(serde_json::from_str::<Partition>(&text).expect("its own text"), important);
    let by_hand = serde_json::from_str::<Partition>(r#"["a", 1, {"later": true}]"#);
    assert_eq!(by_hand.expect("what it does not know is ignored"), plain);
    let error = serde_json::from_str::<Partition>(r#"["a"]"#).expect_err("no weight").to_string();
    assert!(error.contains("[id, weight]"), "{error}");
}

#[test]
fn labels_that_no_worker_may_have_are_refused() {
    let many = (0..=MAX_LABELS).fold(partition("a"), |all, n| all.requiring(alloc::format!("l{n}"), ""));
    let names = "z".repeat(129);
    let long_key = partition("a").apart(names.clone());
    let preferred = [long_key, partition("a").preferring("zone", "a\nb"), partition("a").preferring(names.clone(), "")];
    let required = [partition("a").requiring("zone", "a\nb"), partition("a").requiring(names, ""), many];
    for wrong in preferred.into_iter().chain(required) {
        let error = PartitionList::new(vec![wrong]).expect_err("an impossible label").to_string();
        assert!(error.contains("at most 32 labels") && error.contains("\"a\" asks for others"), "{error}");
    }
}

#[test]
fn the_digest_depends_on_ids_weights_and_placements_only() {
    let list = |ids: &[&str]| PartitionList::new(ids.iter().map(|id| partition(id)).collect()).expect("valid");
    assert_eq!(list(&["a", "b"]).digest(), list(&["b", "a"]).digest());
    assert_ne!(list(&["a", "b"]).digest(), list(&["ab"]).digest());
    let heavy = PartitionList::new(vec![partition("a").with_weight(Weight::MAX), partition("b")]).expect("valid");
    assert_ne!(list(&["a", "b"]).digest(), heavy.digest());
    let one = |partition| PartitionList::new(vec![partition]).expect("valid").digest();
    let all = [
        partition("a"),
        partition("a").requiring("zone", "a"),
        partition("a").requiring("zone", "b"),
        partition("a").pinned_to(Slot::new(0)),
        partition("a").preferring("zone", "a"),
        partition("a").preferring("zone", "b"),
        partition("a").apart("zone"),
        partition("a").apart("tenant"),
        partition("a").requiring("zone", "a").preferring("zone", "b"),
        partition("a").priority(1),
        partition("a").priority(2),
    ];
    assert_eq!(all.map(one).into_iter().collect::<alloc::collections::BTreeSet<_>>().len(), 11);
}
