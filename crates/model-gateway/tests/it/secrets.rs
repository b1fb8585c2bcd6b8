//! Logs contain no key and no token.

// Clippy's exception for tests does not reach what the tests share.
use std::io;
use std::sync::{Arc, Mutex};

use crate::support::{KEY, Reply, Setup, TOKEN, post, text};
use foundry_model_gateway::{Kind, SandboxProof};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn writes_no_key_and_no_token_into_a_log_even_at_trace() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let t = Setup::new(Kind::Anthropic).await;
    for reply in [
        Reply::json(401, &format!(r#"{{"error":{{"message":"bad {KEY}"}}}}"#)),
        Reply::json(200, "{}"),
        Reply::close(),
    ] {
        t.upstream.will(reply);
        let mut request = post(&format!("/v1/messages?key={TOKEN}"), "{}");
        let proof = SandboxProof::header_value(
            &foundry_sandbox::RuntimeKey::default(),
            "sbx_1",
            "run1",
            &"1".repeat(64),
        );
        request.headers_mut().insert("x-foundry-sandbox", proof.parse().unwrap());
        text(t.send(request).await).await;
        t.ledger.next_condition().await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("MODEL_KEY_REFUSED"), "nothing was logged: {log}");
    for secret in [KEY, TOKEN] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
