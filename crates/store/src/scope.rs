//! A scope: the owner of one commit-ordered sequence of revisions.

use std::fmt;

use foundry_core::{OrganizationId, SessionId, UserId};

use crate::value::storable_text;

/// The owner of a revision counter. Revisions compare only within one scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// Everything the members of an organization see.
    pub fn organization(id: &OrganizationId) -> Self {
        Self(id.as_str().to_owned())
    }

    /// A user's own state: the app shell, read marks, drafts.
    pub fn user(id: &UserId) -> Self {
        Self(id.as_str().to_owned())
    }

    /// A session's transcript.
    pub fn session(id: &SessionId) -> Self {
        Self(id.as_str().to_owned())
    }

    /// A feed of the service itself, such as `revocations`.
    pub fn service(feed: &str) -> Self {
        Self(storable_text(format!("service/{feed}")))
    }

    /// Any other owner, named by a kind and an id.
    pub fn other(kind: &str, id: &str) -> Self {
        Self(storable_text(format!("{kind}/{id}")))
    }

    /// The order of an organization's audit records.
    pub(crate) fn audit(organization_id: &str) -> Self {
        Self(storable_text(format!("audit/{organization_id}")))
    }

    pub(crate) fn is_audit(&self) -> bool {
        self.0.starts_with("audit/")
    }

    /// The textual form, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
