//! The established caller of a request: a user with its roles, or a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use foundry_core::{Code, Error, OrganizationId, Result, Timestamp, UserId};
use foundry_proto::common::v1::Role;

use crate::{TokenError, role_name};

/// A caller's role in one organization, as its token states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The organization in which the role holds.
    pub organization_id: OrganizationId,
    /// The caller's role in this organization.
    pub role: Role,
}

/// A calling user, as its access token describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCaller {
    /// The user's id.
    pub user_id: UserId,
    /// Id of the session or personal access token that the access token was exchanged for; revocations use the same id.
    pub credential_id: String,
    /// Role by organization.
    pub organizations: BTreeMap<OrganizationId, Role>,
    /// Revision up to which revocations are already reflected in `organizations`.
    pub revocations_rev: i64,
    /// When the access token expires.
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(UserCaller),
    Service { name: String, expires_at: Timestamp },
}

/// The caller of a request. In the extensions of every request that passed [`crate::AuthnLayer`]; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    who: Arc<Who>,
    on_behalf_of: Option<UserId>,
}

impl Caller {
    /// A user. Only the verifier and tests make one.
    pub fn user(user: UserCaller) -> Self {
        Self { who: Arc::new(Who::User(user)), on_behalf_of: None }
    }

    /// A service whose identity never expires. Only tests and in-process work make one.
    pub fn service(name: &str) -> Self {
        Self::service_until(name, Timestamp::from_micros(i64::MAX))
    }

    pub(crate) fn service_until(name: &str, expires_at: Timestamp) -> Self {
        Self { who: Arc::new(Who::Service { name: name.to_owned(), expires_at }), on_behalf_of: None }
    }

    /// The same service, acting for a user; has no effect on a user.
    #[must_use]
    pub fn acting_for(mut self, user: UserId) -> Self {
        if self.service_name().is_some() {
            self.on_behalf_of = Some(user);
        }
        self
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the method is open and the request carries no valid token.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| TokenError::Missing.into())
    }

    /// Requires a role in the organization that the request names. A service always passes: the method option lists the
    /// services that may call.
    ///
    /// # Errors
    /// `NOT_FOUND` for a caller that is not a member, as for an absent organization; `PERMISSION_DENIED`
    /// for a member with too small a role.
    pub fn require(&self, organization: &OrganizationId, role: Role) -> Result<()> {
        self.require_for(organization, role, "organization", organization.as_str())
    }

    /// Requires a role in the organization of an entity loaded by its id. A caller that is not a member gets the
    /// `NOT_FOUND` of an absent entity of this kind and id, which does not reveal that the organization exists.
    ///
    /// # Errors
    /// As [`Caller::require`].
    pub fn require_for(&self, organization: &OrganizationId, role: Role, kind: &str, id: &str) -> Result<()> {
        let Who::User(user) = &*self.who else { return Ok(()) };
        match user.organizations.get(organization) {
            None => Err(Error::not_found(kind, id)),
            Some(has) if *has < role => Err(too_small(*has, role)),
            Some(_) => Ok(()),
        }
    }

    /// The role in an organization, if any; a service has none.
    pub fn role_in(&self, organization: &OrganizationId) -> Option<Role> {
        self.as_user().and_then(|u| u.organizations.get(organization).copied())
    }

    /// The organizations of the caller's token, with its role in each; empty for a service.
    pub fn memberships(&self) -> Vec<Membership> {
        let of = |u: &UserCaller| {
            u.organizations.iter().map(|(o, r)| Membership { organization_id: o.clone(), role: *r }).collect()
        };
        self.as_user().map(of).unwrap_or_default()
    }

    /// The calling user; `None` for a service.
    pub fn as_user(&self) -> Option<&UserCaller> {
        match &*self.who {
            Who::User(user) => Some(user),
            Who::Service { .. } => None,
        }
    }

    /// The calling user.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a service.
    pub fn require_user(&self) -> Result<&UserCaller> {
        self.as_user().ok_or_else(|| denied("only a signed-in user may call this method"))
    }

    /// The name of a calling service; `None` for a user.
    pub fn service_name(&self) -> Option<&str> {
        match &*self.who {
            Who::User(_) => None,
            Who::Service { name, .. } => Some(name),
        }
    }

    /// Whether the caller is the service of this name.
    pub fn is_service(&self, name: &str) -> bool {
        self.service_name() == Some(name)
    }

    /// The actor of audit records: `usr_…` or `service:<name>`.
    pub fn actor(&self) -> String {
        match &*self.who {
            Who::User(user) => user.user_id.to_string(),
            Who::Service { name, .. } => format!("service:{name}"),
        }
    }

    /// The user on whose behalf the call is made: the calling user itself, or the one a service acts for. Only for the
    /// audit, never a permission.
    pub fn on_behalf_of(&self) -> Option<&UserId> {
        self.as_user().map(|u| &u.user_id).or(self.on_behalf_of.as_ref())
    }

    /// When the access token behind this caller expires.
    pub fn expires_at(&self) -> Timestamp {
        match &*self.who {
            Who::User(user) => user.expires_at,
            Who::Service { expires_at, .. } => *expires_at,
        }
    }
}

pub(crate) fn too_small(has: Role, needs: Role) -> Error {
    denied(format!(
        "this requires the role {} in the organization; your role is {}",
        role_name(needs),
        role_name(has)
    ))
    .with("required_role", role_name(needs))
    .with("role", role_name(has))
    .next_action("ask an owner or admin of the organization to give you the role")
}

pub(crate) fn denied(text: impl Into<String>) -> Error {
    Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text)
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    fn member(role: Role) -> (Caller, OrganizationId) {
        let env = Env::system();
        let organization = OrganizationId::generate(&env);
        let user = UserCaller {
            user_id: UserId::generate(&env),
            credential_id: "crd_1".into(),
            organizations: [(organization.clone(), role)].into(),
            revocations_rev: 0,
            expires_at: env.clock.now(),
        };
        (Caller::user(user), organization)
    }

    #[test]
    fn a_role_includes_the_ones_below_and_none_above() {
        let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
        for has in roles {
            let (caller, organization) = member(has);
            for needs in roles {
                let answer = caller.require(&organization, needs).map_err(|e| e.code());
                let expected = if has >= needs { Ok(()) } else { Err(Code::PermissionDenied) };
                assert_eq!(answer, expected, "{has:?} asked for {needs:?}");
            }
        }
    }

    #[test]
    fn a_foreign_entity_answers_as_an_absent_one_and_hides_its_organization() {
        let (caller, _) = member(Role::Owner);
        let (_, foreign) = member(Role::Owner);
        let answer = caller.require_for(&foreign, Role::Viewer, "task", "task_1").unwrap_err();
        let absent = Error::not_found("task", "task_1");
        assert_eq!((answer.code(), answer.message()), (absent.code(), absent.message()));
        assert!(!format!("{:?}", answer.into_status()).contains(foreign.as_str()));
    }

    #[test]
    fn a_user_cannot_claim_to_act_for_another() {
        let (caller, _) = member(Role::Viewer);
        let other = UserId::generate(&Env::system());
        let own = caller.on_behalf_of().cloned();
        assert_eq!(caller.acting_for(other.clone()).on_behalf_of().cloned(), own);
        let service = Caller::service("task").acting_for(other.clone());
        assert_eq!(service.on_behalf_of(), Some(&other));
        assert_eq!(service.actor(), "service:task");
    }
}
