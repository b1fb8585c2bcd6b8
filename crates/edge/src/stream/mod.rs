//! One stream of a caller: its set of watches, which calls change while it is open, and its frames, each watch in turn.

mod rpc;
mod session;
mod shared;
mod starter;
mod stream_frame;
mod stream_watch;
mod streams;
mod subscription_set;
mod watchers;

pub(crate) use rpc::Call;
pub use session::draining;
pub(crate) use shared::Shared;
pub(crate) use streams::Streams;
pub(crate) use watchers::Watchers;
