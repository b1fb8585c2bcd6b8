//! The provisioner as the task service calls it, with the real runtime and the demo agent.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod death;
mod faults;
mod life;
mod options;
mod repo;
mod turns;
mod world;
