//! The Agent Client Protocol over the runtime's POST. What the agent sends by itself is never read
//! here: it is read from the tap log.
//!
//! A POST of a request is answered when the agent answers. It gives up after 120 s, or hangs when the
//! agent died, while the turn may go on: so a prompt's POST only has to be *delivered*, and its result
//! is learned from the tap. Request ids are chosen by the caller, derived from what is asked; the tap
//! passes each on once, so that a repetition is harmless.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ClientError, RuntimeClient};
use crate::tap::{CLOSE, DUPLICATE_REQUEST, META, RESYNC, UNRECORDED_REQUEST};
use crate::{AcpId, AgentKind};

/// How long an agent may take to start and to answer `initialize` and `session/new`.
const START: Duration = Duration::from_secs(90);
/// The runtime's own limit on a POST is 120 s; this is a little more.
const TURN: Duration = Duration::from_secs(130);
const QUICK: Duration = Duration::from_secs(10);

/// The id of a JSON-RPC request, chosen by the caller and never used twice for different things.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error the agent (or the tap in its place) answered with.
#[derive(Clone, Debug, PartialEq, Deserialize, thiserror::Error)]
#[error("the agent answered with error {code}: {message}")]
pub struct RpcError {
    /// JSON-RPC code.
    pub code: i64,
    /// Its words.
    pub message: String,
    /// More, as it likes.
    #[serde(default)]
    pub data: Value,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Posted {
    /// The agent answered.
    Answered(Value),
    /// No answer yet, or none that this call will see; the tap log tells.
    Pending,
    /// The tap had passed this id on before and did not do so again; the tap log has the answer.
    AlreadyPassedOn,
}

/// What `initialize` brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Initialized {
    /// Whether the agent can take up an earlier session.
    pub can_load_session: bool,
    /// The whole answer.
    pub raw: Value,
}

/// What `session/new` brought.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// The agent's own id of the session.
    pub session_id: String,
    /// The whole answer.
    pub raw: Value,
}

impl RuntimeClient {
    /// Starts the agent under `acp`, if it does not run yet, and introduces us: no client file system,
    /// no terminal. `credentials` reach the agent's environment and nothing else: the tap takes them
    /// out of the message before it writes or passes on anything.
    pub async fn initialize(
        &self,
        acp: &AcpId,
        agent: AgentKind,
        id: &RequestId,
        credentials: &BTreeMap<String, String>,
    ) -> Result<Posted, ClientError> {
        let params = json!({
            "protocolVersion": 1,
            "clientCapabilities": { "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false },
            "clientInfo": { "name": "foundry", "version": env!("CARGO_PKG_VERSION") },
            "_meta": { META: { "session": acp, "env": credentials } },
        });
        let path = format!("/v1/acp/{acp}?agent={}", agent.slot());
        self.request(&path, id, "initialize", params, START).await
    }

    /// Opens a session of the agent in `cwd`, a path as the sandbox sees it.
    pub async fn new_session(&self, acp: &AcpId, id: &RequestId, cwd: &Path) -> Result<Posted, ClientError> {
        let params = json!({ "cwd": cwd, "mcpServers": [] });
        self.request(&path(acp), id, "session/new", params, START).await
    }

    /// Takes up an earlier session; its history comes as updates before the answer.
    pub async fn load_session(
        &self,
        acp: &AcpId,
        id: &RequestId,
        session: &str,
        cwd: &Path,
    ) -> Result<Posted, ClientError> {
        let params = json!({ "sessionId": session, "cwd": cwd, "mcpServers": [] });
        self.request(&path(acp), id, "session/load", params, START).await
    }

    /// Sends a prompt and stays until the turn ends or the runtime gives up on the POST. Must not be
    /// dropped before the tap log shows the request: half a message could be written by then.
    pub async fn prompt(
        &self,
        acp: &AcpId,
        id: &RequestId,
        session: &str,
        text: &str,
    ) -> Result<Posted, ClientError> {
        let params = json!({ "sessionId": session, "prompt": [{ "type": "text", "text": text }] });
        self.request(&path(acp), id, "session/prompt", params, TURN).await
    }

    /// Asks the agent to stop its turn; the turn then ends with `cancelled`.
    pub async fn cancel(&self, acp: &AcpId, session: &str) -> Result<(), ClientError> {
        self.notify(acp, "session/cancel", json!({ "sessionId": session })).await
    }

    /// Answers a permission request: with an option, or `None` when the turn is being cancelled.
    /// A second answer to the same request is not passed on.
    pub async fn answer_permission(
        &self,
        acp: &AcpId,
        request: &Value,
        option: Option<&str>,
    ) -> Result<(), ClientError> {
        let outcome = match option {
            Some(option) => json!({ "outcome": "selected", "optionId": option }),
            None => json!({ "outcome": "cancelled" }),
        };
        let body = json!({ "jsonrpc": "2.0", "id": request, "result": { "outcome": outcome } });
        self.json(Method::POST, &path(acp), Some(&body), QUICK).await.map(drop)
    }

    /// Ends a half-written message that a killed predecessor of this process may have left. The tap
    /// swallows it. To be sent once after an adoption, before anything else.
    pub async fn resync(&self, acp: &AcpId) -> Result<(), ClientError> {
        self.notify(acp, RESYNC, json!({})).await
    }

    /// Ends the agent process of `acp` within seconds; its tap log stays. The runtime's own DELETE waits for
    /// a living process for ever instead of killing it (0.4.2), so the tap is told first.
    pub async fn close(&self, acp: &AcpId) -> Result<(), ClientError> {
        match self.notify(acp, CLOSE, json!({})).await {
            // No process, or one that has ended: what is left is to take it off the list.
            Ok(()) | Err(ClientError::Refused { .. }) => {}
            Err(e) => return Err(e),
        }
        self.json(Method::DELETE, &path(acp), None, QUICK).await.map(drop)
    }

    async fn notify(&self, acp: &AcpId, method: &str, params: Value) -> Result<(), ClientError> {
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.json(Method::POST, &path(acp), Some(&body), QUICK).await.map(drop)
    }

    async fn request(
        &self,
        path: &str,
        id: &RequestId,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Posted, ClientError> {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        match self.json(Method::POST, path, Some(&body), limit).await {
            Ok(answer) => understand(answer),
            // The runtime gave up waiting, we did, or the connection broke: the request may be at work.
            Err(ClientError::Refused { status: 504, .. } | ClientError::TimedOut(_)) => Ok(Posted::Pending),
            Err(e) => Err(e),
        }
    }
}

fn path(acp: &AcpId) -> String {
    format!("/v1/acp/{acp}")
}

fn understand(mut answer: Value) -> Result<Posted, ClientError> {
    if let Some(error) = answer.get_mut("error").map(Value::take) {
        let error: RpcError = super::parse(error)?;
        return match error.code {
            DUPLICATE_REQUEST => Ok(Posted::AlreadyPassedOn),
            UNRECORDED_REQUEST => Err(ClientError::Refused {
                status: 507,
                kind: "tap_log_unwritable".to_owned(),
                detail: error.message,
            }),
            _ => Err(error.into()),
        };
    }
    match answer.get_mut("result") {
        Some(result) => Ok(Posted::Answered(result.take())),
        None => Err(ClientError::Malformed("neither result nor error".to_owned())),
    }
}

impl Initialized {
    /// Reads the result of `initialize`, from the answer or from the tap log.
    pub fn parse(raw: Value) -> Self {
        let can_load_session = raw.pointer("/agentCapabilities/loadSession").and_then(Value::as_bool);
        Self { can_load_session: can_load_session.unwrap_or(false), raw }
    }
}

impl NewSession {
    /// Reads the result of `session/new`, from the answer or from the tap log.
    ///
    /// # Errors
    /// When it names no session.
    pub fn parse(raw: Value) -> Result<Self, ClientError> {
        match raw.get("sessionId").and_then(Value::as_str) {
            Some(id) => Ok(Self { session_id: id.to_owned(), raw }),
            None => Err(ClientError::Malformed("session/new named no session".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_refused_repetition_from_an_error_of_the_agent() {
        let answer = |code: i64| json!({"id": "x", "error": {"code": code, "message": "m"}});
        assert_eq!(understand(answer(DUPLICATE_REQUEST)).unwrap(), Posted::AlreadyPassedOn);
        assert!(matches!(understand(answer(-32603)), Err(ClientError::Agent(e)) if e.message == "m"));
        assert!(matches!(understand(json!({"id": "x"})), Err(ClientError::Malformed(_))));
    }
}
