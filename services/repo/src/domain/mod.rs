//! Entities of the service and their rules; no I/O.

pub mod base;
pub mod credential;
pub mod finding;
pub mod job;
pub mod name;
pub mod publishing;
pub mod pull_request;
pub mod repository;
pub mod restack;
pub mod stack;
pub mod sync;
pub mod webhook;
pub mod work;
