//! What is still to happen, in order of time, and in order of arrival where the time is the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Moment;

/// A queue of things to come. Two runs that push the same things in the same order pop them in the same order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    /// What is to come, each in a place of its own: the heap moves no more than its order.
    whats: Vec<Option<T>>,
    free: Vec<u32>,
    pushed: u64,
}

/// In order of time, then of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Moment,
    number: u64,
    place: u32,
}

impl<T> Schedule<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), whats: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: Moment, what: T) {
        self.pushed += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.whats.push(None);
            u32::try_from(self.whats.len() - 1).expect("fewer things to come than u32 counts")
        });
        self.whats[place as usize] = Some(what);
        self.heap.push(Reverse(Entry { at, number: self.pushed, place }));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        let Reverse(entry) = self.heap.pop()?;
        Some((entry.at, self.vacate(entry)))
    }

    /// Everything that is to come, in no order: when, the how-manieth that was pushed, and what.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Moment, u64, &T)> {
        self.heap.iter().map(|Reverse(entry)| (entry.at, entry.number, self.what(*entry)))
    }

    /// Takes out the thing that was pushed as this number, whenever it is to happen. O(n).
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let at = entries.iter().position(|Reverse(entry)| entry.number == number);
        let taken = at.map(|at| entries.swap_remove(at).0);
        self.heap = entries.into();
        taken.map(|entry| self.vacate(entry))
    }

    /// Puts each thing at another time, or drops it. O(n).
    pub(crate) fn rearrange(&mut self, mut place: impl FnMut(Moment, &T) -> Option<Moment>) {
        let entries = std::mem::take(&mut self.heap).into_vec();
        for Reverse(entry) in entries {
            match place(entry.at, self.what(entry)) {
                Some(at) => self.heap.push(Reverse(Entry { at, ..entry })),
                None => drop(self.vacate(entry)),
            }
        }
    }

    fn what(&self, entry: Entry) -> &T {
        self.whats[entry.place as usize].as_ref().expect("each entry has its own")
    }

    fn vacate(&mut self, entry: Entry) -> T {
        self.free.push(entry.place);
        self.whats[entry.place as usize].take().expect("each entry has its own")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_at_one_moment_comes_in_the_order_in_which_it_was_pushed() {
        let mut schedule = Schedule::new();
        for (at, what) in [(2, "c"), (1, "a"), (2, "d"), (1, "b")] {
            schedule.push(Moment::from_millis(at), what);
        }
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
