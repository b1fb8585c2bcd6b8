//! Which forge a host is, and where its API is.

use std::str::FromStr;

use url::{Host, Url};

/// The kind of a forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgeKind {
    /// GitHub and GitHub Enterprise Server.
    GitHub,
    /// GitLab, hosted or on an own server.
    GitLab,
    /// Gitea and Forgejo.
    Gitea,
}

/// A host that is a forge, as an operator configures it: `HOST KIND` or `HOST KIND API`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeHost {
    /// The host in the URLs of its repositories, with the port where there is one: `git.example.org`, `localhost:3000`.
    pub host: String,
    /// What it is: `github`, `gitlab` or `gitea` (also Forgejo).
    pub kind: ForgeKind,
    /// URL of its API, such as `https://git.example.org/api/v3`; empty = the usual one of its kind, over https.
    pub api: String,
}

impl FromStr for ForgeHost {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let error = |why| HostError { host: text.to_owned(), why };
        let mut words = text.split_whitespace();
        let (Some(host), Some(kind), api, None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(error("expected HOST KIND or HOST KIND API"));
        };
        let kind = match kind {
            "github" => ForgeKind::GitHub,
            "gitlab" => ForgeKind::GitLab,
            "gitea" => ForgeKind::Gitea,
            _ => return Err(error("its kind must be github, gitlab or gitea")),
        };
        Ok(Self { host: host.to_owned(), kind, api: api.unwrap_or_default().to_owned() })
    }
}

/// The hosts that are known without any configuration.
const KNOWN: [(&str, ForgeKind, &str); 3] = [
    ("github.com", ForgeKind::GitHub, "https://api.github.com"),
    ("gitlab.com", ForgeKind::GitLab, "https://gitlab.com/api/v4"),
    ("codeberg.org", ForgeKind::Gitea, "https://codeberg.org/api/v1"),
];

/// A repository at a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of the forge.
    pub kind: ForgeKind,
    /// The host in the URLs of its repositories, with the port where there is one.
    pub host: String,
    /// URL of its API, without a slash at the end.
    pub api: Url,
    /// Path of the repository, such as `owner/name`; with GitLab it may have more parts.
    pub path: String,
    /// Whether the operator names the host; others are reached only at public addresses.
    pub is_configured: bool,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the forge {host} cannot be used: {why}")]
pub struct HostError {
    host: String,
    why: &'static str,
}

/// The forges that are known: the built-in ones, and those that the operator names.
#[derive(Clone, Debug, Default)]
pub struct ForgeHosts(Vec<(ForgeHost, Url)>);

impl ForgeHosts {
    /// Checks the configured hosts; they come before the built-in ones.
    ///
    /// # Errors
    /// When a host or URL cannot be used.
    pub fn new(hosts: &[ForgeHost]) -> Result<Self, HostError> {
        let checked = hosts.iter().map(|h| {
            let error = |why| HostError { host: h.host.clone(), why };
            if h.host.is_empty() || h.host.contains(['/', '@', ' ']) {
                return Err(error("its host must be a name, with a port where there is one"));
            }
            let api = if h.api.is_empty() { usual_api(h) } else { h.api.clone() };
            let url = Url::parse(api.trim_end_matches('/'))
                .map_err(|_| error("the URL of its API is not well-formed"))?;
            let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
            if !is_web || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
                return Err(error("the URL of its API must be https, without credentials or query"));
            }
            if url.scheme() == "http" && !is_private(&url) {
                return Err(error("the URL of its API must be https: its host is not of a private network"));
            }
            Ok((ForgeHost { host: h.host.to_ascii_lowercase(), ..h.clone() }, url))
        });
        Ok(Self(checked.collect::<Result<_, _>>()?))
    }

    /// Where the pull requests of a repository are, by the host and path of its URL; `None` if the host is no known
    /// forge, or the path is not that of a repository there.
    pub fn place(&self, host: &str, path: &str) -> Option<Place> {
        let host = host.to_ascii_lowercase();
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let (kind, api, is_configured) = match self.0.iter().find(|(h, _)| h.host == host) {
            Some((found, api)) => (found.kind, api.clone(), true),
            None => {
                let (_, kind, api) = KNOWN.iter().find(|(known, ..)| *known == host)?;
                (*kind, Url::parse(api).ok()?, false)
            }
        };
        let parts: Vec<&str> = path.split('/').collect();
        let is_part = |part: &&str| {
            !matches!(*part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let fits = if kind == ForgeKind::GitLab { parts.len() >= 2 } else { parts.len() == 2 };
        (fits && parts.iter().all(is_part)).then(|| Place {
            kind,
            host,
            api,
            path: path.to_owned(),
            is_configured,
        })
    }
}

/// Ends of names that no public host has.
const PRIVATE_ENDS: [&str; 6] = [".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test"];

/// Whether the host is surely of a private network, as far as its address or name says: a credential that goes to any
/// other one without TLS could be read on its way.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(a)) => a.is_loopback() || a.is_private() || a.is_link_local(),
        Some(Host::Ipv6(a)) => a.is_loopback() || a.is_unique_local() || a.is_unicast_link_local(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            !name.contains('.') || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
        }
        None => false,
    }
}

fn usual_api(host: &ForgeHost) -> String {
    let version = match host.kind {
        ForgeKind::GitHub => "v3",
        ForgeKind::GitLab => "v4",
        ForgeKind::Gitea => "v1",
    };
    format!("https://{}/api/{version}", host.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_built_in_forges_and_the_configured_ones() {
        let hosts = ForgeHosts::new(&[
            ForgeHost { host: "Git.Corp".to_owned(), kind: ForgeKind::GitHub, api: String::new() },
            ForgeHost {
                host: "127.0.0.1:3000".to_owned(),
                kind: ForgeKind::Gitea,
                api: "http://127.0.0.1:3000/api/v1/".to_owned(),
            },
        ])
        .unwrap();
        for (host, path, api, found) in [
            ("github.com", "/o/r.git", "https://api.github.com/", "o/r"),
            ("gitlab.com", "/a/b/c.git", "https://gitlab.com/api/v4", "a/b/c"),
            ("codeberg.org", "o/r", "https://codeberg.org/api/v1", "o/r"),
            ("git.corp", "/o/r/", "https://git.corp/api/v3", "o/r"),
            ("127.0.0.1:3000", "/o/r.git", "http://127.0.0.1:3000/api/v1", "o/r"),
        ] {
            let place = hosts.place(host, path).unwrap();
            assert_eq!((place.api.as_str(), place.path.as_str()), (api, found), "{host}");
            assert_eq!(
                place.is_configured,
                !host.contains("hub.com") && !host.contains("lab.com") && host != "codeberg.org"
            );
        }
        for (host, path) in [
            ("example.org", "/o/r"),
            ("github.com", "/o"),
            ("github.com", "/o/r/s"),
            ("github.com", "/o/.."),
            ("github.com", "/o/r?x"),
            ("127.0.0.1", "/o/r"),
        ] {
            assert_eq!(hosts.place(host, path), None, "{host} {path}");
        }
    }

    #[test]
    fn reads_what_an_operator_writes() {
        let read = |text: &str| text.parse::<ForgeHost>();
        let expected =
            ForgeHost { host: "h:1".to_owned(), kind: ForgeKind::Gitea, api: "http://h:1/x".to_owned() };
        assert_eq!(read("h:1 gitea http://h:1/x"), Ok(expected));
        assert_eq!(read("h github").unwrap().api, "");
        for bad in ["", "h", "h svn", "h github http://h more"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_settings_that_cannot_be_used() {
        for (host, api) in
            [("", ""), ("a/b", ""), ("h", "ftp://h"), ("h", "https://me:x@h/api"), ("h", "nonsense")]
        {
            let setting = ForgeHost { host: host.to_owned(), kind: ForgeKind::GitHub, api: api.to_owned() };
            assert!(ForgeHosts::new(&[setting]).is_err(), "{host} {api}");
        }
    }

    #[test]
    fn a_public_host_is_called_with_tls_alone() {
        let usable = |api: &str| {
            let setting = ForgeHost { host: "h".to_owned(), kind: ForgeKind::Gitea, api: api.to_owned() };
            ForgeHosts::new(&[setting]).is_ok()
        };
        for api in ["http://git.example.org/api/v1", "http://8.8.8.8/api", "http://[2001:4860::1]/api"] {
            assert!(!usable(api), "{api}");
        }
        for api in [
            "https://git.example.org/api/v1",
            "http://127.0.0.1:3000/api",
            "http://[::1]/api",
            "http://10.1.2.3/api",
            "http://[fd00::1]/api",
            "http://gitea/api",
            "http://gitea.svc.cluster.local/api",
        ] {
            assert!(usable(api), "{api}");
        }
    }
}
