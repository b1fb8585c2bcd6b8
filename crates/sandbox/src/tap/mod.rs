//! The tap log: the runtime appends every message of both directions between us and an agent to a log below the
//! sandbox's HOME before it passes the message on, and passes a request id on only once. See
//! `docs/adr/0005-the-tap.md`. This module has the format and the reader; `foundry-runtime` writes it.

mod reader;
pub mod record;

pub use reader::{TapBatch, TapBody, TapCursor, TapEvent, TapReadError, TapReader, read_file};
pub use record::Direction;

/// Where the logs are, below HOME.
pub const DIRECTORY: [&str; 2] = [".foundry", "tap"];
/// Largest message that is passed on, in bytes.
pub const MAX_MESSAGE: usize = 8 << 20;
/// Largest line of a log, in bytes: a message and its head.
pub const MAX_LINE: usize = MAX_MESSAGE * 2;
/// Largest log, in bytes; beyond it nothing more is recorded, and a marker in the log states that.
pub const MAX_LOG: u64 = 1 << 30;
