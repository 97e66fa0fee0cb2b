//! What operators want: written, seen, and taken back.

use snapbox::str;

use crate::fleet::{Fleet, list};

#[test]
fn a_worker_is_drained_with_a_reason_that_everybody_sees_and_takes_part_again() {
    let mut fleet = Fleet::settled(&list(8), &[(0, 1), (1, 1)]);
    fleet.parti(&["drain", "1"]).assert().code(2).stdout_eq("").stderr_eq(
        "parti: to drain worker-1 of orders, which owns 4 partitions has to be confirmed, and there is no terminal to ask on: add --force\n",
    );
    fleet
        .parti(&["drain", "worker-1", "--wait", "--reason", "new disks", "--force"])
        .assert()
        .success()
        .stdout_eq("worker-1 has nothing any more, after [..]\n");
    let picture = fleet.wait_for(|picture| picture.waits_for().is_empty());
    assert_eq!(picture.owned_by(parti_nats::Slot::new(0)), 8);
    fleet.parti(&["status"]).assert().success().stdout_eq(str![[r"
orders is settled for [..]; nothing waits.

  State       settled
  Leader      worker-[..], term [..]
  Generation  [..]
  Workers     2
  Partitions  8, 0 unowned, 0 moving
  Wish        drain.1 by ada, [..] ago: new disks

WORKER    STATE[..]
worker-0  working[..]  8     0         0        8     1         [..]
worker-1  drained[..]  0     0         0        0     1         [..]

"]]);
    let status = fleet.json(&["status"]);
    let wish = &status["wishes"][0];
    assert_eq!((&wish["by"], &wish["reason"]), (&"ada".into(), &"new disks".into()));

    let (check, code) = fleet.answer(&["check", "--format", "nagios", "--wish-age", "0s"]);
    assert_eq!(code, 1, "{check}");
    assert!(check.starts_with("PARTI WARNING - orders: drain.1 has been wanted by ada for "), "{check}");

    fleet.parti(&["undrain", "1", "--force"]).assert().success().stdout_eq("drain.1 of orders is wanted no more\n");
    fleet
        .parti(&["undrain", "1", "--force"])
        .assert()
        .code(4)
        .stderr_eq("parti: take back the wish drain.1 of orders: it was not wanted: see `parti status`\n");
    fleet.parti(&["drain", "9", "--force"]).assert().code(4);
    fleet.parti(&["wait", "settled", "--at-most", "1m"]).assert().success();
    fleet.settle(2);
    fleet
        .parti(&["evict", "1", "--force"])
        .assert()
        .code(1)
        .stdout_eq("worker-1 is alive, so nothing was done: `parti drain 1` takes its work away\n");
    fleet.stop();
    let evicted = fleet.json(&["evict", "1", "--force"]);
    assert_eq!((&evicted["evicted"], &evicted["slot"]), (&true.into(), &1.into()));
    fleet.parti(&["evict", "1", "--force"]).assert().code(4);
}

#[test]
fn the_group_is_paused_maintained_rebalanced_and_its_list_edited() {
    let fleet = Fleet::settled(&list(8), &[(0, 1), (1, 1)]);
    let generation = fleet.json(&["status"])["generation"].as_u64().expect("a number");

    fleet.parti(&["pause", "--reason", "until noon", "--by", "eve", "-f"]).assert().success();
    let hold = ["maintenance", "begin", "--hold", "30m", "--reason", "rack 4", "--force"];
    fleet.parti(&hold).assert().success().stdout_eq("maintenance of orders is wanted (revision [..])\n");
    let status = fleet.json(&["status"]);
    let wishes = status["wishes"].as_array().expect("a list");
    assert_eq!((&wishes[0]["by"], &wishes[1]["hold_ms"]), (&"eve".into(), &1_800_000.into()), "{status}");
    fleet.parti(&["maintenance", "end", "--force"]).assert().success();
    fleet.parti(&["resume", "--force"]).assert().success().stdout_eq("pause of orders is wanted no more\n");

    let stale = (generation + 7).to_string();
    fleet.parti(&["rebalance", "--if-generation", &stale, "--force"]).assert().code(1).stderr_eq(format!(
        "parti: tried to rebalance orders from generation {stale}: it has come to [..] meanwhile: look at `parti plan` again\n"
    ));
    fleet.parti(&["rebalance", "--if-generation", &generation.to_string(), "--force"]).assert().success();

    fleet
        .parti(&["list", "add", "q-1=3", "q-2", "--force"])
        .assert()
        .success()
        .stdout_eq("2 partitions written, the list has revision [..]\n");
    fleet.parti(&["wait", "settled", "--at-most", "1m"]).assert().success();
    fleet.parti(&["who-owns", "q-1"]).assert().success();
    fleet.parti(&["list", "add", "q-1", "--force"]).assert().code(2).stderr_eq("parti: [..]q-1[..]comes twice[..]\n");
    fleet.parti(&["list", "remove", "q-1", "q-2", "--force"]).assert().success();
    fleet.parti(&["list", "remove", "q-1", "--force"]).assert().code(4);
    let set = ["list", "set", "-", "--force"];
    fleet
        .parti(&set)
        .stdin("r-0 2\nr-1\n")
        .assert()
        .success()
        .stdout_eq("2 partitions written, the list has revision [..]\n");
    fleet.parti(&["wait", "settled", "--at-most", "1m"]).assert().success();
    fleet.parti(&["list", "show"]).assert().success().stdout_eq("r-0 2\nr-1 1\n");
    fleet.parti(&[&set[..], &["--revision", "1"]].concat()).stdin("x\n").assert().code(1);
}
