//! Snapshots: one short read transaction into an immutable encoded buffer, shared by all streams that start from it,
//! within one memory budget for the process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Env, Error, Result, Timestamp, lock};
use foundry_store::Store;
use foundry_watch::row_digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::encoded::EncodedChange;
use crate::{View, body};

/// Largest chunk, unless one row alone is larger.
const MAX_CHUNK: usize = 64 * 1024;
/// Rows per query of the read transaction.
const ROWS: u32 = 512;
/// Snapshots that are read at the same time; this bounds the memory they use before it is counted.
const BUILDERS: usize = 2;
/// A stream that took no chunk for this long loses its buffer when others wait for memory.
const STALLED: Duration = Duration::from_secs(10);
/// How often waiting builders check for memory to reclaim.
const RECLAIM: Duration = Duration::from_secs(1);

/// The rows of a view at one revision, encoded.
pub(crate) struct SnapshotBuffer {
    pub(crate) rev: i64,
    pub(crate) count: i64,
    pub(crate) digest: u64,
    held: Mutex<Option<Held>>,
    touched: AtomicI64,
}

struct Held {
    chunks: Vec<Bytes>,
    _memory: OwnedSemaphorePermit,
}

/// The result of taking a chunk.
pub(crate) enum Chunk {
    /// The next chunk's body.
    Body(Bytes),
    /// All chunks were taken.
    End,
    /// The buffer's memory was reclaimed; start over.
    Revoked,
}

impl SnapshotBuffer {
    pub(crate) fn chunk(&self, index: usize, now: Timestamp) -> Chunk {
        self.touched.store(now.as_micros(), Ordering::Relaxed);
        match &*lock(&self.held) {
            None => Chunk::Revoked,
            Some(held) => held.chunks.get(index).map_or(Chunk::End, |body| Chunk::Body(body.clone())),
        }
    }

    pub(crate) fn is_revoked(&self) -> bool {
        lock(&self.held).is_none()
    }

    /// How long no chunk was taken.
    pub(crate) fn idle(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_micros(self.touched.load(Ordering::Relaxed)))
    }
}

/// The memory budget for all snapshots of a process.
pub(crate) struct Budget {
    kib: Arc<Semaphore>,
    total_kib: u32,
    builders: Semaphore,
    live: Mutex<Vec<Weak<SnapshotBuffer>>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            kib: Arc::new(Semaphore::new(total_kib as usize)),
            total_kib,
            builders: Semaphore::new(BUILDERS),
            live: Mutex::default(),
        }
    }

    /// Reads a view's rows into a buffer; waits while the budget is used up. Must run in a separate task: it holds
    /// shared resources, and a stream may be left unpolled for ever.
    pub(crate) async fn build(
        &self,
        store: &Store,
        view: &dyn View,
        env: &Env,
        reads: &Semaphore,
    ) -> Result<Arc<SnapshotBuffer>> {
        let _builder = self.builders.acquire().await.map_err(Error::internal)?;
        let mut content = Content::default();
        {
            let _turn = reads.acquire().await.map_err(Error::internal)?;
            content.read(store, view).await?;
        }
        let kib = u32::try_from(content.bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.total_kib);
        let memory = self.memory(kib, env).await?;
        let buffer = Arc::new(SnapshotBuffer {
            rev: content.rev,
            count: content.count,
            digest: content.digest,
            held: Mutex::new(Some(Held { chunks: content.chunks, _memory: memory })),
            touched: AtomicI64::new(env.clock.now().as_micros()),
        });
        let mut live = lock(&self.live);
        live.retain(|b| b.strong_count() > 0);
        live.push(Arc::downgrade(&buffer));
        Ok(buffer)
    }

    async fn memory(&self, kib: u32, env: &Env) -> Result<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.kib).acquire_many_owned(kib);
        tokio::pin!(permits);
        loop {
            tokio::select! {
                biased;
                permits = &mut permits => return permits.map_err(Error::internal),
                () = async {
                    self.reclaim(env.clock.now());
                    env.clock.sleep(RECLAIM).await;
                } => {}
            }
        }
    }

    /// Reclaims the memory of buffers without streams, or whose streams are stalled.
    fn reclaim(&self, now: Timestamp) {
        for buffer in lock(&self.live).iter().filter_map(Weak::upgrade) {
            // One reference is the feed's, one is ours.
            if Arc::strong_count(&buffer) <= 2 || buffer.idle(now) > STALLED {
                lock(&buffer.held).take();
            }
        }
    }
}

#[derive(Default)]
struct Content {
    rev: i64,
    count: i64,
    digest: u64,
    chunks: Vec<Bytes>,
    bytes: usize,
    open: Vec<EncodedChange>,
    open_bytes: usize,
}

impl Content {
    async fn read(&mut self, store: &Store, view: &dyn View) -> Result<()> {
        let snapshot = store.snapshot().await?;
        self.rev = snapshot.head(view.scope()).await?;
        let mut after = 0;
        loop {
            let page = view.rows_after(&snapshot, after, ROWS).await?;
            for change in page.changes {
                self.add(EncodedChange::new(change));
            }
            match page.complete_to {
                Some(rev) if rev > after && rev < self.rev => after = rev,
                _ => break,
            }
        }
        self.close_chunk();
        Ok(())
    }

    fn add(&mut self, row: EncodedChange) {
        if row.gone {
            return;
        }
        self.count += 1;
        self.digest ^= row_digest(&row.key, row.version);
        if !self.open.is_empty() && self.open_bytes + row.field.len() > MAX_CHUNK {
            self.close_chunk();
        }
        self.open_bytes += row.field.len();
        self.open.push(row);
    }

    fn close_chunk(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let chunk = body::snapshot_chunk(self.rev, &self.open);
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        self.open.clear();
        self.open_bytes = 0;
    }
}
