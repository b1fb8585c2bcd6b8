//! An HTTP proxy that tunnels, as companies have one.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What was to be connected to, and the header `Proxy-Authorization`.
type Requests = Vec<(String, Option<String>)>;

/// A proxy for `CONNECT` alone. Whatever host is asked for, it connects to that port of the loopback address: it knows
/// names that nobody else can resolve.
pub struct ConnectProxy {
    port: u16,
    requests: Arc<Mutex<Requests>>,
}

impl ConnectProxy {
    /// Starts it. With `wanted`, only requests with this pair of user name and password, in base64, are let through.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(wanted: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, wanted) = (Arc::clone(&requests), wanted.map(|pair| format!("Basic {pair}")));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, wanted) = (Arc::clone(&seen), wanted.clone());
                std::thread::spawn(move || drop(tunnel(&stream, &seen, wanted.as_deref())));
            }
        });
        Self { port, requests }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests so far: what was to be connected to, and the header `Proxy-Authorization`.
    pub fn requests(&self) -> Vec<(String, Option<String>)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn tunnel(client: &TcpStream, seen: &Mutex<Requests>, wanted: Option<&str>) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(client), client);
    let (mut first, mut authorization) = (String::new(), None);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("proxy-authorization") {
            authorization = Some(value.to_owned());
        }
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let asked = (target.clone(), authorization.clone());
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    if !first.starts_with("CONNECT ") || (wanted.is_some() && wanted != authorization.as_deref()) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        return writer.write_all(refusal.as_bytes());
    }
    let port: u16 = target.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(443);
    let server = TcpStream::connect(("127.0.0.1", port))?;
    writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    std::thread::scope(|both| {
        both.spawn(|| {
            let _ = std::io::copy(&mut reader, &mut &server);
            server.shutdown(Shutdown::Write)
        });
        let _ = std::io::copy(&mut &server, &mut &*client);
        client.shutdown(Shutdown::Both)
    })
}
