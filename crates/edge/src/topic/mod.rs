//! One view of one rpc, read from its owner once for all who watch it, into a ring of its newest changes.

pub(crate) mod frames;
mod link;
mod opened;
mod pump;
mod ring;
mod shared_view;
mod topics;

pub(crate) use link::Track;
pub(crate) use opened::Opened;
pub(crate) use shared_view::{Join, Key, Mark, Next};
pub(crate) use topics::{Lease, Topics};
