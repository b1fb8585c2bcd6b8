//! What the service's watches show.

pub mod repositories;
