//! A server that enforces the least permissions: workers that have exactly these do all that others do.

use async_nats::{ConnectOptions, jetstream};
use parti_nats::{GroupName, Role, create_buckets, permissions};

use crate::processes::agent::Order;
use crate::processes::fleet::Fleet;
use crate::processes::journal::Who;
use crate::support::Server;
use crate::{LONG_LEASE, PATIENCE, lasting, operate, settled};

#[test]
fn workers_with_the_least_permissions_join_hand_over_lead_and_replace_each_other() {
    let (mut server, mut fleet) = enforcing(Role::Worker);
    let follower = fleet.follower(PATIENCE);
    fleet.end(follower, Order::Leave, PATIENCE);
    fleet.settle(PATIENCE);

    // Found out by probes, which need permissions of their own.
    let leader = fleet.leader(PATIENCE).process;
    fleet.kill(leader);
    fleet.settle(LONG_LEASE / 2);
    let follower = fleet.follower(PATIENCE);
    fleet.kill(follower);
    fleet.settle(LONG_LEASE / 2);

    fleet.start();
    fleet.level(PATIENCE);
    let restarting = fleet.follower(PATIENCE);
    let before = fleet.journal().owners();
    fleet.end(restarting, Order::Restart, PATIENCE);
    let successor = fleet.start();
    fleet.settle(PATIENCE);
    let inherited = |(partition, owner): (&u32, &Who)| {
        let now = fleet.journal().owners()[partition].process;
        if owner.process == restarting { now == successor } else { now == owner.process }
    };
    assert!(before.iter().all(inherited), "{before:?} {:?}", fleet.journal().owners());

    server.kill();
    server.resume();
    fleet.settle(PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_worker_that_may_create_the_buckets_founds_a_group() {
    let (_server, fleet) = enforcing(Role::FoundingWorker);
    fleet.assert_exclusive();
}

#[test]
fn an_operator_with_the_least_permissions_drains_a_worker_and_cannot_write_what_workers_write() {
    let (server, fleet) = enforcing(Role::Worker);
    let victim = *fleet.all().first().expect("there are workers");
    let slot = fleet.journal().slot(victim).expect("it has a slot");
    operate_as_operator(&server, async |jetstream| {
        let client = jetstream.client();
        let forged = [("members", "slot.1000"), ("members", "leader"), ("plan", "cluster"), ("plan", "assign.0")];
        for (bucket, key) in forged {
            client.publish(format!("$KV.parti_orders_{bucket}.{key}"), "{}".into()).await.expect("sent");
        }
        client.flush().await.expect("sent");
        for (bucket, key) in forged {
            let stream = jetstream.get_stream(format!("KV_parti_orders_{bucket}")).await.expect("it may look");
            let last = stream.get_last_raw_message_by_subject(&format!("$KV.parti_orders_{bucket}.{key}")).await;
            assert!(
                last.as_ref().is_ok_and(|last| last.payload != "{}") || key == "slot.1000" && last.is_err(),
                "{key}: {last:?}"
            );
        }
        let drain = format!("$KV.parti_orders_members.control.drain.{slot}");
        jetstream.publish(drain, "{\"v\":1}".into()).await.expect("sent").await.expect("it may");
    });
    fleet.wait("drained", PATIENCE, |journal| {
        journal.is_covered() && journal.owners().values().all(|who| *who != victim)
    });
    fleet.assert_exclusive();
}

/// A server that enforces permissions, and a fleet of four with those of `role`, which must be a worker's.
fn enforcing(role: Role) -> (Server, Fleet) {
    let group = GroupName::new("orders").expect("a valid name");
    let user =
        |name: &str, role| format!("{{ user: {name}, password: {name}, permissions: {} }}", permissions(&group, role));
    let users = [user("worker", role), user("operator", Role::Operator)].join(", ");
    let server = Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {users} ] }}\n"));
    if role == Role::Worker {
        operate_as_operator(&server, async |jetstream| {
            create_buckets(&jetstream.client(), &group, 1).await.expect("an operator may");
        });
    }
    let fleet = settled(lasting(login(&server, "worker"), 4), 4);
    (server, fleet)
}

fn operate_as_operator(server: &Server, act: impl AsyncFnOnce(jetstream::Context)) {
    let options = ConnectOptions::with_user_and_password("operator".into(), "operator".into());
    operate(&server.url(), options, act);
}

/// The server's URL for one of its users.
fn login(server: &Server, user: &str) -> String {
    format!("nats://{user}:{user}@127.0.0.1:{}", server.port())
}
