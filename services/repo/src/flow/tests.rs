//! What the tests of several flows share.

pub mod proofs;
