//! The gateway behind its real listener, in front of services that a test controls.

// Support code of a test may panic, which fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod calls;
mod changing;
mod crowded;
mod hostile;
mod https;
mod joining;
mod mesh;
mod owner;
mod pace;
mod plain;
mod proxies;
mod revoking;
mod sessions;
mod shares;
mod sign_in;
mod standing;
mod story;
mod tokens;
mod troubled;
mod web;
mod webhooks;
