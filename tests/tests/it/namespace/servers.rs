//! Servers of the mesh's host and of the outside world: a resolver, files, fixed answers.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_rustls::TlsAcceptor;

/// Answers every connection with fixed words over HTTP.
pub fn say(listener: TcpListener, words: &str) {
    let length = words.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{words}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let Ok(mut stream) = stream else { return };
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
}

/// A resolver on the host's loopback. `turns.example.org` is public at its first look-up and loopback afterwards;
/// returns the counter of its look-ups.
pub fn names() -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let turned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&turned);
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let query = &packet[..length];
            let (mut name, mut at) = (String::new(), 12);
            while query[at] != 0 {
                let label = usize::from(query[at]);
                name = format!("{name}{}.", String::from_utf8_lossy(&query[at + 1..=at + label]));
                at += label + 1;
            }
            let wants_v4 = query[at + 2] == 1;
            let address: Option<[u8; 4]> = match name.trim_end_matches('.') {
                "turns.example.org" if wants_v4 => {
                    let first = count.fetch_add(1, Ordering::SeqCst) == 0;
                    Some(if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] })
                }
                "inside.example.org" => Some([10, 1, 2, 3]),
                "own.example.org" => Some([203, 0, 113, 50]),
                "localhost.example.org" => Some([127, 0, 0, 1]),
                name if name.ends_with(".example.org") => Some([192, 0, 2, 1]),
                _ => None,
            };
            let found = address.filter(|_| wants_v4);
            let mut out = query[..2].to_vec();
            out.extend([
                0x81,
                if address.is_some() { 0x80 } else { 0x83 },
                0,
                1,
                0,
                u8::from(found.is_some()),
            ]);
            out.extend([0, 0, 0, 0]);
            out.extend(&query[12..at + 5]);
            if let Some(address) = found {
                out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                out.extend(address);
            }
            let _ = socket.send_to(&out, from);
        }
    });
    turned
}

/// Serves the files below a directory over HTTP, or HTTPS with `tls`.
#[allow(clippy::disallowed_methods)] // a server of the test
pub async fn files(listener: TcpListener, tls: Option<TlsAcceptor>, site: PathBuf) {
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    async fn one(mut io: impl AsyncRead + AsyncWrite + Unpin, site: PathBuf) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            if io.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().trim_matches('/').replace("%2f", "/");
        let mut file = site.join(path);
        if file.is_dir() {
            file = file.join("index.html");
        }
        let (status, body) = match std::fs::read(&file) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let kind = if file.extension().is_some_and(|e| e == "html") {
            "text/html"
        } else {
            "application/octet-stream"
        };
        let kind = if file.ends_with("tiny-net") { "application/json" } else { kind };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        io.write_all(answer.as_bytes()).await?;
        io.write_all(&body).await?;
        io.shutdown().await
    }
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, site) = (tls.clone(), site.clone());
        tokio::spawn(async move {
            match tls {
                Some(tls) => one(tls.accept(stream).await?, site).await,
                None => one(stream, site).await,
            }
        });
    }
}
