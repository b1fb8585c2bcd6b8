//! The life of a process: its services start, it serves until it is asked to stop, and it drains in a fixed order.

mod drain;
mod phases;
mod process;
mod signals;

pub use phases::Phases;
pub use process::{Exit, Process, Readiness};
pub use signals::{Signals, StopHandle};
