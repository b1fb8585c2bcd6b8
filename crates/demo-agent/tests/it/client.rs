//! A client: sends lines, collects a turn's updates, and describes them in short texts.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Clock, Tasks, Timestamp};
use foundry_demo_agent::{DemoOptions, Ended, run};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::sync::oneshot;

/// Far longer than anything takes; only a test that would hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock on which every wait ends at once.
pub struct Instantly;

#[async_trait::async_trait]
impl Clock for Instantly {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    async fn sleep(&self, _: Duration) {}
}

/// A clock on which no wait ever ends.
pub struct Never;

#[async_trait::async_trait]
impl Clock for Never {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending::<()>().await;
    }
}

/// Options without any pause between chunks, on this clock.
pub fn options(clock: impl Clock) -> DemoOptions {
    DemoOptions { clock: Arc::new(clock), chunk_pause: Duration::ZERO, ..DemoOptions::default() }
}

pub struct Client {
    pub dir: tempfile::TempDir,
    pub session: String,
    to: Option<DuplexStream>,
    from: Lines<BufReader<DuplexStream>>,
    ended: oneshot::Receiver<Ended>,
    sent: u64,
    _tasks: Tasks,
}

/// What a prompt led to.
pub struct Turn {
    pub updates: Vec<Value>,
    pub answer: Value,
}

impl Client {
    /// An agent with a session in a new directory.
    pub async fn start() -> Self {
        Self::start_with(options(foundry_core::SystemClock)).await
    }

    pub async fn start_with(options: DemoOptions) -> Self {
        let mut client = Self::unopened(options);
        client
            .request(
                "initialize",
                json!({ "protocolVersion": 1, "clientCapabilities": { "elicitation": { "form": {} } } }),
            )
            .await;
        assert!(client.receive().await["result"].is_object());
        client.session = client.open().await;
        client
    }

    /// An agent that has received nothing yet.
    pub fn unopened(options: DemoOptions) -> Self {
        let (to, input) = tokio::io::duplex(64 << 10);
        let (output, from) = tokio::io::duplex(64 << 10);
        let (tasks, _) = Tasks::new();
        let (end, ended) = oneshot::channel();
        tasks.spawn("agent", async move {
            let _ = end.send(run(input, output, options).await);
        });
        Self {
            dir: tempfile::tempdir().unwrap(),
            session: String::new(),
            to: Some(to),
            from: BufReader::new(from).lines(),
            ended,
            sent: 0,
            _tasks: tasks,
        }
    }

    /// Opens one more session in the same directory.
    pub async fn open(&mut self) -> String {
        let cwd = self.dir.path().to_owned();
        self.request("session/new", json!({ "cwd": cwd, "mcpServers": [] })).await;
        let session = self.receive().await["result"]["sessionId"].as_str().unwrap().to_owned();
        let commands = self.receive().await;
        assert_eq!(commands["params"]["update"]["sessionUpdate"], "available_commands_update");
        session
    }

    pub async fn line(&mut self, line: &[u8]) {
        let to = self.to.as_mut().unwrap();
        to.write_all(line).await.unwrap();
        to.write_all(b"\n").await.unwrap();
    }

    pub async fn send(&mut self, message: Value) {
        self.line(message.to_string().as_bytes()).await;
    }

    /// Sends a request and returns its id.
    pub async fn request(&mut self, method: &str, params: Value) -> u64 {
        self.sent += 1;
        self.send(json!({ "jsonrpc": "2.0", "id": self.sent, "method": method, "params": params })).await;
        self.sent
    }

    pub async fn prompt(&mut self, text: &str) -> u64 {
        let session = self.session.clone();
        self.prompt_in(&session, text).await
    }

    pub async fn prompt_in(&mut self, session: &str, text: &str) -> u64 {
        let prompt = json!([{ "type": "text", "text": text }]);
        self.request("session/prompt", json!({ "sessionId": session, "prompt": prompt })).await
    }

    pub async fn cancel(&mut self) {
        let params = json!({ "sessionId": self.session });
        self.send(json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": params })).await;
    }

    /// The next message of the agent.
    pub async fn receive(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.from.next_line()).await.expect("the agent is silent");
        serde_json::from_str(&line.unwrap().expect("the agent has ended")).unwrap()
    }

    /// Reads until `wanted` holds for a message; the messages before it and it.
    pub async fn receive_until(&mut self, wanted: impl Fn(&Value) -> bool) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.receive().await;
            if wanted(&message) {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// Reads until a request is answered.
    pub async fn answer_to(&mut self, id: u64) -> Turn {
        let (updates, answer) = self.receive_until(|m| m["id"] == id && m.get("method").is_none()).await;
        Turn { updates, answer }
    }

    /// A whole turn.
    pub async fn turn(&mut self, text: &str) -> Turn {
        let id = self.prompt(text).await;
        self.answer_to(id).await
    }

    /// Waits until the agent is in the middle of a tool call.
    pub async fn until_in_progress(&mut self) {
        self.receive_until(|m| m["params"]["update"]["status"] == "in_progress").await;
    }

    /// Answers a request of the agent.
    pub async fn select(&mut self, request: &Value, option: &str) {
        let outcome = json!({ "outcome": { "outcome": "selected", "optionId": option } });
        self.send(json!({ "jsonrpc": "2.0", "id": request["id"], "result": outcome })).await;
    }

    /// Closes the agent's input.
    pub fn hang_up(&mut self) {
        self.to = None;
    }

    pub async fn ended(self) -> Ended {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the agent does not end").unwrap()
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    pub fn put(&self, name: &str, content: &str) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }
}

impl Turn {
    pub fn stop_reason(&self) -> &str {
        self.answer["result"]["stopReason"].as_str().unwrap_or_else(|| panic!("{}", self.answer))
    }

    /// All messages of the turn, thoughts left out.
    pub fn said(&self) -> String {
        let chunks = self.updates.iter().map(|u| &u["params"]["update"]);
        chunks
            .filter(|u| u["sessionUpdate"] == "agent_message_chunk")
            .map(|u| u["content"]["text"].as_str().unwrap())
            .collect()
    }

    /// The updates as short texts, the pieces of one message joined.
    pub fn summary(&self) -> Vec<String> {
        let mut summary: Vec<String> = Vec::new();
        let mut message = Value::Null;
        for update in &self.updates {
            assert_eq!(update["method"], "session/update", "{update}");
            let update = &update["params"]["update"];
            if update["sessionUpdate"] == "agent_message_chunk" {
                let text = update["content"]["text"].as_str().unwrap();
                match summary.last_mut() {
                    Some(last) if message == update["messageId"] => last.push_str(&format!("|{text}")),
                    _ => summary.push(format!("says: {text}")),
                }
                message = update["messageId"].clone();
            } else {
                summary.push(in_short(update));
            }
        }
        summary
    }
}

fn in_short(update: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    match update["sessionUpdate"].as_str().unwrap() {
        "agent_thought_chunk" => format!("thinks: {}", text(&update["content"]["text"])),
        "plan" => {
            let entries = update["entries"].as_array().unwrap();
            let marks = entries.iter().map(|e| match e["status"].as_str().unwrap() {
                "completed" => 'x',
                "in_progress" => '>',
                _ => '.',
            });
            format!("plan {}", marks.collect::<String>())
        }
        "tool_call" => {
            let kind = if update["kind"].is_null() { "other".to_owned() } else { text(&update["kind"]) };
            assert!(update["status"].is_null(), "pending is the default and left out: {update}");
            format!("{} {kind}: {}", text(&update["toolCallId"]), text(&update["title"]))
        }
        "tool_call_update" => {
            let mut short = format!("{} {}", text(&update["toolCallId"]), text(&update["status"]));
            for content in update["content"].as_array().into_iter().flatten() {
                short.push_str(&match content["type"].as_str().unwrap() {
                    "diff" => format!(" {} → {}", content["oldText"], content["newText"]),
                    _ => format!(" {}", content["content"]["text"]),
                });
            }
            short
        }
        other @ ("session_info_update" | "usage_update" | "config_option_update") => other.to_owned(),
        other => panic!("unknown update {other}"),
    }
}
