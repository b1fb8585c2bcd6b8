//! Logs contain no key and no token.

use crate::support::{KEY, Reply, Setup, TOKEN, post, text};
use foundry_model_gateway::{Kind, SandboxProof};
use foundry_testkit::Log;

#[tokio::test]
async fn writes_no_key_and_no_token_into_a_log_even_at_trace() {
    let log = Log::of_everything();
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
    let log = log.text();
    assert!(log.contains("MODEL_KEY_REFUSED"), "nothing was logged: {log}");
    for secret in [KEY, TOKEN] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
