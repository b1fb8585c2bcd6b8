//! Which hosts are asked for objects: the remote's own origin, and those that are known to serve its objects or that the
//! operator has allowed. Each is checked and connected to as a remote is.

use std::collections::HashMap;
use std::net::SocketAddr;

use foundry_http_client::{NetworkSettings, Pinned, http_client};
use foundry_secrets::Secret;
use url::{Host, Url};

use crate::mirror::blocking;
use crate::url_policy::UrlError;
use crate::{GitError, GitErrorKind, RemoteUrl, Result, UrlPolicy};

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
        // Those that may have objects need not be among those that repositories may be at; the rules of addresses hold.
        let named = if self.is_own(url) { policy.allowed_hosts.clone() } else { Vec::new() };
        let rules = UrlPolicy { allowed_hosts: named, ..policy.clone() };
        let parsed = RemoteUrl::parse(plain.as_str(), &rules)?;
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
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { return false };
        let usual = if url.scheme() == "http" { 80 } else { 443 };
        let host = host.to_owned();
        let own = self.remote.host_and_path().map(|(host, _)| host).unwrap_or_default();
        let mut known = KNOWN.iter().filter(|(remote, _)| *remote == own).flat_map(|(_, hosts)| *hosts);
        let is_known = port == usual && known.any(|name| url.host_str() == Some(*name));
        is_known || self.remote.policy().lfs_hosts.iter().any(|named| named.allows(&host, port, usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_remotes_own_hosts_and_allowed_ones_are_asked() {
        let policy = UrlPolicy {
            lfs_hosts: vec!["203.0.113.9:8443".parse().unwrap(), "127.0.0.1".parse().unwrap()],
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

    #[tokio::test]
    async fn hosts_of_objects_need_not_be_among_those_of_repositories_but_obey_the_rules_of_addresses() {
        let policy = UrlPolicy {
            allowed_hosts: vec!["github.com".parse().unwrap()],
            lfs_hosts: vec!["8.8.8.8:8443".parse().unwrap(), "10.1.2.3".parse().unwrap()],
            ..UrlPolicy::default()
        };
        let mut hosts = Hosts::new(&RemoteUrl::parse("https://github.com/a/b", &policy).unwrap());
        hosts.client(&Url::parse("https://8.8.8.8:8443/x?y=z").unwrap()).await.unwrap();
        for (text, reason) in [
            ("https://8.8.8.8/x", "LFS_HOST_NOT_ALLOWED"),
            ("https://10.1.2.3/x", "URL_ADDRESS_NOT_ALLOWED"),
            ("http://8.8.8.8:8443/x", "URL_SCHEME_NOT_ALLOWED"),
        ] {
            let error = hosts.client(&Url::parse(text).unwrap()).await.unwrap_err();
            assert_eq!(error.reason(), reason, "{text}");
        }
    }
}
