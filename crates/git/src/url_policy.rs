//! Which URLs of repositories are accepted, and why one is refused.

use std::path::PathBuf;

use url::Host;

use crate::allowed_host::AllowedHost;
use crate::network::Network;
use crate::{GitError, GitErrorKind};

/// Which URLs are accepted. The default accepts https from public addresses only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Absolute local paths and `file:` URLs.
    pub allow_local: bool,
    /// Local directories that are never a source (the data directory), below which everything is refused.
    pub denied_roots: Vec<PathBuf>,
    /// Private, loopback and link-local addresses.
    pub allow_private_addresses: bool,
    /// Allows `http:`, which is not encrypted.
    pub allow_http: bool,
    /// The only hosts that are reached; empty = all.
    pub allowed_hosts: Vec<AllowedHost>,
    /// The operator's proxy and certificates.
    pub network: Network,
    /// Hosts that may serve the objects of Git LFS of other hosts, whether repositories may be at them or not.
    pub lfs_hosts: Vec<AllowedHost>,
}

impl UrlPolicy {
    /// The policy of the embedded mesh: https, and local paths outside its data directory.
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self { allow_local: true, denied_roots: vec![data_dir.into()], ..Self::default() }
    }

    /// Refuses a host that the operator has not named, where hosts are named. `port` is the one that is connected to,
    /// `usual` the usual one of the scheme.
    pub(crate) fn check_named(&self, host: &Host<String>, port: u16, usual: u16) -> Result<(), UrlError> {
        let named = &self.allowed_hosts;
        if named.is_empty() || named.iter().any(|allowed| allowed.allows(host, port, usual)) {
            return Ok(());
        }
        let port = if port == usual { String::new() } else { format!(":{port}") };
        Err(UrlError::HostNotAllowed(format!("{host}{port}")))
    }
}

/// Why a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL or path of a supported form.
    #[error("the repository URL {0}")]
    Malformed(&'static str),
    /// A scheme or transport that is switched off or never allowed.
    #[error("the repository URL has the scheme {0}, which is not allowed here; use https or ssh")]
    SchemeNotAllowed(String),
    /// User or password inside the URL.
    #[error(
        "the repository URL contains credentials: register it without them, and store them with \
         `foundry repo credential add`"
    )]
    HasCredentials,
    /// A private, loopback, link-local or otherwise special address.
    #[error("the repository host {0} has an address that is not allowed here")]
    AddressNotAllowed(String),
    /// A host that is not one of those that the operator has named.
    #[error("the repository host {0} is not one of those that are allowed here")]
    HostNotAllowed(String),
    /// A local path below a denied directory.
    #[error("this local path is not allowed as a repository")]
    PathNotAllowed,
}

impl UrlError {
    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "URL_MALFORMED",
            Self::SchemeNotAllowed(_) => "URL_SCHEME_NOT_ALLOWED",
            Self::HasCredentials => "URL_HAS_CREDENTIALS",
            Self::AddressNotAllowed(_) => "URL_ADDRESS_NOT_ALLOWED",
            Self::HostNotAllowed(_) => "URL_HOST_NOT_ALLOWED",
            Self::PathNotAllowed => "URL_PATH_NOT_ALLOWED",
        }
    }
}

impl From<UrlError> for GitError {
    fn from(e: UrlError) -> Self {
        GitError::new(GitErrorKind::Protocol, e.reason(), e.to_string())
    }
}

impl From<UrlError> for foundry_core::Error {
    fn from(e: UrlError) -> Self {
        GitError::from(e).into()
    }
}
