//! The hosts that repositories may be at, where the operator names them.

use std::str::FromStr;

use url::Host;

/// One host that is allowed, as the operator writes it: `git.example.org`, `git.example.org:2222`, or `*.example.org`
/// for all names below it. Without a port it is the usual one of the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    host: Host<String>,
    port: Option<u16>,
    /// Whether it stands for the names below it rather than for itself.
    below: bool,
}

/// An entry that is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a host, such as `git.example.org`, `git.example.org:2222` or `*.example.org`")]
pub struct AllowedHostError;

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let (name, port) = match rest.rsplit_once(':') {
            // What is in brackets is an address with colons of its own.
            Some((name, port)) if !port.ends_with(']') => {
                let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = Some(port).filter(|_| is_number).and_then(|port| port.parse::<u16>().ok());
                (name, Some(port.filter(|port| *port > 0).ok_or(AllowedHostError)?))
            }
            _ => (rest, None),
        };
        let host = Host::parse(name).map_err(|_| AllowedHostError)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let fits = match &host {
            Host::Domain(name) => !name.starts_with(['-', '.']) && name.chars().all(is_plain),
            // There is nothing below an address.
            Host::Ipv4(_) | Host::Ipv6(_) => !below,
        };
        if fits { Ok(Self { host, port, below }) } else { Err(AllowedHostError) }
    }
}

impl AllowedHost {
    /// Whether it allows this host; `port` is the one that is connected to, `usual` the usual one of the scheme.
    pub(crate) fn allows(&self, host: &Host<String>, port: u16, usual: u16) -> bool {
        let is_host = match (&self.host, host) {
            (Host::Domain(name), Host::Domain(asked)) if self.below => {
                asked.strip_suffix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (allowed, asked) => allowed == asked,
        };
        is_host && port == self.port.unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RemoteUrl, UrlPolicy};

    fn policy(hosts: &[&str]) -> UrlPolicy {
        let allowed_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        UrlPolicy { allow_http: true, allow_local: true, allowed_hosts, ..UrlPolicy::default() }
    }

    fn reason(text: &str, policy: &UrlPolicy) -> &'static str {
        RemoteUrl::parse(text, policy).map_or_else(|e| e.reason(), |_| "ok")
    }

    #[test]
    fn where_hosts_are_named_no_other_is_reached_by_any_scheme() {
        let p = policy(&[
            "Git.Example.org",
            "git.example.org:2222",
            "*.corp.example",
            "8.8.8.8:8443",
            "bücher.example",
        ]);
        for text in [
            "https://git.example.org/a",
            "https://GIT.example.org:443/a",
            "http://git.example.org/a",
            "git@git.example.org:a/b",
            "ssh://git@git.example.org:2222/a",
            "https://git.example.org:2222/a",
            "https://a.b.corp.example/x",
            "https://8.8.8.8:8443/x",
            "https://xn--bcher-kva.example/x",
            "https://bücher.example/x",
            // Local paths have a setting of their own.
            "/srv/repo",
        ] {
            assert_eq!(reason(text, &p), "ok", "{text}");
        }
        for text in [
            "https://github.com/a/b",
            "git@github.com:a/b",
            "https://git.example.org:8443/a",
            "ssh://git@git.example.org:22022/a",
            "https://git.example.org./a",
            "https://evil-git.example.org/a",
            "https://git.example.org.evil.example/a",
            "https://corp.example/x",
            "https://evilcorp.example/x",
            "https://8.8.8.8/x",
            "https://8.8.4.4:8443/x",
        ] {
            assert_eq!(reason(text, &p), "URL_HOST_NOT_ALLOWED", "{text}");
        }
        assert_eq!(
            reason("https://github.com/a/b", &policy(&[])),
            "ok",
            "without a list any public host is allowed"
        );
        // A name in the list does not open private addresses.
        assert_eq!(reason("https://10.1.2.3/x", &policy(&["10.1.2.3"])), "URL_ADDRESS_NOT_ALLOWED");
    }

    #[tokio::test]
    async fn a_host_that_is_not_allowed_any_more_is_not_looked_up_for_an_operation() {
        let url = RemoteUrl::parse("https://git.example.invalid/a", &UrlPolicy::default()).unwrap();
        let url = url.under(&policy(&["other.example.org"]));
        assert_eq!(url.pin().await.err().unwrap().reason(), "URL_HOST_NOT_ALLOWED");
        let url = RemoteUrl::parse("git@git.example.invalid:a", &UrlPolicy::default()).unwrap();
        let url = url.under(&policy(&["other.example.org"]));
        assert_eq!(url.pin().await.err().unwrap().reason(), "URL_HOST_NOT_ALLOWED");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "a/b",
            "https://a",
            "user@a",
            "a:",
            "a:0",
            "a:99999",
            "a:x",
            "*.8.8.8.8",
            "-a",
            "a b",
            "a:+22",
            "**.a",
        ] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text:?}");
        }
        for text in ["localhost", "a:22", "[::1]", "[::1]:22", "*.a.example:8443"] {
            assert!(text.parse::<AllowedHost>().is_ok(), "{text:?}");
        }
    }
}
