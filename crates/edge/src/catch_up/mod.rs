//! How one watch comes as far as its topic: by a stream of its own, within the bounds of its user and of the process,
//! until nothing is missing.

mod budget;
mod reader;
mod slot;
mod starts;

pub(crate) use budget::{Budget, Budgets};
pub(crate) use reader::{CatchUpPermits, Reader};
pub(crate) use slot::{Item, Membership, ReadAhead, Slot};
pub(crate) use starts::Starts;
