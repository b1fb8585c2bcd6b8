//! What the runtime and its client say to each other over HTTP/1.1, in JSON. See `docs/adr/0011-the-runtime.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SandboxName;
use crate::key::RuntimeKey;

/// Version of this protocol, told in [`Hello`].
pub const VERSION: u32 = 1;
/// Scheme of the `authorization` header: `Foundry NONCE.PROOF`.
pub const SCHEME: &str = "Foundry";
/// Header by which the forwarder in a sandbox tells the model gateway where a call comes from:
/// `SANDBOX.INSTANCE.NONCE.PROOF`.
pub const SANDBOX_HEADER: &str = "x-foundry-sandbox";
/// Header with the length of a whole log, in bytes.
pub const LOG_LENGTH_HEADER: &str = "x-log-length";
/// What the runtime replaces by the address of its forwarder: in arguments and environments, in files that are put with
/// `model_url` in the query, in the metadata of a sign-in and the addresses of MCP servers.
pub const MODEL_URL: &str = "${FOUNDRY_MODEL_URL}";
/// The variable of an agent's processes that names their conversation.
pub const AGENT_VARIABLE: &str = "FOUNDRY_AGENT";
/// The variable that says which start of the runtime it is.
pub const INSTANCE_VARIABLE: &str = "FOUNDRY_RUNTIME_INSTANCE";

/// The one line that a runtime reads from its standard input when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The key of this start.
    pub key: RuntimeKey,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Which start this is, e.g. `run3`.
    pub instance: String,
    /// Whether the sandbox has process ids of its own.
    pub isolated: bool,
    /// Further directories, besides HOME and `/tmp`, in which files may be read and written.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// Where model calls are forwarded to; none = there is no model gateway.
    #[serde(default)]
    pub forward: Option<Forward>,
    /// The way out of a network of its own; none = there is none, or the sandbox has the network of its host.
    #[serde(default)]
    pub proxy: Option<Proxy>,
}

/// The way out of a sandbox that has a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// The unix socket of the mesh's proxy, a path as the sandbox sees it.
    pub socket: PathBuf,
    /// The port of the sandbox's loopback on which the runtime takes connections for it.
    pub port: u16,
}

/// Where model calls go.
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
    /// [`RuntimeKey::runtime_proof`].
    pub proof: String,
    /// Which start of the runtime this is.
    pub instance: String,
    /// [`VERSION`].
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
    /// Added to the runtime's own environment; written nowhere.
    pub env: BTreeMap<String, String>,
    /// Where it starts; none = the runtime's directory.
    pub cwd: Option<PathBuf>,
    /// Requests of the agent that are passed on to us; all others are answered with an error at once.
    pub offers: Vec<String>,
}

/// Answer to `PUT /v1/agents/{acp}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStarted {
    /// The process.
    pub pid: i32,
    /// Where its own part of the log begins.
    pub log_offset: u64,
    /// False when it ran already.
    pub started: bool,
}

/// One agent process of `GET /v1/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The conversation.
    pub acp: String,
    /// The agent's name.
    pub agent: String,
    /// The attempt that started it.
    pub attempt: String,
    /// The process.
    pub pid: i32,
    /// Whether it runs.
    pub running: bool,
    /// How it ended, if it exited.
    pub exit_code: Option<i32>,
    /// How it ended, if it was killed.
    pub signal: Option<i32>,
}

/// Answer to `GET /v1/agents`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    /// All of them, by conversation.
    pub agents: Vec<AgentStatus>,
}

/// What became of a message to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is recorded and on its way to the agent.
    PassedOn,
    /// It was passed on before, or answers nothing that is open; it was not passed on again.
    Duplicate,
}

/// Answer to `POST /v1/agents/{acp}/messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// What became of it.
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
    /// Where it runs; none = the runtime's directory.
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
    /// Where it starts; none = the runtime's directory.
    pub cwd: Option<PathBuf>,
    /// Lines of the screen.
    pub rows: u16,
    /// Columns of the screen.
    pub cols: u16,
}

/// Answer to `POST /v1/terminals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalStarted {
    /// Its name.
    pub terminal: String,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// `unauthenticated`, `not_found`, `invalid`, `too_large`, `agent_ended`, `busy`, `log_unwritable`,
    /// `start_failed`, `refused`, `truncated`, `io`.
    pub r#type: String,
    /// Words for people.
    pub detail: String,
}
