//! A runtime with an agent that answers at once: HTTP, and the tap log that the real tap would write.
//! As the tap does, it passes each request id on once.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use foundry_core::SessionId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Fixture;
use crate::runtime::drain_log;
use crate::shared::Shared;

/// The tap's word for an id that it passed on before.
const DUPLICATE_REQUEST: i64 = -32_098;

/// The runtime of all sandboxes of a fixture; cloning shares it.
#[derive(Clone)]
pub struct FakeAgent(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    home: tempfile::TempDir,
    passed_on: Mutex<Vec<(String, String)>>,
    /// What commands that it runs end with and print; none = they never end.
    says: Mutex<Option<(i32, String)>>,
    /// The commands, in order.
    ran: watch::Sender<Vec<Vec<String>>>,
}

impl FakeAgent {
    /// Sandboxes that are made from now on have it.
    pub async fn serve(f: &Fixture) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".foundry/tap")).unwrap();
        f.provider.outside().runtime = Some((listener.local_addr().unwrap().port(), home.path().to_owned()));
        let agent = Self(Arc::new(Inner {
            shared: Arc::clone(&f.shared),
            home,
            passed_on: Mutex::default(),
            says: Mutex::default(),
            ran: watch::Sender::default(),
        }));
        let (serving, tasks) = (agent.clone(), f.shared.tasks.clone());
        f.shared.tasks.spawn("fake runtime", async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn("fake connection", serving.clone().answer(stream));
            }
        });
        agent
    }

    /// The methods of all requests that the agent was given, in order.
    pub fn asked(&self) -> Vec<String> {
        self.0.passed_on.lock().unwrap().iter().map(|(_, method)| method.clone()).collect()
    }

    /// Commands that it runs from now on end like this.
    pub fn says(&self, exit_code: i32, stdout: &str) {
        *self.0.says.lock().unwrap() = Some((exit_code, stdout.to_owned()));
    }

    /// Commands that it runs from now on never end.
    pub fn hang(&self) {
        *self.0.says.lock().unwrap() = None;
    }

    /// The commands that it was told to run.
    pub fn ran(&self) -> Vec<Vec<String>> {
        self.0.ran.borrow().clone()
    }

    /// Completes once it was told to run so many.
    pub async fn until_asked(&self, commands: usize) {
        self.0.ran.subscribe().wait_for(|ran| ran.len() >= commands).await.unwrap();
    }

    async fn exec(&self, body: &Value) -> (&'static str, Value) {
        let argv: Vec<String> = serde_json::from_value(body["args"].clone()).unwrap();
        self.0.ran.send_modify(|ran| ran.push(argv));
        let says = self.0.says.lock().unwrap().clone();
        let Some((code, stdout)) = says else { return std::future::pending().await };
        let output = json!({"exitCode": code, "timedOut": false, "stdout": stdout, "stderr": "",
            "stdoutTruncated": false, "stderrTruncated": false});
        ("200 OK", output)
    }

    /// One request per connection.
    async fn answer(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let Some((head, body)) = read(&mut stream).await else { return };
        let acp = head.split([' ', '?']).nth(1).and_then(|path| path.strip_prefix("/v1/acp/"));
        let (status, answer) = match acp {
            Some(acp) if head.starts_with("POST ") => self.post(acp, &body).await,
            None if head.starts_with("POST /v1/processes/run ") => self.exec(&body).await,
            // No stream of wake-ups, no list of anything.
            _ => ("404 Not Found", Value::Null),
        };
        let answer = if answer.is_null() { String::new() } else { answer.to_string() };
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        );
        // A client that is gone needs no answer.
        let _ = stream.write_all(response.as_bytes()).await;
    }

    async fn post(&self, acp: &str, message: &Value) -> (&'static str, Value) {
        let (Some(id), Some(method)) = (message["id"].as_str(), message["method"].as_str()) else {
            return ("202 Accepted", Value::Null);
        };
        if self.0.passed_on.lock().unwrap().iter().any(|(known, _)| known == id) {
            let error = json!({"code": DUPLICATE_REQUEST, "message": "passed on before"});
            return ("200 OK", json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        self.0.passed_on.lock().unwrap().push((id.to_owned(), method.to_owned()));
        if method == "initialize" {
            let agent = json!({"kind": "instance", "runtime_instance": "run1", "agent": "demo", "pid": 1});
            self.log(acp, agent);
        }
        let mut asked = message.clone();
        if let Some(params) = asked["params"].as_object_mut() {
            params.remove("_meta");
        }
        self.log(acp, json!({"kind": "message", "dir": "to_agent", "msg": asked}));
        let result = match method {
            "session/new" => json!({"sessionId": "s1"}),
            "session/prompt" => json!({"stopReason": "end_turn"}),
            _ => json!({"protocolVersion": 1}),
        };
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        self.log(acp, json!({"kind": "message", "dir": "from_agent", "msg": answer}));
        if method == "session/prompt" {
            // The log is read before the answer comes, so that nobody waits for time to pass.
            let session: SessionId = acp.parse().unwrap();
            drain_log(&self.0.shared, &session).await.unwrap();
        }
        ("200 OK", answer)
    }

    fn log(&self, acp: &str, mut record: Value) {
        let path: PathBuf = self.0.home.path().join(".foundry/tap").join(format!("{acp}.log"));
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        record["offset"] = file.metadata().unwrap().len().into();
        record["time"] = self.0.shared.env.clock.now().as_micros().into();
        file.write_all(format!("{record}\n").as_bytes()).unwrap();
    }
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
