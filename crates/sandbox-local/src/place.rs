//! The place of a local runtime: its process and the address it listens at.

use std::net::SocketAddr;
use std::path::PathBuf;

use foundry_sandbox::{ProcessRef, RuntimeFacts};
use serde::{Deserialize, Serialize};

/// How a runtime is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Listen {
    /// At a unix socket with this path on the host, which is not visible in any sandbox.
    Socket(PathBuf),
    /// At some port of the host's loopback.
    Loopback,
}

/// The provider's own part of [`RuntimeFacts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The process whose end is the end of the whole sandbox, as the host numbers it.
    pub process: ProcessRef,
    /// The address of its HTTP server.
    pub address: Address,
}

/// An address on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Address {
    /// The path of a unix socket.
    Socket(PathBuf),
    /// A port of the loopback.
    Tcp(SocketAddr),
}

impl Place {
    /// The place in these facts; none for another provider or an older version.
    pub fn of(facts: &RuntimeFacts) -> Option<Self> {
        serde_json::from_value(facts.place.clone()).ok()
    }
}
