//! The writes of a connection, gathered: what its streams have sent by the end of a turn goes to the socket at once.
//!
//! HTTP/2 flushes each frame of data by itself, and a stream's task wakes its connection with the first frame: a change
//! that a thousand streams send would cost a thousand system calls, which is more than all the rest of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use foundry_core::lock;
use tokio::io::AsyncWrite;

use super::room::Requests;

/// Most bytes that are gathered before the socket has to take them.
const MOST: usize = 64 * 1024;
/// With fewer open streams there is nothing to wait for: what a lone one sends is written in its turn.
const STREAMS: usize = 2;

/// The writing half of a connection; cloning shares it.
pub(super) struct Gathered<W>(Arc<Mutex<Outgoing<W>>>);

impl<W> Clone for Gathered<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Outgoing<W> {
    socket: W,
    bytes: Vec<u8>,
    /// How many of them the socket has taken.
    written: usize,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    fn gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.bytes.len() + length > MOST {
            ready!(self.drain(cx))?;
            if length > MOST {
                return Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
            }
        }
        self.bytes.reserve(length);
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let left = &self.bytes[self.written..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.written += taken,
            }
        }
        // TLS keeps what the socket has not taken yet.
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        // A connection may be silent for hours.
        (self.bytes, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Gathered<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).gather(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).gather(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the end of the turn writes all.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = lock(&self.0);
        ready!(outgoing.drain(cx))?;
        Pin::new(&mut outgoing.socket).poll_shutdown(cx)
    }
}

/// The turns of one connection.
pub(super) struct Turns<W> {
    writer: Gathered<W>,
    requests: Requests,
    /// Whether the streams that were woken together have had their turn.
    has_waited: bool,
}

impl<W: AsyncWrite + Unpin> Turns<W> {
    /// For a connection that writes to what is returned.
    pub(super) fn new(socket: W, requests: Requests) -> (Self, Gathered<W>) {
        let outgoing = Outgoing { socket, bytes: Vec::new(), written: 0 };
        let writer = Gathered(Arc::new(Mutex::new(outgoing)));
        (Self { writer: writer.clone(), requests, has_waited: false }, writer)
    }

    /// Runs the connection to its end.
    pub(super) async fn run<F, E>(&mut self, mut connection: Pin<&mut F>) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
        E: From<io::Error>,
    {
        std::future::poll_fn(|cx| self.turn(cx, connection.as_mut())).await
    }

    fn turn<F, E>(&mut self, cx: &mut Context<'_>, connection: Pin<&mut F>) -> Poll<Result<(), E>>
    where
        F: Future<Output = Result<(), E>>,
        E: From<io::Error>,
    {
        if !self.has_waited && self.requests.streams() >= STREAMS {
            // Behind the tasks that are ready now: at rest that is at once.
            self.has_waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_waited = false;
        let ended = connection.poll(cx);
        match lock(&self.writer.0).drain(cx) {
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
            _ => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::FutureExt as _;
    use futures::task::noop_waker_ref;
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::sync::CancellationToken;

    use super::super::PeerAddress;
    use super::super::room::{ConnectionUse, Room, Slot};
    use super::*;
    use crate::config::Limits;
    use crate::telemetry::Metrics;

    /// Takes so many bytes, and counts its writes.
    #[derive(Default)]
    struct Socket {
        room: usize,
        taken: Vec<u8>,
        writes: usize,
        is_shut: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let length = bytes.len().min(self.room);
            if length == 0 {
                return Poll::Pending;
            }
            self.room -= length;
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    async fn slot() -> Slot {
        let peer = PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1)));
        let room = Room::new("task", &Limits::default(), Metrics::new().unwrap());
        room.enter(peer, &CancellationToken::new()).await.unwrap()
    }

    fn stream(slot: &Slot) -> ConnectionUse {
        let request = slot.requests().begin();
        request.mark_stream();
        request
    }

    fn turns(slot: &Slot, room: usize) -> (Turns<Socket>, Gathered<Socket>) {
        Turns::new(Socket { room, ..Socket::default() }, slot.requests())
    }

    fn seen(writer: &Gathered<Socket>) -> (usize, usize) {
        let outgoing = lock(&writer.0);
        (outgoing.socket.writes, outgoing.socket.taken.len())
    }

    /// A connection that never ends and writes these frames in each turn, each flushed by itself.
    fn writing(writer: &Gathered<Socket>, frames: usize) -> impl Future<Output = io::Result<()>> {
        let mut writer = writer.clone();
        async move {
            loop {
                for _ in 0..frames {
                    writer.write_all(&[7; 100]).await?;
                    writer.flush().await?;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn the_frames_of_one_turn_are_one_write_and_a_lone_one_waits_for_nothing() {
        let slot = slot().await;
        let _lone = stream(&slot);
        for frames in [1, 50] {
            let (mut turns, writer) = turns(&slot, usize::MAX);
            let mut connection = std::pin::pin!(writing(&writer, frames));
            let mut cx = Context::from_waker(noop_waker_ref());
            assert!(turns.turn(&mut cx, connection.as_mut()).is_pending());
            assert_eq!(seen(&writer), (1, frames * 100));
            assert_eq!(lock(&writer.0).bytes.capacity(), 0, "nothing stays allocated");
        }
    }

    #[tokio::test]
    async fn a_connection_of_several_streams_lets_those_that_are_ready_send_first() {
        let slot = slot().await;
        let open = [stream(&slot), stream(&slot)];
        let (mut turns, writer) = turns(&slot, usize::MAX);
        let mut connection = std::pin::pin!(writing(&writer, 1));
        let mut cx = Context::from_waker(noop_waker_ref());
        for (turn, writes) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            assert!(turns.turn(&mut cx, connection.as_mut()).is_pending());
            assert_eq!(seen(&writer).0, writes, "turn {turn}");
        }
        drop(open);
        assert!(turns.turn(&mut cx, connection.as_mut()).is_pending());
        assert_eq!(seen(&writer).0, 3, "without streams each turn is one");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_stops_the_connection() {
        let slot = slot().await;
        let (mut turns, writer) = turns(&slot, 1_000);
        let mut connection = std::pin::pin!(writing(&writer, 10_000));
        assert!(turns.run(connection.as_mut()).now_or_never().is_none());
        assert_eq!(seen(&writer).1, 1_000);
        assert!(lock(&writer.0).bytes.len() <= MOST);
    }

    #[tokio::test]
    async fn the_end_of_a_connection_comes_after_all_that_it_wrote() {
        let slot = slot().await;
        let (_turns, mut writer) = turns(&slot, 60);
        writer.write_all(&[1; 100]).await.unwrap();
        assert!(writer.shutdown().now_or_never().is_none());
        assert!(!lock(&writer.0).socket.is_shut);
        lock(&writer.0).socket.room = 40;
        writer.shutdown().now_or_never().unwrap().unwrap();
        assert!(lock(&writer.0).socket.is_shut);
        assert_eq!(seen(&writer), (2, 100));
    }

    #[tokio::test]
    async fn a_socket_that_fails_ends_the_connection() {
        struct Broken;
        impl AsyncWrite for Broken {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let slot = slot().await;
        let (mut turns, mut writer) = Turns::new(Broken, slot.requests());
        let connection = async move {
            writer.write_all(b"x").await?;
            std::future::pending::<io::Result<()>>().await
        };
        let error = turns.run(std::pin::pin!(connection)).now_or_never().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
