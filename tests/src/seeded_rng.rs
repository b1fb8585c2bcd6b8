//! Pseudo-random numbers that are the same in every run.

/// A seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct SeededRng(u64);

/// The increment of the state.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRng {
    /// A generator for a seed.
    pub fn new(seed: u64) -> Self {
        // Mixed first: otherwise neighbouring seeds would give the same sequence, shifted.
        Self(mixed(seed.wrapping_add(STEP)))
    }

    /// The next number below a limit, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0) % limit
    }
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
