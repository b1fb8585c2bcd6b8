//! What runs between requests and flows: reading tap logs, and detecting what died.

mod clients;
mod endings;
mod health;
mod limits;
mod locks;
mod news;
mod pump;
mod record;
mod sweeper;

pub use clients::Clients;
pub use endings::{cut, end_turn};
#[cfg(test)]
pub use health::look;
pub use health::watch_health;
pub use locks::Locks;
pub use news::{options_key, waiting, wake};
pub use pump::{Pumps, drain_log};
use record::waits_for;
#[cfg(test)]
pub use sweeper::sweep;
pub use sweeper::sweep_strangers;
