//! The writing side of the tap: every message of both directions is recorded before it is passed on. The
//! format and its reading are in `foundry_sandbox::tap`.

pub(crate) mod filter;
pub(crate) mod lines;
pub(crate) mod log;
