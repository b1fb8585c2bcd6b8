//! One conformance suite for all backends.

mod backends;
mod commits;
