//! How a user proves its identity. Another identity provider is another variant and changes nothing else.

use foundry_core::{Error, Result, SignInId};
use foundry_proto::auth::v1::complete_sign_in_request::Proof as ProofMessage;

use super::name::parse_name;

/// A proof of identity, not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The secret of the data directory, presented on this machine.
    Development {
        /// The secret as the client sent it.
        secret: String,
        /// The user who signs in.
        subject: Subject,
        /// Name of the organization to open; by default the user's login.
        organization_name: String,
    },
    /// A sign-in at an identity provider that has come back.
    Provider {
        /// Id of the sign-in.
        sign_in_id: SignInId,
        /// The secret of the page that began it.
        claim: String,
        /// The secret of its return.
        return_secret: String,
    },
}

/// A user as an identity provider names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Name of the identity provider, such as `development`.
    pub(crate) provider: &'static str,
    /// The user's immutable id at the provider; for `development` the login, which cannot be changed.
    pub(crate) subject: String,
    /// The current login at the provider.
    pub(crate) login: String,
}

impl Proof {
    /// Parses a request's proof.
    pub(crate) fn parse(proof: Option<ProofMessage>) -> Result<Self> {
        match proof {
            Some(ProofMessage::Development(p)) => {
                let login = parse_name("development.login", &p.login)?;
                let organization_name = if p.organization_name.is_empty() {
                    login.clone()
                } else {
                    parse_name("development.organization_name", &p.organization_name)?
                };
                let subject = Subject { provider: "development", subject: login.clone(), login };
                Ok(Self::Development { secret: p.secret, subject, organization_name })
            }
            Some(ProofMessage::Provider(p)) => {
                let wrong = |_| Error::invalid_field("provider.sign_in_id", "must be the id of a sign-in");
                let sign_in_id = p.sign_in_id.parse().map_err(wrong)?;
                Ok(Self::Provider { sign_in_id, claim: p.claim, return_secret: p.return_secret })
            }
            None => Err(Error::invalid_field("proof", "must be set")),
        }
    }
}
