//! One request over one connection. A connection begins with a hello: the runtime proves that it has the key before it
//! receives anything else, and the same exchange proves ours. A connection without an error is kept for the next call.

use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::Timestamp;
use foundry_sandbox::key::{nonce, same};
use foundry_sandbox::wire::{Greeting, Hello, Problem, SCHEME};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;

use super::{ClientError, QUICK, RuntimeClient};

/// Answers larger than this are cut off unless the caller sets another limit: the other side is not trusted.
const MAX_ANSWER: usize = 16 << 20;
/// Connections that are kept between calls.
const MAX_IDLE: usize = 4;
/// How long a kept connection may be idle. The runtime closes connections after ten silent seconds, and a request that
/// meets the close is lost: a busy host needs enough time between the two.
const MAX_REST: Duration = Duration::from_secs(2);

/// A request to the runtime.
pub(crate) struct Request {
    method: Method,
    path: String,
    body: Bytes,
    limit: Duration,
    max_answer: usize,
}

impl Request {
    pub fn new(method: Method, path: String) -> Self {
        Self { method, path, body: Bytes::new(), limit: QUICK, max_answer: MAX_ANSWER }
    }

    pub fn json(method: Method, path: String, body: &impl Serialize) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Malformed(e.to_string()))?;
        Ok(Self::new(method, path).body(body.into()))
    }

    pub fn body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Sets the time limit of the whole call; the default is 5 s.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Sets the size limit of the answer in bytes; the default is 16 MiB.
    pub fn max_answer(self, max_answer: usize) -> Self {
        Self { max_answer, ..self }
    }
}

/// A successful answer.
pub(crate) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The idle connections, each with the time since when it is idle.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Vec<(Timestamp, Open)>>);

/// A connection whose other side has proved itself.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; polled together with each request.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    authorization: String,
}

impl Connections {
    fn take(&self, now: Timestamp) -> Option<Open> {
        let mut idle = foundry_core::lock(&self.0);
        while let Some((since, open)) = idle.pop() {
            if !open.sender.is_closed() && now.since(since) <= MAX_REST {
                return Some(open);
            }
        }
        None
    }

    fn keep(&self, open: Open, now: Timestamp) {
        let mut idle = foundry_core::lock(&self.0);
        idle.retain(|(since, open)| !open.sender.is_closed() && now.since(*since) <= MAX_REST);
        if idle.len() < MAX_IDLE && !open.sender.is_closed() {
            idle.push((now, open));
        }
    }
}

impl Open {
    /// Sends one request and reads the whole answer.
    async fn exchange(
        &mut self,
        request: http::Request<Full<Bytes>>,
        max_answer: usize,
    ) -> Result<(StatusCode, Answer), ClientError> {
        let Self { sender, driver, .. } = self;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(unreachable)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_answer).collect().await.map_err(|e| {
                match e.downcast::<hyper::Error>() {
                    Ok(e) => unreachable(*e),
                    Err(_) => ClientError::Malformed(format!("it is larger than {max_answer} bytes")),
                }
            })?;
            Ok((head.status, Answer { headers: head.headers, body: body.to_bytes() }))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = driver => {
                ended.map_err(unreachable)?;
                // The answer may have been read completely.
                exchange.await
            }
        }
    }
}

impl RuntimeClient {
    /// Sends a request and reads its answer.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, ClientError> {
        let limit = request.limit;
        tokio::select! {
            answer = self.send_unbounded(request) => answer,
            () = self.env.clock.sleep(limit) => Err(ClientError::TimedOut(limit)),
        }
    }

    async fn send_unbounded(&self, request: Request) -> Result<Answer, ClientError> {
        let mut open = match self.ready().await {
            Some(open) => open,
            None => self.open().await?,
        };
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(HOST, "runtime")
            .header(AUTHORIZATION, &open.authorization);
        if !request.body.is_empty() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let http = builder
            .body(Full::new(request.body))
            .map_err(|e| ClientError::Malformed(format!("the request could not be built: {e}")))?;
        let (status, answer) = open.exchange(http, request.max_answer).await?;
        self.connections.keep(open, self.env.clock.now());
        if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer.body)) }
    }

    /// An idle connection that is still open.
    async fn ready(&self) -> Option<Open> {
        loop {
            let mut open = self.connections.take(self.env.clock.now())?;
            let Open { sender, driver, .. } = &mut open;
            let stands = tokio::select! {
                biased;
                // Detects a connection that the other side has closed.
                _ = driver => false,
                ready = sender.ready() => ready.is_ok(),
            };
            if stands {
                return Some(open);
            }
        }
    }

    async fn open(&self) -> Result<Open, ClientError> {
        let connection = self.sandbox.connect().await.map_err(|e| ClientError::Unreachable(e.to_string()))?;
        let (sender, driver) = handshake(TokioIo::new(connection)).await.map_err(unreachable)?;
        let mut open = Open { sender, driver: Box::pin(driver), authorization: String::new() };
        let ours = nonce(&self.env);
        let greeting = serde_json::to_vec(&Greeting { nonce: ours.clone() })
            .map_err(|e| ClientError::Malformed(e.to_string()))?;
        let request = http::Request::post("/v1/hello")
            .header(HOST, "runtime")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(greeting)))
            .map_err(|e| ClientError::Malformed(e.to_string()))?;
        let (status, answer) = open.exchange(request, 4 << 10).await?;
        let hello: Hello = match serde_json::from_slice(&answer.body) {
            Ok(hello) if status.is_success() => hello,
            _ => return Err(ClientError::Stranger("it did not send a hello")),
        };
        let key = self.sandbox.key();
        if !same(&hello.proof, &key.runtime_proof(&ours, &hello.nonce)) {
            return Err(ClientError::Stranger("its proof is invalid"));
        }
        open.authorization = format!("{SCHEME} {ours}.{}", key.client_proof(&ours, &hello.nonce));
        let Open { sender, driver, .. } = &mut open;
        tokio::select! {
            ready = sender.ready() => ready.map_err(unreachable)?,
            ended = driver => {
                ended.map_err(unreachable)?;
                return Err(ClientError::Unreachable("it closed the connection after the hello".to_owned()));
            }
        }
        Ok(open)
    }
}

fn unreachable(e: hyper::Error) -> ClientError {
    // The outer text is general; the innermost has the cause.
    let mut cause: &dyn std::error::Error = &e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ClientError::Unreachable(cause.to_string())
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    ClientError::Refused { status: status.as_u16(), kind: problem.r#type, detail: problem.detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_rested_for_long_is_not_used_again() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let (sender, driver) = handshake(TokioIo::new(near)).await.unwrap();
        let open = Open { sender, driver: Box::pin(driver), authorization: String::new() };
        let (connections, start) = (Connections::default(), Timestamp::from_micros(1));
        connections.keep(open, start);
        let open = connections.take(start.plus(MAX_REST)).unwrap();
        connections.keep(open, start);
        assert!(connections.take(start.plus(MAX_REST + Duration::from_micros(1))).is_none());
    }
}
