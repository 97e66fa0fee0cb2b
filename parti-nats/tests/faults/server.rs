//! One server: stopped, restarted, robbed of its store or of a bucket.

use std::thread::sleep;
use std::time::Duration;

use crate::lab::journal::Journal;
use crate::support::Server;
use crate::{LEASE, REJOIN, RESUME, SILENCE, operate, outage, settled, spec};
use async_nats::ConnectOptions;

const BUCKETS: [&str; 2] = ["KV_parti_orders_members", "KV_parti_orders_plan"];

#[test]
fn a_server_that_is_gone_for_longer_than_the_lease_moves_nothing() {
    let mut server = Server::start();
    let fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();

    server.kill();
    fleet.wait("suspended", LEASE, Journal::is_idle);
    sleep(outage());
    assert!(fleet.journal().is_idle());
    server.resume();

    fleet.settle(RESUME);
    assert_eq!(fleet.journal().grants(), before);
    fleet.assert_exclusive();
}

#[test]
fn a_server_that_restarts_at_once_moves_nothing() {
    let mut server = Server::start();
    let fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();

    for _ in 0..3 {
        server.kill();
        fleet.wait("suspended", LEASE, Journal::is_idle);
        server.resume();
        fleet.settle(RESUME);
    }
    assert_eq!(fleet.journal().grants(), before);
    fleet.assert_exclusive();
}

#[test]
fn a_server_that_comes_back_without_its_store_gives_everything_out_anew() {
    let mut server = Server::start();
    let mut fleet = settled(spec(server.url(), 4), 4);
    let before = fleet.journal().grants();

    server.kill();
    server.lose_store();
    server.resume();
    // Who starts creates the buckets.
    fleet.start();

    fleet.settle(SILENCE + REJOIN);
    let after = fleet.journal().grants();
    assert!(after.iter().all(|(partition, (_, token))| *token > before[partition].1), "{before:?} {after:?}");
    fleet.assert_exclusive();
}

#[test]
fn a_bucket_that_is_deleted_ends_all_work_until_there_is_one_again() {
    for bucket in BUCKETS {
        let server = Server::start();
        let mut fleet = settled(spec(server.url(), 4), 4);

        operate(&server.url(), ConnectOptions::new(), async |jetstream| {
            jetstream.delete_stream(bucket).await.expect("it is there")
        });
        // Who starts creates it.
        fleet.start();
        fleet.settle(SILENCE + REJOIN);
        fleet.assert_exclusive();
    }
}

#[test]
fn a_bucket_that_is_made_anew_is_noticed_and_everything_given_out_anew() {
    for bucket in BUCKETS {
        let server = Server::start();
        let fleet = settled(spec(server.url(), 4), 4);
        let before = fleet.journal().grants();

        operate(&server.url(), ConnectOptions::new(), async |jetstream| {
            let stream = jetstream.get_stream(bucket).await.expect("it is there");
            let config = stream.cached_info().config.clone();
            jetstream.delete_stream(bucket).await.expect("it is there");
            jetstream.create_stream(config).await.expect("there is none");
        });
        let given_anew = |journal: &Journal| {
            let now = journal.grants();
            before.iter().all(|(partition, (_, token))| now.get(partition).is_some_and(|(_, now)| now > token))
        };
        fleet.wait("given out anew", SILENCE + REJOIN, given_anew);
        fleet.settle(REJOIN);
        fleet.assert_exclusive();
    }
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
            1 => drop(fleet.end(any, crate::lab::agent::Order::Leave, REJOIN)),
            2 => {
                fleet.end(any, crate::lab::agent::Order::Restart, REJOIN);
                fleet.start();
            }
            _ if running.len() < 55 => drop(fleet.start()),
            _ => {}
        }
        // The pace of the churn.
        sleep(Duration::from_millis(50));
    }
    fleet.settle(REJOIN * 2);
    fleet.assert_exclusive();
}

/// Numbers below a bound, the same for the same seed: `SplitMix64`.
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("below a usize")
    }
}
