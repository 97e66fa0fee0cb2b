//! Workers with different leases, as in a fleet whose lease is being changed: each is judged by its own.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::processes::agent::{Order, Spec};
use crate::processes::fleet::Fleet;
use crate::processes::proxy::{Proxy, Way};
use crate::support::Server;
use crate::{LEASE, LONG_LEASE, PATIENCE, fleet, lasting, member, settled, spec};

/// Longer than anybody waits for a worker with the short lease, and much shorter than the long one.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn where_leases_differ_each_worker_is_judged_by_its_own() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let (mut fleet, outsider) = short_and_long(&server, &proxy, None);
    let before = fleet.journal().grants();

    // Without probes it goes on working all the time, so that whoever gave its work to another would be seen to.
    proxy.set(Way::Blackhole);
    sleep(SILENCE);
    assert_eq!(fleet.journal().grants(), before);
    proxy.set(Way::Open);
    fleet.settle_unmoved(&before, PATIENCE);

    // Nor does one with a long lease wait for longer than the short one of whom it judges.
    let leader = fleet.leader(PATIENCE).process;
    assert_ne!(leader, outsider);
    fleet.kill(leader);
    fleet.settle(LONG_LEASE / 2);
    fleet.assert_exclusive();
}

#[test]
fn where_leases_differ_probes_that_nobody_answers_end_no_lease() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let (fleet, _) = short_and_long(&server, &proxy, spec(server.url(), 1).config.probe_confirm);
    let before = fleet.journal().grants();

    proxy.set(Way::Blackhole);
    sleep(SILENCE);
    proxy.set(Way::Open);
    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn the_lease_is_changed_by_a_rolling_update_in_both_directions_and_nobody_is_evicted() {
    let server = Server::start();
    let (short, long) = (spec(server.url(), 3), lasting(server.url(), 3));
    let mut fleet = settled(short.clone(), 3);
    let before = tenures(&fleet);
    for to in [long, short] {
        let leader = fleet.leader(PATIENCE).process;
        // The leader comes last: until then it judges those that have the other lease already.
        let mut order = fleet.processes();
        order.sort_by_key(|process| *process == leader);
        for (number, process) in order.into_iter().enumerate() {
            replace(&mut fleet, process, &to);
            if number == 0 {
                sleep(LEASE * 3 / 2); // longer than anybody waits for another who has the short lease
            }
        }
    }
    assert_eq!(tenures(&fleet), before);
    fleet.assert_exclusive();
}

/// A leader with a short lease, and a worker with a long one behind the proxy.
fn short_and_long(server: &Server, proxy: &Proxy, probe_confirm: Option<Duration>) -> (Fleet, u32) {
    let (mut short, mut long) = (spec(server.url(), 2), lasting(proxy.url(), 2));
    (short.config.probe_confirm, long.config.probe_confirm) = (probe_confirm, probe_confirm);
    let mut fleet = fleet(short);
    fleet.start();
    fleet.leader(PATIENCE);
    let outsider = fleet.start_as(&long);
    fleet.level(PATIENCE);
    (fleet, outsider)
}

/// Restarts a worker with other settings. What others have stays with them, and what it had comes back to it.
fn replace(fleet: &mut Fleet, process: u32, to: &Spec) {
    let before = fleet.journal().grants();
    fleet.end(process, Order::Restart, PATIENCE);
    let successor = fleet.start_as(to);
    fleet.level(PATIENCE);
    let after = fleet.journal().grants();
    for (partition, (who, token)) in before {
        let (now, new) = &after[&partition];
        if who.process == process {
            assert_eq!(now.process, successor, "{partition}");
        } else {
            assert_eq!((now, new), (&who, &token), "{partition}");
        }
    }
}

/// The tenure that each slot's record names; an eviction ends it, and what follows has another.
fn tenures(fleet: &Fleet) -> BTreeMap<u32, String> {
    let tenure = |who| {
        let record = member(fleet, who);
        assert!(!record["tenure"].is_null(), "{record}");
        (fleet.journal().slot(who).expect("it has one"), record["tenure"].to_string())
    };
    fleet.all().into_iter().map(tenure).collect()
}
