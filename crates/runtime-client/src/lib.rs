//! Client of the runtime inside a sandbox, over whatever connection its [`foundry_sandbox::Sandbox`] handle
//! opens: starting agents and talking to them, running commands, files, processes and terminals.
//!
//! Entry points: [`RuntimeClient`], [`Conversation`] to open an agent's session, [`LogFollower`] to follow its log, and
//! [`RemoteSandbox`], a handle that needs nothing but HTTP.

mod acp;
mod connection;
mod conversation;
mod error;
mod exec;
mod files;
mod follow;
mod remote;
mod settings;
mod terminals;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::wire::{AgentStart, AgentStarted, AgentStatus, Agents};
use foundry_sandbox::{AcpId, ProcessListing, Sandbox, checked_listing};
use http::Method;
use serde_json::Value;

pub use acp::RequestId;
pub use conversation::{Conversation, Initialized, Opened};
pub use error::ClientError;
pub use exec::{ExecOutput, ExecSpec};
pub use follow::LogFollower;
pub use foundry_sandbox::wire::Outcome as Posted;
pub use remote::RemoteSandbox;
pub use settings::{MODE, MODEL, SetOption, Way};
pub use terminals::TerminalOutput;

use connection::{Connections, Request};

/// Time limit of a call that starts no work in the sandbox.
const QUICK: Duration = Duration::from_secs(5);
/// Time limit of ending an agent, which is killed after 5 s.
const END: Duration = Duration::from_secs(10);

/// A connection to one runtime; cloning shares it.
#[derive(Clone)]
pub struct RuntimeClient {
    sandbox: Arc<dyn Sandbox>,
    connections: Arc<Connections>,
    env: Env,
}

impl fmt::Debug for RuntimeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeClient").finish_non_exhaustive()
    }
}

impl RuntimeClient {
    /// A client for the runtime of this sandbox; nothing is sent yet.
    pub fn new(sandbox: Arc<dyn Sandbox>, env: Env) -> Self {
        Self { sandbox, connections: Arc::default(), env }
    }

    /// The handle it uses.
    pub fn sandbox(&self) -> &Arc<dyn Sandbox> {
        &self.sandbox
    }

    /// Whether the runtime answers and has proved that it holds the handle's key.
    ///
    /// # Errors
    /// When it cannot be reached, or is another.
    pub async fn health(&self) -> Result<(), ClientError> {
        let answer: Value = self.get("/v1/health").await?;
        match answer.get("status").and_then(Value::as_str) {
            Some("ok") => Ok(()),
            _ => Err(ClientError::Malformed(format!("unexpected health response {answer}"))),
        }
    }

    /// Starts an agent for a conversation, or finds the one that this attempt has already started.
    ///
    /// # Errors
    /// `start_failed` naming the program when it cannot be run.
    pub async fn start_agent(&self, acp: &AcpId, start: &AgentStart) -> Result<AgentStarted, ClientError> {
        let request = Request::json(Method::PUT, agent_path(acp), start)?.limit(END + QUICK);
        self.call(request).await
    }

    /// The agent processes that were started; one that has ended stays listed until it is closed.
    ///
    /// # Errors
    /// When the runtime cannot be reached.
    pub async fn agents(&self) -> Result<Vec<AgentStatus>, ClientError> {
        Ok(self.get::<Agents>("/v1/agents").await?.agents)
    }

    /// Ends the agent process of a conversation and all it started, within seconds; its log stays.
    ///
    /// # Errors
    /// When the runtime cannot be reached.
    pub async fn close(&self, acp: &AcpId) -> Result<(), ClientError> {
        let request = Request::new(Method::DELETE, agent_path(acp)).limit(END);
        self.send(request).await.map(drop)
    }

    /// The processes of the sandbox at this moment, as reported from inside.
    ///
    /// # Errors
    /// When the runtime cannot be reached.
    pub async fn processes(&self) -> Result<ProcessListing, ClientError> {
        Ok(checked_listing(self.get::<ProcessListing>("/v1/processes").await?))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Request::new(Method::GET, path.to_owned())).await
    }

    /// Sends a request and reads its answer as JSON.
    async fn call<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        let answer = self.send(request).await?;
        serde_json::from_slice(&answer.body).map_err(|e| ClientError::Malformed(e.to_string()))
    }
}

fn agent_path(acp: &AcpId) -> String {
    format!("/v1/agents/{acp}")
}
