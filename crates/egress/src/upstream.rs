//! The operator's own proxy, used for every target that is not on its list of exceptions.

use std::sync::Arc;

use foundry_http_client::{ClientError, NetworkSettings};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;

use crate::target::Target;

/// The operator's proxy.
#[derive(Clone)]
pub struct Upstream {
    matcher: Arc<Matcher>,
    tls: Arc<ClientConfig>,
}

/// The proxy's address and authorization for one connection.
pub(crate) struct Via {
    pub host: String,
    pub port: u16,
    pub authorization: Option<HeaderValue>,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Upstream {
    /// The configured proxy; `None` without one.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(settings: &NetworkSettings) -> Result<Option<Self>, ClientError> {
        let Some(url) = settings.proxy_url()? else { return Ok(None) };
        let matcher = Matcher::builder().all(url.as_str()).no(settings.direct()).build();
        Ok(Some(Self { matcher: Arc::new(matcher), tls: Arc::new(settings.tls()?) }))
    }

    /// The proxy for this target; `None` when it is reached directly.
    pub(crate) fn via(&self, target: &Target) -> Option<Via> {
        let uri: Uri = format!("http://{target}/").parse().ok()?;
        let found = self.matcher.intercept(&uri)?;
        let https = found.uri().scheme_str() == Some("https");
        Some(Via {
            host: found.uri().host()?.trim_matches(['[', ']']).to_owned(),
            port: found.uri().port_u16().unwrap_or(if https { 443 } else { 80 }),
            authorization: found.basic_auth().cloned(),
            tls: https.then(|| Arc::clone(&self.tls)),
        })
    }
}
