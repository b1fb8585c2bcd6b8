//! The service's watched views.

pub mod repositories;
pub mod tree;
