//! Section `gateway` of the configuration.

use std::time::Duration;

use foundry_server::config::TlsFiles;
use serde::{Deserialize, Serialize};

/// Section `gateway` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address under which browsers reach this gateway, such as `https://foundry.example`, without a path. Sign-in at
    /// identity providers needs it: the redirect URI to register there is `PUBLIC_URL/auth/callback/NAME`. The page at
    /// this address counts as the gateway's own.
    pub public_url: String,
    /// Origins of pages that may call from a browser, each exact (`https://foundry.example`); the word `loopback`
    /// stands for every origin of this machine, for development. Session cookies are accepted from the gateway's own
    /// page and from exact origins only.
    pub allowed_origins: Vec<String>,
    /// Serves https with a certificate from files; empty = plain HTTP, for this machine or behind a proxy that ends TLS.
    pub tls: TlsFiles,
    /// Networks of the reverse proxies in front of the gateway, such as `10.1.0.0/16` or `127.0.0.1`; empty = there are
    /// none. From them alone, `x-forwarded-for` names the client (the right-most address that is no proxy's), to whom
    /// limits, sessions and the audit then refer, and `x-forwarded-proto` its scheme. Each proxy must add its client to
    /// the first header and set the second. The limits of connections still count those of a proxy as its own.
    pub trusted_proxies: Vec<String>,
    /// Limits of one user, over all credentials.
    pub caller: CallerLimits,
    /// Watches that one user may have on the edge's streams, over all credentials.
    pub watches_per_user: usize,
    /// Limits of one address, for requests without a valid credential.
    pub anonymous: CallerLimits,
    /// Limits of one webhook, for the deliveries of a host.
    pub webhook: CallerLimits,
    /// How long the host of a delivery waits for its answer, from the end of the body on. A delivery that is not stored by
    /// then is answered with 503, so that the host shows it as failed and can send it again.
    #[serde(with = "foundry_server::config::duration")]
    pub webhook_answer: Duration,
    /// Time between two health checks of a service.
    #[serde(with = "foundry_server::config::duration")]
    pub health_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            allowed_origins: vec!["loopback".to_owned()],
            tls: TlsFiles::default(),
            trusted_proxies: Vec::new(),
            caller: CallerLimits { requests_per_second: 2_000, burst: 4_000, unary_calls: 256, streams: 512 },
            watches_per_user: 512,
            anonymous: CallerLimits { requests_per_second: 100, burst: 1_000, unary_calls: 64, streams: 16 },
            webhook: CallerLimits { requests_per_second: 50, burst: 5_000, unary_calls: 256, streams: 1 },
            webhook_answer: Duration::from_millis(250),
            health_interval: Duration::from_secs(2),
        }
    }
}

/// Limits of one caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerLimits {
    /// Requests per second, on average; 0 = unlimited.
    pub requests_per_second: u32,
    /// Requests that may be made at once after a pause.
    pub burst: u32,
    /// Unary calls in progress.
    pub unary_calls: usize,
    /// Streams that may be open at the same time.
    pub streams: usize,
}
