//! A small MCP server over the streamable HTTP transport, protected by a secret. It has one tool, `stamp`, which
//! answers with an event stream.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use foundry_core::Tasks;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The id that the server gives to every MCP session.
const SESSION: &str = "the-session";

/// The server; stops when its tasks end.
pub struct McpServer {
    address: SocketAddr,
    inner: Arc<Inner>,
    tasks: Tasks,
}

struct Inner {
    secret: String,
    /// For each authorized request: method, path, MCP session id, and JSON-RPC method, as far as present.
    seen: Mutex<Vec<String>>,
    /// The headers of all requests, authorized or not.
    headers: Mutex<String>,
}

impl McpServer {
    /// Starts a server that accepts only requests with this value of `authorization`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner =
            Arc::new(Inner { secret: secret.to_owned(), seen: Mutex::default(), headers: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let (tasks, _) = Tasks::new();
        let stop = tasks.cancellation().clone().cancelled_owned();
        tasks.spawn("mcp server", async move {
            // If the server fails, the test notices.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stop).await;
        });
        Self { address, inner, tasks }
    }

    /// The server's address as `host:port`.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// The authorized requests in order, such as `POST /mcp the-session tools/list`.
    pub fn seen(&self) -> Vec<String> {
        foundry_core::lock(&self.inner.seen).clone()
    }

    /// The headers of all requests, authorized or not.
    pub fn headers(&self) -> String {
        foundry_core::lock(&self.inner.headers).clone()
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.tasks.cancellation().cancel();
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    foundry_core::lock(&inner.headers).push_str(&format!("{headers:?}\n"));
    if text("authorization") != inner.secret {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = message["method"].as_str().unwrap_or_default();
    let line = format!("{method} {} {} {asked}", uri.path(), text("mcp-session-id"));
    foundry_core::lock(&inner.seen).push(line.trim_end().to_owned());
    if method != Method::POST || uri.path() != "/mcp" {
        // The server offers no stream for messages of its own, which the transport allows.
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if asked != "initialize" && text("mcp-session-id") != SESSION {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let result = match asked {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "stamps", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{
            "name": "stamp",
            "description": "Puts a stamp on words.",
            "inputSchema": {
                "type": "object",
                "properties": { "words": { "type": "string" } },
                "required": ["words"],
            },
        }] }),
        "tools/call" => {
            let words = message["params"]["arguments"]["words"].as_str().unwrap_or_default();
            json!({ "content": [{ "type": "text", "text": format!("stamped: {words}") }] })
        }
        _ => {
            let error = json!({ "code": -32601, "message": "method not found" });
            return json_answer(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    match asked {
        "tools/call" => {
            let event = format!("event: message\ndata: {answer}\n\n");
            ([(header::CONTENT_TYPE, "text/event-stream")], event).into_response()
        }
        _ => json_answer(&answer),
    }
}

fn json_answer(answer: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE.as_str(), "application/json"), ("mcp-session-id", SESSION)];
    (headers, answer.to_string()).into_response()
}
