//! Workers that are recorded, and one of them killed: told the same again, each decides the same.

use std::path::Path;
use std::time::Duration;

use parti_nats::recording::{Junction, RecordingError, Replay, Shown};

use crate::processes::agent::{Order, Spec};
use crate::support::{Server, folder};
use crate::{PATIENCE, settled, spec};

/// What a recording shows.
#[derive(Debug, Default)]
struct Flight {
    events: u64,
    texts: Vec<String>,
    cut_off: bool,
}

/// Replays the recording of a process. Everything that was recorded is decided again.
fn replay(folder: &Path, pid: u32) -> Flight {
    let bytes = std::fs::read(folder.join(format!("{pid}-0.rec"))).expect("it was recorded");
    let mut flight = Flight::default();
    for shown in Replay::new([bytes.as_slice()]).expect("a recording") {
        match shown {
            Shown::Segment(begun) => {
                assert_eq!((begun.heading.group.as_str(), begun.heading.step), ("orders", 0));
                assert!(matches!(begun.junction, None | Some(Junction::Seamless)));
            }
            Shown::Step(step) => {
                assert_eq!(step.agrees, Some(true), "{:?}", step.texts());
                flight.events += 1;
                flight.texts.extend(step.texts());
            }
            Shown::Broken { error, .. } => {
                assert!(matches!(error, RecordingError::CutOff { .. }), "{error}");
                flight.cut_off = true;
            }
        }
    }
    flight
}

impl Flight {
    fn tells(&self, text: &str) -> usize {
        self.texts.iter().filter(|line| line.contains(text)).count()
    }
}

#[test]
fn a_fleet_of_which_one_is_killed_decides_again_what_it_decided() {
    let (server, folder) = (Server::start(), folder());
    let spec = Spec { record: Some(folder.clone()), ..spec(server.url(), 3) };
    let mut fleet = settled(spec, 3);
    let pids: Vec<_> = fleet.processes().into_iter().map(|process| (process, fleet.pid(process))).collect();
    let pid = |process: u32| pids.iter().find(|(of, _)| *of == process).expect("it ran").1;

    let victim = fleet.follower(PATIENCE);
    // News is on the disk by then.
    std::thread::sleep(Duration::from_secs(2));
    fleet.kill(victim);
    fleet.settle(PATIENCE);
    let leader = fleet.leader(PATIENCE).process;
    let other = fleet.processes().into_iter().find(|process| *process != leader).expect("two are left");
    fleet.end(other, Order::Leave, PATIENCE);
    fleet.settle(PATIENCE);
    fleet.end(leader, Order::Restart, PATIENCE);

    let [of_victim, of_leader, of_other] = [victim, leader, other].map(|process| replay(&folder, pid(process)));
    // 24 partitions: at first 8 each, then 12, then all.
    assert_eq!(of_victim.tells("-> acquire ") - of_victim.tells("-> release "), 8, "{of_victim:?}");
    assert_eq!(of_victim.tells("-> halt"), 0);
    assert!(of_leader.tells("-> acquire ") >= 24 && of_other.tells("-> acquire ") >= 12);
    assert!(of_leader.tells("-> notice Evicted {") >= 1 && of_leader.tells("-> notice Planned {") >= 3);
    assert!(of_leader.tells("-> halt") == 1 && of_other.tells("-> halt") == 1, "the end is written");
    assert!(!of_leader.cut_off && !of_other.cut_off);
    assert!([&of_victim, &of_leader, &of_other].iter().all(|flight| flight.events > 15));
    fleet.assert_exclusive();
    std::fs::remove_dir_all(folder).expect("its own");
}
