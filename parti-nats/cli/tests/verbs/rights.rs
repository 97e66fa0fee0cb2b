//! With the least permissions: who looks sees everything and can write nothing, an operator can do what is an operator's.

use parti_nats::{GroupName, Role, create_buckets, permissions};

use crate::fleet::{group, parti};
use crate::support::Server;

#[test]
fn each_role_can_do_what_is_its_own_and_is_told_what_is_not() {
    let server = server(&group());
    let run = |user: &str, arguments: &[&str]| {
        parti(&server.url(), &[&["--user", user, "--password", user][..], arguments].concat()).assert()
    };
    for verb in [&["status"][..], &["workers"], &["partitions"], &["plan"], &["wait", "settled", "--at-most", "10ms"]] {
        for user in ["viewer", "operator"] {
            let output = run(user, verb).get_output().clone();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code().is_some_and(|code| code < 2) && said.is_empty(), "{user} {verb:?}: {said}");
        }
    }
    // Positions are beyond it: what cannot be read is said, and the rest is told.
    run("viewer", &["status", "--lag", "--timeout", "1s"]).success().stderr_eq("").stdout_eq(
        "orders is not settled: [..]\n...\n  Lag         unknown: tried to read the positions: [..]; the server says: [..]KV_parti_orders_positions[..]\n...\n",
    );
    run("operator", &["list", "set", "-", "--force", "--json"]).code(0);
    run("operator", &["pause", "--reason", "noon", "--force"]).success();
    run("viewer", &["list", "show"]).success();
    run("viewer", &["resume", "--force"]).code(3).stdout_eq("").stderr_eq(
        "parti: tried to take back the wish pause: it is not known whether control.pause was written: [..]; the server says: [..]$KV.parti_orders_members.control.pause[..]\n",
    );
    run("operator", &["resume", "--force"]).success();
    let wrong = parti(&server.url(), &["status", "--user", "viewer", "--password", "hunter2"]).assert().code(3);
    let said = String::from_utf8_lossy(&wrong.get_output().stderr).into_owned();
    assert!(said.contains("refuses these credentials") && !said.contains("hunter2"), "{said}");
}

/// A server that enforces permissions, with the buckets of the group.
fn server(group: &GroupName) -> Server {
    let user =
        |name: &str, role| format!("{{ user: {name}, password: {name}, permissions: {} }}", permissions(group, role));
    let users = [user("viewer", Role::Observer), user("operator", Role::Operator)].join(", ");
    let server = Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {users} ] }}\n"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options =
            parti_nats::async_nats::ConnectOptions::with_user_and_password("operator".into(), "operator".into());
        let client = options.connect(server.url()).await.expect("let in");
        create_buckets(&client, group, 1).await.expect("an operator may");
    });
    server
}
