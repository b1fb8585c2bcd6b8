//! The claims of a token. The `typ` header distinguishes the two kinds, so that neither can stand in for the other.

use std::collections::BTreeMap;
use std::time::Duration;

use foundry_proto::common::v1::Role;
use serde::{Deserialize, Serialize};

/// `typ` of a user's access token.
const USER_TOKEN_TYPE: &str = "foundry-at+jwt";
/// `typ` of a service's own token.
const SERVICE_TOKEN_TYPE: &str = "foundry-st+jwt";
/// `aud` of a user's access token: valid at every service.
pub const USER_AUDIENCE: &str = "foundry";
/// `iss` of a user's access token, and the issuer of its key.
pub const AUTH_ISSUER: &str = "auth";
/// Longest life of any token.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(300);
/// Clock difference between two machines that is tolerated.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The kind of a token, which fixes its `typ` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A user's access token.
    User,
    /// A service's own token.
    Service,
}

impl TokenKind {
    pub(crate) fn typ(self) -> &'static str {
        match self {
            Self::User => USER_TOKEN_TYPE,
            Self::Service => SERVICE_TOKEN_TYPE,
        }
    }

    pub(crate) fn of_typ(typ: &str) -> Option<Self> {
        [Self::User, Self::Service].into_iter().find(|k| k.typ() == typ)
    }
}

/// The claims of both kinds of token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: `auth`, or `service:<name>`.
    pub iss: String,
    /// Caller: a user id, or `service:<name>`.
    pub sub: String,
    /// Audience: `foundry` (every service), or a service's name.
    pub aud: String,
    /// Issued at, seconds since the Unix epoch.
    pub iat: i64,
    /// Expires at, seconds since the Unix epoch.
    pub exp: i64,
    /// Id of this token.
    pub jti: String,
    /// Id of the credential it was exchanged for; empty in a service's token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sid: String,
    /// Revision of the revocations that its memberships already take into account. A membership revoked at a later
    /// revision is gone, whatever the clocks of the machines show.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rev: i64,
    /// Role by organization id; empty in a service's token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orgs: BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The name of a role in tokens and texts.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "none",
        Role::Viewer => "viewer",
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

/// The role with this name; `None` for any other text.
pub(crate) fn role_from_name(name: &str) -> Option<Role> {
    [Role::Viewer, Role::Member, Role::Admin, Role::Owner].into_iter().find(|r| role_name(*r) == name)
}
