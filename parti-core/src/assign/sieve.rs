//! Choosing a few of many without a branch that the processor would guess wrong.

use alloc::vec::Vec;

/// So many items are looked at before those that pass are kept.
const CHUNK: usize = 256;

/// The places, from `0` to `len`, that pass; in order.
pub(super) fn places(len: usize, passes: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut kept = Vec::new();
    let mut chunk = [0_u32; CHUNK];
    for start in (0..len).step_by(CHUNK) {
        let mut count = 0;
        for (place, nth) in (start..len.min(start + CHUNK)).zip(0..) {
            chunk[count] = nth;
            count += usize::from(passes(place));
        }
        let start = u32::try_from(start).expect("a list is shorter than 2³²");
        kept.extend(chunk[..count].iter().map(|nth| start + nth));
    }
    kept
}
