//! Ends HTTP/2 connections that flood the server with frames which carry no part of a request.
//!
//! Answering a PING or SETTINGS frame costs the server more than sending one costs the peer, and neither h2 nor hyper
//! bounds their number. So frames are counted as the bytes pass by: a connection may send a burst of control frames,
//! and earns more with time and with each frame of an answer that it is sent (clients adjust their windows, and measure
//! the round trip, as data arrives).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Control frames that a connection may send at once.
const BURST: f64 = 1_024.0;
/// Control frames that it earns in a second.
const PER_SECOND: f64 = 128.0;
/// Control frames that it earns with each frame of an answer.
const PER_ANSWER: f64 = 4.0;

const PREFACE: usize = 24;
const HEAD: usize = 9;

// Types and flags of frames: RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// A connection whose control frames are counted.
pub(super) struct Guarded<S, F> {
    io: S,
    /// Called once, before the connection fails.
    flooded: F,
    received: Frames,
    sent: Frames,
    budget: Budget,
}

impl<S, F> Guarded<S, F> {
    /// A connection that has yet to read the client's preface.
    pub fn new(io: S, flooded: F) -> Self {
        Self {
            io,
            flooded,
            received: Frames::after(PREFACE),
            sent: Frames::after(0),
            budget: Budget::new(Instant::now()),
        }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        let budget = &mut self.budget;
        self.sent.pass(bytes, |frame| {
            if matches!(frame.kind, DATA | HEADERS) {
                budget.earn(PER_ANSWER);
            }
        });
    }
}

impl<S: AsyncRead + Unpin, F: FnMut() + Unpin> AsyncRead for Guarded<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let mut control = 0;
        self.received.pass(&buf.filled()[before..], |frame| control += u32::from(frame.is_control()));
        if control > 0 && !self.budget.spend(control, Instant::now()) {
            (self.flooded)();
            return Poll::Ready(Err(io::Error::other("too many HTTP/2 control frames")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Guarded<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.wrote(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            self.wrote(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The control frames that a connection may still send.
struct Budget {
    left: f64,
    refilled: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    fn earn(&mut self, frames: f64) {
        self.left = (self.left + frames).min(BURST);
    }

    /// Takes this many frames; whether there were as many.
    fn spend(&mut self, frames: u32, now: Instant) -> bool {
        let since = now.duration_since(self.refilled);
        self.refilled = now;
        self.earn(since.as_secs_f64() * PER_SECOND);
        self.left -= f64::from(frames);
        self.left >= 0.0
    }
}

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Frame {
    fn of(head: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, ..] = head;
        Self { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags }
    }

    /// Whether it carries nothing of a request. Resets are left to h2, which bounds them.
    fn is_control(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS | RST_STREAM | CONTINUATION => false,
            _ => true,
        }
    }
}

/// Finds the heads of frames in bytes that pass by in pieces.
struct Frames {
    /// Bytes to pass before the next head.
    skip: usize,
    head: [u8; HEAD],
    /// How many bytes of the head have passed.
    have: usize,
}

impl Frames {
    fn after(skip: usize) -> Self {
        Self { skip, head: [0; HEAD], have: 0 }
    }

    fn pass(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let part = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEAD {
                let frame = Frame::of(self.head);
                (self.skip, self.have) = (frame.length, 0);
                seen(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_divided() {
        let all =
            [vec![0xff; PREFACE], frame(PING, 0, &[7; 8]), frame(DATA, 1, &[]), frame(HEADERS, 4, &[0; 300])]
                .concat();
        for size in 1..all.len() {
            let (mut frames, mut seen) = (Frames::after(PREFACE), Vec::new());
            all.chunks(size).for_each(|piece| frames.pass(piece, |f| seen.push((f.kind, f.flags, f.length))));
            assert_eq!(seen, [(PING, 0, 8), (DATA, 1, 0), (HEADERS, 4, 300)], "in pieces of {size}");
        }
    }

    #[test]
    fn only_frames_without_a_part_of_a_request_are_control_frames() {
        let control = |kind, flags, length| Frame { length, kind, flags }.is_control();
        for kind in [2, 4, 5, PING, 7, 8, 10, 200] {
            assert!(control(kind, 0, 4), "{kind}");
        }
        assert!(control(DATA, 0, 0));
        assert!(!control(DATA, END_STREAM, 0) && !control(DATA, 0, 1));
        assert!(![HEADERS, RST_STREAM, CONTINUATION].into_iter().any(|kind| control(kind, 0, 0)));
    }

    #[test]
    fn control_frames_are_earned_with_time() {
        let begin = Instant::now();
        let mut budget = Budget::new(begin);
        assert!(budget.spend(1_000, begin));
        let later = begin + Duration::from_secs(1);
        assert!(budget.spend(24 + 128, later));
        assert!(!budget.spend(1, later));
        // However long it rests, it may not send more than a burst.
        assert!(!budget.spend(1_025, later + Duration::from_secs(3_600)));
    }

    #[tokio::test]
    async fn control_frames_are_earned_with_each_frame_of_an_answer() {
        let (mut peer, server) = tokio::io::duplex(1 << 20);
        let mut closed = 0;
        let mut server = Guarded::new(server, || closed += 1);
        let mut into = vec![0; 1 << 20];
        let pings = |n: usize| frame(PING, 0, &[0; 8]).repeat(n);
        peer.write_all(&[vec![0; PREFACE], pings(1_024)].concat()).await.unwrap();
        assert!(server.read(&mut into).await.unwrap() > 16_000);

        let answer = frame(DATA, 0, b"answer");
        for _ in 0..250 {
            let parts = [IoSlice::new(&answer[..4]), IoSlice::new(&answer[4..])];
            assert_eq!(server.write_vectored(&parts).await.unwrap(), answer.len());
        }
        peer.write_all(&pings(1_000)).await.unwrap();
        assert!(server.read(&mut into).await.unwrap() > 16_000);
        peer.write_all(&pings(1_024)).await.unwrap();
        assert!(server.read(&mut into).await.is_err());
        assert_eq!(closed, 1);
    }
}
