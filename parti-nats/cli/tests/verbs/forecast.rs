//! `plan` on a group that works predicts what then happens, partition by partition.

use std::collections::BTreeMap;

use parti_nats::{Control, ControlRecord, Operator, PartitionBucket, PartitionList, Picture, Slot};

use crate::fleet::{Fleet, group};

/// A small generator: what is tried is another thing for each seed, and the same each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// By partition: who owns it, and since which generation.
type Owners = BTreeMap<String, (u64, u64)>;

#[test]
fn what_a_plan_predicts_then_happens() {
    for seed in 1..=4 {
        let mut rng = Rng(seed);
        let count = 12 + rng.below(20);
        let weighted = (0..count).map(|number| (format!("p-{number:02}"), 1 + rng.below(4)));
        let list = PartitionList::from_pairs(weighted.collect::<Vec<_>>()).expect("a list");
        let slots: Vec<u32> = (0..2 + rng.below(3)).map(|slot| slot * 3).collect();
        let workers: Vec<_> = slots.iter().map(|slot| (*slot, 1 + rng.below(2))).collect();
        let mut fleet = Fleet::settled(&list, &workers);

        let joins = 1 + rng.below(2) * 3;
        let capacity = 1 + rng.below(3);
        let (slot, amount) = (joins.to_string(), capacity.to_string());
        predicts(seed, &mut fleet, &["plan", "--slot", &slot, "--capacity", &amount], |fleet| {
            fleet.start(joins, capacity, None);
            fleet.settle(workers.len() + 1);
        });

        let id = format!("p-{:02}", rng.below(count));
        let weight = 6 + rng.below(6);
        let file = std::env::temp_dir().join(format!("parti-weights-{}-{seed}", std::process::id()));
        std::fs::write(&file, format!("{id} {weight}\n")).expect("a file");
        let path = file.to_str().expect("plain text").to_owned();
        predicts(seed, &mut fleet, &["plan", "--weights", &path], |fleet| {
            fleet.run(async |client| {
                let bucket = PartitionBucket::open(client, &group(), 1).await.expect("opened");
                let id = parti_nats::PartitionId::new(&id).expect("valid");
                let weight = parti_nats::Weight::new(weight).expect("not 0");
                bucket.set_weight(&id, weight).await.expect("written");
            });
            fleet.settle(workers.len() + 1);
        });
        std::fs::remove_file(file).expect("its own");

        let leaves = slots[rng.below(u32::try_from(slots.len()).expect("few")) as usize];
        predicts(seed, &mut fleet, &["plan", "--remove", &leaves.to_string()], |fleet| {
            fleet.run(async |client| {
                let operator = Operator::open(client, &group()).await.expect("opened");
                let drain = Control::Drain(Slot::new(leaves));
                operator.wish(drain, ControlRecord::default()).await.expect("written");
            });
            fleet.settle(workers.len());
        });
    }
}

/// Asks for a plan, does it, and compares: what moved, from where, to where; and what did not.
fn predicts(seed: u64, fleet: &mut Fleet, question: &[&str], act: impl FnOnce(&mut Fleet)) {
    let before = owners(&fleet.wait_for(|_| true));
    let plan = fleet.json(question);
    act(fleet);
    let after = owners(&fleet.wait_for(|_| true));

    let mut expected: BTreeMap<String, u64> = before.iter().map(|(id, (slot, _))| (id.clone(), *slot)).collect();
    let mut predicted = BTreeMap::new();
    for round in plan["rounds"].as_array().expect("a list") {
        for one in round["moves"].as_array().expect("a list") {
            let id = one["partition"].as_str().expect("a name").to_owned();
            let (from, to) = (one["from"].as_u64(), one["to"].as_u64().expect("an owner"));
            assert_eq!(from, expected.get(&id).copied(), "{id} comes from where it was");
            expected.insert(id.clone(), to);
            predicted.insert(id, to);
        }
    }
    let moved = after.iter().filter(|(id, (_, epoch))| before[*id].1 != *epoch);
    let moved: BTreeMap<String, u64> = moved.map(|(id, (slot, _))| (id.clone(), *slot)).collect();
    assert_eq!(moved, predicted, "seed {seed}, {question:?}: {plan}");
    let now: BTreeMap<String, u64> = after.iter().map(|(id, (slot, _))| (id.clone(), *slot)).collect();
    assert_eq!(now, expected, "seed {seed}, {question:?}");
}

fn owners(picture: &Picture) -> Owners {
    let owned = picture.partitions().into_iter();
    let owned = owned.map(|partition| (partition.id.to_string(), partition.owner.expect("it is owned")));
    owned.map(|(id, owner)| (id, (u64::from(owner.slot.value()), owner.token.epoch.value()))).collect()
}
