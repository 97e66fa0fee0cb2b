//! Steps in words.

use std::fmt;

use super::scope::{Fault, Step};
use super::state::{State, key};
use crate::world::event::Shown;
use crate::world::event::What;

/// A step in the words of the state in which it is taken.
pub(super) struct Told<'a>(pub(super) &'a State, pub(super) Step);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state, step) = self;
        let find = |number| state.pending().into_iter().find(|(_, other, _)| *other == number).map(|(_, _, what)| what);
        match step {
            Step::Happen(number) => f.write_str(&find(*number).map(told).unwrap_or_default()),
            Step::HappenBut(number, late) => {
                let what = find(*number).map(told).unwrap_or_default();
                write!(f, "FAULT: {what}, and of what follows, number {} comes late or never", late + 1)
            }
            Step::Delay(number) => {
                write!(f, "FAULT, this comes late or never: {}", find(*number).map(told).unwrap_or_default())
            }
            Step::Pass => match state.next_deadline() {
                Some(at) => write!(f, "nothing happens until {at}"),
                None => f.write_str("nothing happens"),
            },
            Step::Do(Fault::Crash, process) => write!(f, "FAULT: {process} crashes"),
            Step::Do(Fault::Pause, process) => write!(f, "FAULT: {process} stands still"),
            Step::Do(Fault::Cut, process) => write!(f, "FAULT: {process} is cut off"),
            Step::Do(Fault::Leave, process) => write!(f, "{process} is told to leave"),
            Step::Do(Fault::Restart, process) => write!(f, "{process} is told to restart"),
            Step::Do(Fault::Close, process) => write!(f, "FAULT: the connection of {process} is closed"),
            Step::Do(Fault::Deafen, process) => write!(f, "FAULT: {process} may not listen for probes"),
            Step::Allow(process) => write!(f, "{process} may listen for probes again"),
            Step::Do(Fault::Reconnect, process) => write!(f, "{process} connects again"),
            Step::Do(fault @ (Fault::Late | Fault::Route | Fault::Loss), process) => write!(f, "{fault}: {process}"),
            Step::CutRoute => f.write_str("FAULT: the route between the servers breaks"),
            Step::MendRoute => f.write_str("the route between the servers is back"),
            Step::Lose(bucket, writes) => write!(f, "FAULT: the store restarts without the last {writes} of {bucket}"),
            Step::Wake(process) => write!(f, "{process} goes on"),
            Step::Mend(process) => write!(f, "{process} can be reached again"),
        }
    }
}

fn told(what: &What) -> String {
    match what {
        What::Timer { process } => format!("the timer of {process} fires"),
        What::Arrive { process, request, .. } => {
            format!("the store gets {process}'s {} of {}", request.write.verb(), request.write.key())
        }
        What::Reply { process, operation, .. } => format!("{process} gets the answer to its write {operation}"),
        What::GiveUp { process, operation } => {
            format!("{process} waits no longer for the answer to its write {operation}")
        }
        What::ReadSnapshot { process, bucket, .. } => format!("the store reads {bucket} for {process}"),
        What::Show { process, bucket, shown: Shown::Snapshot(..) | Shown::End(..), .. } => {
            format!("{process} gets to see what is in {bucket}")
        }
        What::Show { process, shown: Shown::Change(change, _), .. } => match key(change) {
            Some(key) => format!("{process} gets to see a change of {key}"),
            None => format!("{process} gets to see a change"),
        },
        What::Show { process, bucket, shown: Shown::Lost, .. } => {
            format!("{process} hears that its watch of {bucket} broke")
        }
        What::Ear(step) => format!("{step:?}"),
        What::NoticeBreak { process, .. } => format!("{process} notices that its connection is gone"),
        What::Reconnect { process, .. } => format!("{process} is connected again"),
        What::ReportReleased { process, partition, .. } => {
            format!("{process} hears that p{:05} was released", partition.index())
        }
        What::Drained { process, partition, .. } => {
            format!("the application of {process} is done with p{:05}", partition.index())
        }
        What::Start { .. } => "a process starts".into(),
        What::Race { .. }
        | What::Reread { .. }
        | What::AppWrite { .. }
        | What::Report { .. }
        | What::Delivery(_)
        | What::Wake { .. }
        | What::RightEnds { .. }
        | What::ClearGarbage
        | What::Mend { .. } => format!("{what:?}"),
    }
}
