//! Conversations with the scripted agent.

use foundry_sandbox::Direction;
use foundry_sandbox::tap::record::{Entry, Record};
use foundry_sandbox::wire::{AgentStart, AgentStarted, Delivered, Outcome};
use serde_json::{Value, json};

use crate::caller::Caller;

/// The scripted agent, started by this attempt.
pub fn scripted(attempt: &str) -> AgentStart {
    started_as(attempt, &[env!("CARGO_BIN_EXE_foundry-runtime-scripted-agent")])
}

pub fn started_as(attempt: &str, argv: &[&str]) -> AgentStart {
    AgentStart {
        agent: "scripted".into(),
        attempt: attempt.into(),
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        offers: vec!["session/request_permission".into()],
        ..AgentStart::default()
    }
}

pub fn prompt(id: &str, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "session/prompt",
        "params": {"sessionId": "s1", "prompt": [{"type": "text", "text": text}]}})
}

/// A conversation and how far its log was read.
pub struct Talk {
    pub caller: Caller,
    pub acp: String,
    pub offset: u64,
}

impl Talk {
    pub async fn start(caller: &Caller, acp: &str, start: &AgentStart) -> (Self, AgentStarted) {
        let started: AgentStarted = caller.put(&format!("/v1/agents/{acp}"), start).await.ok();
        (Self { caller: caller.clone(), acp: acp.into(), offset: started.log_offset }, started)
    }

    pub async fn tell(&self, message: &Value) -> Outcome {
        self.caller.tell(&self.acp, message).await.ok::<Delivered>().outcome
    }

    /// The next records; waits for some.
    pub async fn next(&mut self) -> Vec<Entry> {
        let path = format!("/v1/logs/{}?offset={}&wait_ms=20000", self.acp, self.offset);
        let answer = self.caller.get(&path).await;
        let bytes = answer.raw();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        assert!(whole > 0, "nothing more in the log of {}", self.acp);
        self.offset += whole as u64;
        let read = |line: &[u8]| serde_json::from_slice::<Record>(line).unwrap().entry;
        bytes[..whole - 1].split(|b| *b == b'\n').map(read).collect()
    }

    /// The records up to and with the first for which this holds.
    pub async fn until(&mut self, mut holds: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut all = Vec::new();
        loop {
            let next = self.next().await;
            let found = next.iter().any(&mut holds);
            all.extend(next);
            if found {
                return all;
            }
        }
    }

    /// Sends a prompt and reads until its end.
    pub async fn turn(&mut self, id: &str, text: &str) -> Vec<Entry> {
        assert_eq!(self.tell(&prompt(id, text)).await, Outcome::PassedOn);
        self.until(|entry| answers(entry, id)).await
    }

    pub async fn says(&mut self, id: &str, text: &str) -> String {
        words(&self.turn(id, text).await)
    }
}

/// Whether this is the agent's answer to our request.
pub fn answers(entry: &Entry, to: &str) -> bool {
    matches!(entry, Entry::Message { dir: Direction::FromAgent, msg }
        if msg["id"] == to && msg.get("method").is_none())
}

/// Whether this is a request of the agent.
pub fn asks(entry: &Entry, method: &str) -> bool {
    matches!(entry, Entry::Message { dir: Direction::FromAgent, msg } if msg["method"] == method)
}

/// The agent's messages in a turn.
pub fn words(entries: &[Entry]) -> String {
    let chunk = |entry: &Entry| match entry {
        Entry::Message { dir: Direction::FromAgent, msg } => {
            Some(msg.pointer("/params/update/content/text")?.as_str()?.to_owned())
        }
        _ => None,
    };
    entries.iter().filter_map(chunk).collect()
}
