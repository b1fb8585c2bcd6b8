//! One file per rpc: validate, load, decide, one transaction, return.

pub(crate) mod begin_program_sign_in;
pub(crate) mod begin_sign_in;
pub(crate) mod complete_program_sign_in;
pub(crate) mod complete_sign_in;
pub(crate) mod confirm_program_sign_in;
pub(crate) mod create_access_token;
pub(crate) mod create_organization;
pub(crate) mod deny_program_sign_in;
pub(crate) mod exchange_token;
pub(crate) mod get_app_shell;
pub(crate) mod get_program_sign_in;
pub(crate) mod get_sign_in;
pub(crate) mod get_signing_keys;
pub(crate) mod get_user;
pub(crate) mod list_access_tokens;
pub(crate) mod list_members;
pub(crate) mod list_organizations;
pub(crate) mod list_sessions;
pub(crate) mod list_sign_in_ways;
pub(crate) mod receive_sign_in;
pub(crate) mod remove_member;
pub(crate) mod revoke_access_token;
pub(crate) mod revoke_session;
pub(crate) mod select_organization;
pub(crate) mod set_member;
pub(crate) mod sign_out;
pub(crate) mod waiting_program;
pub(crate) mod watch_app_shell;
pub(crate) mod watch_revocations;

use foundry_authn::{Caller, UserCaller};
use foundry_core::{Code, Error, OrganizationId, Result};
use foundry_store::WriteSet;

use crate::auth::Auth;
use crate::store::Reach;
use crate::store::memberships::{self, Membership};

/// The organizations that the caller's token covers: all of the user's with a session, one with a personal access
/// token, none once that membership is gone.
fn reach(user: &UserCaller) -> Reach {
    if is_session(user) {
        return Reach::All;
    }
    user.organizations.keys().next().map_or(Reach::Nothing, |o| Reach::One(o.clone()))
}

/// The error for a personal access token: it covers only its organization and creates no credentials.
fn session_required() -> Error {
    Error::new(Code::PermissionDenied, "SESSION_REQUIRED", "a personal access token cannot do this")
        .next_action("sign in with `foundry login` and use that session")
}

/// Whether the caller uses a sign-in session, not a personal access token.
fn is_session(user: &UserCaller) -> bool {
    user.credential_id.starts_with("crd_")
}

/// The caller's membership, with the lower of the stored role and the token's. Guards the stored role until commit.
async fn acting_member(
    auth: &Auth,
    caller: &Caller,
    organization: &OrganizationId,
    set: &mut WriteSet,
) -> Result<Membership> {
    let user = caller.require_user()?;
    let member = memberships::get(&auth.store, organization, &user.user_id).await?;
    let absent = || Error::not_found("organization", organization.as_str());
    let mut member = member.ok_or_else(absent)?;
    memberships::still(set, organization, &user.user_id, member.role);
    member.role = member.role.min(caller.role_in(organization).ok_or_else(absent)?);
    Ok(member)
}
