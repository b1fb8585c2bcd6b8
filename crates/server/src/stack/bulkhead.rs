//! Load shedding: unary calls and streams have separate permits, and so have callers with and without a valid
//! credential. There is no queue.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Kind;
use super::seat::Standing;
use crate::config::Limits;
use crate::telemetry::Metrics;

/// The permits of one service.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    service: &'static str,
    identified: Pools,
    anonymous: Pools,
    metrics: Metrics,
}

#[derive(Debug)]
struct Pools {
    unary: Pool,
    streams: Pool,
    /// Bytes of request messages that have not arrived completely.
    bodies: Pool,
}

#[derive(Debug)]
struct Pool {
    /// The name of the limit in errors, as in the configuration.
    limit: &'static str,
    permits: Arc<Semaphore>,
    maximum: usize,
}

impl Pool {
    fn new(limit: &'static str, maximum: usize) -> Self {
        let permits = Arc::new(Semaphore::new(maximum.min(Semaphore::MAX_PERMITS)));
        Self { limit, permits, maximum }
    }
}

impl Bulkhead {
    pub(crate) fn new(service: &'static str, limits: &Limits, metrics: Metrics) -> Self {
        Self {
            service,
            metrics,
            identified: Pools {
                unary: Pool::new("unary_calls", limits.unary_calls),
                streams: Pool::new("streams", limits.streams),
                bodies: Pool::new("body_bytes", limits.body_bytes),
            },
            anonymous: Pools {
                unary: Pool::new("anonymous_calls", limits.anonymous_calls),
                streams: Pool::new("anonymous_streams", limits.anonymous_streams),
                bodies: Pool::new("anonymous_body_bytes", limits.anonymous_body_bytes),
            },
        }
    }

    /// Takes a permit that is held until the end of the answer, or refuses at once: a queue would only add latency.
    pub(crate) fn enter(&self, kind: Kind, standing: Standing) -> Result<OwnedSemaphorePermit, Error> {
        let pools = self.of(standing);
        let pool = match kind {
            Kind::Unary => &pools.unary,
            Kind::Stream => &pools.streams,
        };
        pool.permits.clone().try_acquire_owned().map_err(|_| {
            self.metrics.refused(self.service, pool.limit);
            let maximum = u64::try_from(pool.maximum).unwrap_or(u64::MAX);
            match kind {
                // Permits are freed within milliseconds, so a retry is worthwhile.
                Kind::Unary => {
                    Error::new(Code::Unavailable, "OVERLOADED", format!("{} is overloaded", self.service))
                        .with("limit", pool.limit)
                        .with("scope", self.service)
                        .with("current", maximum.to_string())
                        .with("maximum", maximum.to_string())
                        .retry_after(Duration::from_millis(250))
                }
                // Streams stay open, so a retry at once would fail again.
                Kind::Stream => Error::quota(pool.limit, self.service, maximum, maximum)
                    .retry_after(Duration::from_secs(5)),
            }
        })
    }

    /// Takes bytes of the budget for messages that have not arrived completely, or refuses at once.
    pub(crate) fn take_bytes(&self, bytes: usize, standing: Standing) -> Result<OwnedSemaphorePermit, Error> {
        let pool = &self.of(standing).bodies;
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        pool.permits.clone().try_acquire_many_owned(wanted).map_err(|_| {
            self.metrics.refused(self.service, pool.limit);
            let left = pool.permits.available_permits();
            let as_number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            let (current, maximum) = (as_number(pool.maximum.saturating_sub(left)), as_number(pool.maximum));
            Error::quota(pool.limit, self.service, current, maximum).retry_after(Duration::from_secs(1))
        })
    }

    fn of(&self, standing: Standing) -> &Pools {
        match standing {
            Standing::Identified => &self.identified,
            Standing::Anonymous => &self.anonymous,
        }
    }
}
