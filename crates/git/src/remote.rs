//! The source of a repository: its URL, checked against the policy, and the address a fetch is pinned to.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use crate::access::Access;
use crate::address::is_public;
use crate::network::Trace;
use crate::ssh_url::{self, SshUrl};
use crate::url_policy::{UrlError, UrlPolicy};
use crate::{GitError, GitErrorKind, Result};

const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// Longest URL accepted.
const MAX_URL_BYTES: usize = 2048;

/// A repository URL that passed the policy. Parsing does no I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl {
    source: Source,
    policy: UrlPolicy,
    allowed: Vec<String>,
    access: Option<Access>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Http(Url),
    Ssh(SshUrl),
    Local(PathBuf),
}

impl Source {
    /// Refuses a host that is not named, where hosts are named.
    fn check_named(&self, policy: &UrlPolicy) -> Result<(), UrlError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Ssh(url) => policy.check_named(&url.host, url.port, ssh_url::DEFAULT_PORT),
            Self::Http(url) => {
                let usual = if url.scheme() == "http" { 80 } else { 443 };
                let host = url.host().ok_or(UrlError::Malformed("must have a host"))?.to_owned();
                policy.check_named(&host, url.port().unwrap_or(usual), usual)
            }
        }
    }
}

/// The target of one fetch: resolved once, so that the checked address is the one connected to.
pub(crate) struct Endpoint {
    pub(crate) operand: OsString,
    pub(crate) protocols: &'static str,
    pub(crate) config: Vec<(String, String)>,
    /// As `config`, but only in the environment of the child: it holds a secret.
    pub(crate) hidden: Vec<(String, OsString)>,
    /// Variables of the child alone, which name a secret.
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// What shows, over HTTP, which protocol the remote has spoken.
    pub(crate) trace: Option<Trace>,
    /// What `env` refers to; kept until the operation has ended.
    pub(crate) access: Option<Access>,
    /// The checks that objects may fail.
    pub(crate) allowed: Vec<String>,
}

impl RemoteUrl {
    /// Checks a URL, or a local path where the policy allows it.
    pub fn parse(text: &str, policy: &UrlPolicy) -> Result<Self, UrlError> {
        if text.is_empty() || text.len() > MAX_URL_BYTES {
            return Err(UrlError::Malformed("must be 1 to 2048 bytes"));
        }
        if text.starts_with('-') {
            return Err(UrlError::Malformed("must not start with '-'"));
        }
        if text.chars().any(|c| c.is_control()) || text.trim() != text {
            return Err(UrlError::Malformed("must not contain control characters or surrounding spaces"));
        }
        let source = if text.starts_with('/') {
            Source::Local(local_path(text, Path::new(text), policy)?)
        } else {
            parse_url(text, policy)?
        };
        source.check_named(policy)?;
        Ok(Self { source, policy: policy.clone(), allowed: Vec::new(), access: None })
    }

    /// The same under another policy, as if that had come to apply since.
    #[cfg(test)]
    pub(crate) fn under(self, policy: &UrlPolicy) -> Self {
        Self { policy: policy.clone(), ..self }
    }

    /// The same, with what an operation needs to be let in. It is used only if it is for the origin of this URL.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Scheme, host and port, to which a credential is bound: `https://example.org`, without a port that is the
    /// default of its scheme. `None` for a local path, which needs no credential.
    pub fn origin(&self) -> Option<String> {
        match &self.source {
            Source::Http(url) => Some(url.origin().ascii_serialization()),
            Source::Ssh(url) => Some(url.origin()),
            Source::Local(_) => None,
        }
    }

    /// Host and path of the repository, as in its URL; the host with the port where an HTTP URL names one. `None` for a
    /// local path.
    pub fn host_and_path(&self) -> Option<(String, &str)> {
        match &self.source {
            Source::Http(url) => {
                let host = url.host_str()?;
                let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                Some((host, url.path()))
            }
            Source::Ssh(url) => Some((url.host.to_string(), url.path.as_str())),
            Source::Local(_) => None,
        }
    }

    /// Whether it is reached by ssh.
    pub fn is_ssh(&self) -> bool {
        matches!(self.source, Source::Ssh(_))
    }

    /// The same, with objects that fail these checks of `git fsck`, such as `missingEmail`. What is no name of a check is
    /// left out.
    #[must_use]
    pub fn allowing<'a>(mut self, checks: impl IntoIterator<Item = &'a str>) -> Self {
        let is_name = |check: &&str| !check.is_empty() && check.bytes().all(|b| b.is_ascii_alphanumeric());
        self.allowed = checks.into_iter().filter(is_name).map(str::to_owned).collect();
        self
    }

    /// The URL as shown to users.
    pub fn display(&self) -> String {
        match &self.source {
            Source::Http(url) => url.to_string(),
            Source::Ssh(url) => url.operand(),
            Source::Local(path) => path.display().to_string(),
        }
    }

    /// The URL as shown inside a sandbox: `None` for a local path, which would reveal paths of the host.
    pub fn display_in_sandbox(&self) -> Option<String> {
        match &self.source {
            Source::Http(url) => Some(url.to_string()),
            Source::Ssh(url) => Some(url.operand()),
            Source::Local(_) => None,
        }
    }

    /// Whether it is a local path.
    pub fn is_local(&self) -> bool {
        matches!(self.source, Source::Local(_))
    }

    /// A short name for users: the last path component without `.git`.
    pub fn short_name(&self) -> String {
        let path = match &self.source {
            Source::Http(url) => url.path().to_owned(),
            Source::Ssh(url) => url.path.clone(),
            Source::Local(path) => path.display().to_string(),
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/.git").or_else(|| path.strip_suffix(".git")).unwrap_or(path);
        path.rsplit('/').next().unwrap_or(path).to_owned()
    }

    /// Resolves and checks the address (or the directory) that the next fetch uses.
    pub(crate) async fn pin(&self) -> Result<Endpoint> {
        self.source.check_named(&self.policy)?;
        match &self.source {
            Source::Local(path) => {
                let missing = || {
                    GitError::new(GitErrorKind::NotFound, "GIT_REMOTE_NOT_FOUND", "no such local repository")
                };
                let real = tokio::fs::canonicalize(path).await.map_err(|_| missing())?;
                if !tokio::fs::metadata(&real).await.is_ok_and(|m| m.is_dir()) {
                    return Err(missing());
                }
                check_roots(&real, &self.policy)?;
                Ok(self.endpoint(real, "file"))
            }
            Source::Http(url) => {
                let protocols = if url.scheme() == "http" { "http" } else { "https" };
                let mut endpoint = self.endpoint(url.as_str(), protocols);
                let network = &self.policy.network;
                let settings = network.settings(url);
                let by_proxy = !settings.hidden.is_empty();
                endpoint.config.extend(settings.config);
                endpoint.hidden.extend(settings.hidden);
                endpoint.trace = Some(Trace::new().await?);
                // A proxy looks names up itself, and is the one to decide which hosts are reached.
                if let Some(Host::Domain(host)) = url.host().filter(|_| !by_proxy) {
                    let port = url.port_or_known_default().unwrap_or(443);
                    let addresses = self.addresses(host, port).await?;
                    let list: Vec<String> = addresses.iter().map(bracketed).collect();
                    let pinned = format!("{host}:{port}:{}", list.join(","));
                    endpoint.config.push(("http.curloptResolve".to_owned(), pinned));
                }
                if let Some(access) = self.own_access()? {
                    endpoint.hidden.push(access.http()?);
                    endpoint.access = Some(access);
                }
                Ok(endpoint)
            }
            Source::Ssh(url) => {
                // Without a key there is nothing to try: ssh is not even allowed.
                let access = self.own_access()?.ok_or_else(|| {
                    let text = "the remote is reached by ssh, and no deploy key is stored for it";
                    GitError::new(GitErrorKind::Auth, "REPOSITORY_CREDENTIALS_REQUIRED", text)
                })?;
                let address = match &url.host {
                    Host::Domain(host) => self.addresses(host, url.port).await?.first().copied(),
                    Host::Ipv4(a) => Some((*a).into()),
                    Host::Ipv6(a) => Some((*a).into()),
                };
                let address = address.ok_or_else(|| GitError::failed("the host has no address"))?;
                let mut endpoint = self.endpoint(url.operand(), "ssh");
                endpoint.env = access.ssh_to(address).await?;
                endpoint.access = Some(access);
                Ok(endpoint)
            }
        }
    }

    fn endpoint(&self, operand: impl Into<OsString>, protocols: &'static str) -> Endpoint {
        Endpoint {
            operand: operand.into(),
            protocols,
            config: Vec::new(),
            hidden: Vec::new(),
            env: Vec::new(),
            trace: None,
            access: None,
            allowed: self.allowed.clone(),
        }
    }

    /// The access, if it is for this origin and no other.
    pub(crate) fn own_access(&self) -> Result<Option<Access>> {
        match &self.access {
            Some(access) if self.origin().as_deref() != Some(access.origin()) => {
                Err(GitError::failed("the credential is for another host"))
            }
            access => Ok(access.clone()),
        }
    }

    pub(crate) fn policy(&self) -> &UrlPolicy {
        &self.policy
    }

    /// The URL, if it is reached over HTTP.
    pub(crate) fn http_url(&self) -> Option<&Url> {
        match &self.source {
            Source::Http(url) => Some(url),
            Source::Ssh(_) | Source::Local(_) => None,
        }
    }

    /// All addresses of a host, each checked.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<IpAddr>> {
        let addresses = resolve(host, port).await?;
        if !self.policy.allow_private_addresses && !addresses.iter().all(|a| is_public(*a)) {
            return Err(UrlError::AddressNotAllowed(host.to_owned()).into());
        }
        Ok(addresses)
    }
}

impl Endpoint {
    /// An error of an operation on this remote, as users see it: what is missing, and no secret in what git printed.
    pub(crate) fn explain(&self, error: GitError) -> GitError {
        let error = error.map_stderr(|text| self.redact(text));
        if self.protocols == "ssh" && is_about_host_key(error.stderr()) {
            let text = "the host shows another key than the one that is recorded with the credential";
            return error.explained(GitErrorKind::Auth, "REPOSITORY_HOST_KEY_CHANGED", text);
        }
        if error.kind() == GitErrorKind::Certificate {
            let text = certificate_cause(error.stderr());
            return error.explained(GitErrorKind::Certificate, "GIT_CERTIFICATE_REFUSED", text);
        }
        if error.reason() != "GIT_AUTH_REQUIRED" || self.protocols == "file" {
            return error;
        }
        match self.access {
            Some(_) => {
                let text = "the remote refused the stored credential";
                error.explained(GitErrorKind::Auth, "REPOSITORY_CREDENTIALS_REFUSED", text)
            }
            None => {
                let text = "the remote needs a credential, and none is stored for it";
                error.explained(GitErrorKind::Auth, "REPOSITORY_CREDENTIALS_REQUIRED", text)
            }
        }
    }
}

impl Endpoint {
    /// A text of the remote without the secret.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.access.as_ref().map_or_else(|| text.to_owned(), |access| access.redact(text))
    }

    /// Refuses a remote that has spoken the oldest protocol of git over HTTP, in which a client reads the files of a
    /// repository: git does not check the objects that it gets that way. Call it after each successful command.
    ///
    /// # Errors
    /// `GIT_DUMB_HTTP_REFUSED`.
    pub(crate) async fn check_protocol(&self) -> Result<()> {
        match &self.trace {
            Some(trace) if !trace.is_smart().await? => Err(dumb()),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a certificate, as far as git says it.
fn certificate_cause(stderr: &str) -> &'static str {
    if stderr.contains("match target host name") {
        "the certificate of the host is for another host"
    } else if stderr.contains("expired") {
        "the certificate of the host has expired"
    } else {
        "the certificate of the host has expired, or no authority that is trusted here has issued it"
    }
}

fn dumb() -> GitError {
    let text = "the remote serves the files of a repository and does not speak git's protocol, so that what it sends \
                cannot be checked";
    GitError::new(GitErrorKind::Protocol, "GIT_DUMB_HTTP_REFUSED", text)
}

/// Whether ssh has refused the key of the host.
fn is_about_host_key(stderr: &str) -> bool {
    stderr.contains("Host key verification failed") || stderr.contains("HOST IDENTIFICATION HAS CHANGED")
}

fn parse_url(text: &str, policy: &UrlPolicy) -> Result<Source, UrlError> {
    let scheme_end =
        text.find(':').ok_or(UrlError::Malformed("is neither https, ssh nor an absolute path"))?;
    let scheme = text[..scheme_end].to_ascii_lowercase();
    if text[scheme_end..].starts_with("::") {
        return Err(UrlError::SchemeNotAllowed(format!("{scheme}::")));
    }
    if !text[scheme_end..].starts_with("://") {
        // `user@host:path` and `host:path` are ssh.
        let url = ssh_url::parse_short(text)?;
        check_host(&url.host, policy)?;
        return Ok(Source::Ssh(url));
    }
    if text.split(['/', '\\']).any(|part| part == ".." || part.eq_ignore_ascii_case("%2e%2e")) {
        return Err(UrlError::Malformed("must not contain '..' components"));
    }
    let url = Url::parse(text).map_err(|_| UrlError::Malformed("is not well-formed"))?;
    match url.scheme() {
        "file" if policy.allow_local => {
            if url.host().is_some() {
                return Err(UrlError::Malformed("with the scheme file must not have a host"));
            }
            let path = url.to_file_path().map_err(|()| UrlError::Malformed("is not a local path"))?;
            let text = path.to_str().ok_or(UrlError::Malformed("is not UTF-8"))?;
            return Ok(Source::Local(local_path(text, &path, policy)?));
        }
        "https" => {}
        "ssh" => {
            let url = ssh_url::parse(&url)?;
            check_host(&url.host, policy)?;
            return Ok(Source::Ssh(url));
        }
        "http" if policy.allow_http => {}
        other => return Err(UrlError::SchemeNotAllowed(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::HasCredentials);
    }
    if url.query().is_some() || url.fragment().is_some() || url.path().len() < 2 {
        return Err(UrlError::Malformed("must have a path and no query or fragment"));
    }
    let host = url.host().ok_or(UrlError::Malformed("must have a host"))?.to_owned();
    check_host(&host, policy)?;
    Ok(Source::Http(url))
}

/// Refuses what is no public address by its notation already; names are resolved before each use.
fn check_host(host: &Host<String>, policy: &UrlPolicy) -> Result<(), UrlError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if matches!(host, Host::Domain(name) if name.starts_with(['-', '.']) || !name.chars().all(is_plain)) {
        return Err(UrlError::Malformed("must have a valid host"));
    }
    let (name, allowed) = match host {
        Host::Ipv4(a) => (a.to_string(), is_public((*a).into())),
        Host::Ipv6(a) => (a.to_string(), is_public((*a).into())),
        Host::Domain(d) => (d.clone(), d != "localhost" && !d.ends_with(".localhost")),
    };
    if allowed || policy.allow_private_addresses { Ok(()) } else { Err(UrlError::AddressNotAllowed(name)) }
}

fn local_path(text: &str, path: &Path, policy: &UrlPolicy) -> Result<PathBuf, UrlError> {
    if !policy.allow_local {
        return Err(UrlError::SchemeNotAllowed("file".into()));
    }
    if text.chars().any(|c| c.is_control()) {
        return Err(UrlError::Malformed("must not contain control characters"));
    }
    if !path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_))) {
        return Err(UrlError::Malformed("must be an absolute path without '..'"));
    }
    check_roots(path, policy)?;
    Ok(path.components().collect())
}

fn check_roots(path: &Path, policy: &UrlPolicy) -> Result<(), UrlError> {
    let denied = |root: &PathBuf| {
        path.starts_with(root) || std::fs::canonicalize(root).is_ok_and(|real| path.starts_with(real))
    };
    if policy.denied_roots.iter().any(denied) { Err(UrlError::PathNotAllowed) } else { Ok(()) }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<IpAddr>> {
    let unreachable = |text: String| GitError::new(GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE", text);
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| unreachable(format!("resolving {host} took too long")))?
        .map_err(|e| unreachable(format!("cannot resolve {host}")).with_stderr(e.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|a| a.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unreachable(format!("{host} has no address")));
    }
    Ok(addresses)
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str, policy: &UrlPolicy) -> &'static str {
        RemoteUrl::parse(text, policy).map_or_else(|e| e.reason(), |_| "ok")
    }

    #[test]
    fn takes_https_and_ssh_and_nothing_else_by_default() {
        let p = UrlPolicy::default();
        assert_eq!(reason("ssh://git@example.com/x", &p), "ok");
        assert_eq!(reason("git@example.com:x/y.git", &p), "ok");
        assert_eq!(reason("https://github.com/rust-lang/rust.git", &p), "ok");
        for text in [
            "http://example.com/x",
            "git://example.com/x",
            "file:///srv/x",
            "/srv/x",
            "ext::sh -c id",
            "fd::17/x",
            "https::https://example.com/x",
            "ftp://e.com/x",
        ] {
            assert_eq!(reason(text, &p), "URL_SCHEME_NOT_ALLOWED", "{text}");
        }
        for text in [
            "",
            "--upload-pack=id",
            "-x",
            "https://",
            "https://example.com",
            "x",
            "../x",
            "./x",
            "https://example.com/a/../b",
            "https://example.com/%2e%2e/b",
            "https://example.com/a\nb",
            " https://example.com/a",
            "https://example.com/a?b=c",
            "https://example.com/a#b",
            "https://-oProxyCommand=id/a",
            "https://*.com/a",
        ] {
            assert_eq!(reason(text, &p), "URL_MALFORMED", "{text:?}");
        }
        assert_eq!(reason("https://user:token@example.com/x", &p), "URL_HAS_CREDENTIALS");
        assert_eq!(reason("https://token@example.com/x", &p), "URL_HAS_CREDENTIALS");
        let text = RemoteUrl::parse("https://token@example.com/x", &p).unwrap_err().to_string();
        assert!(text.contains("foundry repo credential") && !text.contains("token@"), "{text}");
    }

    #[test]
    fn refuses_addresses_that_are_not_public_in_every_notation() {
        let p = UrlPolicy::default();
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "localhost",
            "a.localhost",
            "LOCALHOST",
        ] {
            assert_eq!(reason(&format!("https://{host}/x"), &p), "URL_ADDRESS_NOT_ALLOWED", "{host}");
        }
        assert_eq!(reason("https://8.8.8.8/x", &p), "ok");
        assert_eq!(reason("https://[2606:4700::1]/x", &p), "ok");
        let open = UrlPolicy { allow_private_addresses: true, ..p };
        assert_eq!(reason("https://10.1.2.3/x", &open), "ok");
    }

    #[test]
    fn takes_local_paths_where_allowed_but_never_the_data_directory() {
        let p = UrlPolicy::embedded("/var/lib/foundry");
        assert_eq!(reason("/srv/repo", &p), "ok");
        assert_eq!(reason("file:///srv/repo", &p), "ok");
        assert_eq!(reason("/srv/../etc", &p), "URL_MALFORMED");
        assert_eq!(reason("file:///srv/../etc", &p), "URL_MALFORMED");
        assert_eq!(reason("file:///srv/a%0ab", &p), "URL_MALFORMED");
        assert_eq!(reason("file://host/srv", &p), "URL_MALFORMED");
        assert_eq!(reason("/var/lib/foundry/mirrors/x", &p), "URL_PATH_NOT_ALLOWED");
        assert_eq!(reason("file:///var/lib/foundry", &p), "URL_PATH_NOT_ALLOWED");
        assert_eq!(reason("ext::sh -c id", &p), "URL_SCHEME_NOT_ALLOWED");
    }

    #[test]
    fn names_a_repository_after_its_last_component() {
        let p = UrlPolicy::embedded("/d");
        for (text, name) in
            [("https://example.com/a/b.git", "b"), ("/srv/c/", "c"), ("/srv/d/.git", "d"), ("/srv/e", "e")]
        {
            assert_eq!(RemoteUrl::parse(text, &p).unwrap().short_name(), name);
        }
    }

    #[tokio::test]
    async fn refuses_a_name_that_resolves_to_loopback_at_the_time_of_the_fetch() {
        let url = RemoteUrl {
            source: Source::Http(Url::parse("https://localhost/x").unwrap()),
            policy: UrlPolicy::default(),
            allowed: Vec::new(),
            access: None,
        };
        assert_eq!(url.pin().await.err().unwrap().reason(), "URL_ADDRESS_NOT_ALLOWED");
        let open = UrlPolicy { allow_private_addresses: true, ..UrlPolicy::default() };
        let url = RemoteUrl::parse("https://localhost:8443/x", &open).unwrap();
        let pinned = url.pin().await.unwrap().config;
        let (_, address) = pinned.iter().find(|(key, _)| key == "http.curloptResolve").unwrap();
        assert!(address.starts_with("localhost:8443:"), "{pinned:?}");
    }
}
