//! The real runtime as a process, over a unix socket and over TCP, with a client of its own.
#![allow(clippy::unwrap_used)] // test code

mod agents;
mod caller;
mod commands;
mod ending;
mod files;
mod forwarding;
mod hello;
mod logs;
mod secrets;
mod talk;
mod terminals;
mod world;
