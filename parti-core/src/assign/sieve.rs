//! Choosing some of many without a branch that the processor would often guess wrong.

/// Partitions are looked at so many at a time.
pub(super) const CHUNK: usize = 1024;

/// Room for the choice from one chunk.
pub(super) struct Sieve([u32; CHUNK]);

impl Sieve {
    pub(super) fn new() -> Self {
        Self([0; CHUNK])
    }

    /// The numbers, from `start` on, of those of at most [`CHUNK`] items that pass, in order.
    ///
    /// Each number is written, and the next one over it if it does not pass. Not inlined, so that the loop has all
    /// registers for itself.
    #[inline(never)]
    pub(super) fn passing(&mut self, start: usize, passes: impl Iterator<Item = bool>) -> &[u32] {
        let mut count = 0;
        for (number, passes) in (u32::try_from(start).unwrap_or(u32::MAX)..).zip(passes) {
            self.0[count % CHUNK] = number;
            count += usize::from(passes);
        }
        &self.0[..count]
    }
}
