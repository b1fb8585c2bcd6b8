//! The seat of a request in the bulkhead of its service. It is taken once the credential has been checked, so that
//! requests without a valid one never use what is meant for users.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use foundry_core::Error;
use futures::future::{Either, ready};
use http::{Extensions, Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use super::bulkhead::Bulkhead;
use super::{Kind, Routed};
use crate::listen::ConnectionUse;

/// Whether the caller of a request has shown a valid credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A user or a service.
    Identified,
    /// Nobody that is known.
    Anonymous,
}

/// Reads the standing of a caller from the extensions of its request, as authentication left them.
pub(crate) type StandingOf = fn(&Extensions) -> Standing;

/// The seat of a request, in its extensions; cloning shares it.
#[derive(Clone, Default)]
pub struct Seat(Weak<Place>);

/// Holds what the seat was taken with, until the end of the answer.
pub(crate) struct Place {
    bulkhead: Arc<Bulkhead>,
    kind: Kind,
    taken: OnceLock<(Standing, OwnedSemaphorePermit)>,
    /// Whose budget pays for the body, as of its first byte that counts.
    pays: OnceLock<Standing>,
    /// None without a socket.
    connection: Option<ConnectionUse>,
}

impl Place {
    pub(crate) fn new(bulkhead: Arc<Bulkhead>, kind: Kind, connection: Option<ConnectionUse>) -> Arc<Self> {
        if kind == Kind::Stream
            && let Some(connection) = &connection
        {
            connection.mark_stream();
        }
        Arc::new(Self { bulkhead, kind, taken: OnceLock::new(), pays: OnceLock::new(), connection })
    }

    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        Seat(Arc::downgrade(self))
    }

    /// Takes a permit among the callers of this standing, once; later calls change nothing.
    pub(crate) fn take(&self, standing: Standing) -> Result<(), Error> {
        if standing == Standing::Identified
            && let Some(connection) = &self.connection
        {
            connection.mark_identified();
        }
        if self.taken.get().is_none() {
            // Were it taken twice at once, the second permit would go back here.
            let _ = self.taken.set((standing, self.bulkhead.enter(self.kind, standing)?));
        }
        Ok(())
    }
}

impl Seat {
    /// Takes the seat among the callers of this standing, until the end of the answer. Later calls change nothing.
    ///
    /// # Errors
    /// `UNAVAILABLE` for a unary call and `RESOURCE_EXHAUSTED` for a stream when all seats are taken.
    pub fn take(&self, standing: Standing) -> Result<(), Error> {
        // Without its place, the answer has ended already.
        self.0.upgrade().map_or(Ok(()), |place| place.take(standing))
    }

    /// Takes bytes of the budget for request messages that have not arrived completely; `None` once the answer has
    /// ended. Without a seat the caller is not identified.
    pub(crate) fn take_bytes(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(place) = self.0.upgrade() else { return Ok(None) };
        let seated = || place.taken.get().map_or(Standing::Anonymous, |(standing, _)| *standing);
        let pays = *place.pays.get_or_init(seated);
        place.bulkhead.take_bytes(bytes, pays).map(Some)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}

/// The routes of a service, reached by requests that found a seat.
pub(crate) fn seated(routes: Routed, standing_of: StandingOf) -> Routed {
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let extensions = request.extensions();
        let taken = extensions.get::<Seat>().map_or(Ok(()), |seat| seat.take(standing_of(extensions)));
        match taken {
            Ok(()) => Either::Left(routes.clone().oneshot(request)),
            Err(refused) => {
                let answer: Response<Body> = refused.into_status().into_http();
                Either::Right(ready(Ok::<_, Infallible>(answer)))
            }
        }
    }))
}
