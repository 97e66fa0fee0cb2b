//! What a worker was told, told again: bit for bit the same, from wherever a segment begins.

use parti_core::recording::{Junction, Recording, RecordingError};
use parti_core::{Action, Event};
use parti_sim::swarm::{self, Plan};

/// How many random worlds are recorded.
const WORLDS: u64 = 12;
/// How many events a segment has: every few of them the worker goes through its text.
const EVENTS: u64 = 23;

/// What was seen of a recording.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    steps: u64,
    seamless: u64,
    plans: u64,
    suspensions: u64,
}

impl Seen {
    /// Replays the segments of one process, and looks at everything.
    fn replay(&mut self, segments: &[Vec<u8>]) {
        let mut before: Option<Recording<'_>> = None;
        for bytes in segments {
            let mut recording = Recording::read(bytes).expect("its own writing");
            assert!(recording.heading().is_of_this_version() && recording.has_known_strategy());
            if let Some(before) = &before {
                assert_eq!(recording.junction_with(before), Junction::Seamless);
                self.seamless += 1;
            }
            for step in recording.by_ref() {
                let step = step.expect("its own writing");
                assert_eq!(step.agrees, Some(true), "{}: {:?}", step.event, step.actions);
                self.steps += 1;
                self.suspensions +=
                    step.actions.iter().filter(|action| matches!(action, Action::Suspend { .. })).count() as u64;
                self.plans +=
                    step.actions.iter().filter(|action| action.to_string().contains("Planned {")).count() as u64;
            }
            before = Some(recording);
        }
    }
}

#[test]
fn random_worlds_replay_bit_for_bit_from_wherever_a_segment_begins() {
    let mut seen = Seen::default();
    for seed in 0..WORLDS {
        for segments in swarm::record(&Plan::random(seed, None, seed % 2 == 0), EVENTS) {
            seen.replay(&segments);
        }
    }
    assert!(seen.steps > 30_000 && seen.seamless > 1_000 && seen.plans > 30 && seen.suspensions > 30, "{seen:?}");
}

#[test]
fn what_is_recorded_is_what_happens_without_a_recorder() {
    let plan = Plan::random(5, None, false);
    let told: u64 = swarm::run(&plan, false).events;
    let worlds = swarm::record(&plan, u64::MAX);
    let steps = |bytes: &Vec<u8>| Recording::read(bytes).expect("its own writing").count() as u64;
    assert_eq!(told, worlds.iter().flatten().map(steps).sum::<u64>());
}

/// Where every damage is.
fn first_error(bytes: &[u8]) -> Option<RecordingError> {
    match Recording::read(bytes) {
        Ok(mut recording) => recording.find_map(Result::err),
        Err(error) => Some(error),
    }
}

#[test]
fn whatever_is_missing_or_changed_is_said_with_its_place() {
    let worlds = swarm::record(&Plan::random(5, None, false), 60);
    let bytes = &worlds[0][0];
    assert_eq!(first_error(bytes), None);
    let begins: Vec<_> = [0]
        .into_iter()
        .chain(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    let place = |at: usize| {
        begins.iter().rposition(|begin| *begin <= at).map(|line| (line as u64 + 1, begins[line])).expect("a line")
    };

    for cut in (1..bytes.len()).step_by(37) {
        let (line, byte) = place(cut);
        let expected = match (byte == cut, line) {
            (_, 1) if cut < 13 => Some(RecordingError::NotARecording),
            (true, 3..) => None, // between two lines nothing is missing
            _ => Some(RecordingError::CutOff { line, byte }),
        };
        assert_eq!(first_error(&bytes[..cut]), expected, "cut at {cut}");
    }
    for at in (13..bytes.len()).step_by(41) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let (line, byte) = place(at);
        assert!(
            matches!(first_error(&changed), Some(RecordingError::Damaged { line: in_line, byte: at_byte }) if (in_line, at_byte) == (line, byte)),
            "changed at {at}: {:?}",
            first_error(&changed)
        );
    }
    let without_one = [&bytes[..begins[4]], &bytes[begins[5]..]].concat();
    assert_eq!(first_error(&without_one), Some(RecordingError::Damaged { line: 5, byte: begins[4] }));
    assert_eq!(first_error(b""), Some(RecordingError::NotARecording));
    assert_eq!(first_error(b"# parti-sim trace 1\n"), Some(RecordingError::NotARecording));
}

#[test]
fn segments_of_others_and_gaps_are_told_apart() {
    let worlds = swarm::record(&Plan::random(5, None, false), 60);
    let read = |process: usize, segment: usize| {
        let mut recording = Recording::read(&worlds[process][segment]).expect("its own writing");
        recording.by_ref().for_each(|step| drop(step.expect("its own writing")));
        recording
    };
    let next = |process: usize, segment: usize| Recording::read(&worlds[process][segment]).expect("its own writing");
    assert_eq!(next(0, 1).junction_with(&read(0, 0)), Junction::Seamless);
    assert_eq!(next(0, 2).junction_with(&read(0, 0)), Junction::Gap(60));
    assert_eq!(next(0, 0).junction_with(&read(0, 2)), Junction::Another);
    assert_eq!(next(1, 1).junction_with(&read(0, 0)), Junction::Another);
}

#[test]
fn lines_are_shown_as_traces_show_them() {
    let plan = Plan::random(5, None, false);
    let trace = swarm::run(&plan, true).trace.expect("it was asked for");
    let of_first = trace.lines().iter().filter(|line| line.process.is_some_and(|process| process.index() == 0));
    let told: Vec<_> = of_first.map(|line| line.text.as_str()).filter(|text| text.starts_with("<- ")).collect();
    let worlds = swarm::record(&plan, u64::MAX);
    let replayed: Vec<_> = Recording::read(&worlds[0][0])
        .expect("its own writing")
        .map(|step| step.expect("its own writing").texts().remove(0))
        .collect();
    assert!(told.len() > 20);
    assert_eq!(replayed, told);
    let hears_list = |event: &Event| matches!(event, Event::Partitions(_));
    assert!(
        Recording::read(&worlds[0][0]).expect("its own writing").any(|step| hears_list(&step.expect("whole").event))
    );
}
