//! The service's background work.

pub mod delete;
pub mod import;
pub mod sync;
