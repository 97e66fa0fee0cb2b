//! Flight recordings of every process of a world, as the recorder of a real one makes them.

use std::collections::BTreeMap;

use parti_core::recording::Recorder;
use parti_core::{Action, Event, GroupName, Instant, Worker};

use crate::told::fact::ProcessId;

/// The group that a world is.
const GROUP: &str = "simulated";

/// The recordings of all processes.
#[derive(Clone, Debug)]
pub(crate) struct Flights {
    /// How many events a segment has.
    events: u64,
    of: BTreeMap<ProcessId, Flight>,
}

/// The recording of one process.
#[derive(Clone, Debug)]
struct Flight {
    recorder: Recorder,
    segments: Vec<Vec<u8>>,
    events: u64,
    /// How many actions the worker had asked for that were not done when it was told something else.
    undone: usize,
}

impl Flights {
    /// Records everybody, in segments of so many events.
    pub(crate) fn new(events: u64) -> Self {
        Self { events: events.max(1), of: BTreeMap::new() }
    }

    /// A worker is about to be told something.
    pub(crate) fn told(&mut self, process: ProcessId, worker: &Worker, now: Instant, event: &Event) {
        let mut idle = worker.clone();
        let undone = drain(&mut idle).len();
        let flight = self.of.entry(process).or_insert_with(|| {
            let group = GroupName::new(GROUP).expect("a valid name");
            Flight { recorder: Recorder::new(group, &idle), segments: Vec::new(), events: 0, undone: 0 }
        });
        if flight.events.is_multiple_of(self.events) {
            flight.segments.push(flight.recorder.begin(&idle, now, None));
        }
        flight.undone = undone;
        flight.recorder.told(now, event);
    }

    /// It was told.
    pub(crate) fn did(&mut self, process: ProcessId, worker: &Worker) {
        let Some(flight) = self.of.get_mut(&process) else { return };
        let actions = drain(&mut worker.clone());
        let last = flight.segments.last_mut().expect("one was begun before it was told");
        flight.recorder.did(&actions[flight.undone..], last);
        flight.events += 1;
    }

    /// The segments of each process, in order of the starts.
    pub(crate) fn segments(self) -> Vec<Vec<Vec<u8>>> {
        self.of.into_values().map(|flight| flight.segments).collect()
    }
}

fn drain(worker: &mut Worker) -> Vec<Action> {
    std::iter::from_fn(|| worker.poll_action()).collect()
}
