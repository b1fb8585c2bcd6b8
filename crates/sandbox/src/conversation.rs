//! Opening an agent conversation, so that a repetition after a crash at any point ends where the first
//! attempt would have: the tap passes each request on once, and its log has the answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::Env;
use serde_json::Value;

use crate::acp::AcpEvent;
use crate::client::{ClientError, Initialized, NewSession, Posted, RequestId, RuntimeClient};
use crate::tap::{TapBody, TapCursor, TapReader};
use crate::{AcpId, AgentCredentials, AgentKind, Class, ProviderError};

/// What is needed to open a conversation.
#[derive(Clone, Debug)]
pub struct Conversation<'a> {
    /// The runtime.
    pub client: &'a RuntimeClient,
    /// The sandbox's HOME as this host sees it.
    pub host_home: &'a Path,
    /// The name of the conversation.
    pub acp: &'a AcpId,
    /// The agent, installed before.
    pub agent: AgentKind,
    /// The configured model keys; the agent gets its own only.
    pub credentials: &'a AgentCredentials,
    /// Where the agent works, as the sandbox sees it.
    pub workspace: PathBuf,
    /// The attempt, e.g. the runtime instance: another one starts another agent process, the same one
    /// finds what it did before.
    pub attempt: &'a str,
}

/// An open conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The agent's own id of the session.
    pub session_id: String,
    /// What it said of itself.
    pub initialized: Initialized,
}

const POLL: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(120);

impl Conversation<'_> {
    /// Starts the agent and opens a session.
    ///
    /// # Errors
    /// `AGENT_CREDENTIALS_MISSING`, `AGENT_NOT_INSTALLED`, `AGENT_EXITED` with how, `AGENT_ERROR` with its
    /// words, `AGENT_START_TIMEOUT`, and those of the runtime and the tap log.
    pub async fn open(&self, env: &Env) -> Result<Opened, ProviderError> {
        let credentials = self.credentials.for_agent(self.agent)?;
        let hello = RequestId(format!("{}/initialize", self.attempt));
        let initialize = || self.client.initialize(self.acp, self.agent, &hello, &credentials);
        let answer = match self.ask(&hello, initialize(), 1, env).await {
            // The process of an earlier attempt has ended and is still listed: make room, once.
            Err(e) if ["RUNTIME_REFUSED", "AGENT_EXITED"].contains(&e.reason) => {
                let processes = self.in_log(&hello).await?.processes;
                self.client.close(self.acp).await?;
                self.ask(&hello, initialize(), processes + 1, env).await?
            }
            other => other?,
        };
        let initialized = Initialized::parse(answer);
        let id = RequestId(format!("{}/session", self.attempt));
        let new = self.client.new_session(self.acp, &id, &self.workspace);
        let session = NewSession::parse(self.ask(&id, new, 1, env).await?)?;
        Ok(Opened { session_id: session.session_id, initialized })
    }

    /// Posts a request and waits for its answer, from the POST or from the log, whichever has it. Before
    /// the log has so many agent processes, the end of one tells nothing.
    async fn ask(
        &self,
        id: &RequestId,
        post: impl Future<Output = Result<Posted, ClientError>>,
        processes: usize,
        env: &Env,
    ) -> Result<Value, ProviderError> {
        tokio::pin!(post);
        let mut posting = true;
        let mut waited = Duration::ZERO;
        loop {
            tokio::select! {
                posted = &mut post, if posting => match posted? {
                    Posted::Answered(result) => return Ok(result),
                    Posted::Pending | Posted::AlreadyPassedOn => posting = false,
                },
                () = env.clock.sleep(POLL) => waited += POLL,
            }
            let log = self.in_log(id).await?;
            if log.processes >= processes {
                if let Some(how) = log.exited {
                    let message = format!("agent {} has ended: {how}", self.agent);
                    return Err(ProviderError::new(Class::Provider, "AGENT_EXITED", message).retryable());
                }
                // While the POST is under way the answer may be that of a process that is dead: it says.
                if let (Some(result), false) = (log.answer, posting) {
                    return result.map_err(|e| ClientError::Agent(e).into());
                }
            }
            if waited >= LIMIT {
                let message = format!("agent {} was not ready within {} s", self.agent, LIMIT.as_secs());
                return Err(ProviderError::new(Class::Timeout, "AGENT_START_TIMEOUT", message).retryable());
            }
        }
    }

    /// What the log says of a request to the newest agent process that was asked it.
    async fn in_log(&self, id: &RequestId) -> Result<InLog, ProviderError> {
        let reader = TapReader::new(self.host_home, self.acp);
        let wanted = Value::String(id.0.clone());
        let mut cursor = TapCursor::default();
        let mut log = InLog::default();
        let mut asked = false;
        loop {
            let batch = reader.read(&cursor).await?;
            for event in batch.events {
                match event.body {
                    TapBody::Message { direction, json } => match AcpEvent::parse(direction, json) {
                        AcpEvent::Asked { id, .. } if id == wanted => asked = true,
                        AcpEvent::Answered { id, result } if id == wanted => log.answer = Some(result),
                        _ => {}
                    },
                    TapBody::Exited { code, signal } if asked => {
                        log.exited = Some(match (code, signal) {
                            (Some(code), _) => format!("exit code {code}"),
                            (None, signal) => format!("signal {}", signal.unwrap_or(0)),
                        });
                    }
                    TapBody::Started { .. } => {
                        asked = false;
                        log = InLog { processes: log.processes + 1, ..InLog::default() };
                    }
                    _ => {}
                }
            }
            if !batch.more {
                return Ok(log);
            }
            cursor = batch.next;
        }
    }
}

#[derive(Default)]
struct InLog {
    processes: usize,
    answer: Option<Result<Value, crate::RpcError>>,
    exited: Option<String>,
}
