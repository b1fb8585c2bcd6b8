//! The one way to make an HTTP client: one TLS provider, the system's roots plus the operator's CA, one upstream proxy.
//!
//! A `reqwest::Client` made in any other way panics, for the workspace builds reqwest without a TLS provider.

mod hops;
mod pinned;
mod settings;
mod tls;

use std::time::Duration;

use reqwest::redirect::Policy;

pub use hops::drop_hop_by_hop;
pub use pinned::Pinned;
pub use settings::{NetworkSettings, Proxied};

/// Longest time to establish a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(8);
/// How long an idle connection is kept: shorter than the common idle timeout of servers and middleboxes, since a
/// request sent on a connection that is being closed fails.
const IDLE: Duration = Duration::from_secs(25);

/// Why no client could be made. The text is for the operator who wrote the setting.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA file cannot be read or holds no certificate.
    #[error("the CA file {path} cannot be used: {cause}")]
    CaFile {
        /// The file, as configured.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The proxy setting is not an HTTP proxy's URL.
    #[error("the proxy setting cannot be used: {0}")]
    Proxy(String),
    /// The client itself; a defect, or a machine without sockets.
    #[error("the HTTP client cannot be created: {0}")]
    Client(String),
}

/// A client for external servers. It speaks HTTP/1.1, so that calls do not block each other on one connection; it
/// follows no redirects, retries nothing, decompresses nothing, and ignores the process's proxy variables. It sets no
/// time limit on calls: callers set their own.
///
/// Reads the system's certificates: call it when a service starts or its settings change, not for every call.
///
/// # Errors
/// When a setting cannot be used.
pub fn http_client(settings: &NetworkSettings) -> Result<reqwest::Client, ClientError> {
    let mut builder = base(tls::configuration(settings.ca_file.as_deref())?).connect_timeout(CONNECT);
    if let Some(proxy) = settings.proxy()? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|e| ClientError::Client(e.to_string()))
}

/// A builder of clients for servers on this machine over plain HTTP: it trusts no certificate, so it reads no files.
pub fn local_client() -> reqwest::ClientBuilder {
    base(tls::trusting_nobody())
}

#[allow(clippy::disallowed_methods)] // the one place that makes clients
fn base(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn goes_through_the_proxy_but_for_this_machine_and_the_hosts_named() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = NetworkSettings {
            proxy: Some(format!("http://user:secret@{}", proxy.local_addr().unwrap())),
            no_proxy: Some("direct.invalid".to_owned()),
            ca_file: None,
        };
        let client = http_client(&settings).unwrap();
        for (listener, url, line) in [
            (&proxy, "http://llm.invalid/v1".to_owned(), "GET http://llm.invalid/v1 HTTP/1.1\r\n"),
            (&here, format!("http://{}/v1", here.local_addr().unwrap()), "GET /v1 HTTP/1.1\r\n"),
        ] {
            let serve = async {
                let (mut io, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let n = io.read(&mut head).await.unwrap();
                io.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
                String::from_utf8(head[..n].to_vec()).unwrap()
            };
            let (answer, head) = tokio::join!(client.get(url).send(), serve);
            assert_eq!(answer.unwrap().status(), 204);
            assert!(head.starts_with(line), "{head}");
            assert_eq!(head.contains("proxy-authorization"), line.contains("llm"));
        }
        // The host's name is looked up directly, not the proxy's.
        assert!(client.get("http://direct.invalid").send().await.unwrap_err().is_connect());
    }
}
