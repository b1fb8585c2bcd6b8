//! A host of Git repositories over HTTP: real `git http-backend` behind a small server, with or without a password.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::lfs::LfsServer;

/// Serves all repositories below a directory, for fetches and pushes, on a port of its own. Cloning shares it.
#[derive(Clone)]
pub struct GitHttp {
    scheme: &'static str,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What `Authorization: Basic` must carry, encoded: one of these.
    wanted: Option<Vec<String>>,
    /// Whether a wrong pair is forbidden, instead of being asked for again.
    forbids: bool,
    /// Where every request is sent on to.
    redirect: Option<String>,
    /// Whether answers wait.
    held: bool,
    /// Whether pushes wait, once they were sent whole.
    pushes_held: bool,
    /// The requests so far: path, and the header `Authorization`.
    requests: Vec<(String, Option<String>)>,
    /// What answers requests below a path instead of git.
    api: Option<(&'static str, Handler)>,
    /// What answers requests for files of Git LFS.
    lfs: Option<LfsServer>,
}

/// Answers a request of an API; `None` breaks off the connection.
pub(crate) type Handler = Arc<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

/// The answer of an API.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl GitHttp {
    /// Starts it on a free port of the loopback address. Bare repositories accept a push with `http.receivepack=true`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(root: impl Into<PathBuf>) -> Self {
        Self::serve("http", root.into(), |shared, mut stream| answer(shared, &mut stream))
    }

    /// The same behind TLS, with a certificate.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start_tls(root: impl Into<PathBuf>, certificate: &Arc<rustls::ServerConfig>) -> Self {
        let certificate = Arc::clone(certificate);
        Self::serve("https", root.into(), move |shared, stream| {
            let tls =
                rustls::ServerConnection::new(Arc::clone(&certificate)).map_err(std::io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(tls, stream);
            answer(shared, &mut stream)?;
            stream.conn.send_close_notify();
            stream.flush()
        })
    }

    fn serve(
        scheme: &'static str,
        root: PathBuf,
        answer: impl Fn(&Shared, TcpStream) -> std::io::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { root, state: Mutex::default(), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, answer) = (Arc::clone(&serving), answer.clone());
                // A client that goes away is no failure of the test.
                std::thread::spawn(move || drop(answer(&shared, stream)));
            }
        });
        Self { scheme, port, shared }
    }

    /// The URL of a repository below the root.
    pub fn url(&self, repository: &str) -> String {
        format!("{}/{repository}", self.origin())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, only requests with this user name and password are answered; `None` = all. `encoded` is their pair
    /// in base64.
    pub fn require(&self, encoded: Option<&str>) {
        self.state(|state| state.wanted = encoded.map(|pair| vec![pair.to_owned()]));
    }

    /// Lets this pair in, besides those that are let in; `encoded` as for [`Self::require`].
    pub fn admit(&self, encoded: &str) {
        self.state(|state| state.wanted.get_or_insert_default().push(encoded.to_owned()));
    }

    /// From now on, a wrong pair is answered with 403 and a text that repeats it, as a careless server might.
    pub fn forbid(&self) {
        self.state(|state| state.forbids = true);
    }

    /// From now on, every request is sent on to this address.
    pub fn redirect(&self, to: &str) {
        self.state(|state| state.redirect = Some(to.to_owned()));
    }

    /// Holds all answers back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.state(|state| state.held = held);
    }

    /// Holds pushes back once they were sent whole, or has them go on, also those of clients that are gone.
    pub fn hold_pushes(&self, held: bool) {
        self.state(|state| state.pushes_held = held);
    }

    /// The requests so far: path, and the header `Authorization`.
    pub fn requests(&self) -> Vec<(String, Option<String>)> {
        self.state(|state| state.requests.clone())
    }

    /// Answers requests below a path of the host by this.
    pub(crate) fn serve_api(&self, below: &'static str, handler: Handler) {
        self.state(|state| state.api = Some((below, handler)));
    }

    /// Serves files of Git LFS for all repositories from now on.
    pub fn serve_lfs(&self) -> LfsServer {
        let lfs = LfsServer::at(self.origin());
        self.state(|state| state.lfs = Some(lfs.clone()));
        lfs
    }

    /// Waits until there are more than `before` requests.
    pub fn wait_for_request(&self, before: usize) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.shared.changed.wait_while(state, |state| state.requests.len() <= before);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    fn state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let used = use_it(&mut state);
        self.shared.changed.notify_all();
        used
    }
}

fn answer(shared: &Shared, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let request = read(stream)?;
    let authorization = request.header("authorization").map(str::to_owned);
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.requests.push((request.path.clone(), authorization.clone()));
    shared.changed.notify_all();
    let is_push = request.method == "POST" && request.path.ends_with("/git-receive-pack");
    let waits = |state: &mut State| state.held || (is_push && state.pushes_held);
    let state = shared.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
    let (wanted, redirect, forbids) = (state.wanted.clone(), state.redirect.clone(), state.forbids);
    let lfs = state.lfs.clone().filter(|_| request.path.contains("/info/lfs/"));
    let api = state.api.clone().filter(|(below, _)| request.path.starts_with(below));
    drop(state);
    if let Some(to) = redirect {
        let to = format!("{to}{}?{}", request.path, request.query);
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if let Some((_, handler)) = api {
        let Some(answer) = handler(&request) else { return Ok(()) };
        let Answer { status, headers, body } = answer;
        write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        return write!(stream, "Content-Type: application/json; charset=utf-8\r\n\r\n{body}");
    }
    let sent = authorization.as_deref().and_then(|value| value.strip_prefix("Basic "));
    if wanted.is_some_and(|wanted| !wanted.iter().any(|pair| Some(pair.as_str()) == sent)) {
        let status = if forbids && sent.is_some() { "403 Forbidden" } else { "401 Unauthorized" };
        let text = format!("access denied to {}\n", sent.unwrap_or_default());
        let size = text.len();
        return write!(
            stream,
            "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Type: text/plain\r\n\
             Content-Length: {size}\r\nConnection: close\r\n\r\n{text}"
        );
    }
    if let Some(lfs) = lfs {
        return lfs.answer(&request, stream);
    }
    let output = backend(&shared.root, &request)?;
    let end = output.windows(4).position(|at| at == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    stream.write_all(&output)
}

/// The answer of the program, with its own headers.
fn backend(root: &Path, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut program = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("REMOTE_USER", "tester")
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = program.stdin.take() {
        let body = request.body.clone();
        std::thread::spawn(move || drop(stdin.write_all(&body)));
    }
    Ok(program.wait_with_output()?.stdout)
}

fn line(reader: &mut impl std::io::BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    reader.read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn read(stream: &mut (impl Read + Write)) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    loop {
        let text = line(&mut reader)?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    if request.header("expect").is_some() {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
            (&mut reader).take(size).read_to_end(&mut request.body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        let size = request.header("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
        (&mut reader).take(size).read_to_end(&mut request.body)?;
    }
    Ok(request)
}
