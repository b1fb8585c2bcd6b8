//! The established caller of a request: a user with its roles, or a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use foundry_core::{Code, Error, OrganizationId, Result, Timestamp, UserId};
use foundry_proto::common::v1::Role;

use crate::{TokenError, role_name};

/// A role in an organization, as the caller's token says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The role there.
    pub role: Role,
}

/// What is known of a calling user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCaller {
    /// Who.
    pub user_id: UserId,
    /// The session or personal access token behind the access token, as in revocations.
    pub credential_id: String,
    /// Role by organization.
    pub organizations: BTreeMap<OrganizationId, Role>,
    /// Revision of the revocations that `organizations` takes into account.
    pub revocations_rev: i64,
    /// When the access token expires.
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(UserCaller),
    Service { name: String, expires_at: Timestamp },
}

/// Who calls. In the extensions of every request that passed [`crate::AuthnLayer`]; cheap to clone.
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

    /// A service whose identity does not end. Only tests and in-process work make one.
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
    /// `UNAUTHENTICATED` when the method is open and nobody said who it is.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| TokenError::Missing.into())
    }

    /// Demands a role in the organization that the request names. A service passes: the method
    /// option lists which ones may call.
    ///
    /// # Errors
    /// `NOT_FOUND` for one that is no member, as for an absent organization; `PERMISSION_DENIED`
    /// for a member with too small a role.
    pub fn require(&self, organization: &OrganizationId, role: Role) -> Result<()> {
        self.require_for(organization, role, "organization", organization.as_str())
    }

    /// Demands a role in the organization of an entity loaded by its id. One that is no member
    /// gets the `NOT_FOUND` of an absent entity of this kind and id, and learns nothing of its
    /// organization.
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

    /// The organizations that the caller's token opens; none for a service.
    pub fn memberships(&self) -> Vec<Membership> {
        let of = |u: &UserCaller| {
            u.organizations.iter().map(|(o, r)| Membership { organization_id: o.clone(), role: *r }).collect()
        };
        self.as_user().map(of).unwrap_or_default()
    }

    /// What is known of a calling user; none for a service.
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

    /// The name of a calling service; none for a user.
    pub fn service_name(&self) -> Option<&str> {
        match &*self.who {
            Who::User(_) => None,
            Who::Service { name, .. } => Some(name),
        }
    }

    /// Whether the service of this name calls.
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

    /// The user behind the call: the caller itself, or the one a service acts for. Data for the
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
