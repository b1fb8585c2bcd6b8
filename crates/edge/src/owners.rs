//! The services that own watches, as the edge calls them: asked under the caller's token whether
//! one may be seen, and watched in the gateway's own name.

use std::collections::BTreeMap;
use std::sync::Arc;

use foundry_core::{Clock, Error};
use foundry_server::Upstream;
use tonic::{Code, Status};

use crate::watch_request::Watchable;

/// A service under both names: as it is, and in the gateway's own name.
pub(crate) struct Owner {
    pub(crate) plain: Upstream,
    pub(crate) as_gateway: Upstream,
}

/// All owners, by name.
pub(crate) struct Owners {
    owners: BTreeMap<&'static str, Owner>,
    clock: Arc<dyn Clock>,
}

impl Owners {
    pub(crate) fn new(owners: BTreeMap<&'static str, Owner>, clock: Arc<dyn Clock>) -> Self {
        Self { owners, clock }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn owner(&self, method: Watchable) -> Result<&Owner, Status> {
        let unknown = || Error::internal(format!("no upstream {}", method.service)).into_status();
        self.owners.get(method.service).ok_or_else(unknown)
    }
}

/// Whether a watch cannot be had, whatever is tried: such a status ends it.
pub(crate) fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::OutOfRange
    )
}
