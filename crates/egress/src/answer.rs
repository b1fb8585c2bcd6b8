//! Answers of the proxy itself: their first line names the policy and the reason, since many programs show no more.

use std::time::Duration;

use bytes::Bytes;
use foundry_sandbox::Network;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::ext::ReasonPhrase;

use crate::target::Target;

/// The header with the reason of a refusal.
const REASON_HEADER: HeaderName = HeaderName::from_static("x-foundry-reason");

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Why a request is not forwarded.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    pub reason: &'static str,
    /// One sentence, for the reason phrase and the first line of the body.
    pub short: String,
    advice: &'static str,
    retry_after: Option<Duration>,
}

impl Problem {
    pub fn refused(network: &Network, target: &Target, why: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            reason: "NETWORK_REFUSED",
            short: format!("the network policy \"{network}\" of this sandbox does not allow {target}: {why}"),
            advice: "Avoid this host, or ask the operator to add it to provisioner.local.network. This proxy is \
                     the only outbound path of the sandbox.",
            retry_after: None,
        }
    }

    pub fn unresolved(target: &Target, why: &str) -> Self {
        let short = format!("{} cannot be resolved: {why}", target.host);
        Self::unreachable(short, "Check the name. Names are resolved by the machine that runs the mesh.")
    }

    pub fn unconnected(target: &Target, why: &str) -> Self {
        Self::unreachable(
            format!("{target} cannot be reached: {why}"),
            "Check the host and port, and try again later.",
        )
    }

    pub fn upstream(target: &Target, why: &str) -> Self {
        let short = format!("{target} cannot be reached through the upstream proxy: {why}");
        Self::unreachable(short, "Ask the operator; the proxy is set in provisioner.network.proxy.")
    }

    fn unreachable(short: String, advice: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            reason: "NETWORK_UNREACHABLE",
            short,
            advice,
            retry_after: None,
        }
    }

    pub fn malformed(what: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: "NETWORK_REQUEST_MALFORMED",
            short: format!("this is the sandbox's HTTP proxy: {what}"),
            advice: "It accepts CONNECT host:port, and requests with a full http:// URL. Write addresses as \
                     192.0.2.1 or [2001:db8::1].",
            retry_after: None,
        }
    }

    pub fn busy(what: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: "NETWORK_BUSY",
            short: format!("too many connections at once: {what}"),
            advice: "Close connections, or try again in a few seconds.",
            retry_after: Some(Duration::from_secs(5)),
        }
    }

    /// The problem as a response.
    pub fn response(&self) -> Response<Body> {
        let text = format!("{}: {}.\n{}\n", self.reason, self.short, self.advice);
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.reason));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if let Ok(phrase) = ReasonPhrase::try_from(self.phrase().into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
        response
    }

    /// The reason phrase, which is all that some programs show of the answer to a CONNECT.
    fn phrase(&self) -> String {
        let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        format!("{} {}", self.reason, self.short).chars().map(plain).take(400).collect()
    }

    /// The whole response as bytes, for a connection that is refused before HTTP.
    pub fn bytes(&self) -> Vec<u8> {
        let body = format!("{}: {}.\n{}\n", self.reason, self.short, self.advice);
        let retry =
            self.retry_after.map_or(String::new(), |after| format!("retry-after: {}\r\n", after.as_secs()));
        format!(
            "HTTP/1.1 {} {}\r\n{REASON_HEADER}: {}\r\ncontent-type: text/plain; charset=utf-8\r\n{retry}content-length: \
             {}\r\nconnection: close\r\n\r\n{body}",
            self.status.as_u16(),
            self.phrase(),
            self.reason,
            body.len()
        )
        .into_bytes()
    }
}
