//! One server: stopped, restarted, robbed of its store or of a bucket.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::processes::agent::Order;
use crate::processes::fleet::Fleet;
use crate::processes::journal::{Journal, Who};
use crate::support::Server;
use crate::{PATIENCE, operate, outage, settled, spec};
use async_nats::ConnectOptions;

const BUCKETS: [&str; 2] = ["KV_parti_orders_members", "KV_parti_orders_plan"];

#[test]
fn a_server_that_is_gone_for_longer_than_the_lease_moves_nothing() {
    let mut server = Server::start();
    let fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();

    server.kill();
    fleet.wait("suspended", PATIENCE, Journal::is_idle);
    sleep(outage());
    assert!(fleet.journal().is_idle());
    server.resume();

    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_server_that_restarts_at_once_moves_nothing() {
    let mut server = Server::start();
    let fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();

    for _ in 0..3 {
        server.kill();
        fleet.wait("suspended", PATIENCE, Journal::is_idle);
        server.resume();
        fleet.settle(PATIENCE);
    }
    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_server_that_comes_back_without_its_store_gives_everything_out_anew() {
    let mut server = Server::start();
    let fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();
    server.kill();
    server.lose_store();
    server.resume();
    assert_given_out_anew(&fleet, &before);
}

#[test]
fn a_bucket_that_is_deleted_is_made_anew_by_the_workers_and_everything_given_out_anew() {
    for bucket in BUCKETS {
        let server = Server::start();
        let fleet = settled(spec(server.url(), 4), 4);
        let before = fleet.journal().grants();
        operate(&server.url(), ConnectOptions::new(), async |jetstream| {
            jetstream.delete_stream(bucket).await.expect("it is there")
        });
        assert_given_out_anew(&fleet, &before);
    }
}

#[test]
fn a_bucket_that_somebody_makes_anew_is_noticed_and_everything_given_out_anew() {
    for bucket in BUCKETS {
        let server = Server::start();
        let fleet = settled(spec(server.url(), 4), 4);
        let before = fleet.journal().grants();
        operate(&server.url(), ConnectOptions::new(), async |jetstream| {
            let stream = jetstream.get_stream(bucket).await.expect("it is there");
            let config = stream.cached_info().config.clone();
            jetstream.delete_stream(bucket).await.expect("it is there");
            // Perhaps a worker was faster, and made it the same.
            let _ = jetstream.create_stream(config).await;
        });
        assert_given_out_anew(&fleet, &before);
    }
}

#[test]
fn a_store_that_is_restored_from_an_older_copy_gives_everything_out_under_greater_tokens() {
    let mut server = Server::start();
    let mut fleet = settled(spec(server.url(), 3), 3);
    server.kill();
    server.back_up();
    server.resume();
    fleet.settle(PATIENCE);

    // The same life of the buckets, without what was written last.
    fleet.start();
    fleet.level(PATIENCE);
    assert_restored(&mut server, &fleet);

    // An earlier life of both buckets, which were made anew since.
    let before = fleet.journal().grants();
    operate(&server.url(), ConnectOptions::new(), async |jetstream| {
        for bucket in BUCKETS {
            jetstream.delete_stream(bucket).await.expect("it is there");
        }
    });
    assert_given_out_anew(&fleet, &before);
    assert_restored(&mut server, &fleet);
}

fn assert_restored(server: &mut Server, fleet: &Fleet) {
    let before = fleet.journal().grants();
    server.kill();
    server.restore();
    server.resume();
    assert_given_out_anew(fleet, &before);
}

fn assert_given_out_anew(fleet: &Fleet, before: &BTreeMap<u32, (Who, String)>) {
    let is_newer = |journal: &Journal| {
        let now = journal.grants();
        before.iter().all(|(partition, (_, token))| now.get(partition).is_some_and(|(_, now)| now > token))
    };
    fleet.wait("given out anew", PATIENCE, is_newer);
    fleet.settle(PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn fifty_workers_that_come_and_go_leave_no_partition_behind() {
    let server = Server::start();
    let mut fleet = settled(spec(server.url(), 50), 50);
    let mut draw = draws(1);
    for _ in 0..60 {
        let running = fleet.processes();
        let any = running[draw(running.len())];
        match draw(5) {
            0 => drop(fleet.kill(any)),
            1 => drop(fleet.end(any, Order::Leave, PATIENCE)),
            2 => {
                fleet.end(any, Order::Restart, PATIENCE);
                fleet.start();
            }
            _ if running.len() < 55 => drop(fleet.start()),
            _ => {}
        }
        // The pace of the churn.
        sleep(Duration::from_millis(50));
    }
    fleet.settle(PATIENCE);
    fleet.assert_exclusive();
}

/// Numbers below a bound, the same for the same seed.
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut rng = parti_core::Rng::new(seed);
    move |bound| usize::try_from(rng.below(bound as u64)).expect("below a usize")
}
