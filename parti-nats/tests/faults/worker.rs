//! Workers that are killed, stopped by a signal, or cut off.

use std::thread::sleep;

use crate::processes::agent::Spec;
use crate::processes::fleet::Fleet;
use crate::processes::journal::{At, Journal};
use crate::processes::proxy::{Proxy, Way};
use crate::support::Server;
use crate::{LEASE, LONG_LEASE, PATIENCE, fleet, lasting, settled, spec};

#[test]
fn what_a_killed_worker_had_is_owned_again_long_before_its_lease_is_over() {
    let server = Server::start();
    let mut fleet = settled(lasting(server.url(), 5), 5);

    let follower = fleet.follower(PATIENCE);
    let survivors = kept_by_others(&fleet, follower);
    fleet.kill(follower);
    fleet.settle(LONG_LEASE / 2);
    assert!(survivors.iter().all(|kept| fleet.journal().grants().get(&kept.0) == Some(&kept.1)), "survivors moved");

    let leader = fleet.leader(PATIENCE).process;
    fleet.kill(leader);
    fleet.settle(LONG_LEASE / 2);
    fleet.assert_exclusive();
}

#[test]
fn a_worker_stopped_for_longer_than_its_lease_is_replaced_and_does_nothing_when_it_goes_on() {
    let server = Server::start();
    let mut fleet = settled(spec(server.url(), 4), 4);
    for leads in [false, true] {
        let victim = if leads { fleet.leader(PATIENCE).process } else { fleet.follower(PATIENCE) };
        let at = fleet.freeze(victim);
        fleet.settle(PATIENCE);
        let takeovers = fleet.journal().takeovers(victim, at);
        assert!(takeovers.iter().all(|took| *took >= LEASE * 3 / 4), "before its lease was over: {takeovers:?}");
        fleet.thaw(victim);
        // As a newcomer. What it did before it noticed is in the journal.
        fleet.settle(PATIENCE);
        fleet.assert_exclusive();
    }
}

#[test]
fn a_worker_stopped_for_less_than_its_lease_keeps_what_it_has() {
    let server = Server::start();
    let mut fleet = settled(lasting(server.url(), 4), 4);
    let before = fleet.journal().grants();
    for victim in fleet.processes() {
        fleet.freeze(victim);
        sleep(LEASE / 2); // much less than what is left after a renewal, but long enough for a crash to be found out
        fleet.thaw(victim);
        fleet.settle(PATIENCE);
    }
    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_connection_that_is_closed_and_opened_again_moves_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let mut spec = lasting(server.url(), 4);
    // So that it is not taken for dead, however long it takes to come back.
    spec.config.probe_confirm = Some(LONG_LEASE);
    let (fleet, _) = with_an_outsider(spec, &proxy);
    let before = fleet.journal().grants();
    for _ in 0..5 {
        proxy.set(Way::Cut);
        sleep(LEASE / 8);
        proxy.set(Way::Open);
        fleet.settle(PATIENCE);
    }
    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_worker_that_is_cut_off_is_replaced_like_a_killed_one_and_comes_back() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let (fleet, outsider) = with_an_outsider(lasting(server.url(), 4), &proxy);
    let at = At::now();
    proxy.set(Way::Cut);
    fleet.wait("replaced", LONG_LEASE / 2, without(outsider));
    let gaps = fleet.journal().gaps(outsider, at);
    assert!(gaps.iter().all(|gap| *gap <= LONG_LEASE / 2), "{gaps:?}");
    proxy.set(Way::Open);
    fleet.settle(PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn a_worker_whose_packets_vanish_stops_in_time_and_is_replaced_after_its_lease() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let (fleet, outsider) = with_an_outsider(spec(server.url(), 4), &proxy);
    proxy.set(Way::Blackhole);
    fleet.wait("replaced", PATIENCE, without(outsider));
    // What it had sent arrives after all, and must change nothing.
    proxy.set(Way::Open);
    fleet.settle(PATIENCE);
    fleet.assert_exclusive();
}

#[test]
fn packets_that_vanish_for_everybody_move_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let fleet = settled(spec(proxy.url(), 4), 4);
    let before = fleet.journal().grants();
    proxy.set(Way::Blackhole);
    fleet.wait("suspended", PATIENCE, Journal::is_idle);
    sleep(LEASE * 2); // longer than anybody waits for another
    proxy.set(Way::Open);
    fleet.settle_unmoved(&before, PATIENCE);
    fleet.assert_exclusive();
}

/// Three workers beside the server, and one behind the proxy that does not lead.
fn with_an_outsider(spec: Spec, proxy: &Proxy) -> (Fleet, u32) {
    let mut fleet = fleet(spec.clone());
    fleet.start_many(3);
    fleet.leader(PATIENCE);
    let outsider = fleet.start_as(&Spec { url: proxy.url(), ..spec });
    fleet.level(PATIENCE);
    (fleet, outsider)
}

/// Whether others work on everything.
fn without(process: u32) -> impl Fn(&Journal) -> bool {
    move |journal| journal.is_covered() && journal.owners().values().all(|who| who.process != process)
}

fn kept_by_others(fleet: &Fleet, process: u32) -> Vec<(u32, (crate::processes::journal::Who, String))> {
    let grants = fleet.journal().grants();
    grants.into_iter().filter(|(_, (who, _))| who.process != process).collect()
}
