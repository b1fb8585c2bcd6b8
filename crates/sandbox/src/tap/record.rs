//! The lines of a tap log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the runtime, that is from us.
    ToAgent,
    /// From the agent.
    FromAgent,
}

/// One line: where it is, when it was written (by the sandbox's clock), and what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Byte offset of this line in its file, which reveals a torn or forged line.
    pub offset: u64,
    /// Microseconds since the Unix epoch.
    pub time: i64,
    /// The content of the line.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of the events that are read from them
pub enum Entry {
    /// An agent process started: what follows comes from it.
    Instance { runtime_instance: String, agent: String, pid: u32 },
    /// A message, recorded before it was passed on.
    Message { dir: Direction, msg: Value },
    /// A message that was not passed on.
    Refused { id: Value, method: String, reason: String },
    /// Messages that are not in the log.
    Lost { reason: String, messages: u64, bytes: u64 },
    /// The agent ended.
    Exit { code: Option<i32>, signal: Option<i32> },
}
