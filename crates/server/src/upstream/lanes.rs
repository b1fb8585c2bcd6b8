//! Connections for streams, as many as are needed: a server allows a limited number of streams per connection, and a
//! further one would wait there until another ends.

use std::sync::{Arc, Mutex};

use tonic::transport::Channel;

use super::remote::Connect;

/// Streams on one connection, below the 128 that our servers allow.
const STREAMS_PER_CONNECTION: usize = 100;

/// The connections to one server; cloning shares them.
#[derive(Clone)]
pub(super) struct Lanes(Arc<Inner>);

struct Inner {
    connect: Connect,
    lanes: Mutex<Vec<Lane>>,
}

struct Lane {
    channel: Channel,
    /// Shared by its open streams.
    open: Arc<()>,
}

/// A stream's place on its connection, until it is dropped.
pub(super) struct Place(#[allow(dead_code)] Arc<()>); // what counts is that it exists

impl Lanes {
    /// No connection yet; each connects when it is first used.
    pub(super) fn new(connect: Connect) -> Self {
        Self(Arc::new(Inner { connect, lanes: Mutex::default() }))
    }

    /// The first connection with room, or else a new one.
    pub(super) fn enter(&self) -> (Channel, Place) {
        // The list is whole after every change.
        let mut lanes = foundry_core::lock(&self.0.lanes);
        let has_room = |lane: &&Lane| Arc::strong_count(&lane.open) <= STREAMS_PER_CONNECTION;
        if let Some(lane) = lanes.iter().find(has_room) {
            return (lane.channel.clone(), Place(Arc::clone(&lane.open)));
        }
        let (channel, open) = ((self.0.connect)(), Arc::new(()));
        lanes.push(Lane { channel: channel.clone(), open: Arc::clone(&open) });
        (channel, Place(open))
    }
}
