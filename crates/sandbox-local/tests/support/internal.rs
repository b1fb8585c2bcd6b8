//! The subcommands `foundry internal …` for the tests of this crate: its own, and in place of the demo agent a scripted
//! agent without dependencies.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.split_first() {
        Some((first, rest)) if first == "internal" && !rest.is_empty() => match rest[0].as_str() {
            "demo-agent" => agent(),
            "listen" => listen(&rest[1]),
            "fetch" => fetch(&rest[1], &rest[2]),
            name => foundry_sandbox_local::run_internal(name, &rest[1..])
                .or_else(|| foundry_runtime::run_internal(name, &rest[1..]))
                .unwrap_or(64),
        },
        _ => 64,
    };
    std::process::exit(code);
}

/// Listens on the loopback, prints that it does, and sends the name of its sandbox to every client.
fn listen(port: &str) -> i32 {
    let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0))) else {
        return 1;
    };
    println!("listening");
    for stream in listener.incoming() {
        let sandbox = std::env::var("FOUNDRY_SANDBOX").unwrap_or_default();
        let _ = stream.and_then(|mut stream| stream.write_all(sandbox.as_bytes()));
    }
    0
}

/// Connects without any proxy and prints what it receives.
fn fetch(host: &str, port: &str) -> i32 {
    let Ok(address) = host.parse::<std::net::IpAddr>() else { return 64 };
    let address = (address, port.parse().unwrap_or(0)).into();
    match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(mut stream) => {
            let _ = std::io::copy(&mut stream, &mut std::io::stdout());
            0
        }
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}

fn send(message: &Value) {
    let mut out = std::io::stdout().lock();
    // When the runtime is gone, this agent exits at the end of its input, not by a panic.
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

/// Runs the command in a prompt: `write FILE TEXT`, `read FILE`, `env NAME`, `ask`, `slow MILLIS`, `crash CODE`,
/// `garbage`, `huge BYTES`, `spawn SECONDS` (a process that leaves its session), `want METHOD` (a request that waits
/// for its answer).
fn agent() -> i32 {
    let mut waiting: Option<Value> = None;
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let id = message["id"].clone();
        let result = match message["method"].as_str() {
            Some("initialize") => {
                json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": false}, "seen": message["params"]})
            }
            Some("session/new") => json!({"sessionId": "s1"}),
            Some("session/prompt") => {
                let text = message["params"]["prompt"][0]["text"].as_str().unwrap_or_default().to_owned();
                if text == "ask" {
                    waiting = Some(id);
                    send(
                        &json!({"jsonrpc": "2.0", "id": 7, "method": "session/request_permission", "params": {
                            "sessionId": "s1",
                            "toolCall": {"toolCallId": "t1", "title": "run it", "kind": "execute"},
                            "options": [{"optionId": "yes", "name": "Allow", "kind": "allow_once"}],
                        }}),
                    );
                    continue;
                }
                if let Some(method) = text.strip_prefix("want ") {
                    waiting = Some(id);
                    send(&json!({"jsonrpc": "2.0", "id": 8, "method": method, "params": {}}));
                    continue;
                }
                if let Some(code) = obey(&text) {
                    return code;
                }
                json!({"stopReason": "end_turn"})
            }
            None if id == json!(7) => {
                say(&format!("answer {}", message["result"]["outcome"]));
                send(&json!({"jsonrpc": "2.0", "id": waiting.take(), "result": {"stopReason": "end_turn"}}));
                continue;
            }
            None if id == json!(8) => {
                say(&format!("answer {}", message["error"]["code"]));
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
        ("read", Some(file), _) => {
            say(&format!("read {:?}", std::fs::read_to_string(file).map_err(|e| e.kind())));
        }
        ("env", Some(name), _) => say(&format!("env {:?}", std::env::var(name).ok())),
        ("slow", Some(millis), _) => {
            say("slow");
            #[allow(clippy::disallowed_methods)] // slowness is what was asked for
            std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
        }
        ("crash", Some(code), _) => return code.parse().ok(),
        ("garbage", ..) => {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "this is not JSON");
        }
        ("huge", Some(bytes), _) => say(&"x".repeat(bytes.parse().unwrap_or(0))),
        ("spawn", Some(seconds), _) => {
            let started =
                std::process::Command::new("setsid").args(["-f", "env", "-i", "sleep", seconds]).status();
            say(&format!("spawn {}", started.is_ok()));
        }
        _ => say(text),
    }
    None
}
