//! MCP servers behind the gateway.

// Clippy's exception for tests does not reach what the tests share.
use std::time::Duration;

use crate::support::{Reply, SILENCE, Setup, TOKEN, header, piece, text, within};
use bytes::Bytes;
use foundry_core::Env;
use foundry_http_client::local_client;
use foundry_model_gateway::{Gateway, Kind, Listener, McpAccess, Secret, Settings};
use foundry_sandbox::{Network, RuntimeKey};
use http::{HeaderName, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The secret for the server in the profile.
const CANARY: &str = "mcp-canary-0123456789";
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// A gateway with one server under the name `files`; `events` selects the older transport.
async fn setup(events: bool) -> Setup {
    let t = Setup::new(Kind::Anthropic).await;
    let access = McpAccess {
        session: "session_1".to_owned(),
        url: format!("{}/api/mcp?tenant=7", t.upstream.base()).parse().unwrap(),
        headers: vec![
            (HeaderName::from_static("authorization"), Secret::new(format!("Bearer {CANARY}"))),
            (HeaderName::from_static("x-team"), Secret::new("blue")),
        ],
        events,
        network: Network::Host,
    };
    t.ledger.servers.lock().unwrap().push(("files".to_owned(), access));
    t
}

fn call(method: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-session-id", "m1")
        .header("mcp-protocol-version", "2025-06-18")
        .header("last-event-id", "41")
        .header("x-team", "red")
        .header("cookie", "a=b")
        .header("x-forwarded-user", "root")
        .header("x-api-key", TOKEN)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

#[tokio::test]
async fn passes_calls_on_with_the_secret_and_without_what_is_not_the_protocols() {
    let t = setup(false).await;
    for (method, body) in [("POST", LIST), ("GET", ""), ("DELETE", "")] {
        let headers = [
            ("content-type", "application/json"),
            ("mcp-session-id", "m2"),
            ("set-cookie", "s=1"),
            ("x-echo", CANARY),
        ];
        t.upstream.will(Reply::whole(200, &headers, "{ \"ok\" : 1 }"));
        let answer = t.send(call(method, "/mcp/files?evil=../../admin", body)).await;
        let got = t.upstream.received().await;
        assert_eq!(got.line(), format!("{method} /api/mcp?tenant=7 HTTP/1.1"));
        assert_eq!(got.body, body.as_bytes());
        for (name, expected) in [
            ("authorization", vec![format!("Bearer {CANARY}")]),
            ("x-team", vec!["blue".to_owned()]),
            ("mcp-session-id", vec!["m1".to_owned()]),
            ("mcp-protocol-version", vec!["2025-06-18".to_owned()]),
            ("last-event-id", vec!["41".to_owned()]),
            ("accept", vec!["application/json, text/event-stream".to_owned()]),
            ("cookie", vec![]),
            ("x-forwarded-user", vec![]),
            ("x-api-key", vec![]),
        ] {
            assert_eq!(got.header(name), expected, "{method} {name}");
        }
        assert!(!got.head.contains(TOKEN), "{}", got.head);
        assert_eq!((answer.status().as_u16(), header(&answer, "mcp-session-id")), (200, "m2"));
        assert_eq!((header(&answer, "set-cookie"), header(&answer, "x-echo")), ("", ""));
        assert_eq!(text(answer).await, "{ \"ok\" : 1 }");
    }
}

#[tokio::test]
async fn passes_each_event_on_as_it_comes_and_ends_the_call_when_the_agent_leaves() {
    let t = setup(false).await;
    for method in ["GET", "POST"] {
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let answer = t.send(call(method, "/mcp/files", LIST)).await;
        let received = t.upstream.received().await;
        let mut body = answer.into_body();
        for n in 0..3 {
            // Sent only after the one before was read: nothing may be held back.
            let event = format!("data: {n}\n\n");
            stream.send(&event);
            assert_eq!(piece(&mut body).await, event);
        }
        drop(body);
        within(received.closed).await.unwrap();
    }
    let (_nothing, silent) = Reply::silent();
    t.upstream.will(silent);
    let mut waiting = Box::pin(t.gateway.handle(call("POST", "/mcp/files", LIST)));
    let received = tokio::select! {
        _ = waiting.as_mut() => panic!("there is no answer"),
        received = t.upstream.received() => received,
    };
    drop(waiting);
    within(received.closed).await.unwrap();
}

#[tokio::test]
async fn serves_the_servers_of_the_tokens_own_session_and_no_path_besides() {
    let t = setup(false).await;
    *t.ledger.runtime_key.lock().unwrap() = Some(RuntimeKey::default());
    let answer = t.send(call("POST", "/mcp/files", LIST)).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-foundry-reason")), (403, "MODEL_TOKEN_REFUSED"));
    *t.ledger.runtime_key.lock().unwrap() = None;
    for (method, path, status) in [
        ("POST", "/mcp/other", 404),
        ("POST", "/mcp/files/", 404),
        ("POST", "/mcp/files/../../admin", 404),
        ("POST", "/mcp/files/0123", 404),
        ("POST", "/mcp/%66iles", 404),
        ("PUT", "/mcp/files", 405),
        ("GET", "/.well-known/oauth-protected-resource/mcp/files", 404),
        ("GET", "/.well-known/oauth-authorization-server", 404),
        ("POST", "/register", 404),
    ] {
        let answer = t.send(call(method, path, LIST)).await;
        assert_eq!(answer.status(), status, "{method} {path}");
    }
    let mut bare = call("POST", "/mcp/files", LIST);
    bare.headers_mut().clear();
    assert_eq!(t.send(bare).await.status(), 403);
    assert!(t.upstream.was_not_asked().await, "the server was asked");
}

#[tokio::test]
async fn follows_no_redirect_asks_for_no_sign_in_and_repeats_no_secret() {
    let t = setup(false).await;
    let elsewhere = format!("{}/elsewhere", t.upstream.base());
    t.upstream.will(Reply::whole(307, &[("location", &elsewhere)], ""));
    let answer = t.send(call("POST", "/mcp/files", LIST)).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "location")), (502, ""));
    assert_eq!(header(&answer, "x-foundry-reason"), "MCP_SERVER_UNREACHABLE");
    t.upstream.received().await;

    let sign_in = [("www-authenticate", "Bearer resource_metadata=\"https://mcp.corp/x\"")];
    t.upstream.will(Reply::whole(401, &sign_in, CANARY));
    let answer = t.send(call("POST", "/mcp/files", LIST)).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "www-authenticate")), (403, ""));
    let said = text(answer).await;
    assert!(said.contains("MCP_SECRET_REFUSED") && !said.contains(CANARY), "{said}");
    t.upstream.received().await;

    t.upstream.will(Reply::json(404, &format!(r#"{{"error":"no session for Bearer {CANARY}"}}"#)));
    let answer = t.send(call("POST", "/mcp/files", LIST)).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(text(answer).await, r#"{"error":"no session for ***"}"#);
    t.upstream.received().await;
    assert!(t.upstream.was_not_asked().await, "a redirect was followed");
}

#[tokio::test]
async fn leads_messages_of_the_older_transport_to_where_the_stream_says() {
    let t = setup(true).await;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let answer = t.send(call("GET", "/mcp/files", "")).await;
    t.upstream.received().await;
    let mut body = answer.into_body();
    stream.send("event: endpoint\ndata: messages?id=1\n\n");
    let event = piece(&mut body).await;
    let place = event.strip_prefix("event: endpoint\ndata: ").unwrap().trim().to_owned();
    assert!(place.starts_with("/mcp/files/") && !place.contains("messages"), "{place}");

    t.upstream.will(Reply::whole(202, &[], ""));
    assert_eq!(t.send(call("POST", &place, LIST)).await.status(), 202);
    let got = t.upstream.received().await;
    assert_eq!(got.line(), "POST /api/messages?id=1 HTTP/1.1");
    assert_eq!(got.header("authorization"), [format!("Bearer {CANARY}")]);
    drop(body);
    assert_eq!(t.send(call("POST", &place, LIST)).await.status(), 404, "the stream has ended");
}

#[tokio::test]
async fn ends_a_stream_within_a_minute_when_the_session_may_not_use_the_server_any_more() {
    let t = setup(false).await;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let answer = t.send(call("GET", "/mcp/files", "")).await;
    let received = t.upstream.received().await;
    let mut body = answer.into_body();
    stream.send("data: 1\n\n");
    assert_eq!(piece(&mut body).await, "data: 1\n\n");
    t.clock.advance(Duration::from_secs(61));
    stream.send("data: 2\n\n");
    assert_eq!(piece(&mut body).await, "data: 2\n\n", "it is still the session's");
    t.ledger.servers.lock().unwrap().clear();
    t.clock.advance(Duration::from_secs(61));
    assert!(within(body.frame()).await.unwrap().is_err());
    drop(body);
    within(received.closed).await.unwrap();
}

#[tokio::test]
async fn sends_no_secret_to_where_a_server_was_before_it_was_moved() {
    const NEW: &str = "mcp-new-secret-0123456789";
    for (moved, other_secret) in [(true, true), (false, true), (true, false)] {
        let t = setup(true).await;
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let answer = t.send(call("GET", "/mcp/files", "")).await;
        let open = t.upstream.received().await;
        let mut body = answer.into_body();
        stream.send("event: endpoint\ndata: messages?id=1\n\n");
        let event = piece(&mut body).await;
        let place = event.strip_prefix("event: endpoint\ndata: ").unwrap().trim().to_owned();
        // An admin changes the server while the stream is open.
        {
            let mut servers = t.ledger.servers.lock().unwrap();
            let access = &mut servers[0].1;
            if moved {
                access.url = "http://127.0.0.1:1/elsewhere".parse().unwrap();
            }
            if other_secret {
                access.headers[0].1 = Secret::new(format!("Bearer {NEW}"));
            }
        }
        if moved {
            assert_eq!(t.send(call("POST", &place, LIST)).await.status(), 404);
            assert!(t.upstream.was_not_asked().await, "the old address was asked");
        }
        let time = async {
            t.clock.wait_for_sleepers(1).await;
            t.clock.advance(Duration::from_secs(61));
        };
        let (end, ()) = within(async { tokio::join!(body.frame(), time) }).await;
        assert!(end.unwrap().is_err(), "the stream of the server of before stays open");
        drop(body);
        within(open.closed).await.unwrap();
    }
}

#[tokio::test]
async fn messages_that_tools_are_slow_to_answer_take_no_room_from_calls_of_models() {
    let t = setup(false).await;
    let message = |mib: usize| {
        let mut request = call("POST", "/mcp/files", "");
        *request.body_mut() = Full::new(Bytes::from(vec![b' '; mib * 1024 * 1024]));
        request
    };
    let answer = t.send(message(5)).await;
    assert_eq!(answer.status(), 413);
    assert!(text(answer).await.contains("larger than 4 MiB"));
    // The session's memory for messages is all in use.
    let (mut silent, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (nothing, reply) = Reply::silent();
        silent.push(nothing);
        t.upstream.will(reply);
        let mut one = Box::pin(t.gateway.handle(message(4)));
        tokio::select! {
            _ = one.as_mut() => panic!("there is no answer"),
            _ = t.upstream.received() => {}
        }
        waiting.push(one);
    }
    let mut third = Box::pin(t.gateway.handle(message(4)));
    for _ in 0..50 {
        assert!(futures::poll!(third.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(t.upstream.was_not_asked().await, "a third one has room");
    // Two calls of a model take all that the session may have of those.
    for _ in 0..2 {
        let (nothing, reply) = Reply::silent();
        silent.push(nothing);
        t.upstream.will(reply);
        let body = format!("{{\"model\":\"m\"{}}}", " ".repeat(31 * 1024 * 1024));
        let mut one = Box::pin(t.gateway.handle(crate::support::post("/v1/messages", body)));
        tokio::select! {
            _ = one.as_mut() => panic!("there is no answer"),
            _ = t.upstream.received() => {}
        }
        waiting.push(one);
    }
}

#[tokio::test]
async fn a_call_has_its_seat_before_the_name_of_the_server_is_resolved() {
    let t = setup(false).await;
    let settings = Settings { connections_of_sandbox: 1, ..Settings::default() };
    let client = local_client().build().unwrap();
    let gateway = Gateway::new(t.ledger.clone(), client, settings, Env::system(), t.tasks.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    let raw = format!("DELETE /mcp/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let (asked, mut resolves) = tokio::sync::mpsc::unbounded_channel();
    *t.ledger.resolving.lock().unwrap() = Some(asked);
    let mut first = UnixStream::connect(&path).await.unwrap();
    first.write_all(raw.as_bytes()).await.unwrap();
    within(resolves.recv()).await.unwrap();
    let mut second = UnixStream::connect(&path).await.unwrap();
    second.write_all(raw.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    within(second.read_exact(&mut head)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 503", "the first one does not count");
}

#[tokio::test]
async fn an_answer_that_never_comes_after_its_head_is_ended_and_a_stream_of_the_servers_own_is_not() {
    const JSON: &str = "application/json";
    const EVENTS: &str = "text/event-stream; charset=utf-8";
    let hour = Duration::from_secs(3600);
    for (method, kind, limit) in [
        ("POST", JSON, Some(SILENCE)),
        ("GET", JSON, Some(SILENCE)),
        ("POST", EVENTS, Some(hour)),
        ("GET", EVENTS, None),
    ] {
        let t = setup(false).await;
        let (stream, reply) = Reply::stream_of(kind);
        t.upstream.will(reply);
        let answer = t.send(call(method, "/mcp/files", LIST)).await;
        let received = t.upstream.received().await;
        let mut body = answer.into_body();
        stream.send("first");
        assert_eq!(piece(&mut body).await, "first");
        let mut next = Box::pin(body.frame());
        assert!(futures::poll!(next.as_mut()).is_pending());
        let almost = limit.unwrap_or(hour * 48) - Duration::from_secs(1);
        t.clock.advance(almost);
        for _ in 0..50 {
            assert!(futures::poll!(next.as_mut()).is_pending(), "{method} {kind}: ended too early");
            tokio::task::yield_now().await;
        }
        let Some(limit) = limit else { continue };
        t.clock.advance(Duration::from_secs(2));
        let why = within(next).await.unwrap().unwrap_err().to_string();
        assert_eq!(why, format!("the MCP server files has sent nothing for {} s", limit.as_secs()));
        drop(body);
        within(received.closed).await.unwrap();
    }
}
