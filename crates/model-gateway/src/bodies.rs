//! Request bodies in memory: bounded each, for each session, and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BoxError;
use crate::shape::{Problem, Retry};

const MIB: usize = 1024 * 1024;
/// How long a body waits for memory, and how long it may take to arrive.
const WAIT: Duration = Duration::from_secs(60);
/// How much a refused caller may still send before it is answered: one that is cut off does not read the answer.
const DRAINED: usize = 64 * MIB;
const DRAIN: Duration = Duration::from_secs(5);

/// The memory for bodies of one kind.
pub(crate) struct Bodies {
    /// The largest body accepted, in bytes.
    limit: usize,
    /// What one session may hold in memory, in KiB.
    of_each: usize,
    /// What all sessions together may hold, in KiB.
    all: Arc<Semaphore>,
    each: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A body with its memory permit, which is returned when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Bodies {
    /// Limits for model calls, whose conversations contain pictures and files.
    pub(crate) fn of_models() -> Self {
        Self::new(32 * MIB, 64 * MIB, 256 * MIB)
    }

    /// Limits for messages to MCP servers, which are held until a tool answers.
    pub(crate) fn of_mcp() -> Self {
        Self::new(4 * MIB, 8 * MIB, 64 * MIB)
    }

    fn new(limit: usize, of_each: usize, of_all: usize) -> Self {
        let (all, of_each) = (Arc::new(Semaphore::new(of_all / 1024)), of_each / 1024);
        Self { limit, of_each, all, each: Mutex::default() }
    }

    /// Reads a whole body. `announced` is its length, if the caller declares it.
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
        if announced.is_some_and(|length| length > self.limit) {
            drain(body).await;
            return Err(too_large(self.limit));
        }
        let size = kib(announced.unwrap_or(self.limit));
        let room = async {
            let own = self.of(session).acquire_many_owned(size).await;
            (own, self.all.clone().acquire_many_owned(size).await)
        };
        // The semaphores are never closed.
        let Ok((Ok(mut own), Ok(mut all))) = tokio::time::timeout(WAIT, room).await else {
            return Err(busy("too many large requests are in progress"));
        };
        let bytes = tokio::time::timeout(WAIT, collect(body, announced, self.limit)).await;
        let bytes = bytes.map_err(|_| malformed("its body was not received within a minute"))??;
        // What was reserved for a body of unknown length and not used is returned at once.
        let unused = usize::try_from(size - kib(bytes.len()).min(size)).unwrap_or(0);
        drop((own.split(unused), all.split(unused)));
        Ok(Taken { bytes, _room: (own, all) })
    }

    fn of(&self, session: &str) -> Arc<Semaphore> {
        let mut each = foundry_core::lock(&self.each);
        if let Some(own) = each.get(session).and_then(Weak::upgrade) {
            return own;
        }
        if each.len() >= 1024 {
            each.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(self.of_each));
        each.insert(session.to_owned(), Arc::downgrade(&own));
        own
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

async fn collect<B>(body: B, announced: Option<usize>, limit: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut all = BytesMut::with_capacity(announced.unwrap_or(0).min(limit));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| malformed("its body was incomplete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > limit {
            drain(body).await;
            return Err(too_large(limit));
        }
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Reads and discards the rest for a while.
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
    // The answer is sent in any case.
    let _ = tokio::time::timeout(DRAIN, reading).await;
}

fn too_large(limit: usize) -> Problem {
    Problem {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "MODEL_REQUEST_TOO_LARGE",
        words: format!("the request is larger than {} MiB", limit / MIB),
        retry: Retry::Never,
    }
}

pub(crate) fn malformed(what: &str) -> Problem {
    Problem {
        status: StatusCode::BAD_REQUEST,
        reason: "MODEL_REQUEST_MALFORMED",
        words: format!("the request cannot be forwarded: {what}"),
        retry: Retry::Never,
    }
}

pub(crate) fn busy(why: &str) -> Problem {
    Problem {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "MODEL_GATEWAY_BUSY",
        words: format!("the model gateway cannot accept this call now: {why}"),
        retry: Retry::After(Duration::from_secs(5)),
    }
}
