//! The last try of a message that may end processes: nothing else is in the worker's hands then.

use alloc::collections::BTreeSet;

use crate::partition::PartitionId;
use crate::time::{Duration, Instant};

/// How long the last try waits until nothing else is in hand, and how long it then keeps everything else from being handed
/// out. A message that has not ended its process by then holds up nobody any more.
const LASTS: Duration = Duration::from_secs(10);

/// Who has the worker to itself.
///
/// When a process ends, each message that it had in hand may have ended it, and is counted. Only one is to blame; so before
/// one is given up, it has its last try alone: then it is known whether it ends processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Solitude {
    holder: Option<Holder>,
    /// Who has something to hand out and waits until that is over.
    waiting: BTreeSet<PartitionId>,
}

#[derive(Clone, Debug)]
struct Holder {
    partition: PartitionId,
    /// When it goes on although others have something in hand, or others go on although it has.
    until: Instant,
    has_begun: bool,
}

impl Solitude {
    /// Whether something may be handed out of this partition, of which nothing is on its last try.
    pub(super) fn allows(&mut self, partition: &PartitionId) -> bool {
        let is_free = self.holder.is_none();
        if !is_free {
            self.waiting.insert(partition.clone());
        }
        is_free
    }

    /// Whether the last try of this partition's first message may begin, where others have `in_hand` messages.
    pub(super) fn begin(&mut self, now: Instant, partition: &PartitionId, in_hand: usize) -> bool {
        let fresh = || Holder { partition: partition.clone(), until: now + LASTS, has_begun: false };
        let holder = self.holder.get_or_insert_with(fresh);
        if holder.partition != *partition {
            self.waiting.insert(partition.clone());
            return false;
        }
        if in_hand > 0 && now < holder.until {
            return false;
        }
        (holder.has_begun, holder.until) = (true, now + LASTS);
        true
    }

    /// The partition that waits until others have nothing in hand.
    pub(super) fn waits(&self) -> Option<&PartitionId> {
        self.holder.as_ref().filter(|holder| !holder.has_begun).map(|holder| &holder.partition)
    }

    /// How many messages are in hand of others than this partition, of all these: it matters only to who waits for that.
    pub(super) fn in_hand_elsewhere<'a>(
        &self,
        partition: &PartitionId,
        in_hand: impl Iterator<Item = (&'a PartitionId, usize)>,
    ) -> usize {
        if self.waits() != Some(partition) {
            return 1;
        }
        in_hand.filter(|(other, _)| *other != partition).map(|(_, count)| count).sum()
    }

    /// It was decided for this partition, which `waited` before or did not. Returns who is to be decided for now: those that
    /// waited for its last try, which is over, or itself, since it now waits until others have nothing in hand.
    pub(super) fn observe_decided(
        &mut self,
        partition: &PartitionId,
        waited: bool,
        is_last_try: bool,
    ) -> BTreeSet<PartitionId> {
        if !is_last_try {
            return self.end(partition);
        }
        let waits_now = !waited && self.waits() == Some(partition);
        waits_now.then(|| partition.clone()).into_iter().collect()
    }

    /// The last try of this partition is over, if it had one. Returns who may go on.
    pub(super) fn end(&mut self, partition: &PartitionId) -> BTreeSet<PartitionId> {
        let is_holder = self.holder.as_ref().is_some_and(|holder| holder.partition == *partition);
        if is_holder { self.free() } else { BTreeSet::new() }
    }

    /// A try that takes too long keeps nobody waiting, nor does one that could have begun and was not asked for. Returns who
    /// may go on.
    pub(super) fn expire(&mut self, now: Instant) -> BTreeSet<PartitionId> {
        let is_over = self.holder.as_ref().is_some_and(|holder| holder.until <= now);
        if is_over { self.free() } else { BTreeSet::new() }
    }

    fn free(&mut self) -> BTreeSet<PartitionId> {
        self.holder = None;
        core::mem::take(&mut self.waiting)
    }

    /// When somebody may go on, if nothing else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.holder.as_ref().map(|holder| holder.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PartitionId {
        PartitionId::new(name).expect("a valid id")
    }

    #[test]
    fn a_last_try_waits_for_others_and_keeps_them_waiting_but_not_for_ever() {
        let (mut solitude, (a, b)) = (Solitude::default(), (id("a"), id("b")));
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        assert!(solitude.allows(&b));
        assert!(!solitude.begin(at(0), &a, 1));
        assert_eq!(solitude.waits(), Some(&a));
        assert!(!solitude.allows(&b));
        assert!(solitude.begin(at(3), &a, 0));
        assert_eq!(solitude.waits(), None);
        assert!(!solitude.allows(&b));
        assert_eq!(solitude.end(&b), BTreeSet::new());
        assert_eq!(solitude.end(&a), BTreeSet::from([b.clone()]));
        // Nor does anybody wait for what others have for longer than that.
        assert!(!solitude.begin(at(5), &a, 1) && !solitude.begin(at(6), &b, 0));
        assert!(solitude.begin(at(15), &a, 1));
        assert_eq!(solitude.deadline(), Some(at(25)));
        assert_eq!((solitude.expire(at(24)), solitude.expire(at(25))), (BTreeSet::new(), BTreeSet::from([b.clone()])));
        assert!(solitude.allows(&b));
    }
}
