//! What every Foundry server is made of: layered configuration, one layered stack per service that
//! its listener and local callers share, explicit limits, health and reflection, telemetry, and a
//! drain in a fixed order with a hard bound.
//!
//! A service crate builds a [`Service`] (routes, authentication, phases). A binary mounts it ([`Service::mount`]),
//! passes [`Mounted::upstream`] or [`Upstream::remote`] to its callers, and runs it in a [`Process`].

mod admin;
pub mod config;
mod data_directory;
mod framed;
mod lifecycle;
mod listen;
pub mod methods;
mod open_routes;
mod service;
mod stack;
pub mod telemetry;
pub mod testing;
mod tls;
mod upstream;

pub use data_directory::{DataDirectory, DataDirectoryError};
pub use framed::{FrameBuffer, Framed, Unframed, framed};
pub use lifecycle::{Exit, Phases, Process, Readiness, Signals, StopHandle};
pub use listen::{Encrypted, Listener, PeerAddress};
pub use open_routes::Health;
pub use service::{Mounted, ReadCounts, Service};
pub use stack::{Active, Kind, Routed, Seat, Standing};
pub use telemetry::{Metrics, RequestContext, Telemetry};
pub use tls::{Certificates, PeerService, https_channel};
pub use upstream::{Upstream, UpstreamBinding};
