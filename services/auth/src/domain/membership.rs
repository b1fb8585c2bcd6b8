//! Rules for granting roles, and for what must always hold in an organization.

use foundry_core::{Code, Error, Result, UserId};
use foundry_proto::common::v1::Role;

use foundry_authn::role_name;

/// Parses a request's role.
pub(crate) fn parse_role(role: i32) -> Result<Role> {
    match Role::try_from(role) {
        Ok(role) if role != Role::Unspecified => Ok(role),
        _ => Err(Error::invalid_field("role", "must be viewer, member, admin or owner")),
    }
}

/// The conditions of a membership change that must still hold at commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// An owner who must remain one, because the change removes another owner.
    pub(crate) remaining_owner: Option<UserId>,
}

/// Decides a change of `target`'s role from `from` (none = no member) to `to` (none = leaves), by
/// an actor with this role, among the organization's owners.
pub(crate) fn decide(
    actor: Role,
    target: &UserId,
    from: Option<Role>,
    to: Option<Role>,
    owners: &[UserId],
) -> Result<Change> {
    if to.is_some_and(|to| to > actor) {
        return Err(above(actor, to));
    }
    if from.is_some_and(|from| from > actor) {
        return Err(above(actor, from));
    }
    if from != Some(Role::Owner) || to == Some(Role::Owner) {
        return Ok(Change { remaining_owner: None });
    }
    match owners.iter().find(|o| *o != target) {
        Some(other) => Ok(Change { remaining_owner: Some(other.clone()) }),
        None => Err(Error::precondition(
            "LAST_OWNER",
            target.as_str(),
            "an organization must have at least one owner",
        )
        .next_action("make another member an owner first")),
    }
}

fn above(actor: Role, asked: Option<Role>) -> Error {
    let asked = role_name(asked.unwrap_or(Role::Unspecified));
    let text =
        format!("your role {} does not allow you to grant or change the role {asked}", role_name(actor));
    Error::new(Code::PermissionDenied, "ROLE_ABOVE_OWN", text)
        .with("role", role_name(actor))
        .with("required_role", asked)
        .next_action("ask an owner of the organization to do it")
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];

    fn users() -> (UserId, UserId) {
        (UserId::generate(&Env::system()), UserId::generate(&Env::system()))
    }

    #[test]
    fn nobody_grants_or_touches_a_role_above_its_own() {
        let (target, owner) = users();
        for actor in ROLES {
            for from in ROLES.map(Some).into_iter().chain([None]) {
                for to in ROLES.map(Some).into_iter().chain([None]) {
                    let decided = decide(actor, &target, from, to, std::slice::from_ref(&owner));
                    let legal = from.is_none_or(|r| r <= actor) && to.is_none_or(|r| r <= actor);
                    assert_eq!(decided.is_ok(), legal, "{actor:?}: {from:?} to {to:?}");
                }
            }
        }
    }

    #[test]
    fn the_last_owner_stays_and_the_owner_relied_on_is_named() {
        let (target, other) = users();
        let alone = std::slice::from_ref(&target);
        for to in [None, Some(Role::Admin), Some(Role::Viewer)] {
            let refused = decide(Role::Owner, &target, Some(Role::Owner), to, alone).unwrap_err();
            assert_eq!(refused.reason(), "LAST_OWNER");
            let both = [target.clone(), other.clone()];
            let change = decide(Role::Owner, &target, Some(Role::Owner), to, &both).unwrap();
            assert_eq!(change.remaining_owner.as_ref(), Some(&other));
        }
        assert!(decide(Role::Owner, &target, Some(Role::Owner), Some(Role::Owner), alone).is_ok());
    }

    #[test]
    fn an_unset_or_unknown_role_is_no_role() {
        assert!(parse_role(0).is_err() && parse_role(9).is_err() && parse_role(-1).is_err());
        assert_eq!(parse_role(4).unwrap(), Role::Owner);
    }
}
