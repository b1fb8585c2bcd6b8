//! Which hosts are asked for objects: the remote's own origin, and those that are known to serve its objects or that the
//! operator has allowed. Each is checked and connected to as a remote is.

use std::collections::HashMap;
use std::net::SocketAddr;

use foundry_http_client::{NetworkSettings, Pinned, http_client};
use foundry_secrets::Secret;
use url::{Host, Url};

use crate::mirror::blocking;
use crate::url_policy::UrlError;
use crate::{GitError, GitErrorKind, RemoteUrl, Result};

/// Hosts that serve the objects of another one.
const KNOWN: &[(&str, &[&str])] = &[(
    "github.com",
    &["lfs.github.com", "github-cloud.githubusercontent.com", "github-cloud.s3.amazonaws.com"],
)];

/// Clients for the hosts of one operation.
pub(super) struct Hosts {
    remote: RemoteUrl,
    clients: HashMap<String, reqwest::Client>,
}

impl Hosts {
    pub(super) fn new(remote: &RemoteUrl) -> Self {
        Self { remote: remote.clone(), clients: HashMap::new() }
    }

    /// Whether it is the remote's own origin, for which its credential is.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        self.remote.origin().is_some_and(|own| own == url.origin().ascii_serialization())
    }

    /// A client that connects to the host of this URL and to no other.
    ///
    /// # Errors
    /// `LFS_HOST_NOT_ALLOWED`, and those of the URL policy.
    pub(super) async fn client(&mut self, url: &Url) -> Result<reqwest::Client> {
        let origin = url.origin().ascii_serialization();
        if let Some(known) = self.clients.get(&origin) {
            return Ok(known.clone());
        }
        if !self.is_own(url) && !self.is_allowed(url) {
            let host = url.host_str().unwrap_or_default();
            let text =
                format!("the remote sends us to {host} for the files of Git LFS, which is not allowed");
            return Err(GitError::new(GitErrorKind::Protocol, "LFS_HOST_NOT_ALLOWED", text));
        }
        let policy = self.remote.policy();
        // The policy knows no queries, which signed addresses have.
        let mut plain = url.clone();
        plain.set_query(None);
        plain.set_fragment(None);
        let parsed = RemoteUrl::parse(plain.as_str(), policy)?;
        let proxy = policy.network.proxy(url);
        let mut settings =
            NetworkSettings { ca_file: policy.network.certificates(), ..NetworkSettings::default() };
        let host = url.host_str().ok_or(UrlError::Malformed("must have a host"))?.to_owned();
        let client = if let Some(proxy) = proxy.as_ref().and_then(Secret::expose_str) {
            settings.proxy = Some(proxy.to_owned());
            blocking(move || http_client(&settings)).await?
        } else {
            let addresses: Vec<SocketAddr> = match url.host() {
                Some(Host::Domain(name)) => {
                    let port = url.port_or_known_default().unwrap_or(443);
                    let found = parsed.addresses(name, port).await?;
                    found.into_iter().map(|address| SocketAddr::new(address, port)).collect()
                }
                _ => Vec::new(),
            };
            blocking(move || Pinned::new(&settings)?.at(&host, addresses)).await?
        };
        let client =
            client.map_err(|e| GitError::failed("no HTTP client can be made").with_stderr(e.to_string()))?;
        self.clients.insert(origin, client.clone());
        Ok(client)
    }

    fn is_allowed(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let own = self.remote.host_and_path().map(|(host, _)| host).unwrap_or_default();
        let known = KNOWN.iter().filter(|(remote, _)| *remote == own).flat_map(|(_, hosts)| *hosts);
        let mut allowed = known.copied().chain(self.remote.policy().lfs_hosts.iter().map(String::as_str));
        allowed.any(|allowed| allowed == with_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UrlPolicy;

    #[tokio::test]
    async fn only_the_remotes_own_hosts_and_allowed_ones_are_asked() {
        let policy = UrlPolicy {
            lfs_hosts: vec!["203.0.113.9:8443".to_owned(), "127.0.0.1".to_owned()],
            ..UrlPolicy::default()
        };
        let remote = RemoteUrl::parse("https://github.com/a/b", &policy).unwrap();
        let hosts = Hosts::new(&remote);
        let url = |text: &str| Url::parse(text).unwrap();
        for (text, own, allowed) in [
            ("https://github.com/a/b.git/info/lfs/x?y=z", true, false),
            ("http://github.com/a/b", false, false),
            ("https://github.com:8443/a/b", false, false),
            ("https://github-cloud.s3.amazonaws.com/x", false, true),
            ("https://other.s3.amazonaws.com/x", false, false),
            ("https://203.0.113.9:8443/x", false, true),
            ("https://203.0.113.9/x", false, false),
        ] {
            assert_eq!((hosts.is_own(&url(text)), hosts.is_allowed(&url(text))), (own, allowed), "{text}");
        }
        let other = RemoteUrl::parse("https://example.org/a/b", &policy).unwrap();
        assert!(!Hosts::new(&other).is_allowed(&url("https://github-cloud.s3.amazonaws.com/x")));
        // The policy of addresses holds for allowed hosts too.
        for (text, reason) in [
            ("https://169.254.169.254/latest", "LFS_HOST_NOT_ALLOWED"),
            ("https://127.0.0.1/x", "URL_ADDRESS_NOT_ALLOWED"),
            ("http://127.0.0.1/x", "URL_SCHEME_NOT_ALLOWED"),
            ("file:///etc/passwd", "LFS_HOST_NOT_ALLOWED"),
        ] {
            let error = Hosts::new(&remote).client(&url(text)).await.unwrap_err();
            assert_eq!(error.reason(), reason, "{text}");
        }
    }
}
