//! WatchRevocations: the feed that every service keeps.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::WatchRevocationsRequest;
use foundry_watch::FrameStream;

use crate::auth::Auth;
use crate::store::revocations;

pub(crate) fn run(auth: &Auth, caller: Caller, request: WatchRevocationsRequest) -> Result<FrameStream> {
    let pass = auth.authenticator.stream_pass(caller, None);
    auth.hub.watch(revocations::view(), request.options, pass)
}
