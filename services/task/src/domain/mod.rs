//! What a task is and how it moves: names, facts, states derived from facts. No tonic, no
//! database, no clock.

pub mod asked;
pub mod derive;
pub mod naming;
pub mod session;
pub mod stages;
pub mod task;
pub mod validate;
