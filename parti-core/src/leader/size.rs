//! How large the records of a plan can become while it is carried out.

use alloc::collections::BTreeMap;

use crate::ids::{Generation, Slot};
use crate::partition::{PartitionId, PartitionList};

/// What a record of an assignment has besides its partitions, in bytes, generously.
const OVERHEAD_BYTES: usize = 512;

/// The largest size of each slot's assignment record, in bytes, by slot.
///
/// At every step from where the partitions are to where they should be, a partition stands at most once in a record: of
/// those of the slot that has it and of the slot that should. So the sum over both is a bound.
#[derive(Debug)]
pub(crate) struct Sizes(BTreeMap<Slot, usize>);

/// An assignment that the store would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the assignment record of {} must have at most {limit} bytes, which is what the store takes, but would have up to \
     {bytes}: add workers, shorten the partition ids, or raise the limit (max_payload of the server)",
    .slot.worker_name()
)]
pub(crate) struct RecordTooLarge {
    pub(crate) slot: Slot,
    pub(crate) bytes: usize,
    pub(crate) limit: usize,
}

impl Sizes {
    /// `holders` and `targets` are by place in `list`; no grant is of a later generation than `generation`. O(P).
    pub(crate) fn of(
        list: &PartitionList,
        holders: &[Option<Slot>],
        targets: &[Option<Slot>],
        generation: Generation,
    ) -> Self {
        let epoch_bytes = digits(generation.value());
        let mut sizes = Self(BTreeMap::new());
        for ((partition, holder), target) in list.as_slice().iter().zip(holders).zip(targets) {
            // ["id",weight,epoch],
            let bytes = text_bytes(&partition.id) + digits(partition.weight.get().into()) + epoch_bytes + 5;
            if let Some(slot) = target {
                sizes.add(*slot, bytes);
            }
            if let Some(slot) = holder.filter(|holder| Some(*holder) != *target) {
                sizes.add(slot, bytes);
            }
        }
        sizes
    }

    /// With these ids besides, each in the record of its slot.
    pub(crate) fn with<'a>(mut self, ids: impl Iterator<Item = (Slot, &'a PartitionId)>) -> Self {
        for (slot, id) in ids {
            self.add(slot, text_bytes(id) + 1);
        }
        self
    }

    /// Refuses a record of more than `limit` bytes, naming the largest.
    pub(crate) fn check(&self, limit: usize) -> Result<(), RecordTooLarge> {
        let sizes = self.0.iter().map(|(slot, bytes)| (bytes + OVERHEAD_BYTES, *slot));
        match sizes.max() {
            Some((bytes, slot)) if bytes > limit => Err(RecordTooLarge { slot, bytes, limit }),
            Some(_) | None => Ok(()),
        }
    }

    fn add(&mut self, slot: Slot, bytes: usize) {
        *self.0.entry(slot).or_default() += bytes;
    }
}

/// The id as a JSON string: control characters, which take more, are not allowed in it.
fn text_bytes(id: &PartitionId) -> usize {
    let escaped = id.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    id.as_str().len() + escaped + 2
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use alloc::{format, vec};

    use super::*;
    use crate::ids::{Incarnation, Tenure, Term};
    use crate::partition::{Partition, Weight};
    use crate::stored::record::{AssignmentRecord, Grant, Record};

    fn list(count: u32) -> PartitionList {
        let partition = |number| {
            let id = PartitionId::new(format!("a \"quoted\" \\ id, ä, {number}")).expect("a valid id");
            Partition::new(id).with_weight(Weight::new(number + 1).expect("at least 1"))
        };
        PartitionList::new((0..count).map(partition).collect()).expect("different ids")
    }

    #[test]
    fn no_record_on_the_way_is_larger_than_it_says() {
        let list = list(1_000);
        let generation = Generation::new(12_345);
        let [from, to] = [Slot::new(3), Slot::new(0)].map(|slot| vec![Some(slot); 1_000]);
        let sizes = Sizes::of(&list, &from, &to, generation);
        let grants = list.as_slice().iter().map(|partition| Grant {
            partition: partition.id.clone(),
            weight: partition.weight,
            epoch: generation,
        });
        let ids: Vec<_> = list.as_slice().iter().map(|partition| partition.id.clone()).collect();
        let record = |owned: Vec<Grant>, releasing: Vec<PartitionId>, incoming: Vec<PartitionId>| {
            let (term, era, tenure) = (Term::new(u64::MAX), Incarnation::new(u64::MAX), Tenure::default());
            let record = AssignmentRecord { term, generation, era, tenure, owned, releasing, incoming };
            Record::Assignment(Arc::new(record)).encode().len()
        };
        let (owned, releasing, incoming) = (
            record(grants.collect(), vec![], vec![]),
            record(vec![], ids.clone(), vec![]),
            record(vec![], vec![], ids),
        );
        for bytes in [owned, releasing, incoming] {
            assert!(sizes.check(bytes - 1).is_err(), "{bytes}");
        }
        assert_eq!(sizes.check(owned + OVERHEAD_BYTES), Ok(()), "the bound is close");
        let error = sizes.check(owned - 1).expect_err("too large");
        assert_eq!(error.slot, Slot::new(3), "both are as large, and the last is named");
    }

    #[test]
    fn a_refusal_names_worker_bytes_and_limit() {
        let error = RecordTooLarge { slot: Slot::new(7), bytes: 2_000_000, limit: 1_000_000 };
        let text = error.to_string();
        assert!(["worker-7", "2000000", "1000000"].iter().all(|part| text.contains(part)), "{text}");
    }
}
