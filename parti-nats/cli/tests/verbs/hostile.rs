//! What somebody has stored does nothing to who looks at it, and a large group is looked at quickly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parti_core::{
    AssignmentRecord, ClusterRecord, Generation, Grant, Incarnation, Instance, LeaderRecord, MemberRecord, PartitionId,
    PlanHistory, PlannerPhase, Position, Record, Revision, Slot, Tenure, Term, Weight,
};

use crate::fleet::Fleet;

/// How long one look may take here; what it takes where it is built with optimisation is less than 300 ms.
const AT_MOST: Duration = Duration::from_secs(5);

#[test]
fn hostile_values_show_harmlessly() {
    let fleet = Fleet::new();
    let nasty = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}<script>alert(1)</script>";
    let long = nasty.repeat(10_000);
    let member = MemberRecord {
        software: nasty.to_owned(),
        labels: [(nasty.to_owned(), long.clone())].into(),
        lease_ms: Some(3_600_000),
        ..MemberRecord::new(Instance::new(1))
    };
    fleet.write("members", "slot.1", &Record::Member(Arc::new(member)).encode());
    fleet.write("members", "slot.2", format!("{{\"v\":1,\"phase\":{}}}", serde_json::json!(long)).as_bytes());
    let wish = serde_json::json!({ "v": 1, "by": nasty, "reason": long });
    fleet.write("members", "control.pause", wish.to_string().as_bytes());
    fleet.write("plan", "assign.3", b"\xff\x00");
    fleet.write("partitions", "list", serde_json::json!({ "v": 1, "partitions": [[nasty, 1]] }).to_string().as_bytes());
    for verb in [&["status"][..], &["workers"], &["partitions"], &["plan"], &["check"], &["list", "show"]] {
        let output = fleet.parti(verb).output().expect("it runs");
        for bytes in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(bytes.clone()).expect("UTF-8");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{verb:?}: {text:.400}");
        }
        assert!(output.status.code().is_some_and(|code| code < 5), "{verb:?}: no panic");
    }
    let status = fleet.json(&["status"]);
    assert_eq!(status["wishes"][0]["by"], nasty, "a document has what was stored, escaped as JSON does");
    assert_eq!(status["unreadable"].as_array().map(Vec::len), Some(2), "{status:.400}");
}

#[test]
fn a_group_of_200_workers_and_10_000_partitions_is_shown_at_once() {
    const WORKERS: u32 = 200;
    const EACH: u32 = 50;
    let fleet = Fleet::new();
    let life = Incarnation::new(1);
    let (term, generation) = (Term::new(1), Generation::new(7));
    fleet.run(async |client| {
        let jetstream = parti_nats::async_nats::jetstream::new(client);
        let mut pending = Vec::new();
        let mut send = async |bucket: &str, key: String, record: Record| {
            let subject = format!("$KV.parti_orders_{bucket}.{key}");
            pending.push(jetstream.publish(subject, record.encode().into()).await.expect("sent"));
        };
        for slot in 0..WORKERS {
            let tenure = Tenure::new(Position { incarnation: life, revision: Revision::new(u64::from(slot) + 1) });
            let applied = Position { incarnation: Incarnation::new(u64::MAX), revision: Revision::new(1) };
            let lease_ms = Some(3_600_000);
            let instance = Instance::new(u64::from(slot));
            let member = MemberRecord { tenure: Some(tenure), applied, lease_ms, ..MemberRecord::new(instance) };
            send("members", format!("slot.{slot}"), Record::Member(Arc::new(member))).await;
            let grant = |number: u32| Grant {
                partition: PartitionId::new(format!("orders-{:05}", slot * EACH + number)).expect("valid"),
                weight: Weight::MIN,
                epoch: generation,
            };
            let owned = (0..EACH).map(grant).collect();
            let (releasing, incoming) = (Vec::new(), Vec::new());
            let record = AssignmentRecord { term, generation, era: life, tenure, owned, releasing, incoming };
            send("plan", format!("assign.{slot}"), Record::Assignment(Arc::new(record))).await;
        }
        let (slot, instance) = (Slot::new(0), Instance::new(0));
        let tenure = Tenure::new(Position { incarnation: life, revision: Revision::new(1) });
        send("members", "leader".to_owned(), Record::Leader(LeaderRecord { slot, tenure, instance })).await;
        let head = ClusterRecord {
            term,
            generation,
            era: life,
            leader: slot,
            instance,
            phase: PlannerPhase::Idle,
            workers: WORKERS,
            partitions: WORKERS * EACH,
            rebalanced: Revision::new(0),
            rebalanced_in: life,
            digest: 0,
            moves: PlanHistory::default(),
        };
        send("plan", "cluster".to_owned(), Record::Cluster(Arc::new(head))).await;
        for acknowledged in pending {
            acknowledged.await.expect("stored");
        }
    });
    let begun = Instant::now();
    let (text, code) = fleet.answer(&["status"]);
    let took = begun.elapsed();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Partitions  10000, 0 unowned, 0 moving") && text.lines().count() > 200, "{text}");
    assert!(text.starts_with("orders is settled"), "{text}");
    assert!(took < AT_MOST, "{took:?}");
}
