//! WatchRevocations: the revocations, which every service follows.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::WatchRevocationsRequest;
use foundry_watch_hub::Granted;

use crate::auth::Auth;
use crate::store::revocations;

/// Authorizes the watch; the rpc's policy admits services only.
///
/// # Errors
/// None.
pub(crate) async fn grant(_: &Auth, _: &Caller, _: &mut WatchRevocationsRequest) -> Result<Granted> {
    Ok(Granted::own(revocations::view()))
}
