//! What the tap decides about each message: record, pass on, refuse. Pure, but for the log it writes.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::log::{Sink, TapLog};
use super::record::{Direction, Entry};
use super::{CLOSE, DUPLICATE_REQUEST, META, RESYNC, UNRECORDED_REQUEST};

/// What to do with a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Write this line to the other side.
    Pass(Vec<u8>),
    /// Write this line back to where the message came from.
    Answer(Vec<u8>),
    /// Nothing.
    Drop,
    /// End the agent.
    End,
}

/// What `initialize` carries for the tap only.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Introduction {
    /// The agent session, which names the log.
    pub session: String,
    /// Credentials for the agent's environment.
    pub env: BTreeMap<String, String>,
}

/// Takes what is for the tap out of a message, so that it is neither recorded nor passed on.
pub(crate) fn take_introduction(message: &mut Value) -> Introduction {
    let Some(meta) = message.pointer_mut("/params/_meta").and_then(Value::as_object_mut) else {
        return Introduction::default();
    };
    let own = meta.remove(META).unwrap_or_default();
    if meta.is_empty()
        && let Some(params) = message.get_mut("params").and_then(Value::as_object_mut)
    {
        params.remove("_meta");
    }
    serde_json::from_value(own).unwrap_or_default()
}

/// The state of one agent process's conversation.
pub(crate) struct Filter<S> {
    pub log: TapLog<S>,
    /// Requests passed on: prompts ever, all others by this process.
    passed_on: HashSet<String>,
    /// Requests of the agent that wait for an answer.
    open: HashSet<String>,
}

impl<S: Sink> Filter<S> {
    pub fn new(log: TapLog<S>, prompts: HashSet<String>) -> Self {
        Self { log, passed_on: prompts, open: HashSet::new() }
    }

    /// A message from the runtime.
    pub fn runtime_said(&mut self, line: &[u8]) -> Verdict {
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            return self.not_json("a message from the runtime", line);
        };
        // A second initialize of the same process must not leak credentials either.
        take_introduction(&mut message);
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = message.get("id").cloned();
        match (method.as_str(), id) {
            (RESYNC, None) => Verdict::Drop,
            (CLOSE, None) => Verdict::End,
            ("", Some(id)) => self.answer_to_agent(id, message),
            (_, Some(id)) => self.request_to_agent(id, method, message),
            _ => {
                self.record(Direction::ToAgent, &message);
                pass(&message)
            }
        }
    }

    fn request_to_agent(&mut self, id: Value, method: String, message: Value) -> Verdict {
        if self.passed_on.contains(&id.to_string()) {
            let reason = "this request id was passed on before".to_owned();
            let answer = error(&id, DUPLICATE_REQUEST, &reason);
            self.log.append(Entry::Refused { id, method, reason });
            return Verdict::Answer(answer);
        }
        if !self.record(Direction::ToAgent, &message) {
            // Without a record a repetition could not be told from the first.
            return Verdict::Answer(error(&id, UNRECORDED_REQUEST, "the tap log cannot be written"));
        }
        self.passed_on.insert(id.to_string());
        pass(&message)
    }

    fn answer_to_agent(&mut self, id: Value, message: Value) -> Verdict {
        if !self.open.remove(&id.to_string()) {
            let reason = "no request of the agent with this id is open".to_owned();
            self.log.append(Entry::Refused { id, method: String::new(), reason });
            return Verdict::Drop;
        }
        self.record(Direction::ToAgent, &message);
        pass(&message)
    }

    /// A message from the agent.
    pub fn agent_said(&mut self, line: &[u8]) -> Verdict {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Verdict::Drop;
        }
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return self.not_json("a line of the agent", line);
        };
        if let (Some(_), Some(id)) = (message.get("method"), message.get("id")) {
            self.open.insert(id.to_string());
        }
        self.record(Direction::FromAgent, &message);
        pass(&message)
    }

    /// A line beyond the bound, from either side.
    pub fn too_long(&mut self, bytes: u64) {
        self.log.append(Entry::Lost {
            reason: "a message beyond the size limit".to_owned(),
            messages: 1,
            bytes,
        });
    }

    fn record(&mut self, dir: Direction, message: &Value) -> bool {
        self.log.append(Entry::Message { dir, msg: message.clone() })
    }

    fn not_json(&mut self, what: &str, line: &[u8]) -> Verdict {
        let start: String = String::from_utf8_lossy(line).chars().take(120).collect();
        let reason = format!("{what} that is not JSON: {start}");
        self.log.append(Entry::Lost { reason, messages: 1, bytes: line.len() as u64 });
        Verdict::Drop
    }
}

fn pass(message: &Value) -> Verdict {
    Verdict::Pass(line(message))
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn error(id: &Value, code: i64, message: &str) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }))
}

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
        Filter::new(log, HashSet::from(["\"old\"".to_owned()]))
    }

    fn passes(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Pass(_))
    }

    #[test]
    fn passes_a_request_id_on_once_and_answers_its_repetition_itself() {
        let mut f = filter();
        let prompt = br#"{"id":"m1","method":"session/prompt","params":{}}"#;
        assert!(passes(&f.runtime_said(prompt)));
        let Verdict::Answer(answer) = f.runtime_said(prompt) else { panic!("passed on twice") };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("m1"), &json!(DUPLICATE_REQUEST)));
        assert!(
            !passes(&f.runtime_said(br#"{"id":"old","method":"session/prompt"}"#)),
            "of an earlier process"
        );
    }

    #[test]
    fn passes_on_one_answer_to_each_request_of_the_agent() {
        let mut f = filter();
        assert_eq!(f.runtime_said(br#"{"id":7,"result":{}}"#), Verdict::Drop);
        assert!(passes(&f.agent_said(br#"{"id":7,"method":"session/request_permission"}"#)));
        assert!(passes(&f.runtime_said(br#"{"id":7,"result":{}}"#)));
        assert_eq!(f.runtime_said(br#"{"id":7,"result":{}}"#), Verdict::Drop);
    }

    #[test]
    fn neither_records_nor_passes_on_what_is_for_the_tap_only() {
        let mut f = filter();
        let hello = json!({"id": 1, "method": "initialize",
            "params": {"x": 1, "_meta": {"foundry": {"session": "agt_1", "env": {"KEY": "secret"}}}}});
        let introduction = take_introduction(&mut hello.clone());
        assert_eq!((introduction.session.as_str(), introduction.env["KEY"].as_str()), ("agt_1", "secret"));
        let Verdict::Pass(line) = f.runtime_said(hello.to_string().as_bytes()) else {
            panic!("not passed on")
        };
        let written = String::from_utf8(f.log_bytes()).unwrap() + &String::from_utf8(line).unwrap();
        assert!(!written.contains("secret") && !written.contains("_meta"), "{written}");
        assert_eq!(f.runtime_said(format!(r#"{{"method":"{RESYNC}"}}"#).as_bytes()), Verdict::Drop);
    }

    #[test]
    fn refuses_a_prompt_it_cannot_record_and_still_passes_on_what_the_agent_says() {
        let mut f = filter();
        f.log.sink_mut().full = true;
        let Verdict::Answer(answer) = f.runtime_said(br#"{"id":"m1","method":"session/prompt"}"#) else {
            panic!("passed on without a record")
        };
        assert!(String::from_utf8(answer).unwrap().contains(&UNRECORDED_REQUEST.to_string()));
        assert!(passes(&f.agent_said(br#"{"method":"session/update"}"#)));
        assert!(passes(&f.runtime_said(br#"{"method":"session/cancel"}"#)), "a turn can still be stopped");
    }

    #[test]
    fn marks_what_is_not_json_instead_of_passing_it_on() {
        let mut f = filter();
        assert_eq!(f.agent_said(b"Segmentation fault"), Verdict::Drop);
        assert_eq!(f.runtime_said(b"{\"id\":1,\"meth"), Verdict::Drop);
        assert_eq!(f.agent_said(b"  "), Verdict::Drop);
        let text = String::from_utf8(f.log_bytes()).unwrap();
        assert_eq!(text.matches("\"kind\":\"lost\"").count(), 2, "{text}");
        assert!(text.contains("Segmentation fault"));
    }

    impl Filter<Memory> {
        fn log_bytes(&mut self) -> Vec<u8> {
            self.log.sink_mut().bytes.clone()
        }
    }
}
