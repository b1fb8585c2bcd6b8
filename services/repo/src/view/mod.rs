//! The service's watched views.

pub mod changes;
pub mod jobs;
pub mod repositories;
pub mod tree;
