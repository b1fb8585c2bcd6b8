//! The sections of configuration that every service shares.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Secret, duration};

/// How a service listens and what it accepts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the gRPC listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What one process accepts at a time.
    pub limits: Limits,
}

impl ServerConfig {
    /// The defaults, listening on the given port of the loopback interface.
    pub fn on_loopback(port: u16) -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limits: Limits::default() }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::on_loopback(0)
    }
}

/// Explicit limits; tonic and hyper set almost none by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections of the listener. When there are as many, a new one takes the place of the one that has been idle
    /// longest without a valid credential; if there is none, it waits in the kernel's backlog.
    pub connections: usize,
    /// Open connections of one address (of IPv6, of one /64 network) that have shown no valid credential; more are closed
    /// at once.
    pub connections_per_address: usize,
    /// The same for an address of this machine, where proxies and other services are.
    pub connections_per_loopback_address: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub streams_per_connection: u32,
    /// Unary calls with a valid credential in progress; more are refused with UNAVAILABLE.
    pub unary_calls: usize,
    /// Open streams (watches) with a valid credential; more are refused with RESOURCE_EXHAUSTED.
    pub streams: usize,
    /// Unary calls and plain HTTP requests without a valid credential in progress. They have this room of their own and
    /// take none from the callers above.
    pub anonymous_calls: usize,
    /// Open streams without a valid credential: health and reflection.
    pub anonymous_streams: usize,
    /// Size of one request message in bytes.
    pub message_bytes: usize,
    /// Bytes of request messages that have not arrived completely, of all callers with a valid credential together.
    /// The first 64 KiB of each message do not count. Further bytes are refused with RESOURCE_EXHAUSTED.
    pub body_bytes: usize,
    /// The same, of all callers without a valid credential.
    pub anonymous_body_bytes: usize,
    /// TLS handshakes in progress; when there are as many, a new one takes the place of the one that began first.
    pub handshakes: usize,
    /// Size of the header list of one request in bytes.
    pub header_bytes: u32,
    /// Longest a unary call may take; a shorter `grpc-timeout` of the caller counts.
    #[serde(with = "duration")]
    pub unary_timeout: Duration,
    /// Longest a new connection may take for the handshake of TLS and its first bytes, and longest the head of an HTTP/1
    /// request may take.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// Time between HTTP/2 keepalive pings.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// How long a keepalive ping may stay unanswered.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 256,
            connections_per_loopback_address: 3_072,
            streams_per_connection: 128,
            unary_calls: 1_024,
            streams: 16_384,
            anonymous_calls: 256,
            anonymous_streams: 256,
            message_bytes: 4 << 20,
            body_bytes: 128 << 20,
            anonymous_body_bytes: 8 << 20,
            handshakes: 256,
            header_bytes: 32 << 10,
            unary_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// Certificate and key of a listener for clients outside, as PEM files that are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to its authority; empty = plain HTTP.
    pub certificate: PathBuf,
    /// Its key, which its owner alone may read.
    pub key: PathBuf,
}

/// How services prove to each other who they are, as PEM files that are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshTlsFiles {
    /// The authorities of the certificates of all services; empty = services trust the network.
    pub ca: PathBuf,
    /// The certificate of this service, with the URI `spiffe://foundry/SERVICE` as its only name of that kind.
    pub certificate: PathBuf,
    /// Its key, which its owner alone may read.
    pub key: PathBuf,
}

/// The admin listener: health, readiness and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Whether the admin listener is started.
    pub enabled: bool,
    /// Its address; it needs no token, so keep it on loopback or a private network.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7109)) }
    }
}

/// How long each phase of a stop may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// How long the process still serves after readiness is off; skipped when no client is connected.
    #[serde(with = "duration")]
    pub serving_delay: Duration,
    /// The time over which the ends of watches are spread; skipped when there are none.
    #[serde(with = "duration")]
    pub watches: Duration,
    /// Longest wait for unary calls in progress.
    #[serde(with = "duration")]
    pub unary: Duration,
    /// Longest wait for jobs to reach a step boundary.
    #[serde(with = "duration")]
    pub jobs: Duration,
    /// Hard bound of the whole stop.
    #[serde(with = "duration")]
    pub total: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            serving_delay: Duration::from_secs(3),
            watches: Duration::from_secs(3),
            unary: Duration::from_secs(8),
            jobs: Duration::from_secs(8),
            total: Duration::from_secs(25),
        }
    }
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines of text for reading in a terminal.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Logs, traces and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Shape of log lines: `human` or `json`.
    pub log_format: LogFormat,
    /// Which lines: `info`, or directives such as `info,foundry_flow=debug`.
    pub log_filter: String,
    /// OTLP endpoint (gRPC), for example `http://127.0.0.1:4317`; empty = nothing is exported.
    pub otlp_endpoint: String,
    /// Value of an `authorization` header for the OTLP endpoint; empty = none.
    pub otlp_authorization: Secret<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::default(),
            // The exporter logs its own lifecycle at info.
            log_filter: "info,opentelemetry_sdk=warn".to_owned(),
            otlp_endpoint: String::new(),
            otlp_authorization: Secret::default(),
        }
    }
}
