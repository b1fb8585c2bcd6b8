//! The session of somebody whom an identity provider has named, for the page that began the sign-in and was returned to.

use foundry_core::{OrganizationId, Result, SignInId, Timestamp, UserId};
use foundry_proto::auth::v1::CompleteSignInResponse;
use foundry_store::WriteSet;

use super::open_session;
use crate::auth::Auth;
use crate::domain::session::Origin;
use crate::domain::sign_in::{State, not_admitted, unknown};
use crate::store::{memberships, organizations, sign_ins, users};

/// Uses the sign-in up; a second one with the same claim finds it used.
pub(super) async fn decide(
    auth: &Auth,
    sign_in_id: &SignInId,
    (claim, return_secret): (&str, &str),
    (secret, origin): (&str, &Origin),
) -> Result<(WriteSet, (CompleteSignInResponse, Timestamp))> {
    let row = sign_ins::find(&auth.store, sign_in_id).await?.ok_or_else(unknown)?;
    row.check_claim(claim, return_secret, auth.env.clock.now())?;
    let (user, organization): (UserId, OrganizationId) = (row.user_id.parse()?, row.organization_id.parse()?);
    // The membership may have been lost since.
    let member = memberships::get(&auth.store, &organization, &user).await?.ok_or_else(not_admitted)?;
    let mut set = WriteSet::new();
    memberships::still(&mut set, &organization, &user, member.role);
    sign_ins::advance(&mut set, sign_in_id, State::Admitted, State::Completed, &[]);
    let user = users::by_id(&auth.store, &user).await?.ok_or_else(not_admitted)?;
    let organization = organizations::by_id(&auth.store, &organization).await?.ok_or_else(not_admitted)?;
    if user.active.as_ref() != Some(&organization.organization_id) {
        user.activate(&mut set, Some(&organization.organization_id));
    }
    let origin = Origin { provider: row.provider, ..origin.clone() };
    Ok(open_session(auth, set, &user, &organization, (secret, &origin)))
}
