//! Entities of the service and their rules; no I/O.

pub mod base;
pub mod name;
pub mod repository;
pub mod stack;
pub mod sync;
pub mod work;
