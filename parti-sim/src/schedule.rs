//! What is still to happen, in order of time, and in order of arrival where the time is the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Moment;

/// A queue of things to come. Two runs that push the same things in the same order pop them in the same order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    pushed: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    at: Moment,
    number: u64,
    what: T,
}

impl<T> Schedule<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: Moment, what: T) {
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at, number: self.pushed, what }));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }

    /// Everything that is to come, in no order: when, the how-manieth that was pushed, and what.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Moment, u64, &T)> {
        self.heap.iter().map(|Reverse(entry)| (entry.at, entry.number, &entry.what))
    }

    /// Takes out the thing that was pushed as this number, whenever it is to happen. O(n).
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let at = entries.iter().position(|Reverse(entry)| entry.number == number);
        let taken = at.map(|at| entries.swap_remove(at).0.what);
        self.heap = entries.into();
        taken
    }

    /// Puts each thing at another time, or drops it. O(n).
    pub(crate) fn rearrange(&mut self, mut place: impl FnMut(Moment, &T) -> Option<Moment>) {
        let entries = std::mem::take(&mut self.heap).into_vec().into_iter();
        let placed = entries.filter_map(|Reverse(entry)| Some((place(entry.at, &entry.what)?, entry)));
        self.heap = placed.map(|(at, entry)| Reverse(Entry { at, ..entry })).collect();
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

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
