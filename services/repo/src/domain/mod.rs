//! Entities of the service and what may be done with them; no I/O.

pub mod name;
pub mod repository;
pub mod work;
