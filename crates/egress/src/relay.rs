//! Copies bytes in both directions, until both sides have closed or nothing moves any more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use foundry_core::Env;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Settings;

/// Bytes and state of a connection, for detecting silence.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<(AtomicU64, AtomicBool)>);

impl Seen {
    fn bytes(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Completes when nothing has moved for too long.
    pub async fn silence(&self, settings: &Settings, env: &Env) {
        // Checked in steps of the shorter limit, so that it applies soon after one side has closed.
        let step = settings.half_idle.min(settings.idle);
        let most = settings.idle.as_millis().div_ceil(step.as_millis().max(1));
        let (mut silent, mut before) = (0, self.bytes());
        loop {
            env.clock.sleep(step).await;
            let now = self.bytes();
            silent = if now == before { silent + 1 } else { 0 };
            before = now;
            if silent >= most || (silent >= 2 && self.0.1.load(Ordering::Relaxed)) {
                return;
            }
        }
    }
}

/// Copies until both sides have closed, one of them fails, or neither sends anything for too long.
pub(crate) async fn relay(
    one: impl AsyncRead + AsyncWrite + Unpin,
    other: impl AsyncRead + AsyncWrite + Unpin,
    settings: &Settings,
    env: &Env,
) {
    let seen = Seen::default();
    let (mut one, mut other) = (Counted::new(one, &seen), Counted::new(other, &seen));
    tokio::select! {
        // An error ends the relay like a close.
        _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
        () = seen.silence(settings, env) => {}
    }
}

/// A connection whose bytes are counted.
pub(crate) struct Counted<T> {
    io: T,
    seen: Seen,
}

impl<T> Counted<T> {
    pub fn new(io: T, seen: &Seen) -> Self {
        Self { io, seen: seen.clone() }
    }

    fn count(&self, bytes: usize) {
        self.seen.0.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.io).poll_read(cx, buf);
        if matches!(done, Poll::Ready(Ok(()))) {
            match buf.filled().len() - before {
                0 if buf.remaining() > 0 => self.seen.0.1.store(true, Ordering::Relaxed),
                bytes => self.count(bytes),
            }
        }
        done
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = done {
            self.count(bytes);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
