//! Watches the revocations, as every service does.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::WatchRevocationsRequest;
use foundry_watch_hub::Granted;

use crate::auth::Auth;
use crate::store::revocations;

/// What the caller may see: the policy of the rpc admits services only.
///
/// # Errors
/// None.
pub(crate) async fn grant(_: &Auth, _: &Caller, _: &mut WatchRevocationsRequest) -> Result<Granted> {
    Ok(Granted::own(revocations::view()))
}
