//! Choosing some of many without a branch that the processor would often guess wrong.

use alloc::vec;
use alloc::vec::Vec;

/// The places of those of at most `len` items that pass, in order.
pub(super) fn places(len: usize, passes: impl Iterator<Item = bool>) -> Vec<u32> {
    let mut kept = vec![0; len];
    let mut count = 0;
    for (place, passes) in (0..).zip(passes).take(len) {
        kept[count] = place;
        count += usize::from(passes);
    }
    kept.truncate(count);
    kept
}
