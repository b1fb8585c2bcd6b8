//! Randomness as a parameter, so that a run can be replayed.

use uuid::Uuid;

use crate::Timestamp;

/// Where random bytes come from. Production uses [`SystemRandom`]; tests use a seeded one.
pub trait Random: Send + Sync + 'static {
    /// Fills `buf` with random bytes fit for secrets.
    fn fill(&self, buf: &mut [u8]);

    /// A time-ordered UUID (version 7) for the given instant.
    fn uuid_at(&self, now: Timestamp) -> Uuid {
        let mut bytes = [0u8; 10];
        self.fill(&mut bytes);
        let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// A number in `0.0 .. 1.0`, for jitter.
    fn fraction(&self) -> f64 {
        let mut bytes = [0u8; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buf: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), buf);
    }
}
