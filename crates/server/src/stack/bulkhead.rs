//! Load shedding: unary calls and streams have separate permits, and there is no queue.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Kind;
use crate::config::Limits;

/// The permits of one service.
#[derive(Clone, Debug)]
pub(crate) struct Bulkhead {
    service: &'static str,
    unary: (Arc<Semaphore>, usize),
    streams: (Arc<Semaphore>, usize),
}

impl Bulkhead {
    pub(crate) fn new(service: &'static str, limits: &Limits) -> Self {
        let permits = |n: usize| (Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS))), n);
        Self { service, unary: permits(limits.unary_calls), streams: permits(limits.streams) }
    }

    /// Takes a permit that is held until the end of the answer, or refuses at once: a queue would only add latency.
    pub(crate) fn enter(&self, kind: Kind) -> Result<OwnedSemaphorePermit, Error> {
        let (name, (permits, maximum)) = match kind {
            Kind::Unary => ("unary_calls", &self.unary),
            Kind::Stream => ("streams", &self.streams),
        };
        permits.clone().try_acquire_owned().map_err(|_| {
            let maximum = u64::try_from(*maximum).unwrap_or(u64::MAX);
            match kind {
                // Permits are freed within milliseconds, so a retry is worthwhile.
                Kind::Unary => {
                    Error::new(Code::Unavailable, "OVERLOADED", format!("{} is overloaded", self.service))
                        .with("limit", name)
                        .with("scope", self.service)
                        .with("current", maximum.to_string())
                        .with("maximum", maximum.to_string())
                        .retry_after(Duration::from_millis(250))
                }
                // Streams stay open, so a retry at once would fail again.
                Kind::Stream => {
                    Error::quota(name, self.service, maximum, maximum).retry_after(Duration::from_secs(5))
                }
            }
        })
    }
}
