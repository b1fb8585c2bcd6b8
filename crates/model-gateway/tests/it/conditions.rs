//! What a provider's answers mean for the session and its key.

// Clippy's exception for tests does not reach what the tests share.
use std::time::Duration;

use crate::support::{KEY, Reply, SILENCE, Setup, header, piece, post, text, within};
use foundry_core::Clock as _;
use foundry_model_gateway::{ConditionKind, Kind, Unreached};
use futures::FutureExt as _;

const CALL: &str = r#"{"model":"claude-x","stream":true}"#;

#[tokio::test]
async fn passes_a_refusal_unchanged_and_tells_the_agent_not_to_try_again() {
    for (status, body, reason) in [
        (
            401,
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
            "MODEL_KEY_REFUSED",
        ),
        (403, r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#, "MODEL_KEY_REFUSED"),
        (
            404,
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}"#,
            "MODEL_UNKNOWN",
        ),
        (402, r#"{"type":"error","error":{"type":"billing_error","message":"pay"}}"#, "MODEL_QUOTA"),
    ] {
        let t = Setup::new(Kind::Anthropic).await;
        t.upstream.will(Reply::json(status, body));
        let answer = t.post("/v1/messages", CALL).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (status, "false"));
        assert_eq!(text(answer).await, body);
        let condition = t.ledger.next_condition().await;
        assert_eq!(
            (condition.reason(), condition.model.as_str(), condition.ends_turn()),
            (reason, "claude-x", true)
        );
        assert!(condition.words.contains(&status.to_string()), "{}", condition.words);
    }
}

#[tokio::test]
async fn leaves_failures_and_short_waits_to_the_agent() {
    for (status, headers, reason) in [
        (500, &[][..], "MODEL_FAILING"),
        (529, &[], "MODEL_FAILING"),
        (503, &[("retry-after", "3600")], "MODEL_FAILING"),
        (429, &[("retry-after", "2")], "MODEL_QUOTA"),
        (429, &[], "MODEL_QUOTA"),
    ] {
        let t = Setup::new(Kind::Anthropic).await;
        t.upstream.will(Reply::whole(status, headers, "{}"));
        let answer = t.post("/v1/messages", CALL).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (status, ""));
        let condition = t.ledger.next_condition().await;
        assert_eq!((condition.reason(), condition.ends_turn()), (reason, false), "{status} {headers:?}");
        let waits = headers.first().is_some_and(|(_, v)| *v == "2");
        if let ConditionKind::Quota { resume_at, notice, .. } = condition.kind {
            let expected = waits.then(|| t.clock.now().plus(Duration::from_secs(2)));
            assert_eq!((resume_at, notice), (expected, waits));
        }
        // The next call goes out.
        t.upstream.received().await;
        t.upstream.will(Reply::json(200, "{}"));
        assert_eq!(text(t.post("/v1/messages", CALL).await).await, "{}");
        assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
        t.ledger.next_usage().await;
    }
}

#[tokio::test]
async fn asks_no_provider_while_its_quota_is_used_up_and_one_call_goes_first_then() {
    let t = Setup::new(Kind::Anthropic).await;
    t.upstream.will(Reply::whole(429, &[("retry-after", "3600")], "{}"));
    let answer = t.post("/v1/messages", CALL).await;
    assert_eq!((header(&answer, "retry-after"), header(&answer, "x-should-retry")), ("3600", "false"));
    let resumes = t.clock.now().plus(Duration::from_secs(3600));
    let long = ConditionKind::Quota { resume_at: Some(resumes), notice: false, ends_turn: true };
    assert_eq!(t.ledger.next_condition().await.kind, long);
    t.upstream.received().await;

    t.clock.advance(Duration::from_secs(600));
    let answer = t.post("/v1/messages", CALL).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (429, "3000"));
    assert!(text(answer).await.contains("rate_limit_error"));
    assert_eq!(t.ledger.next_condition().await.kind, long);
    assert!(t.upstream.was_not_asked().await);

    t.clock.advance(Duration::from_secs(3000));
    let (first, second) =
        (t.gateway.handle(post("/v1/messages", CALL)), t.gateway.handle(post("/v1/messages", CALL)));
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    let both = async { tokio::join!(first, second) };
    let upstream = async {
        t.upstream.received().await;
        // The second waits for the result of the first one.
        assert!(t.upstream.was_not_asked().await);
        t.upstream.will(Reply::json(200, "{}"));
        t.upstream.received().await;
        t.upstream.will(Reply::json(200, "{}"));
    };
    let ((first, second), ()) = within(async { tokio::join!(both, upstream) }).await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    // Reported with the head of the first answer, since a stream may take long.
    assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
}

#[tokio::test]
async fn holds_a_key_and_not_its_owner() {
    let t = Setup::new(Kind::OpenAi).await;
    t.upstream.will(Reply::whole(429, &[("retry-after", "3600")], "{}"));
    t.post("/v1/responses", CALL).await;
    assert_eq!(t.post("/v1/responses", CALL).await.status(), 429);
    t.ledger.change(|access| {
        access.credential =
            foundry_model_gateway::Credential::Key(foundry_model_gateway::Secret::new("another-key"));
    });
    t.upstream.will(Reply::json(200, "{}"));
    assert_eq!(t.post("/v1/responses", CALL).await.status(), 200);
}

#[tokio::test]
async fn tells_a_stream_that_is_cut_from_one_that_ends() {
    let t = Setup::new(Kind::Anthropic).await;
    let event = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    for ends in [false, true] {
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let mut body = t.post("/v1/messages", CALL).await.into_body();
        stream.send(event);
        assert_eq!(piece(&mut body).await, event);
        if ends {
            stream.end()
        } else {
            stream.cut()
        }
        let rest = within(http_body_util::BodyExt::frame(&mut body)).await;
        // The agent sees the same as without the gateway.
        assert_eq!(rest.is_none(), ends);
        let condition = t.ledger.next_condition().await;
        assert_eq!((condition.reason(), condition.ends_turn()), ("MODEL_FAILING", false));
    }
}

#[tokio::test]
async fn understands_failures_that_come_within_a_stream() {
    for (kind, path, events, reason) in [
        (
            Kind::Anthropic,
            "/v1/messages",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            "MODEL_FAILING",
        ),
        (
            Kind::OpenAi,
            "/v1/responses",
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"slow\"}}}\n\n",
            "MODEL_QUOTA",
        ),
        (
            Kind::OpenAi,
            "/v1/chat/completions",
            "data: {\"error\":{\"message\":\"oh\",\"code\":500}}\n\n",
            "MODEL_FAILING",
        ),
        (
            Kind::Gemini,
            "/v1beta/models/g:streamGenerateContent",
            "data: {\"error\":{\"code\":503,\"message\":\"overloaded\",\"status\":\"UNAVAILABLE\"}}\n\n",
            "MODEL_FAILING",
        ),
    ] {
        let t = Setup::new(kind).await;
        t.upstream.will(Reply::events(events));
        assert_eq!(text(t.post(path, CALL).await).await, events);
        assert_eq!(t.ledger.next_condition().await.reason(), reason, "{path}");
    }
}

#[tokio::test]
async fn ends_a_call_after_five_minutes_of_silence() {
    let t = Setup::new(Kind::Anthropic).await;
    let (_nothing, reply) = Reply::silent();
    t.upstream.will(reply);
    let call = t.gateway.handle(post("/v1/messages", CALL));
    let time = async {
        let received = t.upstream.received().await;
        t.clock.wait_for_sleepers(1).await;
        t.clock.advance(SILENCE);
        received
    };
    let (answer, received) = within(Box::pin(async { tokio::join!(call, time) })).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-foundry-reason")), (504, "MODEL_SILENT"));
    assert!(text(answer).await.contains("timeout_error"));
    assert_eq!(t.ledger.next_condition().await.kind, ConditionKind::Silent);
    within(received.closed).await.unwrap();
}

#[tokio::test]
async fn ends_a_stream_after_five_minutes_without_a_byte_however_long_it_has_run() {
    let t = Setup::new(Kind::OpenAi).await;
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let mut body = t.post("/v1/responses", CALL).await.into_body();
    for _ in 0..3 {
        t.clock.advance(SILENCE - Duration::from_secs(1));
        stream.send(": still here\n\n");
        assert_eq!(piece(&mut body).await, ": still here\n\n");
    }
    let received = t.upstream.received().await;
    let time = async {
        t.clock.wait_for_sleepers(1).await;
        t.clock.advance(SILENCE);
    };
    let (last, ()) = within(async { tokio::join!(piece(&mut body), time) }).await;
    assert!(last.starts_with("\n\ndata: {\"error\"") && last.contains("MODEL_SILENT"), "{last}");
    assert!(within(http_body_util::BodyExt::frame(&mut body)).await.is_none());
    assert_eq!(t.ledger.next_condition().await.kind, ConditionKind::Silent);
    drop(body);
    within(received.closed).await.unwrap();
}

#[tokio::test]
async fn says_in_its_own_words_why_a_provider_cannot_be_reached() {
    let t = Setup::new(Kind::Anthropic).await;
    // Bound but not listening: it refuses connections, and no other process can get the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = socket.local_addr().unwrap();
    let plain = t.upstream.address;
    for (base, what, words) in [
        (
            "http://no-such-host.invalid".to_owned(),
            Unreached::Name,
            "no-such-host.invalid cannot be resolved",
        ),
        (format!("http://{unused}"), Unreached::Host, "cannot be reached"),
    ] {
        t.ledger.change(|access| access.base_url = base.parse().unwrap());
        let answer = t.post("/v1/messages", CALL).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "x-foundry-reason")),
            (502, "MODEL_UNREACHABLE")
        );
        let condition = t.ledger.next_condition().await;
        assert_eq!(condition.kind, ConditionKind::Unreachable(what), "{}", condition.words);
        assert!(condition.words.contains(words), "{}", condition.words);
    }
    t.ledger.change(|access| access.base_url = format!("http://{plain}").parse().unwrap());
    t.upstream.will(Reply::close());
    let answer = t.post("/v1/messages", CALL).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-foundry-reason")), (502, "MODEL_FAILING"));
    t.upstream.will(Reply::whole(404, &[], "404 page not found"));
    assert_eq!(t.post("/v1/messages", CALL).await.status(), 404);
    assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_FAILING");
    assert_eq!(t.ledger.next_condition().await.kind, ConditionKind::Unreachable(Unreached::Path));
}

#[tokio::test]
async fn keeps_the_key_from_the_agent_even_when_the_provider_repeats_it() {
    let t = Setup::new(Kind::Anthropic).await;
    let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}."}}}}"#);
    t.upstream.will(Reply::whole(401, &[("www-authenticate", &format!("Bearer error={KEY}"))], &body));
    let answer = t.post("/v1/messages", CALL).await;
    assert!(!format!("{answer:?}").contains(KEY));
    assert_eq!(text(answer).await, body.replace(KEY, "***"));
    let condition = t.ledger.next_condition().await;
    assert!(condition.words.contains("Incorrect API key provided: ***"), "{}", condition.words);
}

#[tokio::test]
async fn tells_nothing_of_calls_that_no_model_works_for() {
    let t = Setup::new(Kind::Anthropic).await;
    t.upstream.will(Reply::json(404, "{}"));
    assert_eq!(t.post("/v1/messages/count_tokens", CALL).await.status(), 404);
    t.upstream.will(Reply::json(500, "{}"));
    let mut request = post("/v1/models", "");
    *request.method_mut() = http::Method::GET;
    assert_eq!(t.send(request).await.status(), 500);
    t.upstream.will(Reply::json(400, "{}"));
    assert_eq!(t.post("/v1/messages", CALL).await.status(), 400);
    t.upstream.will(Reply::json(200, "{}"));
    text(t.post("/v1/messages", CALL).await).await;
    assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
}

#[tokio::test]
async fn holds_what_the_ledger_remembers_of_a_quota_until_its_time() {
    let t = Setup::new(Kind::Anthropic).await;
    let until = t.clock.now().plus(Duration::from_secs(3600));
    t.ledger.change(|access| access.held_until = Some(until));
    let answer = t.post("/v1/messages", CALL).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (429, "3600"));
    let kind = t.ledger.next_condition().await.kind;
    assert_eq!(kind, ConditionKind::Quota { resume_at: Some(until), notice: false, ends_turn: true });
    assert!(t.upstream.was_not_asked().await);
    t.clock.advance(Duration::from_secs(3600));
    t.upstream.will(Reply::json(200, "{}"));
    assert_eq!(t.post("/v1/messages", CALL).await.status(), 200);
}

#[tokio::test]
async fn a_person_lets_calls_go_before_the_time_of_a_quota() {
    let t = Setup::with(Kind::Anthropic, |access| access.owner.provider = "mpr_1".to_owned()).await;
    t.upstream.will(Reply::whole(429, &[("retry-after", "3600")], "{}"));
    t.post("/v1/messages", CALL).await;
    t.upstream.received().await;
    assert_eq!(t.post("/v1/messages", CALL).await.status(), 429);
    assert!(t.upstream.was_not_asked().await);
    t.gateway.downgrade().let_go("mpr_1");
    t.upstream.will(Reply::json(200, "{}"));
    assert_eq!(t.post("/v1/messages", CALL).await.status(), 200);
}

#[tokio::test]
async fn says_that_a_model_provider_was_deleted_in_the_shape_of_its_api() {
    let t = Setup::new(Kind::Anthropic).await;
    *t.ledger.gone.lock().unwrap() = true;
    let answer = t.post("/v1/messages", CALL).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (403, "false"));
    let text = text(answer).await;
    assert!(text.contains("permission_error") && text.contains("MODEL_PROVIDER_NOT_FOUND"), "{text}");
}

#[tokio::test]
async fn a_late_refusal_of_the_key_of_before_says_nothing_about_the_key_of_now() {
    let t = Setup::with(Kind::Anthropic, |access| access.owner.provider = "mpr_1".to_owned()).await;
    for status in [429, 401] {
        let (late, reply) = Reply::silent();
        t.upstream.will(reply);
        let mut waiting = Box::pin(t.gateway.handle(crate::support::post("/v1/messages", "{}")));
        tokio::select! {
            _ = waiting.as_mut() => panic!("there is no answer"),
            _ = t.upstream.received() => {}
        }
        // As after a new key, or when a user asks to try again.
        t.gateway.downgrade().let_go("mpr_1");
        let answer = format!(
            "HTTP/1.1 {status} X\r\nretry-after: 3600\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        late.send(crate::support::upstream::Piece::Raw(answer.into_bytes())).unwrap();
        let answer = within(waiting).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (status, "true"));
        assert_eq!(header(&answer, "retry-after"), "");
        assert!(t.ledger.has_no_more().await, "a wait begins again");
        t.upstream.will(Reply::json(200, "{}"));
        assert_eq!(text(t.post("/v1/messages", "{}").await).await, "{}", "the key is held");
        t.upstream.received().await;
        assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
        t.ledger.next_usage().await;
    }
}
