//! The HTTP/1.1 and JSON protocol between the runtime and its client. See `docs/adr/0011-the-runtime.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::key::RuntimeKey;
use crate::{GitSettings, SandboxName};

/// Version of this protocol, sent in [`Hello`].
pub const VERSION: u32 = 1;
/// Scheme of the `authorization` header: `Foundry NONCE.PROOF`.
pub const SCHEME: &str = "Foundry";
/// Header with which the forwarder in a sandbox identifies the sandbox to the model gateway:
/// `SANDBOX.INSTANCE.NONCE.PROOF`.
pub const SANDBOX_HEADER: &str = "x-foundry-sandbox";
/// Header with the length of a whole log, in bytes.
pub const LOG_LENGTH_HEADER: &str = "x-log-length";
/// Placeholder that the runtime replaces by the address of its forwarder: in arguments and environments, in files that
/// are put with `model_url` in the query, in the metadata of a sign-in and the addresses of MCP servers.
pub const MODEL_URL: &str = "${FOUNDRY_MODEL_URL}";
/// The variable of an agent's processes that names their conversation.
pub const AGENT_VARIABLE: &str = "FOUNDRY_AGENT";
/// The variable with the instance of the runtime.
pub const INSTANCE_VARIABLE: &str = "FOUNDRY_RUNTIME_INSTANCE";

/// The one line that a runtime reads from its standard input when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The key of this start.
    pub key: RuntimeKey,
    /// The name of the runtime's own sandbox.
    pub sandbox: SandboxName,
    /// The instance of the runtime, e.g. `run3`; new for every start.
    pub instance: String,
    /// Whether the sandbox has process ids of its own.
    pub isolated: bool,
    /// Further directories, besides HOME and `/tmp`, in which files may be read and written.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// Where model calls are forwarded to; none = there is no model gateway.
    #[serde(default)]
    pub forward: Option<Forward>,
    /// The proxy for a sandbox with a network of its own; none = no outbound traffic, or the network of the host.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// Settings for git; none = those that programs inside make themselves.
    #[serde(default)]
    pub git: Option<GitSettings>,
}

/// The proxy of a sandbox that has a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// The unix socket of the mesh's proxy, a path as the sandbox sees it.
    pub socket: PathBuf,
    /// The port of the sandbox's loopback on which the runtime accepts connections for it.
    pub port: u16,
}

/// The destination of model calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// A unix socket, a path as the sandbox sees it.
    Socket(PathBuf),
}

/// Answer to `POST /v1/hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The runtime's random number, hexadecimal.
    pub nonce: String,
    /// The runtime's proof, made by [`RuntimeKey::runtime_proof`].
    pub proof: String,
    /// The instance of the runtime.
    pub instance: String,
    /// The protocol version of the runtime, see [`VERSION`].
    pub version: u32,
}

/// Body of `POST /v1/hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The client's random number, hexadecimal.
    pub nonce: String,
}

/// Body of `PUT /v1/agents/{acp}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStart {
    /// The agent's name, for the log.
    pub agent: String,
    /// The attempt: a repetition with the same one finds the process that the first one started.
    pub attempt: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the runtime's own environment; not stored.
    pub env: BTreeMap<String, String>,
    /// The working directory; none = the runtime's directory.
    pub cwd: Option<PathBuf>,
    /// Requests of the agent that are passed on to us; all others are answered with an error at once.
    pub offers: Vec<String>,
}

/// Answer to `PUT /v1/agents/{acp}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStarted {
    /// The process id, as the sandbox sees it.
    pub pid: i32,
    /// Where its own part of the log begins.
    pub log_offset: u64,
    /// False when it was already running.
    pub started: bool,
}

/// One agent process of `GET /v1/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The id of its conversation.
    pub acp: String,
    /// The agent's name.
    pub agent: String,
    /// The attempt that started it.
    pub attempt: String,
    /// The process id, as the sandbox sees it.
    pub pid: i32,
    /// Whether it runs.
    pub running: bool,
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal number, if it was killed.
    pub signal: Option<i32>,
}

/// Answer to `GET /v1/agents`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    /// All agent processes, by conversation.
    pub agents: Vec<AgentStatus>,
}

/// The result of sending a message to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is recorded and on its way to the agent.
    PassedOn,
    /// It was passed on before, or answers no open request; it was not passed on again.
    Duplicate,
}

/// Answer to `POST /v1/agents/{acp}/messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Whether the message was passed on.
    pub outcome: Outcome,
}

/// Body of `POST /v1/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the runtime's own environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; none = the runtime's directory.
    pub cwd: Option<PathBuf>,
    /// Standard input, base64, at most 1 MiB of it.
    pub stdin: String,
    /// How long it may run, in milliseconds; at most 300,000.
    pub limit_ms: u64,
    /// How much of each output stream is kept, in bytes; at most 1 MiB.
    pub max_output: usize,
}

/// Answer to `POST /v1/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecDone {
    /// Exit code, 128 + n when signal n ended it; none = ended because of its limit.
    pub exit_code: Option<i32>,
    /// Whether it was ended because of its limit.
    pub timed_out: bool,
    /// Standard output, base64.
    pub stdout: String,
    /// Standard error, base64.
    pub stderr: String,
    /// Whether output beyond the limit was dropped.
    pub stdout_truncated: bool,
    /// Whether error output beyond the limit was dropped.
    pub stderr_truncated: bool,
}

/// Body of `POST /v1/terminals`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TerminalStart {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the runtime's own environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; none = the runtime's directory.
    pub cwd: Option<PathBuf>,
    /// Lines of the screen.
    pub rows: u16,
    /// Columns of the screen.
    pub cols: u16,
}

/// Answer to `POST /v1/terminals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalStarted {
    /// The id of the terminal, for its other routes.
    pub terminal: String,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// `unauthenticated`, `not_found`, `invalid`, `too_large`, `agent_ended`, `busy`, `log_unwritable`,
    /// `start_failed`, `refused`, `truncated`, `io`.
    pub r#type: String,
    /// What went wrong, as a text for users.
    pub detail: String,
}
