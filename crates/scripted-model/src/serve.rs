//! Connections, requests and answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::api::{Api, MADE_AT, Reply};
use crate::fault::{Fault, anthropic, gemini, openai};
use crate::frame::Frame;
use crate::record::{Outcome, RecordedRequest};
use crate::route::{InPath, Route};
use crate::state::{Behaviour, Open, State};
use crate::turn::{Answer, Conversation, Piece};
use crate::usage::Usage;

/// Larger requests are answered with 413.
const LARGEST_BODY: usize = 64 * 1024 * 1024;

pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// The script breaks the connection.
#[derive(Debug, thiserror::Error)]
#[error("the script breaks the connection off")]
pub(crate) struct Broken;

/// Answers one request.
pub(crate) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Ok(json_response(413, &json!({"error": {"message": "the request is too large"}})));
    };
    let bytes = body.to_bytes();
    let body: Arc<Value> = Arc::new(serde_json::from_slice(&bytes).unwrap_or_default());
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
    let route = Route::read(&head.method, &path, query.as_deref());
    let conversation = conversation(&route, &body);
    let key = key(&head.headers, query.as_deref());
    let model = match &route {
        Route::Models { name } | Route::GeminiModels { name } => name.clone(),
        _ => Some(conversation.model.clone()).filter(|model| !model.is_empty()),
    };
    let has_tools = !conversation.offers.is_empty();
    let number = state.arrived(RecordedRequest {
        number: 0,
        method: head.method,
        path,
        query,
        headers: head.headers.clone(),
        bytes: bytes.clone(),
        body,
        api: match route {
            Route::Generate { api, .. } => Some(api),
            _ => None,
        },
        key: key.clone(),
        model: model.clone(),
        has_tools,
        arrived: Instant::now(),
        status: None,
        usage: None,
        outcome: Outcome::Open,
    });
    let open = Open::new(Arc::clone(&state), number);
    let ask = Ask {
        route,
        conversation,
        bytes,
        key,
        model,
        anthropic: head.headers.contains_key("anthropic-version"),
    };
    ask.answer(&state, open).await
}

fn conversation(route: &Route, body: &Value) -> Conversation {
    match route {
        Route::Generate { api, path } => {
            let mut conversation = api.read(body);
            if let Some(InPath { model, stream, .. }) = path {
                conversation.model.clone_from(model);
                conversation.stream = *stream;
            }
            conversation
        }
        Route::CountTokens { api, model } => {
            let mut conversation = api.read(body);
            if let Some(model) = model {
                conversation.model.clone_from(model);
            }
            conversation
        }
        _ => Conversation::default(),
    }
}

fn key(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let in_query = || query?.split('&').find_map(|pair| pair.strip_prefix("key="));
    let key = bearer.or_else(|| header("x-api-key")).or_else(|| header("x-goog-api-key")).or_else(in_query);
    key.map(str::to_owned)
}

/// A parsed request.
struct Ask {
    route: Route,
    conversation: Conversation,
    bytes: Bytes,
    key: Option<String>,
    model: Option<String>,
    /// Whether it had Anthropic's version header.
    anthropic: bool,
}

impl Ask {
    async fn answer(self, state: &Arc<State>, open: Open) -> Result<Response<Body>, Broken> {
        let api = self.route.api(self.anthropic);
        let behaviour = state.behaviour(self.key.as_deref());
        let has_tools = !self.conversation.offers.is_empty();
        let mut fault = state.take_fault(self.key.as_deref(), has_tools);
        if let (Some(model), Some(known)) = (&self.model, &behaviour.models)
            && !known.contains(model)
        {
            fault = fault.or(Some(Fault::UnknownModel));
        }
        if let Some(fault) = fault.filter(|fault| !fault.is_late()) {
            return refuse(fault, api, self.model.as_deref(), open).await;
        }
        let tokens = Usage::new(self.bytes.len(), 0).input;
        match &self.route {
            Route::Generate { api, path } => {
                let events = path.as_ref().is_none_or(|path| path.events);
                self.generate(*api, fault, events, &behaviour, open).await
            }
            Route::CountTokens { api: Api::Gemini, .. } => {
                Ok(finish(open, 200, &json!({"totalTokens": tokens})))
            }
            Route::CountTokens { .. } => Ok(finish(open, 200, &json!({"input_tokens": tokens}))),
            Route::Models { name } => Ok(finish(open, 200, &models(&behaviour, name.as_deref()))),
            Route::GeminiModels { name } => {
                Ok(finish(open, 200, &gemini_models(&behaviour, name.as_deref())))
            }
            Route::Unknown => {
                let message = "the scripted model serves nothing at this path";
                let body = match api {
                    Api::Messages => anthropic("not_found_error", message),
                    Api::Gemini => gemini(404, "NOT_FOUND", message, Vec::new()),
                    Api::Chat | Api::Responses => openai("invalid_request_error", None, message),
                };
                Ok(finish(open, 404, &body))
            }
        }
    }

    async fn generate(
        &self,
        api: Api,
        fault: Option<Fault>,
        events: bool,
        behaviour: &Behaviour,
        open: Open,
    ) -> Result<Response<Body>, Broken> {
        let key = self.key.as_deref().unwrap_or_default().as_bytes();
        let step = hash(&[key, &self.conversation.place()]);
        let still_fails = |times| open.state.still_fails(step, times);
        let mut answer = self.conversation.answer(behaviour.script.as_ref(), &still_fails);
        answer.fault = fault.or(answer.fault);
        if let Some(fault) = answer.fault.filter(|fault| !fault.is_late()) {
            return refuse(fault, api, self.model.as_deref(), open).await;
        }
        if answer.fault.is_some() && !answer.has_words() {
            answer.pieces.push(Piece::Words("These words have no end, since ".to_owned()));
        }
        let usage = Usage::new(self.bytes.len(), answer.bytes());
        let reply = Reply {
            answer: &answer,
            usage,
            model: &self.conversation.model,
            id: format!("{:016x}", hash(&[key, &self.bytes])),
            stream_usage: self.conversation.stream_usage,
            events,
        };
        if self.conversation.stream {
            open.state.answering(open.number, 200, Some(usage));
            let kind = if events { "text/event-stream" } else { "application/json" };
            return Ok(response(200, kind, stream(api.frames(&reply), behaviour.pace, open)));
        }
        if answer.fault == Some(Fault::Broken) {
            return refuse(Fault::Broken, api, self.model.as_deref(), open).await;
        }
        let body = api.whole(&reply).to_string();
        pauses(&answer, &open.state).await;
        open.state.answering(open.number, 200, Some(usage));
        Ok(match answer.fault {
            Some(fault) => half(body, fault, open),
            None => {
                open.answered();
                response(200, "application/json", full(body))
            }
        })
    }
}

/// An unsuccessful answer, or none at all.
async fn refuse(fault: Fault, api: Api, model: Option<&str>, open: Open) -> Result<Response<Body>, Broken> {
    let Some(refusal) = fault.refusal(api, model.unwrap_or_default()) else {
        // Silence lasts until the client disconnects, which drops this future and `open` with it.
        std::future::pending::<Infallible>().await;
        return Err(Broken);
    };
    let mut response = finish(open, refusal.status, &refusal.body);
    for (name, value) in refusal.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A stream of frames; however it ends, the end is recorded.
fn stream(frames: Vec<Frame>, mut pace: Option<Duration>, open: Open) -> Body {
    let stream = async_stream::stream! {
        for frame in frames {
            match frame {
                Frame::Event(bytes) => yield Ok(bytes),
                Frame::Token(bytes) => {
                    if let Some(pace) = pace {
                        tokio::time::sleep(pace).await;
                    }
                    yield Ok(bytes);
                }
                Frame::Pace(interval) => pace = Some(interval),
                Frame::Wait(time) => tokio::time::sleep(time).await,
                Frame::Hold(name) => open.state.hold(&name).await,
                Frame::Repeat { bytes, times } => {
                    for _ in 0..times {
                        yield Ok(bytes.clone());
                    }
                }
                Frame::Stall => std::future::pending::<()>().await,
                Frame::Cut => {
                    // Earlier output goes out first.
                    tokio::task::yield_now().await;
                    open.cut();
                    yield Err(Broken);
                    return;
                }
            }
        }
        open.answered();
    };
    UnsyncBoxBody::new(StreamBody::new(stream.map(|bytes| bytes.map(http_body::Frame::data))))
}

/// Half of an answer, and then the connection is closed or stalls.
fn half(body: String, fault: Fault, open: Open) -> Response<Body> {
    let whole = body.len();
    let mut bytes = Bytes::from(body);
    bytes.truncate(whole / 2);
    let last = if fault == Fault::Cut { Frame::Cut } else { Frame::Stall };
    let mut response = response(200, "application/json", stream(vec![Frame::Event(bytes), last], None, open));
    response.headers_mut().insert(http::header::CONTENT_LENGTH, whole.into());
    response
}

/// The pauses of a script, for an answer that is not streamed.
async fn pauses(answer: &Answer, state: &State) {
    for piece in &answer.pieces {
        match piece {
            Piece::Wait(time) => tokio::time::sleep(*time).await,
            Piece::Hold(name) => state.hold(name).await,
            Piece::Words(_) | Piece::Pace(_) | Piece::Flood(_) => {}
        }
    }
}

const MODELS: [&str; 2] = ["scripted", "scripted-large"];

fn names(behaviour: &Behaviour) -> Vec<String> {
    behaviour.models.clone().unwrap_or_else(|| MODELS.map(str::to_owned).to_vec())
}

fn models(behaviour: &Behaviour, name: Option<&str>) -> Value {
    let model = |id: &str| {
        json!({
            "id": id, "object": "model", "created": MADE_AT, "owned_by": "foundry",
            "type": "model", "display_name": id, "created_at": "2026-01-01T00:00:00Z",
        })
    };
    if let Some(name) = name {
        return model(name);
    }
    let names = names(behaviour);
    let data: Vec<Value> = names.iter().map(|name| model(name)).collect();
    json!({"object": "list", "data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
}

fn gemini_models(behaviour: &Behaviour, name: Option<&str>) -> Value {
    let model = |id: &str| {
        json!({
            "name": format!("models/{id}"), "baseModelId": id, "version": "001", "displayName": id,
            "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        })
    };
    match name {
        Some(name) => model(name),
        None => json!({"models": names(behaviour).iter().map(|name| model(name)).collect::<Vec<_>>()}),
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = fnv::FnvHasher::default();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

fn finish(open: Open, status: u16, body: &Value) -> Response<Body> {
    open.state.answering(open.number, status, None);
    open.answered();
    json_response(status, body)
}

fn json_response(status: u16, body: &Value) -> Response<Body> {
    response(status, "application/json", full(body.to_string()))
}

fn full(body: String) -> Body {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync()
}

fn response(
    status: u16,
    kind: &'static str,
    body: impl HttpBody<Data = Bytes, Error = Broken> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
