//! Watches from both ends, with real streams.

#![allow(clippy::expect_used, clippy::unwrap_used)] // tests and their helpers fail by panicking

mod consuming;
mod lifecycle;
mod observing;
mod oracle;
mod registering;
mod serving;
mod story;
mod support;
