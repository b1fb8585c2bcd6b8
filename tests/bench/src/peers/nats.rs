//! NATS core: publish and subscribe in memory, spoken as its text protocol
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>). Nothing is stored: it shows what delivery alone
//! costs.

use std::process::Command;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{Process, free_ports, in_path, version};
use crate::audience::{Ears, PUBLISHERS, Publish};
use crate::fan_out::{padded, per_connection};

const SUBJECT: &str = "changes";

/// A server with default settings.
pub struct Nats {
    process: Process,
    port: u16,
}

impl Nats {
    /// Starts it; returns it with its version.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<(Self, String), String> {
        let program = in_path("nats-server")?;
        let [port] = free_ports()?;
        let mut command = Command::new(&program);
        let mut process = Process::start(command.args(["-a", "127.0.0.1", "-p", &port.to_string()]))?;
        process.listens(port).await?;
        Ok((Self { process, port }, version(&program)?))
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Publishes stamps, with a connection for each publisher; a publication is complete when the server has answered
    /// the ping behind it.
    pub async fn publisher(&self) -> Publish {
        let mut connections = Vec::new();
        for _ in 0..PUBLISHERS {
            connections.push(Arc::new(Mutex::new(Connection::open(self.port).await.expect("a connection"))));
        }
        Arc::new(move |slot, stamp| {
            let connection = Arc::clone(&connections[slot % connections.len()]);
            Box::pin(async move {
                let payload = padded(&stamp);
                let command = format!("PUB {SUBJECT} {}\r\n{payload}\r\n", payload.len());
                connection.lock().await.confirmed(&command).await.map_err(|e| e.to_string())
            })
        })
    }

    /// Watchers, each with a subscription of its own.
    pub async fn watch(&self, watchers: usize) -> Vec<Ears> {
        let mut ears = Vec::new();
        for watchers in per_connection(watchers) {
            let mut connection = Connection::open(self.port).await.expect("a connection");
            let subscriptions: String = (0..watchers).map(|n| format!("SUB {SUBJECT} {n}\r\n")).collect();
            connection.confirmed(&subscriptions).await.expect("subscriptions");
            let messages = stream::unfold(connection, |mut connection| async move {
                let message = connection.message().await.ok()?;
                Some((message, connection))
            });
            ears.push(Ears { watchers, messages: messages.boxed() });
        }
        ears
    }
}

/// What the server sends.
#[derive(Debug, PartialEq)]
enum Received {
    Message(usize, Bytes),
    Ping,
    Pong,
    Other,
}

struct Connection {
    stream: BufStream<TcpStream>,
    read: BytesMut,
}

impl Connection {
    async fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufStream::new(stream), read: BytesMut::new() };
        connection.confirmed("CONNECT {\"verbose\":false}\r\n").await?;
        Ok(connection)
    }

    /// Sends commands and waits until the server has handled them.
    async fn confirmed(&mut self, commands: &str) -> std::io::Result<()> {
        self.send(&format!("{commands}PING\r\n")).await?;
        while self.receive().await? != Received::Pong {}
        Ok(())
    }

    /// The next message of a subscription.
    async fn message(&mut self) -> std::io::Result<(usize, Bytes)> {
        loop {
            match self.receive().await? {
                Received::Message(subscription, payload) => return Ok((subscription, payload)),
                Received::Ping => self.send("PONG\r\n").await?,
                Received::Pong | Received::Other => {}
            }
        }
    }

    async fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    async fn receive(&mut self) -> std::io::Result<Received> {
        loop {
            if let Some(received) = parse(&mut self.read)? {
                return Ok(received);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Takes the next complete item from the bytes read so far.
fn parse(read: &mut BytesMut) -> std::io::Result<Option<Received>> {
    let Some(end) = read.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
    let malformed = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not the protocol of NATS");
    let line = std::str::from_utf8(&read[..end]).map_err(|_| malformed())?;
    let words: Vec<&str> = line.split(' ').collect();
    let (received, after) = match words[..] {
        ["MSG", _, subscription, size] => {
            let subscription = subscription.parse().map_err(|_| malformed())?;
            let size: usize = size.parse().map_err(|_| malformed())?;
            if read.len() < end + 2 + size + 2 {
                return Ok(None);
            }
            let payload = Bytes::copy_from_slice(&read[end + 2..end + 2 + size]);
            (Received::Message(subscription, payload), size + 2)
        }
        ["PING"] => (Received::Ping, 0),
        ["PONG"] => (Received::Pong, 0),
        _ => (Received::Other, 0),
    };
    read.advance(end + 2 + after);
    Ok(Some(received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_items_when_they_are_complete() {
        let mut read = BytesMut::from("INFO {\"version\":\"2\"}\r\nPING\r\nMSG changes 83 5\r\nab\r\n");
        assert_eq!(parse(&mut read).unwrap(), Some(Received::Other));
        assert_eq!(parse(&mut read).unwrap(), Some(Received::Ping));
        assert_eq!(parse(&mut read).unwrap(), None, "two bytes of the payload and its end are missing");
        read.extend_from_slice(b"c\r\nPONG\r\nM");
        assert_eq!(parse(&mut read).unwrap(), Some(Received::Message(83, Bytes::from("ab\r\nc"))));
        assert_eq!(parse(&mut read).unwrap(), Some(Received::Pong));
        assert_eq!(parse(&mut read).unwrap(), None);
        parse(&mut BytesMut::from("MSG changes x 5\r\n")).unwrap_err();
    }
}
