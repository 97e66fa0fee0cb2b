//! What shows, and writes nothing.

use snapbox::str;

use crate::fleet::{Fleet, list, parti};
use crate::support::{Port, folder};

#[test]
fn a_group_is_shown_and_nothing_is_written() {
    let mut fleet = Fleet::settled(&list(12), &[(0, 1), (1, 2), (7, 1)]);
    tables(&fleet);
    verdicts(&fleet);
    documents(&fleet);
    silence(&mut fleet);
}

fn tables(fleet: &Fleet) {
    fleet.parti(&["status"]).assert().success().stdout_eq(str![[r"
orders is settled for [..]; nothing waits.

  State       settled
  Leader      worker-[..], term [..]
  Generation  [..]
  Workers     3
  Partitions  12, 0 unowned, 0 moving

WORKER    STATE[..]  OWNS  RELEASES  EXPECTS  LOAD  CAPACITY  RENEWED[..]  LEASE  SOFTWARE  LABELS
worker-0  working[..]  3     0         0        3     1         [..] ago[..]  2 s              zone=a
worker-1  working[..]  6     0         0        6     2         [..] ago[..]  2 s              zone=a
worker-7  working[..]  3     0         0        3     1         [..] ago[..]  2 s              zone=a

"]]);
    fleet.parti(&["workers"]).assert().success().stdout_eq(str![[r"
WORKER    STATE[..]
worker-0  working[..]
worker-1  working[..]
worker-7  working[..]

"]]);
    fleet.parti(&["partitions", "--owner", "7"]).assert().success().stdout_eq(str![[r"
PARTITION  OWNER     WEIGHT  EPOCH  MOVES
p-[..]  worker-7  1       [..]
p-[..]  worker-7  1       [..]
p-[..]  worker-7  1       [..]

"]]);
    fleet.parti(&["partitions", "--unowned"]).assert().success().stdout_eq("PARTITION  OWNER  WEIGHT  EPOCH  MOVES\n");
    fleet.parti(&["who-owns", "p-03"]).assert().success().stdout_eq("p-03 is with worker-[..], token [..]-[..]-[..]\n");
    fleet
        .parti(&["who-owns", "q"])
        .assert()
        .code(4)
        .stderr_eq("parti: \"q\" is no partition of orders, as far as its records tell: see `parti partitions`\n");
}

fn verdicts(fleet: &Fleet) {
    fleet.parti(&["plan"]).assert().code(0).stdout_eq("From generation [..] of orders\nNothing moves.\n");
    fleet.parti(&["wait", "settled"]).assert().success().stdout_eq("orders is settled for [..]; nothing waits.\n");
    fleet.parti(&["check"]).assert().success().stdout_eq(str![[r"
OK        server    nats-server [..]
OK        latency   an answer took [..] ms
OK        clocks    the clocks here and at the server go at the same rate
OK        leader    worker-[..] leads
OK        owners    every partition that is known has an owner
OK        workers   3 workers
OK        settled   nothing waits

"]]);
    let nagios = "PARTI OK - orders: all is well | workers=3 unowned=0;0;0 moving=0 round_trip=0.[..]s\n";
    fleet.parti(&["check", "--format", "nagios"]).assert().success().stdout_eq(nagios);
    let (prometheus, _) = fleet.answer(&["check", "--format", "prometheus"]);
    assert!(prometheus.contains("parti_check_status{group=\"orders\"} 0\n"), "{prometheus}");
    fleet.parti(&["list", "show"]).assert().success().stdout_eq("p-00 1\np-01 1\n...\np-11 1\n");
}

fn documents(fleet: &Fleet) {
    let status = fleet.json(&["status"]);
    assert_eq!(
        (&status["settled"], &status["unowned"], &status["workers"][1]["capacity"]),
        (&true.into(), &0.into(), &2.into())
    );
    assert!(status["at"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 24), "{status}");
    let partitions = fleet.json(&["partitions"]);
    let owner = fleet.json(&["who-owns", "p-03"]);
    assert_eq!(
        (partitions["partitions"].as_array().map(Vec::len), &partitions["partitions"][3]["token"]),
        (Some(12), &owner["token"])
    );
}

/// Nobody writes any more but who looks.
fn silence(fleet: &mut Fleet) {
    fleet.stop();
    let before = fleet.last_writes();
    let looks: [&[&str]; 10] = [
        &["status"],
        &["workers"],
        &["partitions"],
        &["who-owns", "p-03"],
        &["explain", "p-03"],
        &["plan", "--add", "2"],
        &["plan", "--remove", "7"],
        &["wait", "settled", "--at-most", "100ms"],
        &["check"],
        &["list", "show"],
    ];
    for look in looks {
        let (_, code) = fleet.answer(look);
        assert!(code <= 2, "{look:?}: {code}");
    }
    assert_eq!(fleet.last_writes(), before);
    fleet.parti(&["wait", "settled", "--at-most", "100ms"]).assert().code(1).stdout_eq(
        "orders is not settled: nobody leads: [..]; worker-0 has been restarting for [..] s, and its 3 partitions wait for it; [..].\n",
    );
    fleet
        .parti(&["check", "--format", "nagios"])
        .assert()
        .code(2)
        .stdout_eq("PARTI CRITICAL - orders: nobody leads: [..]\n");
}

#[test]
fn what_is_not_there_is_told_with_what_to_do_and_without_secrets() {
    let fleet = Fleet::new();
    fleet.parti(&["status", "-g", "others"]).assert().code(4).stdout_eq("").stderr_eq(
        "parti: tried to read the group others: there is no group others on this server, since it has no stream KV_parti_others_members: correct the name, or start a worker of it\n",
    );
    let nobody = Port::take();
    let url = nobody.url().replace("nats://", "nats://ada:hunter2@");
    let refused = parti(&url, &["status"]).assert().code(3).stdout_eq("");
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("tried to connect to 127.0.0.1:") && !said.contains("hunter2"), "{said}");
    let help = String::from_utf8(parti(&url, &["--help"]).output().expect("it runs").stdout).expect("UTF-8");
    assert!(help.contains("4  nothing there") && !help.contains("hunter2"), "{help}");
    parti(&nobody.url(), &["check", "--format", "nagios"])
        .assert()
        .code(3)
        .stdout_eq("PARTI UNKNOWN - orders: tried to connect to [..]\n");
    parti(&nobody.url(), &["status"])
        .env_remove("PARTI_GROUP")
        .assert()
        .code(2)
        .stderr_eq("parti: a group must be named: give --group NAME, or set PARTI_GROUP\n");
}

#[test]
fn a_context_of_the_nats_tool_says_where_the_server_is() {
    let fleet = Fleet::new();
    let config = folder();
    let contexts = config.join("nats/context");
    std::fs::create_dir_all(&contexts).expect("a folder");
    let write = |name: &str, text: String| std::fs::write(contexts.join(name), text).expect("a file");
    write("here.json", serde_json::json!({ "url": fleet.server.url(), "user": "", "description": "x" }).to_string());
    write(
        "vault.json",
        serde_json::json!({ "url": fleet.server.url(), "password": "op://vault/hunter2", "user": "ada" }).to_string(),
    );
    std::fs::write(config.join("nats/context.txt"), "here\n").expect("a file");
    let with = |arguments: &[&str]| parti("", arguments).env_remove("NATS_URL").env("XDG_CONFIG_HOME", &config);
    with(&["status"])
        .assert()
        .success()
        .stdout_eq("orders is not settled: nobody has a slot: start a worker; there is no plan yet.\n...\n");
    with(&["status", "--context", "here"]).assert().success();
    with(&["status", "--context", "vault"]).assert().code(2).stderr_eq(
        "parti: password begins with op://, which asks the program op for a secret, and parti runs no other program: write the secret into a file or a variable, and name that with file:// or env://\n",
    );
    write("nsc.json", serde_json::json!({ "url": fleet.server.url(), "nsc": "nsc://o/a/hunter2" }).to_string());
    let refused = "parti: the context has nsc, and so asks the program nsc for a secret, and parti runs no other program: name a file with --creds\n";
    with(&["status", "--context", "nsc"]).assert().code(2).stderr_eq(refused);
    with(&["status", "--context", "none"])
        .assert()
        .code(2)
        .stderr_eq("parti: there is no context none in [..]: see `nats context ls`, or name a server with --server\n");
    std::fs::remove_dir_all(config).expect("its own");
}

#[test]
fn completions_and_the_manual_page_need_no_server() {
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["man"]] {
        let output = parti("nats://127.0.0.1:1", arguments).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let names_verbs = text.contains("who-owns") || text.contains("who\\-owns");
        assert!(output.status.success() && names_verbs, "{arguments:?}: {text}");
    }
}

#[test]
fn a_watch_that_is_piped_tells_each_change_of_the_state_in_a_line() {
    let fleet = Fleet::settled(&list(4), &[(0, 1)]);
    let mut watch = std::process::Command::new(snapbox::cmd::cargo_bin!("parti"))
        .args(["watch", "-g", "orders", "-s", &fleet.server.url()])
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().expect("it is piped")));
    let mut next = || lines.next().expect("it goes on").expect("UTF-8");
    let first = next();
    assert!(first.contains("Z generation ") && first.contains(": orders is settled for "), "{first}");
    fleet.parti(&["list", "add", "q", "--force"]).assert().success();
    // It ends when its reader has found what it looks for.
    while !next().contains(": orders is settled for ") {}
    watch.kill().expect("its own");
    watch.wait().expect("its own");
}
