//! The gateway behind its real listener, before services that do what a test tells them.

// Support code of a test may panic: that is the test's failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod calls;
mod changing;
mod crowded;
mod hostile;
mod joining;
mod mesh;
mod owner;
mod pace;
mod plain;
mod revoking;
mod sessions;
mod standing;
mod story;
mod tokens;
mod troubled;
mod web;
