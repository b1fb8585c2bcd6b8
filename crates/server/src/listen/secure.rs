//! The beginning of a connection: over TLS where the listener has certificates, and as it is otherwise.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::telemetry::Metrics;
use crate::tls::{Certificates, PeerService, service_of};

/// The first byte of a client that speaks TLS.
const HANDSHAKE: u8 = 22;
/// How long a client that does not may take for the answer.
const GOODBYE: Duration = Duration::from_secs(1);
/// To HTTP/1, as text; the connection ends after it.
const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: 41\r\n\r\n\
this port speaks TLS only: use https://.\n";
/// To HTTP/2: empty settings, and GOAWAY with `INADEQUATE_SECURITY`.
const SECURITY: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, //
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12,
];

pub(super) type Reader = Either<OwnedReadHalf, ReadHalf<Box<TlsStream<TcpStream>>>>;
pub(super) type Writer = Either<OwnedWriteHalf, WriteHalf<Box<TlsStream<TcpStream>>>>;

/// In the extensions of a request that came over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encrypted;

/// A connection that can be read and written.
pub(super) struct Opened {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) encrypted: Option<Encrypted>,
    /// The service that the peer has proven to be.
    pub(super) service: Option<PeerService>,
}

/// How connections to a listener begin; cloning shares it.
#[derive(Clone)]
pub(super) struct Opening {
    certificates: Option<Certificates>,
    handshakes: Handshakes,
    name: &'static str,
    metrics: Metrics,
}

impl Opening {
    pub(super) fn new(
        name: &'static str,
        certificates: Option<Certificates>,
        limits: &Limits,
        metrics: Metrics,
    ) -> Self {
        Self { certificates, handshakes: Handshakes::new(limits.handshakes), name, metrics }
    }

    /// Begins a connection. `None` for a client that closed it, or was closed: the caller limits the time.
    pub(super) async fn open(&self, stream: TcpStream) -> io::Result<Option<Opened>> {
        let Some(certificates) = &self.certificates else {
            let (reader, writer) = stream.into_split();
            let (reader, writer) = (Either::Left(reader), Either::Left(writer));
            return Ok(Some(Opened { reader, writer, encrypted: None, service: None }));
        };
        let mut first = [0; 3];
        let length = stream.peek(&mut first).await?;
        match first[..length] {
            [] => return Ok(None),
            [HANDSHAKE, ..] => {}
            _ => {
                self.metrics.handshake_failed(self.name);
                refuse_plain(stream, &first).await;
                return Ok(None);
            }
        }
        let handshake = self.handshakes.begin();
        let accepted = tokio::select! {
            biased;
            () = handshake.crowded_out.cancelled() => {
                self.metrics.refused(self.name, "handshakes");
                return Ok(None);
            }
            accepted = TlsAcceptor::from(certificates.server()).accept(stream) => accepted,
        };
        drop(handshake);
        let stream = accepted.inspect_err(|_| self.metrics.handshake_failed(self.name))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let service = shown.and_then(service_of).map(PeerService);
        let (reader, writer) = tokio::io::split(Box::new(stream));
        let (reader, writer) = (Either::Right(reader), Either::Right(writer));
        Ok(Some(Opened { reader, writer, encrypted: Some(Encrypted), service }))
    }
}

/// Says to a client that does not speak TLS what is wrong, and lets it read that.
async fn refuse_plain(mut stream: TcpStream, first: &[u8]) {
    let answer = if first == b"PRI" { SECURITY } else { USE_HTTPS };
    let say = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        // To close with something unread would take the answer back.
        tokio::io::copy(&mut (&mut stream).take(64 << 10), &mut tokio::io::sink()).await
    };
    // It is not owed an answer.
    let _ = tokio::time::timeout(GOODBYE, say).await;
}

/// The handshakes in progress of a listener, the longest first: without room, a new one takes the place of that one. So
/// clients that never end theirs keep nobody out.
#[derive(Clone)]
struct Handshakes {
    most: usize,
    state: Arc<Mutex<InProgress>>,
}

#[derive(Default)]
struct InProgress {
    next: u64,
    begun: VecDeque<(u64, CancellationToken)>,
}

impl Handshakes {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), state: Arc::default() }
    }

    fn begin(&self) -> Handshake {
        let mut state = foundry_core::lock(&self.state);
        while state.begun.len() >= self.most {
            if let Some((_, longest)) = state.begun.pop_front() {
                longest.cancel();
            }
        }
        state.next += 1;
        let (id, crowded_out) = (state.next, CancellationToken::new());
        state.begun.push_back((id, crowded_out.clone()));
        Handshake { id, crowded_out, all: self.clone() }
    }
}

/// A handshake in progress, until it is dropped.
struct Handshake {
    id: u64,
    crowded_out: CancellationToken,
    all: Handshakes,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        foundry_core::lock(&self.all.state).begun.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_handshake_takes_the_place_of_the_longest() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.begin(), handshakes.begin());
        drop(second);
        let third = handshakes.begin();
        assert!(!first.crowded_out.is_cancelled());
        let fourth = handshakes.begin();
        assert!(first.crowded_out.is_cancelled());
        assert!(!third.crowded_out.is_cancelled() && !fourth.crowded_out.is_cancelled());
        drop(first);
        assert_eq!(foundry_core::lock(&handshakes.state).begun.len(), 2);
    }

    #[test]
    fn the_answer_in_plain_text_has_the_length_that_it_says() {
        let text = std::str::from_utf8(USE_HTTPS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{text}");
    }
}
