//! The model over HTTP, as seen by an agent or a gateway.

#![allow(clippy::unwrap_used)] // a test's way to fail

use std::time::Duration;

use foundry_scripted_model::{Fault, Outcome, Script, ScriptedModel, Step, Times};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

struct Bed {
    model: ScriptedModel,
    client: Client,
}

impl Bed {
    async fn start() -> Self {
        Self {
            model: ScriptedModel::start().await.unwrap(),
            client: foundry_http_client::local_client().build().unwrap(),
        }
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}/any/prefix{path}", self.model.url());
        let request = self.client.post(url).header("authorization", format!("Bearer {key}"));
        request.header("content-type", "application/json").body(body.to_string())
    }

    async fn send(&self, path: &str, key: &str, body: &Value) -> Response {
        self.post(path, key, body).send().await.unwrap()
    }

    async fn json(&self, path: &str, body: &Value) -> Value {
        self.read(self.send(path, "k", body).await).await
    }

    async fn read(&self, response: Response) -> Value {
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }
}

/// Bounds a wait, so that the test fails instead of hanging.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap()
}

const SCRIPT: &str = "<script>think Hm.\nsay One two.\nrun ls</script>";

fn chat(prompt: &str) -> Value {
    let tool = json!({"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {}}}}});
    json!({"model": "m", "messages": [{"role": "user", "content": prompt}], "tools": [tool]})
}

fn responses(prompt: &str) -> Value {
    let tool = json!({"type": "function", "name": "exec_command", "parameters": {"properties": {"cmd": {}}}});
    json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": prompt}]}], "tools": [tool]})
}

fn messages(prompt: &str) -> Value {
    let tool = json!({"name": "Bash", "input_schema": {"properties": {"command": {}}}});
    json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}], "tools": [tool]})
}

fn gemini(prompt: &str) -> Value {
    let function =
        json!({"name": "run_shell_command", "parametersJsonSchema": {"properties": {"command": {}}}});
    json!({"contents": [{"role": "user", "parts": [{"text": prompt}]}], "tools": [{"functionDeclarations": [function]}]})
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

/// The data of each event of a stream.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn stream(bed: &Bed, path: &str, body: &Value) -> (String, Vec<Value>) {
    let response = bed.send(path, "k", body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events = events(&text);
    (text, events)
}

#[tokio::test]
async fn chat_completions_come_whole_and_streamed() {
    let bed = Bed::start().await;
    let whole = bed.json("/v1/chat/completions", &chat(SCRIPT)).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["content"], "One two.");
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"command":"ls"}"#);
    assert_eq!(choice["finish_reason"], "tool_calls");
    let recorded = &bed.model.all().requests()[0];
    assert_eq!(whole["usage"]["prompt_tokens"], recorded.usage.unwrap().input);

    let (text, events) = stream(&bed, "/v1/chat/completions", &streaming(chat(SCRIPT))).await;
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    let said: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "One two.");

    let mut with_usage = streaming(chat(SCRIPT));
    with_usage["stream_options"] = json!({"include_usage": true});
    let (_, events) = stream(&bed, "/v1/chat/completions", &with_usage).await;
    let last = events.last().unwrap();
    assert_eq!(
        (last["choices"].as_array().unwrap().len(), last["usage"]["completion_tokens"].is_u64()),
        (0, true)
    );
}

#[tokio::test]
async fn responses_come_whole_and_streamed() {
    let bed = Bed::start().await;
    let whole = bed.json("/v1/responses", &responses(SCRIPT)).await;
    assert_eq!(kinds(&whole["output"]), ["reasoning", "message", "function_call"]);
    let (_, events) = stream(&bed, "/v1/responses", &streaming(responses(SCRIPT))).await;
    let numbers: Vec<u64> = events.iter().map(|e| e["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(said(&events, "response.output_text.delta", "/delta"), "One two.");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(kinds(&last["response"]["output"]), kinds(&whole["output"]));
    assert!(last["response"]["usage"]["output_tokens"].is_u64());
}

#[tokio::test]
async fn messages_come_whole_and_streamed() {
    let bed = Bed::start().await;
    let whole = bed.json("/v1/messages", &messages(SCRIPT)).await;
    assert_eq!(kinds(&whole["content"]), ["thinking", "text", "tool_use"]);
    assert_eq!(
        (&whole["stop_reason"], &whole["content"][2]["input"]),
        (&json!("tool_use"), &json!({"command": "ls"}))
    );
    let (text, events) = stream(&bed, "/v1/messages", &streaming(messages(SCRIPT))).await;
    assert!(text.starts_with("event: message_start\ndata: "));
    assert_eq!(said(&events, "content_block_delta", "/delta/text"), "One two.");
    assert_eq!(said(&events, "content_block_delta", "/delta/partial_json"), r#"{"command":"ls"}"#);
    let (last, before) = (events.last().unwrap(), &events[events.len() - 2]);
    assert_eq!((&last["type"], &before["type"]), (&json!("message_stop"), &json!("message_delta")));
    assert!(before["usage"]["output_tokens"].is_u64());
    let count = bed.json("/v1/messages/count_tokens", &messages("")).await;
    assert!(count["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn gemini_comes_whole_and_streamed_in_both_ways() {
    let bed = Bed::start().await;
    let whole = bed.json("/v1beta/models/g:generateContent", &gemini(SCRIPT)).await;
    let parts = &whole["candidates"][0]["content"]["parts"];
    assert_eq!((&parts[0]["thought"], &parts[1]["text"]), (&json!(true), &json!("One two.")));
    assert_eq!(parts[2]["functionCall"]["args"], json!({"command": "ls"}));
    let (_, events) = stream(&bed, "/v1beta/models/g:streamGenerateContent?alt=sse", &gemini(SCRIPT)).await;
    let array = bed.json("/v1beta/models/g:streamGenerateContent", &gemini(SCRIPT)).await;
    for events in [&events, array.as_array().unwrap()] {
        assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
        let text: String = events[1..]
            .iter()
            .filter_map(|e| e["candidates"][0]["content"]["parts"][0]["text"].as_str())
            .collect();
        assert_eq!(text, "One two.");
    }
    assert_eq!(bed.model.all().requests()[0].model.as_deref(), Some("g"));
}

#[tokio::test]
async fn lists_of_models_name_what_is_known_and_others_are_404() {
    let bed = Bed::start().await;
    bed.model.key("k").models(["one", "two"]);
    let get = |path: &str| bed.client.get(format!("{}{path}", bed.model.url())).bearer_auth("k").send();
    let list = bed.read(get("/v1/models").await.unwrap()).await;
    assert_eq!(list["data"][1]["id"], "two");
    let list = bed.read(get("/v1beta/models").await.unwrap()).await;
    assert_eq!(list["models"][0]["name"], "models/one");
    let unknown = bed.send("/v1/chat/completions", "k", &chat("")).await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(bed.read(unknown).await["error"]["code"], "model_not_found");
    assert_eq!(bed.send("/v1/chat/completions", "other", &chat("")).await.status(), 200);
    assert_eq!(bed.send("/v1/embeddings", "k", &json!({})).await.status(), 404);
}

#[tokio::test]
async fn a_fault_of_one_key_leaves_others_alone_and_ends_when_it_is_counted_down() {
    let bed = Bed::start().await;
    let limit = Fault::Limited { retry_after: Some(Duration::from_secs(2)) };
    bed.model.key("a").fail(limit, Times::Next(1));
    let mut title = messages("");
    title["tools"] = json!([]);
    assert_eq!(bed.send("/v1/messages", "a", &title).await.status(), 200);
    assert_eq!(bed.send("/v1/messages", "b", &messages("")).await.status(), 200);
    let limited = bed.send("/v1/messages", "a", &messages("")).await;
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    assert_eq!(bed.send("/v1/messages", "a", &messages("")).await.status(), 200);

    bed.model.all().fail(Fault::Failing { status: 529 }, Times::Always);
    assert_eq!(bed.send("/v1/messages", "c", &messages("")).await.status(), 529);
    bed.model.all().heal();
    bed.model.accept_only(["a"]);
    assert_eq!(bed.send("/v1/messages", "a", &messages("")).await.status(), 200);
    assert_eq!(bed.send("/v1/messages", "b", &messages("")).await.status(), 401);
}

#[tokio::test]
async fn a_fault_of_a_script_ends_when_it_is_counted_down() {
    let bed = Bed::start().await;
    let mut body = chat("<script>fail 500 times 2\nsay Now.</script>");
    let mut statuses = Vec::new();
    for attempt in 0..3 {
        body["metadata"] = json!({ "attempt": attempt });
        statuses.push(bed.send("/v1/chat/completions", "k", &body).await.status().as_u16());
    }
    assert_eq!(statuses, [500, 500, 200]);
    assert_eq!(bed.send("/v1/chat/completions", "other", &body).await.status(), 500);
}

#[tokio::test]
async fn a_cut_stream_breaks_off_after_its_words() {
    let bed = Bed::start().await;
    let all = [
        ("/v1/chat/completions", streaming(chat("<script>say Some words\nfail cut</script>"))),
        ("/v1/responses", streaming(responses("<script>say Some words\nfail cut</script>"))),
        ("/v1/messages", streaming(messages("<script>say Some words\nfail cut</script>"))),
        (
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            gemini("<script>say Some words\nfail cut</script>"),
        ),
        ("/v1/messages", messages("<script>say Some words\nfail cut</script>")),
    ];
    for (path, body) in all {
        let mut response = bed.send(path, "k", &body).await;
        let mut got = Vec::new();
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                end => break end,
            }
        };
        assert!(end.is_err(), "{path}");
        assert!(!got.is_empty(), "{path}");
        assert!(matches!(bed.model.all().requests().last().unwrap().outcome, Outcome::Cut(_)));
    }
}

#[tokio::test]
async fn a_broken_stream_tells_its_error_and_ends() {
    let bed = Bed::start().await;
    let words = "<script>say a\nfail broken</script>";
    let (_, events) = stream(&bed, "/v1/messages", &streaming(messages(words))).await;
    assert_eq!(events.last().unwrap()["error"]["type"], "overloaded_error");
    let (_, events) = stream(&bed, "/v1/responses", &streaming(responses(words))).await;
    assert_eq!(events.last().unwrap()["type"], "response.failed");
    let (_, events) = stream(&bed, "/v1/chat/completions", &streaming(chat(words))).await;
    assert_eq!(events.last().unwrap()["error"]["type"], "server_error");
    let (_, events) = stream(&bed, "/v1beta/models/g:streamGenerateContent?alt=sse", &gemini(words)).await;
    assert_eq!(events.last().unwrap()["error"]["status"], "UNAVAILABLE");
    assert_eq!(bed.send("/v1/messages", "k", &messages(words)).await.status(), 500);
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_in_silence_and_within_a_stream() {
    let bed = Bed::start().await;
    bed.model.key("silent").fail(Fault::Silent, Times::Always);
    let silent = bed.model.key("silent");
    let request = bed.post("/v1/messages", "silent", &streaming(messages(""))).send();
    tokio::select! {
        answer = request => panic!("silence was answered: {answer:?}"),
        arrived = silent.request(|_| true) => assert_eq!((arrived.outcome, arrived.status), (Outcome::Open, None)),
    }
    // The select has dropped the request.
    assert!(soon(silent.request(|request| request.client_left())).await.ended().is_some());

    let body = streaming(messages("<script>say Begun.\nhold forever\nsay Never.</script>"));
    let mut response = bed.send("/v1/messages", "k", &body).await;
    response.chunk().await.unwrap().unwrap();
    soon(bed.model.held("forever")).await;
    drop(response);
    soon(bed.model.key("k").request(|request| request.client_left())).await;
}

#[tokio::test]
async fn a_held_answer_goes_on_when_it_is_released() {
    let bed = Bed::start().await;
    let body = streaming(chat("<script>say Before\nhold here\nsay After</script>"));
    let response = bed.send("/v1/chat/completions", "k", &body).await;
    soon(bed.model.held("here")).await;
    bed.model.release("here");
    assert!(response.text().await.unwrap().contains("After"));
    let recorded = soon(bed.model.key("k").request(|request| request.ended().is_some())).await;
    assert!(matches!(recorded.outcome, Outcome::Answered(_)));
}

#[tokio::test]
async fn requests_are_recorded_with_what_tests_ask_about() {
    let bed = Bed::start().await;
    bed.json("/v1/messages", &messages("The secret word is TANGERINE.")).await;
    let recorded = bed.model.key("k").requests().remove(0);
    assert_eq!((recorded.path.as_str(), recorded.model.as_deref()), ("/any/prefix/v1/messages", Some("m")));
    assert!(recorded.holds("TANGERINE") && !recorded.holds("BANANA") && recorded.has_tools);
    assert_eq!(bed.model.key("nobody").requests().len(), 0);
}

#[tokio::test]
async fn a_flood_has_the_bytes_it_was_asked_for() {
    let bed = Bed::start().await;
    bed.model.key("k").script(Script::new([Step::Flood(8_000_000)]));
    for (path, body) in [
        ("/v1/chat/completions", json!({"stream": true})),
        ("/v1/responses", json!({"stream": true, "input": "x"})),
        ("/v1/messages", json!({"stream": true})),
        ("/v1beta/models/g:streamGenerateContent?alt=sse", json!({})),
    ] {
        let (text, events) = stream(&bed, path, &body).await;
        assert!(text.len() > 8_000_000 && text.len() < 9_000_000, "{path} {}", text.len());
        assert!(events[..6].iter().any(|event| event.to_string().contains("Here it comes")), "{path}");
    }
}

#[tokio::test]
async fn a_dropped_model_is_gone() {
    let bed = Bed::start().await;
    let url = bed.model.url();
    bed.model.stop().await;
    bed.client.get(url).send().await.unwrap_err();
}

fn kinds(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

fn said(events: &[Value], kind: &str, pointer: &str) -> String {
    events.iter().filter(|e| e["type"] == kind).filter_map(|e| e.pointer(pointer)?.as_str()).collect()
}
