//! How remotes are reached over HTTP: the operator's proxy and certificates, and a trace of the protocol spoken.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use foundry_secrets::Secret;
use tokio::io::AsyncReadExt as _;
use url::Url;

use crate::mirror::blocking;
use crate::{GitError, Result};

/// Bytes of a trace that are read; what matters comes early.
const MAX_TRACE: u64 = 1 << 20;
/// In a trace: the remote speaks git's own protocol, of this version. A text of the remote cannot contain it, for its
/// quotes are escaped.
const SPOKEN: &str = r#""category":"transfer","key":"negotiated-version""#;

/// A proxy at which nothing listens, for every origin but that of the remote: a server can answer a fetch with addresses
/// from which git gets further packs, although it has not offered to (`packfile-uris`), and follows them to any host.
const NOWHERE: &str = "http://127.0.0.1:1";

/// The URL of the proxy, with its credentials, for a remote; `None` when that is reached directly.
type ProxyFor = dyn Fn(&Url) -> Option<Secret> + Send + Sync;

/// The operator's proxy and certificates, for remotes at HTTP addresses. The default has neither.
#[derive(Clone, Default)]
pub struct Network {
    proxy: Option<Arc<ProxyFor>>,
    certificates: Option<PathBuf>,
}

impl Network {
    /// With a proxy for some remotes: the function returns its URL with its credentials, or `None` for a remote that is
    /// reached directly.
    #[must_use]
    pub fn through(mut self, proxy: impl Fn(&Url) -> Option<Secret> + Send + Sync + 'static) -> Self {
        self.proxy = Some(Arc::new(proxy));
        self
    }

    /// Trusting exactly the certificates in this PEM file.
    #[must_use]
    pub fn trusting(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificates = Some(file.into());
        self
    }

    /// The URL of the proxy with its credentials; `None` for what is reached directly.
    pub(crate) fn proxy(&self, url: &Url) -> Option<Secret> {
        self.proxy.as_ref().and_then(|proxy| proxy(url))
    }

    /// The file with all certificates that are trusted, if it is not the system's.
    pub(crate) fn certificates(&self) -> Option<PathBuf> {
        self.certificates.clone()
    }

    /// Configuration of git for one remote, for its origin alone.
    pub(crate) fn settings(&self, remote: &Url) -> Settings {
        let key = |name: &str| format!("http.{}/.{name}", remote.origin().ascii_serialization());
        let nowhere = ("http.proxy".to_owned(), NOWHERE.to_owned());
        let mut settings = Settings { config: vec![nowhere], hidden: Vec::new() };
        let proxy = self.proxy(remote);
        let proxy = proxy.as_ref().and_then(Secret::expose_str);
        if let Some(file) = &self.certificates {
            let file = file.display().to_string();
            if proxy.is_some() {
                settings.config.push((key("proxySSLCAInfo"), file.clone()));
            }
            settings.config.push((key("sslCAInfo"), file));
        }
        match proxy {
            Some(proxy) => settings.hidden.push((key("proxy"), OsString::from(proxy))),
            None => settings.config.push((key("proxy"), String::new())),
        }
        settings
    }
}

/// Configuration of git.
pub(crate) struct Settings {
    pub(crate) config: Vec<(String, String)>,
    /// What contains a secret.
    pub(crate) hidden: Vec<(String, OsString)>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_ref().map(|_| "***");
        f.debug_struct("Network").field("proxy", &proxy).field("certificates", &self.certificates).finish()
    }
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.proxy, &other.proxy) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        };
        same && self.certificates == other.certificates
    }
}

impl Eq for Network {}

/// A file to which git writes what it does.
pub(crate) struct Trace(tempfile::NamedTempFile);

impl Trace {
    /// An empty one, which ends with its operation.
    pub(crate) async fn new() -> Result<Self> {
        let made = blocking(|| tempfile::Builder::new().prefix("foundry-git-trace-").tempfile()).await?;
        made.map(Self).map_err(|e| GitError::io("cannot create a temporary file", &e))
    }

    /// The variable for git.
    pub(crate) fn variable(&self) -> (&'static str, OsString) {
        ("GIT_TRACE2_EVENT", self.0.path().into())
    }

    /// Whether the command that has ended spoke git's own protocol. Empties the trace.
    pub(crate) async fn is_smart(&self) -> Result<bool> {
        let failed = |e: std::io::Error| GitError::io("cannot read what git has done", &e);
        let mut text = Vec::new();
        let opened = tokio::fs::OpenOptions::new().read(true).write(true).open(self.0.path()).await;
        let mut file = opened.map_err(failed)?;
        (&mut file).take(MAX_TRACE).read_to_end(&mut text).await.map_err(failed)?;
        // Git appends, so that the next command begins at its start.
        file.set_len(0).await.map_err(failed)?;
        Ok(text.windows(SPOKEN.len()).any(|at| at == SPOKEN.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_set_for_the_remotes_that_it_is_for_and_shown_nowhere() {
        let proxy =
            |url: &Url| (url.host_str() != Some("direct.example")).then(|| "http://u:canary@p:1".into());
        let network = Network::default().through(move |url| proxy(url).map(|p: String| Secret::new(p)));
        let network = network.trusting("/ca.pem");
        let settings = network.settings(&Url::parse("https://host.example:8443/a/b").unwrap());
        assert_eq!(settings.hidden[0].0, "http.https://host.example:8443/.proxy");
        assert_eq!(settings.hidden[0].1, "http://u:canary@p:1");
        let names: Vec<&str> = settings.config.iter().map(|(key, _)| key.as_str()).collect();
        let origin = "http.https://host.example:8443/.";
        assert_eq!(
            names,
            ["http.proxy".to_owned(), format!("{origin}proxySSLCAInfo"), format!("{origin}sslCAInfo")]
        );
        let settings = network.settings(&Url::parse("https://direct.example/a").unwrap());
        assert!(settings.hidden.is_empty());
        let direct = ("http.https://direct.example/.proxy".to_owned(), String::new());
        assert!(settings.config.contains(&direct), "{:?}", settings.config);
        assert!(!format!("{network:?}").contains("canary"));
    }

    #[tokio::test]
    async fn only_an_event_of_git_itself_counts_as_the_protocol_spoken() {
        let trace = Trace::new().await.unwrap();
        let said = |text: &str| std::fs::write(trace.0.path(), text).unwrap();
        said(r#"{"event":"data","category":"transfer","key":"negotiated-version","value":"2"}"#);
        assert!(trace.is_smart().await.unwrap());
        assert!(!trace.is_smart().await.unwrap(), "it is of an earlier command");
        said(r#"{"event":"error","msg":"\"category\":\"transfer\",\"key\":\"negotiated-version\""}"#);
        assert!(!trace.is_smart().await.unwrap());
    }
}
