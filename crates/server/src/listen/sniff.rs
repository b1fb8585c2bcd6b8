//! The first bytes of a connection, awaited with a timeout.
//!
//! hyper distinguishes HTTP/1 and HTTP/2 by the preface and waits for it without a limit: a silent connection would
//! stay for ever, and delay a shutdown.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol, by the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is known and returns it, and the connection with those bytes put back. `None` when the peer
/// closed before that.
pub(super) async fn speaks<R>(
    mut stream: R,
) -> io::Result<Option<(Protocol, impl AsyncRead + Unpin + Send + 'static)>>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let mut first = [0u8; PREFACE.len()];
    let mut len = 0;
    while len < first.len() && first[..len] == PREFACE[..len] {
        match stream.read(&mut first[len..]).await? {
            0 => return Ok(None),
            read => len += read,
        }
    }
    let protocol = if first == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    let replay = io::Cursor::new(first[..len].to_vec());
    Ok(Some((protocol, replay.chain(stream))))
}
