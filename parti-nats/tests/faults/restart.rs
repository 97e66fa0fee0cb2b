//! Workers that are away for a restart.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::processes::agent::Order;
use crate::processes::fleet::Fleet;
use crate::processes::journal::Who;
use crate::support::Server;
use crate::{LONG_LEASE, PATIENCE, lasting, member, settled};

#[test]
fn what_a_crashed_worker_had_goes_to_nobody_who_is_away_for_a_restart() {
    for leads in [false, true] {
        let server = Server::start();
        let mut fleet = settled(lasting(server.url(), 3), 3);
        let leader = fleet.leader(PATIENCE).process;
        let mut others = fleet.processes().into_iter().filter(|process| *process != leader);
        let (restarting, other) = (others.next().expect("three"), others.next().expect("three"));
        let (crashing, staying) = if leads { (leader, other) } else { (other, leader) };
        if leads {
            await_deputy(&fleet, leader, staying);
        }
        let before = fleet.journal().grants();
        let had = |process: u32| {
            let of_it = before.iter().filter(|(_, (who, _))| who.process == process);
            of_it.map(|(partition, _)| *partition).collect::<Vec<_>>()
        };
        let (orphans, held) = (had(crashing), had(restarting));

        fleet.end(restarting, Order::Restart, PATIENCE);
        fleet.kill(crashing);
        // Long before anybody gives up waiting for the other one.
        fleet.wait("owned by the one that stays", LONG_LEASE / 2, |journal| {
            let owners = journal.owners();
            orphans.iter().all(|partition| owners.get(partition).is_some_and(|who| who.process == staying))
        });
        assert!(!fleet.journal().owners().keys().any(|partition| held.contains(partition)), "what is held moved");

        let back = fleet.start();
        fleet.wait("back", PATIENCE, |journal| {
            let owners = journal.owners();
            journal.is_covered() && held.iter().all(|partition| owners[partition].process == back)
        });
        fleet.assert_exclusive();
    }
}

/// Waits until the leader has named this one, which is to see whether it is there: no other has its crash found out
/// before its lease is over.
fn await_deputy(fleet: &Fleet, leader: u32, deputy: u32) {
    let slot = fleet.journal().slot(Who { process: deputy, worker: 0 }).expect("it has one");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = member(fleet, Who { process: leader, worker: 0 });
        if record["deputies"].as_array().is_some_and(|named| named.contains(&slot.into())) {
            return;
        }
        assert!(Instant::now() < deadline, "worker-{slot} is not named after {PATIENCE:?}: {record}");
        sleep(Duration::from_millis(20));
    }
}
