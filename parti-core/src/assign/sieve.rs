//! Choosing some of many without a branch that the processor would often guess wrong.

/// Partitions are looked at so many at a time.
pub(super) const CHUNK: usize = 1024;

/// So many answers fit into the bits of a number.
const WORD: usize = 64;

/// Room for the choice from one chunk.
pub(super) struct Sieve {
    passes: [bool; CHUNK],
    chosen: [u32; CHUNK],
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self { passes: [false; CHUNK], chosen: [0; CHUNK] }
    }

    /// The numbers, from `start` on, of those of at most [`CHUNK`] items that pass, in order.
    ///
    /// Not inlined, so that each loop has all registers for itself.
    #[inline(never)]
    pub(super) fn passing(&mut self, start: usize, passes: impl Iterator<Item = bool>) -> &[u32] {
        let mut len = 0_usize;
        for (known, passes) in self.passes.iter_mut().zip(passes) {
            *known = passes;
            len += 1;
        }
        let whole = len.next_multiple_of(WORD);
        self.passes[len..whole].fill(false);
        let mut count = 0;
        let starts = (u32::try_from(start).unwrap_or(u32::MAX)..).step_by(WORD);
        for (start, word) in starts.zip(self.passes[..whole].chunks_exact(WORD)) {
            let mut rest = bits(word);
            if rest == u64::MAX {
                for (chosen, number) in self.chosen[count..count + WORD].iter_mut().zip(start..) {
                    *chosen = number;
                }
                count += WORD;
                continue;
            }
            while rest != 0 {
                self.chosen[count] = start + rest.trailing_zeros();
                count += 1;
                rest &= rest - 1;
            }
        }
        &self.chosen[..count]
    }
}

/// [`WORD`] answers in the bits of a number, the first one lowest.
fn bits(answers: &[bool]) -> u64 {
    let mut bits = 0;
    for (nth, eight) in answers.chunks_exact(8).enumerate() {
        let mut bytes = [0; 8];
        for (byte, &answer) in bytes.iter_mut().zip(eight) {
            *byte = u8::from(answer);
        }
        // Moves the lowest bit of each byte into the highest byte.
        let byte = u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits |= byte << (8 * nth);
    }
    bits
}
