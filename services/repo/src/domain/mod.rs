//! Entities of the service and their rules; no I/O.

pub mod base;
pub mod credential;
pub mod name;
pub mod repository;
pub mod work;
