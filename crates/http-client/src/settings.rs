//! The operator's settings for external connections.

use std::fmt;
use std::path::PathBuf;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};
use url::Url;

use crate::ClientError;

/// Always reached without a proxy: a proxy cannot reach a model server on this machine.
const ALWAYS_DIRECT: &str = "localhost,127.0.0.0/8,::1";

/// The operator's network settings: the same for the model gateway, git and agents.
#[derive(serde::Serialize, serde::Deserialize, Clone, Default, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// An HTTP proxy for all calls to external hosts, as a URL (`http://proxy.corp:3128`, with credentials if it
    /// requires them).
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy, in the form of `NO_PROXY`; this machine's loopback always is.
    pub no_proxy: Option<String>,
    /// A PEM file with certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl NetworkSettings {
    /// The proxy's URL; `None` without a proxy.
    ///
    /// # Errors
    /// When it is not the URL of an HTTP proxy.
    pub fn proxy_url(&self) -> Result<Option<Url>, ClientError> {
        let Some(text) = self.proxy.as_deref().filter(|p| !p.trim().is_empty()) else { return Ok(None) };
        let refuse = |why: &str| ClientError::Proxy(why.to_owned());
        let url =
            Url::parse(text.trim()).map_err(|_| refuse("it is not a URL, for example http://proxy:3128"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("only http:// and https:// proxies are supported"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("it has no host"));
        }
        Ok(Some(url))
    }

    /// The hosts reached without the proxy, in the form of `NO_PROXY`.
    pub fn direct(&self) -> String {
        match self.no_proxy.as_deref().map(str::trim) {
            None | Some("") => ALWAYS_DIRECT.to_owned(),
            Some(hosts) => format!("{ALWAYS_DIRECT},{hosts}"),
        }
    }

    /// Which hosts are reached through the proxy; `None` without one.
    ///
    /// # Errors
    /// When it is not the URL of an HTTP proxy.
    pub fn proxied(&self) -> Result<Option<Proxied>, ClientError> {
        let Some(url) = self.proxy_url()? else { return Ok(None) };
        let matcher = Matcher::builder().all(url.as_str()).no(self.direct()).build();
        Ok(Some(Proxied { url, matcher }))
    }

    /// The system's certificates and those of `ca_file`, in PEM, for programs that trust one file; `None` without a
    /// `ca_file`.
    ///
    /// # Errors
    /// When the file with certificates cannot be used.
    pub fn trusted_pem(&self) -> Result<Option<String>, ClientError> {
        self.ca_file.as_deref().map(crate::tls::trusted_pem).transpose()
    }

    /// TLS that trusts the system's certificates and those of `ca_file`.
    ///
    /// # Errors
    /// When the file with certificates cannot be used.
    pub fn tls(&self) -> Result<rustls::ClientConfig, ClientError> {
        crate::tls::configuration(self.ca_file.as_deref())
    }

    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, ClientError> {
        let Some(url) = self.proxy_url()? else { return Ok(None) };
        let proxy =
            Proxy::all(url).map_err(|_| ClientError::Proxy("the HTTP client rejected it".to_owned()))?;
        Ok(Some(proxy.no_proxy(NoProxy::from_string(&self.direct()))))
    }
}

/// The operator's proxy, for the hosts that are not exceptions.
pub struct Proxied {
    url: Url,
    matcher: Matcher,
}

impl Proxied {
    /// The proxy's URL, with its credentials; `None` for a URL that is reached directly.
    pub fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let uri = url.as_str().parse().ok()?;
        self.matcher.intercept(&uri).map(|_| &self.url)
    }
}

impl fmt::Debug for NetworkSettings {
    /// Omits the proxy's credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.proxy.as_deref().map(|text| match Url::parse(text) {
            Ok(url) => format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
            Err(_) => "(no URL)".to_owned(),
        });
        f.debug_struct("NetworkSettings")
            .field("proxy", &shown)
            .field("no_proxy", &self.no_proxy)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_proxy(proxy: &str) -> NetworkSettings {
        NetworkSettings { proxy: Some(proxy.to_owned()), ..NetworkSettings::default() }
    }

    #[test]
    fn takes_http_proxies_and_refuses_others_in_words() {
        assert!(with_proxy("").proxy().unwrap().is_none());
        assert!(with_proxy("http://user:secret@proxy.corp:3128").proxy().unwrap().is_some());
        for bad in ["socks5://proxy:1080", "proxy.corp:3128", "not a proxy"] {
            assert!(matches!(with_proxy(bad).proxy(), Err(ClientError::Proxy(_))), "{bad}");
        }
    }

    #[test]
    fn exceptions_and_this_machine_are_reached_without_the_proxy() {
        let settings = NetworkSettings {
            no_proxy: Some("corp.example,10.0.0.0/8".to_owned()),
            ..with_proxy("http://user:secret@proxy.corp:3128")
        };
        let proxied = settings.proxied().unwrap().unwrap();
        let by_proxy = |text: &str| proxied.proxy_for(&Url::parse(text).unwrap()).map(Url::as_str);
        assert_eq!(by_proxy("https://github.com/a/b"), Some("http://user:secret@proxy.corp:3128/"));
        for direct in [
            "https://git.corp.example/a",
            "https://10.1.2.3/a",
            "http://127.0.0.1:1/a",
            "https://localhost/a",
        ] {
            assert_eq!(by_proxy(direct), None, "{direct}");
        }
        assert!(NetworkSettings::default().proxied().unwrap().is_none());
    }

    #[test]
    fn never_shows_the_credentials_of_the_proxy() {
        let settings = with_proxy("http://user:hunter2@proxy.corp:3128");
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("proxy.corp") && !shown.contains("hunter2") && !shown.contains("user"),
            "{shown}"
        );
    }
}
