//! What is counted, for each API, in one piece and in streams.

// Clippy's exception for tests does not reach what the tests share.
use std::time::Duration;

use crate::support::{Reply, Setup, body, text, within};
use foundry_model_gateway::{ConditionKind, Kind, Limit, ModelPrice, Unit, Usage};

const CLAUDE: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x-1\",\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,\"output_tokens\":1}}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"the \\\"usage\\\" of {}\"}}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":40}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const CHAT_WORDS: &str = "data: {\"model\":\"gpt-x-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}],\"usage\":null}\n\n\
data: {\"model\":\"gpt-x-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const CHAT_USAGE: &str = "data: {\"model\":\"gpt-x-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":60}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-y\",\"usage\":null}}\n\n\
event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-y-1\",\"usage\":{\"input_tokens\":50,\"input_tokens_details\":{\"cached_tokens\":20},\"output_tokens\":9}}}\n\n";

const GEMINI: &str = "data: {\"candidates\":[{\"content\":{}}],\"usageMetadata\":{\"promptTokenCount\":80},\"modelVersion\":\"gemini-x-1\"}\r\n\r\n\
data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":80,\"cachedContentTokenCount\":30,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":5},\"modelVersion\":\"gemini-x-1\"}\r\n\r\n";

fn usage(model: &str, input: u64, output: u64, cache_read: u64, cache_write: u64) -> Usage {
    let model = model.to_owned();
    Usage {
        model,
        input,
        output,
        cache_read,
        cache_write,
        cost_micros: None,
        complete: true,
        estimated: false,
    }
}

#[tokio::test]
async fn counts_the_usage_of_every_api_in_streams_and_passes_them_as_they_are() {
    let chat = format!("{CHAT_WORDS}{CHAT_USAGE}{DONE}");
    for (kind, path, request, answer, expected) in [
        (Kind::Anthropic, "/v1/messages", r#"{"stream":true}"#, CLAUDE, usage("claude-x-1", 10, 40, 30, 20)),
        (
            Kind::OpenAi,
            "/v1/chat/completions",
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            &chat,
            usage("gpt-x-1", 40, 7, 60, 0),
        ),
        (Kind::OpenAi, "/v1/responses", r#"{"stream":true}"#, RESPONSES, usage("gpt-y-1", 30, 9, 20, 0)),
        (
            Kind::Gemini,
            "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
            "{}",
            GEMINI,
            usage("gemini-x-1", 50, 9, 30, 0),
        ),
    ] {
        let t = Setup::new(kind).await;
        t.upstream.will(Reply::events(answer));
        assert_eq!(text(t.post(path, request).await).await, answer, "{path}");
        assert_eq!(t.upstream.received().await.body, request.as_bytes(), "{path}");
        assert_eq!(t.ledger.next_usage().await, expected, "{path}");
        assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK", "{path}");
    }
}

#[tokio::test]
async fn counts_the_usage_of_every_api_in_one_piece() {
    for (kind, path, answer, expected) in [
        (
            Kind::Anthropic,
            "/v1/messages",
            r#"{"model":"c","content":[],"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4}}"#,
            usage("c", 1, 2, 3, 4),
        ),
        (
            Kind::OpenAiCompatible,
            "/v1/chat/completions",
            r#"{"model":"q","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            usage("q", 1, 2, 0, 0),
        ),
        (
            Kind::OpenAi,
            "/v1/responses",
            r#"{"model":"r","usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":6}}"#,
            usage("r", 3, 6, 2, 0),
        ),
        (
            Kind::Gemini,
            "/v1beta/models/g:generateContent",
            r#"{"candidates":[],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1}}"#,
            usage("g", 9, 1, 0, 0),
        ),
        (
            Kind::Gemini,
            "/v1beta/models/g:streamGenerateContent",
            "[{\"usageMetadata\":{\"promptTokenCount\":9}}\n,\r\n{\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":8}}]",
            usage("g", 9, 8, 0, 0),
        ),
    ] {
        let t = Setup::new(kind).await;
        t.upstream.will(Reply::json(200, answer));
        assert_eq!(text(t.post(path, "{}").await).await, answer, "{path}");
        assert_eq!(t.ledger.next_usage().await, expected, "{path}");
    }
}

#[tokio::test]
async fn asks_for_usage_where_the_agent_does_not_and_takes_it_out_again() {
    let t = Setup::new(Kind::OpenAiCompatible).await;
    t.upstream.will(Reply::events(&format!("{CHAT_WORDS}{CHAT_USAGE}{DONE}")));
    let answer = t.post("/v1/chat/completions", r#"{"model":"m", "stream":true}"#).await;
    assert_eq!(text(answer).await, format!("{CHAT_WORDS}{DONE}"));
    let asked = r#"{"stream_options":{"include_usage":true},"model":"m", "stream":true}"#;
    assert_eq!(t.upstream.received().await.body, asked.as_bytes());
    assert_eq!(t.ledger.next_usage().await, usage("gpt-x-1", 40, 7, 60, 0));
}

#[tokio::test]
async fn counts_what_was_used_up_to_a_cancel() {
    let t = Setup::new(Kind::Anthropic).await;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let answer = t.post("/v1/messages", r#"{"stream":true}"#).await;
    let mut body = answer.into_body();
    stream.send(&CLAUDE[..CLAUDE.find("event: content_block").unwrap()]);
    crate::support::piece(&mut body).await;
    drop(body);
    assert_eq!(t.ledger.next_usage().await, Usage { complete: false, ..usage("claude-x-1", 10, 1, 30, 20) });
}

#[tokio::test]
async fn knows_the_cost_where_a_price_is_known() {
    let price = |model: &str| ModelPrice {
        model: model.to_owned(),
        input: 3_000_000,
        output: 15_000_000,
        cache_read: 300_000,
        cache_write: 3_750_000,
    };
    let t =
        Setup::with(Kind::Anthropic, |access| access.prices = vec![price("other"), price("claude-x")]).await;
    t.upstream.will(Reply::events(CLAUDE));
    text(t.post("/v1/messages", r#"{"model":"claude-x","stream":true}"#).await).await;
    let used = t.ledger.next_usage().await;
    assert_eq!((used.cost_micros, used.tokens()), (Some(30 + 600 + 9 + 75), 100));
}

#[tokio::test]
async fn counts_the_usage_at_the_end_of_an_answer_of_many_mebibytes() {
    let t = Setup::new(Kind::OpenAi).await;
    let answer = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"output\":\"{}\",\"usage\":{{\"input_tokens\":5,\"output_tokens\":6}}}}}}\n\n",
        "x".repeat(3 * 1024 * 1024)
    );
    t.upstream.will(Reply::events(&answer));
    let got = body(t.post("/v1/responses", r#"{"model":"m","stream":true}"#).await).await;
    assert!(got == answer.as_bytes());
    assert_eq!(within(t.ledger.next_usage()).await, usage("m", 5, 6, 0, 0));
    assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
}

#[tokio::test]
async fn an_answer_that_tells_no_usage_is_counted_with_a_guess() {
    let words = "some words of a person ".repeat(20);
    let request = format!(r#"{{"model":"m","stream":true,"messages":["{words}"]}}"#);
    let spoken = format!(r#"{{"model":"m","choices":[{{"message":{{"content":"{words}"}}}}]}}"#);
    let gzip: &[u8] = b"\x1f\x8bnot really compressed, as it is";
    let events = format!("{CHAT_WORDS}{DONE}");
    for (what, reply, passes, complete, output) in [
        ("whole", Reply::json(200, &spoken), spoken.as_bytes(), true, spoken.len() as u64 / 4),
        ("events", Reply::events(&events), events.as_bytes(), true, 1),
        ("unfinished", Reply::events(&CHAT_WORDS[..CHAT_WORDS.find("\n\n").unwrap() + 2]), b"", false, 1),
        (
            "compressed",
            Reply::whole(200, &[("content-encoding", "gzip")], gzip),
            gzip,
            true,
            gzip.len() as u64 / 4,
        ),
    ] {
        let t = Setup::new(Kind::OpenAiCompatible).await;
        t.upstream.will(reply);
        let answer = t.post("/v1/chat/completions", request.clone()).await;
        let got = body(answer).await;
        assert!(passes.is_empty() || got == passes, "{what}");
        let used = within(t.ledger.next_usage()).await;
        assert!(used.input.abs_diff(request.len() as u64 / 4) < 10, "{what}: {used:?}");
        assert_eq!((used.estimated, used.complete, used.output), (true, complete, output), "{what}");
        t.ledger.next_condition().await;
    }
    // The provider reports a part and breaks off.
    for silent in [false, true] {
        let t = Setup::new(Kind::Anthropic).await;
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let mut body = t.post("/v1/messages", request.clone()).await.into_body();
        let sent = &CLAUDE[..CLAUDE.find("event: message_delta").unwrap()];
        stream.send(sent);
        let (mut passed, word) = (0, "event: x\ndata: {\"type\":\"content_block_delta\"}\n\n");
        stream.send(&word.repeat(9));
        while passed < sent.len() + 9 * word.len() {
            passed += crate::support::piece(&mut body).await.len();
        }
        let next = http_body_util::BodyExt::frame(&mut body);
        if silent {
            let time = async {
                t.clock.wait_for_sleepers(1).await;
                t.clock.advance(crate::support::SILENCE);
            };
            within(async { tokio::join!(next, time) }).await.0.unwrap().unwrap();
        } else {
            stream.cut();
            assert!(within(next).await.unwrap().is_err());
        }
        let used = within(t.ledger.next_usage()).await;
        assert_eq!((used.input, used.complete, used.estimated), (10, false, true), "{used:?}");
        assert!(used.output >= 10, "{used:?}");
    }
    // Nothing was generated for the caller.
    let t = Setup::new(Kind::Anthropic).await;
    t.upstream.will(Reply::events("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n"));
    text(t.post("/v1/messages", request).await).await;
    t.ledger.next_condition().await;
    assert!(t.ledger.has_no_more().await);
}

#[tokio::test]
async fn refuses_a_response_in_the_background_which_nobody_would_count() {
    let t = Setup::new(Kind::OpenAi).await;
    let answer = t.post("/v1/responses", r#"{"model":"m","background":true}"#).await;
    assert_eq!(
        (answer.status().as_u16(), crate::support::header(&answer, "x-foundry-reason")),
        (400, "MODEL_REQUEST_MALFORMED")
    );
    let said = text(answer).await;
    assert!(said.contains("invalid_request_error") && said.contains("background"), "{said}");
    assert!(t.upstream.was_not_asked().await);
    t.upstream.will(Reply::events(RESPONSES));
    let answer = t.post("/v1/responses", r#"{"model":"m","background":false,"stream":true}"#).await;
    assert_eq!(text(answer).await, RESPONSES);
}

#[tokio::test]
async fn an_agent_that_does_not_read_holds_no_share_of_a_limit() {
    let limit = Limit { scope: "task a".to_owned(), unit: Unit::Tokens, used: 0, maximum: 1_000 };
    let t = Setup::with(Kind::Anthropic, |access| access.limits = vec![limit]).await;
    let request = r#"{"model":"m","stream":true}"#;
    for (read, whole) in [(false, false), (true, false), (true, true)] {
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let mut unread = t.post("/v1/messages", request).await.into_body();
        let received = t.upstream.received().await;
        stream.send(CLAUDE);
        if read {
            crate::support::piece(&mut unread).await;
        }
        if whole {
            stream.end();
        }
        let time = async {
            loop {
                t.clock.advance(crate::support::SILENCE);
                tokio::task::yield_now().await;
            }
        };
        let ended = async {
            if !whole {
                received.closed.await.unwrap();
            }
            t.ledger.next_usage().await
        };
        let used = tokio::select! {
            used = within(ended) => used,
            () = time => unreachable!(),
        };
        assert!(used.estimated != read, "{used:?}");
        t.upstream.will(Reply::events(CLAUDE));
        text(t.post("/v1/messages", request).await).await;
        t.upstream.received().await;
        t.ledger.next_usage().await;
        let rest = within(http_body_util::BodyExt::frame(&mut unread)).await;
        assert!(rest.unwrap().is_err(), "it looks whole");
    }
}

#[tokio::test]
async fn an_agent_that_leaves_early_is_counted_with_a_guess_of_what_passed() {
    let words = "some words of a person ".repeat(200);
    let request = format!(r#"{{"model":"m","stream":true,"messages":["{words}"]}}"#);
    let t = Setup::new(Kind::OpenAiCompatible).await;
    let used = async || {
        let used = t.ledger.next_usage().await;
        assert!(
            used.estimated && !used.complete && ['m', 'g'].iter().any(|m| used.model.starts_with(*m)),
            "{used:?}"
        );
        let expected = request.len() as u64 / 4;
        assert!(used.input.abs_diff(expected) < 10, "{used:?} for {expected}");
        used.output
    };
    // Before there is an answer.
    let (_nothing, silent) = Reply::silent();
    t.upstream.will(silent);
    let mut waiting =
        Box::pin(t.gateway.handle(crate::support::post("/v1/chat/completions", request.clone())));
    tokio::select! {
        _ = waiting.as_mut() => panic!("there is no answer"),
        _ = t.upstream.received() => {}
    }
    drop(waiting);
    assert_eq!(used().await, 0);
    // Within the output, and after it when only the usage is missing.
    let end = CHAT_WORDS.find("\n\n").unwrap() + 2;
    let (word, done) = CHAT_WORDS.split_at(end);
    for end in ["", done] {
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let answer = t.post("/v1/chat/completions", request.clone()).await;
        t.upstream.received().await;
        let mut body = answer.into_body();
        let sent = format!("{}{end}", word.repeat(50));
        stream.send(&sent);
        let mut passed = 0;
        while passed < sent.len() {
            passed += crate::support::piece(&mut body).await.len();
        }
        drop(body);
        assert_eq!(used().await, 50, "one for each event");
    }
}

#[tokio::test]
async fn a_call_waits_while_those_under_way_may_use_up_the_limit() {
    let limit = |used| Limit { scope: "task a".to_owned(), unit: Unit::Tokens, used, maximum: 10_000 };
    let t = Setup::with(Kind::Anthropic, |access| access.limits = vec![limit(0)]).await;
    let request = r#"{"model":"m","stream":true,"max_tokens":9999}"#;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let first = t.post("/v1/messages", request).await;
    t.upstream.received().await;
    let mut second = Box::pin(t.gateway.handle(crate::support::post("/v1/messages", request)));
    // Until it waits for the first alone.
    for _ in 0..50 {
        assert!(futures::poll!(second.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(t.upstream.was_not_asked().await, "both passed on the same sum");
    t.ledger.change(|access| access.limits = vec![limit(100)]);
    stream.send(CLAUDE);
    stream.end();
    text(first).await;
    t.ledger.next_usage().await;
    // The first used less than it might have.
    t.upstream.will(Reply::events(CLAUDE));
    assert_eq!(within(second).await.status(), 200);
    t.upstream.received().await;
    t.ledger.change(|access| access.limits = vec![limit(10_000)]);
    assert_eq!(t.post("/v1/messages", request).await.status(), 402);
}

#[tokio::test]
async fn a_session_shows_that_calls_wait_for_a_limit_until_none_of_them_does() {
    let limit = |used| Limit { scope: "task a".to_owned(), unit: Unit::Tokens, used, maximum: 10_000 };
    let t = Setup::with(Kind::Anthropic, |access| access.limits = vec![limit(0)]).await;
    let request = r#"{"model":"m","stream":true,"max_tokens":9999}"#;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let first = t.post("/v1/messages", request).await;
    t.upstream.received().await;
    let mut second = Box::pin(t.gateway.handle(crate::support::post("/v1/messages", request)));
    let mut third = Box::pin(t.gateway.handle(crate::support::post("/v1/messages", request)));
    let pending = async |second: &mut (dyn Future<Output = _> + Unpin)| {
        for _ in 0..50 {
            assert!(futures::poll!(&mut *second).is_pending());
            tokio::task::yield_now().await;
        }
    };
    pending(&mut second).await;
    pending(&mut third).await;
    t.clock.advance(Duration::from_secs(4));
    pending(&mut second).await;
    assert!(t.ledger.has_no_more().await, "shown at once");
    t.clock.advance(Duration::from_secs(2));
    for waiting in [&mut second, &mut third] {
        pending(waiting).await;
        let shown = t.ledger.next_condition().await;
        assert_eq!((shown.reason(), shown.ends_turn()), ("MODEL_LIMIT_WAIT", false));
        assert!(shown.words.contains("task a"), "{}", shown.words);
    }
    // The agent gives one of them up.
    drop(third);
    pending(&mut second).await;
    assert!(t.ledger.has_no_more().await, "the other one still waits");
    t.ledger.change(|access| access.limits = vec![limit(100)]);
    stream.send(CLAUDE);
    stream.end();
    text(first).await;
    let (second_stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let answer = within(second).await;
    let conditions = [t.ledger.next_condition().await.kind, t.ledger.next_condition().await.kind];
    assert_eq!(
        conditions,
        [ConditionKind::Working, ConditionKind::LimitWaitOver],
        "not over when it goes on"
    );
    second_stream.end();
    drop(answer);
}
