//! What became of each message, and what is stored of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::delivery::{Engine, Misfit, Notice, PositionRecord, Sequence, StartAt, StopReason, Timestamp};

use crate::setting::options::Options;
use crate::told::fact::{Fact, PartitionIndex, ProcessId};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;

/// What became of each message of a world, kept up with every [`Fact`]. Those are left out to which a stream that has lost
/// its newest messages has given their numbers: when nobody looks in between, nobody can tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Messages {
    partitions: BTreeMap<PartitionIndex, Kept>,
    /// When the stream was made.
    created: Timestamp,
    starts_at_end: bool,
    /// The greatest number that the stream has given.
    given: Sequence,
    pub(crate) counts: MessageCounts,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageCounts {
    pub(crate) stored: u64,
    pub(crate) finished: u64,
    /// Finished before.
    pub(crate) repeated: u64,
    pub(crate) buried: u64,
    pub(crate) positions: u64,
    pub(crate) refused: u64,
}

/// What became of the messages of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// What is stored and not finished, buried or given up by policy: the number of each in the order of publications.
    pub(crate) unfinished: BTreeMap<Sequence, u64>,
    /// The same, of what the limits have removed and nobody has told of.
    pub(crate) removed: BTreeMap<Sequence, u64>,
    /// What was ever finished.
    done: BTreeSet<u64>,
    /// What each handler has.
    pub(crate) in_hand: BTreeMap<ProcessId, BTreeMap<Sequence, u64>>,
    pub(crate) position: Option<PositionRecord>,
    /// Who was told that nothing more is delivered to it, and why, until somebody begins something.
    pub(crate) stopped: BTreeMap<ProcessId, StopReason>,
    /// The longest that something was to be done and nobody did it, in the window of figures.
    longest_wait: Duration,
    /// Since when something is to be done and nobody does it.
    waits_since: Option<Moment>,
}

impl Kept {
    /// The first message that is to be done.
    pub(crate) fn first(&self) -> Option<Sequence> {
        self.unfinished.keys().next().copied()
    }

    fn forget_before(&mut self, next: Sequence) {
        self.unfinished = self.unfinished.split_off(&next);
        self.removed = self.removed.split_off(&next);
    }

    /// Whether a message is one of the stream as it is: not one that the stream has lost.
    pub(crate) fn knows(&self, sequence: Sequence, number: u64) -> bool {
        let is_it = |kept: &BTreeMap<Sequence, u64>| kept.get(&sequence) == Some(&number);
        is_it(&self.unfinished) || is_it(&self.removed) || self.done.contains(&number)
    }

    /// The longest that something was to be done and nobody did it.
    fn longest_wait(&self, now: Moment) -> Duration {
        self.longest_wait.max(self.waits_since.map_or(Duration::ZERO, |since| now.since(since)))
    }

    /// Drops what a process has in hand from a message on.
    fn take_back(&mut self, process: ProcessId, from: Sequence) {
        if let Some(in_hand) = self.in_hand.get_mut(&process) {
            in_hand.split_off(&from);
        }
        self.in_hand.retain(|_, in_hand| !in_hand.is_empty());
    }

    fn is_over(&mut self, sequence: Sequence, number: u64) -> bool {
        for kept in [&mut self.unfinished, &mut self.removed] {
            if kept.get(&sequence) == Some(&number) {
                kept.remove(&sequence);
            }
        }
        self.done.insert(number)
    }

    fn look(&mut self, now: Moment) {
        let waits = self.in_hand.is_empty() && !self.unfinished.is_empty();
        match (waits, self.waits_since) {
            (true, None) => self.waits_since = Some(now),
            (false, Some(since)) => {
                self.longest_wait = self.longest_wait.max(now.since(since));
                self.waits_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl Messages {
    pub(crate) fn new(options: &Options) -> Self {
        let starts_at_end = options.messages.as_ref().is_some_and(|messages| {
            messages.delivery.engine == Engine::Log && messages.delivery.start == StartAt::Latest
        });
        Self { starts_at_end, created: Timestamp::new(1), ..Self::default() }
    }

    pub(crate) fn of(&self, partition: PartitionIndex) -> Option<&Kept> {
        self.partitions.get(&partition)
    }

    /// Every partition that has had a message or a position.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PartitionIndex, &Kept)> {
        self.partitions.iter().map(|(partition, kept)| (*partition, kept))
    }

    /// Whether a position was stored for the stream as it is.
    pub(crate) fn is_of_this_stream(&self, record: &PositionRecord) -> bool {
        record.created == self.created
    }

    /// The longest that something was to be done and nobody did it.
    pub(crate) fn longest_wait(&self, now: Moment) -> Duration {
        self.partitions.values().map(|kept| kept.longest_wait(now)).max().unwrap_or_default()
    }

    /// How many messages are to be finished still.
    pub(crate) fn left(&self) -> usize {
        self.partitions.values().map(|kept| kept.unfinished.len() + kept.removed.len()).sum()
    }

    /// Begins to take figures.
    pub(crate) fn open_window(&mut self, now: Moment) {
        self.counts = MessageCounts::default();
        for kept in self.partitions.values_mut() {
            kept.longest_wait = Duration::ZERO;
            kept.waits_since = kept.waits_since.map(|_| now);
        }
    }

    pub(crate) fn observe(&mut self, now: Moment, fact: &Fact<'_>) {
        match *fact {
            Fact::Message { process, partition: Some(partition), what } => {
                self.observe_one(now, process, partition, what);
            }
            Fact::Message { partition: None, what, .. } => self.observe_all(what),
            Fact::Crashed { process } | Fact::Halted { process } => {
                for kept in self.partitions.values_mut() {
                    kept.in_hand.remove(&process);
                    kept.look(now);
                }
            }
            _ => {}
        }
    }

    fn observe_one(&mut self, now: Moment, process: Option<ProcessId>, partition: PartitionIndex, what: &MessageFact) {
        let (starts_at_end, counts) = (self.starts_at_end, &mut self.counts);
        let kept = self.partitions.entry(partition).or_default();
        match (what, process) {
            (MessageFact::Stored { sequence, number }, _) => {
                counts.stored += 1;
                // Who has read the first holder of a number knows nothing of the second one.
                if *sequence > self.given {
                    self.given = *sequence;
                    kept.unfinished.insert(*sequence, *number);
                }
            }
            (MessageFact::PositionStored { record, .. }, _) => {
                counts.positions += 1;
                if kept.position.is_none() {
                    // Where a partition begins that had no position, the settings say.
                    let begins = if starts_at_end { record.through.next() } else { Sequence::default() };
                    kept.forget_before(begins);
                    kept.removed.clear();
                }
                kept.position = Some(record.clone());
            }
            (MessageFact::PositionRefused { .. }, _) => counts.refused += 1,
            (MessageFact::Begun { sequence, number, .. }, Some(process)) => {
                kept.stopped.clear();
                kept.in_hand.entry(process).or_default().insert(*sequence, *number);
            }
            (MessageFact::Finished { sequence, number }, Some(process)) => {
                counts.finished += 1;
                counts.repeated += u64::from(!kept.is_over(*sequence, *number));
                if let Some(in_hand) = kept.in_hand.get_mut(&process) {
                    in_hand.remove(sequence);
                }
                kept.in_hand.retain(|_, in_hand| !in_hand.is_empty());
            }
            (MessageFact::Buried { sequence, number }, _) => {
                counts.buried += 1;
                kept.is_over(*sequence, *number);
            }
            (MessageFact::Returned { from, .. }, Some(process)) => kept.take_back(process, *from),
            (MessageFact::Dropped | MessageFact::HoldEnded, Some(process)) => {
                kept.take_back(process, Sequence::default());
            }
            (MessageFact::Told(Notice::WentOn { next, .. }), _) => kept.forget_before(*next),
            (MessageFact::Stopped(reason), Some(process)) => {
                if matches!(reason, StopReason::Misfit(Misfit::Gap { .. })) {
                    kept.removed.clear();
                }
                kept.stopped.insert(process, reason.clone());
            }
            _ => {}
        }
        kept.look(now);
    }

    fn observe_all(&mut self, what: &MessageFact) {
        match what {
            MessageFact::Removed { before } => {
                for kept in self.partitions.values_mut() {
                    let stays = kept.unfinished.split_off(before);
                    kept.removed.extend(std::mem::replace(&mut kept.unfinished, stays));
                }
            }
            MessageFact::SuffixLost { last } => {
                for kept in self.partitions.values_mut() {
                    kept.unfinished.split_off(&last.next());
                    kept.removed.split_off(&last.next());
                }
            }
            MessageFact::MadeAnew { created } => {
                (self.created, self.given) = (*created, Sequence::default());
                for kept in self.partitions.values_mut() {
                    kept.unfinished.clear();
                    kept.removed.clear();
                }
            }
            MessageFact::PositionsLost => {
                for kept in self.partitions.values_mut() {
                    kept.position = None;
                }
            }
            _ => {}
        }
    }
}
