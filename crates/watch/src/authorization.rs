//! When a stream must end because its caller may no longer see what it shows.

use foundry_core::Timestamp;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::Status;

/// What becomes of the permission behind a stream.
#[derive(Clone, Debug)]
pub enum AuthorizationEvent {
    /// It ends at the given time unless it is renewed; the caller is told.
    Expiring(Timestamp),
    /// It has ended; nothing more is sent but this status.
    Ended(Status),
}

/// The permission behind one stream, checked before every frame.
pub trait StreamAuthorization: Send + 'static {
    /// Whose limit of watches the stream counts against; none = exempt (a service of ours).
    fn caller(&self) -> Option<String>;

    /// What becomes of the permission; a stream of events that ends, or stays silent, means that
    /// it stays. Polled from the watch's own task before each frame, so it must be cheap when
    /// nothing happened.
    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent>;
}

impl StreamAuthorization for Box<dyn StreamAuthorization> {
    fn caller(&self) -> Option<String> {
        (**self).caller()
    }

    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent> {
        (*self).events()
    }
}

/// A permission that nobody takes away: for streams inside a process, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrestricted;

impl StreamAuthorization for Unrestricted {
    fn caller(&self) -> Option<String> {
        None
    }

    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent> {
        futures::stream::empty().boxed()
    }
}
