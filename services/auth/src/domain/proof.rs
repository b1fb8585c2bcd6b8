//! How somebody proves who it is. Another provider is another arm, and changes nothing else.

use foundry_core::{Error, Result};
use foundry_proto::auth::v1::complete_sign_in_request::Proof as ProofMessage;

use super::name::parse_name;

/// A proof to be examined.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The secret of the data directory, presented on this machine.
    Development {
        /// The secret as presented.
        secret: String,
        /// Who signs in.
        subject: Subject,
        /// Organization to open.
        organization_name: String,
    },
}

/// Somebody as an identity provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Which provider.
    pub(crate) provider: &'static str,
    /// Its immutable id there; for development the login, which nobody renames.
    pub(crate) subject: String,
    /// The sign-in name there, today.
    pub(crate) login: String,
}

impl Proof {
    /// Reads a request's proof.
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
            None => Err(Error::invalid_field("proof", "must be set")),
        }
    }
}
