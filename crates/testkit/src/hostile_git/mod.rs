//! Servers of git's protocol over HTTP that keep no promise.

#![allow(clippy::expect_used)] // a failure here is a failed test

pub mod pack;

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A request, as far as it matters here.
pub struct Request {
    /// Path and query.
    pub target: String,
    /// The header `Git-Protocol`.
    pub protocol: String,
    /// The header `Content-Type`.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether it asks for a list of refs, in protocol 2.
    pub fn asks_for_refs(&self) -> bool {
        self.body.windows(7).any(|at| at == b"ls-refs")
    }
}

/// A server on loopback that answers every request, on a connection of its own, as the test says.
pub struct Server {
    port: u16,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(
        answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (answer, targets) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&targets);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let Ok(request) = read(&stream) else { return };
                    locked(&seen).push(request.target.clone());
                    // A client that goes away is what these tests are about.
                    let _ = answer(&request, &mut stream);
                });
            }
        });
        Self { port, targets }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Path and query of the requests so far.
    pub fn targets(&self) -> Vec<String> {
        locked(&self.targets).clone()
    }
}

fn locked(targets: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    targets.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request =
        Request { target, protocol: String::new(), content_type: String::new(), body: Vec::new() };
    let (mut size, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => size = value.parse().unwrap_or(0),
            "transfer-encoding" => chunked = value == "chunked",
            "git-protocol" => value.clone_into(&mut request.protocol),
            "content-type" => value.clone_into(&mut request.content_type),
            _ => {}
        }
    }
    assert!(!chunked, "a test sends large requests");
    reader.take(size).read_to_end(&mut request.body)?;
    Ok(request)
}

/// The head of a successful response to a request, without a length.
///
/// # Errors
/// When the client has gone.
pub fn head(out: &mut impl Write, request: &Request) -> std::io::Result<()> {
    let kind = if request.target.contains("info/refs") { "advertisement" } else { "result" };
    let kind = format!("application/x-git-upload-pack-{kind}");
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n")
}

/// A line of the protocol, with its length before it.
pub fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// What a server of protocol 2 says of itself.
pub fn capabilities(more: &str) -> String {
    let lines =
        ["version 2\n", "agent=git/evil\n", "ls-refs=unborn\n", "fetch=shallow\n", "object-format=sha1\n"];
    let lines: String = lines.iter().map(|text| line(text)).collect();
    let more = if more.is_empty() { String::new() } else { line(&format!("{more}\n")) };
    format!("{}0000{lines}{more}0000", line("# service=git-upload-pack\n"))
}

/// Answers in protocol 2: the capabilities, then this list of refs, then this response to `fetch`.
///
/// # Errors
/// When the client has gone.
pub fn answer(request: &Request, out: &mut TcpStream, refs: &str, fetched: &[u8]) -> std::io::Result<()> {
    head(out, request)?;
    if request.target.contains("info/refs") {
        return out.write_all(capabilities("").as_bytes());
    }
    if request.asks_for_refs() {
        return out.write_all(format!("{refs}0000").as_bytes());
    }
    out.write_all(fetched)
}

/// A list with this commit as `HEAD` and `main`.
pub fn one_branch(commit: &str) -> String {
    let head = line(&format!("{commit} HEAD symref-target:refs/heads/main\n"));
    format!("{head}{}", line(&format!("{commit} refs/heads/main\n")))
}

/// The response to `fetch` that sends this pack.
pub fn packfile(pack: &[u8]) -> Vec<u8> {
    let mut out = line("packfile\n").into_bytes();
    for piece in pack.chunks(60_000) {
        out.extend(format!("{:04x}\u{1}", piece.len() + 5).into_bytes());
        out.extend(piece);
    }
    out.extend(b"0000");
    out
}

/// Sends a byte a second, as one that is alive.
///
/// # Errors
/// When the client has gone.
pub fn drip(out: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    out.set_read_timeout(Some(Duration::from_secs(1)))?;
    for byte in bytes {
        out.write_all(&[*byte])?;
        if matches!(out.read(&mut [0]), Ok(0)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers as the real `git http-backend`, from the repositories below a directory.
///
/// # Errors
/// When the client has gone, or git is missing.
///
/// # Panics
/// When git takes no input.
pub fn honest(root: &Path, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .envs([("PATH_INFO", path), ("QUERY_STRING", query), ("GIT_PROTOCOL", &request.protocol)])
        .env("REQUEST_METHOD", if request.body.is_empty() { "GET" } else { "POST" })
        .env("CONTENT_TYPE", &request.content_type)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    backend.stdin.take().expect("its input").write_all(&request.body)?;
    let said = backend.wait_with_output()?.stdout;
    let end = said.windows(4).position(|at| at == b"\r\n\r\n").unwrap_or(said.len());
    let text = String::from_utf8_lossy(&said[..end]).into_owned();
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(out, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    out.write_all(&said)
}

/// Answers as a server of plain files below a directory.
///
/// # Errors
/// When the client has gone.
pub fn files(root: &Path, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
    let path = request.target.split('?').next().unwrap_or_default();
    match std::fs::read(root.join(path.trim_start_matches('/'))) {
        Ok(found) => {
            let size = found.len();
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")?;
            out.write_all(&found)
        }
        Err(_) => write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
