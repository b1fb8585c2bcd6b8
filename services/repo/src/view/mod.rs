//! What callers see of the service's entities, in watches and responses.

pub mod repositories;
pub mod tree;
