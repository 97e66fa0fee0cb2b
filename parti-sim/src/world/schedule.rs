//! What is still to happen, in order of time, and in order of arrival where the time is the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::world::clock::Moment;

/// A queue of things to come. Two runs that push the same things in the same order pop them in the same order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    /// What is to come, each in a place of its own: the heap moves no more than its order.
    whats: Vec<Option<T>>,
    free: Vec<usize>,
    pushed: u64,
}

/// In order of time, then of arrival: one number, for the heap compares again and again. Its upper half is the time, its
/// lower half tells the how-manieth it was, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

/// How many bits of an entry tell its place.
const PLACE_BITS: u32 = 24;

#[expect(clippy::cast_possible_truncation, reason = "each part is taken out of the bits that it was put into")]
impl Entry {
    fn new(at: Moment, number: u64, place: usize) -> Self {
        assert!(place < 1 << PLACE_BITS, "{place} things to come are too many");
        Self(u128::from(at.as_nanos()) << u64::BITS | u128::from(number) << PLACE_BITS | place as u128)
    }

    fn put_at(self, at: Moment) -> Self {
        Self::new(at, self.number(), self.place())
    }

    const fn at(self) -> Moment {
        Moment::from_nanos((self.0 >> u64::BITS) as u64)
    }

    const fn number(self) -> u64 {
        self.0 as u64 >> PLACE_BITS
    }

    const fn place(self) -> usize {
        (self.0 as usize) & ((1 << PLACE_BITS) - 1)
    }
}

impl<T> Schedule<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), whats: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: Moment, what: T) {
        self.pushed += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.whats.push(None);
            self.whats.len() - 1
        });
        self.whats[place] = Some(what);
        self.heap.push(Reverse(Entry::new(at, self.pushed, place)));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(entry)| entry.at())
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        let Reverse(entry) = self.heap.pop()?;
        Some((entry.at(), self.vacate(entry)))
    }

    /// Everything that is to come, in no order: when, the how-manieth that was pushed, and what.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Moment, u64, &T)> {
        self.heap.iter().map(|Reverse(entry)| (entry.at(), entry.number(), self.what(*entry)))
    }

    /// Takes out the thing that was pushed as this number, whenever it is to happen. O(n).
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let at = entries.iter().position(|Reverse(entry)| entry.number() == number);
        let taken = at.map(|at| entries.swap_remove(at).0);
        self.heap = entries.into();
        taken.map(|entry| self.vacate(entry))
    }

    /// Puts each thing at another time, or drops it. O(n).
    pub(crate) fn rearrange(&mut self, mut place: impl FnMut(Moment, &T) -> Option<Moment>) {
        let entries = std::mem::take(&mut self.heap).into_vec();
        for Reverse(entry) in entries {
            match place(entry.at(), self.what(entry)) {
                Some(at) => self.heap.push(Reverse(entry.put_at(at))),
                None => drop(self.vacate(entry)),
            }
        }
    }

    fn what(&self, entry: Entry) -> &T {
        self.whats[entry.place()].as_ref().expect("each entry has its own")
    }

    fn vacate(&mut self, entry: Entry) -> T {
        self.free.push(entry.place());
        self.whats[entry.place()].take().expect("each entry has its own")
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
