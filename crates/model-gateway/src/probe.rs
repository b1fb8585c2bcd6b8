//! One small real call that checks the configuration of a model provider, and finds what is wrong with it.

use std::time::Duration;

use foundry_core::{Env, Timestamp};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::access::{Access, Kind, Usage};
use crate::classify;
use crate::condition::{ConditionKind, Unreached};
use crate::route::{Api, Route};
use crate::upstream;
use crate::usage::Reader;

/// Time limit of the whole test call, including connecting.
const LIMIT: Duration = Duration::from_secs(10);
/// A real answer is far smaller.
const LARGEST: usize = 256 * 1024;

/// The result of a successful probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOk {
    /// The model that answered.
    pub model: String,
    /// How long the call took.
    pub took: Duration,
    /// What the call used.
    pub usage: Usage,
}

/// The step at which a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStep {
    /// The host name of the base URL cannot be resolved.
    Name,
    /// Nothing answers at the address.
    Host,
    /// No trusted TLS connection.
    Tls,
    /// The key is refused.
    Key,
    /// The model is unknown.
    Model,
    /// The quota is used up.
    Quota,
    /// The answer is not one of the API: a wrong path, another kind of server.
    Answer,
    /// The provider answered with an error, or broke off.
    Failing,
}

/// What is wrong with a model provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// The step at which it failed.
    pub what: ProbeStep,
    /// What happened, as a text for users; never contains a secret.
    pub words: String,
}

/// Makes one call for one token of the model, at most 10 s.
///
/// # Errors
/// With the step that failed, and a message for the user who configured the provider.
pub async fn probe(
    client: &reqwest::Client,
    env: &Env,
    access: &Access,
    model: &str,
) -> Result<ProbeOk, ProbeFailure> {
    let began = env.clock.now();
    let answered = tokio::select! {
        answered = call(client, env, access, model) => answered,
        () = env.clock.sleep(LIMIT) => {
            let words = format!("{} did not respond within {} s", access.place(), LIMIT.as_secs());
            Err(ProbeFailure { what: ProbeStep::Answer, words })
        }
    };
    let scrub = |failure: ProbeFailure| {
        let words = classify::scrubbed(access, &failure.words).unwrap_or(failure.words);
        ProbeFailure { words, ..failure }
    };
    let usage = answered.map_err(scrub)?;
    Ok(ProbeOk { model: usage.model.clone(), took: env.clock.now().since(began), usage })
}

async fn call(
    client: &reqwest::Client,
    env: &Env,
    access: &Access,
    model: &str,
) -> Result<Usage, ProbeFailure> {
    let (path, body) = request(access.kind, model);
    let failed = |what, words: String| ProbeFailure { what, words };
    let no_such = || failed(ProbeStep::Model, format!("{model:?} is not a valid model name"));
    let route = Route::of(&Method::POST, &path).ok_or_else(no_such)?;
    let family = route.served_by(access.kind).ok_or_else(no_such)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if access.kind == Kind::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    let sent = client
        .post(upstream::address(access, family, &route, None))
        .headers(upstream::headers(access, family, headers))
        .body(body.to_string())
        .send()
        .await;
    let answer: Response<reqwest::Body> = match sent {
        Ok(answer) => answer.into(),
        Err(error) => {
            let (kind, words) = classify::no_answer(&error, &access.place());
            return Err(failed(step(&kind), words));
        }
    };
    let (parts, body) = answer.into_parts();
    let read = Limited::new(body, LARGEST).collect().await;
    let cut = |error: Box<dyn std::error::Error + Send + Sync>| match error.is::<LengthLimitError>() {
        true => {
            let words = format!("{} responded with more than {} KiB", access.place(), LARGEST / 1024);
            failed(ProbeStep::Answer, words)
        }
        false => failed(ProbeStep::Failing, format!("{} cut off its response", access.place())),
    };
    let body = read.map_err(cut)?.to_bytes();
    if !parts.status.is_success() {
        let refusal = classify::refusal(parts.status, &parts.headers, &body, env.clock.now());
        let (kind, words) = refusal.unwrap_or_else(|| {
            let said = String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
            (ConditionKind::Failing, format!("the provider responded {}: {said}", parts.status.as_u16()))
        });
        return Err(failed(step(&kind), words + &again(&kind, env.clock.now())));
    }
    let mut reader = Reader::new(route.api, false);
    reader.feed(&body);
    reader.finish();
    let expected = match route.api {
        Api::Messages => "content",
        Api::Chat => "choices",
        Api::Responses => "output",
        _ => "candidates",
    };
    let is_answer = serde_json::from_slice::<Value>(&body).is_ok_and(|v| v.get(expected).is_some());
    if !is_answer {
        let words = format!("the server at {} does not provide this kind of API", access.place());
        return Err(failed(ProbeStep::Answer, words));
    }
    let usage = reader.seen.usage.unwrap_or_default();
    let model = reader.seen.model.unwrap_or_else(|| model.to_owned());
    let asked = model.clone();
    Ok(Usage { model, complete: true, ..usage }.priced(&access.prices, &asked))
}

/// The smallest call that each kind takes.
fn request(kind: Kind, model: &str) -> (String, Value) {
    let hello = json!([{ "role": "user", "content": "Hello" }]);
    match kind {
        Kind::Anthropic => {
            ("/v1/messages".to_owned(), json!({ "model": model, "max_tokens": 1, "messages": hello }))
        }
        // OpenAI requires at least 16 tokens.
        Kind::OpenAi => (
            "/v1/responses".to_owned(),
            json!({ "model": model, "max_output_tokens": 16, "input": "Hello", "store": false }),
        ),
        Kind::OpenAiCompatible => {
            ("/v1/chat/completions".to_owned(), json!({ "model": model, "max_tokens": 1, "messages": hello }))
        }
        Kind::Gemini => (
            format!("/v1beta/models/{model}:generateContent"),
            json!({
                "contents": [{ "role": "user", "parts": [{ "text": "Hello" }] }],
                "generationConfig": { "maxOutputTokens": 1 },
            }),
        ),
    }
}

/// When a used-up quota is available again; empty where the provider does not state it.
fn again(kind: &ConditionKind, now: Timestamp) -> String {
    let ConditionKind::Quota { resume_at: Some(at), .. } = kind else { return String::new() };
    format!("; calls are accepted again in {} s, at {at}", at.since(now).as_secs())
}

fn step(kind: &ConditionKind) -> ProbeStep {
    match kind {
        ConditionKind::KeyRefused => ProbeStep::Key,
        ConditionKind::Unknown | ConditionKind::NotAllowed => ProbeStep::Model,
        ConditionKind::Quota { .. } => ProbeStep::Quota,
        ConditionKind::Unreachable(Unreached::Name) => ProbeStep::Name,
        ConditionKind::Unreachable(Unreached::Host) => ProbeStep::Host,
        ConditionKind::Unreachable(Unreached::Tls) => ProbeStep::Tls,
        ConditionKind::Failing => ProbeStep::Failing,
        _ => ProbeStep::Answer,
    }
}
