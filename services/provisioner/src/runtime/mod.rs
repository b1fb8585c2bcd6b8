//! What runs between requests and flows: reading tap logs, and detecting what died.

mod clients;
mod health;
mod interruptions;
mod limits;
mod locks;
mod news;
mod output;
mod pump;
mod reclaim;
mod record;
mod sweeper;

pub use clients::Clients;
#[cfg(test)]
pub use health::check_all;
pub use health::watch_health;
pub use interruptions::{append_to_transcript, end_turn};
pub use locks::Locks;
pub use news::{options_key, waiting, wake};
pub use output::StoredOutput;
pub use pump::{Pumps, drain_log};
#[cfg(test)]
pub use reclaim::reclaim;
pub use reclaim::reclaim_again;
use record::waits_for;
#[cfg(test)]
pub use sweeper::sweep;
pub use sweeper::sweep_strangers;
