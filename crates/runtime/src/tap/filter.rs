//! Decides about each message between client and agent: record, pass on, refuse, answer. No I/O besides the
//! log.

use std::collections::HashSet;

use foundry_sandbox::Direction;
use foundry_sandbox::tap::record::Entry;
use foundry_sandbox::wire::MODEL_URL;
use serde_json::{Value, json};

use super::log::{Sink, TapLog};

/// JSON-RPC: method not found.
const METHOD_NOT_FOUND: i64 = -32601;

/// Verdict on a message to the agent.
#[derive(Debug, PartialEq)]
pub(crate) enum ToAgent {
    /// Write this line to the agent.
    Pass(Vec<u8>),
    /// Passed on before, or an answer without an open request.
    Duplicate,
    /// A request that could not be recorded.
    Unrecorded,
    /// Not a JSON-RPC message.
    Malformed,
    /// It names the address of the model gateway, and there is none.
    NoGateway,
}

/// The state of one agent process's conversation.
pub(crate) struct Filter<S> {
    pub log: TapLog<S>,
    /// Methods of the agent that the client answers.
    offers: HashSet<String>,
    /// Base URL of the forwarder; none = no model gateway.
    model_url: Option<String>,
    /// Requests passed on: prompts ever, all others by this process.
    passed_on: HashSet<String>,
    /// Requests of the agent without an answer so far.
    open: HashSet<String>,
}

impl<S: Sink> Filter<S> {
    pub fn new(
        log: TapLog<S>,
        prompts: HashSet<String>,
        offers: HashSet<String>,
        model_url: Option<String>,
    ) -> Self {
        Self { log, offers, model_url, passed_on: prompts, open: HashSet::new() }
    }

    /// A message from the client.
    pub fn accept(&mut self, body: &[u8]) -> ToAgent {
        let Ok(mut message @ Value::Object(_)) = serde_json::from_slice::<Value>(body) else {
            return ToAgent::Malformed;
        };
        if !self.place_gateway(&mut message) {
            return ToAgent::NoGateway;
        }
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = message.get("id").cloned();
        match (method.as_str(), id) {
            ("", Some(id)) => self.answer_to_agent(id, message),
            (_, Some(id)) => self.request_to_agent(id, method, message),
            ("", None) => ToAgent::Malformed,
            _ => {
                // Passed on even when it cannot be recorded: a cancel must get through.
                self.record(Direction::ToAgent, &message);
                ToAgent::Pass(line(&message))
            }
        }
    }

    /// Fills in the address of the forwarder: in the addresses of tools that are reached through the model gateway, and
    /// in the agent's sign-in. False when it is needed and there is none.
    fn place_gateway(&self, message: &mut Value) -> bool {
        if message.get("method").is_some_and(|method| method == "authenticate") {
            return message.pointer_mut("/params/_meta").is_none_or(|meta| self.fill(meta));
        }
        for url in servers(message).filter_map(|server| server.get_mut("url")) {
            let Some(rest) = url.as_str().and_then(|text| text.strip_prefix(MODEL_URL)) else { continue };
            let Some(base) = &self.model_url else { return false };
            *url = format!("{base}{rest}").into();
        }
        true
    }

    fn fill(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) if text.contains(MODEL_URL) => {
                let Some(base) = &self.model_url else { return false };
                *text = text.replace(MODEL_URL, base);
                true
            }
            Value::Array(all) => all.iter_mut().all(|one| self.fill(one)),
            Value::Object(members) => members.values_mut().all(|one| self.fill(one)),
            _ => true,
        }
    }

    fn request_to_agent(&mut self, id: Value, method: String, message: Value) -> ToAgent {
        if self.passed_on.contains(&id.to_string()) {
            let reason = "this request id was already used".to_owned();
            self.log.append(Entry::Refused { id, method, reason });
            return ToAgent::Duplicate;
        }
        if !self.record(Direction::ToAgent, &message) {
            // Without a record a repetition could not be detected.
            return ToAgent::Unrecorded;
        }
        self.passed_on.insert(id.to_string());
        ToAgent::Pass(line(&message))
    }

    fn answer_to_agent(&mut self, id: Value, message: Value) -> ToAgent {
        if !self.open.remove(&id.to_string()) {
            let reason = "the agent has no open request with this id".to_owned();
            self.log.append(Entry::Refused { id, method: String::new(), reason });
            return ToAgent::Duplicate;
        }
        self.record(Direction::ToAgent, &message);
        ToAgent::Pass(line(&message))
    }

    /// A line from the agent. Returns the error for a request whose method is not offered: without an answer
    /// the agent would never end its turn.
    pub fn agent_said(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let Ok(message) = serde_json::from_slice::<Value>(bytes) else {
            self.not_json(bytes);
            return None;
        };
        self.record(Direction::FromAgent, &message);
        let method = message.get("method").and_then(Value::as_str)?;
        let id = message.get("id").filter(|id| !id.is_null())?;
        if self.offers.contains(method) {
            self.open.insert(id.to_string());
            return None;
        }
        let text = format!("{method} is not supported by Foundry");
        let answer = json!({
            "jsonrpc": "2.0", "id": id, "error": { "code": METHOD_NOT_FOUND, "message": text },
        });
        self.record(Direction::ToAgent, &answer);
        Some(line(&answer))
    }

    /// A line of the agent beyond the size limit.
    pub fn too_long(&mut self, bytes: u64) {
        self.lost("a message over the size limit".to_owned(), bytes);
    }

    fn not_json(&mut self, bytes: &[u8]) {
        let start: String = String::from_utf8_lossy(bytes).chars().take(120).collect();
        self.lost(format!("a line from the agent that is not JSON: {start}"), bytes.len() as u64);
    }

    fn lost(&mut self, reason: String, bytes: u64) {
        self.log.append(Entry::Lost { reason, messages: 1, bytes });
    }

    fn record(&mut self, dir: Direction, message: &Value) -> bool {
        self.log.append(Entry::Message { dir, msg: without_secrets(message) })
    }
}

/// The message for the log: without the secrets of tools and sign-in, which the agent gets.
fn without_secrets(message: &Value) -> Value {
    let mut copy = message.clone();
    for server in servers(&mut copy) {
        for list in ["env", "headers"] {
            let named = server.get_mut(list).and_then(Value::as_array_mut);
            for value in named.into_iter().flatten().filter_map(|n| n.get_mut("value")) {
                *value = HIDDEN.into();
            }
        }
    }
    if method_of(message) == "authenticate"
        && let Some(meta) = copy.pointer_mut("/params/_meta")
    {
        *meta = HIDDEN.into();
    }
    copy
}

fn method_of(message: &Value) -> &str {
    message.get("method").and_then(Value::as_str).unwrap_or_default()
}

/// The MCP servers of a request that opens a session.
fn servers(message: &mut Value) -> impl Iterator<Item = &mut Value> {
    let opens = matches!(method_of(message), "session/new" | "session/load" | "session/resume");
    let servers = opens.then(|| message.pointer_mut("/params/mcpServers")).flatten();
    servers.and_then(Value::as_array_mut).into_iter().flatten()
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Replaces a secret in the log.
const HIDDEN: &str = "***";

#[cfg(test)]
mod tests {
    use std::io;

    use foundry_core::SystemClock;

    use super::*;

    #[derive(Default)]
    struct Memory {
        bytes: Vec<u8>,
        full: bool,
    }

    impl Sink for Memory {
        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(bytes);
            Ok(())
        }

        fn truncate(&mut self, _length: u64) -> io::Result<()> {
            Ok(())
        }
    }

    fn filter() -> Filter<Memory> {
        let log = TapLog::new(Memory::default(), 0, Box::new(SystemClock));
        let offers = HashSet::from(["session/request_permission".to_owned()]);
        Filter::new(log, HashSet::from(["\"old\"".to_owned()]), offers, Some("http://127.0.0.1:7".to_owned()))
    }

    #[test]
    fn tells_the_agent_where_tools_behind_the_gateway_are_and_changes_nothing_else() {
        let mut f = filter();
        let servers = |gateway: &str| {
            json!([
                {"type": "http", "name": "a", "url": format!("{gateway}/mcp/a"), "headers": []},
                {"type": "http", "name": "b", "url": format!("http://x/{MODEL_URL}"), "headers": []},
                {"name": "c", "command": MODEL_URL, "args": [], "env": []},
            ])
        };
        for (id, method) in ["session/new", "session/load", "session/resume"].into_iter().enumerate() {
            let ask = |servers| json!({"id": id, "method": method, "params": {"mcpServers": servers}});
            let given = ask(servers(MODEL_URL)).to_string();
            let wanted = ToAgent::Pass(line(&ask(servers("http://127.0.0.1:7"))));
            assert_eq!(f.accept(given.as_bytes()), wanted);
        }
        let prompt =
            json!({"id": 9, "method": "session/prompt", "params": {"mcpServers": servers(MODEL_URL)}});
        assert_eq!(f.accept(prompt.to_string().as_bytes()), ToAgent::Pass(line(&prompt)));
        f.model_url = None;
        let lost = json!({"id": 10, "method": "session/new", "params": {"mcpServers": servers(MODEL_URL)}});
        assert_eq!(f.accept(lost.to_string().as_bytes()), ToAgent::NoGateway);
    }

    #[test]
    fn tells_the_agent_where_the_gateway_is_by_its_sign_in() {
        let mut f = filter();
        let sign_in = |id: i64, gateway: &str| {
            let meta =
                json!({"gateway": {"baseUrl": format!("{gateway}/v1"), "headers": {"x-api-key": "token"}}});
            json!({"id": id, "method": "authenticate", "params": {"methodId": "gateway", "_meta": meta}})
        };
        let wanted = ToAgent::Pass(line(&sign_in(1, "http://127.0.0.1:7")));
        assert_eq!(f.accept(sign_in(1, MODEL_URL).to_string().as_bytes()), wanted);
        let bare = json!({"id": 2, "method": "authenticate", "params": {"methodId": "key"}});
        assert_eq!(f.accept(bare.to_string().as_bytes()), ToAgent::Pass(line(&bare)));
        f.model_url = None;
        assert_eq!(f.accept(sign_in(3, MODEL_URL).to_string().as_bytes()), ToAgent::NoGateway);
    }

    fn passes(said: &ToAgent) -> bool {
        matches!(said, ToAgent::Pass(_))
    }

    #[test]
    fn passes_a_request_id_on_once() {
        let mut f = filter();
        let prompt = br#"{"id":"m1","method":"session/prompt","params":{}}"#;
        assert!(passes(&f.accept(prompt)));
        assert_eq!(f.accept(prompt), ToAgent::Duplicate);
        let earlier = f.accept(br#"{"id":"old","method":"session/prompt"}"#);
        assert_eq!(earlier, ToAgent::Duplicate, "of an earlier process");
        assert_eq!(f.log_text().matches("\"kind\":\"refused\"").count(), 2);
    }

    #[test]
    fn passes_on_one_answer_to_each_request_of_the_agent() {
        let mut f = filter();
        assert_eq!(f.accept(br#"{"id":7,"result":{}}"#), ToAgent::Duplicate);
        assert_eq!(f.agent_said(br#"{"id":7,"method":"session/request_permission"}"#), None);
        assert!(passes(&f.accept(br#"{"id":7,"result":{}}"#)));
        assert_eq!(f.accept(br#"{"id":7,"result":{}}"#), ToAgent::Duplicate);
    }

    #[test]
    fn answers_a_request_that_is_not_offered_and_accepts_no_second_answer() {
        let mut f = filter();
        let answer = f.agent_said(br#"{"id":9,"method":"fs/write_text_file","params":{}}"#).unwrap();
        assert_eq!(answer.last(), Some(&b'\n'));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(9), &json!(METHOD_NOT_FOUND)));
        assert_eq!(answer["error"]["message"], "fs/write_text_file is not supported by Foundry");
        let text = f.log_text();
        let directions: Vec<usize> =
            ["from_agent", "to_agent"].iter().map(|d| text.find(*d).unwrap()).collect();
        assert!(directions.is_sorted(), "{text}");
        assert_eq!(f.accept(br#"{"id":9,"result":{}}"#), ToAgent::Duplicate);
        assert_eq!(f.agent_said(br#"{"method":"fs/changed"}"#), None, "a notification is not answered");
        assert_eq!(f.agent_said(br#"{"id":1,"result":{}}"#), None, "an answer is not answered");
    }

    #[test]
    fn refuses_a_prompt_that_cannot_be_recorded_but_passes_a_cancel_on() {
        let mut f = filter();
        f.log.sink_mut().full = true;
        let prompt = br#"{"id":"m1","method":"session/prompt"}"#;
        assert_eq!(f.accept(prompt), ToAgent::Unrecorded);
        assert!(passes(&f.accept(br#"{"method":"session/cancel"}"#)), "a turn can still be stopped");
        f.log.sink_mut().full = false;
        assert!(passes(&f.accept(prompt)), "the same request again");
    }

    #[test]
    fn records_output_that_is_not_json_as_lost_and_rejects_malformed_messages() {
        let mut f = filter();
        assert_eq!(f.agent_said(b"Segmentation fault"), None);
        assert_eq!(f.agent_said(b"  "), None);
        for nonsense in [b"{\"id\":1,\"meth".as_slice(), b"[]", b"{}", b"7", b""] {
            assert_eq!(f.accept(nonsense), ToAgent::Malformed);
        }
        let text = f.log_text();
        assert_eq!(text.matches("\"kind\":\"lost\"").count(), 1, "{text}");
        assert!(text.contains("Segmentation fault"));
    }

    impl Filter<Memory> {
        fn log_text(&mut self) -> String {
            String::from_utf8(self.log.sink_mut().bytes.clone()).unwrap()
        }
    }

    #[test]
    fn secrets_of_tools_and_of_a_sign_in_are_not_recorded() {
        let session = json!({"id": 1, "method": "session/new", "params": {"cwd": "/w", "mcpServers": [
            {"name": "a", "env": [{"name": "TOKEN", "value": "canary-1"}]},
            {"name": "b", "headers": [{"name": "authorization", "value": "canary-2"}]},
        ]}});
        let sign_in = json!({"id": 2, "method": "authenticate",
            "params": {"methodId": "gateway", "_meta": {"headers": {"x-api-key": "canary-3"}}}});
        let prompt = json!({"id": 3, "method": "session/prompt", "params": {"prompt": "canary-4"}});
        let recorded = [session, sign_in, prompt].map(|m| without_secrets(&m).to_string()).concat();
        for (secret, there) in
            [("canary-1", false), ("canary-2", false), ("canary-3", false), ("canary-4", true)]
        {
            assert_eq!(recorded.contains(secret), there, "{secret}");
        }
        assert!(recorded.contains("TOKEN") && recorded.contains("methodId"), "{recorded}");
    }
}
