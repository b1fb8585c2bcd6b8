//! A fake runtime with an agent that answers at once: HTTP, and the log that the real runtime would write. Like the
//! real one, it passes each request id on once.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use foundry_core::SessionId;
use foundry_sandbox::RuntimeKey;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Fixture;
use crate::runtime::drain_log;
use crate::shared::Shared;

/// The runtime of all sandboxes of a fixture; cloning shares it.
#[derive(Clone)]
pub struct FakeAgent(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    home: tempfile::TempDir,
    passed_on: Mutex<Vec<(String, String)>>,
    /// Log length at the start of each agent process, by conversation and attempt.
    starts: Mutex<std::collections::BTreeMap<String, u64>>,
    /// Paths of the files that were put into the sandbox.
    files: Mutex<Vec<String>>,
    /// Exit code and output of commands; none = they never end.
    says: Mutex<Option<(i32, String)>>,
    /// Number of commands and process listings that were requested.
    ran: watch::Sender<usize>,
    /// The agent's answers by method, as `Ok` or an error's message; other methods get the usual answer.
    answers: Mutex<std::collections::BTreeMap<&'static str, Result<Value, String>>>,
    /// The messages to the agent, in order.
    messages: Mutex<Vec<Value>>,
    /// How many more answers the agent takes; none = all.
    room: Mutex<Option<usize>>,
    /// How many messages were refused because the agent takes no more.
    refused: AtomicUsize,
    /// Changes when a log grows.
    grown: watch::Sender<()>,
    /// Whether prompts are left without an answer.
    stubborn: AtomicBool,
    /// How many of the next attempts to end the process fail.
    close_fails: AtomicUsize,
    closed: AtomicUsize,
}

impl FakeAgent {
    /// Serves the runtime; sandboxes that are made from now on have it.
    pub async fn serve(f: &Fixture) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".foundry/tap")).unwrap();
        f.provider.host().runtime = Some((listener.local_addr().unwrap().port(), home.path().to_owned()));
        let agent = Self(Arc::new(Inner {
            shared: Arc::clone(&f.shared),
            home,
            passed_on: Mutex::default(),
            starts: Mutex::default(),
            files: Mutex::default(),
            says: Mutex::default(),
            answers: Mutex::default(),
            messages: Mutex::default(),
            room: Mutex::default(),
            refused: AtomicUsize::default(),
            ran: watch::Sender::default(),
            grown: watch::Sender::default(),
            stubborn: AtomicBool::default(),
            close_fails: AtomicUsize::default(),
            closed: AtomicUsize::default(),
        }));
        let (serving, tasks) = (agent.clone(), f.shared.tasks.clone());
        f.shared.tasks.spawn("fake runtime", async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn("fake connection", serving.clone().answer(stream));
            }
        });
        agent
    }

    /// The methods of all messages to the agent, in order.
    pub fn asked(&self) -> Vec<String> {
        self.0.passed_on.lock().unwrap().iter().map(|(_, method)| method.clone()).collect()
    }

    /// Completes once the agent has got a request with this method.
    pub async fn until_requested(&self, method: &str) {
        let mut grown = self.0.grown.subscribe();
        // The log grows by each request.
        grown.wait_for(|()| self.asked().iter().any(|asked| asked == method)).await.unwrap();
    }

    /// All messages to the agent, in order.
    pub fn messages(&self) -> Vec<Value> {
        self.0.messages.lock().unwrap().clone()
    }

    /// The agent takes this many more answers and then none; none = all.
    pub fn takes(&self, answers: Option<usize>) {
        *self.0.room.lock().unwrap() = answers;
    }

    /// How many answers the agent did not take.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Sets the agent's answer to a method: a result, or an error with this message. With null it does not answer.
    pub fn answers(&self, method: &'static str, answer: Result<Value, String>) {
        self.0.answers.lock().unwrap().insert(method, answer);
    }

    /// The agent sends a message, and the log is read.
    pub async fn speaks(&self, session: &SessionId, message: Value) {
        self.says_all(session, [message]).await;
    }

    /// The agent sends all these messages at once, and the log is read.
    pub async fn says_all(&self, session: &SessionId, messages: impl IntoIterator<Item = Value>) {
        for message in messages {
            self.log(session.as_str(), json!({"kind": "message", "dir": "from_agent", "msg": message}));
        }
        drain_log(&self.0.shared, session).await.unwrap();
    }

    /// The agent sends a message, which only its pump will read.
    pub fn logs(&self, session: &SessionId, message: Value) {
        self.log(session.as_str(), json!({"kind": "message", "dir": "from_agent", "msg": message}));
    }

    /// The agent's process ends, and the log is read.
    pub async fn exits(&self, session: &SessionId) {
        self.log(session.as_str(), json!({"kind": "exit", "code": 1}));
        drain_log(&self.0.shared, session).await.unwrap();
    }

    /// The paths of files that were put into the sandbox, in order.
    pub fn files(&self) -> Vec<String> {
        self.0.files.lock().unwrap().clone()
    }

    /// The log of a conversation.
    pub fn read_log(&self, acp: &str) -> String {
        std::fs::read_to_string(self.path(acp)).unwrap()
    }

    fn put(&self, target: &str) -> Reply {
        let query = target.split_once('?').map(|(_, query)| query.as_bytes()).unwrap_or_default();
        let path = url::form_urlencoded::parse(query).find(|(name, _)| name == "path");
        self.0.files.lock().unwrap().extend(path.map(|(_, path)| path.into_owned()));
        Reply::json(json!({}))
    }

    /// Sets how commands end from now on.
    pub fn says(&self, exit_code: i32, stdout: &str) {
        *self.0.says.lock().unwrap() = Some((exit_code, stdout.to_owned()));
    }

    /// Commands never end from now on.
    pub fn hang(&self) {
        *self.0.says.lock().unwrap() = None;
    }

    /// Number of commands that were requested.
    pub fn commands(&self) -> usize {
        *self.0.ran.borrow()
    }

    /// Completes once this many commands were requested.
    pub async fn until_asked(&self, commands: usize) {
        self.0.ran.subscribe().wait_for(|ran| *ran >= commands).await.unwrap();
    }

    /// Prompts are left without an answer from now on, whether they are stopped or not.
    pub fn ignore_prompts(&self) {
        self.0.stubborn.store(true, Ordering::Relaxed);
    }

    /// The next attempts to end its process fail, this many.
    pub fn fail_to_close(&self, times: usize) {
        self.0.close_fails.store(times, Ordering::Relaxed);
    }

    /// How often the agent's process was ended.
    pub fn closed(&self) -> usize {
        self.0.closed.load(Ordering::Relaxed)
    }

    fn close(&self) -> Reply {
        let fails =
            self.0.close_fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if fails.is_ok() {
            return Reply { status: "500 Internal Server Error", ..Reply::default() };
        }
        self.0.closed.fetch_add(1, Ordering::Relaxed);
        Reply::json(json!({}))
    }

    async fn exec(&self) -> Reply {
        self.0.ran.send_modify(|ran| *ran += 1);
        let says = self.0.says.lock().unwrap().clone();
        let Some((code, stdout)) = says else { return std::future::pending().await };
        let stdout = base64::engine::general_purpose::STANDARD.encode(stdout);
        Reply::json(json!({"exit_code": code, "stdout": stdout}))
    }

    async fn processes(&self) -> Reply {
        self.0.ran.send_modify(|ran| *ran += 1);
        let says = self.0.says.lock().unwrap().clone();
        let Some((_, listing)) = says else { return std::future::pending().await };
        Reply { body: listing, ..Reply::default() }
    }

    /// Answers all requests of one connection.
    async fn answer(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some((head, body)) = read(&mut stream).await {
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let path = target.split('?').next().unwrap_or_default();
            let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
            let reply = match (method, parts.as_slice()) {
                ("POST", ["hello"]) => hello(&body),
                ("PUT", ["agents", acp]) => self.start(acp, &body),
                ("DELETE", ["agents", _]) => self.close(),
                ("POST", ["agents", acp, "messages"]) => self.post(acp, &body).await,
                ("GET", ["logs", acp]) => self.grown(acp, target).await,
                ("PUT", ["files"]) => self.put(target),
                ("POST", ["exec"]) => self.exec().await,
                ("GET", ["processes"]) => self.processes().await,
                _ => Reply { status: "404 Not Found", ..Reply::default() },
            };
            let response = format!(
                "HTTP/1.1 {}\r\nContent-Length: {}\r\nX-Log-Length: {}\r\n\r\n{}",
                reply.status,
                reply.body.len(),
                reply.log_length,
                reply.body
            );
            // The client may be gone already.
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn start(&self, acp: &str, wanted: &Value) -> Reply {
        let attempt = format!("{acp}/{}", wanted["attempt"]);
        let mut starts = self.0.starts.lock().unwrap();
        let known = starts.get(&attempt).copied();
        let offset = known.unwrap_or_else(|| std::fs::metadata(self.path(acp)).map_or(0, |m| m.len()));
        if known.is_none() {
            starts.insert(attempt, offset);
            self.log(acp, json!({"kind": "instance", "runtime_instance": "run1", "agent": "demo", "pid": 1}));
        }
        Reply::json(json!({"pid": 1, "log_offset": offset, "started": known.is_none()}))
    }

    /// Answers once the log is longer than the offset in the request.
    async fn grown(&self, acp: &str, target: &str) -> Reply {
        let offset = target.split(['?', '&']).find_map(|p| p.strip_prefix("offset=")?.parse::<u64>().ok());
        let mut grown = self.0.grown.subscribe();
        loop {
            let length = std::fs::metadata(self.path(acp)).map_or(0, |m| m.len());
            if Some(length) > offset || grown.changed().await.is_err() {
                return Reply { log_length: length, ..Reply::default() };
            }
        }
    }

    async fn post(&self, acp: &str, message: &Value) -> Reply {
        if message.get("method").is_none()
            && let Some(room) = self.0.room.lock().unwrap().as_mut()
        {
            let Some(left) = room.checked_sub(1) else {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                let busy = json!({"type": "busy", "detail": "the agent does not read its input"});
                return Reply { status: "503 Service Unavailable", ..Reply::json(busy) };
            };
            *room = left;
        }
        self.0.messages.lock().unwrap().push(message.clone());
        let (Some(id), Some(method)) = (message["id"].as_str(), message["method"].as_str()) else {
            if let Some(notified) = message["method"].as_str() {
                self.0.passed_on.lock().unwrap().push((String::new(), notified.to_owned()));
            }
            return Reply::json(json!({"outcome": "passed_on"}));
        };
        // Each agent has its own ids.
        let request = format!("{acp}/{id}");
        if self.0.passed_on.lock().unwrap().iter().any(|(known, _)| *known == request) {
            return Reply::json(json!({"outcome": "duplicate"}));
        }
        self.0.passed_on.lock().unwrap().push((request, method.to_owned()));
        self.log(acp, json!({"kind": "message", "dir": "to_agent", "msg": message}));
        let own = self.0.answers.lock().unwrap().get(method).cloned();
        let answer = match own {
            Some(Ok(Value::Null)) => {
                // The agent does not answer.
                return Reply::json(json!({"outcome": "passed_on"}));
            }
            Some(Ok(result)) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Some(Err(message)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": message}})
            }
            None => json!({"jsonrpc": "2.0", "id": id, "result": usual(method)}),
        };
        if method != "session/prompt" || !self.0.stubborn.load(Ordering::Relaxed) {
            self.log(acp, json!({"kind": "message", "dir": "from_agent", "msg": answer}));
        }
        if method == "session/prompt" || method.starts_with("session/set_") {
            // The log is read before the answer is sent, so that no test has to wait.
            let session: SessionId = acp.parse().unwrap();
            drain_log(&self.0.shared, &session).await.unwrap();
        }
        Reply::json(json!({"outcome": "passed_on"}))
    }

    fn path(&self, acp: &str) -> PathBuf {
        self.0.home.path().join(".foundry/tap").join(format!("{acp}.log"))
    }

    fn log(&self, acp: &str, mut record: Value) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path(acp)).unwrap();
        record["offset"] = file.metadata().unwrap().len().into();
        record["time"] = self.0.shared.env.clock.now().as_micros().into();
        file.write_all(format!("{record}\n").as_bytes()).unwrap();
        self.0.grown.send_replace(());
    }
}

/// The agent's answer to a request unless a test sets another one.
fn usual(method: &str) -> Value {
    match method {
        "session/new" => json!({"sessionId": "s1"}),
        "session/prompt" => json!({"stopReason": "end_turn"}),
        _ => json!({"protocolVersion": 1}),
    }
}

/// A response of the fake runtime.
struct Reply {
    status: &'static str,
    body: String,
    log_length: u64,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: "200 OK", body: String::new(), log_length: 0 }
    }
}

impl Reply {
    fn json(body: Value) -> Self {
        Self { body: body.to_string(), ..Self::default() }
    }
}

/// Proves that it has the key of the fixture's runtimes.
fn hello(greeting: &Value) -> Reply {
    let (ours, theirs) = ("0".repeat(64), greeting["nonce"].as_str().unwrap_or_default());
    let proof = RuntimeKey::default().runtime_proof(theirs, &ours);
    Reply::json(json!({"nonce": ours, "proof": proof, "instance": "run1", "version": 1}))
}

/// The first line of a request and its JSON.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut head).await.ok()?;
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, serde_json::from_slice(&body).unwrap_or_default()))
}
