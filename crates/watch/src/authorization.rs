//! Ends a stream when its caller may no longer see what it shows.

use foundry_core::Timestamp;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::Status;

/// A change of the permission behind a stream.
#[derive(Clone, Debug)]
pub enum AuthorizationEvent {
    /// The stream ends at this time unless the permission is renewed; the client is notified.
    Expiring(Timestamp),
    /// The permission has ended; nothing more is sent but this status.
    Ended(Status),
}

/// The permission behind one stream; a change of it comes before every further frame.
pub trait StreamAuthorization: Send + 'static {
    /// The caller whose limit of watches the stream counts against; none = exempt (one of our services).
    fn caller(&self) -> Option<String>;

    /// Changes of the permission; while this stream is silent, or after it ends, the permission stays. Polled only after
    /// it woke its task, before the next frame: it must wake the task for every change, the end of a time included.
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

/// A permission that never ends: for streams inside a process, and for tests.
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
