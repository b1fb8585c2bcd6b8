//! Checks of a model provider's configuration, and their failures.

// Clippy's exception for tests does not reach what the tests share.
use std::sync::Arc;
use std::time::Duration;

use crate::support::{KEY, Reply, Upstream, access, within};
use foundry_core::{Env, SystemRandom, Tasks};
use foundry_http_client::{NetworkSettings, http_client};
use foundry_model_gateway::{Access, Kind, ProbeFailure, ProbeOk, ProbeStep, probe};
use foundry_testkit::MockClock;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

struct Probing {
    upstream: Upstream,
    clock: Arc<MockClock>,
    env: Env,
    tasks: Tasks,
}

impl Probing {
    async fn new() -> Self {
        let (tasks, _) = Tasks::new();
        let clock = Arc::new(MockClock::default());
        let env = Env { clock: clock.clone(), random: Arc::new(SystemRandom) };
        Self { upstream: Upstream::start(&tasks).await, clock, env, tasks }
    }

    async fn run(&self, access: &Access, model: &str) -> Result<ProbeOk, ProbeFailure> {
        let client = http_client(&NetworkSettings::default()).unwrap();
        within(probe(&client, &self.env, access, model)).await
    }
}

#[tokio::test]
async fn makes_one_small_call_of_the_right_api() {
    for (kind, path, small, answer) in [
        (
            Kind::Anthropic,
            "/v1/messages",
            r#""max_tokens":1"#,
            r#"{"model":"m1","content":[],"usage":{"input_tokens":8,"output_tokens":1}}"#,
        ),
        (
            Kind::OpenAi,
            "/v1/responses",
            r#""max_output_tokens":16"#,
            r#"{"model":"m1","output":[],"usage":{"input_tokens":8,"output_tokens":1}}"#,
        ),
        (
            Kind::OpenAiCompatible,
            "/v1/chat/completions",
            r#""max_tokens":1"#,
            r#"{"model":"m1","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":1}}"#,
        ),
        (
            Kind::Gemini,
            "/v1beta/models/m:generateContent",
            r#""maxOutputTokens":1"#,
            r#"{"modelVersion":"m1","candidates":[],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":1}}"#,
        ),
    ] {
        let p = Probing::new().await;
        p.upstream.will(Reply::json(200, answer));
        let ok = p.run(&access(kind, &p.upstream.base()), "m").await.unwrap();
        assert_eq!((ok.model.as_str(), ok.usage.input, ok.usage.output), ("m1", 8, 1), "{kind:?}");
        let got = p.upstream.received().await;
        assert_eq!(got.line(), format!("POST {path} HTTP/1.1"));
        let body = String::from_utf8(got.body).unwrap();
        assert!(body.contains(small), "{body}");
    }
}

/// An answer that ends before its announced length.
fn cut() -> Reply {
    let (stream, reply) = Reply::stream_of("application/json");
    stream.send(r#"{"content":["#);
    stream.cut();
    reply
}

#[tokio::test]
async fn says_which_step_fails() {
    let p = Probing::new().await;
    let good = access(Kind::Anthropic, &p.upstream.base());
    for (reply, expected, words) in [
        (
            Reply::json(401, &format!(r#"{{"error":{{"message":"bad key {KEY}"}}}}"#)),
            ProbeStep::Key,
            "bad key ***",
        ),
        (Reply::json(404, r#"{"error":{"message":"model: m"}}"#), ProbeStep::Model, "model: m"),
        (Reply::json(429, "{}"), ProbeStep::Quota, "429"),
        (
            Reply::whole(429, &[("retry-after", "90")], "{}"),
            ProbeStep::Quota,
            "calls are accepted again in 90 s, at 2026-",
        ),
        (Reply::json(500, "{}"), ProbeStep::Failing, "500"),
        (Reply::json(400, r#"{"error":{"message":"odd"}}"#), ProbeStep::Failing, "odd"),
        (
            Reply::whole(200, &[], "<html>Welcome</html>"),
            ProbeStep::Answer,
            "does not provide this kind of API",
        ),
        (Reply::close(), ProbeStep::Failing, "closed the connection"),
        (cut(), ProbeStep::Failing, "cut off its response"),
        (Reply::raw("SSH-2.0-OpenSSH_9.2p1\r\n"), ProbeStep::Answer, "something that is not HTTP"),
        (
            Reply::whole(200, &[], "x".repeat(300 * 1024)),
            ProbeStep::Answer,
            "responded with more than 256 KiB",
        ),
    ] {
        p.upstream.will(reply);
        let failure = p.run(&good, "m").await.unwrap_err();
        assert_eq!(failure.what, expected, "{}", failure.words);
        assert!(failure.words.contains(words) && !failure.words.contains(KEY), "{}", failure.words);
    }
    // Bound but not listening: it refuses connections, and no other process can get the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = socket.local_addr().unwrap();
    for (base, expected) in [
        ("http://no-such-host.invalid".to_owned(), ProbeStep::Name),
        (format!("http://{unused}"), ProbeStep::Host),
    ] {
        let failure = p.run(&access(Kind::OpenAi, &base), "m").await.unwrap_err();
        assert_eq!(failure.what, expected, "{}", failure.words);
    }
    let failure = p.run(&access(Kind::Gemini, &p.upstream.base()), "../m").await.unwrap_err();
    assert_eq!(failure.what, ProbeStep::Model);
}

#[tokio::test]
async fn gives_up_after_ten_seconds() {
    let p = Probing::new().await;
    let (_nothing, reply) = Reply::silent();
    p.upstream.will(reply);
    let good = access(Kind::Anthropic, &p.upstream.base());
    let time = async {
        p.upstream.received().await;
        p.clock.wait_for_sleepers(1).await;
        p.clock.advance(Duration::from_secs(10));
    };
    let (failure, ()) = within(async { tokio::join!(p.run(&good, "m"), time) }).await;
    assert_eq!(failure.unwrap_err().what, ProbeStep::Answer);
}

#[tokio::test]
async fn trusts_a_server_with_the_operators_ca_and_says_tls_without_it() {
    let p = Probing::new().await;
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (replies, to_send) = mpsc::unbounded_channel();
    let (seen, _received) = mpsc::unbounded_channel();
    let to_send = Arc::new(Mutex::new(to_send));
    p.tasks.spawn("tls upstream", async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (io, _) = listener.accept().await.unwrap();
            if let Ok(io) = acceptor.accept(io).await {
                crate::support::upstream::answer(io, to_send.clone(), seen.clone()).await;
            }
        }
    });
    let access = access(Kind::Anthropic, &base);
    let failure = p.run(&access, "m").await.unwrap_err();
    assert_eq!(failure.what, ProbeStep::Tls, "{}", failure.words);

    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("corp.pem");
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let settings = NetworkSettings { ca_file: Some(ca_file), ..NetworkSettings::default() };
    let client = http_client(&settings).unwrap();
    replies.send(Reply::json(200, r#"{"content":[]}"#)).unwrap();
    assert!(within(probe(&client, &p.env, &access, "m")).await.is_ok());
}
