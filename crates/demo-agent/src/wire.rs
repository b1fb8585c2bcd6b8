//! JSON-RPC 2.0, one message per line: parsing of input, and a bounded queue for output.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_client_protocol::v1::schema::Error as RpcError;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// The longest line accepted: a 256 KiB prompt with every character escaped, and room to spare.
pub(crate) const MAX_LINE: usize = 8 << 20;

/// How many messages may wait for a slow reader before the turns wait too.
const OUTBOX_DEPTH: usize = 64;

/// One line from the client.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    Response {
        id: Value,
        result: Result<Value, Value>,
    },
    /// Not JSON-RPC: answered with this error under this id (null when the line shows none).
    Invalid {
        id: Value,
        error: RpcError,
    },
}

/// Reads one line as JSON-RPC.
pub(crate) fn parse(line: &[u8]) -> Incoming {
    let invalid =
        |id: Value, why: &str| Incoming::Invalid { id, error: RpcError::invalid_request().data(json!(why)) };
    let mut message = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return invalid(Value::Null, "a message is one JSON object; batches are not supported"),
        Err(e) => {
            let error = RpcError::parse_error().data(json!(e.to_string()));
            return Incoming::Invalid { id: Value::Null, error };
        }
    };
    let id = message.remove("id");
    let shown = id.clone().unwrap_or(Value::Null);
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid(shown, "jsonrpc must be \"2.0\"");
    }
    if id.as_ref().is_some_and(|id| !matches!(id, Value::String(_) | Value::Number(_) | Value::Null)) {
        return invalid(Value::Null, "id must be a string, a number or null");
    }
    let params = message.remove("params").unwrap_or(Value::Null);
    match (message.remove("method"), id) {
        (Some(Value::String(method)), Some(id)) => Incoming::Request { id, method, params },
        (Some(Value::String(method)), None) => Incoming::Notification { method, params },
        (Some(_), _) => invalid(shown, "method must be a string"),
        (None, Some(id)) => match (message.remove("result"), message.remove("error")) {
            (Some(result), None) => Incoming::Response { id, result: Ok(result) },
            (None, Some(error)) => Incoming::Response { id, result: Err(error) },
            _ => invalid(shown, "a message has a method, a result or an error"),
        },
        (None, None) => invalid(Value::Null, "a message has a method, a result or an error"),
    }
}

/// The result of reading one line.
pub(crate) enum Line {
    Full(Vec<u8>),
    /// Longer than [`MAX_LINE`]; it was read to its end and dropped.
    TooLong,
    End,
}

/// Reads up to the next newline, holding at most [`MAX_LINE`] bytes. A last line without a newline counts.
pub(crate) async fn read_line<R: AsyncBufRead + Unpin>(input: &mut R) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let piece = input.fill_buf().await?;
        if piece.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Full(line),
            });
        }
        let newline = piece.iter().position(|b| *b == b'\n');
        let wanted = &piece[..newline.unwrap_or(piece.len())];
        too_long |= line.len() + wanted.len() > MAX_LINE;
        if too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(wanted);
        }
        let used = newline.map_or(piece.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Full(line) });
        }
    }
}

enum Outgoing {
    Line(Vec<u8>),
    Flushed(oneshot::Sender<()>),
}

/// The output is closed; the client can no longer be reached.
#[derive(Debug, thiserror::Error)]
#[error("the client closed the connection")]
pub(crate) struct OutputClosed;

/// The queue of all outgoing messages, in order; a full one makes its senders wait.
#[derive(Clone)]
pub(crate) struct Outbox(mpsc::Sender<Outgoing>);

impl Outbox {
    /// The outbox, and the future that writes its messages.
    pub(crate) fn new<W: AsyncWrite + Unpin>(
        output: W,
    ) -> (Self, impl Future<Output = std::io::Result<()>> + use<W>) {
        let (sender, receiver) = mpsc::channel(OUTBOX_DEPTH);
        (Self(sender), write_all(output, receiver))
    }

    async fn send<M: Serialize>(&self, message: &M) -> Result<(), OutputClosed> {
        // Only a map with keys that are not strings fails to serialize, and no message has one.
        let mut line = serde_json::to_vec(message).map_err(|_| OutputClosed)?;
        line.push(b'\n');
        self.0.send(Outgoing::Line(line)).await.map_err(|_| OutputClosed)
    }

    pub(crate) async fn notify<P: Serialize>(&self, method: &str, params: &P) -> Result<(), OutputClosed> {
        self.send(&Call { jsonrpc: "2.0", id: None, method, params }).await
    }

    pub(crate) async fn request<P: Serialize>(
        &self,
        id: &str,
        method: &str,
        params: &P,
    ) -> Result<(), OutputClosed> {
        self.send(&Call { jsonrpc: "2.0", id: Some(id), method, params }).await
    }

    pub(crate) async fn answer<R: Serialize>(
        &self,
        id: &Value,
        answer: &Result<R, RpcError>,
    ) -> Result<(), OutputClosed> {
        let (result, error) = match answer {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        self.send(&Answer { jsonrpc: "2.0", id, result, error }).await
    }

    /// Returns once everything sent before has been handed to the operating system.
    pub(crate) async fn flush(&self) -> Result<(), OutputClosed> {
        let (done, flushed) = oneshot::channel();
        self.0.send(Outgoing::Flushed(done)).await.map_err(|_| OutputClosed)?;
        flushed.await.map_err(|_| OutputClosed)
    }
}

#[derive(Serialize)]
struct Call<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    method: &'a str,
    params: &'a P,
}

#[derive(Serialize)]
struct Answer<'a, R> {
    jsonrpc: &'static str,
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut output: W,
    mut messages: mpsc::Receiver<Outgoing>,
) -> std::io::Result<()> {
    while let Some(message) = messages.recv().await {
        match message {
            Outgoing::Line(line) => output.write_all(&line).await?,
            Outgoing::Flushed(done) => {
                output.flush().await?;
                // The flush may have been cancelled.
                let _ = done.send(());
            }
        }
        if messages.is_empty() {
            output.flush().await?;
        }
    }
    output.flush().await
}

/// The requests this agent has sent and that are not answered yet.
#[derive(Default)]
pub(crate) struct Requests {
    sent: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<Result<Value, Value>>>>,
}

impl Requests {
    /// The next request id, and the receiver of its answer.
    pub(crate) fn open(&self, kind: &str) -> (String, oneshot::Receiver<Result<Value, Value>>) {
        let id = format!("{kind}-{}", self.sent.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id.clone(), sender);
        (id, receiver)
    }

    /// Passes an answer to the task that waits for it; an unknown or late one is dropped.
    pub(crate) fn answered(&self, id: &Value, result: Result<Value, Value>) {
        let waiting = id.as_str().and_then(|id| self.lock().remove(id));
        if let Some(sender) = waiting {
            let _ = sender.send(result);
        }
    }

    /// Stops waiting for an answer.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Result<Value, Value>>>> {
        foundry_core::lock(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drops_a_line_that_is_too_long_and_reads_the_next_one() {
        let mut bytes = vec![b'x'; MAX_LINE + 1];
        bytes.extend_from_slice(b"\nnext\nlast");
        let mut input = std::io::Cursor::new(bytes);
        assert!(matches!(read_line(&mut input).await.unwrap(), Line::TooLong));
        for wanted in ["next", "last"] {
            let Line::Full(line) = read_line(&mut input).await.unwrap() else { panic!("no line") };
            assert_eq!(line, wanted.as_bytes());
        }
        assert!(matches!(read_line(&mut input).await.unwrap(), Line::End));
    }

    #[test]
    fn makes_senders_wait_while_nobody_reads() {
        use futures::FutureExt;
        let (outbox, _writing) = Outbox::new(tokio::io::sink());
        let sent = (0..10_000).take_while(|n| outbox.notify("note", n).now_or_never().is_some()).count();
        assert!((1..=256).contains(&sent), "{sent} messages were queued");
    }

    #[test]
    fn names_what_is_wrong_with_a_line_and_keeps_its_id() {
        for (line, id, code) in [
            (&b"{"[..], Value::Null, -32700),
            (b"\xff\xfe", Value::Null, -32700),
            (b"[]", Value::Null, -32600),
            (b"{\"id\":7,\"method\":\"x\"}", json!(7), -32600),
            (b"{\"jsonrpc\":\"2.0\",\"id\":7}", json!(7), -32600),
            (b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"x\"}", Value::Null, -32600),
        ] {
            let Incoming::Invalid { id: got, error } = parse(line) else { panic!("accepted {line:?}") };
            assert_eq!((got, i32::from(error.code)), (id, code));
        }
    }
}
