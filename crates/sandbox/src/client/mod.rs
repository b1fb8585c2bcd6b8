//! Client of the runtime's HTTP API (sandbox-agent 0.4.2), loopback only, without proxies.

mod acp;
mod processes;
mod wake;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use foundry_core::Env;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::{Class, ProviderError, RuntimeFacts};

pub use acp::{Initialized, NewSession, Posted, RequestId, RpcError};
pub use processes::{ExecOutput, ExecSpec};
pub use wake::Wakeups;

/// Answers larger than this are cut off: the other side is not trusted.
const MAX_ANSWER: usize = 16 << 20;
/// How long a call may take that does no work inside.
const QUICK: Duration = Duration::from_secs(5);

/// Why a call to the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke: whether the call had an effect is unknown.
    #[error("the runtime cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time; the call may still take effect.
    #[error("the runtime did not answer within {0:?}")]
    TimedOut(Duration),
    /// The runtime refused: status, its error type, its words.
    #[error("the runtime answered {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The last part of its problem type, e.g. `agent_not_installed`.
        kind: String,
        /// Its words.
        detail: String,
    },
    /// The agent answered with an error.
    #[error(transparent)]
    Agent(#[from] RpcError),
    /// The answer made no sense.
    #[error("the runtime's answer is not understood: {0}")]
    Malformed(String),
}

impl From<ClientError> for ProviderError {
    fn from(e: ClientError) -> Self {
        let (class, reason, retryable) = match &e {
            ClientError::Unreachable(_) => (Class::Provider, "RUNTIME_UNREACHABLE", true),
            ClientError::TimedOut(_) => (Class::Timeout, "RUNTIME_TIMEOUT", true),
            ClientError::Refused { kind, .. } if kind == "agent_not_installed" => {
                (Class::Image, "AGENT_NOT_INSTALLED", false)
            }
            ClientError::Refused { status, .. } => (Class::Provider, "RUNTIME_REFUSED", *status >= 500),
            ClientError::Agent(_) => (Class::Provider, "AGENT_ERROR", false),
            ClientError::Malformed(_) => (Class::Provider, "RUNTIME_MALFORMED", false),
        };
        let error = Self::new(class, reason, e.to_string());
        if retryable { error.retryable() } else { error }.caused_by(e)
    }
}

/// An agent as the runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AgentStatus {
    /// The slot.
    pub id: String,
    /// Whether something is installed there.
    pub installed: bool,
}

/// An agent process as the runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcpServer {
    /// The id it was started under.
    pub server_id: String,
    /// The slot.
    pub agent: String,
}

/// A connection to one runtime; cloning shares it.
#[derive(Clone)]
pub struct RuntimeClient {
    base: String,
    token: String,
    http: reqwest::Client,
    env: Env,
}

impl fmt::Debug for RuntimeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl RuntimeClient {
    /// A client for the runtime of these facts; nothing is sent yet.
    ///
    /// # Errors
    /// When the process cannot make an HTTP client at all.
    pub fn new(facts: &RuntimeFacts, env: Env) -> Result<Self, ProviderError> {
        let http = foundry_http_client::local_client().connect_timeout(QUICK).build().map_err(|e| {
            ProviderError::new(Class::Provider, "HTTP_CLIENT", "no HTTP client can be made").caused_by(e)
        })?;
        Ok(Self { base: format!("http://127.0.0.1:{}", facts.port), token: facts.token.clone(), http, env })
    }

    /// Whether the server answers, and to our token.
    pub async fn health(&self) -> Result<(), ClientError> {
        let answer = self.json(Method::GET, "/v1/health", None, QUICK).await?;
        match answer.get("status").and_then(Value::as_str) {
            Some("ok") => Ok(()),
            _ => Err(ClientError::Malformed(format!("health says {answer}"))),
        }
    }

    /// The agents it knows.
    pub async fn agents(&self) -> Result<Vec<AgentStatus>, ClientError> {
        self.list("/v1/agents", "agents").await
    }

    /// The agent processes it started; one that has ended stays listed until it is closed.
    pub async fn acp_servers(&self) -> Result<Vec<AcpServer>, ClientError> {
        self.list("/v1/acp", "servers").await
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
    ) -> Result<Vec<T>, ClientError> {
        let mut answer: BTreeMap<String, Value> = parse(self.json(Method::GET, path, None, QUICK).await?)?;
        parse(answer.remove(key).unwrap_or_default())
    }

    /// One call with a JSON answer (null when it is empty).
    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let exchange = async {
            let response = request.send().await.map_err(unreachable)?;
            let status = response.status();
            let bytes = bounded(response).await?;
            if !status.is_success() {
                return Err(refusal(status, &bytes));
            }
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&bytes).map_err(|e| ClientError::Malformed(e.to_string()))
        };
        tokio::select! {
            answer = exchange => answer,
            () = self.env.clock.sleep(limit) => Err(ClientError::TimedOut(limit)),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|e| ClientError::Malformed(e.to_string()))
}

fn unreachable(e: reqwest::Error) -> ClientError {
    // The outer text is only "error sending request"; the innermost says why.
    let mut cause: &dyn std::error::Error = &e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ClientError::Unreachable(cause.to_string())
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::Malformed(format!("an answer of more than {MAX_ANSWER} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        r#type: String,
        detail: String,
    }
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let kind = problem.r#type.rsplit(':').next().unwrap_or_default().to_owned();
    ClientError::Refused { status: status.as_u16(), kind, detail: problem.detail }
}
