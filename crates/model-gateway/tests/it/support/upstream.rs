use foundry_core::Tasks;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::within;

/// A received request, and a signal for the end of its connection.
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
    pub closed: oneshot::Receiver<()>,
}

impl Received {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }
}

/// Parts of an answer, as they are sent.
pub enum Piece {
    Raw(Vec<u8>),
    /// Closes the connection.
    Close,
}

/// The provider's next answer.
pub struct Reply(mpsc::UnboundedReceiver<Piece>);

impl Reply {
    pub fn whole(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        let body = body.as_ref();
        let mut bytes = head(status, headers, &format!("content-length: {}", body.len()));
        bytes.extend_from_slice(body);
        tx.send(Piece::Raw(bytes)).unwrap();
        tx.send(Piece::Close).unwrap();
        Self(rx)
    }

    pub fn json(status: u16, body: &str) -> Self {
        Self::whole(status, &[("content-type", "application/json")], body)
    }

    /// A whole stream of events.
    pub fn events(body: &str) -> Self {
        let (stream, reply) = Self::stream();
        stream.send(body);
        stream.end();
        reply
    }

    /// A stream of events that the test feeds.
    pub fn stream() -> (Stream, Self) {
        Self::stream_of("text/event-stream; charset=utf-8")
    }

    /// A body of this type that the test feeds.
    pub fn stream_of(content_type: &str) -> (Stream, Self) {
        let (tx, rx) = mpsc::unbounded_channel();
        let bytes = head(200, &[("content-type", content_type)], "transfer-encoding: chunked");
        tx.send(Piece::Raw(bytes)).unwrap();
        (Stream(tx), Self(rx))
    }

    /// No answer until the test sends one.
    pub fn silent() -> (mpsc::UnboundedSender<Piece>, Self) {
        let (tx, rx) = mpsc::unbounded_channel();
        (tx, Self(rx))
    }

    /// Bytes that need not be HTTP.
    pub fn raw(text: &str) -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        tx.send(Piece::Raw(text.as_bytes().to_vec())).unwrap();
        tx.send(Piece::Close).unwrap();
        Self(rx)
    }

    pub fn close() -> Self {
        let (tx, rx) = mpsc::unbounded_channel();
        tx.send(Piece::Close).unwrap();
        Self(rx)
    }
}

fn head(status: u16, headers: &[(&str, &str)], length: &str) -> Vec<u8> {
    let fields: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{fields}{length}\r\n\r\n").into_bytes()
}

#[derive(Clone)]
pub struct Stream(mpsc::UnboundedSender<Piece>);

impl Stream {
    pub fn send(&self, data: &str) {
        let chunk = format!("{:x}\r\n{data}\r\n", data.len());
        self.0.send(Piece::Raw(chunk.into_bytes())).unwrap();
    }

    pub fn end(&self) {
        self.0.send(Piece::Raw(b"0\r\n\r\n".to_vec())).unwrap();
        self.0.send(Piece::Close).unwrap();
    }

    /// Ends without the end of the body.
    pub fn cut(&self) {
        self.0.send(Piece::Close).unwrap();
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    replies: mpsc::UnboundedSender<Reply>,
    received: Mutex<mpsc::UnboundedReceiver<Received>>,
}

impl Upstream {
    pub async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (replies, to_send) = mpsc::unbounded_channel();
        let (seen, received) = mpsc::unbounded_channel();
        let (to_send, inner) = (Arc::new(Mutex::new(to_send)), tasks.clone());
        tasks.spawn("upstream", async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                io.set_nodelay(true).unwrap();
                inner.spawn("upstream connection", answer(io, to_send.clone(), seen.clone()));
            }
        });
        Self { address, replies, received: Mutex::new(received) }
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn will(&self, reply: Reply) {
        self.replies.send(reply).unwrap();
    }

    pub async fn received(&self) -> Received {
        within(async { self.received.lock().await.recv().await }).await.unwrap()
    }

    pub async fn was_not_asked(&self) -> bool {
        self.received.lock().await.try_recv().is_err()
    }
}

/// One request on each connection.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    replies: Arc<Mutex<mpsc::UnboundedReceiver<Reply>>>,
    seen: mpsc::UnboundedSender<Received>,
) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    let (head, body_at, length) = loop {
        let n = reader.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..n]);
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head, end + 4, length.unwrap_or(0));
        }
    };
    while buffer.len() < body_at + length {
        let n = reader.read(&mut chunk).await.unwrap();
        buffer.extend_from_slice(&chunk[..n]);
    }
    let (tell, closed) = oneshot::channel();
    let body = buffer[body_at..body_at + length].to_vec();
    seen.send(Received { head, body, closed }).unwrap();
    let Some(mut reply) = replies.lock().await.recv().await else { return };
    loop {
        tokio::select! {
            piece = reply.0.recv() => match piece {
                Some(Piece::Raw(bytes)) => if writer.write_all(&bytes).await.is_err() { break },
                Some(Piece::Close) => {
                    let _ = writer.shutdown().await;
                    break;
                }
                None => {
                    let _ = reader.read(&mut chunk).await;
                    break;
                }
            },
            n = reader.read(&mut chunk) => if n.unwrap_or(0) == 0 { break },
        }
    }
    let _ = tell.send(());
}
