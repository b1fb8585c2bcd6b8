//! Randomness that can be replayed from a seed.

use std::sync::Mutex;

use foundry_core::Random;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The same bytes in every run with the same seed. Not for secrets.
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buf: &mut [u8]) {
        foundry_core::lock(&self.0).fill_bytes(buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_itself_for_one_seed_and_differs_for_another() {
        let bytes = |seed| {
            let mut buf = [0; 16];
            SeededRandom::new(seed).fill(&mut buf);
            buf
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }
}
