//! Chance, from a seed: the same seed throws the same dice.

use std::ops::Range;

/// A source of chance (SplitMix64: small, and good enough to play with).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// Dice of their own for a part of the world: what it throws moves nobody else's.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Within a range; its start when that is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % range.end.saturating_sub(range.start).max(1)
    }

    /// Below a number.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.within(0..bound as u64)).unwrap_or(0)
    }

    /// So often in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.within(0..1_000) < permille
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
