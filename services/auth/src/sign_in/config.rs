//! Section `auth.sign_in` of the configuration: the identity providers.

use foundry_core::{Error, Result};
use foundry_secrets::KeySource;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::domain::name::parse_name;

/// An identity provider to sign in with: GitHub, or with an `issuer` any provider that speaks OpenID Connect. Its name
/// is the key of the section, `auth.sign_in.NAME`, and part of the redirect URI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// Name on the button of the sign-in page; empty = `GitHub`, or the name of the section.
    pub title: String,
    /// The issuer of an OpenID Connect provider, exactly as in its discovery document; empty = GitHub.
    pub issuer: String,
    /// Host of GitHub or of a GitHub Enterprise Server; empty = `github.com`. Not together with `issuer`.
    pub host: String,
    /// Id of the OAuth application as which this mesh is registered there.
    pub client_id: String,
    /// Where the secret of the application comes from: `file:PATH` (mode 0600), `env:VARIABLE` or `command:PROGRAM
    /// ARGUMENT…`.
    pub client_secret: Option<KeySource>,
    /// Members of these organizations of GitHub may come in.
    pub allow_organizations: Vec<String>,
    /// Members of these teams of GitHub may come in, as `ORGANIZATION/TEAM`, where the team is its slug.
    pub allow_teams: Vec<String>,
    /// People with a verified e-mail address of exactly one of these domains may come in.
    pub allow_email_domains: Vec<String>,
    /// The organization here that people of these lists join, as members; empty = the one that was set up.
    pub organization: String,
}

/// The kind of a provider with its checked addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GitHub: its origin, such as `https://github.com`, and its API.
    GitHub {
        /// Scheme, host and port of its pages.
        origin: String,
        /// Address of its API, without a `/` at the end.
        api: String,
    },
    /// OpenID Connect, by discovery below the issuer.
    OpenId,
}

impl ProviderConfig {
    /// Checks the settings of a section.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` `SIGN_IN_UNUSABLE` that names the setting.
    pub(crate) fn check(&self, name: &str) -> Result<Kind> {
        let wrong = |setting: &str, why: &str| unusable(name, &format!("`{setting}` {why}"));
        parse_name("name", name)
            .map_err(|e| unusable(name, &format!("the name of the section {}", e.message())))?;
        if self.client_id.is_empty() {
            return Err(wrong("client_id", "is missing"));
        }
        if self.client_secret.is_none() {
            return Err(wrong("client_secret", "is missing"));
        }
        if let Some(bad) = self.allow_email_domains.iter().find(|d| !is_domain(d)) {
            return Err(wrong(
                "allow_email_domains",
                &format!("has `{bad}`, which is no domain in lower case"),
            ));
        }
        if !self.organization.is_empty() {
            parse_name("organization", &self.organization).map_err(|e| wrong("organization", e.message()))?;
        }
        if self.issuer.is_empty() { self.check_github(&wrong) } else { self.check_openid(&wrong) }
    }

    fn check_openid(&self, wrong: &dyn Fn(&str, &str) -> Error) -> Result<Kind> {
        if !self.host.is_empty() {
            return Err(wrong("host", "is a setting for GitHub and cannot be combined with `issuer`"));
        }
        if !self.allow_organizations.is_empty() || !self.allow_teams.is_empty() {
            let text = "is a list for GitHub; for other providers use `allow_email_domains`";
            return Err(wrong("allow_organizations", text));
        }
        is_safe(&self.issuer).then_some(Kind::OpenId).ok_or_else(|| {
            wrong(
                "issuer",
                "must be an https:// address without query and fragment; http:// only on this machine",
            )
        })
    }

    fn check_github(&self, wrong: &dyn Fn(&str, &str) -> Error) -> Result<Kind> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if let Some(bad) = self.allow_organizations.iter().find(|o| !plain(o)) {
            return Err(wrong(
                "allow_organizations",
                &format!("has `{bad}`, which is no name of an organization"),
            ));
        }
        let team = |t: &&String| !t.split_once('/').is_some_and(|(o, t)| plain(o) && plain(t));
        if let Some(bad) = self.allow_teams.iter().find(team) {
            return Err(wrong("allow_teams", &format!("has `{bad}`, which is not ORGANIZATION/TEAM")));
        }
        match self.host.as_str() {
            "" | "github.com" => Ok(Kind::GitHub {
                origin: "https://github.com".to_owned(),
                api: "https://api.github.com".to_owned(),
            }),
            host => {
                let origin = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
                let bare = Url::parse(&origin).is_ok_and(|url| url.path() == "/") && !origin.ends_with('/');
                if !bare || !is_safe(&origin) {
                    return Err(wrong("host", "must be a host, such as github.example.com"));
                }
                let api = format!("{origin}/api/v3");
                Ok(Kind::GitHub { origin, api })
            }
        }
    }

    /// The name on the button.
    pub(crate) fn title(&self, name: &str) -> String {
        match (self.title.trim(), self.issuer.is_empty()) {
            ("", true) => "GitHub".to_owned(),
            ("", false) => name.to_owned(),
            (title, _) => title.to_owned(),
        }
    }
}

/// `FAILED_PRECONDITION` for a section that cannot be used.
pub(crate) fn unusable(name: &str, why: &str) -> Error {
    let setting = format!("auth.sign_in.{name}");
    Error::precondition("SIGN_IN_UNUSABLE", &setting, format!("{setting} cannot be used: {why}"))
        .next_action("correct the setting and restart")
}

/// Whether an address is one to build others from, to which secrets may be sent.
fn is_safe(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    bare && url.password().is_none() && keeps_secrets(&url)
}

/// Whether nobody on the way can read what goes to an address: it is encrypted, or stays on this machine.
pub(crate) fn keeps_secrets(url: &Url) -> bool {
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

fn is_domain(text: &str) -> bool {
    let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(legal) && !text.starts_with('.') && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github() -> ProviderConfig {
        ProviderConfig {
            client_id: "id".to_owned(),
            client_secret: Some(KeySource::Variable("X".to_owned())),
            ..ProviderConfig::default()
        }
    }

    #[test]
    fn an_issuer_makes_it_openid_connect_and_a_host_another_github() {
        let api = |config: &ProviderConfig| match config.check("x").unwrap() {
            Kind::GitHub { api, .. } => api,
            Kind::OpenId => "openid".to_owned(),
        };
        assert_eq!(api(&github()), "https://api.github.com");
        assert_eq!(
            api(&ProviderConfig { host: "git.corp:8443".into(), ..github() }),
            "https://git.corp:8443/api/v3"
        );
        assert_eq!(
            api(&ProviderConfig { host: "http://127.0.0.1:1".into(), ..github() }),
            "http://127.0.0.1:1/api/v3"
        );
        assert_eq!(api(&ProviderConfig { issuer: "https://id.corp/realms/a".into(), ..github() }), "openid");
    }

    #[test]
    fn refuses_what_would_send_secrets_unencrypted_and_what_means_nothing() {
        let issuer = |issuer: &str| ProviderConfig { issuer: issuer.into(), ..github() };
        let host = |host: &str| ProviderConfig { host: host.into(), ..github() };
        for (what, config) in [
            ("http", issuer("http://id.corp")),
            ("no url", issuer("id.corp")),
            ("query", issuer("https://id.corp/?a=b")),
            ("user", issuer("https://me:pw@id.corp")),
            ("script", issuer("javascript:alert(1)")),
            ("plain host", host("http://git.corp")),
            ("path", host("git.corp/x")),
            ("slash", host("git.corp/")),
            ("both", ProviderConfig { host: "git.corp".into(), ..issuer("https://id.corp") }),
            ("no id", ProviderConfig { client_id: String::new(), ..github() }),
            ("no secret", ProviderConfig { client_secret: None, ..github() }),
            ("lists", ProviderConfig { allow_teams: vec!["a/b".into()], ..issuer("https://id.corp") }),
            ("team", ProviderConfig { allow_teams: vec!["a".into()], ..github() }),
            ("organization", ProviderConfig { allow_organizations: vec!["a/../b".into()], ..github() }),
            ("domain", ProviderConfig { allow_email_domains: vec!["@corp.example".into()], ..github() }),
            ("case", ProviderConfig { allow_email_domains: vec!["Corp.example".into()], ..github() }),
            ("joins", ProviderConfig { organization: "Not A Name".into(), ..github() }),
        ] {
            let error = config.check("x").expect_err(what);
            assert_eq!(error.reason(), "SIGN_IN_UNUSABLE", "{what}");
        }
        assert!(github().check("Not-A-Name").is_err());
    }
}
