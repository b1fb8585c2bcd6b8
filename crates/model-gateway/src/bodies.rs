//! Request bodies in memory: bounded each, for each session, and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BoxError;
use crate::shape::{Problem, Retry};

/// The largest body that is taken.
pub(crate) const LIMIT: usize = 32 * 1024 * 1024;
/// What one session may have in memory, in KiB.
const EACH: usize = 64 * 1024;
/// What all may have, in KiB.
const ALL: usize = 256 * 1024;
/// How long a body waits for its room, and how long it may take to come.
const WAIT: Duration = Duration::from_secs(60);
/// What a refused caller may still send before it is answered: one that is cut off does not read the answer.
const DRAINED: usize = 2 * LIMIT;
const DRAIN: Duration = Duration::from_secs(5);

/// The room for bodies.
pub(crate) struct Bodies {
    all: Arc<Semaphore>,
    each: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A body with its room, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), each: Mutex::default() }
    }

    /// Reads a body whole. `announced` is its length, if the caller tells it.
    pub(crate) async fn take<B>(
        &self,
        session: &str,
        announced: Option<usize>,
        body: B,
    ) -> Result<Taken, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        if announced.is_some_and(|length| length > LIMIT) {
            drain(body).await;
            return Err(too_large());
        }
        let size = kib(announced.unwrap_or(LIMIT));
        let room = async {
            let own = self.of(session).acquire_many_owned(size).await;
            (own, self.all.clone().acquire_many_owned(size).await)
        };
        // The semaphores are never closed.
        let Ok((Ok(mut own), Ok(mut all))) = tokio::time::timeout(WAIT, room).await else {
            return Err(busy("too many large requests are under way"));
        };
        let bytes = tokio::time::timeout(WAIT, collect(body, announced)).await;
        let bytes = bytes.map_err(|_| malformed("its body did not come within a minute"))??;
        // What was reserved for a body of unknown length and not used goes back at once.
        let unused = usize::try_from(size - kib(bytes.len()).min(size)).unwrap_or(0);
        drop((own.split(unused), all.split(unused)));
        Ok(Taken { bytes, _room: (own, all) })
    }

    fn of(&self, session: &str) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = each.get(session).and_then(Weak::upgrade) {
            return own;
        }
        if each.len() >= 1024 {
            each.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(EACH));
        each.insert(session.to_owned(), Arc::downgrade(&own));
        own
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

async fn collect<B>(body: B, announced: Option<usize>) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut all = BytesMut::with_capacity(announced.unwrap_or(0).min(LIMIT));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| malformed("its body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > LIMIT {
            drain(body).await;
            return Err(too_large());
        }
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Reads on without keeping anything, for a while.
pub(crate) async fn drain<B: Body<Data = Bytes>>(body: B) {
    let reading = async {
        let (mut body, mut seen) = (std::pin::pin!(body), 0);
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAINED {
                break;
            }
        }
    };
    // The answer goes out in any case.
    let _ = tokio::time::timeout(DRAIN, reading).await;
}

fn too_large() -> Problem {
    Problem {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "MODEL_REQUEST_TOO_LARGE",
        words: format!("the request is larger than {} MiB", LIMIT / 1024 / 1024),
        retry: Retry::Never,
    }
}

pub(crate) fn malformed(what: &str) -> Problem {
    Problem {
        status: StatusCode::BAD_REQUEST,
        reason: "MODEL_REQUEST_MALFORMED",
        words: format!("the request cannot be passed on: {what}"),
        retry: Retry::Never,
    }
}

pub(crate) fn busy(why: &str) -> Problem {
    Problem {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "MODEL_GATEWAY_BUSY",
        words: format!("the model gateway cannot take this call now: {why}"),
        retry: Retry::After(Duration::from_secs(5)),
    }
}
