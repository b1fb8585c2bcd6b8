//! The provisioner as the task service meets it, with the real runtime and the demo agent.
#![allow(clippy::unwrap_used)] // a test's way to fail

mod death;
mod faults;
mod life;
mod options;
mod repo;
mod turns;
mod world;
