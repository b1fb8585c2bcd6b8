//! The watch contract, and its consumer: a [`Consumer`] keeps one stream alive, checks it and returns verified events
//! with the position after each; a [`Drain`] ends the streams of a server. No database is needed here;
//! `foundry-watch-hub` serves watches.

mod authorization;
mod change;
mod consumer;
mod drain;
mod heartbeat;
mod observer;
pub mod oracle;
mod position;
mod state;

pub use authorization::{AuthorizationEvent, StreamAuthorization, Unrestricted};
pub use change::{Change, Op, row_digest};
pub use consumer::{Backoff, Consumer, ConsumerConfig, Event, Refresh, Stall, Violation};
pub use drain::{Drain, DrainNotice, EndStep, StreamEnd};
pub use heartbeat::{
    DEFAULT_HEARTBEAT, MIN_HEARTBEAT, MIN_SERVICE_HEARTBEAT, parse_heartbeat, parse_service_heartbeat,
};
pub use observer::{Beginning, NoObserver, Observer, Reconnect};
pub use position::Position;
pub use state::State;
