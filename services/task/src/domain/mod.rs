//! The rules of tasks: names, facts, and states derived from facts. No tonic, no database, no clock.

pub mod asked;
mod base;
mod branch;
pub mod derive;
pub mod fix;
pub mod naming;
pub mod proposal;
pub mod review;
pub mod session;
pub mod stages;
pub mod task;
mod turn;
pub mod validate;
pub mod work;
