//! The one source of chance: everything random in a run comes from its seed.

/// The generator of the core, with what a simulation asks of it.
#[derive(Clone, Debug)]
pub struct Rng(parti_core::Rng);

impl Rng {
    /// A generator whose whole sequence is decided by `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(parti_core::Rng::new(seed))
    }

    /// A generator of its own for one purpose, so that a change in how often one part draws leaves the others alone.
    pub fn for_purpose(seed: u64, purpose: &str) -> Self {
        let mut tag = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
        for byte in purpose.bytes() {
            tag = (tag ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut mixed = Self::new(seed ^ tag);
        Self::new(mixed.next_u64())
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 where `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A place in a list of `length` entries; 0 where it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub const fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// True in `per_million` of a million cases.
    pub const fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_has_a_sequence_of_its_own() {
        let first = |seed, purpose| Rng::for_purpose(seed, purpose).next_u64();
        assert_eq!(first(1, "network"), first(1, "network"));
        assert_ne!(first(1, "network"), first(1, "faults"));
        assert_ne!(first(1, "network"), first(2, "network"));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut rng = Rng::new(7);
        assert!((0..1000).map(|_| rng.between(3, 5)).all(|n| (3..=5).contains(&n)));
        assert!((0..1000).filter(|_| rng.chance(500_000)).count() > 400);
        assert!(!rng.chance(0));
    }
}
