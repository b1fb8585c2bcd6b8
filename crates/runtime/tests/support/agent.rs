//! A scripted agent: its prompts are commands.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    std::process::exit(agent());
}

fn send(message: &Value) {
    let mut out = std::io::stdout().lock();
    // Without a runtime the agent exits at the end of its input, not by a panic.
    let _ = writeln!(out, "{message}");
    let _ = out.flush();
}

fn update(update: Value) {
    send(
        &json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s1", "update": update}}),
    );
}

fn say(text: &str) {
    update(json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}));
}

fn ask(id: u64, method: &str, params: Value) {
    send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
}

/// Runs the command of a prompt: `write FILE TEXT`, `env NAME`, `ask`, `borrow` (sends a request
/// that is not offered), `deaf` (reads no more), `crash CODE`, `garbage`, `huge BYTES`, `complain TEXT`.
fn agent() -> i32 {
    let mut waiting: Option<Value> = None;
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let id = message["id"].clone();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": 1, "seen": message["params"]}),
            Some("session/new") => json!({"sessionId": "s1"}),
            Some("session/prompt") => {
                let text = message["params"]["prompt"][0]["text"].as_str().unwrap_or_default().to_owned();
                match text.as_str() {
                    "ask" => ask(7, "session/request_permission", json!({"sessionId": "s1"})),
                    "borrow" => ask(8, "fs/write_text_file", json!({"path": "/x", "content": "y"})),
                    _ => {
                        if let Some(code) = obey(&text) {
                            return code;
                        }
                        send(&json!({"jsonrpc": "2.0", "id": id, "result": {"stopReason": "end_turn"}}));
                        continue;
                    }
                }
                waiting = Some(id);
                continue;
            }
            None if id == json!(7) || id == json!(8) => {
                say(&format!("answer {}{}", message["result"]["outcome"], message["error"]["code"]));
                send(&json!({"jsonrpc": "2.0", "id": waiting.take(), "result": {"stopReason": "end_turn"}}));
                continue;
            }
            _ => continue,
        };
        send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }
    0
}

fn obey(text: &str) -> Option<i32> {
    let mut words = text.splitn(3, ' ');
    match (words.next()?, words.next(), words.next()) {
        ("write", Some(file), Some(text)) => {
            say(&format!("write {:?}", std::fs::write(file, text).map_err(|e| e.kind())));
        }
        ("env", Some(name), _) => say(&format!("env {:?}", std::env::var(name).ok())),
        ("deaf", ..) => {
            say("deaf");
            #[allow(clippy::disallowed_methods)] // deafness is what was asked for
            std::thread::sleep(Duration::from_secs(600));
        }
        ("crash", Some(code), _) => return code.parse().ok(),
        ("complain", Some(word), _) => {
            let _ = writeln!(std::io::stderr(), "{word}");
        }
        ("garbage", ..) => {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "this is not JSON");
        }
        ("huge", Some(bytes), _) => say(&"x".repeat(bytes.parse().unwrap_or(0))),
        _ => say(text),
    }
    None
}
