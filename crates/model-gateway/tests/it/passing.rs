//! What passes through the gateway, and what does not.

// Clippy's exception for tests does not reach what the tests share.
use crate::support::{KEY, Reply, Setup, TOKEN, header, post, text};
use bytes::Bytes;
use foundry_core::Env;
use foundry_model_gateway::{Credential, Kind, Limit, SandboxProof, Secret, Unit};
use foundry_sandbox::RuntimeKey;
use http::{HeaderName, Request};
use http_body_util::Full;

const MESSAGE: &str =
    "{\"model\": \"claude-x\",\n  \"max_tokens\":1.0e2, \"messages\":[ ] , \"z\":\"\\u00e9é\"}";

#[tokio::test]
async fn passes_headers_and_bodies_byte_for_byte_but_for_the_credentials() {
    let t = Setup::new(Kind::Anthropic).await;
    t.upstream.will(Reply::whole(
        200,
        &[
            ("content-type", "application/json"),
            ("request-id", "req_1"),
            ("x-odd", "a, b"),
            ("connection", "close"),
        ],
        "{ \"answer\" : 1.0 }\n",
    ));
    let request = Request::post("/v1/messages?beta=true&key=nothing")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "context-1m, fine-grained")
        .header("user-agent", "claude-cli/2 (external)")
        .header("x-stainless-retry-count", "0")
        .header("x-app", "cli")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, br")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "for the next hop")
        .header("host", "127.0.0.1:9")
        .header(
            "x-foundry-sandbox",
            SandboxProof::header_value(&RuntimeKey::default(), "sbx_1", "run1", &"1".repeat(64)),
        )
        .body(Full::new(Bytes::from(MESSAGE)))
        .unwrap();
    let answer = t.send(request).await;
    let got = t.upstream.received().await;
    assert_eq!(got.line(), "POST /v1/messages?beta=true HTTP/1.1");
    assert_eq!(got.body, MESSAGE.as_bytes());
    for (name, expected) in [
        ("x-api-key", vec![KEY]),
        ("authorization", vec![]),
        ("anthropic-version", vec!["2023-06-01"]),
        ("anthropic-beta", vec!["context-1m, fine-grained"]),
        ("user-agent", vec!["claude-cli/2 (external)"]),
        ("x-stainless-retry-count", vec!["0"]),
        ("x-app", vec!["cli"]),
        ("accept", vec!["application/json"]),
        ("accept-encoding", vec!["identity"]),
        ("x-private", vec![]),
        ("x-foundry-sandbox", vec![]),
    ] {
        assert_eq!(got.header(name), expected, "{name}");
    }
    assert_eq!(got.header("host"), [t.upstream.address.to_string()]);
    assert!(!got.head.contains(TOKEN), "the token went upstream: {}", got.head);
    assert_eq!((header(&answer, "request-id"), header(&answer, "x-odd")), ("req_1", "a, b"));
    assert_eq!(header(&answer, "connection"), "");
    assert_eq!(text(answer).await, "{ \"answer\" : 1.0 }\n");
}

#[tokio::test]
async fn puts_the_key_where_each_kind_takes_it() {
    let bearer = format!("Bearer {KEY}");
    for (kind, path, name, expected) in [
        (Kind::Anthropic, "/v1/messages", "x-api-key", KEY),
        (Kind::OpenAi, "/v1/responses", "authorization", bearer.as_str()),
        (Kind::OpenAiCompatible, "/v1/chat/completions", "authorization", &bearer),
        (Kind::OpenAiCompatible, "/v1/messages", "authorization", &bearer),
        (Kind::Gemini, "/v1beta/models/g:generateContent?key=gone", "x-goog-api-key", KEY),
    ] {
        let t = Setup::new(kind).await;
        t.upstream.will(Reply::json(200, "{}"));
        t.post(path, r#"{"model":"m"}"#).await;
        let got = t.upstream.received().await;
        assert_eq!(got.header(name), [expected], "{kind:?}");
        assert!(!got.head.contains(TOKEN) && !got.head.contains("gone"), "{}", got.head);
        assert_eq!(got.head.matches(KEY).count(), 1);
    }
    let t = Setup::with(Kind::OpenAiCompatible, |access| {
        access.credential = Credential::None;
        access.headers = vec![(HeaderName::from_static("api-key"), Secret::new("azure-secret"))];
    })
    .await;
    t.upstream.will(Reply::json(200, "{}"));
    t.post("/v1/chat/completions", "{}").await;
    let got = t.upstream.received().await;
    assert_eq!((got.header("api-key"), got.header("authorization").len()), (vec!["azure-secret"], 0));
}

#[tokio::test]
async fn takes_the_token_wherever_an_sdk_puts_it_and_refuses_others_in_the_providers_shape() {
    let t = Setup::new(Kind::Gemini).await;
    let path = "/v1beta/models/g:generateContent";
    for (uri, name, value) in [
        (path.to_owned(), "authorization", format!("bearer {TOKEN}")),
        (path.to_owned(), "x-goog-api-key", TOKEN.to_owned()),
        (path.to_owned(), "x-api-key", TOKEN.to_owned()),
        (format!("{path}?key={TOKEN}"), "x-none", "1".to_owned()),
    ] {
        t.upstream.will(Reply::json(200, "{}"));
        let request = Request::post(uri).header(name, value).body(Full::new(Bytes::from("{}"))).unwrap();
        assert_eq!(t.send(request).await.status(), 200, "{name}");
        assert!(!t.upstream.received().await.head.contains(TOKEN));
    }
    for bad in ["wrong", ""] {
        let request =
            Request::post(path).header("x-goog-api-key", bad).body(Full::new(Bytes::from("{}"))).unwrap();
        let answer = t.send(request).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (401, "false"));
        let text = text(answer).await;
        assert!(
            text.contains(r#""status":"UNAUTHENTICATED""#) && text.contains("MODEL_TOKEN_REFUSED"),
            "{text}"
        );
    }
    assert!(t.upstream.was_not_asked().await);
}

#[tokio::test]
async fn serves_a_token_only_with_the_proof_of_its_sandbox() {
    let t = Setup::new(Kind::Anthropic).await;
    let (ours, other) = (RuntimeKey::generate(&Env::system()), RuntimeKey::generate(&Env::system()));
    *t.ledger.runtime_key.lock().unwrap() = Some(ours.clone());
    let proof =
        |key: &RuntimeKey, sandbox: &str| SandboxProof::header_value(key, sandbox, "run1", &"1".repeat(64));
    let good = proof(&ours, "sbx_1");
    for (value, status) in [
        (None, 401),
        (Some(proof(&other, "sbx_1")), 401),
        (Some(proof(&ours, "sbx_2")), 401),
        (Some("nonsense".to_owned()), 401),
        (Some(good), 200),
    ] {
        if status == 200 {
            t.upstream.will(Reply::json(200, "{}"));
        }
        let mut request = post("/v1/messages", "{}");
        if let Some(value) = &value {
            request.headers_mut().insert("x-foundry-sandbox", value.parse().unwrap());
        }
        assert_eq!(t.send(request).await.status(), status, "{value:?}");
    }
}

#[tokio::test]
async fn serves_no_path_off_the_list_and_no_web_socket() {
    let t = Setup::new(Kind::Anthropic).await;
    for path in
        ["/v1/files", "/", "/v1/messages/../files", "/v1/chat/completions", "/v1/organizations/api_keys"]
    {
        let answer = t.post(path, "{}").await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "x-foundry-reason")),
            (404, "MODEL_PATH_UNKNOWN"),
            "{path}"
        );
        assert_eq!(header(&answer, "content-type"), "application/json");
    }
    let mut request = post("/v1/messages", "{}");
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let answer = t.send(request).await;
    assert_eq!(answer.status(), 404);
    let shown: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
    assert!(shown["error"]["message"].is_string(), "{shown}");
    assert!(t.upstream.was_not_asked().await);
}

#[tokio::test]
async fn refuses_a_body_of_33_mib_and_takes_one_of_32() {
    let t = Setup::new(Kind::Anthropic).await;
    let sized = |mib: usize| {
        let frame = r#"{"model":"m","x":""}"#;
        format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(mib * 1024 * 1024 - frame.len()))
    };
    let large = Bytes::from(sized(33));
    let mut unannounced = post("/v1/messages", large.clone());
    unannounced.headers_mut().remove("content-length");
    for request in [post("/v1/messages", large), unannounced] {
        let answer = t.send(request).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (413, "false"));
        assert!(text(answer).await.contains("request_too_large"));
    }
    assert!(t.upstream.was_not_asked().await);
    t.upstream.will(Reply::json(200, "{}"));
    assert_eq!(t.post("/v1/messages", sized(32)).await.status(), 200);
    assert_eq!(t.upstream.received().await.body.len(), 32 * 1024 * 1024);
}

#[tokio::test]
async fn refuses_a_body_that_could_be_counted_in_another_way_than_it_is_meant() {
    let t = Setup::new(Kind::OpenAi).await;
    for bad in [r#"{"model":"a","model":"b"}"#, r#"{"stream":true,"stream":false}"#, "[]", ""] {
        let answer = t.post("/v1/chat/completions", bad).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "x-foundry-reason")),
            (400, "MODEL_REQUEST_MALFORMED")
        );
    }
    assert!(t.upstream.was_not_asked().await);
}

#[tokio::test]
async fn makes_no_call_for_a_model_that_the_profile_does_not_allow() {
    let t = Setup::with(Kind::Gemini, |access| access.models = vec!["gemini-a".to_owned()]).await;
    let answer = t.post("/v1beta/models/gemini-b:generateContent", "{}").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-foundry-reason")), (403, "MODEL_NOT_ALLOWED"));
    let condition = t.ledger.next_condition().await;
    assert_eq!((condition.reason(), condition.ends_turn()), ("MODEL_NOT_ALLOWED", true));
    assert!(t.upstream.was_not_asked().await);
    t.upstream.will(Reply::json(200, "{}"));
    assert_eq!(t.post("/v1beta/models/gemini-a:generateContent", "{}").await.status(), 200);
}

#[tokio::test]
async fn makes_no_call_when_a_limit_is_used_up() {
    let limit =
        Limit { scope: "task fix-it".to_owned(), unit: Unit::Micros, used: 5_310_000, maximum: 5_250_000 };
    let t = Setup::with(Kind::Anthropic, |access| access.limits = vec![limit]).await;
    let answer = t.post("/v1/messages", r#"{"model":"m"}"#).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (402, "false"));
    let text = text(answer).await;
    assert!(
        text.contains("billing_error") && text.contains("5.25 USD for task fix-it is reached (5.31 USD"),
        "{text}"
    );
    let condition = t.ledger.next_condition().await;
    assert_eq!((condition.reason(), condition.ends_turn()), ("MODEL_LIMIT_REACHED", true));
    assert!(t.upstream.was_not_asked().await);
    // Counting costs nothing.
    t.upstream.will(Reply::json(200, r#"{"input_tokens":3}"#));
    assert_eq!(t.post("/v1/messages/count_tokens", r#"{"model":"m"}"#).await.status(), 200);
}

#[tokio::test]
async fn follows_no_redirect_and_says_so() {
    let t = Setup::new(Kind::Anthropic).await;
    t.upstream.will(Reply::whole(307, &[("location", "https://elsewhere.example/v1/messages")], ""));
    let answer = t.post("/v1/messages", "{}").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "location")), (502, ""));
    let condition = t.ledger.next_condition().await;
    assert_eq!(condition.reason(), "MODEL_UNREACHABLE");
    assert!(condition.words.contains("https://elsewhere.example"), "{}", condition.words);
}
