//! The protocol itself: versions, sessions, errors, and that nothing a client sends ends the agent.

use foundry_core::SystemClock;
use foundry_demo_agent::{AGENT_NAME, Ended};
use serde_json::{Value, json};

use crate::client::{Client, options};

#[tokio::test]
async fn introduces_itself_and_answers_any_version_with_its_own() {
    let mut client = Client::unopened(options(SystemClock));
    for version in [1, 0, 7] {
        client.request("initialize", json!({ "protocolVersion": version })).await;
        let result = client.receive().await["result"].take();
        assert_eq!(result["protocolVersion"], 1);
        assert_eq!(result["agentInfo"]["name"], AGENT_NAME);
        assert_eq!(result["agentCapabilities"]["loadSession"], false);
    }
}

#[tokio::test]
async fn refuses_everything_before_initialize_and_unknown_methods_after_it() {
    let mut client = Client::unopened(options(SystemClock));
    client.request("session/new", json!({ "cwd": "/", "mcpServers": [] })).await;
    assert_eq!(client.receive().await["error"]["code"], -32600);
    client.request("initialize", json!({ "protocolVersion": 1 })).await;
    client.receive().await;
    for (method, params, code) in [
        ("session/load", json!({}), -32601),
        ("session/new", json!({ "cwd": "relative", "mcpServers": [] }), -32602),
        ("session/new", json!({ "cwd": "/no/such/directory", "mcpServers": [] }), -32602),
        ("session/new", json!({ "cwd": 7 }), -32602),
        ("session/prompt", json!({ "sessionId": "session-9", "prompt": [] }), -32002),
    ] {
        let id = client.request(method, params.clone()).await;
        let answer = client.receive().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(code)),
            "{method} {params}"
        );
    }
}

#[tokio::test]
async fn answers_malformed_lines_with_an_error_and_lives_on() {
    let mut client = Client::start().await;
    for (line, code) in [
        (&b"{not json"[..], -32700),
        (b"\xff\xfe\x00", -32700),
        (b"[]", -32600),
        (b"42", -32600),
        (b"{\"jsonrpc\":\"1.0\",\"id\":5,\"method\":\"initialize\"}", -32600),
        (&[b'['; 100_000], -32700),
    ] {
        client.line(line).await;
        assert_eq!(client.receive().await["error"]["code"], code, "{:?}", String::from_utf8_lossy(line));
    }
    for ignored in [
        json!({ "jsonrpc": "2.0", "id": "permission-99", "result": {} }),
        json!({ "jsonrpc": "2.0", "method": "no/such/notification" }),
        json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": { "sessionId": "nobody" } }),
        json!({ "jsonrpc": "2.0", "method": "session/cancel" }),
    ] {
        client.send(ignored).await;
    }
    client.line(b"  ").await;
    assert_eq!(client.turn("say still here").await.said(), "still here");
}

#[tokio::test]
async fn gives_the_same_updates_for_the_same_prompt_on_the_same_tree() {
    const PROMPT: &str =
        "say hello\nwrite a.txt: one\nrun echo out; echo err >&2; ls\ncreate 3 files in d\nhelp";
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let mut client = Client::start().await;
        let turn = client.turn(PROMPT).await;
        let lines: Vec<String> = turn.updates.iter().map(Value::to_string).collect();
        outputs.push(lines.join("\n").replace(client.dir.path().to_str().unwrap(), "DIR"));
    }
    assert_eq!(outputs[0], outputs[1]);
}

#[tokio::test]
async fn runs_the_turns_of_several_sessions_at_the_same_time_but_one_per_session() {
    let mut client = Client::start().await;
    let other = client.open().await;
    assert_eq!((client.session.as_str(), other.as_str()), ("session-1", "session-2"));
    let hanging = client.prompt("hang").await;
    client.receive_until(|m| m.to_string().contains("The prompt says to")).await;

    let second = client.prompt("say me too").await;
    assert_eq!(client.answer_to(second).await.answer["error"]["code"], -32600);
    let id = client.prompt_in(&other, "say hello").await;
    let turn = client.answer_to(id).await;
    assert_eq!(turn.stop_reason(), "end_turn");
    let from_other = turn.updates.iter().filter(|u| u["params"]["sessionId"] == "session-2").count();
    assert!(from_other >= 4, "the other session was not heard: {:?}", turn.updates);

    client.cancel().await;
    assert_eq!(client.answer_to(hanging).await.stop_reason(), "cancelled");
    assert_eq!(client.turn("say again").await.said(), "again");
}

#[tokio::test]
async fn ends_a_turn_when_its_request_is_cancelled_by_id() {
    let mut client = Client::start().await;
    let id = client.prompt("hang").await;
    let cancel =
        |id: u64| json!({ "jsonrpc": "2.0", "method": "$/cancel_request", "params": { "requestId": id } });
    client.send(cancel(id + 1)).await;
    client.send(cancel(id)).await;
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");
}

#[tokio::test]
async fn ends_when_its_input_is_closed_even_during_a_turn() {
    let mut client = Client::start().await;
    let id = client.prompt("hang").await;
    client.hang_up();
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");
    assert!(matches!(client.ended().await, Ended::InputClosed));
}

#[tokio::test]
async fn ends_as_if_its_input_had_closed_when_it_is_stopped() {
    let options = options(SystemClock);
    let stop = options.stop.clone();
    let mut client = Client::start_with(options).await;
    let id = client.prompt("run sleep 1000").await;
    client.until_in_progress().await;
    stop.cancel();
    assert_eq!(client.answer_to(id).await.stop_reason(), "cancelled");
    assert_eq!(client.ended().await.status(), 0);
}

#[tokio::test]
async fn reads_attachments_as_names_and_several_text_blocks_as_one_prompt() {
    let mut client = Client::start().await;
    let prompt = json!([
        { "type": "text", "text": "say one" },
        { "type": "resource_link", "name": "notes", "uri": "file:///notes" },
        { "type": "text", "text": "say two" },
    ]);
    let params = json!({ "sessionId": client.session, "prompt": prompt });
    let id = client.request("session/prompt", params).await;
    let said = client.answer_to(id).await.said();
    assert!(said.starts_with("one") && said.contains("(attached: notes)") && said.ends_with("two"), "{said}");
}
