//! Three servers that keep three copies of everything.

use std::thread::sleep;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::{self, ClusterInfo};
use parti_nats::Config;

use crate::processes::agent::Spec;
use crate::processes::fleet::Fleet;
use crate::processes::proxy::{Proxy, Way};
use crate::support::Cluster;
use crate::{PATIENCE, operate, outage, settled, spec};

const STREAMS: [&str; 2] = ["KV_parti_orders_plan", "KV_parti_orders_members"];
/// How long a restarted server may take until it has all of a stream.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(30);
/// How often a server is restarted until it takes part in every stream.
const RESTARTS: u32 = 3;

#[test]
fn the_loss_of_the_node_that_leads_a_stream_moves_nothing_and_evicts_nobody_at_the_default_lease() {
    let mut cluster = Cluster::start();
    let fleet = fleet(&cluster, Config::default().lease);
    let before = fleet.journal().grants();

    for stream in STREAMS {
        let leader = stream_leader(&cluster, stream);
        cluster.server(&leader).kill();
        sleep(Config::default().lease * 3 / 2); // longer than anybody waits for another
        fleet.settle_unmoved(&before, PATIENCE);
        cluster.server(&leader).resume();
    }
    fleet.assert_exclusive();
}

/// Some servers tell different times of a bucket's creation where several clients have created it at once.
#[test]
fn a_rolling_restart_of_servers_whose_buckets_many_founded_at_once_moves_nothing() {
    let mut cluster = Cluster::start();
    ready(&cluster);
    // In each process all at the same moment.
    let mut fleet = crate::fleet(Spec { replicas: 3, workers: 3, ..spec(cluster.urls(), 6) });
    fleet.start_many(2);
    fleet.level(PATIENCE);
    let before = fleet.journal().grants();

    for server in 0..3 {
        restart(&mut cluster, server);
        // Tokens say which life of a bucket they are of.
        fleet.settle_unmoved(&before, PATIENCE);
    }
    fleet.assert_exclusive();
}

#[test]
fn a_majority_that_is_gone_for_longer_than_the_lease_moves_nothing() {
    let mut cluster = Cluster::start();
    // One server may be within reach a second after another, since they look for each other only so often.
    let lease = Duration::from_secs(4);
    let fleet = fleet(&cluster, lease);
    let before = fleet.journal().grants();

    cluster.servers[0].kill();
    cluster.servers[1].kill();
    sleep(outage().max(lease * 3 / 2));
    cluster.servers[0].resume();
    cluster.servers[1].resume();

    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

/// Who asks over there whether somebody listens here is told that nobody does, while all connections stand.
#[test]
fn a_route_between_two_servers_that_breaks_gives_nothing_two_owners() {
    let (mut routes, mut others) = (Vec::new(), Vec::new());
    let cluster = Cluster::start_over(|from, to, port| {
        let proxy = Proxy::start(port);
        let url = proxy.url();
        if from + to == 1 {
            routes.push(proxy);
        } else {
            others.push(proxy);
        }
        url
    });
    let spec = Spec { replicas: 3, ..spec(cluster.servers[0].url(), 6) };
    let mut fleet = crate::fleet(spec.clone());
    for server in cluster.servers.iter().chain(&cluster.servers) {
        fleet.start_as(&Spec { url: server.url(), ..spec.clone() });
    }
    fleet.level(PATIENCE);
    for broken_for in [Duration::ZERO, outage()] {
        for way in [Way::Cut, Way::Open] {
            for route in &routes {
                route.set(way);
            }
            sleep(broken_for);
        }
        fleet.settle(PATIENCE);
    }
    fleet.assert_exclusive();
}

/// Five workers that know all three servers.
fn fleet(cluster: &Cluster, lease: Duration) -> Fleet {
    let mut spec = Spec { replicas: 3, ..spec(cluster.urls(), 5) };
    spec.config.lease = lease;
    let fleet = settled(spec, 5);
    fleet.wait("led", PATIENCE, |journal| journal.leaders().len() == 1);
    fleet
}

/// The name of the server that leads a stream.
fn stream_leader(cluster: &Cluster, stream: &str) -> String {
    raft(cluster, stream, |info| info.leader.clone())
}

/// Waits until the servers can place a stream, so that those who want one are not told to come back later.
fn ready(cluster: &Cluster) {
    operate(&cluster.urls(), ConnectOptions::new(), async |jetstream| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let first = stream::Config { name: "first".into(), num_replicas: 3, ..stream::Config::default() };
        while let Err(error) = jetstream.create_stream(first.clone()).await {
            assert!(tokio::time::Instant::now() < deadline, "no stream after {PATIENCE:?}: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        jetstream.delete_stream("first").await.expect("deleted");
    });
}

/// Restarts a server, and waits until it has all of every stream. A server of 2.10 does not always take part in a stream again
/// after that: then it is restarted once more, as who operates it would.
fn restart(cluster: &mut Cluster, server: usize) {
    for _ in 0..RESTARTS {
        cluster.servers[server].stop();
        cluster.servers[server].resume();
        if STREAMS.iter().all(|stream| is_replicated(cluster, stream)) {
            return;
        }
    }
    panic!("server {server} does not take part in every stream after {RESTARTS} restarts");
}

/// Whether all servers have all of a stream, before long.
fn is_replicated(cluster: &Cluster, stream: &str) -> bool {
    let all_have_it = |info: &ClusterInfo| {
        let all = info.replicas.len() == 2 && info.replicas.iter().all(|replica| replica.current && !replica.offline);
        (info.leader.is_some() && all).then_some(())
    };
    raft_within(cluster, stream, CATCHES_UP_WITHIN, all_have_it).is_ok()
}

/// What the servers say of a stream, once they say what is wanted.
fn raft<T>(cluster: &Cluster, stream: &str, wanted: impl Fn(&ClusterInfo) -> Option<T>) -> T {
    let found = raft_within(cluster, stream, PATIENCE, wanted);
    found.unwrap_or_else(|info| panic!("{stream} is {info:?} after {PATIENCE:?}"))
}

/// The same, or what they say in the end.
fn raft_within<T>(
    cluster: &Cluster,
    stream: &str,
    patience: Duration,
    wanted: impl Fn(&ClusterInfo) -> Option<T>,
) -> Result<T, Option<ClusterInfo>> {
    operate(&cluster.urls(), ConnectOptions::new(), async |jetstream| {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let info = match jetstream.get_stream(stream).await {
                Ok(stream) => stream.cached_info().cluster.clone(),
                Err(_) => None,
            };
            if let Some(found) = info.as_ref().and_then(&wanted) {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(info);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
